"""What the monitor says of versions, and what it warns of."""

import json
import re

import numpy as np
import pytest
from llm4rec.training.online.anchor import Anchor
from llm4rec.training.online.monitor import monitor_rows, warnings_of, write_monitor
from llm4rec.training.online.user_histories import UserHistories
from llm4rec.training.online.versions import Version


def version(number, guard=0.5, groups=None, asked=0.2, count=120, **facts):
    sampled = {"asked": count, "prequential_sd": 0.3}
    known = sampled | {
        "guard_ndcg": guard,
        "base_guard_ndcg": 0.5,
        "prequential_ndcg": asked,
        "distance": 0.1 * number,
    }
    grouped = {"base_guard_groups": {"F": 0.4, "M": 0.6}, "guard_groups": groups} if groups else {}
    return Version(f"{number:06d}", number * 10, "base", 0.0, 10, known | grouped | facts)


def test_what_is_forgotten_is_the_share_of_what_the_base_knew():
    rows = monitor_rows([Version("base"), version(1, guard=0.4, groups={"F": 0.1, "M": 0.6})])
    assert rows[0]["forgotten"] is None
    assert rows[1]["forgotten"] == pytest.approx(0.2)
    assert rows[1]["forgotten [F]"] == pytest.approx(0.75)
    assert rows[1]["forgotten [M]"] == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ([version(1)], []),
        ([version(1, guard=0.4)], ["Forgetting: version 000001 has lost 20.0 % .* Raise --ewc or --replay"]),
        (
            [version(1, guard=0.4, memory_at_fault=True)],
            ["Forgetting: version 000001 has lost 20.0 % .* Not the weights, the memory .* rollback"],
        ),
        ([version(1, guard=0.4), version(2)], []),
        (
            [version(1, groups={"F": 0.3, "M": 0.6})],
            [r"Forgetting in a group: .* lost 25.0 % for users of group \[F\]"],
        ),
        ([version(1, rejected=True), version(2)], ["Rejected: the updates of 000001"]),
        ([version(n, asked=0.3 if n < 4 else 0.1) for n in range(1, 6)], ["Drift: NDCG@10 before learning is 0.1000"]),
    ],
)
def test_warnings_say_what_happened_in_the_last_version(versions, expected):
    lines = warnings_of(monitor_rows(versions))
    assert len(lines) == len(expected)
    for line, pattern in zip(lines, expected, strict=True):
        assert re.search(pattern, line)


def test_a_loss_that_all_groups_share_is_told_once():
    lines = warnings_of(monitor_rows([version(1, guard=0.25, groups={"F": 0.2, "M": 0.3})]))
    assert [line.partition(":")[0] for line in lines] == ["Forgetting"]


def test_tables_and_plots_hold_groups_that_only_some_versions_have(tmp_path):
    rows = monitor_rows([version(1), version(2, prequential_groups={"new users": 0.3}, groups={"F": 0.4, "M": 0.6})])
    write_monitor(tmp_path, rows)
    assert {path.name for path in tmp_path.iterdir()} == {f"monitor.{kind}" for kind in ("json", "csv", "png", "svg")}
    assert json.loads((tmp_path / "monitor.json").read_text())["rows"][1]["prequential_ndcg [new users]"] == 0.3
    assert "new users" in (tmp_path / "monitor.svg").read_text()


def test_the_guard_is_averaged_by_group_in_the_order_of_its_cases():
    histories = UserHistories(5, 3)
    for user in ("a", "b", "c", "d"):
        histories.append(user, 1)
    anchor = Anchor(
        histories, histories, {"a": 2, "gone": 2, "b": 3, "c": 4, "d": 0}, groups={"a": "F", "b": "M", "c": "F"}
    )
    assert len(anchor.guard_cases()) == 4
    assert anchor.by_group(np.array([1.0, 0.5, 0.0, 0.9])) == {"F": 0.5, "M": 0.5}


def test_chance_is_no_drift():
    """A thousand monitors of streams that do not drift: few of them warn, as three standard errors promise."""
    rng = np.random.default_rng(0)
    warned = 0
    for _ in range(1000):
        values = (rng.random((30, 32)) < 0.1) * rng.uniform(0.3, 1.0, (30, 32))
        versions = [
            version(n, asked=part.mean(), count=32, prequential_sd=part.std())
            for n, part in enumerate(values, start=1)
        ]
        warned += bool(warnings_of(monitor_rows(versions)))
    assert warned < 10
