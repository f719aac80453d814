"""Names that anybody may have written stay text in every piece of HTML."""

from html.parser import HTMLParser

import pytest
from llm4rec.spaces_demo.answer_card import answer_card
from llm4rec.spaces_demo.cards import cards
from llm4rec.spaces_demo.history_list import history_list, search_results
from llm4rec.spaces_demo.markup import escaped, one_line

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "${alert(1)}",
    "{{constructor.constructor('alert(1)')()}}",
    "`${1}`",
    "</li></ol><iframe src=javascript:alert(1)>",
]


class Tags(HTMLParser):
    """Collects tags and the names of their attributes."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("title", HOSTILE)
def test_a_hostile_title_is_shown_as_it_was_written(service, visitor, title):
    item = service.add_item(visitor, {"title": title, "category": "tents", "style": title})
    visitor.choose(item)
    wish = service.wish(5)
    listed = service.recommend(visitor, wish)
    catalog = service.snapshot(visitor).processor.catalog
    page = (
        cards(listed, visitor.liked)
        + history_list(visitor, catalog)
        + search_results(service.search(visitor, title), visitor.history, True)
        + answer_card(service.why_not(visitor, listed.records[0]["item_id"], wish))
    )
    seen = Tags(page)
    assert not seen.tags & {"script", "img", "iframe"}
    assert not {name for name in seen.attributes if name.startswith("on") or name in ("src", "href")}
    assert "${" not in page
    assert "{{" not in page
    assert one_line(title, 120) in seen.text


def test_escaping_leaves_what_a_reader_sees(service):
    import html

    for text in HOSTILE:
        assert html.unescape(escaped(text)) == text


def test_lines_are_bounded_and_visible():
    assert one_line("a\x00b\u202ec\n d" + "x" * 500, 10) == "a b c dxxx"
    assert one_line(None, 5) == ""
