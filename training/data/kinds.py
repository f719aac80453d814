"""A raw column becomes a modality: text, categorical, numerical or vector.

Called by :mod:`.item_table` for every column that the schema names. Each function returns the column in the type that
`items.parquet` promises and a mask of the values it could not read; a missing value is null and no error.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

import polars as pl

_ENTITY = r"&(?:#\d+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]{1,31});"

EXPECTED = {
    "text": "text",
    "categorical": "a label or a list of labels",
    "numerical": "a number",
    "vector": "a list of finite numbers",
}
"""What each kind expects, for messages."""


def as_kind(column: pl.Series, kind: str, separator: str | None = None) -> tuple[pl.Series, pl.Series]:
    """Convert a column to a modality kind.

    Returns:
        the column as str, list[str], float64 or list[float32]; and a boolean mask of values that could not be read.

    Raises:
        ValueError: if vectors differ in length.
    """
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if kind == "text":
        return as_text(column), pl.repeat(False, len(column), eager=True)
    if kind == "categorical":
        return as_labels(column, separator), pl.repeat(False, len(column), eager=True)
    if kind == "numerical":
        return as_number(column)
    return as_vector(column, separator)


def as_text(column: pl.Series) -> pl.Series:
    """Trimmed strings with HTML entities unescaped; a list of paragraphs becomes one text, an empty text is null."""
    if isinstance(column.dtype, (pl.List, pl.Array)):
        column = column.cast(pl.List(pl.String)).list.drop_nulls().list.join(" ")
    text = as_string(column).str.strip_chars()
    listed = text.str.contains(r'(?s)^\[(?:\s*".*")?\s*\]$').fill_null(value=False)
    if listed.any():
        joined = [" ".join(_flat_json(value, None)) for value in text.filter(listed)]
        text = text.scatter(listed.arg_true(), joined)
    text = unescape(text).str.strip_chars()
    return _null_where(text, text == "")


def as_string(column: pl.Series) -> pl.Series:
    """Strings; whole numbers stored as floats (pandas does so where values are missing) lose their `.0`."""
    if column.dtype == pl.String:
        return column
    if column.dtype.is_float():
        column = column.fill_nan(None)
        whole = column.cast(pl.Int64, strict=False)
        as_whole = (whole.cast(column.dtype) == column).fill_null(value=False)
        return whole.cast(pl.String).zip_with(as_whole, column.cast(pl.String))
    return column.cast(pl.String)


def _null_where(column: pl.Series, mask: pl.Series) -> pl.Series:
    return pl.select(pl.when(~mask.fill_null(value=False)).then(column).alias(column.name)).to_series()


def unescape(text: pl.Series) -> pl.Series:
    """`Oils &amp; Serums` → `Oils & Serums`."""
    escaped = text.str.contains(_ENTITY).fill_null(value=False)
    if not escaped.any():
        return text
    values = [html.unescape(value) for value in text.filter(escaped)]
    return text.scatter(escaped.arg_true(), values)


def as_labels(column: pl.Series, separator: str | None = None) -> pl.Series:
    """Lists of distinct trimmed labels in their first order; no label is null.

    A string that is a JSON list is flattened, however deep: `[["Beauty", "Nails"]]` → `["Beauty", "Nails"]`. Another
    string is cut at `separator`, or is one label.
    """
    if isinstance(column.dtype, (pl.List, pl.Array)):
        while isinstance(column.dtype.inner, (pl.List, pl.Array)):
            column = column.cast(pl.List(pl.List(column.dtype.inner.inner))).list.eval(
                pl.element().explode(empty_as_null=False)
            )
        lists = column.cast(pl.List(pl.String))
    else:
        strings = as_string(column).str.strip_chars()
        nested = strings.str.starts_with("[").fill_null(value=False)
        lists = strings.str.split(separator) if separator else strings.reshape((-1, 1)).arr.to_list()
        if nested.any():
            pairs = zip(strings, lists.to_list(), nested, strict=True)
            flat = [_flat_json(value, separator) if is_json else labels for value, labels, is_json in pairs]
            lists = pl.Series(flat, dtype=pl.List(pl.String))
    name = column.name
    rows = pl.DataFrame({"list": lists}).with_row_index("row").explode("list")
    rows = rows.with_columns(unescape(rows["list"]).str.strip_chars().alias("list"))
    rows = rows.filter(pl.col("list").is_not_null() & (pl.col("list") != ""))
    rows = rows.unique(["row", "list"], keep="first", maintain_order=True)
    rows = rows.group_by("row", maintain_order=True).agg("list")
    every = pl.DataFrame({"row": pl.arange(0, len(column), dtype=pl.UInt32, eager=True)})
    labels = every.join(rows, on="row", how="left", maintain_order="left")["list"]
    return labels.cast(pl.List(pl.String)).alias(name)


def _flat_json(value: str, separator: str | None) -> list[str]:
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return value.split(separator) if separator else [value]
    return [text for text in _leaves(parsed) if text]


def _leaves(value: Any) -> Iterator[str]:
    stack = [value]
    while stack:
        top = stack.pop()
        if isinstance(top, list):
            stack.extend(reversed(top))
        elif isinstance(top, dict):
            stack.extend(reversed([f"{key}: {leaf}" for key, leaf in top.items()]))
        elif top is not None:
            yield str(top)


def as_number(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Float64 and the mask of what is there and no finite number. NaN in a float column is a missing value."""
    if column.dtype.is_temporal():
        column = column.cast(pl.Datetime("us"), strict=False).dt.epoch("s")
    if column.dtype.is_float():
        column = column.fill_nan(None)
    if column.dtype == pl.String:
        column = column.str.strip_chars()
        column = _null_where(column, column.str.to_lowercase().is_in(["", "nan", "null", "none", "na"]))
    if isinstance(column.dtype, (pl.List, pl.Array, pl.Struct)):
        numbers = pl.Series(column.name, [None] * len(column), dtype=pl.Float64)
    else:
        numbers = column.cast(pl.Float64, strict=False)
        numbers = _null_where(numbers, ~numbers.is_finite())
    return numbers, numbers.is_null() & column.is_not_null()


def as_vector(column: pl.Series, separator: str | None = None) -> tuple[pl.Series, pl.Series]:
    """List[float32], all of one length, and the mask of what is there and no list of finite numbers.

    Raises:
        ValueError: if lengths differ; names both lengths and the first row of each.
    """
    if column.dtype == pl.String:
        text = column.str.strip_chars()
        column = text = _null_where(text, text == "")
        inside = text.str.strip_chars("[]()").str.strip_chars()
        inside = (
            inside.str.replace_all(re.escape(separator), " ") if separator else inside.str.replace_all(r"[,;|]", " ")
        )
        words = inside.str.replace_all(r"\s+", " ").str.strip_chars().str.split(" ")
        vectors = words.cast(pl.List(pl.Float32), strict=False)
    elif isinstance(column.dtype, (pl.List, pl.Array)):
        vectors = column.cast(pl.List(pl.Float32), strict=False)
        column = _null_where(column, vectors.list.len() == 0)
    else:
        vectors = pl.Series(column.name, [None] * len(column), dtype=pl.List(pl.Float32))
    numbers = vectors.list.eval(pl.element().is_finite().fill_null(value=False)).list.all()
    vectors = _null_where(vectors, ~numbers)
    lengths = vectors.list.len()
    if lengths.drop_nulls().n_unique() > 1:
        first = lengths.drop_nulls()[0]
        other = (lengths != first).fill_null(value=False).arg_true()[0]
        raise ValueError(
            f"holds vectors of {first} and of {lengths[other]} numbers (the latter in item row "
            f"{other + 1}), expected one length. Correct the vectors or take the column out of the modalities."
        )
    return vectors.alias(column.name), vectors.is_null() & column.is_not_null()
