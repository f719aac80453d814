"""Measure speed and memory side by side, in one run on one machine.

    python benchmarks/speed/run.py training --data $DATA --peer-python $PEERS/bin/python
    python benchmarks/speed/run.py serving --data $DATA --peer-python $PEERS/bin/python
    python benchmarks/speed/run.py catalog
    python benchmarks/speed/run.py retrieval
    python benchmarks/speed/run.py debiasing --data $DATA

Prints a table and writes a row to `benchmarks/results/speed/`. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from llm4rec.benchmarks.data_sets import prepared
from llm4rec.benchmarks.speed import catalog_size, debiasing, retrieval, serving, training
from llm4rec.training.evaluation.report import report_row

RESULTS = Path(__file__).parents[1] / "results" / "speed"
DATA_SET = {"training": "amazon-beauty", "serving": "amazon-beauty", "debiasing": "ml-1m"}
WITHOUT_DATA = ("catalog", "retrieval")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*DATA_SET, *WITHOUT_DATA])
    parser.add_argument("--data", type=Path, help="folder that holds the raw data sets")
    parser.add_argument("--work", type=Path, help="keep prepared data here between runs")
    parser.add_argument("--peer-python", help="interpreter of the environment of the peer; default: without it")
    parser.add_argument("--rounds", type=int, help="default: 3 of training, 12 of debiasing, 200 of serving")
    parser.add_argument("--batches", type=int, default=12, help="batches that the peer trains on in a round")
    args = parser.parse_args()
    started = time.perf_counter()
    if args.what == "catalog":
        metrics, config = catalog_size.measure()
    elif args.what == "retrieval":
        metrics, config = retrieval.measure(args.rounds or 200)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            work = args.work or Path(scratch)
            work.mkdir(parents=True, exist_ok=True)
            data = prepared(DATA_SET[args.what], args.data, work)
            if args.what == "training":
                metrics, config = training.measure(data, args.peer_python, args.rounds or 3, args.batches)
            elif args.what == "debiasing":
                metrics, config = debiasing.measure(data, args.rounds or 12)
            else:
                metrics, config = serving.measure(data, args.peer_python, args.rounds or 200)
    command = f"python benchmarks/speed/run.py {args.what}"
    command += "" if args.what in WITHOUT_DATA else " --data $DATA"
    command += " --peer-python $PEERS/bin/python" if args.peer_python else ""
    command += f" --rounds {args.rounds}" if args.rounds else ""
    row = report_row(
        DATA_SET.get(args.what, "random"), "speed", args.what, metrics,
        seconds=time.perf_counter() - started, command=command, config=config,
    )  # fmt: skip
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{args.what}.json"
    path.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
    width = max(map(len, metrics))
    for name, value in metrics.items():
        print(f"{name:{width}}  {value:,.3f}")
    print(path)


if __name__ == "__main__":
    main()
