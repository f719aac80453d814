"""One row of a benchmark table: what was measured, on what, and how to measure it again.

Benchmarks and `llm4rec evaluate` build rows here; tables in Markdown are generated from them.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from .evaluation_result import EvaluationResult

ROW_KEYS = (
    "dataset", "model", "protocol", "seed", "metrics", "seconds", "peak_memory_mb",
    "command", "config", "commit", "machine", "date",
)  # fmt: skip

CHECKOUT = Path(__file__).resolve().parents[2]
WRITTEN_BY_RUNS = ("benchmarks/results", "benchmarks/figures", "benchmarks/README.md", "README.md")
"""Rows, and the tables and figures that are made from them."""


def report_row(
    dataset: str,
    model: str,
    protocol: str,
    result: EvaluationResult | Mapping[str, float],
    *,
    seed: int | None = None,
    seconds: float | None = None,
    command: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Assemble a row that JSON can hold.

    Args:
        protocol: name of the split, such as `leave_one_out`; filtered or not is in the metrics' names.
        result: an evaluation's result, or its metrics alone.
        seed: of the model; `None` for a model that draws no random numbers.
        seconds: wall clock from the start of fitting to the end of evaluation.
        command: what to paste to measure again; by default the command line of this process.
        config: everything that was configured, defaults included.

    Returns:
        a dict with the keys `ROW_KEYS`. `peak_memory_mb` is the most this process held in RAM so far, in MB (10^6
        bytes); `commit` is `None` outside a git checkout and ends in `-dirty` if the checkout differs from it;
        `machine` describes the hardware and names no host; `date` is UTC.

    Raises:
        ValueError: if a metric is not finite.
    """
    metrics = dict(result.metrics if isinstance(result, EvaluationResult) else result)
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise ValueError(f"Metric {name!r} of {model} on {dataset} is {value}, expected a finite number.")
    row = {
        "dataset": dataset,
        "model": model,
        "protocol": protocol,
        "seed": seed,
        "metrics": metrics,
        "seconds": None if seconds is None else round(seconds, 3),
        "peak_memory_mb": peak_memory_mb(),
        "command": command_line() if command is None else command,
        "config": dict(config or {}),
        "commit": git_commit(),
        "machine": machine_description(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    return json.loads(json.dumps(row, allow_nan=False))


def command_line() -> str:
    """The command line of this process, with the interpreter's name in place of its path."""
    return shlex.join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]])


def peak_memory_mb() -> float | None:
    """Most RAM this process has held so far, in MB (10^6 bytes); `None` where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round((peak if sys.platform == "darwin" else peak * 1024) / 1e6, 1)


def git_commit(root: Path = CHECKOUT) -> str | None:
    """Commit of the checkout at `root`, with `-dirty` after it if tracked files differ; `None` if it is not one.

    What runs write (`WRITTEN_BY_RUNS`) may differ: an earlier row says nothing about the code of the next.
    """
    if not (root / ".git").exists():
        return None
    others = [".", *(f":(exclude){path}" for path in WRITTEN_BY_RUNS)]
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changes = _git(root, "status", "--porcelain", "--untracked-files=no", "--", *others)
        return f"{commit}-dirty" if changes else commit
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def machine_description() -> str:
    """Hardware in words, such as `2 cores, 24 GiB, no GPU`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parts = [f"{cores} core{'s' if cores > 1 else ''}"]
    memory = _memory_bytes()
    if memory is not None:
        parts.append(f"{memory / 2**30:.0f} GiB")
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        parts.append(f"{count} x {torch.cuda.get_device_name(0)}" if count > 1 else torch.cuda.get_device_name(0))
    elif torch.backends.mps.is_available():
        parts.append("Apple GPU")
    else:
        parts.append("no GPU")
    return ", ".join(parts)


def _memory_bytes() -> int | None:
    """RAM that this process may use: the machine's, or the container's limit if that is less."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        memory = min(memory, int(text))
    return memory
