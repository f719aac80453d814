"""An item is found by its id, its title, or something close to it; what is not clear is an error with suggestions."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llm4rec.modeling_llm4rec import Catalog
from llm4rec.modeling_llm4rec import title_search as module
from llm4rec.modeling_llm4rec.title_search import TitleNotFoundError, TitleSearch

FILMS = {
    "1": "Toy Story (1995)",
    "2": "Toy Story 2 (1999)",
    "3": "Matrix, The (1999)",
    "4": "Matrix Reloaded, The (2003)",
    "5": "Amélie (Fabuleux destin d'Amélie Poulain, Le) (2001)",
    "6": "Emma (1996)",
    "7": "Emma (1996)",
    "8": None,
    "9": "千と千尋の神隠し",
    "10": "Jurassic Park (1993)",
    "11": "3",
    "12": "Rocky III (1982)",
}
ANY_TEXT = st.text(st.characters(codec=None))


def films():
    return Catalog({"item_id": list(FILMS), "title": list(FILMS.values())})


@pytest.fixture(scope="module")
def search():
    return TitleSearch(films())


@pytest.mark.parametrize(
    ("text", "item_id"),
    [
        ("3", "3"),  # an id comes before the title of another item
        (3, "3"),
        (" 10 ", "10"),
        ("TOY  story (1995)", "1"),
        ("the matrix", "3"),
        ("matrix the 1999", "3"),
        ("Matrx Reloaded", "4"),
        ("amelie fabuleux destin", "5"),
        ("千と千尋の神隠", "9"),
        ("jurassic parc", "10"),
    ],
)
def test_what_is_meant_is_found(search, text, item_id):
    assert search.catalog.item_ids[search.resolve(text)] == item_id


def test_two_items_of_one_title_are_not_told_apart_by_guessing(search):
    with pytest.raises(
        TitleNotFoundError, match=r"2 items have the title “emma \(1996\)”\. Nearest: .*\(6\);"
    ) as found:
        search.resolve("emma (1996)")
    assert found.value.suggestions == [5, 6]


def test_a_title_that_could_be_several_is_an_error_that_lists_them():
    search = TitleSearch(Catalog({"item_id": ["a", "b"], "title": ["Red Lamp Tall", "Red Lamp Wide"]}))
    with pytest.raises(TitleNotFoundError, match="Several titles are close to “red lamp”") as found:
        search.resolve("red lamp")
    assert found.value.suggestions == [0, 1]


@pytest.mark.parametrize("text", ["Toy Story 3", "Rocky II the film", "1", "an unheard of thing", "qqqqqq"])
def test_another_number_or_nothing_alike_is_no_match(text):
    titles = {"a": "Toy Story (1995)", "b": "Toy Story 2 (1999)", "c": "Alien"}
    with pytest.raises(TitleNotFoundError, match=r"No item has the id .* or a title close to it"):
        TitleSearch(Catalog({"item_id": list(titles), "title": list(titles.values())})).resolve(text)


def test_the_error_names_the_nearest_titles_and_ids(search):
    with pytest.raises(TitleNotFoundError, match=r"Nearest: “Jurassic Park \(1993\)” \(10\)") as found:
        search.resolve("jurassic world dominion")
    assert found.value.suggestions[0] == 9
    with pytest.raises(TitleNotFoundError, match=r"Nearest ids: .*Pass an item's id or its full title"):
        search.resolve("zzz")


def test_an_id_is_never_taken_for_another_that_looks_alike():
    search = TitleSearch(Catalog({"item_id": ["item-0041", "thing"]}))
    with pytest.raises(TitleNotFoundError, match="Nearest ids: item-0041"):
        search.resolve("item-0042")


@pytest.mark.parametrize(
    ("text", "first"), [("mat", "3"), ("toy sto", "1"), ("relo", "4"), ("EMMA", "6"), ("amélie p", "5"), ("10", "10")]
)
def test_suggestions_complete_what_is_being_typed(search, text, first):
    assert search.catalog.item_ids[search.suggest(text, 3)[0]] == first
    assert len(search.suggest(text, 1)) == 1


def test_nothing_in_common_suggests_nothing(search):
    assert search.suggest("qqqq") == search.suggest("") == search.suggest(None) == []


def test_items_that_were_added_are_found(monkeypatch):
    monkeypatch.setattr(module, "SEGMENT", 5)
    search = TitleSearch(films())
    assert search.resolve("the matrix") == 2
    for number in range(9):
        search.catalog.append({"item_id": [f"new {number}"], "title": [f"Wizard {chr(97 + number) * 5}"]})
        assert search.resolve(f"wizrd {chr(97 + number) * 5}") == len(FILMS) + number
    assert search.resolve("the matrix") == 2


@settings(max_examples=200, deadline=None, derandomize=True)
@given(titles=st.lists(ANY_TEXT, min_size=1, max_size=6), text=ANY_TEXT)
def test_no_text_breaks_it(titles, text):
    search = TitleSearch(Catalog({"item_id": [f"id-{n}" for n in range(len(titles))], "title": titles}))
    assert all(0 <= item < len(titles) for item in search.suggest(text))
    for written in (text, *titles):
        with suppress(TitleNotFoundError):
            assert 0 <= search.resolve(written) < len(titles)


def test_a_text_of_a_megabyte_is_an_ordinary_error(search):
    with pytest.raises(TitleNotFoundError) as found:
        search.resolve("matrices and \n\x1b[31m" * 60_000)
    assert len(str(found.value)) < 1000
    assert "\x1b" not in str(found.value)
