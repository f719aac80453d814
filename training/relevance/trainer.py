"""RelevanceTrainer: the Trainer of transformers on random splits of ratings, with L2 and an average of the weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from ...modeling_llm4rec.relevance import LLM4RecForRelevance
from ..weight_averaging import WeightAverage


@dataclass
class RelevanceTrainingArguments(TrainingArguments):
    r"""Arguments of [`RelevanceTrainer`]: those of transformers, and the strengths of L2.

    A strength λ adds :math:`\frac{\lambda}{n} \lVert \theta \rVert^2` to the mean loss of a rating, n being the
    number of train ratings: it is the same trade in a log of any size.

    Args:
        l2_id (`float`): of the items' own embeddings.
        l2_content (`float`): of everything else that makes item vectors.
        l2_user (`float`): of user attributes, in taste and bias.
        l2_projection (`float`): of the matrices from the history to the taste.
        average_steps (`float`): steps that the average of the weights looks back on; 0: no average.
    """

    l2_id: float = field(default=12.0, metadata={"help": "L2 of the items' own embeddings."})
    l2_content: float = field(default=6.0, metadata={"help": "L2 of what reads item features."})
    l2_user: float = field(default=12.0, metadata={"help": "L2 of user attributes."})
    l2_projection: float = field(default=10.0, metadata={"help": "L2 of the matrices from history to taste."})
    average_steps: float = field(default=50.0, metadata={"help": "Steps that the weights are averaged over; 0: none."})


class _Averaging(TrainerCallback):
    """Keeps the average of the weights and hands it to the model at the end."""

    def __init__(self, model: nn.Module, steps: float):
        self.average = WeightAverage(model, steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.average.update(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.average.finish()


class RelevanceTrainer(Trainer):
    """Trains [`LLM4RecForRelevance`], or the pair of models of joint learning.

    Args:
        num_ratings: n of the L2 strengths.
        kwargs: as of `transformers.Trainer`.
    """

    def __init__(self, *, num_ratings: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_ratings = num_ratings
        self.groups = penalised_weights(self.model, self.args)
        if self.args.average_steps:
            self.add_callback(_Averaging(self.model, self.args.average_steps))

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any
    ) -> Any:
        """The model's loss and the penalty."""
        output = model(**inputs)
        penalty = sum(
            strength * torch.stack(torch._foreach_norm(weights)).square().sum()
            for strength, weights in self.groups
            if strength
        )
        # The loss is a mean over members, each of which is to be trained as if it were alone.
        loss = output.loss + penalty / (self.num_ratings * len(output.member_logits))
        return (loss, output) if return_outputs else loss


def penalised_weights(
    model: nn.Module, arguments: RelevanceTrainingArguments
) -> list[tuple[float, list[nn.Parameter]]]:
    """Strengths of L2, each with the weights it is for; scalars and thresholds have none."""
    groups: dict[str, list[nn.Parameter]] = {"l2_id": [], "l2_content": [], "l2_user": [], "l2_projection": []}
    for part in model.modules():
        if not isinstance(part, LLM4RecForRelevance):
            continue
        items = part.model.item_embedding
        ids = {
            id(weight)
            for modality, encoder in zip(items.modalities, items.encoders.values(), strict=True)
            if modality.kind == "id"
            for weight in encoder.parameters()
        }
        for weight in (weight for weight in items.parameters() if weight.requires_grad):
            groups["l2_id" if id(weight) in ids else "l2_content"].append(weight)
        for head in part.heads:
            for embedding in (*head.user_taste, *head.user_bias):
                groups["l2_user"].append(embedding.weight)
            groups["l2_projection"] += [head.rated_projection.weight, head.chosen_projection.weight]
    return [(getattr(arguments, name), weights) for name, weights in groups.items() if weights]
