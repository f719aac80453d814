"""The `llm4rec` command: one module a sub-command, heavy imports inside the command that needs them.

Exit codes: 0 done, 1 refused with a reason on stderr, 2 wrong usage, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from . import demo, evaluate, experiment, explain, info, learn, prepare, push, quickstart, recommend, train, versions
from .console import plain

LONGEST_REASON = 1000


def _stoppable(command: Callable[..., None]) -> Callable[..., None]:
    """A command that Ctrl-C ends with a line and the exit code 130."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            print("Stopped.", file=sys.stderr)
            raise typer.Exit(130) from None

    return run


def _show_version(wanted: bool) -> None:
    if wanted:
        from ... import __version__

        print(f"llm4rec {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Options before the name of a command."""


app = typer.Typer(
    name="llm4rec",
    help="Any causal language model becomes a multimodal recommender that generates only real items.",
    epilog="Start with `llm4rec quickstart`. With `LLM4REC_TRACEBACK=1` an error shows where it came from.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.callback()(_options)
for module in (quickstart, prepare, train, evaluate, recommend, explain, learn, versions, info, push, demo):
    app.command(module.NAME)(_stoppable(module.command))
app.command(versions.ROLLBACK)(_stoppable(versions.rollback))
for command in experiment.app.registered_commands:
    command.callback = _stoppable(command.callback)
app.add_typer(experiment.app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; what a user can mend is said in a line, without a traceback.

    Args:
        arguments: in place of `sys.argv[1:]`.

    Raises:
        SystemExit: always, with the exit code.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Threads that wait asleep: spinning ones make two runs on one machine take 2.5 times as long as they need.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot write a title shows a question mark in place of its letters.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        app(arguments)
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("LLM4REC_TRACEBACK"):
            raise
        print(f"Error: {plain(_reason(error), LONGEST_REASON)}", file=sys.stderr)
        raise SystemExit(1) from error


def _reason(error: Exception) -> str:
    """What happened; the system's own errors come without their numbers and name the file first."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    return str(error) or type(error).__name__
