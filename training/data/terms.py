"""Under which terms public data sets are given: what a card says of them, and whether they may be published again.

The words are of each publisher's own page or README; read it before you rely on this.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Terms:
    """Terms of a data set.

    Attributes:
        name: of the data set.
        url: where its publisher states them.
        sentence: what they mean for who uses or passes on the data.
    """

    name: str
    url: str
    sentence: str


TERMS = {
    "movielens": Terms(
        "MovieLens",
        "https://grouplens.org/datasets/movielens/",
        "MovieLens is given by GroupLens for research: no commercial use without permission; 100K, 1M and 10M may not "
        "be redistributed without separate permission, later ones under the same terms only (see the README of each, "
        "https://grouplens.org/datasets/movielens/).",
    ),
    "amazon-reviews": Terms(
        "Amazon Reviews",
        "https://amazon-reviews-2023.github.io/",
        "Amazon Reviews is collected by McAuley Lab for research; its texts are of their authors and of Amazon. Look "
        "up its terms before you publish it again (https://amazon-reviews-2023.github.io/).",
    ),
    "yelp": Terms(
        "Yelp Open Dataset",
        "https://www.yelp.com/dataset",
        "The Yelp Open Dataset is given for academic use; its agreement forbids to display or distribute it to third "
        "parties (https://www.yelp.com/dataset).",
    ),
}
"""By the `source` of a prepared data set."""


def terms_of(source: str | None) -> Terms | None:
    """Terms of a data set by its source; `None` for one's own data and the built-in worlds."""
    return TERMS.get(source or "")
