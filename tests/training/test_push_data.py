"""A prepared data set goes to the Hub without its people, and comes back by `datasets`."""

import json
import os
import shutil
import subprocess
import sys

import polars as pl
import pytest
from huggingface_hub import DatasetCard, HfApi
from llm4rec.configuration.schema import DataSchema
from llm4rec.training.data.prepared import PreparedData
from llm4rec.training.hub import push_data
from llm4rec.training.hub.pseudonyms import KEY_FILE, key_of, pseudonyms

LOAD = """
import json, sys
from datasets import load_dataset

items = load_dataset(sys.argv[1], "items", split="train")
print(json.dumps({"items": list(items["item_id"]), "interactions": len(load_dataset(sys.argv[1], split="train"))}))
"""


@pytest.fixture
def folder(shop, tmp_path):
    return shutil.copytree(shop.folder, tmp_path / "data")


@pytest.fixture
def film_data(folder):
    """The same, as if it had been made of MovieLens."""
    schema = DataSchema.load(folder / "schema.yaml")
    schema.source = "movielens"
    schema.save(folder / "schema.yaml")
    return folder


def push(folder, **options):
    return push_data(folder, "org/shop", progress=False, say=lambda line: None, **options)


def download(hub, folder):
    folder.mkdir()
    for path, content in hub.files("org/shop", kind="dataset").items():
        (folder / path).write_bytes(content)
    return folder


def test_what_was_pushed_is_the_same_data_under_other_names(hub, folder, tmp_path):
    report = push(folder)
    assert (report.commit, report.changed) == (hub.repo("org/shop", "dataset").branches["main"], True)
    before, after = PreparedData.load(folder), PreparedData.load(download(hub, tmp_path / "there"))
    assert after.items.equals(before.items)
    names = pseudonyms(before.users["user_id"], key_of(folder))
    assert set(after.users["user_id"]) == set(names.values())
    row = {user: place for place, user in enumerate(after.users["user_id"])}
    for user, name in enumerate(before.users["user_id"]):
        there = row[names[name]]
        assert after.interactions.history(there).tolist() == before.interactions.history(user).tolist()
    assert sorted(after.interactions.ratings) == sorted(before.interactions.ratings)


def test_nothing_of_it_names_a_user_or_says_what_they_are(hub, folder):
    (folder / "stats.json").write_text(json.dumps({"source": "simulation", "users": 60, "examples": ["user-0007,x"]}))
    (folder / "feedback.db").write_bytes(b"user-0007")
    push(folder)
    files = hub.files("org/shop", kind="dataset")
    assert files.keys() - {".gitattributes"} == {
        *("README.md", "interactions.parquet", "items.parquet", "schema.yaml", "stats.json", "users.parquet"),
    }
    ids = PreparedData.load(folder).users["user_id"].to_list()
    assert not [path for path, content in files.items() if any(f'{user}"'.encode() in content for user in ids)]
    assert pl.read_parquet(files["users.parquet"]).columns == ["user_id"]
    assert set(pl.read_parquet(files["interactions.parquet"])["user_id"]).isdisjoint(ids)
    schema = DataSchema.load(folder / "schema.yaml").users
    assert (schema.attributes, schema.sensitive) == (["age_group"], ["group"])  # here they stay
    assert b"sensitive: []" in files["schema.yaml"]
    assert json.loads(files["stats.json"]) == {"source": "simulation", "users": 60}


def test_datasets_loads_it_from_the_hub_by_its_parts(hub, folder, tmp_path):
    push(folder, licence="cc0-1.0")
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", LOAD, "org/shop"]  # datasets looks where the Hub is when it is imported
    result = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    loaded, data = json.loads(result.stdout), PreparedData.load(folder)
    assert loaded["items"] == data.items["item_id"].to_list()
    assert loaded["interactions"] == len(data.interactions.items)


def test_the_card_is_one_that_the_hub_reads(hub, folder):
    push(folder, licence="cc0-1.0")
    card = DatasetCard(hub.files("org/shop", kind="dataset")["README.md"].decode())
    assert card.data.license == "cc0-1.0"
    assert card.data.size_categories == ["n<1K"]
    assert [config["config_name"] for config in card.data.configs] == ["interactions", "items", "users"]
    assert "394 interactions of 60 users with 40 items" in card.text
    assert "User ids are pseudonyms, made with a key that was not published." in card.text
    assert "(`age_group`, `group`)" in card.text


def test_the_same_key_gives_the_same_data_and_another_does_not(hub, folder):
    push(folder)
    assert not push(folder).changed
    assert (folder / KEY_FILE).stat().st_mode & 0o777 == 0o600
    (folder / KEY_FILE).unlink()
    assert push(folder).changed


def test_ids_stay_as_they_are_only_where_that_is_said(hub, folder):
    report = push(folder, keep_user_ids=True)
    assert "User ids are published as they are." in report.notes
    events = pl.read_parquet(hub.files("org/shop", kind="dataset")["interactions.parquet"])
    assert events.equals(pl.read_parquet(folder / "interactions.parquet"))
    assert not (folder / KEY_FILE).exists()


def test_data_of_others_needs_a_word_that_one_may(hub, film_data, refused, run):
    message = refused("push", film_data, "org/shop", "--type", "dataset")
    assert "was made of MovieLens, which others own." in message
    assert "may not be redistributed without separate permission" in message
    assert message.endswith("say so with --redistribute.")
    assert not hub.requests
    assert run("push", film_data, "org/shop", "--type", "dataset", "--redistribute").code == 0
    card = DatasetCard(hub.files("org/shop", kind="dataset")["README.md"].decode())
    assert (card.data.license, card.data.license_name) == ("other", "movielens")
    assert "may not be redistributed" in card.text


def test_the_command_says_what_goes_and_what_next(hub, folder, run):
    before = sorted(path.name for path in folder.iterdir())
    dry = run("push", folder, "org/shop", "--type", "dataset", "--dry-run")
    assert "interactions.parquet" in dry.out
    assert "No licence is named" in dry.out
    assert "Nothing was sent." in dry.out
    assert not hub.requests
    assert sorted(path.name for path in folder.iterdir()) == before
    result = run("push", folder, "org/shop", "--type", "dataset", "--private", "--revision", "v2")
    assert result.code == 0, result.err
    assert 'Next: datasets.load_dataset("org/shop", "interactions")' in result.out
    assert hub.repo("org/shop", "dataset").private
    assert "items.parquet" in hub.files("org/shop", "v2", kind="dataset")
    facts = json.loads(run("push", folder, "org/shop", "--type", "dataset", "--revision", "v2", "--json").out)
    assert (facts["repo"], facts["changed"]) == ("org/shop", False)


def test_refusals(hub, folder, refused, run, tmp_path):
    data = ("--type", "dataset")
    assert "not found: expected a prepared data set" in refused("push", tmp_path / "nowhere", "org/shop", *data)
    assert "is no name of a repository" in refused("push", folder, "shop", *data)
    HfApi().create_repo("org/model")
    message = refused("push", folder, "org/model", *data)
    assert message.startswith("org/model is a model on the Hub, not a data set. Choose another name; or,")
    assert "hf repos create org/model --repo-type dataset" in message
    token = "hf_" + "q" * 34
    schema = DataSchema.load(folder / "schema.yaml")
    schema.source = token
    schema.save(folder / "schema.yaml")
    message = refused("push", folder, "org/shop", *data)
    assert "would hold a Hub token" in message
    assert token not in message
    for wrong in (("--type", "paper"), (*data, "--space"), ("--license", "mit"), ("--redistribute",)):
        assert run("push", folder, "org/shop", *wrong).code == 2


def test_a_key_that_is_none_is_named(folder):
    (folder / KEY_FILE).write_bytes(b"short")
    with pytest.raises(ValueError, match="holds 5 bytes, expected a key of 32"):
        key_of(folder)
