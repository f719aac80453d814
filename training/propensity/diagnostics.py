r"""Diagnostics of propensities: do the weights leave enough effective events, and are the probabilities right?

Run before training with weights; the advice names the clip that brings the variance down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..experiments.outputs import write_plot, write_table
from .inverse_weights import (
    check_propensities,
    clip_threshold,
    effective_sample_size,
    inverse_propensity_weights,
)

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
BISECTIONS = 60


@dataclass(frozen=True)
class PropensityReport:
    r"""What weights by these propensities are like.

    Attributes:
        events: number n of events.
        clip: largest weight in units of the mean weight, as asked for.
        effective_events: Kish's effective sample size of the weights.
        effective_share: of the events, in (0, 1].
        largest_weight: in units of the mean weight.
        clipped_share: events whose weight was clipped.
        propensity_quantiles: by share of events, such as `0.5`.
        weight_quantiles: the same, of the weights used.
        advice: what to do; `None` where the effective share is high enough.
    """

    events: int
    clip: float | None
    effective_events: float
    effective_share: float
    largest_weight: float
    clipped_share: float
    propensity_quantiles: dict[str, float]
    weight_quantiles: dict[str, float]
    advice: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: every attribute by its name."""
        return asdict(self)


@dataclass(frozen=True)
class Calibration:
    r"""Predicted probabilities beside what happened, in bins of about equal size.

    Attributes:
        rows: per bin, by ascending prediction: `count`, `predicted` (mean), `observed` (share).
        expected_error: expected calibration error, :math:`\sum_b \frac{n_b}{n} \lvert \bar o_b - \bar p_b \rvert`.
    """

    rows: list[dict[str, float]]
    expected_error: float


def diagnose(propensities: np.ndarray, clip: float | None = None, least_effective: float = 0.1) -> PropensityReport:
    """Report on weights, with advice where their variance explodes.

    Args:
        propensities: (n,) of the events, in (0, 1].
        clip: as in :func:`~llm4rec.training.propensity.inverse_weights.inverse_propensity_weights`.
        least_effective: share of effective events below which there is advice, in (0, 1).

    Raises:
        ValueError: if a propensity is not in (0, 1] or an argument is outside its range.
    """
    propensities = check_propensities(propensities)
    weights = inverse_propensity_weights(propensities, clip)
    unclipped = inverse_propensity_weights(propensities)
    clipped = np.zeros(1) if clip is None else unclipped > clip_threshold(unclipped, clip)
    effective = effective_sample_size(weights)
    share = effective / len(weights)
    advice = None
    best = largest_clip(propensities, least_effective)
    if share < least_effective and best is not None:
        advice = (
            f"The {len(weights):,} events are worth {effective:,.1f} ({share:.2%}), because the largest weighs "
            f"{weights.max():,.0f} times the mean: what is learned from them hangs on a few. A clip of {best:g} is "
            f"the largest that brings the share to {least_effective:.0%}; it costs some bias."
        )
    return PropensityReport(
        events=len(weights),
        clip=clip,
        effective_events=effective,
        effective_share=share,
        largest_weight=float(weights.max()),
        clipped_share=float(clipped.mean()),
        propensity_quantiles=_quantiles(propensities),
        weight_quantiles=_quantiles(weights),
        advice=advice,
    )


def largest_clip(propensities: np.ndarray, least_effective: float = 0.1) -> float | None:
    """Largest clip, rounded down to three digits, with which this share of the events is effective.

    Found by bisection: the effective share falls from 1, at a clip of 1, to that of the unclipped weights.

    Returns:
        the clip, or `None` if no clip is needed.

    Raises:
        ValueError: if `least_effective` is outside (0, 1).
    """
    if not 0 < least_effective < 1:
        raise ValueError(f"least_effective is {least_effective}, expected a share in (0, 1), such as 0.1.")
    weights = inverse_propensity_weights(propensities)

    def enough(clip: float) -> bool:
        threshold = clip_threshold(weights, clip)
        return effective_sample_size(np.minimum(weights, threshold)) >= least_effective * len(weights)

    low, high = 1.0, max(1.0, float(weights.max()))  # equal weights may lie a rounding below their mean
    if enough(high):
        return None
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if enough(middle) else (low, middle)
    digits = 2 - int(np.floor(np.log10(low)))
    return float(np.floor(low * 10.0**digits) / 10.0**digits)


def calibration(predicted: np.ndarray, observed: np.ndarray, bins: int = 10) -> Calibration:
    """Compare predicted probabilities with what happened.

    Bins hold equally many pairs, except that equal predictions stay together. Relative propensities have no scale
    and cannot be calibrated.

    Args:
        predicted: (n,) probabilities.
        observed: (n,) 0 or 1, whether it happened; of all pairs or a random sample of them, not of events alone.
        bins: number of bins, at least 1; empty ones are left out.

    Raises:
        ValueError: if shapes differ, there is nothing, or `bins` is below 1.
    """
    predicted, observed = np.asarray(predicted, dtype=np.float64), np.asarray(observed, dtype=np.float64)
    if predicted.ndim != 1 or predicted.shape != observed.shape or not len(predicted) or bins < 1:
        raise ValueError(
            f"predicted of shape {predicted.shape}, observed {observed.shape}, bins={bins}: expected arrays (n,) of "
            "one length above 0 and at least one bin."
        )
    ascending = np.sort(predicted)
    middle = np.searchsorted(ascending, predicted, "left") + np.searchsorted(ascending, predicted, "right")
    place = np.minimum(middle * bins // (2 * len(predicted)), bins - 1)
    counts = np.bincount(place, minlength=bins)
    filled = np.flatnonzero(counts)
    means = [np.bincount(place, values, minlength=bins)[filled] / counts[filled] for values in (predicted, observed)]
    rows = [
        {"count": int(count), "predicted": float(mean), "observed": float(share)}
        for count, mean, share in zip(counts[filled], *means, strict=True)
    ]
    error = float(np.abs(means[0] - means[1]) @ counts[filled] / len(predicted))
    return Calibration(rows, error)


def write_calibration(found: Calibration, folder: Path, name: str = "propensity-calibration") -> None:
    """Table and plot of predicted against observed rates: `name` as JSON, CSV, PNG and SVG.

    Raises:
        ImportError: without matplotlib, after the table is written.
    """
    write_table(folder, name, {"expected_error": found.expected_error, "rows": found.rows})
    predicted, observed = ([row[key] for row in found.rows] for key in ("predicted", "observed"))
    with write_plot(folder, name) as axes:
        top = max(*predicted, *observed)
        axes.plot([0, top], [0, top], "--", color="tab:gray", label="perfect")
        axes.plot(predicted, observed, "o-", label=f"expected error {found.expected_error:.4f}")
        axes.set_xlabel("predicted propensity")
        axes.set_ylabel("observed rate")
        axes.legend()


def write_report(
    report: PropensityReport,
    propensities: np.ndarray,
    folder: Path,
    name: str = "propensity-weights",
    clips: Sequence[float] = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000),
) -> None:
    """Table and plots of the weights: `name` as JSON, CSV, PNG and SVG.

    Rows are clips and the share of effective events under each, those above the largest weight left out.

    Args:
        propensities: (n,) that the report is about.
        clips: to compare, at least 1.

    Raises:
        ImportError: without matplotlib, after the table is written.
    """
    unclipped = inverse_propensity_weights(propensities)
    tried = [clip for clip in clips if clip < unclipped.max()]
    rows: list[dict[str, Any]] = [
        {"clip": clip, "effective_share": diagnose(propensities, clip).effective_share} for clip in tried
    ]
    rows.append({"clip": None, "effective_share": effective_sample_size(unclipped) / len(unclipped)})
    write_table(folder, name, report.to_dict() | {"rows": rows})
    with write_plot(folder, name, panels=2) as (weights, shares):
        used = inverse_propensity_weights(propensities, report.clip)
        edges = np.geomspace(used.min(), max(used.max(), used.min() * 1.01), 41)
        weights.hist(np.clip(used, edges[0], edges[-1]), bins=edges)
        weights.set_xscale("log")
        weights.set_yscale("log")
        weights.set_ylim(bottom=0.8)
        weights.set_xlabel("weight, in mean weights")
        weights.set_ylabel("events")
        points = [float(unclipped.max()) if row["clip"] is None else row["clip"] for row in rows]
        shares.plot(points, [row["effective_share"] for row in rows], "o-")
        shares.set_xscale("log")
        shares.set_ylim(0, 1.05)
        shares.set_xlabel("clip, in mean weights")
        shares.set_ylabel("share of effective events")


def _quantiles(values: np.ndarray) -> dict[str, float]:
    return {f"{share:g}": float(value) for share, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)}
