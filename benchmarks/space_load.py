"""Load on the Space: many clients at once, each asking as a visitor does, through the Gradio client.

    python benchmarks/space_load.py

Starts `llm4rec demo` with the default model in a process of its own, and drives it with `--clients` clients for
`--seconds`. Between two requests a client pauses for `--pause` seconds on average, exponentially distributed; a person
reads longer. Clients run on the same cores as the Space, so the latencies hold their work too. Writes a row to
`benchmarks/results/space/`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from gradio_client import Client
from llm4rec.spaces_demo.default_checkpoint import ITEMS
from llm4rec.training.evaluation.report import report_row

RESULTS = Path(__file__).parent / "results" / "space"
MIX = {"recommend": 0.6, "search_items": 0.15, "explain_item": 0.1, "give_feedback": 0.1, "place_new_item": 0.05}
WORDS = ("lantern", "tent", "ultralight mug", "bamboo", "stove titanium", "sleeping bag")
WARM_UP = 60.0
"""Seconds of the same load before the measurement: threads and caches of the Space reach their size."""


def main() -> None:
    """Read the command line, measure, and write the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--pause", type=float, default=2.0, help="mean seconds between an answer and the next request")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    started, load = time.perf_counter(), os.getloadavg()[0]
    metrics = measure(args.clients, args.seconds, args.pause)
    defaults = vars(parser.parse_args([]))
    changed = [
        f"--{name} {value}" for name, value in vars(args).items() if value != defaults[name] and name != "output"
    ]
    row = report_row(
        "built-in-world", "space", "load", metrics,
        seconds=time.perf_counter() - started,
        command=" ".join(["python benchmarks/space_load.py", *changed]),
        seed=0,
        config={
            "clients": args.clients, "load_seconds": args.seconds, "mean_pause_seconds": args.pause,
            "warm_up_seconds": WARM_UP, "mix": MIX, "model": "default checkpoint", "k": 10, "explained": True,
            "cores": os.cpu_count(), "shared": "clients and Space run on the same cores",
            "load_average_before": round(load, 1),
        },
    )  # fmt: skip
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / "load.json"
    path.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
    for name, value in metrics.items():
        print(f"{name:32}  {value:,.3f}")
    print(path)


def measure(clients: int, seconds: float, pause: float) -> dict[str, float]:
    """Latencies, errors and the memory of the Space."""
    with tempfile.TemporaryDirectory() as folder:
        port, begun = _free_port(), time.perf_counter()
        command = [sys.executable, "-m", "llm4rec.training.cli", "demo", "--port", str(port)]
        command += ["--feedback-log", f"{folder}/feedback.sqlite", "--study", f"{folder}/study.jsonl"]
        # Operations are small: threads inside them only wait for each other.
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        try:
            url = _wait_for(server)
            start_up = time.perf_counter() - begun
            answered, errors, facts = _drive(url, server.pid, clients, WARM_UP + seconds, pause)
        finally:
            server.terminate()
            server.wait(timeout=30)
    answered = [(kind, took) for at, kind, took in answered if at >= WARM_UP]
    took = [one for _, one in answered]
    facts = [entry for entry in facts if entry[0] >= WARM_UP]
    fifth = max(1, len(facts) // 5)
    memory = [size for _, size, _ in facts]
    spent = facts[-1][2] - facts[0][2]
    metrics = {
        "start_up_seconds": start_up,
        "requests": float(len(took)),
        "errors": float(len(errors)),
        "requests_per_second": len(took) / seconds,
        "p50_seconds": float(np.percentile(took, 50)),
        "p95_seconds": float(np.percentile(took, 95)),
        "p99_seconds": float(np.percentile(took, 99)),
        "largest_seconds": max(took),
        "cpu_ms_per_request": 1000 * spent / max(1, len(took)),
        "memory_early_mb": statistics.median(memory[:fifth]),
        "memory_late_mb": statistics.median(memory[-fifth:]),
        "memory_peak_mb": max(memory),
    }
    for name in MIX:
        of_kind = [one for kind, one in answered if kind == name]
        if of_kind:
            metrics[f"{name}/p95_seconds"] = float(np.percentile(of_kind, 95))
    for error in errors[:5]:
        print(f"Error: {error}", file=sys.stderr)
    return metrics


def _drive(
    url: str, pid: int, clients: int, seconds: float, pause: float
) -> tuple[list[tuple[float, str, float]], list[str], list[tuple[float, float, float]]]:
    """Answered requests (when asked, kind, seconds), errors, and of the Space (when, memory in MB, CPU seconds)."""
    # There is no certificate to check on loopback, and reading those of the system costs more than a request.
    connected = [Client(url, verbose=False, ssl_verify=False) for _ in range(clients)]
    answered: list[tuple[float, str, float]] = []
    errors: list[str] = []
    begin = time.perf_counter()

    def visit(number: int, client: Client) -> None:
        chance = random.Random(number)
        while True:
            time.sleep(chance.expovariate(1 / pause) if pause else 0)
            if time.perf_counter() - begin > seconds:
                return
            kind = chance.choices(list(MIX), list(MIX.values()))[0]
            asked = time.perf_counter()
            try:
                client.predict(*_arguments(kind, chance), api_name=f"/{kind}")
                answered.append((asked - begin, kind, time.perf_counter() - asked))
            except Exception as error:  # whatever it is, it counts
                errors.append(f"{kind}: {type(error).__name__}: {error}")

    threads = [threading.Thread(target=visit, args=entry, daemon=True) for entry in enumerate(connected)]
    for thread in threads:
        thread.start()
    facts = []
    while time.perf_counter() - begin < seconds:
        facts.append((time.perf_counter() - begin, _resident_mb(pid), _cpu_seconds(pid)))
        time.sleep(0.5)
    for thread in threads:
        thread.join(timeout=60)
    return answered, errors, facts


def _arguments(kind: str, chance: random.Random) -> list:
    history = [f"item-{item:04d}" for item in chance.sample(range(ITEMS), chance.randint(1, 10))]
    item = f"item-{chance.randrange(ITEMS):04d}"
    return {
        "recommend": [history, 10, round(chance.uniform(-1, 2), 1), chance.choice([0.0, 0.3]), [], "short", "en"],
        "search_items": [chance.choice(WORDS), 8],
        "explain_item": [item, history, 0.0],
        "give_feedback": [item, chance.random() < 0.5],
        "place_new_item": [{"title": "A new tent", "category": "tents", "price": 120}, history],
    }[kind]


def _wait_for(server: subprocess.Popen) -> str:
    """URL of the Space, once it is there."""
    for line in server.stdout:
        if found := re.search(r"Open (http\S+)", line):
            # What it prints from now on is not read, and must not fill the pipe.
            threading.Thread(target=server.stdout.read, daemon=True).start()
            return found.group(1)
    raise RuntimeError("The Space ended before it was up; run `llm4rec demo` to see why.")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _cpu_seconds(pid: int) -> float:
    """What a process has computed so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> float:
    """Resident memory of a process in MB (10^6 bytes)."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) * 1024 / 1e6


if __name__ == "__main__":
    main()
