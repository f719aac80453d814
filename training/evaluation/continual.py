"""What a learner gained and what it forgot, from its accuracy on blocks of a stream."""

from __future__ import annotations

import numpy as np


def continual_metrics(accuracy: np.ndarray) -> dict[str, float]:
    r"""Metrics of continual learning from :math:`R_{t,i}`: accuracy on block i after learning from blocks up to t.

    With blocks 0 (the base) to T:

    - `learning_average` :math:`\frac{1}{T} \sum_{t=1}^{T} R_{t,t}`: what is known of a block right after it.
    - `retained_average` :math:`\frac{1}{T} \sum_{t=1}^{T} \frac{1}{t} \sum_{i<t} R_{t,i}`: what is known of the blocks
      before it.
    - `harmonic_mean` of the two (Lee et al., *Continual collaborative distillation for recommender systems*, KDD
      2024).
    - `forgetting` :math:`\frac{1}{T} \sum_{i<T} (\max_{i \le t < T} R_{t,i} - R_{T,i})` (Chaudhry et al., *Riemannian
      walk for incremental learning*, ECCV 2018).
    - `backward_transfer` :math:`\frac{1}{T} \sum_{i<T} (R_{T,i} - R_{i,i})` (Lopez-Paz and Ranzato, *Gradient episodic
      memory for continual learning*, NeurIPS 2017).

    Args:
        accuracy: (T + 1, T + 1); what stands right of the diagonal is not read.

    Raises:
        ValueError: if it is not square with at least two rows.
    """
    accuracy = np.asarray(accuracy, dtype=np.float64)
    if accuracy.ndim != 2 or accuracy.shape[0] != accuracy.shape[1] or len(accuracy) < 2:
        raise ValueError(f"accuracy has shape {accuracy.shape}, expected a square of the base and at least one block.")
    last = len(accuracy) - 1
    learning = float(np.mean(np.diag(accuracy)[1:]))
    retained = float(np.mean([accuracy[t, :t].mean() for t in range(1, last + 1)]))
    best = [accuracy[i:last, i].max() for i in range(last)]
    return {
        "learning_average": learning,
        "retained_average": retained,
        "harmonic_mean": 2 * learning * retained / (learning + retained) if learning + retained else 0.0,
        "forgetting": float(np.mean(best - accuracy[last, :last])),
        "backward_transfer": float(np.mean(accuracy[last, :last] - np.diag(accuracy)[:last])),
    }


__all__ = ["continual_metrics"]
