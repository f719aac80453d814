"""All that is asked of a model's explanations, in one table of metrics.

Called by `llm4rec evaluate --explanations` and by the benchmarks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ....modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor
from ....modeling_llm4rec.explanation_text import STYLES, render_text
from ...data.prepared import Interactions
from ...data.sequences import history_batch, request_times
from .faithfulness import LEAST_HISTORY, Faithfulness, faithfulness
from .text_quality import text_quality

AT_ONCE = 16
"""Users whose recommendations are explained together."""


def users_to_judge(histories: Interactions, count: int, seed: int = 0, least: int = LEAST_HISTORY) -> np.ndarray:
    """(n,) at most `count` random users with at least `least` distinct items in their histories."""
    order = np.random.default_rng(seed).permutation(histories.num_users)
    return np.array([u for u in order if len(np.unique(histories.history(u))) >= least][:count], dtype=np.int64)


def judge_explanations(
    model: LLM4RecForCausalLM,
    processor: LLM4RecProcessor,
    histories: Interactions,
    *,
    users: int = 200,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, float]:
    """Faithfulness and text quality of the explanations of random users' best recommendations.

    Args:
        histories: of the users, in the item indices of the model's catalog.
        users: how many of those with at least `LEAST_HISTORY` distinct items are drawn.
        seed: of the draw and of the random controls.

    Returns:
        metrics by name, see `faithfulness_metrics` and `text_metrics`.

    Raises:
        ValueError: if no history is long enough.
    """
    some = histories.take(users_to_judge(histories, users, seed))
    found = faithfulness(model, processor, some, seed=seed, progress=progress)
    return faithfulness_metrics(found) | text_metrics(model, processor, some)


def faithfulness_metrics(found: Faithfulness) -> dict[str, float]:
    """`users`, and the means of `Faithfulness.intervals` with the ends of their intervals, `…/low` and `…/high`."""
    metrics: dict[str, float] = {"users": float(len(found.users))}
    for name, interval in found.intervals().items():
        metrics |= {name: interval.mean, f"{name}/low": interval.low, f"{name}/high": interval.high}
    return metrics


def text_metrics(model: LLM4RecForCausalLM, processor: LLM4RecProcessor, histories: Interactions) -> dict[str, float]:
    """What the English texts of every user's best recommendation claim.

    Returns:
        per style the metrics of `text_quality`, as `style/name`; over all styles `claims unresolved_claims
        contradictions broken`; of the short style `unique_sentence_ratio`.
    """
    pairs: list[list[dict[str, Any]]] = []
    for start in range(0, histories.num_users, AT_ONCE):
        some = histories.rows(start, min(start + AT_ONCE, histories.num_users))
        batch = {name: values.to(model.device) for name, values in history_batch(some, processor).items()}
        out = model.recommend(**batch, k=2, request_time=request_times(some), explain=True)
        pairs += processor.decode_explanations(out)
    best, next_best = [pair[0] for pair in pairs], [pair[1] if len(pair) > 1 else None for pair in pairs]
    metrics: dict[str, float] = {"explanations": float(len(best))}
    for style in STYLES:
        texts = [render_text(one, style, against=other) for one, other in zip(best, next_best, strict=True)]
        metrics |= {f"{style}/{name}": value for name, value in text_quality(texts, best, next_best).items()}
    for name in ("claims", "unresolved_claims", "contradictions", "broken"):
        metrics[name] = sum(metrics[f"{style}/{name}"] for style in STYLES)
    return metrics | {"unique_sentence_ratio": metrics["short/unique_sentence_ratio"]}


__all__ = [
    "faithfulness_metrics",
    "judge_explanations",
    "text_metrics",
    "users_to_judge",
]
