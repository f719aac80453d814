"""Parquet without pyarrow: the same values as pyarrow reads, and a refusal of everything else."""

import datetime
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llm4rec.modeling_llm4rec.catalog import Catalog
from llm4rec.modeling_llm4rec.parquet_tables import read_arrays, read_table, write_table

COLUMNS = {
    "string": st.text(max_size=5),
    "bytes": st.binary(max_size=5),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "number": st.floats(allow_nan=False),
    "truth": st.booleans(),
}
COLUMNS |= {f"list of {name}": st.lists(st.none() | values, max_size=4) for name, values in COLUMNS.items()}
COLUMNS["lists of lists"] = st.lists(st.none() | st.lists(st.none() | st.integers(0, 3), max_size=3), max_size=3)
COLUMNS["few strings"] = st.sampled_from(["red", "blue"])


@pytest.fixture
def without_pyarrow(monkeypatch):
    """Call it to have pyarrow gone."""
    return lambda: monkeypatch.setitem(sys.modules, "pyarrow", None)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_table_reads_as_pyarrow_reads_it(tmp_path, data):
    rows = data.draw(st.integers(0, 20))
    table = {
        name: data.draw(st.lists(st.none() | values, min_size=rows, max_size=rows)) for name, values in COLUMNS.items()
    }
    path = tmp_path / "table.parquet"
    write_table(table, path)
    expected = read_table(path)
    assert expected == table
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        assert read_table(path) == expected


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_pages_groups_and_dictionaries_of_a_long_table(tmp_path, without_pyarrow, compression):
    numbers = np.random.default_rng(0)
    table = {
        "id": [f"item-{row}" for row in range(5000)],  # too many to be in a dictionary of this size
        "kind": [["a", None, "b"][row % 3] for row in range(5000)],
        "tags": [[None, [], ["x"] * (row % 5)][row % 3] for row in range(5000)],
        "price": numbers.random(5000).tolist(),
        "small": [row % 2 == 0 for row in range(5000)],
    }
    path = tmp_path / "table.parquet"
    pyarrow.parquet.write_table(
        pyarrow.table(table),
        path,
        compression=compression,
        row_group_size=1700,
        data_page_size=900,
        dictionary_pagesize_limit=2000,
    )
    without_pyarrow()
    assert read_table(path) == table


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32", "int64", "float32", "float64", "bool"])
def test_arrays_keep_their_values_and_their_width(tmp_path, without_pyarrow, dtype):
    values = np.arange(200).astype(dtype)
    write_table({"values": values, "again": values[::-1]}, tmp_path / "table.parquet")
    without_pyarrow()
    found = read_arrays(tmp_path / "table.parquet")
    assert found["values"].tolist() == values.tolist()
    assert found["again"].tolist() == values[::-1].tolist()


def test_arrays_of_strings_or_with_gaps_are_refused(tmp_path, without_pyarrow):
    write_table({"values": [1, None]}, tmp_path / "gaps.parquet")
    write_table({"values": ["a"]}, tmp_path / "strings.parquet")
    without_pyarrow()
    with pytest.raises(ValueError, match="column 'values' lacks values"):
        read_arrays(tmp_path / "gaps.parquet")
    with pytest.raises(ValueError, match="column 'values' does not hold one number a row"):
        read_arrays(tmp_path / "strings.parquet")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([{"a": 1, "b": 2}], "holds records in column 'new'"),
        ([{"a": 1}], "holds records in column 'new'"),
        ([datetime.date(2024, 5, 1)], "holds dates, decimals or the like in column 'new'"),
        ([datetime.datetime(2024, 5, 1)], "holds dates, decimals or the like in column 'new'"),
    ],
)
def test_what_only_pyarrow_can_read_names_the_column(tmp_path, without_pyarrow, values, why):
    write_table({"item_id": ["i0"], "new": values}, tmp_path / "catalog.parquet")
    assert Catalog.load(tmp_path / "catalog.parquet").columns["new"] == values
    without_pyarrow()
    with pytest.raises(ImportError, match=f"{why}; reading it needs pyarrow"):
        Catalog.load(tmp_path / "catalog.parquet")


def test_other_compressions_need_pyarrow(tmp_path, without_pyarrow):
    pyarrow.parquet.write_table(pyarrow.table({"item_id": ["i0"]}), tmp_path / "catalog.parquet", compression="snappy")
    without_pyarrow()
    with pytest.raises(ImportError, match="compressed otherwise than by gzip; reading it needs pyarrow"):
        Catalog.load(tmp_path / "catalog.parquet")


def test_writing_needs_pyarrow(tmp_path, without_pyarrow):
    without_pyarrow()
    with pytest.raises(ImportError, match="Writing Parquet needs pyarrow"):
        write_table({"item_id": ["i0"]}, tmp_path / "catalog.parquet")


def test_a_damaged_file_is_refused_by_name(tmp_path, without_pyarrow):
    path = tmp_path / "catalog.parquet"
    write_table({"item_id": [f"i{row}" for row in range(300)], "price": [0.5] * 300}, path)
    whole = path.read_bytes()
    without_pyarrow()
    expected = read_table(path)
    for cut in (0, 3, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"catalog\.parquet is damaged"):
            read_table(path)
    for place in range(4, len(whole) - 8, 7):  # whatever a byte becomes, it is an error or a table, never a hang
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        try:
            read_table(path)
        except (ValueError, ImportError):
            continue
    path.write_bytes(whole)
    assert read_table(path) == expected
