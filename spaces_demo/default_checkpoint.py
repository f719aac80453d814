"""The default checkpoint: the small recommender that the Space serves where nobody named another.

It lies beside this file, made from the built-in world: nobody's data and no licence but ours is in it. Make it again,
in minutes on one core, with

    python -m llm4rec.spaces_demo.default_checkpoint
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).with_name("default_checkpoint")
EXAMPLES_FILE = "examples.json"
"""Histories of some users of the world, which a visitor may borrow: `[{"name", "history": [item ids]}]`."""

ITEMS, USERS, SEED = 240, 3_000, 0
ATTRIBUTES = ("category", "style", "use", "brand", "material")
"""What the model reads as words of a closed list; it also reads the price. The title is for people alone."""

CHANGES = (
    "model.text_config.hidden_size=48",
    "model.text_config.intermediate_size=96",
    "model.text_config.num_hidden_layers=2",
    "model.id_dropout=0.15",
    "retrieval.enabled=true",
    'retrieval.sources=["transitions", "metadata"]',
    "retrieval.neighbours=20",
    "debiasing.popularity=learned",
    "debiasing.popularity_periods=4",
)


def make_checkpoint(output: Path, items: int = ITEMS, users: int = USERS, epochs: int = 40) -> None:
    """Make the world, train on it, and write the checkpoint with its examples.

    Args:
        output: folder; replaced if it is there.
        items, users: of the world.
        epochs: at most.
    """
    from ..configuration.recipe import Recipe
    from ..training.data.prepared import PreparedData
    from ..training.simulation.world import World, WorldConfig
    from ..training.train import train

    world = World(
        WorldConfig(users=users, items=items, popularity_periods=4, popularity_drift=0.6, new_items=0.0, seed=SEED)
    )
    with tempfile.TemporaryDirectory() as work:
        _prepare(world, Path(work) / "data")
        data = PreparedData.load(Path(work) / "data")
        recipe = Recipe.load("quickstart", [f"training.epochs={epochs}", f"training.seed={SEED}", *CHANGES])
        train(data, recipe, Path(work) / "model")
        _keep_what_is_served(Path(work) / "model", output)
    (output / EXAMPLES_FILE).write_text(
        json.dumps(_examples(world), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def _prepare(world, folder: Path) -> None:
    """The world's log, with all attributes of its items in sight and no text to encode."""
    import polars as pl

    from ..configuration.schema import DataSchema, InteractionSchema, ItemSchema, ModalitySchema
    from ..training.data.prepared import write_prepared

    log = world.interactions
    users = np.repeat(np.arange(log.num_users), log.lengths)
    interactions = pl.DataFrame(
        {
            "user_id": world.users["user_id"].gather(users),
            "item_id": world.items["item_id"].gather(log.items),
            "position": (np.arange(len(users)) - log.offsets[users]).astype(np.int32),
            "timestamp": log.timestamps,
        }
    )
    items = world.items.select(
        "item_id", "title", "description", *(pl.concat_list(name) for name in ATTRIBUTES), "price"
    )
    schema = DataSchema(
        interactions=InteractionSchema(time="timestamp"),
        items=ItemSchema(
            title="title",
            modalities={
                **{name: ModalitySchema("categorical") for name in ATTRIBUTES},
                "price": ModalitySchema("numerical"),
            },
        ),
        source="simulation",
    )
    stats = {"source": "simulation", "seed": SEED, "users": log.num_users, "items": log.num_items}
    stats["interactions"] = len(users)
    write_prepared(folder, interactions, items, world.users.select("user_id"), schema, stats)


def _keep_what_is_served(model: Path, output: Path) -> None:
    """Copy a model folder without the code in it, which the installed package has, and without training state."""
    from ..training.train import REPORT_FILE

    if output.exists():
        shutil.rmtree(output)
    output.mkdir(parents=True)
    for file in sorted(model.rglob("*")):
        kept = file.is_file() and file.suffix not in {".py", ".md"} and "checkpoints" not in file.parts
        if kept and not file.name.startswith("."):
            target = output / file.relative_to(model)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)
    report = json.loads((output / REPORT_FILE).read_text(encoding="utf-8"))
    del report["log"]  # a line per epoch that nobody reads there
    (output / REPORT_FILE).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _examples(world, count: int = 6, length: int = 8) -> list[dict]:
    """Users with long histories whose favourite categories differ, called after them."""
    log, chosen, told = world.interactions, [], set()
    category = world.items["category"].to_list()
    ids = world.items["item_id"].to_list()
    for user in np.argsort(-log.lengths, kind="stable"):
        history = log.items[log.offsets[user] : log.offsets[user + 1]][-length:].tolist()
        counts: dict[str, int] = {}
        for item in history:
            counts[category[item]] = counts.get(category[item], 0) + 1
        first, second = [*sorted(counts, key=lambda name: -counts[name]), "", ""][:2]
        if first in told or not second:
            continue
        told.add(first)
        chosen.append({"name": f"Likes {first} and {second}", "history": [ids[item] for item in history]})
        if len(chosen) == count:
            break
    return chosen


def main() -> None:
    """Make the checkpoint that is committed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=FOLDER)
    parser.add_argument("--epochs", type=int, default=40)
    options = parser.parse_args()
    make_checkpoint(options.output, epochs=options.epochs)


if __name__ == "__main__":
    main()
