"""Time and peak memory of `prepare` on 25 million ratings in the MovieLens-25M layout.

The ratings are drawn here (Zipf-like films, log-normal users), so that nothing has to be downloaded:

    python benchmarks/prepare_25m.py

Drawing, preparing and reading each run in a process of their own, so that the peak is that of `prepare` alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

USERS_A_CHUNK = 5_000


def draw(folder: Path, rows: int, users: int, movies: int, seed: int) -> None:
    """Write ratings.csv and movies.csv; a user's ratings stand together, sorted by film, as GroupLens writes them."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(seed)
    popularity = (np.arange(movies) + 30.0) ** -1.1
    cumulative = np.cumsum(popularity) / popularity.sum()
    movie_ids = np.sort(rng.choice(209_171, movies, replace=False) + 1)[rng.permutation(movies)]
    activity = np.clip(rng.lognormal(4.3, 1.2, users), 20, movies / 4)
    activity *= rows / activity.sum()
    redraw = 1.2
    stars, shares = np.arange(1, 11) / 2, [0.02, 0.03, 0.02, 0.07, 0.05, 0.2, 0.13, 0.26, 0.09, 0.13]
    with open(folder / "ratings.csv", "wb") as file:
        for start in range(0, users, USERS_A_CHUNK):
            wanted = activity[start : start + USERS_A_CHUNK]
            counts = np.maximum(20, wanted * redraw).astype(int)
            user = np.repeat(np.arange(start, start + len(wanted)) + 1, counts)
            movie = movie_ids[np.searchsorted(cumulative, rng.random(len(user)))]
            began = np.repeat(rng.integers(789_652_009, 1_570_000_000, len(wanted)), counts)
            frame = pl.DataFrame(
                {
                    "userId": user,
                    "movieId": movie,
                    "rating": rng.choice(stars, len(user), p=shares),
                    "timestamp": began + rng.exponential(3_000, len(user)).astype(int),
                }
            )  # fmt: skip
            frame = frame.unique(["userId", "movieId"], keep="first").sort("userId", "movieId")
            frame.write_csv(file, include_header=start == 0, line_terminator="\r\n")
            redraw *= wanted.sum() / len(frame)  # a user rates a film once; later chunks make up for it
    genres = np.array(["Drama", "Comedy", "Thriller", "Action", "Romance", "Documentary", "Horror", "Sci-Fi"])
    titles = [f"Film {i}, The ({year})" for i, year in zip(movie_ids, rng.integers(1915, 2020, movies), strict=True)]
    picked = ["|".join(rng.choice(genres, n, replace=False)) for n in rng.integers(1, 4, movies)]
    catalog = pl.DataFrame({"movieId": movie_ids, "title": titles, "genres": picked}).sort("movieId")
    catalog.write_csv(folder / "movies.csv", line_terminator="\r\n")


def measure(folder: Path, output: Path) -> dict:
    """Prepare in this process and say what it took."""
    from llm4rec.training.data.prepare import prepare

    report = prepare("movielens", folder, output, report=lambda line: print(line, file=sys.stderr))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": report.seconds, "peak_memory_mb": peak, "stats": report.stats}


def read(output: Path) -> dict:
    """Load the prepared folder in this process and say what it took."""
    from llm4rec.training.data.prepared import PreparedData

    started = time.perf_counter()
    data = PreparedData.load(output)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "events": len(data.interactions.items)}  # fmt: skip


def machine() -> str:
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cores} cores, {round(memory)} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=25_100_000, help="ratings, about")
    parser.add_argument("--users", type=int, default=162_541)
    parser.add_argument("--movies", type=int, default=59_047)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work (about 2 GB); default: a temporary folder")
    parser.add_argument("--result", type=Path, default=Path(__file__).parent / "results/prepare-25m/prepare.json")
    parser.add_argument("--stage", choices=["draw", "measure", "read"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage == "draw":
        return draw(options.folder, options.rows, options.users, options.movies, options.seed)
    if options.stage == "measure":
        return print(json.dumps(measure(options.folder, options.folder / "prepared")))
    if options.stage == "read":
        return print(json.dumps(read(options.folder / "prepared")))

    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        arguments = [f"--{name}={getattr(options, name)}" for name in ("rows", "users", "movies", "seed")]
        command = [sys.executable, __file__, *arguments, f"--folder={folder}"]
        subprocess.run([*command, "--stage=draw"], check=True)
        size = (Path(folder) / "ratings.csv").stat().st_size
        stages = {}
        for stage in ("measure", "read"):
            done = subprocess.run([*command, f"--stage={stage}"], check=True, stdout=subprocess.PIPE)
            stages[stage] = json.loads(done.stdout)
    stats = stages["measure"]["stats"]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    row = {
        "dataset": f"synthetic in the MovieLens-25M layout ({size / 1e6:.0f} MB of CSV)",
        "model": "none",
        "protocol": "llm4rec prepare movielens, in a process of its own",
        "seed": options.seed,
        "metrics": {
            **{key: stats[key] for key in ("users", "items", "interactions", "rows_read", "ties_in_time")},
            "load_seconds": round(stages["read"]["seconds"], 1),
            "load_peak_memory_mb": round(stages["read"]["peak_memory_mb"]),
        },
        "seconds": round(stages["measure"]["seconds"], 1),
        "peak_memory_mb": round(stages["measure"]["peak_memory_mb"]),
        "command": f"python benchmarks/prepare_25m.py {' '.join(arguments)}",
        "config": {name: getattr(options, name) for name in ("rows", "users", "movies")},
        "commit": commit or None,
        "machine": machine(),
        "date": datetime.now(timezone.utc).date().isoformat(),
    }
    options.result.parent.mkdir(parents=True, exist_ok=True)
    options.result.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(row, indent=2))


if __name__ == "__main__":
    main()
