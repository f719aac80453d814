"""YAML values into typed dataclasses: unknown keys and wrong types are errors that say what to write instead.

Shared by recipes (`recipe.py`) and whatever else a user edits; nothing here knows what the fields mean.
"""

from __future__ import annotations

import difflib
import types
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

T = TypeVar("T")


def read_yaml(path: Path) -> Any:
    """Plain values of a YAML file. Raises `ValueError` that names the file, line and column if it is not one."""
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text, expected YAML.") from error


def parse_yaml(text: str, where: str) -> Any:
    """Plain values of a YAML text.

    Args:
        where: what the text is called in errors, such as its file.

    Raises:
        ValueError: naming line and column, if the text is not YAML.
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"{where}{place} is not valid YAML: {getattr(error, 'problem', None) or error}.") from error


def from_values(cls: type[T], values: Any, where: str) -> T:
    """Build a dataclass from plain YAML values, section by section.

    Args:
        where: what the values are called in errors, such as `recipe.yaml`; empty: by their own names.

    Raises:
        ValueError: for an unknown key (names the nearest valid one) or a value of the wrong type.
    """
    if not isinstance(values, dict):
        names = ", ".join(f.name for f in fields(cls))
        raise ValueError(f"{where or 'The text'} holds {values!r}, expected a mapping with keys among {names}.")
    hints = get_type_hints(cls)
    for key in values:
        if key not in hints:
            near = difflib.get_close_matches(str(key), list(hints), n=1, cutoff=0.0)[0]
            raise ValueError(
                f"{where or 'The text'} has the unknown key {key!r}; did you mean {near!r}? Valid: {', '.join(hints)}."
            )
    prefix = f"{where}." if where else ""
    return cls(**{key: convert(value, hints[key], f"{prefix}{key}") for key, value in values.items()})


def convert(value: Any, hint: Any, where: str) -> Any:
    """A YAML value as the type `hint`; numbers written as text (`1e-3`, which YAML reads as text) become numbers.

    Raises:
        ValueError: if the value is of another type.
    """
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if is_dataclass(hint):
        return from_values(hint, {} if value is None else value, where)
    if origin is Literal:
        if value not in args:
            raise ValueError(f"{where} is {value!r}, expected one of {', '.join(map(repr, args))}.")
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        options = [arg for arg in args if arg is not type(None)]
        for index, option in enumerate(options):
            try:
                return convert(value, option, where)
            except ValueError:
                if index == len(options) - 1:
                    raise
    if origin is list and isinstance(value, list):
        return [convert(entry, args[0], f"{where}[{index}]") for index, entry in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {str(key): convert(entry, args[1], f"{where}.{key}") for key, entry in value.items()}
    if hint is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    plain = origin or hint
    if isinstance(value, plain) and not (isinstance(value, bool) and plain is not bool):
        return value
    name = getattr(hint, "__name__", str(hint)) if origin is None else str(hint)
    hint_to_quote = "; put it in quotes" if hint is str and isinstance(value, (bool, int, float)) else ""
    raise ValueError(f"{where} is {value!r} ({type(value).__name__}), expected {name}{hint_to_quote}.")
