"""Novelty at k, as a Hugging Face `evaluate` metric: `evaluate.load("<path of this folder>")`.

Stands alone, so that it loads from the Hub without LLM4Rec; the same formula as in its evaluator.
"""

import math

import datasets
import evaluate

DESCRIPTION = r"""Mean surprise, in bits, of the items among the first k.

.. math:: \mathrm{novelty@}k = \frac{1}{N} \sum_u \frac{1}{\lvert L_k(u) \rvert} \sum_{i \in L_k(u)}
    -\log_2 \frac{n_i + 1}{\sum_j (n_j + 1)}

Zhou et al., *Solving the apparent diversity-accuracy dilemma of recommender systems*, PNAS 2010.
"""

INPUTS = """
Args:
    predictions (list of lists): per case the recommended items, best first, none twice; strings or integers.
    item_counts (dict): train events of every item of the catalog, 0 where there are none.
    k (int): how many places count, at least 1; 10 by default.

Returns:
    dict: {"novelty@k": float}
"""

CITATION = r"""@article{zhou2010solving,
  title={Solving the apparent diversity-accuracy dilemma of recommender systems},
  author={Zhou, Tao and Kuscsik, Zolt{\'a}n and Liu, Jian-Guo and Medo, Mat{\'u}{\v{s}} and others},
  journal={PNAS},
  volume={107},
  number={10},
  year={2010}
}"""


class Novelty(evaluate.Metric):
    """Mean surprise, in bits, of the items among the first k."""

    def _info(self):
        features = [
            datasets.Features({"predictions": datasets.Sequence(datasets.Value(kind))}) for kind in ("string", "int64")
        ]
        return evaluate.MetricInfo(
            description=DESCRIPTION, citation=CITATION, inputs_description=INPUTS, features=features
        )

    def _compute(self, predictions, item_counts, k=10):
        _check(predictions, k)
        total = sum(item_counts.values()) + len(item_counts)
        values = []
        for items in predictions:
            unknown = [item for item in items[:k] if item not in item_counts]
            if unknown:
                raise ValueError(
                    f"Item {unknown[0]!r} is recommended but not in item_counts; give every item a count."
                )
            if items:
                bits = [math.log2(total) - math.log2(item_counts[item] + 1) for item in items[:k]]
                values.append(sum(bits) / len(bits))
        return {f"novelty@{k}": sum(values) / len(values)}


def _check(predictions, k):
    if k < 1:
        raise ValueError(f"k is {k}, expected at least 1.")
    for case, items in enumerate(predictions):
        if len(set(items)) < len(items):
            raise ValueError(f"predictions[{case}] names an item twice; expected a ranking without repeats.")
