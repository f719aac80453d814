"""Given propensities: looked up by pair, and never made up."""

import numpy as np
import pytest
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.propensity.given import GivenPropensities
from llm4rec.training.propensity.inverse_weights import inverse_propensity_weights


@pytest.fixture
def log():
    """User 0 had items 3, 1 and 3 again, user 1 had item 0."""
    return Interactions(np.array([0, 3, 4]), np.array([3, 1, 3, 0], dtype=np.int32), 4)


def test_every_event_gets_what_was_logged_for_its_pair(log):
    model = GivenPropensities([1, 0, 0, 1], [0, 1, 3, 2], [0.1, 0.2, 0.3, 0.4]).fit(log)
    assert model.predict(np.array([0, 0, 1, 1]), np.array([3, 1, 0, 2])) == pytest.approx([0.3, 0.2, 0.1, 0.4])


def test_a_pair_logged_twice_weighs_as_much_as_its_events(log):
    users, items, logged = np.array([0, 0, 0, 1]), np.array([3, 1, 3, 0]), np.array([0.5, 0.2, 0.125, 0.4])
    found = GivenPropensities(users, items, logged).fit(log).predict(users, items)
    assert (1 / found).sum() == pytest.approx((1 / logged).sum())
    assert inverse_propensity_weights(found)[0] == inverse_propensity_weights(found)[2]


def test_a_pair_without_a_propensity_is_named(log):
    with pytest.raises(ValueError, match="1 of 3 pairs have no given propensity: user 0, item 3"):
        GivenPropensities([1, 0], [0, 1], [0.1, 0.2]).fit(log)
    model = GivenPropensities([1, 0, 0], [0, 1, 3], [0.1, 0.2, 0.3]).fit(log)
    with pytest.raises(ValueError, match="user 1, item 3"):
        model.predict(np.array([0, 1]), np.array([3, 3]))


def test_a_bad_propensity_is_named_with_its_pair():
    with pytest.raises(ValueError, match=r"1 of 2 .*row 1, user 5, item 8: 0\."):
        GivenPropensities([4, 5], [7, 8], [0.5, 0.0])
    with pytest.raises(ValueError, match="one of each per event"):
        GivenPropensities([4, 5], [7], [0.5, 0.1])
