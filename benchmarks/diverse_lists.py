"""LLM4Rec with diverse lists: how much variety is to be had before accuracy pays for it?

`benchmarks/run.py … llm4rec-diverse` trains as `llm4rec` does and re-orders what it recommends. How strongly is chosen
on validation: so that next to no accuracy is lost, or, with `--as-accurate-as MODEL`, so that it is that model's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from llm4rec.benchmarks.data_sets import validation_evaluator
from llm4rec.benchmarks.tuned_baselines import CRITERION
from llm4rec.modeling_llm4rec.diversity import diversify
from llm4rec.modeling_llm4rec.recommendation import RecommendOutput
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.data.splits import Split
from llm4rec.training.evaluation.ranking_evaluator import Scorer

STRENGTHS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
MAX_LOSS = 0.01
"""Share of validation NDCG@10 that variety may cost."""
CANDIDATES = 100
LONGEST_LIST = 20


class DiverseScorer:
    """Scores whose ranking of unseen items is chosen by maximal marginal relevance.

    The best `CANDIDATES` unseen items trade their scores among themselves: the first that is chosen gets the highest.
    Seen items and all others keep theirs, so both protocols can be read off the result.

    Args:
        score: what ranks without regard to variety.
        vectors: (items, d) embeddings that say how alike items are.
        strength: as of :func:`~llm4rec.modeling_llm4rec.diversity.diversify`; 0 changes nothing.
    """

    def __init__(self, score: Scorer, vectors: torch.Tensor, strength: float) -> None:
        self.score, self.vectors, self.strength = score, vectors, strength

    def __call__(self, histories: Interactions) -> torch.Tensor:
        """(users, items) float scores."""
        scores = torch.as_tensor(self.score(histories))
        owners = torch.from_numpy(np.repeat(np.arange(histories.num_users), histories.lengths)).to(scores.device)
        seen = torch.from_numpy(histories.items.astype(np.int64)).to(scores.device)
        unseen = scores.index_put((owners, seen), scores.new_tensor(-torch.inf))
        best = unseen.topk(min(CANDIDATES, unseen.shape[1]), dim=1)
        candidates = RecommendOutput(best.indices.masked_fill(best.values == -torch.inf, -1), best.values)
        chosen = diversify(candidates, self.vectors.to(scores.device), LONGEST_LIST, self.strength).items
        # Chosen items in their order, then the rest of the candidates in theirs.
        place = (best.indices[:, :, None] == chosen[:, None, :]).int()
        order = torch.where(place.any(-1), place.argmax(-1), LONGEST_LIST).argsort(dim=1, stable=True)
        items = best.indices.gather(1, order)
        # Where the catalog has fewer unseen items, seen ones fill the end: they keep their scores.
        return scores.scatter(1, items, best.values.where(best.values > -torch.inf, scores.gather(1, items)))


def choose_strength(
    score: Scorer, vectors: torch.Tensor, split: Split, least: float | None = None
) -> tuple[DiverseScorer, dict[str, Any]]:
    """The strongest of `STRENGTHS` that keeps validation NDCG@10, and a record of the search.

    Args:
        least: NDCG@10 to keep; by default all but `MAX_LOSS` of what the scores reach by themselves.

    Raises:
        ValueError: if the scores by themselves do not reach `least`.
    """
    evaluator = validation_evaluator(split.validation)
    plain = evaluator.evaluate(score).metrics[CRITERION]
    rule = f"all but {MAX_LOSS:.0%} of it" if least is None else f"{least:.4f} of it"
    least = (1 - MAX_LOSS) * plain if least is None else least
    if plain < least:
        raise ValueError(
            f"The model's validation {CRITERION} is {plain:.4f}, below the {least:.4f} that it is to keep."
        )
    tried, chosen = {"0": plain}, 0.0
    for strength in STRENGTHS:
        value = evaluator.evaluate(DiverseScorer(score, vectors, strength)).metrics[CRITERION]
        tried[str(strength)] = value
        if value < least:
            break
        chosen = strength
    record = {
        "chosen": {"strength": chosen},
        "chosen_on": f"validation {CRITERION}: the strongest that keeps {rule}",
        "candidates": CANDIDATES,
        "validation": tried,
    }
    return DiverseScorer(score, vectors, chosen), record
