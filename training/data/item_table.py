"""The item and user tables of a prepared data set, in the types that `prepared` promises.

Called by :mod:`.prepare` with the ids that interactions name.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ...configuration.schema import ItemSchema, ModalitySchema, UserSchema
from .cleaning import EXAMPLES, Findings
from .kinds import EXPECTED, as_kind, as_string, as_text, unescape
from .parsing import parse_id
from .sources.files import collect
from .sources.raw import ROW, RawTable


@dataclass
class Entities:
    """Rows of an item or user table.

    Args:
        frame: the id column, :data:`ROW` and the columns of the schema, as they stand in the file; ids are distinct.
        raw: where they come from; `None` if there is no such table.
        without_id: rows skipped because their id is empty.
        duplicates: rows skipped because their id stands further up.
    """

    frame: pl.DataFrame
    raw: RawTable | None
    without_id: int = 0
    duplicates: int = 0


def read_entities(raw: RawTable | None, key: str, wanted: pl.Series | None) -> Entities:
    """Read an item or user table.

    Args:
        key: `item_id` or `user_id`.
        wanted: ids whose columns are needed; of others only the id is kept in memory. `None`: all.
    """
    if raw is None:
        return Entities(pl.DataFrame(schema={key: pl.String, ROW: pl.UInt32}), None)
    frame = raw.frame.select(ROW, *raw.columns)
    frame = frame.with_columns(parse_id(raw, key).alias(key))
    if wanted is not None:
        needed = pl.col(key).is_in(wanted.implode())
        others = [column for column in raw.columns if column != key]
        frame = frame.with_columns([pl.when(needed).then(pl.col(column)).alias(column) for column in others])
    read = collect(frame, raw.file)
    named = read.drop_nulls(key)
    distinct = named.unique(key, keep="first", maintain_order=True)
    return Entities(distinct, raw, len(read) - len(named), len(named) - len(distinct))


def select(entities: Entities, key: str, ids: pl.Series) -> pl.DataFrame:
    """Rows in the order of `ids`, nulls where the table lacks an id."""
    wanted = pl.DataFrame({key: ids})
    return wanted.join(entities.frame, on=key, how="left", maintain_order="left")


def build_items(
    entities: Entities, ids: pl.Series, schema: ItemSchema, findings: Findings
) -> tuple[pl.DataFrame, int]:
    """The item table for `ids`, and how many values could not be read; `schema` is changed to describe it.

    The title's column becomes `title` and is a text modality; multi-valued labels become lists.

    Raises:
        ValueError: if two columns would take the same name, if a numerical column holds no number at all, or if
            vectors differ in length.
    """
    found = select(entities, "item_id", ids)
    columns: dict[str, pl.Series] = {}
    modalities: dict[str, ModalitySchema] = {}
    unreadable = 0
    if schema.title is not None and schema.title in found.columns:
        columns["title"] = as_text(found[schema.title])
        modalities["title"] = ModalitySchema("text")
    for name, modality in schema.modalities.items():
        if name == schema.title and modality.kind == "text":
            continue
        if name in columns or name == "item_id":
            raise ValueError(
                f"The modality {name!r} would take the name of the item's {'id' if name == 'item_id' else 'title'}. "
                "Rename the column, or name it as such in schema.yaml."
            )
        try:
            columns[name], bad = as_kind(found[name], modality.kind, modality.separator)
        except (ValueError, pl.exceptions.PolarsError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{entities.raw.file}, column {name!r} as {modality.kind}: {reason}") from error
        modalities[name] = ModalitySchema(modality.kind)
        if bad.any():
            unreadable += _report_unreadable(entities.raw, found, name, modality.kind, bad, findings)
    for name in schema.display:
        if name not in columns and name != "item_id":
            columns[name] = found[name]
    schema.item, schema.modalities = "item_id", modalities
    schema.title = "title" if "title" in columns else None
    schema.display = [name for name in columns if name not in modalities and name != "title"]
    return pl.DataFrame({"item_id": ids, **columns}), unreadable


def _report_unreadable(
    raw: RawTable, found: pl.DataFrame, name: str, kind: str, bad: pl.Series, findings: Findings
) -> int:
    filled = found[name].is_not_null().sum()
    records = found.filter(bad).sort(ROW).head(EXAMPLES)
    places = raw.places(records[ROW].to_list())
    examples = [
        f"{raw.file.name}, {place}: column {raw.name(name)!r} holds {value!r}, expected {EXPECTED[kind]}."
        for place, value in zip(places, records[name], strict=True)
    ]
    if bad.sum() == filled:
        raise ValueError(
            f"{examples[0]} No value of the column can be read as {kind}: "
            f"give it another kind in schema.yaml, or take it out of the modalities."
        )
    summary = f"Left {int(bad.sum()):,} values of {raw.file.name}, column {raw.name(name)!r}, empty."
    findings.add(summary, examples, "Correct them, or give the column another kind in schema.yaml.")
    return int(bad.sum())


def build_users(entities: Entities, ids: pl.Series, schema: UserSchema) -> pl.DataFrame:
    """The user table for `ids`: every attribute as text; `schema` is changed to describe it."""
    found = select(entities, "user_id", ids)
    columns = {}
    names = dict.fromkeys([*schema.attributes, *schema.sensitive])
    for name in names if entities.raw is not None else ():
        text = unescape(as_string(found[name])).str.strip_chars()
        columns[name] = pl.select(pl.when(text != "").then(text).alias(name)).to_series()
    schema.user = "user_id"
    schema.attributes = [name for name in schema.attributes if name in columns]
    schema.sensitive = [name for name in schema.sensitive if name in columns]
    return pl.DataFrame({"user_id": ids, **columns})
