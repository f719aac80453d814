"""LLM4RecTrainer: TRL's SFTTrainer on histories of items, judged by the ranking of what really came next.

Takes the windows of `training/data/sequences.py`; hands on a folder that `from_pretrained` reads.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler
from tqdm.auto import tqdm
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl import SFTConfig, SFTTrainer

from ..modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor
from .adapters import recommender_of
from .data.prepared import Interactions
from .data.sequences import SequenceCollator, history_batch, request_times
from .data.splits import EvaluationSet
from .debiasing.adversary_training import AdversaryTraining
from .evaluation.ranking_evaluator import RankingEvaluator
from .length_buckets import LengthBucketSampler
from .weight_averaging import WeightAverage

SELECTION_METRIC = "eval_filtered/ndcg@10"
"""What early stopping and the choice of the best checkpoint go by."""

WEIGHTED_METRIC = "eval_weighted/ndcg@10"
"""The same where events are weighted by inverse propensity: a mean over what everybody would have been shown."""

HISTORIES_AT_ONCE = 64
"""Histories that go through the model together when they are scored."""


@dataclass
class LLM4RecTrainingArguments(SFTConfig):
    """Arguments of [`LLM4RecTrainer`]: those of `trl.SFTConfig` with defaults that fit recommenders.

    > Parameters that control selection

    Args:
        patience (`int`): validations without a better NDCG@10 before training stops; 0: never.
        evaluation_batch_size (`int`, *optional*): histories ranked at a time; by default 512, or fewer where the
            catalog is very large.

    > Parameters that control the weights that are kept

        average_steps (`float`): optimiser steps that the average of the weights looks back on, see
            [`WeightAverage`]; the average is what is validated and saved. 0: no average.
        from_trained (`bool`): training goes on from a finished model, whose weights the average leaves slowly.
    """

    patience: int = field(
        default=5, metadata={"help": "Validations without a better NDCG@10 before stopping; 0: never."}
    )
    evaluation_batch_size: int | None = field(
        default=None, metadata={"help": "Histories ranked at a time in validation; null: by the catalog's size."}
    )
    average_steps: float = field(
        default=0.0, metadata={"help": "Steps that the average of the weights looks back on; 0: no average."}
    )
    from_trained: bool = field(
        default=False, metadata={"help": "The weights are a finished model's, and their average leaves them slowly."}
    )

    def __post_init__(self) -> None:
        # Sequences are prepared by us, and the collator needs every column.
        self.dataset_kwargs = {**(self.dataset_kwargs or {}), "skip_prepare_dataset": True}
        self.remove_unused_columns = False
        # The loss is the model's own. Older versions of TRL default to a chunked one that keeps the first step's head.
        self.loss_type = "nll"
        self.metric_for_best_model = self.metric_for_best_model or SELECTION_METRIC
        self.greater_is_better = True
        super().__post_init__()


class EarlyStopping(TrainerCallback):
    """Stops when the selection metric has not risen for `patience` validations.

    Its state is read off the log of the run, so that a resumed run stops where the whole one would have.
    """

    def __init__(self, patience: int):
        self.patience = patience

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count the validations since the best."""
        values = [
            entry[args.metric_for_best_model] for entry in state.log_history if args.metric_for_best_model in entry
        ]
        if self.patience and len(values) - 1 - values.index(max(values)) >= self.patience:
            control.should_training_stop = True


class StopOnInterrupt(TrainerCallback):
    """Turns the first Ctrl-C into a checkpoint and an orderly stop; the second interrupts at once.

    Args:
        say: told that it was heard.

    Attributes:
        interrupted: whether that happened.
    """

    def __init__(self, say: Callable[[str], None] = print) -> None:
        self.say = say
        self.interrupted = False
        self._previous: Any = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        self.say("\nStopping after this step and saving a checkpoint; press Ctrl-C again to stop at once.")

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Listen for Ctrl-C."""
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **kwargs: Any) -> None:
        """Save and stop if Ctrl-C was pressed."""
        if self.interrupted:
            control.should_save = True
            control.should_training_stop = True

    def release(self) -> None:
        """Give Ctrl-C back."""
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None


class Stopwatch(TrainerCallback, ExportableState):
    """Knows how long a run took before it was interrupted: every checkpoint holds the seconds up to it.

    Attributes:
        before: seconds of the parts of this run that came before, up to the checkpoint that it goes on from.
    """

    def __init__(self) -> None:
        self.before = 0.0
        self._started = time.perf_counter()

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Go on counting where the checkpoint stopped."""
        if state.global_step:
            saved = state.stateful_callbacks.get(type(self).__name__, {})  # not in checkpoints of older versions
            self.before = saved.get("attributes", {}).get("before", 0.0)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"args": {}, "attributes": {"before": self.before + time.perf_counter() - self._started}}


class UpdateAverage(TrainerCallback):
    """Feeds the average of the weights after every optimiser step."""

    def __init__(self, average: WeightAverage):
        self.average = average

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Take in the new weights."""
        self.average.update(state.global_step)


class TrainingProgress(ProgressCallback):
    """One progress bar for the run and one line per validation, in place of the Trainer's dictionaries.

    Args:
        say: told the lines; a bar is shown where stderr is a terminal.
    """

    def __init__(self, say: Callable[[str], None] = print):
        super().__init__()
        self.say = say
        self._loss = float("nan")

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Open the bar."""
        if state.is_world_process_zero:
            self.training_bar = tqdm(total=state.max_steps, desc="train", unit="step", leave=False, disable=None)
            self.training_bar.update(state.global_step)
        self.current_step = state.global_step

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: dict | None = None, **kwargs: Any) -> None:
        """Remember the loss; say how a validation went."""
        logs = logs or {}
        self._loss = logs.get("loss", self._loss)
        metric = args.metric_for_best_model
        if not state.is_world_process_zero or metric not in logs:
            return
        value = logs[metric]
        values = [entry[metric] for entry in state.log_history if metric in entry]
        best = "  best so far" if value >= max(values, default=value) else ""
        with tqdm.external_write_mode():
            self.say(f"epoch {state.epoch:4.0f}  loss {self._loss:.3f}  validation NDCG@10 {value:.4f}{best}")


class ModelScorer:
    """Scores the catalog for histories with a model: what the evaluator calls.

    Args:
        model: the recommender, a peft model around it included.
        processor: its processor.
        retrieval: ask the model's memory, if it has one.
        popularity: γ′, see `LLM4RecForCausalLM.recommend`.

    By default the time of a request is that of the latest event of its history.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        processor: LLM4RecProcessor,
        retrieval: bool = True,
        popularity: float | None = None,
    ):
        self.model, self.processor = recommender_of(model), processor
        self.retrieval, self.popularity = retrieval, popularity

    def __call__(self, histories: Interactions, times: torch.Tensor | None = None) -> torch.Tensor:
        """(users, items) float32 scores.

        Args:
            times: (users,) unix seconds of the requests.
        """
        times = request_times(histories) if times is None else times
        return self._read(
            histories,
            lambda batch, users: self.model.score_items(
                **batch,
                retrieval=self.retrieval,
                popularity=self.popularity,
                request_time=None if times is None else times[users],
            ),
        )

    def states(self, histories: Interactions) -> torch.Tensor:
        """(users, hidden) float32 state at the end of each history."""
        return self._read(histories, lambda batch, users: self.model.user_states(**batch))

    @torch.no_grad()
    def _read(
        self, histories: Interactions, read: Callable[[dict[str, torch.Tensor], torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """(users, …) float32 what `read` gives for model inputs and the users they are of, batch by batch."""
        self.model.eval()
        parts = []
        # Histories of similar length go through the model together: most are far shorter than the longest.
        order = torch.from_numpy(np.argsort(histories.lengths, kind="stable"))
        for users in order.split(HISTORIES_AT_ONCE):
            batch = history_batch(histories.take(users.numpy()), self.processor)
            parts.append(read({name: v.to(self.model.device) for name, v in batch.items()}, users).float())
        found = torch.cat(parts)
        return found[order.argsort().to(found.device)]


class LLM4RecTrainer(SFTTrainer):
    """Trains a recommender on windows of histories.

    Args:
        model: an [`LLM4RecForCausalLM`], or a peft model around one.
        args: [`LLM4RecTrainingArguments`].
        processor: saved beside the weights in every checkpoint.
        train_dataset: from `training_windows`.
        validation: cases that select the checkpoint; `None`: the last one is kept.
        validation_weights: (cases,) inverse propensity weights; the checkpoint is then selected by the weighted mean.
        say: told a line per validation.
        kwargs: as of `trl.SFTTrainer`.

    Attributes:
        interrupted: whether Ctrl-C ended training; the last checkpoint holds everything to resume from.
    """

    _tag_names = ["llm4rec", "recommendation"]

    def __init__(
        self,
        model: LLM4RecForCausalLM | torch.nn.Module,
        args: LLM4RecTrainingArguments,
        processor: LLM4RecProcessor,
        train_dataset: Any,
        validation: EvaluationSet | None = None,
        validation_weights: np.ndarray | None = None,
        say: Callable[[str], None] = print,
        **kwargs: Any,
    ):
        self.processor, self.say = processor, say
        self.validation_weights = validation_weights
        if validation_weights is not None and args.metric_for_best_model == SELECTION_METRIC:
            args.metric_for_best_model = WEIGHTED_METRIC
        self.evaluator = (
            RankingEvaluator(validation, ks=(10,), batch_size=args.evaluation_batch_size)
            if validation is not None
            else None
        )
        tokenizer = processor.tokenizer
        pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else processor.start_id
        self._interrupt, self._stopwatch = StopOnInterrupt(say), Stopwatch()
        callbacks = [EarlyStopping(args.patience), self._interrupt, self._stopwatch, *kwargs.pop("callbacks", [])]
        # The Trainer asks for an evaluation data set before it evaluates; ours is the evaluator.
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=train_dataset.select([0]) if validation is not None else None,
            processing_class=tokenizer,
            data_collator=SequenceCollator(pad_id),
            callbacks=callbacks,
            **kwargs,
        )

        self._adversary = AdversaryTraining.of(self.model)
        if self._adversary is not None:
            self.add_callback(self._adversary)
        self._average = (
            WeightAverage(self.model, args.average_steps, trained=args.from_trained) if args.average_steps else None
        )
        if self._average is not None:
            self.add_callback(UpdateAverage(self._average))
        self.remove_callback(ProgressCallback)
        self.remove_callback(PrinterCallback)
        self.add_callback(TrainingProgress(say))

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended training."""
        return self._interrupt.interrupted

    @property
    def seconds_before(self) -> float:
        """How long this run took before it was interrupted; 0 for one that was not resumed."""
        return self._stopwatch.before

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        dataset = train_dataset if train_dataset is not None else self.train_dataset
        args = self.args
        return LengthBucketSampler(
            dataset["length"], args.train_batch_size * args.gradient_accumulation_steps * args.world_size, args.seed
        )

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train; Ctrl-C belongs to the caller again afterwards, also after an error."""
        try:
            outcome = super().train(*args, **kwargs)
            best_was_loaded = self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None
            if self._average is not None and not best_was_loaded:
                self._average.finish()  # the best checkpoint is an average
            return outcome
        finally:
            self._interrupt.release()

    def _averaged(self) -> AbstractContextManager[None]:
        return nullcontext() if self._average is None else self._average.in_place()

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        super()._save_checkpoint(*args, **kwargs)
        folder = Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self._average is not None and self.args.should_save:
            self._average.save_trained_weights(folder)
        if self._adversary is not None and self.args.should_save:
            self._adversary.save(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self._average is not None:
            self._average.resume(resume_from_checkpoint)
        if self._adversary is not None:
            self._adversary.resume(resume_from_checkpoint)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The model's own loss: SFTTrainer's needs a softmax over text and items at every position."""
        return Trainer.compute_loss(self, model, inputs, return_outputs, num_items_in_batch)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Rank the catalog for the validation cases; log ranking metrics and the fusion weights α."""
        model = recommender_of(self.model)
        with self._averaged():
            # Validation events come from the log, popularity and all, so the prior takes part as it does in training.
            prior = model.model.popularity_prior
            popularity = None if prior is None else float(prior.strength.detach())
            result = self.evaluator.evaluate(ModelScorer(self.model, self.processor, popularity=popularity))
            report = model.fusion_report()
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in result.metrics.items()}
        if self.validation_weights is not None:
            weighted = np.average(result.values("filtered/ndcg@10"), weights=self.validation_weights)
            metrics[f"{metric_key_prefix}_weighted/ndcg@10"] = float(weighted)
        if popularity is not None:
            metrics[f"{metric_key_prefix}_popularity_strength"] = popularity
        metrics[f"{metric_key_prefix}_alpha_entropy"] = report.entropy
        metrics |= {f"{metric_key_prefix}_alpha/{name}": value for name, value in report.alpha.items()}
        if report.collapsed is not None:
            self.say(
                f"Fusion has collapsed onto the modality {report.collapsed!r} (mean α above 0.99): the others no "
                "longer count. Raise fusion_dropout, or leave the modality out and compare."
            )
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if not self.args.should_save:
            return
        folder = output_dir if output_dir is not None else self.args.output_dir
        with self._averaged():
            # The state that the Trainer gathered is not the average.
            self.model.save_pretrained(folder, state_dict=state_dict if self._average is None else None)
        recommender_of(self.model).config.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        """All but γ: a weight that is pulled to 0 would not say how strong the confounding is."""
        names = super().get_decay_parameter_names(model)
        return [name for name in names if "popularity_prior." not in name]

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Checkpoints get no card of their own; the finished model does."""
