"""The `llm4rec` command: one module a sub-command, heavy imports inside the command that needs them.

Exit codes: 0 done, 1 refused with a reason on stderr, 2 wrong usage, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import sys

import typer

from . import evaluate, info, prepare, quickstart, recommend, train

app = typer.Typer(
    help="Any causal language model becomes a multimodal recommender that generates only real items.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for module in (quickstart, prepare, train, evaluate, recommend, info):
    app.command(module.NAME)(module.command)


def main() -> None:
    """Run the command line; what a user can mend is said in a line, without a traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app()
    except (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError, ImportError) as error:
        if os.environ.get("LLM4REC_TRACEBACK"):
            raise
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        raise SystemExit(130) from None
