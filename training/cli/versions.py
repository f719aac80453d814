"""`llm4rec versions` and `llm4rec rollback`: what was learned online, and back to any of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import Console, JsonOption, quoted

NAME = "versions"
ROLLBACK = "rollback"

ModelArgument = Annotated[Path, typer.Argument(help="Model folder.")]


def command(
    model: ModelArgument,
    plot: Annotated[
        Path | None, typer.Option(help="Folder for `monitor.json`, `.csv`, `.png` and `.svg`: gain and forgetting.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Write a version as a model folder that stands alone, to serve or push it.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="The version to export. Default: the current one.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the published versions of a model that learns online, and watch what they forget."""
    console = Console(as_json)
    from dataclasses import asdict

    from ..load import check_model_folder
    from ..online.monitor import monitor_rows, warnings_of, write_monitor
    from ..online.versions import VersionStore

    folder = check_model_folder(model)
    store = VersionStore(folder)
    versions, current = store.versions(), store.current()[0].name
    rows = monitor_rows(versions)
    console.table(
        ["version", "", "events", "learned", "prequential NDCG@10", "guard NDCG@10", "distance"],
        [
            [
                row["version"],
                "current" if row["version"] == current else "rejected" if row["rejected"] else "",
                row["events"],
                row["learned"],
                *("" if row[name] is None else row[name] for name in ("prequential_ndcg", "guard_ndcg", "distance")),
            ]
            for row in rows
        ],
    )
    warnings = warnings_of(rows)
    for line in warnings:
        console.say(line)
    if plot is not None:
        write_monitor(plot, rows)
        console.say(f"Written to {plot}.")
    if export is not None:
        from ..online.published import export_version

        name = export_version(folder, export, version)
        console.say(f"Version {name} is the model {quoted(export)}.")
    if len(versions) > 1:
        console.say(f"Back to one of them: llm4rec rollback {quoted(folder)} VERSION")
    console.result({"current": current, "versions": [asdict(version) for version in versions], "warnings": warnings})


def rollback(
    model: ModelArgument,
    version: Annotated[str, typer.Argument(help="Name from `llm4rec versions`, or base.")],
    forget_events: Annotated[
        bool,
        typer.Option("--skip-events", help="Do not learn again from the events that later versions had learned."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make an earlier version current; readers swap to it at their next request."""
    console = Console(as_json)
    from ..load import check_model_folder
    from ..online.versions import VersionStore

    store = VersionStore(check_model_folder(model))
    with store.lock():
        reached = max([0, *(found.sequence for found in store.versions())])
        restored = store.restore(version, reached if forget_events else None)
    after = reached if forget_events else restored.sequence
    console.say(f"Version {restored.name} is current. Learning goes on after event {after}.")
    console.result({"version": restored.name, "sequence": after})
