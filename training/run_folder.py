"""The folder of a training run: what may be overwritten, what can be resumed.

Used by `training/train.py`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ..configuration.recipe import Recipe
from .data.prepared import check_writable
from .load import RECIPE_FILE


def check_same_recipe(begun: Recipe, recipe: Recipe) -> None:
    """Raise `ValueError` if a run would go on under another recipe than it began with; it may go on longer."""
    free = {"training.epochs", "training.patience", "training.report_to"}
    before, now = begun.values(), recipe.values()
    for name in before:
        if before[name] != now[name] and name not in free:
            raise ValueError(
                f"{name} was {before[name]!r} when this run began and is {now[name]!r} now. Resume with the recipe it "
                f"began with ({RECIPE_FILE} in its folder), or start anew, in another folder or with --overwrite."
            )


def check_output(output: Path, data: Path, is_unfinished: bool, overwrite: bool) -> None:
    """Refuse before the work what would be refused after it, and never replace anything but a model.

    Raises:
        FileExistsError: if the folder is not empty and may not be replaced.
        NotADirectoryError: if it is a file.
        PermissionError: if it cannot be written.
    """
    check_writable(output)
    if not output.exists() or not any(output.iterdir()):
        return
    if not overwrite:
        hint = "Pass --resume to go on, " if is_unfinished else "Pass "
        raise FileExistsError(f"{output} exists already. {hint}--overwrite to replace it, or choose another folder.")
    if not (output / RECIPE_FILE).is_file():
        raise FileExistsError(
            f"{output} holds files, but no {RECIPE_FILE} as every model folder does: it is not replaced even with "
            "--overwrite. Choose another folder, or empty this one yourself."
        )
    inside = [place for place in (data.resolve(), Path.cwd()) if output.resolve() in (place, *place.parents)]
    if inside or (output / "stats.json").is_file():
        what = f"{inside[0]}, which is in use," if inside else "a prepared data set"
        raise FileExistsError(
            f"{output} holds {what} and is not replaced even with --overwrite. Choose another folder."
        )


def empty(folder: Path) -> None:
    """Remove what a folder holds, if there is one."""
    for path in folder.iterdir() if folder.exists() else ():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def last_checkpoint(folder: Path) -> str | None:
    """The latest checkpoint that was written to its end; one that a power cut left half is passed over."""
    steps = [
        int(path.parent.name.removeprefix("checkpoint-")) for path in folder.glob("checkpoint-*/trainer_state.json")
    ]
    return str(folder / f"checkpoint-{max(steps)}") if steps else None
