"""`prepare table`: your own files, with a schema or by common names."""

from __future__ import annotations

import gzip
from datetime import datetime, timezone
from pathlib import Path

import polars as pl
import pytest
from llm4rec.training.data.prepare import prepare
from llm4rec.training.data.prepared import PreparedData

SCHEMA = """
interactions: {path: orders.csv, user: customer_ref, item: sku, time: bought_at, rating: stars}
items:
  path: products.csv
  item: sku
  title: label
  modalities:
    department: categorical
    tags: {kind: categorical, separator: "|"}
    price_eur: numerical
    shape: vector
users: {path: customers.csv, user: ref, attributes: [age_group], sensitive: [gender]}
"""
ORDERS = (
    "\ufeffsku;customer_ref;bought_at;stars\n"
    "A-1; c1 ;2024-05-17T08:30:00Z;4\n"
    "B-2;c1;2024-05-17 08:29;5\n"
    "B-2;c2;2024-05-18;\n"
)
PRODUCTS = (
    "sku\tlabel\tdepartment\ttags\tprice_eur\tshape\n"
    'A-1\t"Blue &amp; red pen"\tOffice\tink|blue|ink\t1.5\t[1, 2]\n'
    "B-2\tLamp\t\t\t\t3 4\n"
    "C-3\tNever sold\tOffice\t\t9\t5 6\n"
)
CUSTOMERS = "ref,age_group,gender,zip\nc1,30-39,F,123\nc9,20-29,M,456\n"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    for name, content in {
        "schema.yaml": SCHEMA,
        "orders.csv": ORDERS,
        "products.csv": PRODUCTS,
        "customers.csv": CUSTOMERS,
    }.items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def test_a_schema_gives_every_column_its_role(shop: Path, tmp_path: Path) -> None:
    report = prepare("table", shop, tmp_path / "out")
    data = PreparedData.load(tmp_path / "out")
    events = pl.read_parquet(tmp_path / "out" / "interactions.parquet")
    assert events.rows() == [
        ("c1", "B-2", 0, 1715934540, 5.0),
        ("c1", "A-1", 1, 1715934600, 4.0),
        ("c2", "B-2", 0, 1715990400, None),
    ]
    assert events.schema == {
        "user_id": pl.String, "item_id": pl.String, "position": pl.Int32, "timestamp": pl.Int64, "rating": pl.Float32,
    }  # fmt: skip
    assert data.items.to_dicts() == [
        {
            "item_id": "A-1", "title": "Blue & red pen", "department": ["Office"], "tags": ["ink", "blue"],
            "price_eur": 1.5, "shape": [1.0, 2.0],
        },
        {"item_id": "B-2", "title": "Lamp", "department": None, "tags": None, "price_eur": None, "shape": [3.0, 4.0]},
    ]  # fmt: skip
    assert data.items.schema["shape"] == pl.List(pl.Float32)
    assert data.users.to_dicts() == [
        {"user_id": "c1", "age_group": "30-39", "gender": "F"},
        {"user_id": "c2", "age_group": None, "gender": None},
    ]
    assert data.schema.items.modalities["title"].kind == "text"
    assert (report.stats["users_without_row"], report.stats["users_without_interactions"]) == (1, 1)


def test_a_propensity_column_that_the_schema_names_stays_with_its_events(shop: Path, tmp_path: Path) -> None:
    (shop / "schema.yaml").write_text(SCHEMA.replace("rating: stars", "rating: stars, propensity: shown_with"))
    lines = ORDERS.splitlines()
    columns = ["shown_with", "0.25", "1e-3", ""]
    (shop / "orders.csv").write_text("\n".join(f"{line};{value}" for line, value in zip(lines, columns, strict=True)))
    prepare("table", shop, tmp_path / "once")
    prepare("table", tmp_path / "once", tmp_path / "twice")
    for folder in ("once", "twice"):
        data = PreparedData.load(tmp_path / folder)
        events = pl.read_parquet(tmp_path / folder / "interactions.parquet").select("item_id", "propensity").rows()
        assert events == [("B-2", 0.001), ("A-1", 0.25), ("B-2", None)]  # in time order
        assert data.schema.interactions.propensity == "propensity"
        assert data.interactions.propensities.tolist() == pytest.approx([0.001, 0.25, float("nan")], nan_ok=True)
        assert data.interactions.keep(data.interactions.items == 0).propensities.tolist() == [0.25]
        assert data.interactions.take([1, 0], first=[1, 1]).propensities[1:].tolist() == [0.001]


def test_data_whose_schema_names_no_propensity_has_none(shop: Path, tmp_path: Path) -> None:
    prepare("table", shop, tmp_path / "out")
    data = PreparedData.load(tmp_path / "out")
    assert data.interactions.propensities is None
    assert data.schema.interactions.propensity is None
    assert data.interactions.rows(0, 1).propensities is None


def test_an_unreadable_propensity_is_skipped_and_shown(shop: Path, tmp_path: Path) -> None:
    (shop / "schema.yaml").write_text(SCHEMA.replace("rating: stars", "rating: stars, propensity: shown_with"))
    lines = ORDERS.splitlines()
    columns = ["shown_with", "0.25", "seldom", "0.5"]
    (shop / "orders.csv").write_text("\n".join(f"{line};{value}" for line, value in zip(lines, columns, strict=True)))
    report = prepare("table", shop, tmp_path / "out")
    assert "orders.csv, line 3: column 'shown_with' holds 'seldom', expected a number" in report.warnings[0]
    assert PreparedData.load(tmp_path / "out").interactions.propensities.tolist() == [0.25, 0.5]


def test_a_prepared_folder_prepares_to_itself(shop: Path, tmp_path: Path) -> None:
    prepare("table", shop, tmp_path / "once")
    prepare("table", tmp_path / "once", tmp_path / "twice")
    for name in ("interactions", "items", "users"):
        once, twice = (pl.read_parquet(tmp_path / n / f"{name}.parquet") for n in ("once", "twice"))
        assert once.equals(twice)


def test_a_schema_elsewhere_finds_the_tables_of_the_folder(shop: Path, tmp_path: Path) -> None:
    (shop / "schema.yaml").rename(tmp_path / "roles.yaml")
    report = prepare("table", shop, tmp_path / "out", schema=tmp_path / "roles.yaml")
    assert report.stats["interactions"] == 3


def test_a_wrong_column_names_the_nearest_one(shop: Path, tmp_path: Path) -> None:
    (shop / "schema.yaml").write_text(SCHEMA.replace("bought_at", "bougt_at"))
    with pytest.raises(ValueError, match=r"orders\.csv: no column 'bougt_at' .*Did you mean 'bought_at'"):
        prepare("table", shop, tmp_path / "out")


def test_a_wrong_item_column_names_the_nearest_one(shop: Path, tmp_path: Path) -> None:
    (shop / "schema.yaml").write_text(SCHEMA.replace("price_eur", "price"))
    with pytest.raises(ValueError, match=r"products\.csv: no column 'price' .*Did you mean 'price_eur'"):
        prepare("table", shop, tmp_path / "out")


def test_a_missing_table_names_the_nearest_file(shop: Path, tmp_path: Path) -> None:
    (shop / "orders.csv").rename(shop / "order.csv")
    with pytest.raises(FileNotFoundError, match=r"orders\.csv not found.*Did you mean order\.csv"):
        prepare("table", shop, tmp_path / "out")


def test_vectors_of_two_lengths_are_refused(shop: Path, tmp_path: Path) -> None:
    (shop / "products.csv").write_text(PRODUCTS.replace("3 4", "3 4 5"))
    with pytest.raises(
        ValueError, match=r"products\.csv, column 'shape' as vector: holds vectors of 2 and of 3 numbers"
    ):
        prepare("table", shop, tmp_path / "out")


def test_a_column_without_any_number_is_not_numerical(shop: Path, tmp_path: Path) -> None:
    (shop / "schema.yaml").write_text(SCHEMA.replace("department: categorical", "department: numerical"))
    with pytest.raises(
        ValueError, match=r"products\.csv, line 2: column 'department' holds 'Office', expected a number"
    ):
        prepare("table", shop, tmp_path / "out")


def test_an_unreadable_number_is_left_empty_and_shown(shop: Path, tmp_path: Path) -> None:
    (shop / "products.csv").write_text(PRODUCTS.replace("Lamp\t\t\t\t", "Lamp\t\t\tcheap\t"))
    report = prepare("table", shop, tmp_path / "out")
    assert report.stats["item_values_unreadable"] == 1
    assert "products.csv, line 3: column 'price_eur' holds 'cheap', expected a number." in report.warnings[0]


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet", "jsonl", "jsonl.gz"])
def test_every_file_type_gives_the_same_data(kind: str, tmp_path: Path) -> None:
    events = pl.DataFrame(
        {"userId": [1, 1, 2], "item_id": ["b", "a", "b"], "stars": [1.0, 2.0, 3.0], "ts": [30, 20, 10]}
    )
    plain = tmp_path / f"interactions.{kind.removesuffix('.gz')}"
    getattr(events, {"csv": "write_csv", "parquet": "write_parquet", "jsonl": "write_ndjson"}[plain.suffix[1:]])(plain)
    if kind.endswith(".gz"):
        (tmp_path / f"interactions.{kind}").write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    report = prepare("table", tmp_path / f"interactions.{kind}", tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out" / "interactions.parquet").rows() == [
        ("1", "a", 0, 20, 2.0), ("1", "b", 1, 30, 1.0), ("2", "b", 0, 10, 3.0),
    ]  # fmt: skip
    assert any(
        "user is taken from userId, item from item_id, time from ts, rating from stars" in n for n in report.notes
    )


def test_tables_without_a_schema_are_found_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("visitorid,itemid,timestamp\n1,10,1433221332117\n2,20,1433223236124\n")
    (tmp_path / "products.jsonl").write_text(
        '{"sku": 10, "name": "Pen", "labels": ["ink", "blue"], "price": 2.5}\n'
        '{"sku": 20, "name": "Lamp", "price": 7}\n'
    )
    (tmp_path / "users.csv").write_text("uid,Gender,plan,email\n1,F,free,a@b\n2,M,paid,c@d\n")
    prepare("table", tmp_path, tmp_path / "out")
    data = PreparedData.load(tmp_path / "out")
    assert data.items.to_dicts() == [
        {"item_id": "10", "title": "Pen", "labels": ["ink", "blue"], "price": 2.5},
        {"item_id": "20", "title": "Lamp", "labels": None, "price": 7.0},
    ]
    assert data.schema.users.sensitive == ["Gender"]
    assert data.interactions.timestamps.tolist() == [1433221332, 1433223236]


def test_unrecognised_columns_ask_for_a_schema(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("who,what\n1,2\n")
    with pytest.raises(
        ValueError, match=r"no column looks like the user's id; columns: who, what\. Write schema\.yaml"
    ):
        prepare("table", tmp_path, tmp_path / "out")


def test_item_columns_may_stand_in_the_interaction_table(tmp_path: Path) -> None:
    (tmp_path / "plays.csv").write_text("user,song,artist,genre\n1,s1,,pop\n1,s2,Bo,rock\n2,s1,Al,\n")
    (tmp_path / "schema.yaml").write_text(
        "interactions: {path: plays.csv, user: user, item: song}\n"
        "items: {path: null, modalities: {artist: categorical, genre: categorical}}\n"
    )
    prepare("table", tmp_path, tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out" / "items.parquet").to_dicts() == [
        {"item_id": "s1", "artist": ["Al"], "genre": ["pop"]},
        {"item_id": "s2", "artist": ["Bo"], "genre": ["rock"]},
    ]


def test_ids_that_pandas_turned_into_floats_meet_their_items(tmp_path: Path) -> None:
    pl.DataFrame({"user": [1.0, 2.0, None], "item": [10.0, 20.0, 10.0]}).write_parquet(
        tmp_path / "interactions.parquet"
    )
    (tmp_path / "items.csv").write_text("item,title\n10,Pen\n20,Lamp\n")
    report = prepare("table", tmp_path, tmp_path / "out")
    assert histories(tmp_path / "out") == [("1", "10"), ("2", "20")]
    assert report.stats["unparsable_examples"] == [
        "interactions.parquet, row 3: column 'user' is empty, expected a user id."
    ]


def test_ids_written_as_floats_in_csv_meet_their_items(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text("user,item\n1.0,10.0\n2.0,20.0\n")
    (tmp_path / "items.csv").write_text("item,title\n10,Pen\n20,Lamp\n")
    prepare("table", tmp_path, tmp_path / "out")
    assert histories(tmp_path / "out") == [("1", "10"), ("2", "20")]


def test_a_hub_data_set_is_loaded_when_nothing_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    rows = datasets.Dataset.from_dict({"user_id": [1, 1], "item_id": [5, 6], "timestamp": [20, 10]})
    asked = []

    def load(name: str, config: str | None) -> datasets.DatasetDict:
        asked.append((name, config))
        return datasets.DatasetDict({"train": rows})

    monkeypatch.setattr(datasets, "load_dataset", load)
    prepare("table", "someone/clicks", tmp_path / "out")
    assert asked == [("someone/clicks", None)]
    assert histories(tmp_path / "out") == [("1", "6"), ("1", "5")]


def test_an_unreachable_hub_is_a_plain_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def fail(name: str, config: str | None) -> None:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(FileNotFoundError, match=r"someone/clicks is neither on disk nor readable on the Hub"):
        prepare("table", "someone/clicks", tmp_path / "out")


def test_a_mistyped_path_never_asks_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", lambda *_: pytest.fail("asked the Hub"))
    for path in (tmp_path / "nowhere", "data/ratings.csv", "nowhere"):
        with pytest.raises(FileNotFoundError, match="not found"):
            prepare("table", path, tmp_path / "out")


def histories(folder: Path) -> list[tuple[str, str]]:
    return pl.read_parquet(folder / "interactions.parquet").select("user_id", "item_id").rows()


def test_half_a_gzip_file_is_an_error_that_says_so(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n * n % 97},{n * 7919 % 104729}\n" for n in range(200_000))
    whole = gzip.compress(f"user,item,time\n{rows}".encode())
    (tmp_path / "interactions.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"interactions\.csv\.gz (is not a whole gzip file|cannot be read)"):
        prepare("table", tmp_path / "interactions.csv.gz", tmp_path / "out")
    (tmp_path / "interactions.jsonl.gz").write_bytes(gzip.compress(b'{"user": 1, "item": 2}\n')[:-12])
    with pytest.raises(ValueError, match=r"interactions\.jsonl\.gz is not a whole gzip file"):
        prepare("table", tmp_path / "interactions.jsonl.gz", tmp_path / "out")


def test_typed_parquet_columns_become_the_types_of_the_contract(tmp_path: Path) -> None:
    day = datetime(2024, 5, 17, 8, 30, tzinfo=timezone.utc)
    pl.DataFrame({"user": ["u"] * 2, "item": [7, 8], "when": [day, day.replace(hour=7)]}).write_parquet(
        tmp_path / "clicks.parquet"
    )
    pl.DataFrame(
        {
            "item": [7, 8],
            "brand": pl.Series(["A", None], dtype=pl.Categorical),
            "new": [True, False],
            "shape": pl.Series([[0.5, 1.0], [2.0, 3.0]], dtype=pl.Array(pl.Float64, 2)),
            "aisles": [[1, 2], []],
        }
    ).write_parquet(tmp_path / "goods.parquet")
    (tmp_path / "schema.yaml").write_text(
        "interactions: {path: clicks.parquet, user: user, item: item, time: when}\n"
        "items: {path: goods.parquet, item: item, "
        "modalities: {brand: categorical, new: numerical, shape: vector, aisles: categorical}}\n"
    )
    prepare("table", tmp_path, tmp_path / "out")
    items = pl.read_parquet(tmp_path / "out" / "items.parquet")
    assert items.rows() == [("7", ["A"], 1.0, [0.5, 1.0], ["1", "2"]), ("8", None, 0.0, [2.0, 3.0], None)]
    assert pl.read_parquet(tmp_path / "out" / "interactions.parquet")["timestamp"].to_list() == [
        1715931000,
        1715934600,
    ]
