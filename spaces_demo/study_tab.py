"""The tab of the blinded study: two explanations of one recommendation, rated without knowing which style is which."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import gradio as gr

from .handlers import PAGE, guarded
from .markup import escaped, nothing
from .recommending import recommend
from .service import Service
from .study import LEAST_PARTICIPANTS, MEASURES, SCALE, Judgement, Trial, draw_trial, now
from .visitor import Visitor

QUESTIONS = {"trust": "I trust this explanation", "usefulness": "It helps me to decide"}
CHOICES = [
    (f"{value}" if value not in (1, 5) else f"{value} {'not at all' if value == 1 else 'fully'}", value)
    for value in SCALE
]
CHANCE = random.SystemRandom()


def study_tab(service: Service, visitor: gr.State, trial: gr.State) -> tuple[gr.Tab, Any, list[Any], list[Any]]:
    """Build the tab.

    Args:
        trial: of the participant, `None` before the first; no child of the tabs, which count their children.

    Returns:
        the tab, and handler, inputs and outputs of the event that it is opened.
    """
    with gr.Tab("Study", id="study") as tab:
        shown = gr.HTML(elem_classes="ours", elem_id="trial")
        texts, ratings = [], []
        with gr.Row(equal_height=False):
            for letter in ("A", "B"):
                with gr.Column(min_width=290, elem_classes=["box"]):
                    texts.append(gr.HTML(elem_classes="ours", elem_id=f"explanation-{letter.lower()}"))
                    ratings += [
                        gr.Radio(CHOICES, label=QUESTIONS[measure], elem_id=f"{measure}-{letter.lower()}")
                        for measure in MEASURES
                    ]
        button = gr.Button("Save and go on", variant="primary", elem_id="save-rating")
        status = gr.HTML(elem_classes="ours", elem_id="study-status")
        with gr.Accordion("Results, for those who run the study", open=False):
            gr.HTML("<p class='note'>They name the styles: rate first, then look.</p>", elem_classes="ours")
            with gr.Row():
                compute = gr.Button("Compute results", size="sm")
                download = gr.DownloadButton("Download CSV", size="sm", visible=False)
            results = gr.HTML(elem_classes="ours results", elem_id="results-of-study")
    changed = [visitor, trial, shown, *texts, *ratings]

    def opened(visitor: Visitor, current: Trial | None) -> Any:
        return _show(service, visitor, current)

    def save(visitor: Visitor, current: Trial | None, *values: int | None) -> Any:
        if current is None:
            return *_show(service, visitor, None), ""
        pairs = {measure: (values[place], values[len(MEASURES) + place]) for place, measure in enumerate(MEASURES)}
        version = service.feedback.current().version
        service.study.add(Judgement(visitor.key, current.item_id, version, current.styles, time=now(), **pairs))
        thanks = '<p class="status" role="status">Saved, thank you. Here is the next one.</p>'
        return *_show(service, visitor, None), thanks

    button.click(guarded(service, save), [visitor, trial, *ratings], [*changed, status], **PAGE)
    folder = Path(tempfile.mkdtemp(prefix="llm4rec-study-"))

    def summarise(visitor: Visitor) -> Any:
        path = folder / "study.csv"
        path.write_text(service.study.to_csv(), encoding="utf-8")
        return visitor, _results(service.study.summary()), gr.DownloadButton(value=str(path), visible=True)

    compute.click(guarded(service, summarise), [visitor], [visitor, results, download], **PAGE)
    return tab, guarded(service, opened), [visitor, trial], changed


def _show(service: Service, visitor: Visitor, trial: Trial | None) -> tuple[Any, ...]:
    """The trial that is under way, or a new one; ratings of a new one are empty."""
    history = [item for item in visitor.history if item in service.snapshot(visitor).processor.catalog]
    whose = "your history"
    if trial is not None:
        ratings = [gr.skip()] * 2 * len(MEASURES)
    else:
        if not history and service.examples:
            chosen = CHANCE.choice(service.examples)
            history, whose = list(chosen.history), f"an example user ({chosen.name.lower()})"
        trial, ratings = _drawn(service, visitor, history), [None] * 2 * len(MEASURES)
    if trial is None:
        empty = nothing(
            "Nothing to compare", "Choose another history in the first tab: its explanations are all alike."
        )
        return visitor, None, empty, "", "", *ratings
    head = (
        f"<p class='note'>Recommended to {escaped(whose)}. Two explanations, in random order; please rate both.</p>"
        f"<div class='card'><h3>{escaped(trial.title)}</h3></div>"
    )
    texts = [
        f"<h4>Explanation {letter}</h4><p>{escaped(text)}</p>" for letter, text in zip("AB", trial.texts, strict=True)
    ]
    return visitor, trial, head, *texts, *ratings


def _drawn(service: Service, visitor: Visitor, history: list[str]) -> Trial | None:
    from ..modeling_llm4rec.explanation_text import next_best, render_text

    listed = recommend(service.snapshot(visitor), history, visitor.hidden, service.wish(10))
    texts = {
        style: [
            render_text(record, style, "en", next_best(listed.records, place))
            for place, record in enumerate(listed.records)
        ]
        for style in service.study.styles
    }
    return draw_trial(listed.records, texts, CHANCE)


def _results(facts: dict[str, Any]) -> str:
    if not facts["trials"]:
        return nothing("No ratings yet", "Results appear with the first saved rating.")
    rows = "".join(
        f"<tr><td>{measure.capitalize()}</td>"
        + "".join(f"<td>{facts[measure]['means'][style]:.2f}</td>" for style in facts["styles"])
        + f"<td>{facts[measure]['difference']:+.2f}</td><td>{_p(facts[measure]['p'])}</td></tr>"
        for measure in MEASURES
    )
    heads = "".join(f"<th>{escaped(style)}</th>" for style in facts["styles"])
    return (
        f"<p class='note'>{_count(facts['trials'], 'rating')} by {_count(facts['participants'], 'participant')}; "
        "Wilcoxon signed-rank test over participants' means, "
        f"p from {LEAST_PARTICIPANTS} who tell the styles apart.</p>"
        f"<table><tr><th>Mean, 1 to 5</th>{heads}<th>Difference</th><th>p</th></tr>"
        f"{rows}</table>"
    )


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"
