"""Recall at k, as a Hugging Face `evaluate` metric: `evaluate.load("<path of this folder>")`.

Stands alone, so that it loads from the Hub without LLM4Rec; the same formula as in its evaluator.
"""

import datasets
import evaluate

DESCRIPTION = r"""Mean share of a case's relevant items that are among the first k.

.. math:: \mathrm{recall@}k = \frac{1}{N} \sum_u \frac{\lvert L_k(u) \cap R(u) \rvert}{\lvert R(u) \rvert}

Manning, Raghavan and Schütze, *Introduction to information retrieval*, 2008, chapter 8.
"""

INPUTS = """
Args:
    predictions (list of lists): per case the recommended items, best first, none twice; strings or integers.
    references (list of lists): per case its relevant items, one or more.
    k (int): how many places count, at least 1; 10 by default.

Returns:
    dict: {"recall@k": float}
"""

CITATION = r"""@book{manning2008introduction,
  title={Introduction to Information Retrieval},
  author={Manning, Christopher D. and Raghavan, Prabhakar and Sch{\"u}tze, Hinrich},
  publisher={Cambridge University Press},
  year={2008}
}"""


class RecallAtK(evaluate.Metric):
    """Mean share of a case's relevant items that are among the first k."""

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
        shares = [
            len(set(relevant).intersection(items[:k])) / len(set(relevant))
            for items, relevant in zip(predictions, references, strict=True)
        ]
        return {f"recall@{k}": sum(shares) / len(shares)}


def _check(predictions, k):
    if k < 1:
        raise ValueError(f"k is {k}, expected at least 1.")
    for case, items in enumerate(predictions):
        if len(set(items)) < len(items):
            raise ValueError(f"predictions[{case}] names an item twice; expected a ranking without repeats.")
