"""Training end to end on a tiny shop: it learns, is reproducible, and survives interruption to the same result."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from llm4rec.modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor
from llm4rec.training.arguments import training_arguments
from llm4rec.training.build import build_model, build_processor, split_of
from llm4rec.training.data.sequences import training_windows
from llm4rec.training.train import train
from llm4rec.training.trainer import EarlyStopping, LLM4RecTrainer, ModelScorer
from safetensors.torch import load_file

NOISY = ["model.fusion_dropout=0.2", "model.event_dropout=0.2", "model.id_dropout=0.1", "model.num_negatives=10"]


def run(shop, recipe, folder, **kwargs):
    return train(shop, recipe, folder, say=lambda line: None, progress=False, **kwargs)


def weights(folder):
    return load_file(folder / "model.safetensors")


def log(folder):
    """What was logged, without clocks."""
    entries = json.loads((folder / "training.json").read_text())["log"]
    clocks = ("runtime", "per_second", "flos", "num_tokens", "train_loss")
    return [{k: v for k, v in entry.items() if not any(clock in k for clock in clocks)} for entry in entries]


def without_losses(entries):
    """The loss of an epoch that was interrupted is the mean over the steps since: the one thing that may differ."""
    return [{k: v for k, v in entry.items() if k != "loss"} for entry in entries]


def assert_same_run(a, b):
    assert without_losses(log(a)) == without_losses(log(b))
    left, right = weights(a), weights(b)
    assert left.keys() == right.keys()
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert not different


def at_step(monkeypatch, step, action):
    """Do something in the middle of the optimiser step that ends as number `step`."""
    original = LLM4RecTrainer.training_step

    def training_step(self, *args, **kwargs):
        loss = original(self, *args, **kwargs)
        if self.state.global_step + 1 == step:
            action()
        return loss

    monkeypatch.setattr(LLM4RecTrainer, "training_step", training_step)


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def power_cut():
    raise RuntimeError("power cut")


def test_training_lowers_the_loss_and_moves_the_weights(shop, tiny_recipe, tmp_path):
    recipe = tiny_recipe("training.learning_rate=1e-2", "training.epochs=8")
    report = run(shop, recipe, tmp_path / "model")
    losses = [entry["loss"] for entry in log(tmp_path / "model") if "loss" in entry]
    assert len(losses) == 8
    assert losses[-1] < losses[0] - 0.5
    split = split_of(shop, recipe)
    processor = build_processor(shop, recipe, split)
    torch.manual_seed(0)
    fresh = build_model(processor, recipe, split.train).state_dict()
    trained = weights(tmp_path / "model")
    still = {name for name, value in trained.items() if torch.equal(value, fresh[name])}
    assert all("features" in name or name.endswith("present") for name in still)
    assert report.validation["filtered/ndcg@10"] > 0


def test_the_model_folder_gives_back_the_recommender_of_the_best_validation(shop, tiny_recipe, tmp_path):
    recipe = tiny_recipe("training.epochs=6", "training.learning_rate=3e-2")
    report = run(shop, recipe, tmp_path / "model")
    values = [entry["eval_filtered/ndcg@10"] for entry in log(tmp_path / "model") if "eval_filtered/ndcg@10" in entry]
    assert report.validation["filtered/ndcg@10"] == max(values)
    assert not (tmp_path / "model" / "checkpoints").exists()
    model = LLM4RecForCausalLM.from_pretrained(tmp_path / "model")
    processor = LLM4RecProcessor.from_pretrained(tmp_path / "model")
    from llm4rec.training.evaluation.ranking_evaluator import RankingEvaluator

    again = RankingEvaluator(split_of(shop, recipe).validation, ks=(10,)).evaluate(ModelScorer(model, processor))
    assert again.metrics["filtered/ndcg@10"] == pytest.approx(max(values), abs=1e-9)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(shop, tiny_recipe, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(shop, tiny_recipe(*NOISY, "training.epochs=2", f"training.seed={seed}"), tmp_path / name)
    assert_same_run(tmp_path / "a", tmp_path / "b")
    assert log(tmp_path / "a") != log(tmp_path / "c")


@pytest.fixture(scope="module")
def whole_run(shop, tmp_path_factory):
    """Five epochs of five steps without interruption, with everything random switched on."""
    from llm4rec.configuration import Recipe

    from_conftest = [
        "data.max_history=8",
        "model.text_config.hidden_size=16",
        "model.text_config.intermediate_size=16",
    ]
    recipe = Recipe.load(
        "quickstart", [*from_conftest, "training.batch_size=16", "training.epochs=5", "training.patience=0", *NOISY]
    )
    folder = tmp_path_factory.mktemp("whole") / "model"
    report = run(shop, recipe, folder)
    assert (report.steps, report.interrupted) == (25, False)
    return recipe, folder


@pytest.mark.parametrize("step", [3, 7, 10, 23])
def test_a_run_resumed_after_ctrl_c_ends_as_the_whole_run(shop, whole_run, monkeypatch, tmp_path, step):
    recipe, whole = whole_run
    with monkeypatch.context() as patch:
        at_step(patch, step, press_ctrl_c)
        report = run(shop, recipe, tmp_path / "model")
    assert report.interrupted
    assert report.steps == step
    assert (tmp_path / "model" / "checkpoints" / f"checkpoint-{step}" / "trainer_state.json").is_file()
    assert not (tmp_path / "model" / "config.json").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    report = run(shop, recipe, tmp_path / "model", resume=True)
    assert (report.steps, report.interrupted) == (25, False)
    assert_same_run(tmp_path / "model", whole)


@pytest.mark.parametrize("step", [8, 25])
def test_a_run_resumed_after_a_power_cut_ends_as_the_whole_run(shop, whole_run, monkeypatch, tmp_path, step):
    recipe, whole = whole_run
    with monkeypatch.context() as patch:
        at_step(patch, step, power_cut)
        with pytest.raises(RuntimeError, match="power cut"):
            run(shop, recipe, tmp_path / "model")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    run(shop, recipe, tmp_path / "model", resume=True)
    assert_same_run(tmp_path / "model", whole)


def test_a_checkpoint_that_was_being_written_at_a_power_cut_is_passed_over(shop, whole_run, monkeypatch, tmp_path):
    recipe, whole = whole_run
    with monkeypatch.context() as patch:
        at_step(patch, 8, power_cut)
        with pytest.raises(RuntimeError, match="power cut"):
            run(shop, recipe, tmp_path / "model")
    half = tmp_path / "model" / "checkpoints" / "checkpoint-10"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    run(shop, recipe, tmp_path / "model", resume=True)
    assert_same_run(tmp_path / "model", whole)


def test_two_interruptions_end_as_the_whole_run(shop, whole_run, monkeypatch, tmp_path):
    recipe, whole = whole_run
    for step, resume in ((4, False), (12, True)):
        with monkeypatch.context() as patch:
            at_step(patch, step, press_ctrl_c)
            assert run(shop, recipe, tmp_path / "model", resume=resume).interrupted
    run(shop, recipe, tmp_path / "model", resume=True)
    assert_same_run(tmp_path / "model", whole)


def test_early_stopping_counts_validations_from_before_an_interruption(shop, tiny_recipe, monkeypatch, tmp_path):
    # Validation worsens from the second epoch on; with patience 3 the run stops after the fourth.
    recipe = tiny_recipe("training.epochs=9", "training.patience=3")
    original = LLM4RecTrainer.log

    def log_worse(self, logs, *args, **kwargs):
        if "eval_filtered/ndcg@10" in logs:
            logs["eval_filtered/ndcg@10"] = 0.5 / (1 + self.state.epoch)
        original(self, logs, *args, **kwargs)

    monkeypatch.setattr(LLM4RecTrainer, "log", log_worse)
    report = run(shop, recipe, tmp_path / "whole")
    assert report.epochs == 4
    with monkeypatch.context() as patch:
        at_step(patch, 12, press_ctrl_c)
        assert run(shop, recipe, tmp_path / "model").interrupted
    report = run(shop, recipe, tmp_path / "model", resume=True)
    assert report.epochs == 4
    assert_same_run(tmp_path / "model", tmp_path / "whole")


def test_a_second_ctrl_c_stops_at_once(shop, tiny_recipe, monkeypatch, tmp_path):
    def twice():
        press_ctrl_c()
        press_ctrl_c()

    at_step(monkeypatch, 7, twice)
    with pytest.raises(KeyboardInterrupt):
        run(shop, tiny_recipe(), tmp_path / "model")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_early_stopping_waits_for_patience_validations():
    class State:
        def __init__(self, values):
            self.log_history = [{"eval_x": value} for value in values]

    class Control:
        should_training_stop = False

    class Arguments:
        metric_for_best_model = "eval_x"

    def stops(values, patience):
        control = Control()
        EarlyStopping(patience).on_evaluate(Arguments(), State(values), control)
        return control.should_training_stop

    assert not stops([0.1, 0.2, 0.1], 2)
    assert stops([0.1, 0.2, 0.1, 0.2], 2)
    assert not stops([0.1, 0.2, 0.1, 0.3], 2)
    assert not stops([0.3, 0.1, 0.1, 0.1, 0.1], 0)


def test_gradient_checkpointing_and_accumulation_give_the_same_run(shop, tiny_recipe, tmp_path):
    plain = ["model.text_config.hidden_dropout=0.0", "model.fusion_dropout=0.0", "model.id_dropout=0.0"]
    plain += ["training.epochs=1", "training.precision=float32"]
    run(shop, tiny_recipe(*plain), tmp_path / "plain")
    run(shop, tiny_recipe(*plain, "training.gradient_checkpointing=true"), tmp_path / "checkpointed")
    accumulate = ["training.batch_size=8", "training.arguments.gradient_accumulation_steps=2"]
    run(shop, tiny_recipe(*plain, *accumulate), tmp_path / "accumulated")
    expected = weights(tmp_path / "plain")
    for name in ("checkpointed", "accumulated"):
        for key, value in weights(tmp_path / name).items():
            torch.testing.assert_close(value, expected[key], rtol=1e-3, atol=1e-4, msg=f"{name}: {key}")


def test_scores_come_in_the_order_of_the_histories_whatever_their_lengths(shop, tiny_recipe, monkeypatch):
    recipe = tiny_recipe()
    split = split_of(shop, recipe)
    processor = build_processor(shop, recipe, split)
    scorer = ModelScorer(build_model(processor, recipe, split.train).eval(), processor)
    histories = split.validation.histories
    assert (np.diff(histories.lengths) < 0).any()
    monkeypatch.setattr("llm4rec.training.trainer.HISTORIES_AT_ONCE", 7)
    together = scorer(histories)
    for user in range(0, histories.num_users, 5):
        torch.testing.assert_close(together[user], scorer(histories.rows(user, user + 1))[0], rtol=1e-4, atol=1e-4)


def test_bfloat16_learns_like_single_precision_without_a_gpu(shop, tiny_recipe, tmp_path):
    losses = {}
    for precision in ("float32", "bfloat16"):
        run(shop, tiny_recipe(f"training.precision={precision}", "training.learning_rate=1e-2"), tmp_path / precision)
        losses[precision] = [entry["loss"] for entry in log(tmp_path / precision) if "loss" in entry]
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.01)
    assert torch.bfloat16 not in {weight.dtype for weight in weights(tmp_path / "bfloat16").values()}


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU decides there")
@pytest.mark.parametrize(("capabilities", "expected"), [({"avx512_bf16": True}, True), ({"avx512_f": True}, False)])
def test_precision_auto_takes_bfloat16_where_the_cpu_multiplies_it(
    tiny_recipe, monkeypatch, tmp_path, capabilities, expected
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    arguments = training_arguments(tiny_recipe(), tmp_path, 5)
    assert arguments.bf16 is expected


def test_a_step_takes_batch_size_histories_of_similar_length(shop, tiny_recipe, tmp_path):
    recipe = tiny_recipe()
    split = split_of(shop, recipe)
    processor = build_processor(shop, recipe, split)
    windows = training_windows(split.train, processor)
    arguments = training_arguments(recipe, tmp_path, 5)
    model = build_model(processor, recipe, split.train)
    trainer = LLM4RecTrainer(model, arguments, processor, windows, validation=split.validation)
    batches = list(trainer.get_train_dataloader())
    assert [len(batch["input_ids"]) for batch in batches[:-1]] == [16] * (len(batches) - 1)
    assert sum(len(batch["input_ids"]) for batch in batches) == len(windows)
    cells = sum(batch["attention_mask"].numel() for batch in batches)
    assert sum(int(batch["attention_mask"].sum()) for batch in batches) > 0.85 * cells


def test_validation_never_sees_a_target_in_its_history(shop, tiny_recipe):
    split = split_of(shop, tiny_recipe())
    for cases in (split.validation, split.test):
        for row, target in enumerate(cases.targets):
            # In this shop nobody takes an item twice.
            assert target not in cases.histories.history(row)
