"""Diverse lists: the best candidates in an order that does not repeat itself.

Called by `LLM4RecForCausalLM.recommend` with the candidates of each user, best first.
"""

import torch
import torch.nn.functional as F

from .recommendation import RecommendOutput


def diversify(candidates: RecommendOutput, vectors: torch.Tensor, k: int, strength: float) -> RecommendOutput:
    r"""Choose k of each user's candidates by maximal marginal relevance (Carbonell and Goldstein 1998).

    One after the other, the item that maximises

    .. math:: (1 - \lambda)\, e^{s_i - s_1} - \lambda \max_{j \text{ chosen}} \cos(v_i, v_j)

    where :math:`s_1` is the best candidate's score: the exponential is the item's odds against the best one.

    Args:
        candidates: more than k of them, best first.
        vectors: (items, d) embeddings whose cosine says how alike two items are.
        k: items per user.
        strength: λ in [0, 1]; 0 keeps the order, 1 looks at likeness alone after the first item.

    Returns:
        items in the order of choice with their scores as they were; -1 and -inf where candidates ran out.

    Raises:
        ValueError: if `strength` is outside [0, 1].
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"diversity is {strength}, expected a number from 0 (off) to 1.")
    items, scores = candidates.items, candidates.scores
    there = items >= 0
    unit = F.normalize(vectors[items.clamp(min=0)].float(), dim=-1)
    relevance = (1 - strength) * (scores - scores[:, :1]).exp()
    # Larger than any difference between two candidates: what is chosen or missing never comes (again).
    barred = torch.where(there, 0.0, torch.inf)
    likeness = torch.full_like(relevance, -1.0)
    chosen, spent = [], []
    for _ in range(min(k, items.shape[1])):
        gain = relevance - strength * likeness - barred
        best = gain.argmax(-1, keepdim=True)
        chosen.append(best)
        spent.append(gain.gather(1, best).isneginf())
        barred = barred.scatter(1, best, torch.inf)
        last = unit.gather(1, best.unsqueeze(-1).expand(-1, -1, unit.shape[-1]))
        likeness = torch.maximum(likeness, (unit * last).sum(-1))
    order = torch.cat(chosen, dim=1)
    picked = RecommendOutput(items.gather(1, order), scores.gather(1, order))
    short = torch.cat(spent, dim=1)
    return RecommendOutput(
        F.pad(picked.items.masked_fill(short, -1), (0, k - order.shape[1]), value=-1),
        F.pad(picked.scores.masked_fill(short, float("-inf")), (0, k - order.shape[1]), value=float("-inf")),
    )
