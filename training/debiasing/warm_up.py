"""The adversary's weight over time: from 0, when its classifiers know nothing yet, to its full value."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback, TrainerState, TrainingArguments

from ...modeling_llm4rec.adversary import SensitiveAttributeAdversary


class AdversaryWarmUp(TrainerCallback):
    """Lets λ grow linearly over the first steps.

    Args:
        strength: λ at the end.
        steps: after which it is reached; 0: from the start.
    """

    def __init__(self, strength: float, steps: float):
        self.strength, self.steps = strength, steps

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: Any, model: torch.nn.Module = None, **kwargs: Any
    ) -> None:
        """Set λ of the coming step."""
        share = min(1.0, state.global_step / self.steps) if self.steps else 1.0
        for module in model.modules():  # peft keeps copies of the modules that it trains
            if isinstance(module, SensitiveAttributeAdversary):
                module.strength = self.strength * share
