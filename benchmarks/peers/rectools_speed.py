"""How fast RecTools SASRec trains and recommends; runs in the environment that `rectools_run.py` describes.

Called by `benchmarks/speed/`; reads `events.parquet` of a folder and writes `speed.json` there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as lightning
import rectools
import torch
from rectools.models import SASRecModel
from rectools_run import dataset_of

SKIPPED = 2
"""Batches that warm up."""


class BatchClock(lightning.Callback):
    """Seconds and real (not padding) targets of the batches after the first `SKIPPED`."""

    def __init__(self) -> None:
        self.targets = 0
        self.started = self.stopped = 0.0

    def __deepcopy__(self, memo: dict[int, Any]) -> BatchClock:
        """Itself: RecTools trains with a copy of its trainer."""
        return self

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the batch."""
        self.stopped = time.perf_counter()
        if batch_idx < SKIPPED:
            self.started = self.stopped
        else:
            self.targets += int((batch["y"] != 0).sum())


def median_ms(call: Any, rounds: int) -> float:
    """Median milliseconds of a call after two that warm up."""
    taken = []
    for _ in range(rounds + 2):
        started = time.perf_counter()
        call()
        taken.append(1e3 * (time.perf_counter() - started))
    return statistics.median(taken[2:])


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--settings", default="{}", help="JSON of arguments of the RecTools model")
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--requests", type=int, default=0, help="recommendations to time; 0: none")
    parser.add_argument("--batch", type=int, default=256, help="users of a batch request")
    args = parser.parse_args()
    events = pd.read_parquet(args.folder / "events.parquet")
    events = events[~events["held_out"]]
    lightning.seed_everything(0)
    clock = BatchClock()

    def trainer() -> lightning.Trainer:
        return lightning.Trainer(
            max_epochs=1, limit_train_batches=args.batches + SKIPPED, callbacks=[clock], enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False, logger=False, devices=1,
        )  # fmt: skip

    model = SASRecModel(**json.loads(args.settings), loss="sampled_softmax", get_trainer_func=trainer)
    model.fit(dataset_of(events))
    seconds = clock.stopped - clock.started
    report = {
        "library": f"RecTools {rectools.__version__}", "batches": args.batches, "targets": clock.targets,
        "seconds": seconds, "interactions_per_second": clock.targets / seconds, "threads": torch.get_num_threads(),
    }  # fmt: skip
    if args.requests:
        counts = events.groupby("user").size()
        for users, rounds in ((1, args.requests), (args.batch, max(3, args.requests // 20))):
            chosen = counts[counts >= 5].index[:users].to_numpy()
            dataset = dataset_of(events[events["user"].isin(chosen)])
            report[f"{users}_user{'s' if users > 1 else ''}_ms"] = median_ms(
                lambda chosen=chosen, dataset=dataset: model.recommend(chosen, dataset, 10, filter_viewed=True), rounds
            )
    (args.folder / "speed.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
