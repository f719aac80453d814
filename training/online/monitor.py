"""The monitor: what online learning gains and forgets, version by version."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..experiments.outputs import write_plot, write_table
from .versions import Version

FORGETTING_LIMIT = 0.03
"""Share of the guard's NDCG@10 whose loss is warned of, before the learner's own limit rejects an update."""

RECENT_ASKED = 200
"""Events asked for before learning that are compared with all earlier ones."""
DRIFT_ERRORS, DRIFT_SHARE = 3.0, 0.15
"""Drift is a fall by more standard errors, and by a larger share, than these."""

GROUP_LIMIT = 0.1
"""The same of one group of users, whose mean is of fewer cases."""


def monitor_rows(versions: Sequence[Version]) -> list[dict[str, Any]]:
    """A row per version: events, NDCG@10 before learning (`prequential_ndcg`) and on the guard, distance, loss.

    `forgotten` is the share of the base's NDCG@10 on the guard that is lost; negative: gained. A column such as
    `forgotten [F]` is of a group of users, `prequential_ndcg [new users]` of those whom the base did not know.
    """
    rows = []
    for version in versions:
        facts = version.facts
        guard, base = facts.get("guard_ndcg"), facts.get("base_guard_ndcg")
        rows.append(
            {
                "version": version.name,
                "sequence": version.sequence,
                "events": version.events,
                "learned": facts.get("learned", 0),
                "loss": facts.get("loss"),
                "prequential_ndcg": facts.get("prequential_ndcg"),
                "prequential_sd": facts.get("prequential_sd"),
                "asked": facts.get("asked", 0),
                "guard_ndcg": guard,
                "forgotten": None if guard is None or not base else 1 - guard / base,
                "distance": facts.get("distance"),
                "rejected": bool(facts.get("rejected")),
                "memory_at_fault": bool(facts.get("memory_at_fault")),
            }
            | {f"prequential_ndcg [{group}]": value for group, value in facts.get("prequential_groups", {}).items()}
            | {
                f"forgotten [{group}]": 1 - facts["guard_groups"][group] / known
                for group, known in facts.get("base_guard_groups", {}).items()
                if known and group in facts.get("guard_groups", {})
            }
        )
    return rows


def warnings_of(rows: Sequence[dict[str, Any]], limit: float = FORGETTING_LIMIT) -> list[str]:
    """What somebody should look at, each with what to do."""
    lines = []
    last = rows[-1] if rows else None
    if last is not None and last["forgotten"] is not None and last["forgotten"] > limit:
        cure = "Raise --ewc or --replay, or lower --learning-rate."
        if last["memory_at_fault"]:
            cure = (
                "Not the weights, the memory costs it: it has taken in events unlike those of the base. Look at them; "
                "`llm4rec rollback MODEL VERSION --skip-events` takes them out again."
            )
        lines.append(
            f"Forgetting: version {last['version']} has lost {100 * last['forgotten']:.1f} % of the NDCG@10 that the "
            f"base had on held-out users (limit {100 * limit:g} %). {cure}"
        )
    groups = {} if last is None else {name: value for name, value in last.items() if name.startswith("forgotten [")}
    for name, value in groups.items():
        if value > GROUP_LIMIT and value > 2 * max(last["forgotten"] or 0.0, 0.0):
            lines.append(
                f"Forgetting in a group: version {last['version']} has lost {100 * value:.1f} % for users of group "
                f"{name.removeprefix('forgotten ')}, {100 * (last['forgotten'] or 0.0):.1f} % for all. Give the "
                "learner feedback of that group, raise --replay, or go back: `llm4rec rollback`."
            )
    rejected = [row["version"] for row in rows if row["rejected"]]
    if rejected:
        lines.append(
            f"Rejected: the updates of {', '.join(rejected[-5:])} cost too much and do not serve. Look at their "
            "events, or lower --learning-rate."
        )
    drift = _drift(rows)
    if drift is not None:
        before, recent = drift
        lines.append(
            f"Drift: NDCG@10 before learning is {recent:.4f} of late, it was {before:.4f}. If it stays there, train "
            "the model anew on recent data."
        )
    return lines


def _drift(rows: Sequence[dict[str, Any]]) -> tuple[float, float] | None:
    """NDCG@10 before learning, earlier and of late, where the fall is large and not by chance; `None` otherwise."""
    known = [row for row in rows if row["asked"] and row["prequential_sd"] is not None]
    late, asked = len(known), 0
    while late and asked < RECENT_ASKED:
        late -= 1
        asked += known[late]["asked"]
    if not late or asked < RECENT_ASKED:
        return None
    means, errors = zip(*(_mean_and_error(part) for part in (known[:late], known[late:])), strict=True)
    before, recent = means
    fell = before - recent > DRIFT_ERRORS * math.hypot(*errors) and recent < (1 - DRIFT_SHARE) * before
    return means if fell else None


def _mean_and_error(rows: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Mean over all that were asked, and its standard error."""
    count = sum(row["asked"] for row in rows)
    mean = sum(row["asked"] * row["prequential_ndcg"] for row in rows) / count
    spread = sum(row["asked"] * (row["prequential_sd"] ** 2 + (row["prequential_ndcg"] - mean) ** 2) for row in rows)
    return mean, math.sqrt(spread) / count


def write_monitor(folder: str | Path, rows: Sequence[dict[str, Any]]) -> None:
    """`monitor.json`, `.csv`, `.png` and `.svg`.

    Raises:
        ImportError: without matplotlib.
    """
    folder = Path(folder)
    write_table(folder, "monitor", {"rows": list(rows), "warnings": warnings_of(rows)})
    with write_plot(folder, "monitor", panels=2) as (accuracy, distance):
        names = {"prequential_ndcg": "new events, before learning", "guard_ndcg": "guard of the base"}
        groups = sorted({name for row in rows for name in row if name.startswith("prequential_ndcg [")})
        for name, label in (names | {name: name.partition("[")[2].rstrip("]") for name in groups}).items():
            known = [row for row in rows if row.get(name) is not None]
            style = "o-" if name in names else ".:"
            accuracy.plot([row["sequence"] for row in known], [row[name] for row in known], style, label=label)
        accuracy.set_ylabel("NDCG@10")
        accuracy.set_ylim(bottom=0)
        accuracy.legend()
        known = [row for row in rows if row["distance"] is not None]
        distance.plot([row["sequence"] for row in known], [row["distance"] for row in known], "o-", color="tab:red")
        distance.set_ylabel("Fisher-weighted distance from the base")
        for axes in (accuracy, distance):
            axes.set_xlabel("events of the log")


__all__ = ["monitor_rows", "warnings_of", "write_monitor"]
