"""The data schema: which column plays which role.

Users write one for `llm4rec prepare table`; `prepare` writes one (`schema.yaml`) beside every prepared data set, in
the same form, so a prepared folder is itself a valid table source. Training reads it to learn which modalities items
have.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import yaml

from .typed_yaml import convert, read_yaml

MODALITY_KINDS = ("text", "categorical", "numerical", "vector")
"""Kinds of item column that the fusion head has an encoder for. The `id` modality needs no column."""

_SECTIONS = ("interactions", "items", "users", "modalities")


@dataclass
class ModalitySchema:
    """One item column that the model reads.

    Args:
        kind: one of `text`, `categorical`, `numerical`, `vector`.
        separator: for categorical columns that hold several values in one string, what separates them (`"|"`).
    """

    kind: str
    separator: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in MODALITY_KINDS:
            raise ValueError(f"Unknown modality kind {self.kind!r}. Kinds are {', '.join(MODALITY_KINDS)}.")


@dataclass
class InteractionSchema:
    """Roles of the columns of the interaction table; all but `user` and `item` may be absent (`null`).

    `order` is a number that puts a user's events in order. Where there is one it wins over `time`, and a row may then
    lack a time; rows that lack an order come first. With neither, rows stand in the order of the file. `propensity` is
    the probability, in (0, 1], with which the policy that showed the item did so.
    """

    path: str = "interactions.parquet"
    user: str = "user_id"
    item: str = "item_id"
    time: str | None = None
    rating: str | None = None
    order: str | None = None
    propensity: str | None = None


@dataclass
class ItemSchema:
    """Roles of the columns of the item table.

    `path: null` says that items have no table of their own: modality columns are then read from the interaction table.
    `display` columns are carried along for people to look at; the model never reads them.
    """

    path: str | None = "items.parquet"
    item: str = "item_id"
    title: str | None = None
    modalities: dict[str, ModalitySchema] = field(default_factory=dict)
    display: list[str] = field(default_factory=list)


@dataclass
class UserSchema:
    """Roles of the columns of the user table. Sensitive attributes are audited and never enter the model's input."""

    path: str | None = None
    user: str = "user_id"
    attributes: list[str] = field(default_factory=list)
    sensitive: list[str] = field(default_factory=list)


@dataclass
class DataSchema:
    """A data set's tables and the role of each of their columns.

    Example (`schema.yaml`, paths relative to it):

    ```yaml
    interactions: {path: orders.csv, user: customer_ref, item: sku, time: bought_at, rating: stars}
    items:
      path: products.csv
      item: sku
      title: label
      modalities:
        label: text
        department: categorical
        tags: {kind: categorical, separator: "|"}
        price_eur: numerical
    users: {path: customers.csv, user: ref, attributes: [age_group], sensitive: [gender]}
    ```
    """

    interactions: InteractionSchema = field(default_factory=InteractionSchema)
    items: ItemSchema = field(default_factory=ItemSchema)
    users: UserSchema = field(default_factory=UserSchema)
    source: str | None = None

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "schema") -> DataSchema:
        """Build a schema from plain YAML values; an unknown key is a `ValueError` that names the nearest valid one."""
        values = _checked(cls, values, where)
        sections = {"interactions": InteractionSchema, "items": ItemSchema, "users": UserSchema}
        for name, section in sections.items():
            if name in values:
                values[name] = _checked(section, values[name] or {}, f"{where}: {name}")
        modalities = values.get("items", {}).get("modalities") or {}
        if not isinstance(modalities, dict):
            raise ValueError(
                f"{where}: items.modalities holds {modalities!r}, expected a kind for each column, such as "
                f"`label: text`. Kinds are {', '.join(MODALITY_KINDS)}."
            )
        if "items" in values:
            values["items"]["modalities"] = {
                str(column): _modality(kind, f"{where}: items.modalities.{column}")
                for column, kind in modalities.items()
            }
        return cls(**{k: sections[k](**v) if k in sections else v for k, v in values.items()})

    @classmethod
    def load(cls, path: str | Path) -> DataSchema:
        """Read `schema.yaml`. Raises `FileNotFoundError` or `ValueError` that says what to write there."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path} not found: expected a schema file that gives each column its role.")
        values = read_yaml(path)
        if not isinstance(values, dict):
            found = "is empty" if values is None else f"holds a {type(values).__name__}"
            raise ValueError(f"{path} {found}, expected sections `interactions`, `items`, `users`.")
        return cls.from_dict(values, str(path))

    def save(self, path: str | Path) -> None:
        """Write the schema as YAML."""
        values = asdict(self)
        values["items"]["modalities"] = {
            name: modality.kind if modality.separator is None else asdict(modality)
            for name, modality in self.items.modalities.items()
        }
        Path(path).write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _modality(value: Any, where: str) -> ModalitySchema:
    values = _checked(ModalitySchema, value if isinstance(value, dict) else {"kind": value}, where)
    try:
        return ModalitySchema(**{"kind": None} | values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _checked(cls: type, values: Any, where: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ValueError(f"{where} holds {values!r}, expected a mapping of {', '.join(f.name for f in fields(cls))}.")
    known = [f.name for f in fields(cls)]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0)
            raise ValueError(
                f"{where} has the unknown key {key!r}; did you mean {near[0]!r}? Valid: {', '.join(known)}."
            )
    hints = {name: hint for name, hint in get_type_hints(cls).items() if name not in _SECTIONS}
    given = {
        key: value for key, value in values.items() if value is not None or get_origin(hints.get(key)) is not list
    }
    return {
        key: convert(value, hints[key], f"{where}: {key}") if key in hints else value for key, value in given.items()
    }
