"""Learning how far to listen to the memory: the retrieval adapter, on a model whose other weights stay.

Called by `training/train.py` once the model is trained and its memory built.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from tqdm.auto import tqdm

from ...configuration.recipe import RetrievalRecipe
from ...modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor, RetrievalConfig
from ...modeling_llm4rec.retrieval_adapter import RetrievalAdapter
from ..data.splits import Split
from .build_memory import build_memory
from .diagnostics import retrieval_metrics
from .retrieved_cases import RetrievedCases, retrieve_cases, train_cases

FOLDS = 2
BATCH, LEAST_STEPS = 256, 300
RATE, GATE_RATE, GATE_DECAY = 1e-2, 1e-3, 1e-2
FARTHEST_PLACE = 1e9

VARIANTS = {
    "weights": ("source_weight", "sharpness", "temperature"),
    "gate": ("source_weight", "sharpness", "temperature", "gate."),
    "gate and attention": ("",),
}
"""What of the adapter may learn; which of them does is chosen by the log loss on held-out cases."""


@dataclass
class RetrievalReport:
    """What fitting found.

    Attributes:
        variant: what of the adapter was trained; `None` if listening helped on no held-out case: the gate stays shut.
        entries: entries of every source.
        log_loss: of the held-out cases, per variant; `off` is the model alone.
        metrics: of the held-out cases, `filtered/ndcg@10`-like, of the chosen variant; `off/…` of the model alone.
        diagnostics: precision@K, hit share and decay of what was retrieved for them.
    """

    variant: str | None
    entries: dict[str, int]
    log_loss: dict[str, float]
    metrics: dict[str, float]
    diagnostics: dict[str, float] = field(default_factory=dict)


def add_retrieval(
    model: LLM4RecForCausalLM,
    processor: LLM4RecProcessor,
    split: Split,
    recipe: RetrievalRecipe,
    seed: int = 0,
    say: Callable[[str], None] = print,
    progress: bool = False,
) -> RetrievalReport:
    """Build the memory from train and fit the adapter.

    The memory holds train events only. With `fit_on="validation"` the cases that teach the adapter are not among
    them; with `"train"` they are, and each is kept from what its own user added and from anything later. Which part
    of the adapter learns is chosen by cross-fitting: every case is judged by an adapter that was fitted on the other
    half. The adapter that is kept was fitted on all cases.

    Args:
        model: a trained recommender; gets an adapter if it has none of this configuration.
        split: of the data the model was trained on.
        recipe: sources, K and how to fit.
        seed: of the draw of cases, the halves and the adapter's weights.
        say: told a line per step.
        progress: show progress bars.
    """
    torch.manual_seed(seed)
    settings = retrieval_config(recipe)
    if model.config.retrieval != settings or model.memory is not None:
        model.add_retrieval(settings)
    memory = build_memory(model, processor, split.train, recipe.behaviour_entries, progress)
    model.attach_memory(memory)
    say("Memory: " + ", ".join(f"{count:,} of {name}" for name, count in memory.sizes().items()) + ".")
    on_train = recipe.fit_on == "train"
    cases = (
        train_cases(split.train, recipe.fit_cases, seed)
        if on_train
        else split.validation.sample(recipe.fit_cases, seed)
    )
    retrieved = retrieve_cases(model, processor, cases, train=split.train if on_train else None, progress=progress)
    report = fit_adapter(model, retrieved, recipe.fit_epochs, seed, progress)
    report.entries = memory.sizes()
    report.diagnostics = retrieval_metrics(retrieved.context, retrieved.targets)
    memory.facts = {"fitted_on": recipe.fit_on, "diagnostics": report.diagnostics}
    gained = report.metrics["filtered/ndcg@10"] / max(report.metrics["off/filtered/ndcg@10"], 1e-9) - 1
    say(
        f"Retrieval: {report.variant or 'off, it did not help'}; NDCG@10 on held-out {recipe.fit_on} events "
        f"{report.metrics['filtered/ndcg@10']:.4f}, {100 * gained:+.1f} % over the model alone."
    )
    return report


def retrieval_config(recipe: RetrievalRecipe) -> RetrievalConfig:
    """The model's side of a recipe.

    Raises:
        ValueError: if it names an unknown source.
    """
    sources = {} if recipe.sources is None else {"sources": list(recipe.sources)}
    try:
        return RetrievalConfig(
            **sources,
            neighbours=recipe.neighbours,
            time_decay=recipe.time_decay,
            credibility_weight=recipe.credibility_weight,
        )
    except StrictDataclassError as error:
        raise ValueError(str(error.__cause__ or error)) from error


def fit_adapter(
    model: LLM4RecForCausalLM, cases: RetrievedCases, epochs: int, seed: int = 0, progress: bool = False
) -> RetrievalReport:
    """Fit the model's retrieval adapter on cases whose retrieved context is known; everything else stays."""
    with torch.no_grad():
        table = model.model.item_table().float().cpu()
    start = _unwrapped(model).cpu()
    halves = np.random.default_rng(seed).permutation(len(cases))
    folds = [torch.from_numpy(np.sort(halves[fold::FOLDS])) for fold in range(FOLDS)]
    off = _held_out([None] * FOLDS, cases, folds, table)
    outcomes = {"off": off}
    bar = tqdm(total=len(VARIANTS) * FOLDS + 1, desc="fit", leave=False, disable=None if progress else True)
    if len(cases) >= 2 * FOLDS:
        for variant in VARIANTS:
            fitted = []
            for fold in range(FOLDS):
                others = torch.cat([folds[other] for other in range(FOLDS) if other != fold])
                fitted.append(_fit(start, cases.rows(others), table, variant, epochs, seed))
                bar.update()
            outcomes[variant] = _held_out(fitted, cases, folds, table)
    log_loss = {name: float(outcome["log_loss"]) for name, outcome in outcomes.items()}
    variant = min(log_loss, key=log_loss.__getitem__)
    chosen = None if variant == "off" else variant
    if chosen is not None:
        trained = _fit(start, cases, table, chosen, epochs, seed)
        _unwrapped(model).load_state_dict(trained.state_dict())
    bar.close()
    _unwrapped(model).to(model.device).eval()
    metrics = {name: value for name, value in outcomes[variant].items() if name != "log_loss"}
    metrics |= {f"off/{name}": value for name, value in off.items() if name != "log_loss"}
    return RetrievalReport(chosen, {}, log_loss, metrics)


def adapted_scores(
    adapter: RetrievalAdapter | None, cases: RetrievedCases, table: torch.Tensor, attention: bool = True
) -> torch.Tensor:
    """(cases, candidates) scores of the candidates by the model and its memory; without an adapter by the model.

    Args:
        attention: false: its gate is known to be shut, and what stands behind it is not computed.
    """
    if adapter is None:
        return cases.scores
    scores = cases.scores
    if attention:
        # Projected first and looked up then: a quarter of the numbers pass through memory.
        found = cases.context.items.clamp(min=0)
        read = adapter.read(cases.states, adapter.key(table)[found], adapter.value(table)[found], cases.context)
        heard = (table @ adapter.output.weight)[cases.items.long().clamp(min=0)]
        scores = scores + torch.bmm(heard, read.unsqueeze(-1)).squeeze(-1)
    temperature, gain = adapter.evidence(cases.states, cases.context)
    slots = cases.slots.long()
    return (scores * temperature).scatter_add(1, slots.clamp(min=0), gain.flatten(1).masked_fill(slots < 0, 0.0))


def _fit(
    start: RetrievalAdapter, cases: RetrievedCases, table: torch.Tensor, variant: str, epochs: int, seed: int
) -> RetrievalAdapter:
    """A copy of the adapter, fitted by the log loss of the targets among the candidates."""
    torch.manual_seed(seed)
    adapter = deepcopy(start).train()
    learns = VARIANTS[variant]
    for name, weight in adapter.named_parameters():
        weight.requires_grad_(name.startswith(learns))
    weights = [weight for name, weight in adapter.named_parameters() if name.startswith(VARIANTS["weights"])]
    inner = [
        weight
        for name, weight in adapter.named_parameters()
        if weight.requires_grad and not name.startswith(VARIANTS["weights"])
    ]
    optimizer = torch.optim.AdamW(
        [
            {"params": weights, "lr": RATE, "weight_decay": 0.0},
            {"params": inner, "lr": GATE_RATE, "weight_decay": GATE_DECAY},
        ]
    )
    able = (cases.place >= 0).nonzero().flatten()
    if not len(able):
        return adapter.eval()
    steps = max(LEAST_STEPS, epochs * -(-len(able) // BATCH))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.02, 1 - step / steps))
    order = torch.zeros(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < min(BATCH, len(able)):
            order = torch.cat([order, able[torch.randperm(len(able))]])
        batch, order = cases.rows(order[:BATCH]), order[BATCH:]
        adapter.train(True)
        loss = torch.nn.functional.cross_entropy(
            adapted_scores(adapter, batch, table, attention="" in learns), batch.place
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    for weight in adapter.parameters():
        weight.requires_grad_(True)
    return adapter.eval()


@torch.no_grad()
def _held_out(
    adapters: list[RetrievalAdapter | None], cases: RetrievedCases, folds: list[torch.Tensor], table: torch.Tensor
) -> dict[str, float]:
    """Log loss and NDCG@10 of every fold by its adapter, over all folds."""
    losses, gains = [], {"filtered/ndcg@10": [], "unfiltered/ndcg@10": []}
    for adapter, fold in zip(adapters, folds, strict=True):
        for index in fold.split(1024):
            batch = cases.rows(index)
            scores = adapted_scores(adapter, batch, table)
            able = batch.place >= 0
            target = scores.gather(1, batch.place.clamp(min=0)[:, None])
            losses.append(torch.nn.functional.cross_entropy(scores[able], batch.place[able], reduction="none"))
            better = scores > target
            for name, counts in (("filtered", better & ~batch.seen), ("unfiltered", better)):
                ranks = counts.sum(1).double().masked_fill(~able, FARTHEST_PLACE)
                gains[f"{name}/ndcg@10"].append(torch.where(ranks < 10, 1 / torch.log2(ranks + 2), 0.0))
    joined = {name: float(torch.cat(parts).mean()) for name, parts in gains.items()}
    return joined | {"log_loss": float(torch.cat(losses).mean()) if losses else 0.0}


def _unwrapped(model: LLM4RecForCausalLM) -> RetrievalAdapter:
    """The adapter itself, where peft keeps a copy of it."""
    adapter = model.model.retrieval_adapter
    if hasattr(adapter, "modules_to_save"):
        return adapter.modules_to_save[adapter.active_adapter]
    return adapter


__all__ = ["RetrievalReport", "adapted_scores", "add_retrieval", "fit_adapter", "retrieval_config"]
