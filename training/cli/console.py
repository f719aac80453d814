"""What every command prints: lines for a person on stdout, or with `--json` the facts alone for a program.

Used by all commands of this folder.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print facts as JSON and nothing else on stdout.")]


class Console:
    """Speaks to a person or to a program.

    Args:
        as_json: lines go to stderr, and only `result` writes to stdout.
    """

    def __init__(self, as_json: bool = False):
        self.as_json = as_json

    def say(self, line: str = "") -> None:
        """One line about what is being done."""
        print(line, file=sys.stderr if self.as_json else sys.stdout, flush=True)

    def table(self, header: list[str], rows: list[list[Any]]) -> None:
        """Columns aligned: text to the left, numbers to the right."""
        cells = [header, *([_cell(value) for value in row] for row in rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
        numeric = [all(isinstance(row[column], (int, float)) for row in rows) for column in range(len(header))]
        for number, row in enumerate(cells):
            line = "  ".join(
                text.rjust(width) if right else text.ljust(width)
                for text, width, right in zip(row, widths, numeric, strict=True)
            )
            self.say(line.rstrip())
            if number == 0:
                self.say("  ".join("-" * width for width in widths))

    def result(self, facts: dict[str, Any]) -> None:
        """The facts, for a program; nothing for a person."""
        if self.as_json:
            print(json.dumps(facts, indent=2, default=str, ensure_ascii=False))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def quiet_libraries() -> None:
    """Keep progress bars and notices of loading and saving off the screen; warnings about our own work stay."""
    import warnings

    from datasets.utils.logging import disable_progress_bar
    from transformers.utils import logging

    disable_progress_bar()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|trl")
