"""A checkpoint is complete by itself: with torch and transformers alone it loads and recommends the same items."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import llm4rec  # noqa: F401  (registers the Auto classes)
import pytest
import torch
from llm4rec.modeling_llm4rec import (
    LLM4RecConfig,
    LLM4RecForRelevance,
    LLM4RecProcessor,
    RecommendationPipeline,
    RetrievalConfig,
    RetrievalMemory,
)
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoProcessor,
    pipeline,
)
from transformers.dynamic_module_utils import get_imports, get_relative_import_files

MODULES = Path(importlib.util.find_spec("llm4rec.modeling_llm4rec").origin).parent
HISTORIES = [["i0", "i4", "i2"], ["i5"], []]
RATINGS = [[5, 3, 1], [2], []]

WITHOUT_THE_PACKAGE = """
import importlib.util, json, sys
import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoProcessor, pipeline

for name in ("llm4rec", "pyarrow", "polars", "datasets", "peft", "faiss", "sklearn"):
    assert importlib.util.find_spec(name) is None, name
torch.set_num_threads(1)
histories, ratings = json.loads(sys.argv[1])
for folder in sys.argv[2:-1]:
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules."), type(model)
    batch = processor(histories=histories, ratings=ratings, return_tensors="pt")
    out = model.recommend(**batch, k=5, explain=True)
    slate = model.generate(input_ids=batch["input_ids"][:1], items_only=True, max_new_tokens=3, do_sample=False)
    save_file({"items": out.items, "scores": out.scores, "slate": slate}, folder + "/out.st")
    with open(folder + "/out.json", "w") as file:
        json.dump([processor.decode_items(out), processor.render_explanations(out)], file)
plain = sys.argv[2]
try:
    pipeline("recommendation", model=plain, device="cpu")
except ValueError as error:
    assert "trust_remote_code=True" in str(error)
recommender = pipeline("recommendation", model=plain, device="cpu", trust_remote_code=True)
assert type(recommender).__module__.startswith("transformers_modules."), type(recommender)
answers = recommender([{"history": h, "ratings": r} for h, r in zip(histories, ratings)], k=5, explain=True)
with open(plain + "/pipeline.json", "w") as file:
    json.dump([answers, recommender(["Red TENT", "warm bagg"])], file)
assert type(AutoModel.from_pretrained(plain, trust_remote_code=True)).__name__ == "LLM4RecModel"
model = AutoModelForCausalLM.from_pretrained(plain, trust_remote_code=True)
model.save_pretrained(plain + "/again")  # from the code that travelled, which travels on
AutoModelForCausalLM.from_pretrained(plain + "/again", trust_remote_code=True)
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[-1], trust_remote_code=True)
found = model.predict_relevance(
    torch.tensor([[1, 2]]), torch.tensor([[0, 3]]), torch.tensor([[5, 1]]), threshold=3.0
)
save_file({"rating": found.expected_rating}, sys.argv[-1] + "/out.st")
"""


def add_memory(model):
    """A memory of three histories that the model listens to."""
    model.add_retrieval(RetrievalConfig(neighbours=4))
    width = model.config.text_config.hidden_size
    memory = RetrievalMemory(model.config.retrieval, model.num_items, width, model.content_vectors())
    memory.transitions.learn(torch.tensor([0, 1, 2, 0, 3, 5, 4]), torch.tensor([3, 2, 2]))
    memory.probe = {"input_ids": model.probe_sequences()}
    memory.probe["states"] = model._probe_states(memory.probe["input_ids"])
    model.attach_memory(memory)
    with torch.no_grad():
        model.model.retrieval_adapter.source_weight.fill_(1.0)


@pytest.fixture(scope="module")
def recommenders(tmp_path_factory, tiny):
    """Two recommenders, the second with a memory, and a predictor of ratings: folders and models."""
    processor = tiny.processor()
    folders, models = {}, {}
    for name in ("plain", "with-memory.v2"):
        model = tiny.model(processor)
        if name != "plain":
            add_memory(model)
        folders[name], models[name] = tmp_path_factory.mktemp("saved") / name, model
        model.save_pretrained(folders[name])
        processor.save_pretrained(folders[name])
    config = LLM4RecConfig(text_config=tiny.text_config(), **processor.model_config(), relevance={"members": 2})
    models["relevance"] = LLM4RecForRelevance(config).eval()
    models["relevance"].set_items(processor.item_features())
    folders["relevance"] = tmp_path_factory.mktemp("saved") / "relevance"
    models["relevance"].save_pretrained(folders["relevance"])
    return folders, models, processor


@pytest.fixture(scope="module")
def read_elsewhere(recommenders, bare, tmp_path_factory):
    """The folders after they were read where only torch and transformers are."""
    folders = recommenders[0]
    events = json.dumps([HISTORIES, RATINGS])
    home = tmp_path_factory.mktemp("home")
    bare(WITHOUT_THE_PACKAGE, events, *folders.values(), HF_HOME=str(home), HF_HUB_OFFLINE="1")
    return folders


@pytest.mark.parametrize("name", ["plain", "with-memory.v2"])
def test_without_the_package_it_recommends_the_same_items(recommenders, read_elsewhere, name):
    _, models, processor = recommenders
    batch = processor(histories=HISTORIES, ratings=RATINGS, return_tensors="pt")
    expected = models[name].recommend(**batch, k=5, explain=True)
    found = load_file(read_elsewhere[name] / "out.st")
    assert torch.equal(found["items"], expected.items)
    torch.testing.assert_close(found["scores"], expected.scores, atol=1e-5, rtol=0)
    decoded, reasons = json.loads((read_elsewhere[name] / "out.json").read_text())
    assert reasons == processor.render_explanations(expected)
    for row, known in zip(decoded, processor.decode_items(expected), strict=True):
        assert [item | {"score": None} for item in row] == [item | {"score": None} for item in known]
    slate = models[name].generate(input_ids=batch["input_ids"][:1], items_only=True, max_new_tokens=3, do_sample=False)
    assert torch.equal(found["slate"], slate)


def test_without_the_package_the_pipeline_answers_the_same(recommenders, read_elsewhere):
    _, models, processor = recommenders
    answers, by_title = json.loads((read_elsewhere["plain"] / "pipeline.json").read_text())
    here = RecommendationPipeline(models["plain"], processor=processor, device="cpu")
    requests = [{"history": h, "ratings": r} for h, r in zip(HISTORIES, RATINGS, strict=True)]
    expected = here(requests, k=5, explain=True)
    assert [[item["item_id"] for item in row] for row in answers] == [[i["item_id"] for i in row] for row in expected]
    texts = [[item["explanation"]["text"] for item in row] for row in expected]
    assert [[item["explanation"]["text"] for item in row] for row in answers] == texts
    assert [item["item_id"] for item in by_title] == [item["item_id"] for item in here(["i0", "i2"])]


def test_the_memory_has_a_say_in_what_is_compared(recommenders):
    folders, models, processor = recommenders
    batch = processor(histories=HISTORIES, return_tensors="pt")
    model = models["with-memory.v2"]
    assert not torch.equal(model.recommend(**batch).scores, model.recommend(**batch, retrieval=False).scores)
    assert (folders["with-memory.v2"] / "memory" / "transitions.parquet").is_file()


def test_without_the_package_it_predicts_the_same_ratings(recommenders, read_elsewhere):
    expected = recommenders[1]["relevance"].predict_relevance(
        torch.tensor([[1, 2]]), torch.tensor([[0, 3]]), torch.tensor([[5, 1]]), threshold=3.0
    )
    found = load_file(read_elsewhere["relevance"] / "out.st")
    torch.testing.assert_close(found["rating"], expected.expected_rating)
    assert type(AutoModelForSequenceClassification.from_pretrained(read_elsewhere["relevance"])) is LLM4RecForRelevance


def test_with_the_package_the_code_of_a_checkpoint_is_not_run(recommenders, tmp_path):
    folder = shutil.copytree(recommenders[0]["plain"], tmp_path / "booby-trapped")
    for module in folder.glob("*.py"):
        module.write_text("raise SystemExit('the code of the checkpoint was run')\n")
    for trust in ({}, {"trust_remote_code": True}):
        for auto in (AutoConfig, AutoModel, AutoModelForCausalLM, AutoProcessor):
            assert type(auto.from_pretrained(folder, **trust)).__module__.startswith("llm4rec.")
        assert type(pipeline("recommendation", model=folder, device="cpu", **trust)) is RecommendationPipeline


def test_every_module_that_a_checkpoint_needs_lies_in_it(recommenders):
    folder = recommenders[0]["plain"]
    config = json.loads((folder / "config.json").read_text())
    processor = json.loads((folder / "processor_config.json").read_text())
    assert set(config["auto_map"]) == {"AutoConfig", "AutoModel", "AutoModelForCausalLM"}
    assert set(processor["auto_map"]) == {"AutoProcessor"}
    for reference in (*config["auto_map"].values(), *processor["auto_map"].values()):
        module = folder / f"{reference.split('.')[0]}.py"
        for needed in (module, *map(Path, get_relative_import_files(module))):
            assert needed.read_text() == (MODULES / needed.name).read_text()


@pytest.mark.parametrize("module", sorted(MODULES.glob("*.py")), ids=lambda path: path.stem)
def test_modules_import_nothing_that_transformers_does_not_bring(module):
    # The Hub's loader refuses a module for any import that it sees and cannot satisfy, lazy ones included.
    brought = {"torch", "transformers", "numpy", "safetensors", "tokenizers", "huggingface_hub"}
    assert set(get_imports(module)) - set(sys.stdlib_module_names) <= brought


def test_only_an_adapter_needs_more_than_transformers(tmp_path, tiny, monkeypatch):
    from llm4rec.modeling_llm4rec.adapter_checkpoint import load_adapter

    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match="which needs peft: `pip install peft`"):
        load_adapter(object, tmp_path, None, {})


def test_a_processor_saved_alone_carries_its_code(tmp_path, tiny):
    tiny.processor().save_pretrained(tmp_path)
    assert {"processing_llm4rec.py", "catalog.py", "parquet_tables.py"} <= {p.name for p in tmp_path.glob("*.py")}
    assert LLM4RecProcessor.from_pretrained(tmp_path).catalog.item_ids[0] == "i0"
