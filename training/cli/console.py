"""What every command prints: lines for a person on stdout, or with `--json` the facts alone for a program.

Used by all commands of this folder. Titles and file contents come from anywhere, so nothing of them may steer the
terminal: control characters and escape sequences are taken out before a line is printed.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import sys
import unicodedata
from typing import Annotated, Any

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print facts as JSON and nothing else on stdout.")]

_ESCAPE_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor movements
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC and kin: titles, links
    r"|\x1b[ -/]*[0-~]?"
)
_JOINERS = "\u200c\u200d"  # written between letters of Persian and Indic scripts, and inside emoji


class Console:
    """Speaks to a person or to a program.

    Args:
        as_json: lines go to stderr, and only `result` writes to stdout.
    """

    def __init__(self, as_json: bool = False):
        self.as_json = as_json

    @property
    def shows_progress(self) -> bool:
        """Whether somebody is there to watch a progress bar."""
        return not self.as_json and sys.stderr.isatty()

    def say(self, line: str = "") -> None:
        """One line about what is being done."""
        print(_printable(line), file=sys.stderr if self.as_json else sys.stdout, flush=True)

    def table(self, header: list[str], rows: list[list[Any]]) -> None:
        """Columns aligned: text to the left, numbers to the right."""
        cells = [header, *([_cell(value) for value in row] for row in rows)]
        widths = [max(_width(row[column]) for row in cells) for column in range(len(header))]
        numeric = [all(isinstance(row[column], (int, float)) for row in rows) for column in range(len(header))]
        for number, row in enumerate(cells):
            line = "  ".join(_pad(text, width, right) for text, width, right in zip(row, widths, numeric, strict=True))
            self.say(line.rstrip())
            if number == 0:
                self.say("  ".join("-" * width for width in widths))

    def result(self, facts: dict[str, Any]) -> None:
        """The facts, for a program; nothing for a person."""
        if self.as_json:
            print(to_json(facts, ascii_only=(sys.stdout.encoding or "").lower().replace("-", "") != "utf8"))


def to_json(facts: dict[str, Any], ascii_only: bool = False) -> str:
    """Facts as JSON that every program reads: what is not a number (NaN, infinity) is null."""
    return json.dumps(_finite(facts), indent=2, default=str, ensure_ascii=ascii_only, allow_nan=False)


def plain(text: Any, limit: int | None = None) -> str:
    """Text on one line that a terminal can be shown: no escape sequences, control characters or line breaks.

    Args:
        limit: columns of the terminal; what is longer ends in "…".
    """
    line = " ".join(_printable(str(text), keep="").split())
    if limit is None or _width(line) <= limit:
        return line
    while _width(line) > limit - 1:
        line = line[: max(1, min(len(line) - 1, limit - 1))]
    return line.rstrip() + "…"


def quoted(path: Any) -> str:
    """A path as one writes it in a shell, for the commands that are suggested."""
    return shlex.quote(str(path))


def quiet_libraries() -> None:
    """Keep progress bars and notices of loading and saving off the screen; warnings about our own work stay."""
    import warnings

    from datasets.utils.logging import disable_progress_bar
    from transformers.utils import logging

    disable_progress_bar()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|trl")


def _printable(text: str, keep: str = "\n\t") -> str:
    text = _ESCAPE_SEQUENCES.sub("", text)
    return "".join(c if c.isprintable() or c in keep or c in _JOINERS else " " for c in text)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else plain(value)


def _width(text: str) -> int:
    """Columns on a terminal: two for Chinese, Japanese and Korean letters, none for accents of their own."""
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def _pad(text: str, width: int, right: bool) -> str:
    spaces = " " * (width - _width(text))
    return spaces + text if right else text + spaces


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
