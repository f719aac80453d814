"""A blinded study: one recommendation, two explanations in random order, ratings of trust and usefulness.

Ratings are stored as JSON Lines, one a trial, on the disk before the next trial is shown. No name, no address: a
participant is the random name of a session.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MEASURES = ("trust", "usefulness")
SCALE = (1, 2, 3, 4, 5)
LEAST_PARTICIPANTS = 6
"""Pairs that the Wilcoxon test needs to be able to find anything at the 5 % level."""


@dataclass(frozen=True)
class Trial:
    """What a participant is shown; which style stands first stays unsaid.

    Attributes:
        item_id, title: of the recommended item.
        styles: in the order of display, first and second.
        texts: beside them.
    """

    item_id: str
    title: str
    styles: tuple[str, str]
    texts: tuple[str, str]


@dataclass(frozen=True)
class Judgement:
    """One finished trial; ratings are of the style that is named, from 1 to 5."""

    participant: str
    item_id: str
    model: str
    styles: tuple[str, str]
    trust: tuple[int, int]
    usefulness: tuple[int, int]
    time: float

    def __post_init__(self) -> None:
        for measure in MEASURES:
            for value in getattr(self, measure):
                if isinstance(value, bool) or value not in SCALE:
                    raise ValueError(
                        f"{measure} is rated {value!r}, expected a whole number from {SCALE[0]} to {SCALE[-1]}: rate "
                        "both explanations first."
                    )


def draw_trial(records: list[dict[str, Any]], texts: dict[str, list[str]], chance: random.Random) -> Trial | None:
    """An item of a list, with its two explanations in random order; `None` if the styles say the same of all items.

    Args:
        records: of the list; texts: by style, one for each record.
    """
    first, second = texts
    places = [place for place in range(len(records)) if texts[first][place] != texts[second][place]]
    if not places:
        return None
    place = chance.choice(places)
    styles = (first, second) if chance.random() < 0.5 else (second, first)
    return Trial(
        records[place]["item_id"],
        records[place]["title"],
        styles,
        tuple(texts[style][place] for style in styles),
    )


class StudyLog:
    """The ratings of a study.

    Args:
        path: the file; its folder is made with the first rating.
        styles: that are compared.
    """

    def __init__(self, path: Path, styles: tuple[str, str]):
        self.path, self.styles = path, styles
        self._lock = threading.Lock()

    def add(self, judgement: Judgement) -> None:
        """Write a judgement; it is on the disk when this returns."""
        line = json.dumps(asdict(judgement), ensure_ascii=False)
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())

    def judgements(self) -> list[Judgement]:
        """All that were stored of these styles; a last line that was cut off by a crash is left out."""
        if not self.path.exists():
            return []
        found = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                values = json.loads(line)
                pairs = {name: tuple(values[name]) for name in ("styles", *MEASURES)}
                judgement = Judgement(**{**values, **pairs})
            except (ValueError, TypeError, KeyError):
                continue
            if set(judgement.styles) == set(self.styles):
                found.append(judgement)
        return found

    def to_csv(self) -> str:
        """A line for each explanation that was rated."""
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(["participant", "item_id", "model", "style", "shown", "trust", "usefulness", "time"])
        for one in self.judgements():
            for place, style in enumerate(one.styles):
                shown = ("first", "second")[place]
                ratings = [one.trust[place], one.usefulness[place]]
                row = [one.participant, one.item_id, one.model, style, shown, *ratings, round(one.time)]
                writer.writerow([_harmless(value) for value in row])
        return out.getvalue()

    def summary(self) -> dict[str, Any]:
        """Means of both styles, and a Wilcoxon signed-rank test over participants.

        Trials of one participant are no independent observations, so the test compares each participant's mean rating
        of one style with that of the other.

        Returns:
            `trials participants styles`, and for each measure `means` of the styles, `difference` and `p`, which is
            `None` below :data:`LEAST_PARTICIPANTS` participants who tell the styles apart.
        """
        judgements = self.judgements()
        people = sorted({one.participant for one in judgements})
        facts: dict[str, Any] = {
            "trials": len(judgements),
            "participants": len(people),
            "styles": list(self.styles),
        }
        for measure in MEASURES:
            means = {style: [_mean(judgements, person, style, measure) for person in people] for style in self.styles}
            pairs = [a - b for a, b in zip(*means.values(), strict=True)]
            facts[measure] = {
                "means": {style: sum(values) / len(values) if values else None for style, values in means.items()},
                "difference": sum(pairs) / len(pairs) if pairs else None,
                "p": _wilcoxon(pairs),
            }
        return facts


def _mean(judgements: list[Judgement], person: str, style: str, measure: str) -> float:
    values = [getattr(one, measure)[one.styles.index(style)] for one in judgements if one.participant == person]
    return sum(values) / len(values)


def _wilcoxon(differences: list[float]) -> float | None:
    apart = [value for value in differences if value]
    if len(apart) < LEAST_PARTICIPANTS:
        return None
    from scipy.stats import wilcoxon

    return float(wilcoxon(apart).pvalue)


def _harmless(value: Any) -> Any:
    """A cell that a spreadsheet does not take for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def now() -> float:
    """Unix seconds."""
    return time.time()
