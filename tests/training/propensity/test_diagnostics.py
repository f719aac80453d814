"""Diagnostics: the effective sample, advice that keeps its promise, calibration by hand."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm4rec.training.propensity.diagnostics import (
    calibration,
    diagnose,
    largest_clip,
    write_calibration,
    write_report,
)
from llm4rec.training.propensity.inverse_weights import inverse_propensity_weights

HEAVY = np.random.default_rng(0).beta(0.15, 2, 5_000).clip(1e-9, 1)


def test_equal_propensities_lose_nothing():
    report = diagnose(np.full(50, 0.02))
    assert (report.effective_events, report.effective_share) == (pytest.approx(50), pytest.approx(1))
    assert (report.largest_weight, report.clipped_share, report.advice) == (pytest.approx(1), 0, None)


def test_the_report_of_a_few_events_by_hand():
    # Weights 2, 2, 2, 10 over their mean 4: 0.5, 0.5, 0.5, 2.5.
    report = diagnose(np.array([0.5, 0.5, 0.5, 0.1]))
    assert report.effective_events == pytest.approx(16**2 / 112)
    assert report.largest_weight == pytest.approx(2.5)
    assert report.propensity_quantiles["0"] == 0.1
    assert report.weight_quantiles["0.5"] == pytest.approx(0.5)
    clipped = diagnose(np.array([0.5, 0.5, 0.5, 0.1]), clip=2)
    assert clipped.clipped_share == 0.25
    assert clipped.largest_weight == pytest.approx(2)


def test_an_explosion_of_variance_is_told_with_the_clip_that_ends_it():
    report = diagnose(HEAVY)
    assert report.effective_share < 0.1
    best = largest_clip(HEAVY)
    assert f"A clip of {best:g} is the largest that brings the share to 10%" in report.advice
    assert diagnose(HEAVY, clip=best).effective_share >= 0.1
    assert diagnose(HEAVY, clip=best).advice is None
    assert diagnose(HEAVY, clip=1.02 * best).effective_share < 0.1


@given(st.lists(st.floats(1e-9, 1), min_size=2, max_size=50).map(np.array), st.floats(0.05, 0.95))
def test_the_advised_clip_always_reaches_the_share(propensities, least):
    best = largest_clip(propensities, least)
    report = diagnose(propensities, best, least)
    assert report.effective_share >= least * (1 - 1e-9)
    assert best is None or 1 <= best < inverse_propensity_weights(propensities).max()


def test_equal_propensities_need_no_clip_whatever_their_mean_rounds_to():
    assert largest_clip(np.full(3, 0.625), 0.5) is None  # the weights' mean is a rounding above their largest


def test_a_share_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="least_effective is 1"):
        diagnose(HEAVY, least_effective=1)
    with pytest.raises(ValueError, match="not in"):
        diagnose(np.array([0.5, 0.0]))


def test_calibration_by_hand():
    found = calibration([0.1, 0.3, 0.8, 0.9], [0, 1, 1, 1], bins=2)
    assert found.rows == [
        {"count": 2, "predicted": pytest.approx(0.2), "observed": 0.5},
        {"count": 2, "predicted": pytest.approx(0.85), "observed": 1},
    ]
    assert found.expected_error == pytest.approx((0.3 + 0.15) / 2)


def test_equal_predictions_share_a_bin():
    found = calibration(np.repeat([0.2, 0.7], [700, 300]), np.tile([0, 1], 500), bins=10)
    assert [row["count"] for row in found.rows] == [700, 300]


def test_true_probabilities_are_calibrated_and_halved_ones_are_not():
    generator = np.random.default_rng(1)
    truth = generator.beta(1, 5, 50_000)
    happened = generator.random(50_000) < truth
    assert calibration(truth, happened).expected_error < 0.01
    assert [row["count"] for row in calibration(truth, happened).rows] == [5_000] * 10
    assert calibration(truth / 2, happened).expected_error == pytest.approx(truth.mean() / 2, abs=0.01)


def test_calibration_needs_pairs():
    with pytest.raises(ValueError, match=r"observed \(1,\)"):
        calibration([0.1, 0.2], [0])


def test_tables_and_plots_are_written(tmp_path):
    pytest.importorskip("matplotlib")
    write_report(diagnose(HEAVY), HEAVY, tmp_path)
    write_report(diagnose(np.full(5, 0.1)), np.full(5, 0.1), tmp_path, "equal-weights")
    write_calibration(calibration(HEAVY, HEAVY > 0.5), tmp_path)
    for name in ("propensity-weights", "equal-weights", "propensity-calibration"):
        assert {path.suffix for path in tmp_path.glob(f"{name}.*")} == {".json", ".csv", ".png", ".svg"}
    facts = json.loads((tmp_path / "propensity-weights.json").read_text())
    assert facts["advice"] == diagnose(HEAVY).advice
    with (tmp_path / "propensity-weights.csv").open() as file:
        shares = [float(row["effective_share"]) for row in csv.DictReader(file)]
    assert shares[0] == 1
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == pytest.approx(facts["effective_share"])
