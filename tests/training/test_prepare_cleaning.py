"""What `prepare` drops, keeps, counts and says, whatever the source."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from llm4rec.training.data.filtering import find_k_core
from llm4rec.training.data.prepare import PrepareReport, prepare
from llm4rec.training.data.prepared import FILES, PreparedData

HEADER = "user,item,time,rating\n"


def run(folder: Path, rows: str, items: str | None = None, **options: object) -> PrepareReport:
    raw = folder / "raw"
    raw.mkdir(exist_ok=True)
    (raw / "interactions.csv").write_text(HEADER + rows)
    if items is not None:
        (raw / "items.csv").write_text(items)
    return prepare("table", raw, folder / "out", **options)


def events(folder: Path) -> list[tuple]:
    return pl.read_parquet(folder / "out" / "interactions.parquet").drop("position").rows()


def test_bad_rows_are_skipped_and_shown_with_file_and_line(tmp_path: Path) -> None:
    rows = '1,"a",100,4\n\n1,b,yesterday,4\n,c,100,1\n1,"d\nd",100,2\n1,,100,2\n1,e,100,good\n1,f,NaN,1\n1,g,7,1,9\n'
    report = run(tmp_path, rows)
    assert report.stats["unparsable_examples"] == [
        "interactions.csv, line 4: column 'time' holds 'yesterday', expected unix seconds.",
        "interactions.csv, line 5: column 'user' is empty, expected a user id.",
        "interactions.csv, line 8: column 'item' is empty, expected an item id.",
        "interactions.csv, line 9: column 'rating' holds 'good', expected a number.",
        "interactions.csv, line 10: column 'time' holds 'NaN', expected unix seconds.",
        "interactions.csv, line 11: has more fields than the header names, the first too many is '9'.",
    ]
    assert report.stats["rows_read"] == 8
    assert report.stats["rows_unparsable_by_column"] == {"malformed": 1, "user": 1, "item": 1, "time": 2, "rating": 1}
    assert "Skipped 6 of 8 rows" in report.warnings[0]
    assert [row[1] for row in events(tmp_path)] == ["a", "d\nd"]


def test_strict_stops_at_the_first_bad_row_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"interactions\.csv, line 3: column 'time' holds 'yesterday'"):
        run(tmp_path, "1,a,100,4\n1,b,yesterday,4\n,c,1,1\n", strict=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw"]


def test_an_empty_rating_is_unknown_not_bad(tmp_path: Path) -> None:
    report = run(tmp_path, "1,a,100,4\n1,b,200,\n")
    assert events(tmp_path)[1] == ("1", "b", 200, None)
    assert report.stats["rows_unparsable"] == 0
    assert report.stats["rating_histogram"] == {"4": 1}


@pytest.mark.parametrize(
    ("times", "form"),
    [
        (("1715934600", "1715934601"), "unix seconds"),
        (("1715934600999", "1715934601000"), "unix milliseconds"),
        (("1715934600000001", "1715934601000000"), "unix microseconds"),
        (("2024-05-17T08:30:00Z", "2024-05-17 10:30:01+02:00"), "an ISO date"),
        (("2024-05-17 08:30:00.5", "2024/05/17 08:30:01"), "an ISO date"),
    ],
)
def test_times_are_recognised_and_said(times: tuple[str, str], form: str, tmp_path: Path) -> None:
    report = run(tmp_path, f"1,a,{times[0]},4\n1,b,{times[1]},4\n")
    assert [row[2] for row in events(tmp_path)] == [1715934600, 1715934601]
    assert any(form in note for note in report.notes)


def test_days_are_read_in_every_common_form(tmp_path: Path) -> None:
    for number, day in enumerate(("2024-05-17", "2024/5/17", "20240517")):
        folder = tmp_path / str(number)
        folder.mkdir()
        run(folder, f"1,a,{day},4\n")
        assert events(folder)[0][2] == 1715904000


def test_a_time_in_another_unit_than_its_column_is_not_guessed_at(tmp_path: Path) -> None:
    report = run(tmp_path, "1,a,1715934600,4\n1,b,1715934601,4\n1,c,1715934602000,4\n")
    assert report.stats["unparsable_examples"] == [
        "interactions.csv, line 4: column 'time' holds '1715934602000', expected unix seconds."
    ]


def test_exact_duplicates_go_and_repetitions_stay(tmp_path: Path) -> None:
    report = run(tmp_path, "1,a,100,4\n1,b,100,3\n1,a,100,5\n1,a,200,2\n2,a,100,4\n")
    assert events(tmp_path) == [
        ("1", "a", 100, 4.0), ("1", "b", 100, 3.0), ("1", "a", 200, 2.0), ("2", "a", 100, 4.0),
    ]  # fmt: skip
    assert (report.stats["duplicates"], report.stats["repeats"], report.stats["ties_in_time"]) == (1, 1, 1)


def test_events_of_the_same_second_keep_the_order_of_the_file(tmp_path: Path) -> None:
    items = [f"i{n}" for n in np.random.default_rng(0).permutation(500)]
    report = run(tmp_path, "".join(f"1,{item},100,4\n" for item in items))
    assert [row[1] for row in events(tmp_path)] == items
    assert report.stats["ties_in_time"] == 499


def test_an_item_that_the_item_table_lacks_is_kept_and_shown(tmp_path: Path) -> None:
    report = run(tmp_path, "1,a,1,4\n1,zz,2,4\n2,zz,3,4\n", items="item,title\na,Pen\nb,Lamp\n")
    assert report.stats["unknown_items"] == 1
    assert report.stats["rows_with_unknown_items"] == 2
    assert (
        "interactions.csv, line 3: column 'item' holds 'zz', an item that is not in items.csv." in report.warnings[0]
    )
    items = pl.read_parquet(tmp_path / "out" / "items.parquet")
    assert items.rows() == [("a", "Pen"), ("zz", None)]


def test_strict_stops_at_an_unknown_item(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 3: column 'item' holds 'zz'"):
        run(tmp_path, "1,a,1,4\n1,zz,2,4\n", items="item,title\na,Pen\n", strict=True)


def test_an_item_listed_twice_keeps_its_first_row(tmp_path: Path) -> None:
    report = run(tmp_path, "1,a,1,4\n", items="item,title\na,Pen\na,Pencil\n,Nothing\n")
    assert pl.read_parquet(tmp_path / "out" / "items.parquet").rows() == [("a", "Pen")]
    assert (report.stats["duplicate_items"], report.stats["items_without_id"]) == (1, 1)


def test_ratings_below_the_threshold_are_dropped(tmp_path: Path) -> None:
    report = run(tmp_path, "1,a,1,4\n1,b,2,3.5\n1,c,3,\n", min_rating=4)
    assert [row[1] for row in events(tmp_path)] == ["a"]
    assert report.stats["below_min_rating"] == 2


def test_k_core_repeats_until_nothing_changes(tmp_path: Path) -> None:
    # c is met once; without it user 3 has one event; without user 3 item b has one; without b user 4 has one.
    rows = "1,a,1,4\n1,d,2,4\n2,a,1,4\n2,d,2,4\n3,b,1,4\n3,c,2,4\n4,b,1,4\n4,a,3,4\n"
    report = run(tmp_path, rows, k_core=2)
    assert [(u, i) for u, i, *_ in events(tmp_path)] == [("1", "a"), ("1", "d"), ("2", "a"), ("2", "d")]
    assert report.stats["dropped_by_k_core"] == 4


def test_k_core_agrees_with_removing_one_node_at_a_time() -> None:
    rng = np.random.default_rng(1)
    users, items = rng.integers(0, 50, 200), rng.integers(0, 50, 200)
    left = set(range(200))
    while True:
        weak = [
            e for e in left
            if sum(users[x] == users[e] for x in left) < 3 or sum(items[x] == items[e] for x in left) < 3
        ]  # fmt: skip
        if not weak:
            break
        left.remove(weak[0])
    assert set(find_k_core(users, items, 3).tolist()) == left
    assert 0 < len(left) < 200


def test_a_filter_that_leaves_nothing_says_which_and_what_was_there(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"after the 5-core; before it there were 2 interactions of 1 users and 2 items"
    ):
        run(tmp_path, "1,a,1,4\n1,b,2,4\n", k_core=5)
    with pytest.raises(ValueError, match=r"after dropping ratings below 5; before it there were 2 interactions"):
        run(tmp_path, "1,a,1,4\n1,b,2,4\n", min_rating=5)
    with pytest.raises(ValueError, match=r"after reading; before it there were 1 rows\. For example: .*'soon'"):
        run(tmp_path, "1,a,soon,4\n")
    assert not (tmp_path / "out").exists()


def test_a_header_without_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No interaction is left after reading; before it there were 0 rows"):
        run(tmp_path, "")


def test_an_unclosed_quote_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"interactions\.csv cannot be read.*double quote that is never closed"):
        run(tmp_path, '1,a,1,4\n1,"b,2,4\n1,c,3,4\n')


def test_text_in_another_encoding_is_an_error_that_says_how_to_convert_it(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_bytes("user,item\n1,é\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"not UTF-8 text.*iconv"):
        prepare("table", tmp_path, tmp_path / "out")


def test_an_existing_output_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    run(tmp_path, "1,a,1,4\n")
    with pytest.raises(FileExistsError, match="--overwrite"):
        prepare("table", tmp_path / "not-there", tmp_path / "out")
    assert run(tmp_path, "1,b,1,4\n", overwrite=True).stats["interactions"] == 1
    assert events(tmp_path) == [("1", "b", 1, 4.0)]


def test_overwrite_replaces_nothing_but_a_prepared_data_set(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"thesis\.tex"):
        run(tmp_path, "1,a,1,4\n", overwrite=True)
    with pytest.raises(FileExistsError, match="holds the raw data"):
        prepare("table", tmp_path / "raw", tmp_path / "raw", overwrite=True)
    assert (tmp_path / "raw" / "interactions.csv").is_file()


def test_a_killed_prepare_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    run(tmp_path, "1,a,1,4\n")
    script = (
        "import os, signal, sys, polars as pl\n"
        "write = pl.DataFrame.write_parquet\n"
        "def killed(frame, path, **options):\n"
        "    write(frame, path, **options)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "pl.DataFrame.write_parquet = killed\n"
        "from llm4rec.training.data.prepare import prepare\n"
        "prepare('table', sys.argv[1], sys.argv[2], overwrite=True)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "raw")]
    killed = [subprocess.Popen([*command, str(tmp_path / name)]) for name in ("fresh", "out")]
    assert [process.wait(timeout=120) for process in killed] == [-signal.SIGKILL] * 2
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith(".")) == ["out", "raw"]
    assert PreparedData.load(tmp_path / "out").stats["interactions"] == 1


@pytest.mark.slow
def test_the_result_does_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    n = 60_000
    rows = pl.DataFrame(
        {"user": rng.integers(0, 3000, n), "item": rng.integers(0, 900, n), "time": rng.integers(0, 99, n)}
    )
    rows.write_csv(tmp_path / "interactions.csv")
    script = "import sys; from llm4rec.training.data.prepare import prepare; prepare('table', *sys.argv[1:], k_core=5)"
    for threads in ("1", "4"):
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "interactions.csv"), str(tmp_path / f"out{threads}")],
            env={**os.environ, "POLARS_MAX_THREADS": threads}, check=True, timeout=120,
        )  # fmt: skip
    for name in FILES:
        if name.endswith(".parquet"):
            assert pl.read_parquet(tmp_path / "out1" / name).equals(pl.read_parquet(tmp_path / "out4" / name)), name
        else:
            assert (tmp_path / "out1" / name).read_bytes() == (tmp_path / "out4" / name).read_bytes(), name


def test_the_output_loads_with_hugging_face_datasets(tmp_path: Path) -> None:
    import datasets

    run(tmp_path, "1,a,1,4\n1,b,2,4\n", items="item,title,tags\na,Pen,x|y\nb,Lamp,x|z\n")
    loaded = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "out" / "items.parquet"), cache_dir=str(tmp_path / "cache")
    )
    assert loaded["train"][0] == {"item_id": "a", "title": "Pen", "tags": ["x", "y"]}


def test_stats_json_is_the_report(tmp_path: Path) -> None:
    lines: list[str] = []
    report = run(tmp_path, "1,a,1,4\n1,b,oops,4\n1,b,2,4\n2,a,5,3\n", report=lines.append)
    assert json.loads((tmp_path / "out" / "stats.json").read_text()) == report.stats
    assert report.stats["density"] == pytest.approx(3 / 4)
    assert (report.stats["min_time"], report.stats["max_time"]) == (1, 5)
    assert lines[-1].endswith("2 users, 2 items, 3 interactions.")


def test_an_unknown_source_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Unknown source 'movielenz'\. Sources are movielens"):
        prepare("movielenz", tmp_path, tmp_path / "out")


def test_a_schema_for_a_source_with_a_fixed_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="movielens takes no 'schema'"):
        prepare("movielens", tmp_path, tmp_path / "out", schema=tmp_path / "schema.yaml")
