"""MovieLens as GroupLens publishes it: latest-small, 20M, 25M, 32M (CSV), 10M and 1M (`::`), 100K (`u.data`).

The variant is recognised by the files in the folder. Items: title, release year taken out of it, genres. Users, where
there is a file of them: age and occupation as attributes, gender as a sensitive one; the zip code is not read.

Tags are off unless asked for (`tags=True`). A tag was typed by a user who had seen the film, often minutes after the
rating that evaluation hides: over a whole file, tags tell about test events, and favour films that many will watch.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ....configuration.schema import DataSchema, ItemSchema, ModalitySchema, UserSchema
from .files import (
    collect,
    read_old_text,
    read_records,
    require_file,
    require_folder,
    scan_csv,
    scan_double_colon,
    scan_headless,
)
from .raw import ROW, RawData, RawTable, ReadOptions

TAGS_PER_MOVIE = 10
"""How many of a film's tags are kept, the most frequent first."""

GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip

AGES_1M = {
    "1": "under 18", "18": "18-24", "25": "25-34", "35": "35-44", "45": "45-49", "50": "50-55", "56": "56+",
}  # fmt: skip

OCCUPATIONS_1M = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer",
    "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman",
    "unemployed", "writer",
)  # fmt: skip

# "Toy Story (1995)", "Death Note (2006–2007)", "Balto II (1995) (V)"
_YEAR = r"\s*\((\d{4})(?:\s*[-\u2013]\s*\d{0,4})?\)"


def read_movielens(path: Path, options: ReadOptions) -> RawData:
    """Read a MovieLens folder, or the ratings file inside it.

    Raises:
        FileNotFoundError: if the folder holds no variant that is known.
    """
    if path.is_file():
        path = path.parent
    require_folder(path, "a MovieLens folder")
    if (path / "u.data").is_file():
        return _read_100k(path)
    if (path / "ratings.dat").is_file():
        ratings = scan_double_colon(path / "ratings.dat", ["UserID", "MovieID", "Rating", "Timestamp"])
        return _read_double_colon(path, _canonical(ratings, "UserID", "MovieID", "Rating", "Timestamp"))
    require_file(path / "ratings.csv", "ratings.csv (latest, 20M, 25M, 32M), ratings.dat (1M, 10M) or u.data (100K)")
    ratings = scan_csv(path / "ratings.csv")
    if "Order" in ratings.columns:
        return _read_double_colon(path, _with_gaps_ordered(ratings))
    movies = scan_csv(require_file(path / "movies.csv", "movies.csv beside ratings.csv"))
    data = RawData(
        interactions=_canonical(ratings, "userId", "movieId", "rating", "timestamp"),
        items=_movies(movies.rename({"item_id": "movieId", "title": "title", "genres": "genres"})),
        schema=_schema("movies.csv"),
    )
    if options.tags:
        _add_tags(data, path)
    return data


def _canonical(ratings: RawTable, user: str, movie: str, rating: str, time: str) -> RawTable:
    missing = [c for c in (user, movie, rating, time) if c not in ratings.columns]
    if missing:
        raise ValueError(
            f"{ratings.file}: no column {missing[0]!r}; columns: {', '.join(ratings.columns)}. Expected the MovieLens "
            f"layout ({user}, {movie}, {rating}, {time}); for another layout use the source `table`."
        )
    return ratings.rename({"user_id": user, "item_id": movie, "rating": rating, "timestamp": time})


def _schema(items_path: str, genres_separator: str | None = "|", users: UserSchema | None = None) -> DataSchema:
    modalities = {
        "title": ModalitySchema("text"),
        "genres": ModalitySchema("categorical", genres_separator),
        "year": ModalitySchema("numerical"),
    }
    items = ItemSchema(path=items_path, item="item_id", title="title", modalities=modalities)
    return DataSchema(items=items, users=users or UserSchema(), source="movielens")


def _movies(movies: RawTable) -> RawTable:
    """Take the year out of the title; `(no genres listed)` is a missing value."""
    year = pl.col("title").str.extract(_YEAR + r"\s*(?:\(V\))?\s*$", 1)
    plain = pl.col("title").str.replace(_YEAR + r"(\s*(?:\(V\))?)\s*$", "${2}")
    genres = pl.when(~pl.col("genres").is_in(["(no genres listed)", "unknown"])).then(pl.col("genres"))
    columns = [year.alias("year"), pl.when(year.is_null()).then("title").otherwise(plain).alias("title"), genres]
    return RawTable(movies.frame.with_columns(columns), movies.file, movies.places, movies.names)


def _add_tags(data: RawData, path: Path) -> None:
    tags = scan_csv(require_file(path / "tags.csv", "tags.csv (this variant has no tags: leave --with-tags out)"))
    label = pl.col("tag").str.strip_chars().str.to_lowercase()
    counted = tags.frame.select(pl.col("movieId").alias("item_id"), label.alias("tags")).drop_nulls()
    counted = counted.group_by("item_id", "tags").len().sort(["len", "tags"], descending=[True, False])
    top = counted.group_by("item_id", maintain_order=True).agg(pl.col("tags").head(TAGS_PER_MOVIE))
    frame = data.items.frame.join(top, on="item_id", how="left", maintain_order="left")
    data.items = RawTable(frame, data.items.file, data.items.places, data.items.names)
    data.schema.items.modalities["tags"] = ModalitySchema("categorical")
    data.notes.append(
        "Tags are aggregated over all users and times, test events included: do not compare such a model with others."
    )


def _read_double_colon(path: Path, interactions: RawTable) -> RawData:
    """1M and 10M; 10M has no users.dat."""
    movies_path = require_file(path / "movies.dat", "movies.dat beside the ratings")
    records = []
    for line in read_old_text(movies_path):
        movie, _, rest = line.partition("::")
        title, _, genres = rest.rpartition("::")
        records.append((movie or None, title or None, genres or None))
    items = _movies(read_records(movies_path, records, ["item_id", "title", "genres"]))
    data = RawData(interactions, _schema("movies.dat"), items)
    users_path = path / "users.dat"
    if users_path.is_file():
        names = ["user_id", "gender", "age", "occupation", "zip"]
        table = scan_double_colon(users_path, names).rename({name: name for name in names[:-1]})
        occupations = {str(code): name for code, name in enumerate(OCCUPATIONS_1M)}
        frame = table.frame.with_columns(pl.col("age").replace(AGES_1M), pl.col("occupation").replace(occupations))
        data.users = RawTable(frame, table.file, table.places, table.names)
        data.schema.users = UserSchema("users.dat", "user_id", ["age", "occupation"], ["gender"])
    return data


def _with_gaps_ordered(ratings: RawTable) -> RawTable:
    """MovieLens 1M in the rebuilt `ratings.csv`: `Order` is the time order of a user, `Timestamp` known for some rows.

    A row without an `Order` takes the place that its time gives it; one without both comes first, as the oldest.
    """
    table = ratings.rename(
        {"user_id": "UserID", "item_id": "MovieID", "rating": "Rating", "order": "Order", "timestamp": "Timestamp"}
    )
    time = pl.col("timestamp").cast(pl.Int64, strict=False)
    order = pl.col("order").cast(pl.Float64, strict=False)
    rows = collect(table.frame.select(ROW, "user_id", order, time), table.file)
    both = rows.drop_nulls().sort("timestamp", "order").select("user_id", "timestamp", pl.col("order").alias("before"))
    late = rows.filter(pl.col("order").is_null() & pl.col("timestamp").is_not_null()).sort("timestamp")
    late = late.join_asof(both, on="timestamp", by="user_id", strategy="backward", check_sortedness=False)
    placed = late.select(ROW, (pl.col("before").fill_null(-1) + 0.5).cast(pl.String).alias("placed"))
    frame = table.frame.join(placed.lazy(), on=ROW, how="left", maintain_order="left")
    frame = frame.with_columns(pl.coalesce("order", "placed").alias("order")).drop("placed")
    return RawTable(frame, table.file, table.places, table.names)


def _read_100k(path: Path) -> RawData:
    ratings = scan_headless(path / "u.data", ["user_id", "item_id", "rating", "timestamp"], "\t")
    movies_path = require_file(path / "u.item", "u.item beside u.data")
    genre_names = GENRES_100K
    if (path / "u.genre").is_file():
        genre_names = [line.partition("|")[0] for line in read_old_text(path / "u.genre") if line.strip()]
    records = []
    for line in read_old_text(movies_path):
        fields = line.split("|")
        flags = zip(genre_names, fields[5:], strict=False)
        genres = [name for name, flag in flags if flag.strip() == "1" and name != "unknown"]
        released = fields[2] if len(fields) > 2 else ""
        records.append((fields[0], fields[1] if len(fields) > 1 else None, "|".join(genres) or None, released[-4:]))
    movies = _movies(read_records(movies_path, records, ["item_id", "title", "genres", "released"]))
    year = pl.coalesce("year", pl.col("released").replace("", None))
    items = RawTable(movies.frame.with_columns(year.alias("year")).drop("released"), movies.file, movies.places)
    data = RawData(ratings, _schema("u.item"), items)
    if (path / "u.user").is_file():
        names = ["user_id", "age", "gender", "occupation", "zip"]
        data.users = scan_headless(path / "u.user", names, "|").rename({name: name for name in names[:-1]})
        data.schema.users = UserSchema("u.user", "user_id", ["age", "occupation"], ["gender"])
    return data
