"""Your own tables: CSV, Parquet or JSON Lines on disk, or a data set on the Hugging Face Hub.

`schema.yaml` says which column plays which role. Without one, common names (`user_id`, `movieId`, `stars`, …) and the
items' content are recognised, and what was assumed is reported. A prepared folder is itself such a table.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from ....configuration.schema import DataSchema, InteractionSchema, ItemSchema, UserSchema
from .files import TABLE_ENDINGS, collect, require_columns, require_file, scan_table
from .hub import scan_hub
from .inference import (
    ITEM_NAMES,
    RATING_NAMES,
    TIME_NAMES,
    USER_NAMES,
    find_column,
    find_key,
    find_table,
    infer_items,
    infer_users,
)
from .raw import ROW, RawData, RawTable, ReadOptions

INTERACTION_FILES = (
    "interactions", "ratings", "reviews", "events", "orders", "purchases", "clicks", "transactions", "train", "data",
)  # fmt: skip
ITEM_FILES = ("items", "products", "catalog", "catalogue", "movies", "books", "articles")
USER_FILES = ("users", "customers", "members")


def read_table(path: Path, options: ReadOptions) -> RawData:
    """Read tables by their schema, or by common names.

    Args:
        path: a folder, the interaction file itself, or the id of a data set on the Hub.

    Raises:
        FileNotFoundError: if a table is missing.
        ValueError: if a column that the schema names is missing, or roles cannot be recognised.
    """
    if not path.exists():
        return _read_hub(path, options)
    folder = path if path.is_dir() else path.parent
    schema = options.schema
    if schema is None and (folder / "schema.yaml").is_file():
        schema = DataSchema.load(folder / "schema.yaml")
    lookup = [folder] + ([options.schema_folder] if options.schema_folder else [])
    notes: list[str] = []
    if path.is_file():
        file = path
    elif schema is not None:
        file = _look_up(schema.interactions.path, lookup, "the interaction table (schema: interactions.path)")
    else:
        file = _find_interactions(folder)
        notes.append(f"Interactions: {file.name}.")
    interactions = scan_table(file, big=True)
    if schema is None:
        schema = DataSchema(interactions=_recognise_roles(interactions, notes), items=ItemSchema(path=None))
        items, users = _find_items_and_users(folder, file, interactions, schema, options, notes)
    else:
        items_path, users_path = options.items, None
        if items_path is None and schema.items == ItemSchema() and not (folder / schema.items.path).is_file():
            schema.items.path = None
            notes.append("The schema has no section `items`: items have nothing but their ids.")
        if items_path is None and schema.items.path is not None:
            items_path = _look_up(schema.items.path, lookup, "the item table (schema: items.path)")
        if schema.users.path is not None:
            users_path = _look_up(schema.users.path, lookup, "the user table (schema: users.path)")
        items = scan_table(require_file(items_path, "the item table")) if items_path else None
        users = scan_table(users_path) if users_path else None
    return _assemble(schema, interactions, items, users, notes)


def _assemble(
    schema: DataSchema, interactions: RawTable, items: RawTable | None, users: RawTable | None, notes: list[str]
) -> RawData:
    roles = schema.interactions
    named = {
        role: getattr(roles, role)
        for role in ("user", "item", "time", "rating", "order", "propensity")
        if getattr(roles, role) is not None
    }
    require_columns(interactions, {f"interactions.{role}": column for role, column in named.items()})
    schema.source = "table"
    canonical = {"user": "user_id", "item": "item_id", "time": "timestamp"}
    shown = list(dict.fromkeys(c for c in [schema.items.title, *schema.items.modalities, *schema.items.display] if c))
    if items is not None:
        require_columns(items, {"items.item": schema.items.item, **{f"item column {c}": c for c in shown}})
        items = items.rename({"item_id": schema.items.item, **{c: c for c in shown}})
    elif shown:
        require_columns(interactions, {f"item column {c} (items.path is null)": c for c in shown})
        items = _items_inside(interactions, roles.item, shown)
    if users is not None:
        attributes = list(dict.fromkeys([*schema.users.attributes, *schema.users.sensitive]))
        require_columns(users, {"users.user": schema.users.user, **{f"user column {c}": c for c in attributes}})
        users = users.rename({"user_id": schema.users.user, **{c: c for c in attributes}})
    renamed = interactions.rename({canonical.get(role, role): column for role, column in named.items()})
    return RawData(renamed, schema, items, users, notes)


def _items_inside(interactions: RawTable, key: str, columns: list[str]) -> RawTable:
    """Item columns that stand in the interaction table: the first value that is not missing, per item."""
    values = [pl.col(c).drop_nulls().first() for c in columns]
    frame = interactions.frame.select(ROW, pl.col(key).alias("item_id"), *columns).drop_nulls("item_id")
    frame = frame.group_by("item_id", maintain_order=True).agg(pl.col(ROW).first(), *values).sort(ROW)
    return RawTable(frame, interactions.file, interactions.places, {"item_id": interactions.name(key)})


def _look_up(name: str, folders: list[Path], what: str) -> Path:
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    return require_file(folders[0] / name, what)


def _find_interactions(folder: Path) -> Path:
    found = find_table(folder, INTERACTION_FILES, TABLE_ENDINGS)
    if found is not None:
        return found
    others = {*ITEM_FILES, *USER_FILES, "readme"}
    tables = sorted(
        p for p in folder.iterdir()
        if p.is_file() and p.name.lower().removesuffix(".gz").endswith(TABLE_ENDINGS)
        and p.name.split(".")[0].lower() not in others
    )  # fmt: skip
    if len(tables) == 1:
        return tables[0]
    names = ", ".join(p.name for p in tables) or "no table"
    raise FileNotFoundError(
        f"{folder}: cannot tell which file holds the interactions ({names}). Name the file itself, or write "
        "schema.yaml with `interactions: {path: …, user: …, item: …}`."
    )


def _recognise_roles(table: RawTable, notes: list[str]) -> InteractionSchema:
    roles = InteractionSchema(
        path=table.file.name,
        user=find_column(table.columns, USER_NAMES) or "",
        item=find_column(table.columns, ITEM_NAMES) or "",
        time=find_column(table.columns, TIME_NAMES),
        rating=find_column(table.columns, RATING_NAMES),
    )
    for role, column in (("user", roles.user), ("item", roles.item)):
        if not column:
            raise ValueError(
                f"{table.file}: no column looks like the {role}'s id; columns: {', '.join(table.columns)}. Write "
                f"schema.yaml beside it: `interactions: {{path: {table.file.name}, user: COLUMN, item: COLUMN}}`."
            )
    notes.append(
        f"{table.file.name}: no schema, so user is taken from {roles.user}, item from {roles.item}, "
        f"time from {roles.time or 'no column (order of the file)'}, rating from {roles.rating or 'no column'}."
    )
    return roles


def _find_items_and_users(
    folder: Path, file: Path, interactions: RawTable, schema: DataSchema, options: ReadOptions, notes: list[str]
) -> tuple[RawTable | None, RawTable | None]:
    items = users = None
    items_path = options.items or find_table(folder, ITEM_FILES, TABLE_ENDINGS)
    users_path = find_table(folder, USER_FILES, TABLE_ENDINGS)
    if items_path is not None and items_path != file:
        items = scan_table(require_file(items_path, "the item table"))
        ids = _some_ids(interactions, schema.interactions.item)
        schema.items, said = infer_items(items, find_key(items, ids, "items"))
        notes += said
    if users_path is not None and users_path != file:
        users = scan_table(users_path)
        ids = _some_ids(interactions, schema.interactions.user)
        schema.users, said = infer_users(users, find_key(users, ids, "users"))
        notes += said
    return items, users


def _some_ids(table: RawTable, column: str) -> list[str]:
    ids = collect(table.frame.select(pl.col(column).cast(pl.String).str.strip_chars()).head(200_000), table.file)
    return ids[column].drop_nulls().str.strip_suffix(".0").unique(maintain_order=True).to_list()


def _read_hub(path: Path, options: ReadOptions) -> RawData:
    name = path.as_posix()
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or path.is_absolute() or name.startswith((".", "~")):
        return _missing(path)
    if name.lower().removesuffix(".gz").endswith(TABLE_ENDINGS):
        return _missing(path)
    schema, notes = options.schema, [f"{name} is not on disk: read from the Hugging Face Hub."]
    default = InteractionSchema().path
    config = schema.interactions.path if schema is not None and schema.interactions.path != default else None
    interactions = scan_hub(name, config)
    items = users = None
    if schema is None:
        schema = DataSchema(interactions=_recognise_roles(interactions, notes), items=ItemSchema(path=None))
        schema.users = UserSchema()
    else:
        items = scan_hub(name, schema.items.path) if schema.items.path not in (None, ItemSchema().path) else None
        users = scan_hub(name, schema.users.path) if schema.users.path else None
    if options.items is not None:
        items = scan_table(require_file(options.items, "the item table"))
    return _assemble(schema, interactions, items, users, notes)


def _missing(path: Path) -> RawData:
    if path.parent.is_dir():
        require_file(path, "a table, a folder of tables, or the id of a data set on the Hub (name/name)")
    raise FileNotFoundError(f"{path} not found: expected a table, a folder of tables, or a Hub id (name/name).")
