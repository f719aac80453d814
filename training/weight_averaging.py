"""Moving average of the weights over the last epochs of training: what is validated, kept and shipped.

Used by `training/trainer.py`, which trains on as if there were none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

TRAINED_WEIGHTS_FILE = "trained_weights.safetensors"
"""The weights that training goes on from, in a checkpoint whose model file holds the average."""


class WeightAverage:
    r"""Exponential moving average of a model's trained weights.

    .. math:: \bar\theta_t = \beta_t \bar\theta_{t-1} + (1 - \beta_t)\,\theta_t, \quad
              \beta_t = \min\!\left(1 - \tfrac{1}{h}, \tfrac{1 + t}{10 + t}\right)

    From weights that are trained already, :math:`\beta_t = 1 - \tfrac{1}{h}` from the first step on.

    The average of the steps around an optimum lies nearer to it than any of them (Polyak and Juditsky 1992; as moving
    average of network weights Tarvainen and Valpola, arXiv 1703.01780). It does what decaying the learning rate does,
    but at every epoch, so that early stopping need not know the last one beforehand.

    Args:
        model: its weights that require gradients are averaged; the rest is left alone.
        horizon: h, optimiser steps that the average looks back on; at least 1.
        trained: the weights are good as they are, and the average leaves them as slowly as anything later.
    """

    def __init__(self, model: torch.nn.Module, horizon: float, trained: bool = False):
        self.decay, self.trained = 1 - 1 / max(1.0, horizon), trained
        self.names, self.weights = zip(*((n, w) for n, w in model.named_parameters() if w.requires_grad), strict=True)
        self.average = [weight.detach().clone() for weight in self.weights]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimiser step `step`, counted from 1."""
        decay = self.decay if self.trained else min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.average, [weight.detach() for weight in self.weights], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the model holds the average; afterwards again what training goes on from."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for index, weight in enumerate(self.weights):
            weight.data, self.average[index] = self.average[index], weight.data

    @torch.no_grad()
    def finish(self) -> None:
        """Give the model the average for good."""
        torch._foreach_copy_([weight.detach() for weight in self.weights], self.average)

    def save_trained_weights(self, folder: str | Path) -> None:
        """Save the weights that training goes on from, beside a model file that holds the average."""
        tensors = {n: w.detach().contiguous() for n, w in zip(self.names, self.weights, strict=True)}
        save_file(tensors, Path(folder) / TRAINED_WEIGHTS_FILE)

    @torch.no_grad()
    def resume(self, folder: str | Path) -> None:
        """Take the model's present weights as the average, and those that the checkpoint saved apart as the model's.

        Raises:
            FileNotFoundError: if the checkpoint was saved without an average.
        """
        path = Path(folder) / TRAINED_WEIGHTS_FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder} was saved without weight averaging; resume with the recipe it was started with "
                "(training.average_epochs=0)."
            )
        torch._foreach_copy_(self.average, [weight.detach() for weight in self.weights])
        saved = load_file(path)
        for name, weight in zip(self.names, self.weights, strict=True):
            weight.copy_(saved[name])
