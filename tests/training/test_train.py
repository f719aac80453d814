"""train(): from a prepared folder and a recipe to a model folder; recipes, splits, adapters, processes, refusals."""

import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from llm4rec.configuration import Recipe, recipe_names
from llm4rec.modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor
from llm4rec.training.arguments import training_arguments
from llm4rec.training.build import build_model, build_processor, split_of
from llm4rec.training.train import train


def run(shop, recipe, folder, say=lambda line: None, **kwargs):
    return train(shop, recipe, folder, say=say, progress=False, **kwargs)


def load(folder):
    return LLM4RecForCausalLM.from_pretrained(folder), LLM4RecProcessor.from_pretrained(folder)


def parts(shop, recipe):
    split = split_of(shop, recipe)
    processor = build_processor(shop, recipe, split)
    return split, processor, build_model(processor, recipe, split.train)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A tiny Qwen3 as if pretrained."""
    from llm4rec.modeling_llm4rec import byte_tokenizer
    from transformers import AutoModelForCausalLM, Qwen3Config

    folder = tmp_path_factory.mktemp("backbone")
    config = Qwen3Config(
        vocab_size=264, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def lora_recipe(backbone, *overrides):
    return Recipe.load(
        "pretrained-llm-lora",
        [
            f"model.backbone={backbone}", "model.fusion_width=16", "model.lora.rank=2", "model.dtype=float32",
            "data.text_encoder=hashing", "data.max_history=8", "training.epochs=2", "training.warmup_steps=2",
            *overrides,
        ],
    )  # fmt: skip


def test_a_trained_folder_recommends_to_a_user_of_the_data(shop, tiny_recipe, tmp_path):
    said = []
    report = run(shop, tiny_recipe(), tmp_path / "model", say=said.append)
    assert report.output == tmp_path / "model"
    names = {path.name for path in report.output.iterdir()}
    assert {"config.json", "model.safetensors", "recipe.yaml", "training.json", "catalog.parquet"} <= names
    model, processor = load(report.output)
    history = shop.items["item_id"][shop.interactions.history(0)].to_list()
    out = model.recommend(**processor(histories=[history], return_tensors="pt"), k=5)
    shown = processor.decode_items(out.items)[0]
    assert len(shown) == 5
    assert not {item["item_id"] for item in shown} & set(history)
    assert any("title (text)" in line and "hashed words" in line for line in said)
    assert Recipe.load(report.output / "recipe.yaml") == tiny_recipe()


def test_an_existing_model_is_not_replaced_unasked(shop, tiny_recipe, tmp_path):
    recipe = tiny_recipe("training.epochs=1")
    run(shop, recipe, tmp_path / "model")
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match=r"exists already. Pass --overwrite to replace it"):
        run(shop, recipe, tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before
    run(shop, tiny_recipe("training.epochs=1", "training.seed=5"), tmp_path / "model", overwrite=True)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() != before


def test_checkpoints_of_an_interrupted_run_are_not_replaced_unasked(shop, tiny_recipe, tmp_path):
    (tmp_path / "model" / "checkpoints" / "checkpoint-5").mkdir(parents=True)
    (tmp_path / "model" / "checkpoints" / "checkpoint-5" / "trainer_state.json").write_text("{}")
    with pytest.raises(FileExistsError, match=r"Pass --resume to go on, --overwrite to replace it"):
        run(shop, tiny_recipe(), tmp_path / "model")


def test_a_folder_that_is_no_model_is_not_deleted_even_with_overwrite(shop, tiny_recipe, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"holds files, but no recipe.yaml"):
        run(shop, tiny_recipe(), tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_nothing_to_resume_says_so(shop, tiny_recipe, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint to resume from; start without --resume"):
        run(shop, tiny_recipe(), tmp_path / "model", resume=True)


def test_resuming_under_another_recipe_is_refused(shop, tiny_recipe, monkeypatch, tmp_path):
    from llm4rec.training.trainer import LLM4RecTrainer

    with monkeypatch.context() as patch:
        patch.setattr(LLM4RecTrainer, "_save", _raise_after(LLM4RecTrainer._save))
        with pytest.raises(RuntimeError, match="power cut"):
            run(shop, tiny_recipe(), tmp_path / "model")
    with pytest.raises(ValueError, match=r"training.learning_rate was 0.001 .* is 0.5.*--overwrite"):
        run(shop, tiny_recipe("training.learning_rate=0.5"), tmp_path / "model", resume=True)
    report = run(shop, tiny_recipe("training.epochs=4"), tmp_path / "model", resume=True)
    assert report.epochs == 4


def _raise_after(save, count=2):
    calls = []

    def save_and_raise(self, *args, **kwargs):
        save(self, *args, **kwargs)
        calls.append(1)
        if len(calls) == count:
            raise RuntimeError("power cut")

    return save_and_raise


@pytest.mark.parametrize("name", recipe_names())
def test_every_built_in_recipe_builds_on_the_shop(shop, backbone, name, tmp_path):
    overrides = [f"model.backbone={backbone}"] if Recipe.load(name).model.backbone else []
    if Recipe.load(name).data.text_encoder != "hashing":
        overrides.append("data.text_encoder=hashing")
    recipe = Recipe.load(name, overrides)
    _, processor, model = parts(shop, recipe)
    assert model.num_items == 40
    assert processor.max_history == recipe.data.max_history
    training_arguments(recipe, tmp_path, 5)


@pytest.mark.parametrize(
    "architecture",
    [
        {"model_type": "llama", "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 1},
        {"model_type": "qwen3", "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8},
        {"num_hidden_layers": 2, "hidden_dropout": 0.1},
    ],
)
def test_any_architecture_can_be_trained_from_scratch(shop, tiny_recipe, architecture):
    recipe = tiny_recipe()
    recipe.model.text_config |= architecture
    _, _, model = parts(shop, recipe)
    wanted = architecture.get("model_type", "gpt_neox")
    assert model.config.text_config.model_type == wanted
    assert model.config.text_config.vocab_size == 260


@pytest.mark.parametrize("merge", [False, True])
def test_training_with_lora_leaves_a_folder_that_loads_whole(shop, backbone, tmp_path, merge):
    report = run(shop, lora_recipe(backbone, f"model.lora.merge={str(merge).lower()}"), tmp_path / "model")
    names = {path.name for path in (tmp_path / "model").iterdir()}
    weights = {"model.safetensors"} if merge else {"adapter_config.json", "adapter_model.safetensors"}
    assert weights | {"config.json", "processor_config.json", "catalog.parquet"} <= names
    assert ("adapter_config.json" in names) != merge
    auto_map = json.loads((tmp_path / "model" / "config.json").read_text())["auto_map"]
    assert set(auto_map) == {"AutoConfig", "AutoModel", "AutoModelForCausalLM"}
    assert {"modeling_llm4rec.py", "adapter_checkpoint.py", "processing_llm4rec.py"} <= names
    model, processor = load(tmp_path / "model")
    from llm4rec.training.evaluation.ranking_evaluator import RankingEvaluator
    from llm4rec.training.trainer import ModelScorer

    validation = split_of(shop, lora_recipe(backbone)).validation
    metrics = RankingEvaluator(validation, ks=(10,)).evaluate(ModelScorer(model, processor)).metrics
    assert metrics["filtered/ndcg@10"] == pytest.approx(report.validation["filtered/ndcg@10"], abs=1e-6)
    whole = sum(weight.numel() for weight in model.parameters())
    assert report.parameters < whole


def test_a_lora_run_resumed_after_an_interruption_ends_as_the_whole_run(shop, backbone, monkeypatch, tmp_path):
    from llm4rec.training.trainer import LLM4RecTrainer
    from safetensors.torch import load_file

    recipe = lora_recipe(backbone, "training.epochs=3")
    run(shop, recipe, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(LLM4RecTrainer, "_save", _raise_after(LLM4RecTrainer._save))
        with pytest.raises(RuntimeError, match="power cut"):
            run(shop, recipe, tmp_path / "model")
    run(shop, recipe, tmp_path / "model", resume=True)
    whole, resumed = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "model"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_all_weights_of_a_pretrained_backbone_are_trained_without_lora(shop, backbone, tmp_path):
    report = run(shop, lora_recipe(backbone, "model.lora.rank=0", "training.epochs=1"), tmp_path / "model")
    model, _ = load(tmp_path / "model")
    assert report.parameters == sum(weight.numel() for weight in model.parameters())


def test_quantisation_without_a_gpu_or_its_library_says_what_it_needs(shop, backbone):
    recipe = lora_recipe(backbone, "model.lora.quantize_4bit=true")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match=r"model.lora.quantize_4bit needs a CUDA GPU; set it to false"):
        parts(shop, recipe)


def test_items_that_nobody_bought_in_training_are_known_by_content_alone(shop, tiny_recipe):
    recipe = tiny_recipe()
    split = split_of(shop, recipe)
    split.train = split.train.keep(split.train.items != 0)
    model = build_model(build_processor(shop, recipe, split), recipe, split.train)
    bought = torch.from_numpy(split.train.item_counts() > 0)
    assert bought[1:].all()
    assert not bought[0]
    assert torch.equal(model.model.item_embedding.present[:, 0], bought)


@pytest.mark.parametrize(
    ("overrides", "modalities"),
    [
        (["data.modalities=[]"], ["id"]),
        (["data.modalities=[price]"], ["id", "price"]),
        (["data.modalities=[title]", "data.item_ids=false"], ["title"]),
    ],
)
def test_modalities_can_be_chosen(shop, tiny_recipe, overrides, modalities):
    _, _, model = parts(shop, tiny_recipe(*overrides))
    assert [modality.name for modality in model.config.modalities] == modalities


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.modalities=[smell]"], r"data.modalities names 'smell'; the prepared items have title, "),
        (["data.modalities=[]", "data.item_ids=false"], r"items would have nothing to read"),
        (["model.fusion_heads=3"], r"fusion_heads=3 must divide"),
    ],
)
def test_a_recipe_that_does_not_fit_the_data_says_why(shop, tiny_recipe, overrides, message):
    with pytest.raises(ValueError, match=message):
        parts(shop, tiny_recipe(*overrides))


def test_unknown_training_arguments_name_the_field(tiny_recipe, tmp_path):
    recipe = tiny_recipe("training.arguments.warmup_rat=0.1")
    with pytest.raises(ValueError, match=r"training.arguments: .*'warmup_rat'.*trl.SFTConfig"):
        training_arguments(recipe, tmp_path, 5)


def test_ratings_and_times_can_be_left_out(shop, tiny_recipe):
    _, processor, model = parts(shop, tiny_recipe("data.ratings=false", "data.times=false"))
    assert (processor.rating_levels, processor.num_time_gaps) == ([], 0)
    assert model.model.event_embedding.rating is None
    _, processor, model = parts(shop, tiny_recipe())
    assert processor.rating_levels == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert model.model.event_embedding.rating is not None


def test_rating_levels_are_learned_from_training_events_only(shop, tiny_recipe):
    split = split_of(shop, tiny_recipe())
    split.train.ratings = split.train.ratings.copy()
    split.train.ratings[:] = 3.0
    assert build_processor(shop, tiny_recipe(), split).rating_levels == []


def test_training_on_a_global_time_split(shop, tiny_recipe, tmp_path):
    report = run(shop, tiny_recipe("data.split=global_time", "training.epochs=1"), tmp_path / "model")
    assert 0 <= report.validation["filtered/ndcg@10"] <= 1


def test_validation_on_a_sample_of_users(shop, tiny_recipe, tmp_path):
    one = run(shop, tiny_recipe("training.epochs=1", "training.max_validation_users=5"), tmp_path / "a")
    assert one.validation["filtered/hr@10"] in {0, 0.2, 0.4, 0.6, 0.8, 1.0}


def test_validation_every_other_epoch(shop, tiny_recipe, tmp_path):
    run(shop, tiny_recipe("training.epochs=4", "training.evaluate_every=2"), tmp_path / "model")
    log = json.loads((tmp_path / "model" / "training.json").read_text())["log"]
    assert [entry["epoch"] for entry in log if "eval_filtered/ndcg@10" in entry] == [2.0, 4.0]


def test_validation_once_an_epoch_with_accumulated_gradients(shop, tiny_recipe, tmp_path):
    accumulate = "training.arguments.gradient_accumulation_steps=3"
    run(shop, tiny_recipe("training.epochs=3", "training.batch_size=8", accumulate), tmp_path / "model")
    log = json.loads((tmp_path / "model" / "training.json").read_text())["log"]
    assert [(entry["epoch"], entry["step"]) for entry in log if "eval_filtered/ndcg@10" in entry] == [
        (1.0, 3), (2.0, 6), (3.0, 9),
    ]  # fmt: skip


def test_a_run_shorter_than_its_first_validation_still_leaves_a_model(shop, tiny_recipe, tmp_path):
    report = run(shop, tiny_recipe("training.epochs=1", "training.evaluate_every=3"), tmp_path / "model")
    assert report.steps == 5
    model, processor = load(tmp_path / "model")
    assert model.recommend(**processor(histories=[[]], return_tensors="pt"), k=3).items.shape == (1, 3)


TWO_PROCESSES = """
import sys
import torch
torch.set_num_threads(1)
from llm4rec.configuration import Recipe
from llm4rec.training.data.prepared import PreparedData
from llm4rec.training.train import train
train(PreparedData.load(sys.argv[1]), Recipe.load(sys.argv[2]), sys.argv[3], progress=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["accelerate", "torchrun"])
def test_two_processes_learn_like_one_with_twice_the_batch(shop, tiny_recipe, tmp_path, launcher):
    plain = ["model.text_config.hidden_dropout=0.0", "model.fusion_dropout=0.0"]
    plain += ["training.epochs=4", "training.learning_rate=1e-2", "training.precision=float32"]
    # Processes even out a short last batch by repeating histories, which one process does not.
    plain += ["training.arguments.dataloader_drop_last=true"]
    one = tiny_recipe(*plain, "training.batch_size=16")
    two = tiny_recipe(*plain, "training.batch_size=8")
    run(shop, one, tmp_path / "one")
    two.save(tmp_path / "two.yaml")
    script = tmp_path / "script.py"
    script.write_text(TWO_PROCESSES)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = {
        "accelerate": ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
                       "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", port],
        "torchrun": ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", port],
    }[launcher]  # fmt: skip
    subprocess.run(
        [
            sys.executable, "-m", *command, str(script), str(shop.folder), str(tmp_path / "two.yaml"),
            str(tmp_path / "two"),
        ],
        check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip

    def losses(name):
        log = json.loads((tmp_path / name / "training.json").read_text())["log"]
        return [entry["loss"] for entry in log if "loss" in entry]

    assert len(losses("two")) == len(losses("one")) == 4
    assert losses("two") == pytest.approx(losses("one"), rel=1e-3)
    model, _ = load(tmp_path / "two")
    assert model.num_items == 40
