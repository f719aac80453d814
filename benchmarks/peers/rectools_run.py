"""SASRec and BERT4Rec of RecTools on one exported data set; runs in an environment of its own, without LLM4Rec.

    python -m venv peers
    peers/bin/pip install torch==2.13.0              # first: a resolver that meets it later may choose a CUDA build
    peers/bin/pip install "numpy<2" "rectools[torch]==0.19.0" "pyarrow<21"

`benchmarks/run.py DATA_SET rectools-sasrec --peer-python peers/bin/python …` exports the data, calls this file and
judges what it writes. The folder holds

| file | columns |
| --- | --- |
| `events.parquet` | `user`, `item`, `position` int32, `held_out` bool: validation targets; no test targets |
| `lists.parquet`, written here | `user`, `item`, `place` int32: the best items of the whole catalog, best first |
| `report.json`, written here | settings, epochs, validation metrics |

Training stops when NDCG@10 of the validation targets (full catalog, seen items taken out) has not risen for `patience`
epochs, and the weights of the best epoch are kept.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as lightning
import rectools
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import BERT4RecModel, SASRecModel

MODELS = {"sasrec": SASRecModel, "bert4rec": BERT4RecModel}
SETTINGS = {
    "loss": "sampled_softmax",
    "n_negatives": 256,
    "n_factors": 128,
    "n_blocks": 2,
    "n_heads": 2,
    "dropout_rate": 0.2,
    "session_max_len": 50,
    "batch_size": 128,
    "lr": 1e-3,
}
"""Of RecTools' models; any of their arguments may be set."""
LISTED = 100
HELD_OUT_FROM = pd.Timestamp("2000-01-01")
"""RecTools finds validation events by a function of its own columns: they get times of another century."""


def is_held_out(interactions: pd.DataFrame) -> np.ndarray:
    """Which interactions are validation targets."""
    return (interactions[Columns.Datetime] >= HELD_OUT_FROM).to_numpy()


def dataset_of(events: pd.DataFrame) -> Dataset:
    """Events as RecTools reads them; positions become seconds."""
    start = np.where(events["held_out"], HELD_OUT_FROM, pd.Timestamp("1970-01-01"))
    times = pd.to_datetime(start) + pd.to_timedelta(events["position"].to_numpy(), unit="s")
    frame = pd.DataFrame(
        {
            Columns.User: events["user"].to_numpy(),
            Columns.Item: events["item"].to_numpy(),
            Columns.Weight: 1.0,
            Columns.Datetime: times,
        }
    )
    return Dataset.construct(frame)


class BestEpoch(lightning.Callback):
    """Ranks the validation targets after every epoch, keeps the best weights, and stops when they no longer improve.

    Args:
        patience: epochs without a better NDCG@10.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.values: list[float] = []
        self.hits: list[float] = []
        self.weights: dict[str, torch.Tensor] = {}
        self._ranks: list[torch.Tensor] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> BestEpoch:
        """Itself: RecTools trains with a copy of its trainer, and what was found is read here afterwards."""
        return self

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: dict[str, torch.Tensor], batch_idx: int, *_: Any
    ) -> None:
        """Rank the targets of a batch."""
        model = pl_module.torch_model
        with torch.no_grad():
            sessions = model.encode_sessions(batch, pl_module.item_embs)[:, -1:, :]
            scores = model.similarity_module(sessions, pl_module.item_embs)[:, 0]
        target = batch["y"][:, -1:]
        own = scores.gather(1, target)
        scores = scores.scatter(1, batch["x"], -torch.inf)
        scores[:, : len(pl_module.item_extra_tokens)] = -torch.inf
        self._ranks.append((scores > own).sum(1).cpu())

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Compare with the best so far."""
        ranks = torch.cat(self._ranks).double()
        self._ranks = []
        if trainer.sanity_checking:
            return
        found = ranks < 10
        value = float((found / torch.log2(ranks + 2)).mean())
        if value > max(self.values, default=-math.inf):
            self.weights = {name: w.detach().cpu().clone() for name, w in pl_module.torch_model.state_dict().items()}
        self.values.append(value)
        self.hits.append(float(found.double().mean()))
        print(f"epoch {len(self.values):3d}  validation NDCG@10 {value:.4f}", flush=True)
        if len(self.values) - 1 - self.values.index(max(self.values)) >= self.patience:
            trainer.should_stop = True


def lists_of(model: Any, events: pd.DataFrame) -> pd.DataFrame:
    """The best items of every user, best first, from which both protocols can be read.

    First the best `LISTED` of the whole catalog, then those of the best `LISTED` unseen items that are not among them:
    whatever is missing stands below all of these.
    """
    history = dataset_of(events)
    users = events["user"].unique()
    parts = [
        model.recommend(users, history, LISTED, filter_viewed=seen, on_unsupported_targets="ignore")
        for seen in (False, True)
    ]
    both = pd.concat(parts).drop_duplicates([Columns.User, Columns.Item])
    both["place"] = both.groupby(Columns.User, sort=False).cumcount()
    both = both.rename(columns={Columns.User: "user", Columns.Item: "item"})
    return both[["user", "item", "place"]].astype("int32")


def run(folder: Path, name: str, seed: int, epochs: int, patience: int, settings: dict[str, Any]) -> None:
    """Train on `events.parquet`; write `lists.parquet` and `report.json`."""
    settings = SETTINGS | settings
    lightning.seed_everything(seed)
    events = pd.read_parquet(folder / "events.parquet")
    best = BestEpoch(patience)

    def trainer() -> lightning.Trainer:
        return lightning.Trainer(
            max_epochs=epochs,
            callbacks=[best],
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            logger=False,
            devices=1,
        )

    model = MODELS[name](**settings, epochs=epochs, get_val_mask_func=is_held_out, get_trainer_func=trainer)
    started = time.perf_counter()
    model.fit(dataset_of(events))
    fitted = time.perf_counter() - started
    model.torch_model.load_state_dict(best.weights)
    lists_of(model, events).to_parquet(folder / "lists.parquet", index=False)
    at = best.values.index(max(best.values))
    report = {
        "library": f"RecTools {rectools.__version__}",
        "settings": settings,
        "patience": patience,
        "epochs_at_most": epochs,
        "fit_seconds": round(fitted, 1),
        "fit_peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1),
        "epochs": len(best.values),
        "validation": {
            "epoch": at + 1,
            "filtered/ndcg@10": best.values[at],
            "filtered/hr@10": best.hits[at],
        },
    }
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--patience", type=int, default=5)
    parser.add_argument("--settings", default="{}", help="JSON of arguments of the RecTools model")
    args = parser.parse_args()
    run(args.folder, args.model, args.seed, args.epochs, args.patience, json.loads(args.settings))


if __name__ == "__main__":
    main()
