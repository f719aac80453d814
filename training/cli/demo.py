"""`llm4rec demo`: the Space on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import Console, quiet_libraries

NAME = "demo"


def command(
    model: Annotated[
        str | None, typer.Argument(help="Model folder or Hub id. Default: a small model of a simulated shop.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a model of the Hub.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines of the network in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 7860,
    share: Annotated[
        bool, typer.Option("--share", help="Also make a public link, through Gradio's server, for some days.")
    ] = False,
    feedback_log: Annotated[Path, typer.Option(help="File that keeps thumbs; it is made if it is not there.")] = Path(
        "feedback.sqlite"
    ),
    study: Annotated[Path, typer.Option(help="File that keeps the ratings of explanations.")] = Path("study.jsonl"),
) -> None:
    """Show a model in the browser: recommendations with reasons, thumbs, new items, a study. Ctrl-C ends it."""
    console = Console()
    quiet_libraries()
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise ImportError("The demo needs gradio. Install it with `pip install 'llm4rec[demo]'`.") from error
    from ...spaces_demo.interface import build, serve
    from ...spaces_demo.service import Service
    from ...spaces_demo.settings import Settings

    if revision and not model:
        raise typer.BadParameter("--revision goes with a model of the Hub: name it too.")
    console.say(f"Loading {model or 'the model of a simulated shop'} …")
    service = Service(Settings(model, revision, feedback_log, study))
    try:
        _, url, public = serve(
            build(service),
            server_name=host,
            server_port=port or _free_port(host),
            share=share,
            prevent_thread_lock=True,
            quiet=True,
        )
        console.say(f"Open {url}" + (f" or {public}" if public else ""))
        console.say(f"Thumbs go to {feedback_log}, ratings of explanations to {study}. Ctrl-C ends it.")
        _wait()
    finally:
        service.close()


def _free_port(host: str) -> int:
    import socket

    with socket.socket() as listener:
        listener.bind((host, 0))
        return listener.getsockname()[1]


def _wait() -> None:
    """Until Ctrl-C."""
    import threading

    threading.Event().wait()
