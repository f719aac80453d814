"""Off-policy estimates against the truth: what would the random policy have earned, by the log of the other one?

    python benchmarks/open_bandit.py --data $DATA

The Open Bandit Dataset (Saito et al., *Open Bandit Dataset and Pipeline*, NeurIPS 2021 data sets track) holds the logs
of two policies that ran at the same time on the same shop: uniformly random, and Bernoulli Thompson sampling (BTS),
whose propensities were logged. Here the click rate of the random policy is estimated from the BTS log alone and
compared with the rate in its own log, which is an estimate as well: 10,000 rounds with some 50 clicks each.

Every round is one item in one of three positions, with its propensity there. One row a campaign goes to
`benchmarks/results/open-bandit/`. The limit of the `-clipped` weights is read off the propensities, never the clicks:
the largest at which a tenth of the rounds is effective.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from llm4rec.benchmarks.run import RESULTS
from llm4rec.training.evaluation.off_policy import (
    OffPolicyEstimate,
    doubly_robust_estimate,
    inverse_propensity_estimate,
    self_normalised_estimate,
)
from llm4rec.training.evaluation.report import report_row
from llm4rec.training.evaluation.reward_model import cross_fitted_rewards
from llm4rec.training.propensity.diagnostics import largest_clip
from llm4rec.training.propensity.inverse_weights import clip_threshold

CAMPAIGNS = ("men", "women")
COMMAND = "python benchmarks/open_bandit.py --data $DATA"
EFFECTIVE = 0.1
"""Share of effective rounds that the clipped estimates keep."""
RESAMPLES = 10_000
SEED = 0


@dataclass
class Log:
    """Rounds of one policy in one campaign.

    Shape (all (rounds,) but the last):
        - clicks: float64, 0 or 1
        - items, positions: int
        - propensities: float64
        - context: (rounds, d) float64, the user's features, one-hot
    """

    clicks: np.ndarray
    items: np.ndarray
    positions: np.ndarray
    propensities: np.ndarray
    context: np.ndarray


def read_log(folder: Path, policy: str, campaign: str) -> tuple[Log, int]:
    """The log of a policy, and how many items it chose from.

    Raises:
        FileNotFoundError: if it is not below `folder`.
    """
    path = folder / policy / campaign / f"{campaign}.csv"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} not found: expected the small Open Bandit Dataset, <policy>/<campaign>/<campaign>.csv, in the "
            "folder open-bandit of --data."
        )
    table = pl.read_csv(path)
    items = pl.read_csv(path.with_name("item_context.csv"))
    log = Log(
        clicks=table["click"].to_numpy().astype(np.float64),
        items=table["item_id"].to_numpy(),
        positions=table["position"].to_numpy(),
        propensities=table["propensity_score"].to_numpy(),
        context=table.select(pl.col("^user_feature_.*$").cast(pl.String)).to_dummies().to_numpy().astype(np.float64),
    )
    return log, len(items)


def mean_clicks(log: Log) -> OffPolicyEstimate:
    """Click rate of the policy that ran: every weight is 1."""
    ones = np.ones(len(log.clicks))
    return inverse_propensity_estimate(log.clicks, ones, ones, resamples=RESAMPLES, seed=SEED)


def estimates_of_random(log: Log, num_items: int) -> tuple[dict[str, OffPolicyEstimate], float]:
    """Estimates of the random policy from another policy's log, by name, and the limit of clipped weights."""
    uniform = np.full(len(log.clicks), 1 / num_items)
    weights = uniform / log.propensities
    share = largest_clip(log.propensities, EFFECTIVE)
    limit = float(weights.max()) if share is None else clip_threshold(weights, share)
    predicted, expected = cross_fitted_rewards(
        log.clicks, log.items, uniform[:num_items], log.positions, log.context, seed=SEED
    )
    found = {"naive": mean_clicks(log)}
    for name, clip in (("", None), ("-clipped", limit)):
        shared = {"clip": clip, "resamples": RESAMPLES, "seed": SEED}
        rounds = (log.clicks, log.propensities, uniform)
        found[f"ips{name}"] = inverse_propensity_estimate(*rounds, **shared)
        found[f"snips{name}"] = self_normalised_estimate(*rounds, **shared)
        found[f"dr{name}"] = doubly_robust_estimate(*rounds, predicted, expected, **shared)
    return found, limit


def compared(found: OffPolicyEstimate, observed: OffPolicyEstimate) -> dict[str, float]:
    """An estimate beside the rate of the random log.

    `covers`: 1 if the interval holds the observed rate. `z`: the difference in standard errors of it, both estimates'
    together; beyond 1.96 it is more than chance at 5 %, as far as standard errors of rare clicks go.
    """
    error = np.hypot(found.standard_error, observed.standard_error)
    return {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "standard_error": found.standard_error,
        "effective_sample_size": found.effective_sample_size,
        "mean_weight": found.mean_weight,
        "covers": float(found.low <= observed.value <= found.high),
        "z": float((found.value - observed.value) / error),
    }


def campaign_row(folder: Path, campaign: str) -> dict[str, Any]:
    """Estimate, compare, and assemble the row of one campaign."""
    started = time.perf_counter()
    log, num_items = read_log(folder, "bts", campaign)
    truth, _ = read_log(folder, "random", campaign)
    observed = mean_clicks(truth)
    found, limit = estimates_of_random(log, num_items)
    metrics = {f"observed/{name}": getattr(observed, name) for name in ("value", "low", "high", "standard_error")}
    for name, estimate in found.items():
        metrics |= {f"{name}/{metric}": value for metric, value in compared(estimate, observed).items()}
    config = {
        "rounds": len(log.clicks),
        "clicks": int(log.clicks.sum()),
        "random_rounds": len(truth.clicks),
        "random_clicks": int(truth.clicks.sum()),
        "items": num_items,
        "smallest_propensity": float(log.propensities.min()),
        "clip": limit,
        "effective_share_of_clipped": EFFECTIVE,
        "reward_model": "logistic regression on item, position and user features, 5 folds",
        "confidence": observed.confidence,
        "resamples": RESAMPLES,
    }
    return report_row(
        f"open-bandit/{campaign}",
        "off-policy",
        "random policy from the log of Bernoulli Thompson sampling",
        metrics,
        seed=SEED,
        seconds=time.perf_counter() - started,
        command=COMMAND,
        config=config,
    )


def table_lines(row: dict[str, Any]) -> list[str]:
    """The row as a table for people."""
    metrics, config = row["metrics"], row["config"]
    names = [name.removesuffix("/z") for name in metrics if name.endswith("/z")]
    lines = [
        f"{row['dataset']}: {config['rounds']:,} rounds of BTS, {config['items']} items, smallest propensity "
        f"{config['smallest_propensity']:g}; weights clipped at {config['clip']:.1f}",
        f"{'':14}{'click rate':>11}{'95 % interval':>21}{'effective':>11}{'mean weight':>13}{'covers':>8}{'z':>7}",
        f"{'random log':14}{metrics['observed/value']:>11.4f}{_interval(metrics, 'observed'):>21}"
        f"{config['random_rounds']:>11,}",
    ]
    for name in names:
        rounds, mean_weight = metrics[f"{name}/effective_sample_size"], metrics[f"{name}/mean_weight"]
        lines.append(
            f"{name:14}{metrics[f'{name}/value']:>11.4f}{_interval(metrics, name):>21}{rounds:>11,.0f}"
            f"{mean_weight:>13.2f}{'yes' if metrics[f'{name}/covers'] else 'no':>8}{metrics[f'{name}/z']:>7.2f}"
        )
    return lines


def _interval(metrics: dict[str, float], name: str) -> str:
    return f"{metrics[f'{name}/low']:.4f} to {metrics[f'{name}/high']:.4f}"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the folder open-bandit")
    args = parser.parse_args()
    for campaign in CAMPAIGNS:
        row = campaign_row(args.data / "open-bandit", campaign)
        path = RESULTS / "open-bandit" / f"{campaign}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
        print("\n".join(table_lines(row)), f"Wrote {path}", sep="\n", end="\n\n")


if __name__ == "__main__":
    main()
