"""Title search: from what a person writes to the item that is meant.

Used by the recommendation pipeline, the command line and the Space. An item's id comes first, then its exact title,
then the one title that is close enough; where several are, or none, the answer is an error that lists the nearest.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import numpy as np

from .catalog import TITLE_COLUMN, Catalog

CLOSE_ENOUGH = 0.5
"""Least similarity at which a title is taken for another spelling of what was written."""

MARGIN = 0.1
"""By how much the closest title must be closer than the next."""

LEAST_IN_COMMON = 0.4
"""Share of a text's trigrams plus similarity, below which a title is not suggested."""

MAX_CHARACTERS = 300
"""What is read of a text or title; no title is told apart by what comes later."""

SEGMENT = 2**17
"""Items that are indexed together."""

CANDIDATES = 64
"""Titles that are compared exactly, of those that the index finds nearest."""

_WORD = re.compile(r"[^\W_]+")
_SPACE, _BREAK = ord(" "), ord("\n")
# ASCII in one step: letters small, digits, line breaks as they are, all else a space.
_ASCII = bytes(ord(c.lower()) if (c := chr(i)).isascii() and c.isalnum() else _SPACE for i in range(256))
_ASCII = _ASCII[:_BREAK] + b"\n" + _ASCII[_BREAK + 1 :]


class TitleNotFoundError(ValueError):
    """No item, or more than one, is meant by a text.

    Attributes:
        text: what was written.
        suggestions: indices of the nearest items, nearest first.
    """

    def __init__(self, message: str, text: str, suggestions: list[int]):
        super().__init__(message)
        self.text = text
        self.suggestions = suggestions


class TitleSearch:
    """Finds items of a catalog by id or title.

    Similarity of two texts is the Dice coefficient of the trigrams of their words, so case, accents, punctuation and
    the order of words do not count: *the matrix* and *Matrix, The (1999)* have 0.86. The index is built at the first
    text that is neither an id nor an exact title (a million titles: seconds), and extended when the catalog grows.

    Args:
        catalog: items without a title are found by their id alone.
    """

    def __init__(self, catalog: Catalog):
        self.catalog = catalog
        self._by_title: dict[str, int] = {}
        self._namesakes: dict[str, list[int]] = {}
        self._read = 0
        self._segments: list[_Segment] = []

    def find(self, text: Any) -> int | None:
        """Index of the item whose id, or whose title and no other's, this is; `None` if there is none."""
        written = "" if text is None else str(text).strip()
        if written in self.catalog:
            return self.catalog.index(written)
        self._read_titles()
        key = _key(written)
        return None if key in self._namesakes else self._by_title.get(key)

    def resolve(self, text: Any) -> int:
        """Index of the item that is meant.

        Args:
            text: an id, a title or something close to one.

        Raises:
            TitleNotFoundError: if nothing is close enough, or several items are equally likely.
        """
        written = "" if text is None else str(text).strip()
        if not written:
            raise TitleNotFoundError("Got an empty text, expected the id or the title of an item.", written, [])
        found = self.find(written)
        if found is not None:
            return found
        namesakes = self._namesakes.get(_key(written))
        if namesakes:
            raise self._error(written, f"{len(namesakes)} items have the title {_quoted(written)}", namesakes)
        nearest = self._nearest(written)
        if nearest and nearest[0][0] >= CLOSE_ENOUGH:
            # The same words in another order are no other title.
            least = 1.0 if nearest[0][0] == 1 else nearest[0][0] - MARGIN
            rivals = [item for closeness, item in nearest if closeness >= least]
            if len(rivals) == 1:
                return rivals[0]
            raise self._error(written, f"Several titles are close to {_quoted(written)}", rivals)
        suggestions = self.suggest(written)
        raise self._error(written, f"No item has the id {_quoted(written)} or a title close to it", suggestions)

    def suggest(self, text: Any, k: int = 5) -> list[int]:
        """The k items that are likeliest meant by a text, which may be the beginning of a title; best first.

        Items that share next to nothing with the text are left out, so there may be fewer.
        """
        written = "" if text is None else str(text).strip()
        found = [self.catalog.index(written)] if written in self.catalog else []
        self._read_titles()
        key = _key(written)
        found += self._namesakes.get(key) or ([self._by_title[key]] if key in self._by_title else [])
        wanted, begun = _trigrams(_words(written)), _trigrams(_words(written), whole=False)
        ranked = []
        for item in self._candidates(written, max(k, CANDIDATES), contained=True):
            title = _trigrams(_words(self._title(item)))
            # What is still being typed lacks its end, not its beginning.
            ranked.append((len(begun & title) / max(1, len(begun)) + _dice(wanted, title), -item))
        found += [-item for score, item in sorted(ranked, reverse=True) if score >= LEAST_IN_COMMON]
        return list(dict.fromkeys(found))[:k]

    def _nearest(self, text: str) -> list[tuple[float, int]]:
        """Similarity and index of the nearest titles, nearest first; a title with other numbers is never near."""
        words = _words(text)
        wanted, numbers = _trigrams(words), {word for word in words if any(c.isdigit() for c in word)}
        ranked = []
        for item in self._candidates(text, CANDIDATES):
            title = _words(self._title(item))
            if numbers <= set(title):
                ranked.append((_dice(wanted, _trigrams(title)), item))
        return sorted(ranked, key=lambda entry: (-entry[0], entry[1]))

    def _candidates(self, text: str, most: int, contained: bool = False) -> list[int]:
        """Indices of the items whose titles share most trigrams with a text, by the index."""
        codes = np.unique(_codes(_encoded([text[:MAX_CHARACTERS]])))
        codes = codes[codes != _NO_TRIGRAM]
        if not len(codes):
            return []
        self._extend_index()
        best: list[tuple[float, int]] = []
        for segment in self._segments:
            shared, sizes = segment.shared(codes), segment.sizes
            scores = 2 * shared / (len(codes) + sizes)
            if contained:
                scores = scores + shared / len(codes)
            near = np.flatnonzero(scores > 0)
            if len(near) > most:
                near = near[np.argpartition(-scores[near], most)[:most]]
            best += [(float(scores[row]), segment.start + int(row)) for row in near]
        return [item for _, item in sorted(best, key=lambda entry: (-entry[0], entry[1]))[:most]]

    def _title(self, item: int) -> str:
        titles = self.catalog.columns.get(TITLE_COLUMN)
        title = titles[item] if titles else None
        return "" if title is None else str(title)[:MAX_CHARACTERS]

    def _read_titles(self) -> None:
        """Note the exact titles of items that are new since the last time."""
        for item in range(self._read, len(self.catalog)):
            key = _key(self._title(item))
            if key in self._by_title:
                self._namesakes.setdefault(key, [self._by_title[key]]).append(item)
            elif key:
                self._by_title[key] = item
        self._read = len(self.catalog)

    def _extend_index(self) -> None:
        """Index items that are new since the last time."""
        while (done := sum(len(segment.sizes) for segment in self._segments)) < len(self.catalog):
            if self._segments and len(self._segments[-1].sizes) < SEGMENT:
                done = self._segments.pop().start
            items = range(done, min(done + SEGMENT, len(self.catalog)))
            self._segments.append(_Segment(done, [self._title(item) for item in items]))

    def _error(self, text: str, what: str, suggestions: list[int]) -> TitleNotFoundError:
        named = "; ".join(f"{_quoted(self.catalog.title(i))} ({self.catalog.item_ids[i]})" for i in suggestions[:5])
        nearest = f" Nearest: {named}." if named else ""
        if len(text.split()) == 1:  # it may have been meant for an id
            nearest = f" Nearest ids: {', '.join(self.catalog.nearest(text[:MAX_CHARACTERS]))}.{nearest}"
        return TitleNotFoundError(f"{what}.{nearest} Pass an item's id or its full title.", text, suggestions)


class _Segment:
    """Which of some thousand titles holds which trigram: postings lists, sorted by trigram.

    Args:
        start: index of the first item.
        titles: of the items from there on.
    """

    def __init__(self, start: int, titles: list[str]):
        self.start = start
        codes = _codes(text := _encoded(titles))
        owners = np.cumsum(text == _BREAK, dtype=np.int32)[1:-1]  # of the middle byte of each trigram
        real = codes != _NO_TRIGRAM
        codes, owners = codes[real], owners[real] - 1
        self.sizes = np.bincount(owners, minlength=len(titles)).astype(np.int32)
        self.owners = owners[np.argsort(codes, kind="stable")]
        self.ends = np.cumsum(np.bincount(codes, minlength=2**16)).astype(np.int32)

    def shared(self, codes: np.ndarray) -> np.ndarray:
        """(titles,) how many of these trigrams each title holds."""
        starts = np.where(codes > 0, self.ends[codes.astype(np.int64) - 1], 0)
        owners = [self.owners[start:end] for start, end in zip(starts, self.ends[codes], strict=True)]
        shared = np.bincount(np.concatenate(owners), minlength=len(self.sizes))
        return np.minimum(shared, self.sizes)


_NO_TRIGRAM = 0


def _encoded(titles: list[str]) -> np.ndarray:
    """Titles as bytes, each after a line break: small letters, one space between words."""
    plain = [title if title.isascii() else " ".join(_words(title)) for title in titles]
    joined = "\n".join(plain)
    if joined.count("\n") != len(plain) - 1:
        joined = "\n".join(title.replace("\n", " ") for title in plain)
    ascii_text = joined.encode("utf-8", "replace").translate(_ASCII_KEEPING_UTF8)
    text = np.frombuffer(b"\n" + ascii_text + b"\n", dtype=np.uint8)
    space = text == _SPACE
    again = np.zeros_like(space)
    again[1:] = space[1:] & space[:-1]
    return text[~again]


_ASCII_KEEPING_UTF8 = _ASCII[:128] + bytes(range(128, 256))


def _codes(text: np.ndarray) -> np.ndarray:
    """(bytes - 2,) uint16 hash of each three neighbouring bytes; 0 where they are not of one word."""
    word_end = (text == _SPACE) | (text == _BREAK)
    wide = np.where(word_end, _SPACE, text).astype(np.uint32)
    mixed = (wide[:-2] * 0x9E3779B1) ^ (wide[1:-1] * 0x85EBCA6B) ^ (wide[2:] * 0xC2B2AE35)
    codes = ((mixed >> 16) ^ (mixed & 0xFFFF)).astype(np.uint16)
    codes[codes == _NO_TRIGRAM] = 1
    codes[word_end[1:-1]] = _NO_TRIGRAM
    return codes


def _words(text: str) -> list[str]:
    """Words without accents, in small letters."""
    text = text[:MAX_CHARACTERS]
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return _WORD.findall(text.casefold())


def _trigrams(words: list[str], whole: bool = True) -> set[str]:
    """Three neighbouring characters of words with a space before and after; `whole=False`: not after the last."""
    found = set()
    for place, word in enumerate(words):
        padded = f" {word} " if whole or place + 1 < len(words) else f" {word}"
        found |= {padded[at : at + 3] for at in range(max(1, len(padded) - 2))}
    return found


def _dice(one: set[str], other: set[str]) -> float:
    return 2 * len(one & other) / (len(one) + len(other)) if one and other else 0.0


def _key(text: str) -> str:
    return " ".join(text.casefold().split())


def _quoted(text: str) -> str:
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return f"“{shown[:59]}…”" if len(shown) > 60 else f"“{shown}”"


__all__ = ["TitleNotFoundError", "TitleSearch"]
