"""Mean reciprocal rank at k, as a Hugging Face `evaluate` metric: `evaluate.load("<path of this folder>")`.

Stands alone, so that it loads from the Hub without LLM4Rec; the same formula as in its evaluator.
"""

import datasets
import evaluate

DESCRIPTION = r"""Mean of one over the place of the first relevant item, 0 beyond the first k.

.. math:: \mathrm{MRR@}k = \frac{1}{N} \sum_u \frac{[r_u \le k]}{r_u}, \quad r_u = \min \{ j : L_j(u) \in R(u) \}

Voorhees, *The TREC-8 question answering track report*, 1999.
"""

INPUTS = """
Args:
    predictions (list of lists): per case the recommended items, best first, none twice; strings or integers.
    references (list of lists): per case its relevant items, one or more.
    k (int): how many places count, at least 1; 10 by default.

Returns:
    dict: {"mrr@k": float}
"""

CITATION = r"""@inproceedings{voorhees1999trec,
  title={The TREC-8 Question Answering Track Report},
  author={Voorhees, Ellen M.},
  booktitle={TREC},
  year={1999}
}"""


class MRR(evaluate.Metric):
    """Mean of one over the place of the first relevant item, 0 beyond the first k."""

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
            values.append(next((1 / place for place, item in enumerate(items[:k], start=1) if item in relevant), 0.0))
        return {f"mrr@{k}": sum(values) / len(values)}


def _check(predictions, k):
    if k < 1:
        raise ValueError(f"k is {k}, expected at least 1.")
    for case, items in enumerate(predictions):
        if len(set(items)) < len(items):
            raise ValueError(f"predictions[{case}] names an item twice; expected a ranking without repeats.")
