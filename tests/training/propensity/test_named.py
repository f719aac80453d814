"""Propensity models by name, and what all of them share."""

import numpy as np
import pytest
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.propensity.named import PROPENSITIES, make_propensity
from sklearn.exceptions import NotFittedError

ARGUMENTS = {
    "popularity": {},
    "logistic": {"log_popularity": True},
    "naive-bayes": {"random_ratings": [1, 5, 3]},
    "factorisation": {"factors": 2},
    "given": {"users": [0, 0, 1, 2, 2], "items": [0, 1, 0, 0, 2], "propensities": [0.5, 0.1, 0.5, 0.4, 0.2]},
}


@pytest.fixture
def log():
    items = np.array([0, 1, 0, 0, 2], dtype=np.int32)
    return Interactions(np.array([0, 2, 3, 5]), items, 4, np.array([5, 1, 3, 5, 5], dtype=np.float32))


@pytest.mark.parametrize("name", PROPENSITIES)
def test_every_model_gives_observed_events_a_probability(name, log):
    users = np.repeat(np.arange(3), log.lengths)
    model = make_propensity(name, **ARGUMENTS[name])
    with pytest.raises(NotFittedError, match="has learned nothing yet"):
        model.predict(users, log.items, log.ratings)
    found = model.fit(log).predict(users, log.items, log.ratings)
    assert found.dtype == np.float64
    assert found.shape == (5,)
    assert ((found > 0) & (found <= 1)).all()
    assert len(model.predict(users[:0], log.items[:0], log.ratings[:0])) == 0


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="'bayes'; there are popularity, logistic, naive-bayes, factorisation, given"):
        make_propensity("bayes")


def test_pairs_of_another_data_set_are_refused(log):
    model = make_propensity("popularity").fit(log)
    with pytest.raises(ValueError, match=r"the item of 1 rows; the first, row 1, has item 4, expected .* 0 to 3"):
        model.predict(np.array([0, 1]), np.array([3, 4]))
    with pytest.raises(ValueError, match="the user of 1 rows"):
        model.predict(np.array([-1]), np.array([0]))
    with pytest.raises(ValueError, match=r"arrays .* of one length"):
        model.predict(np.array([0, 1]), np.array([3]))
