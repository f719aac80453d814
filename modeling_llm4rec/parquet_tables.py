"""Tables in Parquet: written by pyarrow, read by it or, where it is missing, by this module.

Catalog and memory are kept in Parquet alone. A checkpoint that travels to the Hub as remote code is read where there
is nothing but torch and transformers, and a second copy of the catalog in another format would double it and could
fall behind; so what `write_table` writes can also be read with numpy and zlib. That is a part of Parquet: gzip or no
compression, plain and dictionary encoding, and columns of strings, bytes, numbers and booleans, or lists of them.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# gzip, as zlib is part of Python and snappy, pyarrow's default, is not.
WRITING = {"compression": "gzip", "compression_level": 6, "data_page_version": "1.0"}

_MAGIC = b"PAR1"
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
_UNCOMPRESSED, _GZIP = 0, 2
_PLAIN, _PLAIN_DICTIONARY, _RLE, _RLE_DICTIONARY = 0, 2, 3, 8
_OPTIONAL, _REPEATED = 1, 2
_BOOLEAN, _BYTE_ARRAY = 0, 6
_NUMBERS = {1: np.dtype("<i4"), 2: np.dtype("<i8"), 4: np.dtype("<f4"), 5: np.dtype("<f8")}
_STRING, _LIST, _INTEGER, _UNKNOWN = 1, 3, 10, 11
"""Logical types that are read, by their number in the format."""


def write_table(columns: dict[str, Any], path: str | Path) -> None:
    """Write columns (lists or arrays) as Parquet.

    Raises:
        ImportError: without pyarrow.
    """
    pyarrow, parquet = _pyarrow()
    parquet.write_table(pyarrow.table(columns), path, **WRITING)


def read_table(path: str | Path) -> dict[str, list]:
    """Columns of a Parquet file as lists of plain values, `None` where there is none.

    Raises:
        ImportError: without pyarrow, for what only pyarrow can read; the message names it.
        ValueError: if the file is damaged.
    """
    try:
        parquet = _pyarrow()[1]
    except ImportError:
        return _read(path)
    return parquet.read_table(path).to_pydict()


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Columns of numbers, none of them missing, as arrays that own their memory. Raises as `read_table` does."""
    try:
        parquet = _pyarrow()[1]
    except ImportError:
        return _read(path, as_arrays=True)
    table = parquet.read_table(path, memory_map=True)
    return {name: table[name].to_numpy().copy() for name in table.column_names}


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("Writing Parquet needs pyarrow: `pip install pyarrow`.") from error
    return pyarrow, pyarrow.parquet


def _needs_pyarrow(path: str | Path, what: str) -> ImportError:
    return ImportError(f"{path} {what}; reading it needs pyarrow: `pip install pyarrow`.")


@dataclass
class _Leaf:
    """A column as it is stored.

    Attributes:
        kind: physical type.
        logical: number and content of the logical type; (0, {}) for none.
        max_definition: definition level of a value that is there.
        lists: definition level of an entry, for every list around the values from the outside in.
    """

    name: str
    kind: int
    logical: tuple[int, dict]
    max_definition: int
    lists: list[int]


def _read(path: str | Path, as_arrays: bool = False) -> dict[str, Any]:
    data = Path(path).read_bytes()
    try:
        if data[:4] != _MAGIC or data[-4:] != _MAGIC:
            raise ValueError("it does not begin and end as a Parquet file does")
        length = int.from_bytes(data[-8:-4], "little")
        footer = _Thrift(data, len(data) - 8 - length).structure()
        leaves = _leaves(footer[2], path)
        parts: list[list] = [[] for _ in leaves]
        for group in footer[4]:
            for leaf, chunk, part in zip(leaves, group[1], parts, strict=True):
                part += _pages(data, leaf, chunk[3], path)
        if as_arrays:
            return {leaf.name: _array(leaf, part) for leaf, part in zip(leaves, parts, strict=True)}
        return {
            leaf.name: [row for page in part for row in _rows(leaf, *page)]
            for leaf, part in zip(leaves, parts, strict=True)
        }
    except (ValueError, LookupError, TypeError, RecursionError, struct.error, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}. Copy or download it again.") from error


def _leaves(schema: list[dict], path: str | Path) -> list[_Leaf]:
    """The columns of a schema, which is a tree written depth first."""
    leaves, position = [], 1
    for _ in range(schema[0].get(5, 0)):
        name, definition, lists = schema[position][4].decode(), 0, []
        while True:
            element = schema[position]
            position += 1
            repetition = element.get(3, 0)
            definition += repetition in (_OPTIONAL, _REPEATED)
            if repetition == _REPEATED:
                lists.append(definition)
            children = element.get(5, 0)
            if not children:
                break
            if children > 1 or (repetition != _REPEATED and _logical(element)[0] != _LIST):
                raise _needs_pyarrow(path, f"holds records in column {name!r}")
        logical = _logical(element)
        if logical[0] not in (0, _STRING, _INTEGER, _UNKNOWN) or element[1] not in (_BOOLEAN, _BYTE_ARRAY, *_NUMBERS):
            raise _needs_pyarrow(path, f"holds dates, decimals or the like in column {name!r}")
        leaves.append(_Leaf(name, element[1], logical, definition, lists))
    return leaves


def _logical(element: dict) -> tuple[int, dict]:
    return next(iter(element.get(10, {}).items()), (0, {}))


def _pages(data: bytes, leaf: _Leaf, column: dict, path: str | Path) -> list[tuple[Any, Any, Any]]:
    """Repetition levels, definition levels and values of every page of a column."""
    if column[4] not in (_UNCOMPRESSED, _GZIP):
        raise _needs_pyarrow(path, "is compressed otherwise than by gzip")
    position = min(column[9], column.get(11, column[9]))
    pages, dictionary, left = [], None, column[5]
    while left > 0:
        reader = _Thrift(data, position)
        header = reader.structure()
        body = data[reader.position : reader.position + header[3]]
        position = reader.position + header[3]
        if column[4] == _GZIP:
            body = zlib.decompressobj(31).decompress(body, header[2])
        if len(body) != header[2]:
            raise ValueError(f"a page of column {leaf.name!r} is cut off")
        if header[1] == _DICTIONARY_PAGE:
            dictionary = _plain(leaf, body, header[7][1])
        elif header[1] == _DATA_PAGE:
            count, encoding = header[5][1], header[5][2]
            pages.append(_page(leaf, body, count, encoding, dictionary))
            left -= count
        else:
            raise _needs_pyarrow(path, "has pages of another version")
    return pages


def _page(leaf: _Leaf, body: bytes, count: int, encoding: int, dictionary: Any) -> tuple[Any, Any, Any]:
    repetition = definition = None
    start = 0
    if leaf.lists:
        size = int.from_bytes(body[:4], "little")
        repetition = _hybrid(body[4 : 4 + size], len(leaf.lists).bit_length(), count)
        start = 4 + size
    if leaf.max_definition:
        size = int.from_bytes(body[start : start + 4], "little")
        definition = _hybrid(body[start + 4 : start + 4 + size], leaf.max_definition.bit_length(), count)
        start += 4 + size
    there = count if definition is None else int((definition == leaf.max_definition).sum())
    body = body[start:]
    if encoding == _PLAIN:
        values = _plain(leaf, body, there)
    elif encoding in (_PLAIN_DICTIONARY, _RLE_DICTIONARY):
        indices = _hybrid(body[1:], body[0], there) if there else np.zeros(0, dtype=np.int64)
        values = dictionary[indices]
    elif encoding == _RLE and leaf.kind == _BOOLEAN:
        values = _hybrid(body[4:], 1, there).astype(bool)
    else:
        raise ValueError(f"column {leaf.name!r} has the encoding {encoding}, which nobody wrote")
    return repetition, definition, values


def _plain(leaf: _Leaf, body: bytes, count: int) -> np.ndarray:
    if leaf.kind == _BOOLEAN:
        return np.unpackbits(np.frombuffer(body, np.uint8), bitorder="little")[:count].astype(bool)
    if leaf.kind in _NUMBERS:
        dtype = _NUMBERS[leaf.kind]
        if leaf.logical[0] == _INTEGER and not leaf.logical[1].get(2, True):
            dtype = np.dtype(f"<u{dtype.itemsize}")
        return np.frombuffer(body, dtype, count)
    values, position = np.empty(count, dtype=object), 0
    for index in range(count):
        (length,) = struct.unpack_from("<I", body, position)
        position += 4 + length
        if position > len(body):
            raise ValueError(f"a value of column {leaf.name!r} is cut off")
        value = body[position - length : position]
        values[index] = value.decode() if leaf.logical[0] == _STRING else value
    return values


def _hybrid(body: bytes, width: int, count: int) -> np.ndarray:
    """Integers of `width` bits in runs, each one value repeated or values packed into groups of eight."""
    parts, position, found = [], 0, 0
    while found < count:
        reader = _Thrift(body, position)
        run = reader.varint()
        position = reader.position
        if run & 1:
            size = (run >> 1) * width
            bits = np.unpackbits(np.frombuffer(body, np.uint8, size, position), bitorder="little")
            values = bits.reshape(-1, width) @ (1 << np.arange(width)) if width else np.zeros((run >> 1) * 8, np.int64)
        else:
            size = math.ceil(width / 8)
            value = int.from_bytes(body[position : position + size], "little")
            values = np.full(min(run >> 1, count - found), value, dtype=np.int64)
        if not len(values):
            raise ValueError("a run of values is empty")
        position += size
        parts.append(values)
        found += len(values)
    return np.concatenate(parts)[:count] if parts else np.zeros(0, dtype=np.int64)


def _array(leaf: _Leaf, pages: list) -> np.ndarray:
    if leaf.lists or leaf.kind == _BYTE_ARRAY:
        raise ValueError(f"column {leaf.name!r} does not hold one number a row")
    if any(definition is not None and (definition < leaf.max_definition).any() for _, definition, _ in pages):
        raise ValueError(f"column {leaf.name!r} lacks values")
    empty = np.zeros(0, dtype=_NUMBERS.get(leaf.kind, bool))
    return np.concatenate([values for _, _, values in pages]) if pages else empty


def _rows(leaf: _Leaf, repetition: np.ndarray | None, definition: np.ndarray | None, values: np.ndarray) -> list:
    """Values put back into rows, lists and gaps."""
    plain = values.tolist()
    if definition is None:
        return plain
    if repetition is None:
        there = iter(plain)
        return [next(there) if level == leaf.max_definition else None for level in definition.tolist()]
    rows: list = []
    there = iter(plain)
    open_lists: list[list] = [[] for _ in leaf.lists]

    def entry(depth: int, level: int) -> Any:
        if depth == len(leaf.lists):
            return next(there) if level == leaf.max_definition else None
        if level < leaf.lists[depth]:
            return [] if level == leaf.lists[depth] - 1 else None
        open_lists[depth] = inside = []
        inside.append(entry(depth + 1, level))
        return inside

    for repeated, level in zip(repetition.tolist(), definition.tolist(), strict=True):
        where = rows if repeated == 0 else open_lists[repeated - 1]
        where.append(entry(repeated, level))
    return rows


class _Thrift:
    """Reader of the compact protocol of Parquet's headers; structures become dicts by field number."""

    def __init__(self, data: bytes, position: int):
        self.data, self.position = data, position

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.position]
            self.position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def _integer(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def structure(self) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while kind := self.data[self.position]:
            self.position += 1
            number = number + (kind >> 4) if kind >> 4 else self._integer()
            fields[number] = self._value(kind & 0x0F)
        self.position += 1
        return fields

    def _value(self, kind: int, in_list: bool = False) -> Any:
        if kind in (1, 2):  # in a structure the type says the value, in a list a byte does
            if not in_list:
                return kind == 1
            self.position += 1
            return self.data[self.position - 1] == 1
        if kind == 3:
            self.position += 1
            return int.from_bytes(self.data[self.position - 1 : self.position], "little", signed=True)
        if kind in (4, 5, 6):
            return self._integer()
        if kind == 7:
            self.position += 8
            return struct.unpack_from("<d", self.data, self.position - 8)[0]
        if kind == 8:
            length = self.varint()
            self.position += length
            return self.data[self.position - length : self.position]
        if kind in (9, 10):
            size, entries = self.data[self.position] >> 4, self.data[self.position] & 0x0F
            self.position += 1
            size = self.varint() if size == 15 else size
            return [self._value(entries, in_list=True) for _ in range(size)]
        if kind == 12:
            return self.structure()
        raise ValueError(f"its header holds the unknown type {kind}")


__all__ = ["read_arrays", "read_table", "write_table"]
