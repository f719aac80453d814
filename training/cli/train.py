"""`llm4rec train`: a prepared data set and a recipe become a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...configuration.recipe import Recipe, recipe_fields, recipe_names
from .console import Console, JsonOption, quiet_libraries, quoted

NAME = "train"


def _show_fields(wanted: bool) -> None:
    if not wanted:
        return
    for name, kind, default, text in recipe_fields():
        print(f"{name} ({kind}, default {default!r})\n    {text}")
    raise typer.Exit


def command(
    data: Annotated[Path, typer.Argument(help="Prepared data set (from `llm4rec prepare`).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder to write.")],
    recipe: Annotated[
        str, typer.Option("--recipe", "-r", help=f"{', '.join(recipe_names())}, or the path of a .yaml file.")
    ] = "movielens",
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="`section.field=value`, e.g. training.epochs=5; repeatable."),
    ] = None,
    text_encoder: Annotated[
        str | None,
        typer.Option(help="Shorthand for `--set data.text_encoder=…`: a sentence-transformers id or folder."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Shorthand for `--set training.seed=…`.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in the output.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing model.")] = False,
    fields: Annotated[
        bool,
        typer.Option("--fields", help="List all recipe fields and exit.", is_eager=True, callback=_show_fields),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a recommender. Ctrl-C saves a checkpoint; the same command with `--resume` goes on from it."""
    changes = list(overrides or [])
    if text_encoder is not None:
        changes.append(f"data.text_encoder={text_encoder}")
    if seed is not None:
        changes.append(f"training.seed={seed}")
    run = Recipe.load(recipe, changes)
    console = Console(as_json)

    quiet_libraries()
    from ..data.prepared import PreparedData
    from ..train import train

    report = train(
        PreparedData.load(data),
        run,
        output,
        resume=resume,
        overwrite=overwrite,
        say=console.say,
        progress=console.shows_progress,
    )
    if report.interrupted:
        console.say(f"Stopped at step {report.steps:,}. Go on with the same command and --resume.")
        console.result({"output": str(output), "interrupted": True, "epochs": report.epochs, "steps": report.steps})
        raise typer.Exit(130)
    best = report.validation
    quality = (
        f"best validation NDCG@10 {best['filtered/ndcg@10']:.4f} at epoch {best['epoch']:.0f}"
        if best
        else "it ended before its first validation"
    )
    console.say(f"Trained {report.epochs:.0f} epochs ({report.steps:,} steps) in {report.seconds:,.0f} s; {quality}.")
    console.say(f"Model: {output}")
    console.say(f"Next: llm4rec evaluate {quoted(output)} {quoted(data)}")
    console.result(
        {
            "output": str(output),
            "interrupted": False,
            "epochs": report.epochs,
            "steps": report.steps,
            "seconds": round(report.seconds, 1),
            "validation": best,
        }
    )
