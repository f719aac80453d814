"""What an evaluation found, on the model card: a section of its text, and `model-index` metadata that the Hub reads.

`llm4rec evaluate --update-card` calls :func:`add_evaluation`. Only what stands between two marks of the card is
written anew, so words of the author stay.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard

from .load import short_reason

CARD_FILE = "README.md"
EVALUATION_FILE = "evaluation.json"
BEGIN, END = "<!-- evaluation: begin -->", "<!-- evaluation: end -->"

PROTOCOLS = {"filtered": "seen items filtered", "unfiltered": "seen items not filtered"}
ACCURACY = ("hr@10", "ndcg@10", "mrr@10", "recall@20")
BEYOND = {
    "coverage@10": "share of the catalog that is recommended to anybody",
    "gini@10": "how unequally items are recommended; 0: all alike",
    "novelty@10": "bits of surprise of what is recommended",
    "popularity_lift@10": "popularity of what is recommended against that of histories, minus 1",
    "category_diversity@10": "how different the categories of a list are",
    "miscalibration@10": "how far the categories of a list are from those of the history; 0: not at all",
}
GAPS = {
    "hr_gap@10": "largest difference of HR@10 between groups",
    "ndcg_gap@10": "largest difference of NDCG@10 between groups",
    "parity_gap@10": "how differently groups are served, by category; 0: alike",
}


def results_section(report: dict[str, Any]) -> str:
    """The results as Markdown.

    Args:
        report: of `evaluate_model`.
    """
    own = report["metrics"]["llm4rec"]
    where = f"{report['part']} events of `{report['dataset']}`, split {report['split']}"
    lines = [
        f"Full-catalog ranking of {report['items']:,} items for {report['cases']:,} users, {where}; {report['date']}.",
        "",
        *_table(["", *PROTOCOLS.values()], [_row(_title(name), own, name) for name in ACCURACY]),
    ]
    interval = report["intervals"]["llm4rec"].get("filtered/ndcg@10")
    if interval is not None:
        lines += [
            "",
            f"95 % interval of NDCG@10 with seen items filtered, by bootstrap over users: {interval['low']:.4f} to "
            f"{interval['high']:.4f}.",
        ]
    if len(report["metrics"]) > 1:
        rows = [_row(name, metrics, "ndcg@10") for name, metrics in report["metrics"].items()]
        lines += ["", "NDCG@10 beside other recommenders:", "", *_table(["", *PROTOCOLS.values()], rows)]
    for title, names in (("Beyond accuracy:", BEYOND), (_fairness_title(report), GAPS)):
        rows = [[*_row(f"`{name}`", own, name), words] for name, words in names.items() if f"filtered/{name}" in own]
        if rows:
            lines += ["", title, "", *_table(["", *PROTOCOLS.values(), "meaning"], rows)]
    judged = report.get("explanations")
    if judged:
        lines += [
            "",
            f"Explanations of {judged['users']:.0f} users: without the history item that is named first the score "
            f"falls more than without a random one in {judged['deletion_wins']:.1%} of cases; "
            f"{judged['unresolved_claims']:.0f} of {judged['claims']:,.0f} claims are not borne out by the evidence.",
        ]
    return "\n".join(lines)


def eval_results(report: dict[str, Any]) -> list[EvalResult]:
    """The results of the model as the Hub's metadata, both protocols."""
    own = report["metrics"]["llm4rec"]
    found = []
    for protocol, words in PROTOCOLS.items():
        for name in (*ACCURACY, *BEYOND, *GAPS):
            if f"{protocol}/{name}" not in own:
                continue
            kind, _, k = name.partition("@")
            found.append(
                EvalResult(
                    task_type="recommendation",
                    task_name="Sequential recommendation",
                    dataset_type=re.sub(r"[^\w./-]+", "-", report["dataset"]).strip("-") or "own-data",
                    dataset_name=report["dataset"],
                    dataset_config=report["split"],
                    dataset_split=report["part"],
                    metric_type=kind,
                    metric_name=f"{_title(kind)}@{k} ({words})",
                    metric_value=round(own[f"{protocol}/{name}"], 4),
                )
            )
    return found


def add_evaluation(folder: Path, report: dict[str, Any]) -> None:
    """Show an evaluation on the card of a model folder, in place of an earlier one on the same data.

    Args:
        report: of `evaluate_model`.

    Raises:
        ValueError: if the metadata of the card cannot be read.
        OSError: if the card cannot be written.
    """
    path = folder / CARD_FILE
    text = (
        path.read_text(encoding="utf-8") if path.is_file() else f"---\nlibrary_name: llm4rec\n---\n\n# {folder.name}\n"
    )
    try:
        card = ModelCard(text, ignore_metadata_errors=False)
    except Exception as error:  # YAML's and the client's own
        raise ValueError(f"The metadata at the top of {path} cannot be read: {short_reason(error)}") from error
    card.text = with_section(card.text, results_section(report))
    new = eval_results(report)
    known = {_identity(result) for result in new}
    card.data.eval_results = [r for r in card.data.eval_results or () if _identity(r) not in known] + new
    card.data.model_name = card.data.model_name or folder.name
    written = path.with_name(f"{path.name}.part")
    written.write_text(str(card), encoding="utf-8")
    os.replace(written, path)


def with_section(text: str, section: str) -> str:
    """The text of a card with the section between the marks; at the end, under a heading, if there are none."""
    marked = f"{BEGIN}\n{section}\n{END}"
    if BEGIN in text and END in text.split(BEGIN, 1)[1]:
        before, rest = text.split(BEGIN, 1)
        return before + marked + rest.split(END, 1)[1]
    return f"{text.rstrip()}\n\n## Results\n\n{marked}\n"


def _title(metric: str) -> str:
    """`ndcg` as NDCG, `popularity_lift` as Popularity lift."""
    kind = metric.partition("@")[0]
    if kind in ("hr", "ndcg", "mrr"):
        return metric.upper()
    return (
        metric.replace("hr_", "HR ").replace("ndcg_", "NDCG ").replace("_", " ").replace(kind[0], kind[0].upper(), 1)
    )


def _identity(result: EvalResult) -> tuple:
    return (result.dataset_name, result.dataset_config, result.dataset_split, result.metric_name)


def _fairness_title(report: dict[str, Any]) -> str:
    return f"Between groups of users by `{report.get('user_groups')}`:"


def _row(name: str, metrics: dict[str, float], metric: str) -> list[str]:
    values = [metrics.get(f"{protocol}/{metric}") for protocol in PROTOCOLS]
    return [name, *("" if value is None else f"{value:.4f}" for value in values)]


def _table(header: Sequence[str], rows: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, *rows)]
    return [lines[0], "|" + "---|" * len(header), *lines[1:]]
