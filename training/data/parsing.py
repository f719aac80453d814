"""Ids, times, ratings and orders as polars expressions, whatever type they have in the file.

Called by :mod:`.cleaning`. The form of a column is decided once, from its first values; a value that does not fit it
becomes null and is reported with its place, never guessed at.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from .sources.files import collect
from .sources.raw import RawTable

LATEST = 7_258_118_400
"""Unix seconds of the year 2200: a later time is a wrong unit."""

_SAMPLE = 10_000
_UNITS = (
    (1e11, 1, "unix seconds"),
    (1e14, 1_000, "unix milliseconds"),
    (1e17, 1_000_000, "unix microseconds"),
    (float("inf"), 1_000_000_000, "unix nanoseconds"),
)
_ISO_FORMATS = ("%Y-%m-%d %H:%M:%S%.f%z", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")


@dataclass(frozen=True)
class Parsed:
    """How to read a column.

    Args:
        value: the parsed value, null where it cannot be read.
        expected: what a good value looks like, for messages.
    """

    value: pl.Expr
    expected: str


def parse_id(raw: RawTable, column: str) -> pl.Expr:
    """Trimmed strings; whole numbers that pandas stored as floats lose their `.0`; empty or NaN is null."""
    dtype = raw.frame.collect_schema()[column]
    if isinstance(dtype, (pl.List, pl.Array, pl.Struct)):
        raise ValueError(
            f"{raw.file}: column {raw.name(column)!r} holds {dtype}, expected ids (text or whole numbers)."
        )
    value = pl.col(column)
    if dtype.is_float():
        whole = value.cast(pl.Int64, strict=False)
        text = pl.when(whole.cast(dtype) == value).then(whole.cast(pl.String)).otherwise(value.cast(pl.String))
        return pl.when(value.is_finite()).then(text)
    if dtype != pl.String:
        return value.cast(pl.String)
    text = value.str.strip_chars()
    sample = _sample(raw, column)
    if sample.str.contains(r"^\d+\.0$").any():
        text = pl.when(text.str.contains(r"^-?\d+\.0$")).then(text.str.strip_suffix(".0")).otherwise(text)
    return pl.when(text != "").then(text)


def parse_number(raw: RawTable, column: str, dtype: type[pl.DataType]) -> tuple[Parsed, pl.Expr]:
    """A finite number, and whether the field is filled; an empty field or NaN is a missing value, not an error."""
    value = pl.col(column)
    if raw.frame.collect_schema()[column] == pl.String:
        text = value.str.strip_chars()
        filled = text.is_not_null() & ~text.str.to_lowercase().is_in(["", "nan", "null", "none", "na"])
        number = text.cast(dtype, strict=False)
    else:
        number = value.cast(dtype, strict=False)
        filled = value.is_not_null() & ~number.is_nan().fill_null(value=False)
    return Parsed(pl.when(number.is_finite()).then(number), "a number"), filled


def parse_time(raw: RawTable, column: str) -> tuple[Parsed, pl.Expr]:
    """Unix seconds (int64) from unix time in any unit or from ISO dates, and whether the field is filled.

    The unit is recognised by the median of the first values, so a column has one unit. Dates without a zone are UTC.
    Times before 1970 or after 2200 cannot be read: they are what a wrong unit or a placeholder looks like.
    """
    dtype = raw.frame.collect_schema()[column]
    value = pl.col(column)
    if dtype.is_temporal():
        seconds = value.cast(pl.Datetime("us")).dt.epoch("s") if dtype == pl.Date else value.dt.epoch("s")
        return Parsed(_within(seconds), "a time from 1970 to 2199"), value.is_not_null()
    if dtype == pl.String:
        text = value.str.strip_chars()
        filled = text.is_not_null() & (text != "")
        sample = _sample(raw, column).str.strip_chars()
        numbers = sample.cast(pl.Float64, strict=False)
        if numbers.is_not_null().sum() * 2 < len(sample):
            return Parsed(
                _within(_iso_seconds(text)), "an ISO date such as 2024-05-17 or 2024-05-17T08:30:00Z"
            ), filled
        number = text.cast(pl.Float64, strict=False)
    elif dtype.is_numeric():
        number, filled = value.cast(pl.Float64), value.is_not_null()
        numbers = _sample(raw, column).cast(pl.Float64)
    else:
        raise ValueError(
            f"{raw.file}: column {raw.name(column)!r} holds {dtype}, expected unix time or ISO dates. "
            "Name another column in schema.yaml, or set `time: null`."
        )
    numbers = numbers.filter(numbers.is_finite())
    if _are_compact_dates(numbers):
        day = number.cast(pl.Int64, strict=False).cast(pl.String).str.to_date("%Y%m%d", strict=False)
        return Parsed(_within(day.cast(pl.Datetime("us")).dt.epoch("s")), "a date such as 20240517"), filled
    size = numbers.abs().median() if len(numbers) else 0.0
    divisor, unit = next((divisor, unit) for limit, divisor, unit in _UNITS if size < limit)
    return Parsed(_within((number / divisor).floor()), unit), filled


def _within(seconds: pl.Expr) -> pl.Expr:
    return pl.when(seconds.is_between(0, LATEST)).then(seconds.cast(pl.Int64, strict=False))


def _iso_seconds(text: pl.Expr) -> pl.Expr:
    plain = text.str.replace(r"^(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})[T ]?\s*", "${1}-${2}-${3} ").str.strip_chars()
    plain = plain.str.replace(r"\s*(?:Z|UTC)$", "+00:00").str.replace(r"\s+([+-]\d{2}:?\d{2})$", "${1}")
    parsed = [plain.str.to_datetime(form, strict=False, time_unit="us") for form in _ISO_FORMATS]
    return pl.coalesce(*[time.dt.epoch("s") for time in parsed])


def _are_compact_dates(numbers: pl.Series) -> bool:
    """Whether all are such as 20240517."""
    if numbers.is_empty() or not numbers.is_between(19700101, 21991231).all():
        return False
    days = numbers.cast(pl.Int64).cast(pl.String).str.to_date("%Y%m%d", strict=False)
    return days.is_not_null().all()


def _sample(raw: RawTable, column: str) -> pl.Series:
    return collect(raw.frame.select(column).drop_nulls().head(_SAMPLE), raw.file)[column]
