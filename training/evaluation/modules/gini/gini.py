"""Gini index of exposure at k, as a Hugging Face `evaluate` metric: `evaluate.load("<path of this folder>")`.

Stands alone, so that it loads from the Hub without LLM4Rec; the same formula as in its evaluator.
"""

from collections import Counter

import datasets
import evaluate

DESCRIPTION = r"""How unevenly the first k places are spread over the catalog.

.. math:: G = \frac{\sum_{j=1}^{n} (2j - n - 1)\, x_{(j)}}{n \sum_j x_j},
    \quad x_i = \lvert \{ u : i \in L_k(u) \} \rvert, \quad n = \lvert I \rvert

Fleder and Hosanagar, *Blockbuster culture's next rise or fall*, Management Science 2009.
"""

INPUTS = """
Args:
    predictions (list of lists): per case the recommended items, best first, none twice; strings or integers.
    num_items (int): size of the catalog.
    k (int): how many places count, at least 1; 10 by default.

Returns:
    dict: {"gini@k": float}
"""

CITATION = r"""@article{fleder2009blockbuster,
  title={Blockbuster culture's next rise or fall: The impact of recommender systems on sales diversity},
  author={Fleder, Daniel and Hosanagar, Kartik},
  journal={Management Science},
  volume={55},
  number={5},
  year={2009}
}"""


class ExposureGini(evaluate.Metric):
    """How unevenly the first k places are spread over the catalog."""

    def _info(self):
        features = [
            datasets.Features({"predictions": datasets.Sequence(datasets.Value(kind))}) for kind in ("string", "int64")
        ]
        return evaluate.MetricInfo(
            description=DESCRIPTION, citation=CITATION, inputs_description=INPUTS, features=features
        )

    def _compute(self, predictions, num_items, k=10):
        _check(predictions, k)
        counts = sorted(Counter(item for items in predictions for item in items[:k]).values())
        if not counts or len(counts) > num_items:
            raise ValueError(f"The lists hold {len(counts)} different items, expected 1 to num_items = {num_items}.")
        first = num_items - len(counts)  # So many items were never shown and add nothing.
        weighted = sum((2 * (first + place) - num_items - 1) * count for place, count in enumerate(counts, start=1))
        return {f"gini@{k}": weighted / (num_items * sum(counts))}


def _check(predictions, k):
    if k < 1:
        raise ValueError(f"k is {k}, expected at least 1.")
    for case, items in enumerate(predictions):
        if len(set(items)) < len(items):
            raise ValueError(f"predictions[{case}] names an item twice; expected a ranking without repeats.")
