"""Catalog coverage at k, as a Hugging Face `evaluate` metric: `evaluate.load("<path of this folder>")`.

Stands alone, so that it loads from the Hub without LLM4Rec; the same formula as in its evaluator.
"""

import datasets
import evaluate

DESCRIPTION = r"""Share of the catalog that is among someone's first k.

.. math:: \mathrm{coverage@}k = \frac{\lvert \bigcup_u L_k(u) \rvert}{\lvert I \rvert}

Ge, Delgado-Battenfeld and Jannach, *Beyond accuracy*, RecSys 2010.
"""

INPUTS = """
Args:
    predictions (list of lists): per case the recommended items, best first, none twice; strings or integers.
    num_items (int): size of the catalog.
    k (int): how many places count, at least 1; 10 by default.

Returns:
    dict: {"coverage@k": float}
"""

CITATION = r"""@inproceedings{ge2010beyond,
  title={Beyond accuracy: evaluating recommender systems by coverage and serendipity},
  author={Ge, Mouzhi and Delgado-Battenfeld, Carla and Jannach, Dietmar},
  booktitle={RecSys},
  year={2010}
}"""


class CatalogCoverage(evaluate.Metric):
    """Share of the catalog that is among someone's first k."""

    def _info(self):
        features = [
            datasets.Features({"predictions": datasets.Sequence(datasets.Value(kind))}) for kind in ("string", "int64")
        ]
        return evaluate.MetricInfo(
            description=DESCRIPTION, citation=CITATION, inputs_description=INPUTS, features=features
        )

    def _compute(self, predictions, num_items, k=10):
        _check(predictions, k)
        shown = {item for items in predictions for item in items[:k]}
        if len(shown) > num_items:
            raise ValueError(f"The lists hold {len(shown)} different items, but num_items is {num_items}.")
        return {f"coverage@{k}": len(shown) / num_items}


def _check(predictions, k):
    if k < 1:
        raise ValueError(f"k is {k}, expected at least 1.")
    for case, items in enumerate(predictions):
        if len(set(items)) < len(items):
            raise ValueError(f"predictions[{case}] names an item twice; expected a ranking without repeats.")
