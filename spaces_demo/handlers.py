"""Handlers: what every event of the page has in common.

A handler counts the request, runs, and turns what the visitor can mend into a message on the page.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import gradio as gr

from .markup import escaped
from .service import Service
from .visitor import Visitor

QUEUE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model"}
"""Requests that use the model run one after the other, whichever tab they come from: each is many small operations of
Python, and two at a time take longer than one after the other."""

QUICK: dict[str, Any] = {"concurrency_limit": 4, "concurrency_id": "quick"}
"""Requests that do not use it do not wait for those that do."""

PAGE: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal", **QUEUE}
"""How events of the page run; programs have the named endpoints of `api.py`."""


def address_of(request: gr.Request | None) -> str:
    """Where a request comes from; behind the proxy of the Hub, as the proxy says."""
    if request is None or request.client is None:
        return "unknown"
    forwarded = request.headers.get("x-forwarded-for") if os.environ.get("SPACE_ID") else None
    return forwarded.split(",")[-1].strip()[:64] if forwarded else request.client.host


@contextmanager
def refusals_shown(markup: bool = True):
    """Refusals become messages: on the page as HTML, where every name is escaped; to a program as they are."""
    try:
        yield
    except (ValueError, OSError) as error:
        text = escaped(error) if markup else str(error)
        raise gr.Error(text, title="That did not work", print_exception=False) from error


def guarded(service: Service, run: Callable[..., Any]) -> Callable[..., Any]:
    """A handler; `run` gets the visitor, made if there is none yet, and the inputs."""

    def handle(request: gr.Request, visitor: Visitor | None, *values: Any) -> Any:
        with refusals_shown():
            service.admit(str(request.session_hash), address_of(request))
            return run(visitor if visitor is not None else Visitor(), *values)

    return handle


def clicked(service: Service, run: Callable[..., Any]) -> Callable[..., Any]:
    """A handler of the buttons in a piece of HTML; `run` gets visitor, act, item id and the inputs."""

    def handle(request: gr.Request, event: gr.EventData, visitor: Visitor | None, *values: Any) -> Any:
        with refusals_shown():
            service.admit(str(request.session_hash), address_of(request))
            told = event._data if isinstance(event._data, dict) else {}
            act, item_id = str(told.get("act", ""))[:20], str(told.get("item", ""))[:256]
            return run(visitor if visitor is not None else Visitor(), act, item_id, *values)

    return handle
