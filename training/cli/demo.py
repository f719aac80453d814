"""`llm4rec demo`: the Space on this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from .console import Console, quiet_libraries

NAME = "demo"
PUBLISH_EVERY = 16
"""Thumbs between two versions that a learner beside the demo publishes at the latest."""
PUBLISH_SECONDS = 1.0
"""For which thumbs are gathered: a visitor waits to see what his thumb did."""


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
    feedback_log: Annotated[
        Path | None,
        typer.Option(
            help="File that keeps thumbs. Default: `feedback.db` in the folder's `online/`, as of `llm4rec learn`; "
            "of any other model `feedback.db` here."
        ),
    ] = None,
    learn: Annotated[
        bool, typer.Option("--learn", help="Also learn from the thumbs: `llm4rec learn` of a model folder, beside it.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="With --learn: prepared data that the model was trained on, as for `llm4rec learn`."),
    ] = None,
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
    from ..online.versions import FEEDBACK_LOG, ONLINE

    if revision and not model:
        raise typer.BadParameter("--revision goes with a model of the Hub: name it too.")
    is_folder = model is not None and revision is None and Path(model).expanduser().is_dir()
    if learn and not is_folder:
        raise ValueError(
            f"{model or 'The built-in model'} cannot learn here: versions are written to a model's folder. Name one, "
            "from `llm4rec train` or a download."
        )
    if data is not None and not learn:
        raise typer.BadParameter("--data is for learning from thumbs: add --learn.")
    log = feedback_log
    if log is None:
        log = Path(model).expanduser() / ONLINE / FEEDBACK_LOG if is_folder else Path(FEEDBACK_LOG)
    console.say(f"Loading {model or 'the model of a simulated shop'} …")
    service = Service(Settings(model, revision, log, study))
    learner, page = None, build(service)
    try:
        _, url, public = serve(
            page,
            server_name=host,
            server_port=port or _free_port(host),
            share=share,
            prevent_thread_lock=True,
            quiet=True,
        )
        console.say(f"Open {url}" + (f" or {public}" if public else ""))
        if learn:
            learner = _learner(model, log, data)
        console.say(f"Thumbs go to {log}, ratings of explanations to {study}. Ctrl-C ends it.")
        _wait()
    finally:
        if learner is not None:
            learner.terminate()
        page.close(verbose=False)
        service.close()


def _learner(model: str, log: Path, data: Path | None) -> subprocess.Popen:
    """The learner, in a process of its own: what it computes keeps no visitor waiting."""
    command = [sys.executable, "-m", "llm4rec.training.cli", "learn", model, "--follow", str(log)]
    command += ["--publish-every", str(PUBLISH_EVERY), "--publish-seconds", str(PUBLISH_SECONDS)]
    command += [] if data is None else ["--data", str(data)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)


def _free_port(host: str) -> int:
    import socket

    with socket.socket() as listener:
        listener.bind((host, 0))
        return listener.getsockname()[1]


def _wait() -> None:
    """Until Ctrl-C, which may reach any thread: the main one has to look up to hear of it."""
    import time

    while True:
        time.sleep(0.5)
