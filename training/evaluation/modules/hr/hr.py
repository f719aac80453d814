"""Hit rate at k, as a Hugging Face `evaluate` metric: `evaluate.load("<path of this folder>")`.

Stands alone, so that it loads from the Hub without LLM4Rec; the same formula as in its evaluator.
"""

import datasets
import evaluate

DESCRIPTION = r"""Share of cases with a relevant item among the first k.

.. math:: \mathrm{HR@}k = \frac{1}{N} \sum_u [L_k(u) \cap R(u) \ne \emptyset]

Deshpande and Karypis, *Item-based top-N recommendation algorithms*, ACM TOIS 2004.
"""

INPUTS = """
Args:
    predictions (list of lists): per case the recommended items, best first, none twice; strings or integers.
    references (list of lists): per case its relevant items, one or more.
    k (int): how many places count, at least 1; 10 by default.

Returns:
    dict: {"hr@k": float}
"""

CITATION = r"""@article{deshpande2004item,
  title={Item-based top-N recommendation algorithms},
  author={Deshpande, Mukund and Karypis, George},
  journal={ACM TOIS},
  volume={22},
  number={1},
  year={2004}
}"""


class HitRate(evaluate.Metric):
    """Share of cases with a relevant item among the first k."""

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
        hits = [
            not set(relevant).isdisjoint(items[:k]) for items, relevant in zip(predictions, references, strict=True)
        ]
        return {f"hr@{k}": sum(hits) / len(hits)}


def _check(predictions, k):
    if k < 1:
        raise ValueError(f"k is {k}, expected at least 1.")
    for case, items in enumerate(predictions):
        if len(set(items)) < len(items):
            raise ValueError(f"predictions[{case}] names an item twice; expected a ranking without repeats.")
