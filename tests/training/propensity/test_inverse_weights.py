"""Inverse propensity weights: what they are by hand, what a clip promises, and which propensities are refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm4rec.training.propensity.inverse_weights import (
    check_propensities,
    effective_sample_size,
    inverse_propensity_weights,
)

propensities_strategy = st.lists(st.floats(1e-9, 1), min_size=1, max_size=60).map(np.array)


def test_weights_are_inverse_propensities_with_mean_one():
    assert inverse_propensity_weights([0.5, 0.25, 0.5]).tolist() == [0.75, 1.5, 0.75]


def test_a_common_factor_of_all_propensities_does_not_matter():
    propensities = np.array([0.9, 0.3, 0.01])
    for clip in (None, 1.5):
        halves = inverse_propensity_weights(propensities / 2, clip)
        assert halves == pytest.approx(inverse_propensity_weights(propensities, clip))


def test_a_clipped_weight_by_hand():
    # The last weighs 97 against 1: at the limit of twice the mean, w = 2 (3 + w) / 4 gives w = 3, the mean is 1.5.
    weights = inverse_propensity_weights(np.array([0.97, 0.97, 0.97, 0.01]), clip=2)
    assert weights == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])


@given(propensities_strategy, st.floats(1, 100))
def test_no_event_counts_for_more_than_the_clip_and_nothing_else_changes_order(propensities, clip):
    weights = inverse_propensity_weights(propensities, clip)
    assert weights.mean() == pytest.approx(1)
    assert weights.max() <= clip * (1 + 1e-9)
    unclipped = inverse_propensity_weights(propensities)
    if unclipped.max() <= clip:
        assert weights == pytest.approx(unclipped)
    else:
        assert weights.max() == pytest.approx(clip)
        free = weights < weights.max() * (1 - 1e-9)
        ratio = weights[free] / unclipped[free]
        assert ratio == pytest.approx(np.full(free.sum(), ratio[:1].sum()))


def test_one_extreme_weight_cannot_empty_the_others():
    propensities = np.append(np.full(999, 0.5), 1e-12)
    weights = inverse_propensity_weights(propensities, clip=10)
    assert weights[-1] == pytest.approx(10)
    assert weights[0] == pytest.approx(990 / 999)


def test_a_clip_of_one_makes_all_events_alike():
    assert inverse_propensity_weights(np.array([1e-9, 0.3, 1]), clip=1).tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match=r"clip is 0\.5, expected at least 1"):
        inverse_propensity_weights(np.array([0.1, 0.2]), clip=0.5)


@pytest.mark.parametrize("bad", [0.0, -0.1, np.nan, np.inf, -np.inf, 1.01])
def test_a_bad_propensity_is_counted_and_named(bad):
    values = np.array([0.5, bad, 0.5, bad])
    with pytest.raises(ValueError, match=r"2 of 4 propensities are not in \(0, 1\]: row 1, user 7, item 4: "):
        check_propensities(values, users=np.array([6, 7, 8, 9]), items=np.array([3, 4, 5, 6]))
    with pytest.raises(ValueError, match=r"row 1: .*; row 3: .*Leave these rows out"):
        inverse_propensity_weights(values)


def test_only_the_first_bad_rows_are_named():
    with pytest.raises(ValueError, match=r"^9 of 9 .* row 4: 0; 4 more\."):
        check_propensities(np.zeros(9))


def test_no_propensities_at_all_are_refused():
    with pytest.raises(ValueError, match="at least one row"):
        check_propensities(np.empty(0))


def test_the_effective_sample_size_of_equal_and_of_one_weight():
    assert effective_sample_size(np.full(8, 1e300)) == pytest.approx(8)
    assert effective_sample_size([1, 0, 0, 0]) == 1
    assert effective_sample_size([3, 1]) == pytest.approx(16 / 10)
