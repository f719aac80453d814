"""`llm4rec push`, with the real client of the Hub against a small Hub on loopback."""

import json
import os
import shutil
import socket

import huggingface_hub.constants
import pytest
import torch
from huggingface_hub import HfApi
from llm4rec import LLM4RecForCausalLM, LLM4RecProcessor
from llm4rec.training.hub import plan_upload, push_model, push_space
from llm4rec.training.hub.push import check_repo_id
from llm4rec.training.load import load_recommender
from safetensors.torch import load_file

TOKEN = "hf_" + "w" * 34  # as of the fixture `hub`
READ_ONLY, UNKNOWN = "hf_" + "r" * 34, "hf_" + "u" * 34
HISTORIES = [["i0", "i4", "i2"], ["i5"], []]

FROM_THE_HUB = """
import json, os, sys
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoProcessor

torch.set_num_threads(1)
found = {}
for number, (name, options) in enumerate(json.loads(sys.argv[1])):
    model = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=True, **options)
    processor = AutoProcessor.from_pretrained(name, trust_remote_code=True, **options)
    out = model.recommend(**processor(histories=json.loads(sys.argv[2]), return_tensors="pt"), k=5)
    assert processor.decode_items(out)[0][0]["title"]
    found |= {f"{number}.items": out.items, f"{number}.scores": out.scores}
save_file(found, sys.argv[3])
os.environ.pop("HF_TOKEN")
try:
    AutoModelForCausalLM.from_pretrained(sys.argv[4], trust_remote_code=True, force_download=True)
except OSError as error:
    print("REFUSED", error)
"""


@pytest.fixture
def saved(tmp_path, tiny, processor, model):
    """A model folder as training leaves it."""
    return save(tmp_path / "model", model, processor)


def save(folder, model, processor, **kwargs):
    model.save_pretrained(folder, **kwargs)
    processor.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlibrary_name: llm4rec\n---\n\n# A card of our own\n", encoding="utf-8")
    return folder


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- There and back --------------------------------------------------------------------------------------------------


def test_what_was_pushed_loads_by_its_name_from_an_empty_cache(hub, saved, tmp_path, tiny, bare):
    processor = LLM4RecProcessor.from_pretrained(saved)
    models = [LLM4RecForCausalLM.from_pretrained(saved), tiny.awaken(tiny.model(processor), seed=5)]
    other = save(tmp_path / "other", models[1], processor)
    push_model(saved, "org/shop.v2-model", progress=False)
    push_model(other, "org/shop.v2-model", revision="second", progress=False)
    push_model(other, "org/secret", private=True, progress=False)
    wanted = [
        ("org/shop.v2-model", {}),
        ("org/shop.v2-model", {"revision": "second"}),
        ("org/secret", {}),
    ]
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
    said = bare(
        FROM_THE_HUB,
        json.dumps(wanted),
        json.dumps(HISTORIES),
        tmp_path / "out.st",
        "org/secret",
        HF_HUB_DISABLE_XET="1",
        **environment,
    )
    found = load_file(tmp_path / "out.st")
    for number, model in enumerate((models[0], models[1], models[1])):
        expected = model.eval().recommend(**processor(histories=HISTORIES, return_tensors="pt"), k=5)
        assert torch.equal(found[f"{number}.items"], expected.items)
        torch.testing.assert_close(found[f"{number}.scores"], expected.scores, atol=1e-5, rtol=0)
    assert not torch.equal(found["0.scores"], found["1.scores"])
    assert "REFUSED" in said  # a private model, without the token


def test_the_package_loads_it_by_its_name_too(hub, saved, processor, model):
    push_model(saved, "org/shop", progress=False)
    loaded, its_processor = load_recommender("org/shop")
    batch = its_processor(histories=HISTORIES, return_tensors="pt")
    assert torch.equal(loaded.recommend(**batch).items, model.recommend(**batch).items)


def test_every_file_arrives_as_it_is(hub, saved):
    report = push_model(saved, "org/shop", progress=False)
    files = hub.files("org/shop")
    assert {path: files[path] for path in contents(saved)} == contents(saved)
    assert files["README.md"].endswith(b"# A card of our own\n")
    assert (report.commit, report.changed) == (hub.repo("org/shop").branches["main"], True)
    assert report.plan.total_bytes == sum(map(len, contents(saved).values()))


def test_the_examples_of_the_card_name_the_repository(hub, saved):
    card = 'X.from_pretrained("model", a=1)\npipeline("recommendation", model="model")\nllm4rec recommend model --k\n'
    (saved / "README.md").write_text(f"---\nlibrary_name: llm4rec\n---\n# model\n{card}")
    push_model(saved, "org/shop", progress=False)
    pushed = hub.files("org/shop")["README.md"].decode()
    assert pushed.endswith("# model\n" + card.replace('"model"', '"org/shop"').replace(" model ", " org/shop "))


def test_large_files_in_parts_arrive_whole(hub, saved):
    hub.part_size = 10_000
    push_model(saved, "org/shop", progress=False)
    assert len(hub.sent("PUT", "/part/")) > 1
    assert hub.files("org/shop")["model.safetensors"] == (saved / "model.safetensors").read_bytes()


def test_pushing_the_same_again_sends_no_file_and_makes_no_commit(hub, saved):
    first = push_model(saved, "org/shop", progress=False)
    hub.requests.clear()
    again = push_model(saved, "org/shop", progress=False)
    assert (again.commit, again.changed) == (first.commit, False)
    assert not hub.sent("PUT", "") + hub.sent("POST", "/commit/")


def test_an_upload_that_broke_off_sends_only_the_rest(hub, tmp_path, model, processor):
    folder = save(tmp_path / "model", model, processor, max_shard_size="4KB")
    shards = len(list(folder.glob("*.safetensors")))
    assert shards > 5
    arrived = lambda: sum(method == "PUT" and path[5:] in hub.objects for method, path, _ in hub.requests)  # noqa: E731
    hub.fail = lambda method, path, body: 500 if method == "PUT" and len(hub.objects) >= 3 else None
    with pytest.raises(ConnectionError, match=r"failed with status 500\. What has arrived stays there: run the same"):
        push_model(folder, "org/shop", progress=False)
    assert arrived() == len(hub.objects) == 3
    assert hub.files("org/shop").keys() == {".gitattributes"}  # nobody meets half a model
    before = set(hub.objects)
    hub.fail = lambda *request: None
    hub.requests.clear()
    push_model(folder, "org/shop", progress=False)
    sent = [path.removeprefix("/lfs/") for method, path, _ in hub.requests if method == "PUT"]
    assert not before & set(sent)
    assert before | set(sent) == set(hub.objects)
    assert {path: hub.files("org/shop")[path] for path in contents(folder)} == contents(folder)


def test_a_connection_that_breaks_once_is_not_noticed(hub, saved):
    breaks = iter(["hang up", 503])
    hub.fail = lambda method, path, body: next(breaks, None) if method == "PUT" else None
    push_model(saved, "org/shop", progress=False)
    assert hub.files("org/shop")["model.safetensors"] == (saved / "model.safetensors").read_bytes()


def test_nothing_of_an_earlier_model_is_left_to_be_loaded_with_the_new_one(hub, saved, tmp_path, model, processor):
    push_model(saved, "org/shop", progress=False)
    hub.repo("org/shop").commits[hub.repo("org/shop").branches["main"]]["notes.md"] = (b"kept", None)
    shards = save(tmp_path / "shards", model, processor, max_shard_size="20KB")
    report = push_model(shards, "org/shop", progress=False)
    assert report.removed == ["model.safetensors"]
    assert {"notes.md", "model.safetensors.index.json"} <= hub.files("org/shop").keys()
    assert "model.safetensors" not in hub.files("org/shop")


def test_a_revision_leaves_main_alone(hub, saved):
    report = push_model(saved, "org/shop", revision="v2", progress=False)
    assert report.revision == "v2"
    assert hub.files("org/shop").keys() == {".gitattributes"}
    assert "model.safetensors" in hub.files("org/shop", "v2")


# --- What stays here -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("checkpoints/checkpoint-3/optimizer.pt", "training state"),
        ("checkpoint-3/model.safetensors", "training state"),
        ("optimizer.pt", "training state"),
        ("scheduler.pt", "training state"),
        ("rng_state_0.pth", "training state"),
        ("training_args.bin", "training state"),
        ("trainer_state.json", "training state"),
        ("runs/events.out", "training state"),
        ("events.out.tfevents.1", "training state"),
        ("pytorch_model.bin", "a pickle or the like, which nothing here loads"),
        (".env", "hidden"),
        (".cache/huggingface/upload.lock", "hidden"),
        ("__pycache__/catalog.pyc", "temporary"),
        ("memory/memory.json.part", "temporary"),
    ],
)
def test_training_state_and_the_like_is_left_out_with_its_reason(saved, path, reason):
    (saved / path).parent.mkdir(parents=True, exist_ok=True)
    (saved / path).write_bytes(b"12345")
    plan = plan_upload(saved)
    (out,) = plan.left_out
    assert path.startswith(out.path.rstrip("/"))
    assert (out.reason, out.size) == (reason, 5)
    assert path not in {file.path for file in plan.files}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("interactions.parquet", "raw data"),
        ("users.parquet", "raw data"),
        ("ratings.csv", "raw data"),
        ("data/Ratings.DAT", "raw data"),
        ("ratings.txt", "raw data"),
        ("feedback.json", "raw data"),
        ("events.jsonl", "raw data"),
        ("events.jsonl.gz", "raw data"),
        ("logs/2024.csv", "raw data"),
        ("memory/export.csv", "raw data"),
        ("feedback.db", "a database, such as a log of feedback"),
        ("feedback.db-wal", "a database, such as a log of feedback"),
        ("feedback.sqlite3", "a database, such as a log of feedback"),
        ("data.zip", "an archive: who knows what is in it"),
        ("data.tar.gz", "an archive: who knows what is in it"),
    ],
)
def test_data_about_people_stops_the_upload_by_name(hub, saved, refused, path, reason):
    (saved / path).parent.mkdir(parents=True, exist_ok=True)
    (saved / path).write_bytes(b"12345")
    message = refused("push", saved, "org/shop")
    assert f"holds what must not be published: {path} ({reason})" in message
    assert not hub.requests


def test_a_link_is_what_it_points_to(saved, tmp_path):
    (tmp_path / "ratings.csv").write_text("user,item\n")
    (saved / "notes.txt").symlink_to(tmp_path / "ratings.csv")
    with pytest.raises(ValueError, match=r"notes\.txt \(raw data\)"):
        plan_upload(saved)
    (saved / "notes.txt").unlink()
    (saved / "elsewhere").symlink_to(tmp_path, target_is_directory=True)
    (out,) = plan_upload(saved).left_out
    assert (out.path, out.reason) == ("elsewhere/", "a link to a folder")


@pytest.mark.parametrize("before", ["", "a line\n" * 300_000, "x" * (2**20 - 40)])
def test_a_token_in_a_file_stops_the_upload_and_is_not_repeated(hub, saved, refused, before):
    (saved / "notes.md").write_text(f"{before}\ntoken: {TOKEN}\n")
    message = refused("push", saved, "org/shop", "--dry-run")
    assert f"notes.md (line {before.count(chr(10)) + 2:,} holds a Hub token)" in message
    assert TOKEN[:12] not in message


def test_names_that_look_like_tokens_are_none(saved):
    (saved / "notes.md").write_text("hf_raise_for_status, shelf_" + "a" * 40 + ", hf_short\n")
    assert "notes.md" in {file.path for file in plan_upload(saved).files}


def test_a_dry_run_lists_everything_and_asks_nobody(hub, saved, run):
    (saved / "checkpoints").mkdir()
    (saved / "checkpoints" / "optimizer.pt").write_bytes(b"12345")
    result = run("push", saved, "org/shop", "--dry-run", "--json")
    facts = json.loads(result.out)
    assert {file["path"]: file["bytes"] for file in facts["files"]} == {
        path: len(content) for path, content in contents(saved).items() if not path.startswith("checkpoints")
    }
    assert facts["total_bytes"] == sum(file["bytes"] for file in facts["files"])
    assert facts["left_out"] == [{"path": "checkpoints/", "bytes": 5, "reason": "training state"}]
    assert (facts["commit"], facts["dry_run"]) == (None, True)
    spoken = run("push", saved, "org/shop", "--dry-run").out
    assert "model.safetensors" in spoken
    assert "Left out: checkpoints/ (5 B, training state)" in spoken
    assert "Nothing was sent." in spoken
    assert not hub.requests


# --- The command -----------------------------------------------------------------------------------------------------


def test_the_command_says_where_it_is_and_what_next(hub, saved, run):
    result = run("push", saved, "org/shop")
    assert result.code == 0
    assert f"{hub.url}/org/shop (commit {hub.repo('org/shop').branches['main'][:10]} of main)" in result.out
    assert "Next: llm4rec recommend org/shop" in result.out
    assert result.err == ""
    assert "Nothing has changed" in run("push", saved, "org/shop").out


def test_with_json_the_facts_alone_are_on_stdout(hub, saved, run):
    facts = json.loads(run("push", saved, "org/shop", "--private", "--revision", "v2", "--json").out)
    assert (facts["repo"], facts["revision"], facts["private"], facts["changed"]) == ("org/shop", "v2", True, True)
    assert facts["commit"] == hub.repo("org/shop").branches["v2"]
    assert hub.repo("org/shop").private


def test_stopped_by_ctrl_c_it_says_how_to_go_on(hub, saved, run, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(HfApi, "create_commit", stop)
    result = run("push", saved, "org/shop")
    assert result.code == 130
    assert "run the same command again and only the rest is sent" in result.out


def test_the_owner_is_told_of_a_memory_and_of_missing_code(hub, saved):
    (saved / "memory").mkdir()
    (saved / "memory" / "transitions.parquet").write_bytes(b"")
    (saved / "modeling_llm4rec.py").unlink()
    (saved / "README.md").unlink()
    notes = " ".join(push_model(saved, "org/shop", dry_run=True).notes)
    for words in ("events of training", "no README.md", "saved without its code"):
        assert words in notes


# --- Refusals --------------------------------------------------------------------------------------------------------


def test_not_logged_in(hub, saved, refused, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert refused("push", saved, "org/shop").startswith("You are not logged in to the Hub. Run `hf auth login`")


def test_a_wrong_token(hub, saved, refused, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", UNKNOWN)
    message = refused("push", saved, "org/shop")
    assert message.startswith("The Hub does not know your token; it may have expired. Log in again")
    assert UNKNOWN not in message


@pytest.mark.parametrize(("token", "repo"), [(READ_ONLY, "org/shop"), (TOKEN, "others/shop"), (READ_ONLY, "org/old")])
def test_no_permission(hub, saved, refused, monkeypatch, token, repo):
    if repo == "org/old":
        push_model(saved, repo, progress=False)
        (saved / "README.md").write_text("# Changed\n")
    monkeypatch.setenv("HF_TOKEN", token)
    message = refused("push", saved, repo)
    assert message.startswith(f"Your token may not write to {repo}. Use one with the role `write`, ask the owner of")


def test_a_hub_that_cannot_be_reached(hub, saved, refused, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        message = refused("push", saved, "org/shop")
    assert "cannot be reached" in message
    assert "Check the network, and HF_ENDPOINT if you set it." in message


def test_offline_by_choice(hub, saved, refused, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    from huggingface_hub.utils import close_session

    close_session()  # the client looks at it when it begins
    try:
        assert refused("push", saved, "org/shop").startswith("HF_HUB_OFFLINE is set, so nothing can be uploaded.")
    finally:
        close_session()


def test_a_hub_that_fails(hub, saved, refused):
    hub.fail = lambda method, path, body: 502 if path == "/api/repos/create" else None
    assert "failed with status 502. What has arrived stays there" in refused("push", saved, "org/shop")


@pytest.mark.parametrize(
    "name", ["shop", "org/a/b", "org/", "/shop", "o/sh op", "o/-shop", "o/shop.", "a--b/c", "o/n.git", "o/" + "n" * 99]
)
def test_malformed_names(hub, saved, refused, name):
    assert f"{name!r} is no name of a repository" in refused("push", saved, name)
    assert not hub.requests


@pytest.mark.parametrize("name", ["org/shop", "a/b", "Org-1/shop_v2.1", "o/_n"])
def test_names_that_are_fine(name):
    check_repo_id(name)


@pytest.mark.parametrize(("kind", "named"), [("dataset", "a data set"), ("space", "a Space")])
def test_a_repository_of_that_name_and_another_kind(hub, saved, refused, kind, named):
    sdk = {"space_sdk": "gradio"} if kind == "space" else {}
    HfApi().create_repo("org/shop", repo_type=kind, **sdk)
    message = refused("push", saved, "org/shop")
    assert message.startswith(f"org/shop is {named} on the Hub, not a model. Choose another name")
    HfApi().create_repo("org/shop")  # as the message says
    assert push_model(saved, "org/shop", progress=False).changed


def test_a_public_repository_is_not_taken_for_private(hub, saved, refused):
    push_model(saved, "org/shop", progress=False)
    assert refused("push", saved, "org/shop", "--private").startswith("org/shop is public already")


def test_a_card_that_the_hub_refuses(hub, saved, refused):
    (saved / "README.md").write_text("---\nlicense: [a, b]\n---\n")
    assert 'Invalid metadata in README.md. - "license" must be a string' in refused("push", saved, "org/shop")


def test_what_is_no_model(hub, saved, refused, tmp_path):
    assert refused("push", tmp_path / "nowhere", "org/shop") == (
        f"{tmp_path / 'nowhere'} not found: expected a model folder (from `llm4rec train`)."
    )
    (tmp_path / "empty").mkdir()
    assert "holds no model (no config.json)" in refused("push", tmp_path / "empty", "org/shop")
    weights = saved / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:1000])
    assert "model.safetensors is damaged" in refused("push", saved, "org/shop")
    weights.unlink()
    assert "is no whole model: model.safetensors missing" in refused("push", saved, "org/shop")
    assert not hub.requests


def test_a_missing_shard(hub, tmp_path, model, processor, refused):
    folder = save(tmp_path / "model", model, processor, max_shard_size="20KB")
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    assert f"is no whole model: {shard.name} missing" in refused("push", folder, "org/shop")


def test_an_adapter_on_a_folder_of_this_machine(hub, saved, refused, tmp_path):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"backbone_name_or_path": str(tmp_path)}))
    (saved / "adapter_config.json").write_text("{}")
    shutil.copyfile(saved / "model.safetensors", saved / "adapter_model.safetensors")
    assert f"holds an adapter on {tmp_path}, a folder that nobody else has" in refused("push", saved, "org/shop")


# --- The Space -------------------------------------------------------------------------------------------------------


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """A demo in place of the real one."""
    folder = tmp_path / "spaces_demo"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "app.py").write_text("print('hello')\n")
    (folder / "requirements.txt").write_text("gradio\n")
    monkeypatch.setattr("llm4rec.training.hub.push.SPACE_FOLDER", folder)
    return folder


def test_a_space_points_at_the_model(hub, saved, demo, run):
    facts = json.loads(run("push", saved, "org/shop", "--space", "--revision", "v2", "--json").out)
    assert facts["space"]["url"] == f"{hub.url}/spaces/org/shop"
    space = hub.repo("org/shop", "space")
    assert (space.sdk, space.variables) == ("gradio", {"LLM4REC_MODEL": "org/shop", "LLM4REC_REVISION": "v2"})
    files = hub.files("org/shop", kind="space")
    assert files.keys() - {".gitattributes"} == {"README.md", "app.py", "requirements.txt"}
    assert b"sdk: gradio" in files["README.md"]
    assert b"models:\n- org/shop" in files["README.md"]
    assert "model.safetensors" in hub.files("org/shop", "v2")
    assert not push_space("org/shop", "org/shop", revision="v2", progress=False).changed


def test_a_space_keeps_the_card_of_its_own(hub, demo):
    (demo / "README.md").write_text("---\ntitle: Our shop\ncolorTo: red\n---\nWelcome.\n")
    push_space("org/demo", "org/shop", progress=False)
    card = hub.files("org/demo", kind="space")["README.md"].decode()
    for words in ("title: Our shop", "colorTo: red", "sdk: gradio", "- org/shop", "Welcome."):
        assert words in card


def test_the_real_demo_sends_its_entry_and_leaves_its_modules_to_the_package(hub):
    push_space("org/demo", "org/shop", progress=False)
    files = hub.files("org/demo", kind="space")
    assert files.keys() - {".gitattributes"} == {"README.md", "app.py", "requirements.txt"}
    assert b"llm4rec[demo" in files["requirements.txt"]
    assert b"sdk_version" in files["README.md"]


def test_without_an_app_nothing_is_sent(hub, saved, demo, refused):
    (demo / "app.py").unlink()
    assert refused("push", saved, "org/shop", "--space").startswith("spaces_demo/ has no app.py, so there is no Space")
    assert not hub.requests


def test_a_token_in_the_demo_stops_it(hub, demo):
    (demo / "app.py").write_text(f"TOKEN = '{TOKEN}'\n")
    with pytest.raises(ValueError, match=r"app\.py \(line 1 holds a Hub token\)"):
        push_space("org/demo", "org/shop", progress=False)


def test_the_tests_speak_to_no_other_hub(hub):
    assert HfApi().endpoint == hub.url
    assert not os.environ.get("HF_ENDPOINT")
