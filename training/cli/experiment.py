"""`llm4rec experiment`: sweeps that answer one question with a table and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import Console, JsonOption, quiet_libraries

NAME = "experiment"
app = typer.Typer(name=NAME, help="Sweeps that answer one question with a table and a plot.", no_args_is_help=True)


@app.command("retrieval-sweep")
def retrieval_sweep_command(
    model: Annotated[str, typer.Argument(help="Model folder or Hub id; it is not changed.")],
    data: Annotated[Path, typer.Argument(help="Prepared data set the model was trained on.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the table and the plot.")],
    k: Annotated[
        list[int] | None,
        typer.Option("--k", min=1, help="Retrieved items per source; repeatable. Default: 3 5 10 20."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="`retrieval.field=value` of the model's recipe; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """How many retrieved items to listen to: accuracy and precision@K on held-out validation events."""
    if output.is_file():
        raise NotADirectoryError(f"{output} is a file, expected the name of a folder.")
    console = Console(as_json)
    quiet_libraries()
    from ..experiments.retrieval_sweep import METRIC, retrieval_sweep

    result = retrieval_sweep(
        model,
        data,
        output,
        k or (3, 5, 10, 20),
        overrides=overrides or (),
        say=console.say,
        progress=console.shows_progress,
    )
    console.say()
    console.table(
        ["K", "NDCG@10", "unfiltered", "precision@K", "hit share@K", "adapter"],
        [
            [
                row["k"],
                row[METRIC],
                row["unfiltered/ndcg@10"],
                row["all/precision@K"],
                row["all/hit_share@K"],
                row["variant"],
            ]
            for row in result["rows"]
        ],
    )
    console.say(f"Best K: {result['best']['k']}. Wrote {output}/retrieval-sweep.csv, .json, .png and .svg.")
    console.result(result)
