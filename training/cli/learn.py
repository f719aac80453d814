"""`llm4rec learn`: a model learns from feedback and publishes versions."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from .console import Console, JsonOption, quiet_libraries, quoted

NAME = "learn"
POLL_SECONDS = 1.0
SHOWN = 5
"""Refused events that are shown."""


def command(
    model: Annotated[Path, typer.Argument(help="Model folder (from `llm4rec train`); versions go to its `online/`.")],
    feedback: Annotated[
        Path | None, typer.Option(help="Events to log and learn from: CSV, JSON Lines or Parquet.")
    ] = None,
    log: Annotated[
        Path | None, typer.Option(help="The feedback log. Default: `feedback.db` in the model's `online/` folder.")
    ] = None,
    follow: Annotated[
        Path | None, typer.Option(metavar="DB", help="Learn from this feedback log, and go on as events come.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Prepared data that the model was trained on; once, for rehearsal, EWC and the guard."),
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="Table of new items (Parquet, JSON Lines, CSV) that the feedback is about.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of the micro-steps.")] = None,
    ewc: Annotated[float | None, typer.Option(help="λ of elastic weight consolidation.")] = None,
    replay: Annotated[int | None, typer.Option(help="Base histories rehearsed a step.")] = None,
    publish_every: Annotated[int, typer.Option(min=1, help="Events between two versions.")] = 1024,
    publish_seconds: Annotated[
        float, typer.Option(min=0.0, help="With --follow: events are gathered for so long before the next version.")
    ] = 5.0,
    forgetting_limit: Annotated[
        float, typer.Option(min=0.0, help="Share of the guard's NDCG@10 that an update may cost.")
    ] = 0.05,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse the whole file for one bad event.")] = False,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Learn from feedback: durable log, memory at once, micro-steps on an adapter, guard, then a new version."""
    if (follow is None) == (feedback is None and log is None and items is None):
        raise typer.BadParameter("Give events with --feedback FILE, a log with --log DB, or one to --follow DB.")
    console = Console(as_json)
    quiet_libraries()
    from dataclasses import asdict, replace

    from ...modeling_llm4rec import LLM4RecProcessor
    from ..data.prepared import PreparedData
    from ..load import check_model_folder
    from ..online.feedback_files import append_file
    from ..online.feedback_log import FeedbackLog
    from ..online.feedback_rules import FeedbackRules
    from ..online.learner import OnlineLearner
    from ..online.learning_settings import LearningSettings
    from ..online.new_items import items_of, read_items
    from ..online.versions import FEEDBACK_LOG, ONLINE, VersionStore

    folder = check_model_folder(model)
    given = {"learning_rate": learning_rate, "ewc": ewc, "replay": replay}
    given = {name: value for name, value in given.items() if value is not None}
    settings = None
    if given:
        saved = VersionStore(folder).current()[0].facts.get("settings")
        settings = replace(LearningSettings(**saved) if saved else LearningSettings(), **given)
    path = follow or log or folder / ONLINE / FEEDBACK_LOG
    if follow is None:
        path.parent.mkdir(parents=True, exist_ok=True)
    catalog = LLM4RecProcessor.from_pretrained(folder).catalog
    store = VersionStore(folder)
    rows = [] if items is None else read_items(items)
    known_rows = [*items_of(store.path(store.current()[0].name)), *rows]
    new_rows = {row["item_id"]: row for row in known_rows if row["item_id"] not in catalog}
    if new_rows:
        catalog.append(list(new_rows.values()))
    rules = FeedbackRules(known_items=catalog)
    with FeedbackLog(path, rules, create=follow is None) as events:
        taken = None
        if feedback is not None:
            taken = append_file(events, feedback, strict)
            console.say(f"{taken.new:,} new events, {taken.duplicates:,} duplicates, {taken.refused:,} refused.")
            for example in taken.examples[:SHOWN]:
                console.say(f"  {example}")
            if taken.refused > SHOWN:
                console.say(f"  … and {taken.refused - SHOWN:,} more. Items that are new come in by --items FILE.")
        known = None if data is None else PreparedData.load(data)
        options = {"publish_every": publish_every, "forgetting_limit": forgetting_limit, "seed": seed}
        with OnlineLearner(
            folder, events, settings, known, say=console.say, progress=console.shows_progress, **options
        ) as learner:
            if rows:
                console.say(f"{learner.add_items(rows):,} new items.")
            report = learner.learn()
            console.say(
                f"{report.learned:,} of {report.events:,} new events learned in {report.seconds:.1f} s; version "
                f"{report.version} is current."
            )
            if follow is not None:
                console.say("Waiting for events; Ctrl-C ends it.")
                for _ in events.follow(after=learner.sequence, poll_seconds=POLL_SECONDS):
                    time.sleep(publish_seconds)  # a version is a whole adapter: not one for every event
                    learner.learn()
        console.say(f"Next: llm4rec versions {quoted(folder)}")
        facts = asdict(report)
        console.result(facts if taken is None else facts | {"file": asdict(taken)})
