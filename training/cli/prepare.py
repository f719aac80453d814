"""`llm4rec prepare`: raw files become a prepared data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import Console, JsonOption, quoted

NAME = "prepare"


def command(
    source: Annotated[
        str, typer.Argument(help="`movielens`, `amazon-reviews`, `yelp`, `sequences` or `table` (your own files).")
    ],
    path: Annotated[str, typer.Argument(help="Folder or file as downloaded; for `table` also a Hub dataset id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    schema: Annotated[
        Path | None, typer.Option(help="`schema.yaml` that gives each column its role; default: beside the data.")
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="Item table or metadata file, where it is not found by itself.")
    ] = None,
    k_core: Annotated[
        int, typer.Option(min=0, help="Keep users and items with at least this many interactions; 0: all.")
    ] = 0,
    min_rating: Annotated[float | None, typer.Option(help="Drop interactions rated lower.")] = None,
    keep_items_without_interactions: Annotated[
        bool, typer.Option("--keep-items-without-interactions", help="Keep items nobody interacted with.")
    ] = False,
    with_tags: Annotated[
        bool,
        typer.Option("--with-tags", help="movielens: read user tags too; some were written after the test events."),
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first row that cannot be read.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Turn raw files into a prepared data set: Parquet tables, a schema and counts of what was kept and dropped."""
    from ..data.prepare import prepare

    console = Console(as_json)
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        console.say(line)

    report = prepare(
        source,
        path,
        output,
        schema=schema,
        items=items,
        k_core=k_core,
        min_rating=min_rating,
        tags=with_tags,
        keep_items_without_interactions=keep_items_without_interactions,
        strict=strict,
        overwrite=overwrite,
        report=say,
    )
    for line in (*report.notes, *report.warnings):
        if line not in said:
            console.say(line)
    console.say(f"Prepared in {report.seconds:.1f} s; data set in {output}")
    console.say(f"Next: llm4rec train {quoted(output)} --output MODEL")
    console.result(
        {
            "output": str(output),
            "seconds": round(report.seconds, 1),
            "warnings": list(report.warnings),
            **report.stats,
        }
    )
