"""Training of an adversary's classifiers, beside the model that is to outwit them.

Called by `training/trainer.py` after each step of the model, on the states that the step left behind.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from ...modeling_llm4rec.adversary import SensitiveAttributeAdversary

LEARNING_RATE = 0.005
"""Of the classifiers, whatever the model's is: they read states of one scale."""

STEPS = 3
"""Of the classifiers for each step of the model: with one, states move faster than they follow (docs/design.md)."""

ADVERSARY_FILE = "adversary.safetensors"
"""In a checkpoint: the recent states and the optimiser's moments, from which an interrupted run goes on."""


class AdversaryTraining(TrainerCallback):
    """Teaches the classifiers of an adversary by AdamW after each step of the model.

    On several devices each process has classifiers of its own, which learn from the states that it saw.

    Args:
        adversary: on the device where it stays, since its weights are changed in place.
    """

    def __init__(self, adversary: SensitiveAttributeAdversary):
        self.adversary = adversary.requires_grad_(False)  # peft asks for the gradient of what it keeps whole
        # The model's optimiser and averages look for what requires a gradient; these share the storage, not that.
        self.weights = {name: w.detach().requires_grad_() for name, w in adversary.named_parameters()}
        self.optimizer = torch.optim.AdamW(self.weights.values(), lr=LEARNING_RATE, weight_decay=0.0)

    @classmethod
    def of(cls, model: torch.nn.Module) -> AdversaryTraining | None:
        """That of a model's adversary, a peft model's included; `None` if it has none."""
        found = [
            module
            for name, module in model.named_modules()
            if isinstance(module, SensitiveAttributeAdversary) and "original_module" not in name
        ]
        return cls(found[0]) if found else None

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Follow the model."""
        self.step()

    def step(self) -> None:
        """A few steps on recent states; none before the first batch."""
        if not self.adversary.recent:
            return
        for _ in range(STEPS):
            self.optimizer.zero_grad()
            self.adversary.classifier_loss(self.weights).backward()
            self.optimizer.step()

    def save(self, folder: str | Path) -> None:
        """Save what `resume` needs beside the classifiers themselves, which are in the model's file."""
        tensors = {}
        for index, (states, labels) in enumerate(self.adversary.recent):
            tensors |= {f"recent.{index}.states": states, f"recent.{index}.labels": labels}
        for name, weight in self.weights.items():
            moments = self.optimizer.state.get(weight, {})
            tensors |= {f"moments.{name}.{key}": value for key, value in moments.items()}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, Path(folder) / ADVERSARY_FILE)

    def resume(self, folder: str | Path) -> None:
        """Go on where a checkpoint stopped; the classifiers' weights were loaded with the model's.

        Raises:
            FileNotFoundError: if the checkpoint was saved without an adversary, or by an older version.
        """
        path = Path(folder) / ADVERSARY_FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder} holds no {ADVERSARY_FILE}: it was saved without an adversary, or by an older version. "
                "Start the training anew (--overwrite)."
            )
        device = next(iter(self.weights.values())).device
        saved = load_file(path)
        kept = len([name for name in saved if name.endswith(".states")])
        self.adversary.recent.extend(
            (saved[f"recent.{index}.states"].to(device), saved[f"recent.{index}.labels"].to(device))
            for index in range(kept)
        )
        for name, weight in self.weights.items():
            prefix = f"moments.{name}."
            moments = {key.removeprefix(prefix): value for key, value in saved.items() if key.startswith(prefix)}
            # Only the count of steps stays where it is, as AdamW itself has it.
            self.optimizer.state[weight] = {
                key: value if key == "step" else value.to(device) for key, value in moments.items()
            }
