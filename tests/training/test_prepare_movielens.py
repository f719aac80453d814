"""`prepare movielens`: every official layout gives the same kind of prepared folder."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from llm4rec.training.data.prepare import prepare
from llm4rec.training.data.prepared import PreparedData


def write(folder: Path, files: dict[str, str], encoding: str = "utf-8") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content.encode(encoding))
    return folder


def histories(folder: Path) -> dict[str, list[str]]:
    events = pl.read_parquet(folder / "interactions.parquet")
    return {u: list(g["item_id"]) for (u,), g in events.group_by(["user_id"], maintain_order=True)}


LATEST = {
    "ratings.csv": "userId,movieId,rating,timestamp\r\n1,10,4.0,200\r\n1,30,3.5,100\r\n2,10,5.0,300\r\n",
    "movies.csv": (
        "movieId,title,genres\r\n10,Toy Story (1995),Animation|Comedy\r\n"
        '20,"Usual Suspects, The (1995)",Crime\r\n30,Babylon 5,(no genres listed)\r\n'
    ),
    "tags.csv": (
        "userId,movieId,tag,timestamp\r\n1,10,Pixar,1\r\n2,10,pixar ,2\r\n2,10,funny,3\r\n1,10,Aardvark,4\r\n"
    ),
}
OLD = {
    "movies.dat": "1::Misérables, Les (1995)::Drama|Musical\n2::Speed: Redux::Action\n",
    "users.dat": "7::F::1::10::48067\n8::M::56::16::70072\n",
}


@pytest.fixture
def latest(tmp_path: Path) -> Path:
    return write(tmp_path / "ml-latest-small", LATEST)


def test_latest_layout_sorts_histories_and_takes_the_year_out_of_the_title(latest: Path, tmp_path: Path) -> None:
    prepare("movielens", latest, tmp_path / "out")
    assert histories(tmp_path / "out") == {"1": ["30", "10"], "2": ["10"]}
    items = pl.read_parquet(tmp_path / "out" / "items.parquet")
    assert items.to_dicts() == [
        {"item_id": "10", "title": "Toy Story", "genres": ["Animation", "Comedy"], "year": 1995.0},
        {"item_id": "30", "title": "Babylon 5", "genres": None, "year": None},
    ]


def test_a_film_that_nobody_rated_is_kept_only_on_request(latest: Path, tmp_path: Path) -> None:
    report = prepare("movielens", latest, tmp_path / "out", keep_items_without_interactions=True)
    titles = pl.read_parquet(tmp_path / "out" / "items.parquet")["title"].to_list()
    assert titles == ["Toy Story", "Usual Suspects, The", "Babylon 5"]
    assert report.stats["items_without_interactions"] == 1


def test_tags_stay_out_unless_asked_for(latest: Path, tmp_path: Path) -> None:
    prepare("movielens", latest, tmp_path / "without")
    assert "tags" not in pl.read_parquet(tmp_path / "without" / "items.parquet").columns
    report = prepare("movielens", latest, tmp_path / "with", tags=True)
    tags = pl.read_parquet(tmp_path / "with" / "items.parquet")["tags"].to_list()
    assert tags == [["pixar", "aardvark", "funny"], None]
    assert any("test events" in note for note in report.notes)


def test_1m_layout_is_read_in_latin_1_with_ages_and_occupations_in_words(tmp_path: Path) -> None:
    raw = write(tmp_path / "ml-1m", {**OLD, "ratings.dat": "8::1::5::20\n7::2::3::9\n7::1::4::8\n"}, "latin-1")
    prepare("movielens", raw, tmp_path / "out")
    data = PreparedData.load(tmp_path / "out")
    assert histories(tmp_path / "out") == {"8": ["1"], "7": ["1", "2"]}
    assert data.items["title"].to_list() == ["Misérables, Les", "Speed: Redux"]
    assert data.users.to_dicts()[1] == {
        "user_id": "7",
        "age": "under 18",
        "occupation": "K-12 student",
        "gender": "F",
    }
    assert data.schema.users.sensitive == ["gender"]


def test_10m_layout_without_users_is_read(tmp_path: Path) -> None:
    raw = write(tmp_path / "ml-10m", {"movies.dat": OLD["movies.dat"], "ratings.dat": "8::1::4.5::20\n"})
    prepare("movielens", raw, tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out" / "users.parquet").columns == ["user_id"]


def test_rebuilt_1m_ratings_are_sorted_by_order_with_unplaced_rows_first(tmp_path: Path) -> None:
    movies = "".join(f"{i}::Film {i} (1990)::Drama\n" for i in range(1, 7))
    rows = ["7,1,5,1,", "7,2,4,0,100", "7,3,3,2,300", "7,4,2,,", "7,5,1,,250", "7,6,1,,50"]
    ratings = "\n".join(["UserID,MovieID,Rating,Order,Timestamp", *rows]) + "\n"
    raw = write(tmp_path / "ml-1m", {"movies.dat": movies, "users.dat": OLD["users.dat"], "ratings.csv": ratings})
    report = prepare("movielens", raw, tmp_path / "out")
    # 4 has neither order nor time; 6 is timed before all; 5 falls between 2 (time 100) and 3 (time 300).
    assert histories(tmp_path / "out")["7"] == ["4", "6", "2", "5", "1", "3"]
    assert report.stats["rows_without_time"] == 2
    assert report.stats["rows_unparsable"] == 0


def test_100k_layout_reads_genre_flags_and_falls_back_on_the_release_date(tmp_path: Path) -> None:
    flags = ["0"] * 19
    flags[1] = flags[5] = "1"
    unknown = ["1"] + ["0"] * 18
    items = (
        f"1|Café (1995)|01-Jan-1995||url|{'|'.join(flags)}\n"
        f"2|Balto II (1995) (V)|||url|{'|'.join(unknown)}\n"
        f"3|unknown|01-Jan-1997||url|{'|'.join(unknown)}\n"
    )
    files = {
        "u.data": "7\t1\t3\t20\n7\t2\t4\t10\n7\t3\t4\t30\n",
        "u.item": items,
        "u.user": "7|24|M|technician|85711\n",
    }
    prepare("movielens", write(tmp_path / "ml-100k", files, "latin-1"), tmp_path / "out")
    data = PreparedData.load(tmp_path / "out")
    assert histories(tmp_path / "out") == {"7": ["2", "1", "3"]}
    assert data.items.to_dicts() == [
        {"item_id": "1", "title": "Café", "genres": ["Action", "Comedy"], "year": 1995.0},
        {"item_id": "2", "title": "Balto II (V)", "genres": None, "year": 1995.0},
        {"item_id": "3", "title": "unknown", "genres": None, "year": 1997.0},
    ]
    assert data.users.to_dicts() == [{"user_id": "7", "age": "24", "occupation": "technician", "gender": "M"}]


def test_a_folder_that_is_no_movielens_says_what_was_expected(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", {"rating.csv": "a,b\n"})
    with pytest.raises(FileNotFoundError, match=r"ratings\.csv not found.*Did you mean rating\.csv"):
        prepare("movielens", raw, tmp_path / "out")


def test_a_foreign_ratings_file_is_refused_by_its_columns(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", {"ratings.csv": "user,item,stars\n1,2,3\n", "movies.csv": LATEST["movies.csv"]})
    with pytest.raises(ValueError, match=r"no column 'userId'; columns: user, item, stars.*source `table`"):
        prepare("movielens", raw, tmp_path / "out")
