"""`llm4rec quickstart`: the whole path on a built-in world, without any download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import Console, JsonOption, quiet_libraries, quoted

NAME = "quickstart"


def command(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for data and model.")] = Path("quickstart"),
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="Recipe field to change, e.g. training.epochs=5; repeatable."),
    ] = None,
    users: Annotated[int | None, typer.Option(min=1, help="Users of the world; default: 2,000.")] = None,
    items: Annotated[int | None, typer.Option(min=2, help="Items of the world; default: 600.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the world and of training.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier quickstart.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a world of users and items, train on it, evaluate, and recommend: minutes on a laptop."""
    from ...configuration.recipe import Recipe

    console = Console(as_json)
    data_folder, model_folder = output / "data", output / "model"
    recipe = Recipe.load("quickstart", [f"training.seed={seed}", *(overrides or [])])
    _make_room(output, overwrite)

    console.say("1/4  Making a world of users and items …")
    quiet_libraries()
    from ..evaluate import evaluate_model
    from ..load import load_recommender
    from ..simulation.world import World, WorldConfig
    from ..train import train
    from .evaluate import keep_with_model, show

    size = {name: number for name, number in (("users", users), ("items", items)) if number is not None}
    data = World(WorldConfig(seed=seed, **size)).prepared(data_folder)
    console.say(
        f"     {len(data.users):,} users, {len(data.items):,} items, {len(data.interactions.items):,} interactions"
        f" in {data_folder}"
    )
    console.say("2/4  Training …")
    report = train(
        data, recipe, model_folder, say=lambda line: console.say(f"     {line}"), progress=console.shows_progress
    )
    if report.interrupted:
        console.say("Stopped. Start again with --overwrite.")
        raise typer.Exit(130)
    console.say(f"     {report.epochs:.0f} epochs in {report.seconds:,.0f} s; model in {model_folder}")
    console.say("3/4  Evaluating on held-out data …")
    result = evaluate_model(model_folder, data, say=lambda line: console.say(f"     {line}"), progress=False)
    keep_with_model(model_folder, result)
    console.say()
    show(console, result)

    model, processor = load_recommender(model_folder)
    user = int(data.interactions.lengths.argmax())
    history = data.items["item_id"].gather(data.interactions.history(user)).to_list()
    out = model.recommend(**processor(histories=[history], return_tensors="pt"), k=5)
    recommended = processor.decode_items(out)[0]
    titles = [processor.catalog.title(index) for index in processor.catalog.indices(history[-3:])]
    user_id = data.users["user_id"][user]
    console.say(f"4/4  User {user_id} last took: {'; '.join(titles)}")
    console.say(f"     {len(recommended)} recommendations:")
    for place, item in enumerate(recommended, 1):
        console.say(f"     {place}. {item['title']}")
    console.say()
    console.say(f"Model: {model_folder}")
    console.say(f"Next: llm4rec recommend {quoted(model_folder)} --user {user_id} --data {quoted(data_folder)}")
    result |= {"output": str(output), "user": user_id, "recommendations": recommended}
    result["training_seconds"] = round(report.seconds, 1)
    console.result(result)


def _make_room(output: Path, overwrite: bool) -> None:
    """Remove an earlier quickstart, and nothing else.

    Raises:
        FileExistsError: if the folder holds anything, and `overwrite` is false or it is not from a quickstart.
        OSError: if the folder cannot be written.
    """
    import shutil

    from ..data.prepared import check_writable

    check_writable(output)
    if not output.exists() or not any(output.iterdir()):
        return
    if not overwrite:
        raise FileExistsError(f"{output} exists already. Pass --overwrite to replace it, or another --output.")
    marks = {"data": "stats.json", "model": "recipe.yaml"}
    strange = [
        name for name, mark in marks.items() if (output / name).exists() and not (output / name / mark).is_file()
    ]
    if strange:
        raise FileExistsError(
            f"{output / strange[0]} was not written by a quickstart, so --overwrite leaves it alone. Choose another "
            "--output."
        )
    for name in marks:
        if (output / name).exists():
            shutil.rmtree(output / name)
