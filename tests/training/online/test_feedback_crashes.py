"""kill -9 at random moments: nothing acknowledged is lost, nothing is applied twice."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from llm4rec.training.online.feedback_log import FeedbackLog

ROUNDS = 12

_WRITER = """
import sys
from llm4rec.training.online.feedback_event import FeedbackEvent
from llm4rec.training.online.feedback_log import FeedbackLog

path, name = sys.argv[1:]
with FeedbackLog(path, busy_seconds=30) as log:
    for n in range(100_000):
        size = 1 + n % 7 * 20
        batch = [FeedbackEvent("u1", "tent", kind="click", event_id=f"{name}-{n}-{m}") for m in range(size)]
        for acknowledgement in log.append(batch):
            print(acknowledgement.event_id)
        sys.stdout.flush()
"""

# What it has learned, and the sequence number up to which, are one file that is replaced in one step.
_LEARNER = """
import json, os, sys, time
from llm4rec.training.online.feedback_log import FeedbackLog

path, version = sys.argv[1:]
learned, at = [], 0
if os.path.exists(version):
    with open(version) as file:
        learned, at = json.load(file)
with FeedbackLog(path, busy_seconds=30) as log:
    noted = log.position("learner").sequence
    assert noted <= at, "a note must never be ahead of what is published"
    if noted < at:
        log.record_position("learner", at)
    while True:
        batch = list(log.events(after=at, limit=50))
        if not batch:
            print("idle", flush=True)
            time.sleep(0.001)
            continue
        learned += [entry.event.event_id for entry in batch]
        before, at = at, batch[-1].sequence
        with open(version + ".partial", "w") as file:
            json.dump([learned, at], file)
        os.replace(version + ".partial", version)
        log.record_position("learner", at, previous=before)
"""


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill(process: subprocess.Popen[str]) -> list[str]:
    """End a process without warning; the whole lines that it had printed."""
    process.kill()
    printed = process.communicate()[0]
    return printed[: printed.rfind("\n") + 1].split("\n")[:-1]


def test_kill_9_loses_no_acknowledged_event_and_applies_none_twice(
    tmp_path: Path, python: Callable[..., list[str]]
) -> None:
    path, version = tmp_path / "feedback.db", tmp_path / "version.json"
    chance = random.Random(0)
    acknowledged: list[str] = []
    for number in range(ROUNDS):
        writer, learner = start(python(_WRITER, path, f"r{number}")), start(python(_LEARNER, path, version))
        # At first while the file is being made, then in the middle of a stream.
        if number >= 3:
            acknowledged.append(writer.stdout.readline().strip())
        time.sleep(chance.uniform(0.0, 0.15))
        if chance.random() < 0.5:
            acknowledged += kill(writer)
            time.sleep(chance.uniform(0.0, 0.05))
            kill(learner)
        else:
            kill(learner)
            acknowledged += kill(writer)
        if path.exists():
            with FeedbackLog(path) as log:
                log.verify()

    assert len(acknowledged) > 100
    with FeedbackLog(path) as log:
        log.verify()
        kept = [entry.event.event_id for entry in log.events()]
    assert len(set(kept)) == len(kept)
    assert set(acknowledged) <= set(kept)

    learner = start(python(_LEARNER, path, version))
    assert learner.stdout.readline() == "idle\n"  # it has caught up
    kill(learner)
    learned, at = json.loads(version.read_text())
    assert learned == kept
    with FeedbackLog(path) as log:
        assert log.position("learner").sequence == at == log.last_sequence
