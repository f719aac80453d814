"""Energy and carbon of a training run, estimated from its seconds and the hardware; nothing is measured.

Read by the model card, which states the assumptions beside the number. No number is better than a guess: hardware
whose power is not listed gives none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

WATTS_PER_CORE = 10
"""Power of a busy core of a server or laptop CPU, its share of memory included."""

GRAMS_PER_KWH = 480
"""CO₂ equivalents of electricity, mean of the world in 2023 (Ember, Global Electricity Review 2024)."""

GPU_WATTS = {
    "A100-PCIE-40GB": 250,
    "A100 80GB PCIE": 300,
    "A100-SXM": 400,
    "A10G": 300,
    "H100 PCIE": 350,
    "H100 80GB HBM3": 700,
    "H200": 700,
    "L40S": 350,
    "RTX 3090": 350,
    "RTX 4090": 450,
    "TESLA T4": 70,
    "TESLA V100-SXM2": 300,
}
"""Board power limits by a part of the name that the driver gives."""


@dataclass(frozen=True)
class EnergyEstimate:
    """What a run took, if its hardware was busy all the time.

    Attributes:
        kwh: kilowatt hours.
        grams: of CO₂ equivalents.
        assumptions: in words.
    """

    kwh: float
    grams: float
    assumptions: str


def estimate_energy(seconds: float, cores: int, gpus: list[str]) -> EnergyEstimate | None:
    """Energy of a run.

    Args:
        seconds: of wall time.
        cores: CPU cores that the process may use.
        gpus: name of each GPU, as the driver gives it.

    Returns:
        the estimate; `None` if the power of a GPU is not known.
    """
    watts, parts = float(WATTS_PER_CORE * cores), [f"{WATTS_PER_CORE} W for each of {cores} CPU cores"]
    for gpu in gpus:
        known = [power for name, power in GPU_WATTS.items() if name in gpu.upper()]
        if not known:
            return None
        watts += known[0]
        parts.append(f"{known[0]} W for the {gpu}")
    kwh = watts * seconds / 3.6e6
    assumptions = (
        f"{', '.join(parts)}, busy all the time; {GRAMS_PER_KWH} g of CO₂ per kWh, the mean of the world in 2023; "
        "cooling and the making of the hardware are not counted"
    )
    return EnergyEstimate(kwh, kwh * GRAMS_PER_KWH, assumptions)


def energy_here(seconds: float) -> EnergyEstimate | None:
    """Energy of a run on this machine; `None` if the power of its hardware is not known."""
    import torch

    if not torch.cuda.is_available() and torch.backends.mps.is_available():
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return estimate_energy(seconds, cores, gpus)
