"""The served app by its API: named endpoints, refusals that a program can read, MCP, and visitors kept apart."""

import json
import urllib.request

import gradio_client
import pytest
from gradio_client.exceptions import AppError
from llm4rec.spaces_demo.interface import serve
from llm4rec.training.online.feedback_log import FeedbackLog


@pytest.fixture(scope="module")
def client(app):
    return gradio_client.Client(app[0], verbose=False)


def test_the_endpoints_have_names_and_the_page_s_events_none(client):
    described = client.view_api(return_format="dict", print_info=False)
    named = {"/search_items", "/recommend", "/explain_item", "/place_new_item", "/give_feedback"}
    assert set(described["named_endpoints"]) == named
    assert not described["unnamed_endpoints"]


def test_a_program_searches_recommends_and_asks_why(client):
    found = client.predict("lantern", 3, api_name="/search_items")
    history = [row["item_id"] for row in found]
    listed = client.predict(history, 5, 0.0, 0.0, [], "short", "en", api_name="/recommend")
    assert len(listed) == 5
    assert all(one["title"] in one["explanation"] and one["evidence"] for one in listed)
    hidden = [listed[0]["item_id"]]
    again = client.predict(history, 5, 0.0, 0.0, hidden, "short", "en", api_name="/recommend")
    assert hidden[0] not in [one["item_id"] for one in again]
    why = client.predict(listed[4]["item_id"], history, 0.0, api_name="/explain_item")
    assert why["rank"] == 5


def test_a_new_item_has_a_place_and_stays_out_of_the_catalog(client, app):
    item = {"title": "Own tent", "category": "tents", "price": 99}
    placed = client.predict(item, ["item-0001"], api_name="/place_new_item")
    assert placed["title"] == "Own tent"
    assert 1 <= placed["rank"] <= 240
    assert not any(row["title"] == "Own tent" for row in client.predict("Own tent", 8, api_name="/search_items"))


def test_feedback_of_a_program_is_logged(client, app):
    assert client.predict("item-0003", True, api_name="/give_feedback") == "logged"
    with FeedbackLog(app[1].settings.feedback_log) as log:
        assert [one.event.item_id for one in log.events()] == ["item-0003"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((["nope"], 5, 0.0, 0.0, [], "short", "en"), "Unknown item id 'nope'"),
        ((["item-0001"], 500, 0.0, 0.0, [], "short", "en"), "k is 500, expected a number from 1 to 20"),
        ((["item-0001"] * 60, 5, 0.0, 0.0, [], "short", "en"), "at most 50 item ids"),
        (("item-0001", 5, 0.0, 0.0, [], "short", "en"), "expected a list"),
        ((["item-0001"], 5, 0.0, 0.0, "x" * 300, "short", "en"), "hidden is str, expected a list"),
    ],
)
def test_refusals_reach_the_program(client, values, said):
    with pytest.raises(AppError, match=said):
        client.predict(*values, api_name="/recommend")


def test_who_asks_too_often_is_told_to_wait_and_others_are_not(app, client, monkeypatch):
    from llm4rec.spaces_demo.limits import RateLimit

    monkeypatch.setattr(app[1], "_per_visitor", RateLimit(0.01, 2))
    busy = gradio_client.Client(app[0], verbose=False)
    for _ in range(2):
        busy.predict("tent", 1, api_name="/search_items")
    with pytest.raises(AppError, match="Too many requests"):
        busy.predict("tent", 1, api_name="/search_items")
    assert client.predict("tent", 1, api_name="/search_items")


def test_agents_find_the_same_by_mcp(app):
    """Over plain HTTP, as the protocol says."""
    request = urllib.request.Request(
        f"{app[0]}gradio_api/mcp/",
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode(),
        {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"},
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        lines = response.read().decode().splitlines()
    data = next(line.removeprefix("data:") for line in lines if line.startswith(("data:", "{")))
    tools = {tool["name"]: tool for tool in json.loads(data)["result"]["tools"]}
    recommend = next(tool for name, tool in tools.items() if name.endswith("recommend_items"))
    assert "each with an explanation" in recommend["description"]
    assert recommend["inputSchema"]["properties"]["history"]["type"] == "array"


def test_without_the_mcp_library_the_space_says_so_and_runs(monkeypatch, capsys):
    import llm4rec.spaces_demo.interface as interface

    asked = {}

    class Page:
        """Remembers how it was launched."""

        def launch(self, **options):
            asked.update(options)

    find = interface.importlib.util.find_spec
    monkeypatch.setattr(interface.importlib.util, "find_spec", lambda name: None if name == "mcp" else find(name))
    serve(Page())
    assert asked["mcp_server"] is False
    assert "pip install 'gradio[mcp]'" in capsys.readouterr().out
