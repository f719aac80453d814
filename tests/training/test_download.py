"""A model is had from the Hub by name and revision, or the reason why not is said at once."""

import json
import shutil
import socket
import time

import huggingface_hub.constants
import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.utils import close_session
from llm4rec import LLM4RecForCausalLM
from llm4rec.configuration.recipe import LoraRecipe
from llm4rec.training.adapters import add_lora, recommender_of
from llm4rec.training.hub import push_model
from llm4rec.training.load import load_recommender, recipe_of
from transformers import AutoTokenizer, pipeline


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny, processor, model):
    """Two models of other weights, the second with a recipe."""
    made = []
    for name, each in (("one", model), ("two", tiny.awaken(tiny.model(processor), seed=5))):
        made.append(tmp_path_factory.mktemp("saved") / name)
        each.save_pretrained(made[-1])
        processor.save_pretrained(made[-1])
    (made[1] / "recipe.yaml").write_text("training: {seed: 7}\n")
    return made


@pytest.fixture
def pushed(hub, folders):
    """The Hub with `org/shop`: the first model on `main`, the second on `v2`."""
    push_model(folders[0], "org/shop", progress=False, say=lambda line: None)
    push_model(folders[1], "org/shop", revision="v2", progress=False, say=lambda line: None)
    return hub


@pytest.fixture
def unreachable(monkeypatch):
    """Nobody listens where the Hub should be."""

    def leave():
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    return leave


def scores(name, **options):
    model, processor = load_recommender(name, **options)
    return model.recommend(**processor(histories=[["i0", "i4"]], return_tensors="pt")).scores


def test_a_revision_is_another_model(pushed, folders):
    assert torch.equal(scores("org/shop"), scores(folders[0]))
    assert torch.equal(scores("org/shop", revision="v2"), scores(folders[1]))
    commit = pushed.repo("org/shop").branches["v2"]
    assert torch.equal(scores("org/shop", revision=commit), scores(folders[1]))
    assert recipe_of("org/shop") is None
    assert recipe_of("org/shop", "v2").training.seed == 7


def test_commands_take_a_revision(pushed, folders, run):
    answers = []
    for arguments in ((folders[1],), ("org/shop", "--revision", "v2"), ("org/shop",)):
        result = run("recommend", *arguments, "--history", "i0,RED lamp", "--json")
        assert result.code == 0, result.err
        answers.append(json.loads(result.out))
    assert answers[0] == answers[1] != answers[2]
    assert answers[0]["history"] == ["i0", "i6"]
    assert run("explain", "org/shop", "--history", "i0", "-k", "1", "--revision", "v2").code == 0
    assert run("info", "org/shop", "--revision", "v2").code == 0


def test_without_a_network_what_was_downloaded_still_loads(pushed, unreachable):
    before = scores("org/shop")
    unreachable()
    started = time.perf_counter()
    assert torch.equal(scores("org/shop"), before)
    assert time.perf_counter() - started < 5


def test_a_misspelt_folder_without_a_network_is_said_at_once(hub, unreachable, refused):
    unreachable()
    started = time.perf_counter()
    message = refused("recommend", "modles/shop", "--history", "i0")
    assert time.perf_counter() - started < 5
    assert message.startswith("modles/shop is no folder here and was not downloaded before, and the Hub at http://")
    assert "cannot be reached. Check the network" in message
    assert "check the spelling of the folder" in message


def test_offline_by_choice(pushed, refused, monkeypatch):
    before = scores("org/shop")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    close_session()
    try:
        assert torch.equal(scores("org/shop"), before)
        assert "HF_HUB_OFFLINE is set. Unset it" in refused("info", "org/shop", "--revision", "v2")
    finally:
        close_session()


def test_no_such_model_or_revision(pushed, refused, monkeypatch):
    assert "the Hub has no model of that name, or not for you to see" in refused("info", "org/shoop")
    message = refused("info", "org/shop", "--revision", "v3")
    assert message.startswith("org/shop has no revision 'v3'")
    monkeypatch.delenv("HF_TOKEN")
    assert "the Hub has no model of that name, or not for you to see" in refused("info", "org/shoop")


def test_a_private_model_is_for_those_who_may_see_it(hub, folders, refused, monkeypatch):
    push_model(folders[0], "org/secret", private=True, progress=False, say=lambda line: None)
    assert torch.equal(scores("org/secret"), scores(folders[0]))
    monkeypatch.delenv("HF_TOKEN")
    assert "for a private model log in with `hf auth login`" in refused("info", "org/secret")


def test_a_wrong_token(pushed, refused, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "u" * 34)
    message = refused("info", "org/shop")
    assert message.startswith("The Hub does not know your token")
    assert "uuu" not in message


def test_a_name_of_something_else(hub, refused):
    HfApi().create_repo("org/clicks", repo_type="dataset")
    assert refused("info", "org/clicks").startswith("org/clicks is a data set on the Hub, not a model.")
    HfApi().create_repo("org/base")
    assert refused("info", "org/base").startswith("org/base on the Hub is no whole recommender: catalog.parquet and")
    assert refused("info", "o!/b?").startswith("o!/b? is no folder here, and no name that the Hub could have")


def test_a_folder_comes_first_and_has_no_revisions(pushed, folders, refused, tmp_path, monkeypatch):
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "shop").symlink_to(folders[1])
    monkeypatch.chdir(tmp_path)
    assert torch.equal(scores("org/shop"), scores(folders[1]))
    assert refused("info", "org/shop", "--revision", "v2").startswith("org/shop is a folder here, and revisions are")


@pytest.mark.parametrize(("status", "said"), [(503, "failed with status 503"), (429, "failed with status 429")])
def test_a_hub_that_fails(hub, refused, status, said):
    hub.fail = lambda method, path, body: status
    assert said in refused("info", "org/shop")


def test_an_adapter_loads_on_its_base_by_id(hub, tmp_path, tiny):
    backbone = tmp_path / "base"
    tiny.backbone(backbone)
    HfApi().create_repo("org/base")
    HfApi().upload_folder(repo_id="org/base", folder_path=backbone)
    processor = tiny.processor(tokenizer=AutoTokenizer.from_pretrained("org/base"), text_vocab_size=260)
    model = add_lora(LLM4RecForCausalLM.from_backbone("org/base", catalog=processor), LoraRecipe(rank=2, dropout=0.0))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    folder = tmp_path / "adapter"
    model.eval().save_pretrained(folder)
    recommender_of(model).config.save_pretrained(folder)
    processor.save_pretrained(folder)
    push_model(folder, "org/adapter", progress=False, say=lambda line: None)
    assert "adapter_model.safetensors" in hub.files("org/adapter")
    batch = processor(histories=[["i0", "i4"]], return_tensors="pt")
    expected = recommender_of(model).recommend(**batch, k=5)
    torch.testing.assert_close(scores("org/adapter")[:, :5], expected.scores, atol=1e-4, rtol=0)
    # transformers takes the base for the model unless the configuration is named as well
    recommender = pipeline("recommendation", model="org/adapter", config="org/adapter", device="cpu")
    assert [item["item_id"] for item in recommender(["i0", "i4"], k=5)] == [
        item["item_id"] for item in processor.decode_items(expected)[0]
    ]


def test_a_model_of_a_later_version_asks_to_upgrade(folders, tmp_path, refused):
    folder = shutil.copytree(folders[0], tmp_path / "later")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"format_version": 7}))
    message = refused("info", folder)
    assert message.startswith("This checkpoint has format version 7, which this version of llm4rec")
    assert message.endswith("Upgrade with `pip install --upgrade llm4rec`.")
