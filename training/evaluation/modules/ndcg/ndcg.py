"""NDCG at k, as a Hugging Face `evaluate` metric: `evaluate.load("<path of this folder>")`.

Stands alone, so that it loads from the Hub without LLM4Rec; the same formula as in its evaluator.
"""

import math

import datasets
import evaluate

DESCRIPTION = r"""Normalised discounted cumulative gain of ranked items, with gain 1 for a relevant item.

.. math:: \mathrm{NDCG@}k = \frac{1}{N} \sum_u \frac{\sum_{j=1}^{k} [L_j(u) \in R(u)] / \log_2(j + 1)}
    {\sum_{j=1}^{\min(k, \lvert R(u) \rvert)} 1 / \log_2(j + 1)}

Järvelin and Kekäläinen, *Cumulated gain-based evaluation of IR techniques*, ACM TOIS 2002.
"""

INPUTS = """
Args:
    predictions (list of lists): per case the recommended items, best first, none twice; strings or integers.
    references (list of lists): per case its relevant items, one or more.
    k (int): how many places count, at least 1; 10 by default.

Returns:
    dict: {"ndcg@k": float}
"""

CITATION = r"""@article{jarvelin2002cumulated,
  title={Cumulated gain-based evaluation of IR techniques},
  author={J{\"a}rvelin, Kalervo and Kek{\"a}l{\"a}inen, Jaana},
  journal={ACM TOIS},
  volume={20},
  number={4},
  year={2002}
}"""


class NDCG(evaluate.Metric):
    """Normalised discounted cumulative gain of ranked items, with gain 1 for a relevant item."""

    def _info(self):
        features = [
            datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value(kind)),
                    "references": datasets.Sequence(datasets.Value(kind)),
                }
            )
            for kind in ("string", "int64")
        ]
        return evaluate.MetricInfo(
            description=DESCRIPTION, citation=CITATION, inputs_description=INPUTS, features=features
        )

    def _compute(self, predictions, references, k=10):
        _check(predictions, k)
        for case, relevant in enumerate(references):
            if not relevant:
                raise ValueError(f"references[{case}] is empty: expected at least one relevant item.")
        values = []
        for items, relevant in zip(predictions, references, strict=True):
            relevant = set(relevant)
            gain = sum(1 / math.log2(place + 2) for place, item in enumerate(items[:k]) if item in relevant)
            values.append(gain / sum(1 / math.log2(place + 2) for place in range(min(k, len(relevant)))))
        return {f"ndcg@{k}": sum(values) / len(values)}


def _check(predictions, k):
    if k < 1:
        raise ValueError(f"k is {k}, expected at least 1.")
    for case, items in enumerate(predictions):
        if len(set(items)) < len(items):
            raise ValueError(f"predictions[{case}] names an item twice; expected a ranking without repeats.")
