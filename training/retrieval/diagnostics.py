"""Diagnostics of retrieval: does what the memory finds contain what really came next?"""

from __future__ import annotations

import torch

from ...modeling_llm4rec import RetrievedContext

SMALLEST_SHARE = 0.8
"""Precision below this share of that at fitting is worth a warning."""


def retrieval_metrics(
    context: RetrievedContext, targets: torch.Tensor, ks: tuple[int, ...] = (3, 5, 10, 20)
) -> dict[str, float]:
    r"""How good the retrieved items are, of every source and of all of them together.

    - `precision@K`: targets among the K best items of a source, over K; of `all`, the sources take turns, and an item
      that several found counts once.
    - `hit_share@K`: share of cases whose target is among them.
    - `decay@K`: mean relevance of the K-th item over that of the first; how fast relevance falls.

    Args:
        context: of the cases.
        targets: (cases,) long item indices.
        ks: up to the number of items that a source found.
    """
    targets = targets.to(context.items.device)
    metrics: dict[str, float] = {}
    depth = context.items.shape[-1]
    for place, source in enumerate((*context.sources, "all")):
        items = context.items[:, place] if source != "all" else interleaved(context)
        for k in (k for k in ks if k <= depth):
            hits = (items[:, :k] == targets[:, None]).any(1).float()
            metrics[f"{source}/precision@{k}"] = float(hits.mean()) / k
            metrics[f"{source}/hit_share@{k}"] = float(hits.mean())
            if source != "all":
                relevance = context.relevance[:, place]
                first = relevance[:, 0]
                known = first > 0
                fallen = (relevance[known, k - 1] / first[known]).mean() if known.any() else torch.zeros(())
                metrics[f"{source}/decay@{k}"] = float(fallen)
    return metrics


def interleaved(context: RetrievedContext) -> torch.Tensor:
    """(cases, sources × k) the sources' items in turn, each item once, -1 where it stands further left already."""
    items = context.items.transpose(1, 2).flatten(1)
    same = (items[:, :, None] == items[:, None, :]) & (items >= 0)[:, :, None]
    again = (same & torch.ones(items.shape[1], items.shape[1], dtype=torch.bool).tril(-1)).any(-1)
    kept = items.masked_fill(again, -1)
    order = (kept < 0).int().argsort(dim=1, stable=True)
    return kept.gather(1, order)


def fallen(now: dict[str, float], then: dict[str, float]) -> list[str]:
    """Sentences about sources whose precision is far below that at fitting."""
    return [
        f"Retrieval precision of {name.partition('/')[0]} is {value:.4f} at K={name.rpartition('@')[2]}, "
        f"{then[name]:.4f} when the memory was fitted. Build it again on recent events, or leave the source out."
        for name, value in now.items()
        if "/precision@" in name and value < SMALLEST_SHARE * then.get(name, 0.0)
    ]


__all__ = ["fallen", "retrieval_metrics"]
