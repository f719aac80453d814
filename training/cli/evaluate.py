"""`llm4rec evaluate`: full-catalog ranking metrics of a model, beside classical recommenders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .console import Console, JsonOption, quiet_libraries, to_json
from .histories import RevisionOption

NAME = "evaluate"
SHOWN = ("hr@10", "ndcg@10", "mrr@10", "coverage@10")


def command(
    model: Annotated[str, typer.Argument(help="Model folder or Hub id.")],
    data: Annotated[Path, typer.Argument(help="Prepared data set.")],
    split: Annotated[
        str | None, typer.Option(help="`leave_one_out` or `global_time`; default: the one the model was trained with.")
    ] = None,
    part: Annotated[str, typer.Option(help="`test` or `validation`.")] = "test",
    baselines: Annotated[bool, typer.Option(help="Also rank by the baselines that cost seconds.")] = True,
    baseline: Annotated[
        list[str] | None, typer.Option(help="Rank by this baseline instead, such as `ease-recency`; repeatable.")
    ] = None,
    explanations: Annotated[
        int, typer.Option(min=0, help="Also judge the explanations of so many users, about half a second each.")
    ] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Histories ranked at a time.")] = 512,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the result as JSON to this file.")
    ] = None,
    update_card: Annotated[
        bool, typer.Option("--update-card", help="Keep the result in the model folder and show it on its card.")
    ] = False,
    revision: RevisionOption = None,
    version: Annotated[
        str | None,
        typer.Option(help="Judge what a model folder has learned online: a version's name, or `current`."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Rank the whole catalog for every held-out event, with seen items filtered and unfiltered."""
    if output is not None:
        if output.is_dir():
            raise IsADirectoryError(f"{output} is a folder, expected the name of a file to write.")
        output.parent.mkdir(parents=True, exist_ok=True)
    if update_card and version is not None:
        raise typer.BadParameter(
            "The card is that of the model as it was trained: leave out --version or --update-card."
        )
    if update_card and not Path(model).is_dir():
        raise typer.BadParameter("--update-card needs a model folder; push it to bring the card to the Hub.")
    console = Console(as_json)
    quiet_libraries()
    from ..evaluate import evaluate_model

    report = evaluate_model(
        model,
        data,
        split=split,
        part=part,
        baselines=baseline or baselines,
        explanations=explanations,
        batch_size=batch_size,
        revision=revision,
        version=version,
        say=console.say,
        progress=console.shows_progress,
    )
    console.say()
    show(console, report)
    if output is not None:
        output.write_text(to_json(report) + "\n", encoding="utf-8")
        console.say(f"Wrote {output}")
    if update_card:
        keep_with_model(Path(model), report)
        console.say(f"Card: {Path(model) / 'README.md'}")
    console.result(report)


def keep_with_model(folder: Path, report: dict[str, Any]) -> None:
    """Write `evaluation.json` into a model folder, and what it says onto its card."""
    from ..card_results import EVALUATION_FILE, add_evaluation

    kept = {name: value for name, value in report.items() if name not in ("model", "revision")}
    (folder / EVALUATION_FILE).write_text(to_json(kept) + "\n", encoding="utf-8")
    add_evaluation(folder, report)


def show(console: Console, report: dict[str, Any]) -> None:
    """Print one row per recommender and protocol."""
    for protocol, words in (("filtered", "seen items filtered"), ("unfiltered", "seen items not filtered")):
        console.say(f"{report['split']}, {report['part']}, {report['cases']:,} users, {words}")
        console.table(
            ["", *(name.upper() for name in SHOWN)],
            [
                [name, *(_shown(report, name, f"{protocol}/{metric}") for metric in SHOWN)]
                for name in report["metrics"]
            ],
        )
        for outcome in report["comparisons"]:
            if outcome["metric"].startswith(f"{protocol}/"):
                console.say(
                    f"llm4rec - {outcome['baseline']}: NDCG@10 {outcome['difference']:+.4f}, 95 % interval "
                    f"{outcome['low']:+.4f} to {outcome['high']:+.4f}, p = {outcome['p_value']:.2g}"
                )
        console.say()
    if report["retrieval"]:
        _show_retrieval(console, report["retrieval"])
    if report["explanations"]:
        _show_explanations(console, report["explanations"])


def _show_retrieval(console: Console, diagnostics: dict[str, float], k: int = 10) -> None:
    """How often what really came next was among the K items that each source of the memory found."""
    names = [name.partition("/")[0] for name in diagnostics if name.endswith(f"/precision@{k}")]
    console.table(
        ["retrieved", f"precision@{k}", f"hit share@{k}"],
        [[name, *(diagnostics[f"{name}/{metric}@{k}"] for metric in ("precision", "hit_share"))] for name in names],
    )
    console.say()


def _show_explanations(console: Console, found: dict[str, float]) -> None:
    """Whether what explanations name is what moves the score, and whether their sentences hold."""
    intervals = [
        ("the item named first costs more than a random one", "deletion_wins"),
        ("deletion, nats ahead of random orders", "deletion_area"),
        ("insertion, nats ahead of random orders", "insertion_area"),
    ]
    rows = [
        [words, f"{found[name]:.3f} ({found[f'{name}/low']:.3f} to {found[f'{name}/high']:.3f})"]
        for words, name in intervals
    ]
    rows += [
        ["claims that the evidence does not bear out", f"{found['unresolved_claims']:.0f} of {found['claims']:,.0f}"],
        ["unique sentences", f"{found['unique_sentence_ratio']:.3f}"],
    ]
    console.table([f"explanations of {found['users']:.0f} users", "95 % interval"], rows)
    console.say()


def _shown(report: dict[str, Any], name: str, metric: str) -> float | str:
    """A metric's value, with ± half its interval where there is one."""
    value, interval = report["metrics"][name][metric], report["intervals"][name].get(metric)
    return value if interval is None else f"{value:.4f} ±{(interval['high'] - interval['low']) / 2:.4f}"
