"""Online learning on a stream of events: what each method gains on what is new, and what it forgets.

Run by `llm4rec experiment online`: a base model is trained on the beginning of a data set, then every method starts
from it and gets the rest as a stream, each event asked for before it is learned.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...configuration.recipe import Recipe
from ..data.prepared import PreparedData
from ..data.streams import EventStream, StreamOrder, event_stream
from ..evaluation.prequential import PrequentialResult, StreamLearner, as_record, prequential
from ..evaluation.report import git_commit, machine_description
from ..load import load_recommender
from ..online.adaptation import OnlineAdaptation
from ..online.learning_settings import LearningSettings
from .outputs import write_plot, write_table
from .periodic_retraining import PeriodicRetraining
from .trained_variants import trained_variant

PLAIN: dict[str, Any] = {
    "rank": 8,
    "learning_rate": 1e-4,
    "events_per_step": 512,
    "replay": 0,
    "replay_weight": 1.0,
    "ewc": 0.0,
    "average": 0.0,
    "remember": False,
}
"""Gradients of the new events and nothing else, at a rate that suits them: a higher one forgets more than it gains."""

METHODS: dict[str, LearningSettings] = {
    "frozen": LearningSettings(**PLAIN),
    "finetune": LearningSettings(**{**PLAIN, "rank": 0}),
    "ewc": LearningSettings(**{**PLAIN, "ewc": 100.0}),
    "proximal": LearningSettings(**{**PLAIN, "proximal": 100.0}),
    "replay": LearningSettings(**{**PLAIN, "replay": 64}),
    "online": LearningSettings(),
    "retrain": LearningSettings(**PLAIN),
}
"""Name to settings. `frozen` learns nothing; `finetune` moves all weights and holds nothing back; `online` is what
`llm4rec learn` does by default, the memory included; `retrain` trains a model from scratch after every block."""

EXPENSIVE = ("retrain",)
"""Methods that run only when they are asked for."""

HELD_OUT = 0.1
METHOD_FOLDER = "methods"
"""Of the output: what each method did, written as soon as it has ended."""


def online_experiment(
    data: PreparedData,
    recipe: Recipe,
    output: str | Path,
    methods: Mapping[str, LearningSettings] = METHODS,
    *,
    order: StreamOrder = "time",
    share: float = 0.2,
    blocks: int = 5,
    asked: float = 1.0,
    before: float | None = None,
    say: Callable[[str], None] = print,
    progress: bool = False,
) -> dict[str, Any]:
    """Compare methods of online learning, all from one base model.

    Args:
        data: prepared data.
        recipe: of the base model; its seed is that of the run.
        output: folder for `online.csv`, `.json`, `.png` and `.svg`, every method by itself in `methods/`, and the
            base model of this stream.
        methods: by name.
        order, share: of the stream, see :func:`event_stream`.
        blocks: of the stream.
        asked: share of the events that are asked for before they are learned.
        before: choose settings, do not report: the stream is this share at the end of what comes before the real
            stream, which is not touched.
        say: told a line per block. progress: show progress bars.

    Returns:
        JSON-ready: `rows`, one per method, and what identifies the run.

    Raises:
        ValueError: if the stream cannot be cut, or `output` holds a base of another recipe.
        KeyboardInterrupt: after Ctrl-C; a base that is half trained is gone on with by the same call.
    """
    output = Path(output)
    stream = event_stream(data.interactions, share, order, HELD_OUT)
    if before is not None:
        stream = event_stream(stream.base, before, order, HELD_OUT)
    # A base is of one stream: that of another may have learned events that are to come.
    base = output / f"base-{order}-{share:g}{'' if before is None else f'-before-{before:g}'}"
    trained_variant(
        replace(data, interactions=stream.base), recipe, {}, base, say, progress, split=stream.base_split()
    )
    rows, results = [], {}
    for name, settings in methods.items():
        model, processor = load_recommender(base)
        say(f"{name}:")
        learner: StreamLearner
        if name == "retrain":
            models = output / f"{name}-{base.name}"
            learner = PeriodicRetraining(
                data, recipe, stream, blocks, model, processor, models, settings, say, progress
            )
        else:
            learner = OnlineAdaptation(
                model,
                processor,
                settings,
                base=stream.base_split().train,
                seed=recipe.training.seed,
                progress=progress,
            )
        result = prequential(
            stream, learner, learns=name != "frozen", blocks=blocks, asked=asked, say=say, progress=progress
        )
        results[name] = result
        row = {"method": name, **result.metrics, **vars(settings)}
        rows.append(row)
        record = json.dumps({**as_record(result), "settings": vars(settings)}, indent=2)
        (output / METHOD_FOLDER).mkdir(exist_ok=True)
        (output / METHOD_FOLDER / f"{name}.json").write_text(record + "\n", encoding="utf-8")
        say("  " + ", ".join(f"{metric} {value:.4f}" for metric, value in result.metrics.items()))
    summary = {
        "experiment": "online",
        "dataset": data.schema.source or data.folder.name,
        "order": order,
        "share": share,
        "before": before,
        "blocks": blocks,
        "asked": asked,
        "events": len(stream),
        "held_out": int(stream.held_out.sum()),
        "recipe": recipe.to_dict(),
        "commit": git_commit(),
        "machine": machine_description(),
        "rows": rows,
        "accuracy": {name: as_record(result)["accuracy"] for name, result in results.items()},
    }
    write_table(output, "online", summary)
    _plot(output, stream, results)
    return summary


def _plot(folder: Path, stream: EventStream, results: Mapping[str, PrequentialResult]) -> None:
    """Left: accuracy along the stream. Right: what is known of the base after each block."""
    with write_plot(folder, "online", panels=2) as (along, base):
        for name, result in results.items():
            parts = np.array_split(np.arange(len(result.values)), min(10, len(result.values)))
            places = [result.places[part[-1]] + 1 for part in parts]
            means = [result.values[part].mean() for part in parts]
            along.plot(places, means, "o-", markersize=3, label=name)
            base.plot(range(len(result.accuracy)), result.accuracy[:, 0], "o-", markersize=3, label=name)
        along.set_xlabel("events of the stream")
        along.set_ylabel("prequential NDCG@10")
        base.set_xlabel("blocks learned")
        base.set_ylabel("NDCG@10 on held-out events of the base")
        along.legend()


def methods_named(names: Sequence[str], overrides: Sequence[str] = ()) -> dict[str, LearningSettings]:
    """Methods by name, with `field=value` or `method.field=value` changed.

    Raises:
        ValueError: for an unknown method or field.
    """
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise ValueError(f"Unknown method {unknown[0]!r}, expected some of {', '.join(METHODS)}.")
    chosen = {name: METHODS[name] for name in names or METHODS if name in names or name not in EXPENSIVE}
    for override in overrides:
        target, separator, value = override.partition("=")
        method, _, field = target.rpartition(".")
        known = vars(LearningSettings())
        if not separator or field not in known or (method and method not in METHODS):
            raise ValueError(
                f"{override!r} is not [method.]field=value; methods are {', '.join(METHODS)}, fields "
                f"{', '.join(known)}."
            )
        try:
            number: Any = json.loads(value.lower())
        except ValueError:
            raise ValueError(f"{override!r}: {value!r} is no number.") from None
        for name in chosen:
            if method in ("", name):
                chosen[name] = replace(chosen[name], **{field: number})
    return chosen


__all__ = ["METHODS", "methods_named", "online_experiment"]
