"""Building a memory and learning from it: what is retrieved, what must not be, and whether listening helps."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from llm4rec import LLM4RecForCausalLM, LLM4RecProcessor
from llm4rec.configuration.recipe import RetrievalRecipe
from llm4rec.modeling_llm4rec import RetrievalConfig, RetrievedContext
from llm4rec.training.cli import main
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.data.splits import EvaluationSet, Split, leave_one_out
from llm4rec.training.evaluate import evaluate_model
from llm4rec.training.experiments.retrieval_sweep import retrieval_sweep
from llm4rec.training.retrieval.build_memory import build_memory, event_states, latest_events, rating_agreement
from llm4rec.training.retrieval.diagnostics import fallen, retrieval_metrics
from llm4rec.training.retrieval.fit import add_retrieval, fit_adapter
from llm4rec.training.retrieval.retrieved_cases import retrieve_cases, train_cases
from llm4rec.training.train import train
from llm4rec.training.trainer import ModelScorer

pytestmark = pytest.mark.usefixtures("quick_fit")


def histories_of(*lists, num_items=12, times=None, ratings=None):
    lengths = [len(items) for items in lists]
    return Interactions(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.array([item for items in lists for item in items], dtype=np.int32),
        num_items=num_items,
        ratings=None if ratings is None else np.array(ratings, dtype=np.float32),
        timestamps=None if times is None else np.array(times, dtype=np.int64),
    )


def cases_of(train, users, positions):
    """Events of train as cases."""
    users, positions = np.array(users), np.array(positions)
    place = train.offsets[users] + positions
    return EvaluationSet(
        users=users,
        targets=train.items[place],
        histories=train.take(users, positions),
        target_timestamps=None if train.timestamps is None else train.timestamps[place],
    )


def remembering(tiny, train, **config):
    """An untrained model with the memory of `train`."""
    processor = tiny.processor()
    model = tiny.model(processor)
    model.add_retrieval(RetrievalConfig(neighbours=6, **config))
    model.attach_memory(build_memory(model, processor, train))
    return model, processor


@pytest.mark.parametrize("source", ["transitions", "behaviour"])
def test_a_planted_answer_is_not_found_by_the_event_that_put_it_there(tiny, source):
    # Only user 0 ever took 9, after 1: whoever finds 9 for that event has found the event itself.
    train = histories_of([0, 1, 9], [2, 3, 4], [5, 3, 6])
    model, processor = remembering(tiny, train, sources=[source])
    itself = cases_of(train, [0], [2])
    leaking = retrieve_cases(model, processor, itself).context.items
    assert 9 in leaking
    assert 9 not in retrieve_cases(model, processor, itself, train=train).context.items


@pytest.mark.parametrize("source", ["transitions", "behaviour"])
def test_an_event_does_not_find_its_users_own_future(tiny, source):
    # User 0 takes 7 later, after the event that is asked about.
    train = histories_of([0, 1, 2, 1, 7], [3, 4, 5])
    model, processor = remembering(tiny, train, sources=[source])
    early = cases_of(train, [0], [2])
    assert 7 not in retrieve_cases(model, processor, early, train=train).context.items


@pytest.mark.parametrize("source", ["transitions", "behaviour"])
def test_retrieval_never_finds_what_others_did_later(tiny, source):
    train = histories_of([0, 1, 2], [0, 1, 8], times=[10, 20, 30, 50, 60, 70])
    model, processor = remembering(tiny, train, sources=[source])
    first = cases_of(train, [0], [2])
    assert 8 not in retrieve_cases(model, processor, first, train=train).context.items
    last = cases_of(train, [1], [2])
    assert 2 in retrieve_cases(model, processor, last, train=train).context.items


def test_validation_and_test_events_are_not_in_the_memory(tiny):
    everything = histories_of([0, 1, 10, 11], [2, 3, 10, 11])
    split = leave_one_out(everything)
    model, _ = remembering(tiny, split.train)
    assert set(model.memory.behaviour.items.tolist()) == {0, 1, 2, 3}
    assert set(model.memory.transitions.columns()["item"].tolist()) == {1, 3}


def test_keys_of_behaviour_are_the_states_before_the_events(tiny):
    train = histories_of([0, 1, 2], [4, 5, 6, 7, 8, 9, 10, 11, 0, 1, 2, 3], [3])
    processor = tiny.processor()
    model = tiny.model(processor)
    states = event_states(model, processor, train)
    for history, event in (([], 0), (["i0"], 1), (["i0", "i1"], 2), (["i4"], 4)):
        with torch.no_grad():
            alone = model.user_states(
                **{
                    name: values
                    for name, values in processor(histories=[history], return_tensors="pt").items()
                    if name != "seen_items"
                }
            )
        torch.testing.assert_close(states[event], alone[0], rtol=1e-4, atol=1e-4)


def test_a_rating_like_everybodys_is_credible_and_a_contrary_one_less():
    train = histories_of([0, 1], [0, 1], [0, 1], ratings=[5, 3, 5, np.nan, 1, 3])
    trust = rating_agreement(train)
    assert trust[0] > trust[4]
    assert trust[3] == 1.0  # no rating, no doubt
    assert ((trust >= 0.1) & (trust <= 1)).all()
    assert rating_agreement(histories_of([0, 1])) is None


def test_every_users_latest_event_is_kept_first():
    train = histories_of([0, 1, 2, 3], [4, 5], [6])
    assert train.items[latest_events(train, 3)].tolist() == [3, 5, 6]
    assert train.items[latest_events(train, 5)].tolist() == [2, 3, 4, 5, 6]


def test_cases_of_train_are_events_with_their_past():
    train = histories_of([0, 1, 2], [4, 5])
    cases = train_cases(train, 10, seed=0)
    assert list(cases.targets) == [1, 2, 5]
    assert [cases.histories.history(row).tolist() for row in range(3)] == [[0], [0, 1], [4]]


def test_a_target_among_the_found_is_counted_by_hand():
    items = torch.tensor([[[3, 5, -1], [5, 4, 1]], [[2, -1, -1], [0, 1, 6]]])
    relevance = torch.tensor([[[0.6, 0.4, 0.0], [0.5, 0.25, 0.25]], [[1.0, 0.0, 0.0], [0.5, 0.4, 0.1]]])
    ones = (items >= 0).float()
    context = RetrievedContext(("a", "b"), items, relevance, ones, ones, relevance)
    metrics = retrieval_metrics(context, torch.tensor([5, 6]), ks=(1, 3))
    assert metrics["a/hit_share@1"] == 0.0
    assert metrics["b/hit_share@1"] == 0.5
    assert metrics["a/precision@3"] == pytest.approx(0.5 / 3)
    assert metrics["b/precision@3"] == pytest.approx(1 / 3)
    # In turn, each once: 3 5 4 … and 2 0 1 …: of the second user the target stands fourth.
    assert metrics["all/hit_share@3"] == 0.5
    assert metrics["b/decay@3"] == pytest.approx((0.5 + 0.2) / 2)


def test_a_fall_in_precision_is_reported_by_name():
    then = {"behaviour/precision@10": 0.01, "transitions/precision@10": 0.01}
    now = {"behaviour/precision@10": 0.004, "transitions/precision@10": 0.0099}
    warnings = fallen(now, then)
    assert len(warnings) == 1
    assert "behaviour is 0.0040 at K=10, 0.0100 when" in warnings[0]


def planted_world(seed=0, users=150, num_items=12):
    """Every item has one successor; a model that was never trained cannot know it, the memory can."""
    generator = np.random.default_rng(seed)
    successor = generator.permutation(num_items)
    lists = []
    for _ in range(users):
        history = [int(generator.integers(num_items))]
        while len(history) < 6:
            history.append(int(successor[history[-1]] if generator.random() < 0.9 else generator.integers(num_items)))
        lists.append(history)
    return histories_of(*lists, num_items=num_items)


@pytest.mark.parametrize("fit_on", ["validation", "train"])
def test_listening_to_a_memory_that_knows_lifts_the_ranking(tiny, fit_on, monkeypatch):
    monkeypatch.setattr("llm4rec.training.retrieval.fit.LEAST_STEPS", 300)
    split = leave_one_out(planted_world())
    processor = tiny.processor()
    model = tiny.model(processor)
    report = add_retrieval(
        model, processor, split, RetrievalRecipe(fit_on=fit_on, neighbours=6), say=lambda line: None
    )
    assert report.variant is not None
    assert report.metrics["unfiltered/ndcg@10"] > 1.2 * report.metrics["off/unfiltered/ndcg@10"]
    histories, targets = split.test.histories, torch.from_numpy(split.test.targets.astype(np.int64))
    best = {
        on: (ModelScorer(model, processor, retrieval=on)(histories).argmax(1) == targets).float().mean()
        for on in (True, False)
    }
    assert best[True] > 0.6 > best[False]


def test_a_memory_of_noise_is_not_listened_to_for_long(tiny):
    generator = np.random.default_rng(1)
    split = leave_one_out(histories_of(*(generator.integers(0, 12, 6).tolist() for _ in range(200))))
    processor = tiny.processor()
    model = tiny.model(processor)
    recipe = RetrievalRecipe(neighbours=6)
    report = add_retrieval(model, processor, split, recipe, say=lambda line: None)
    chosen = report.log_loss[report.variant or "off"]
    assert chosen <= report.log_loss["off"]
    # A uniform guess over twelve items: nobody can do better, and the fit must not claim to.
    assert chosen > math.log(12) - 0.15


def test_fitting_leaves_everything_but_the_adapter_alone(tiny):
    split = leave_one_out(planted_world(users=40))
    model, processor = remembering(tiny, split.train)
    before = {name: weight.clone() for name, weight in model.state_dict().items() if "retrieval_adapter" not in name}
    fit_adapter(model, retrieve_cases(model, processor, split.validation), epochs=1)
    after = model.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())
    assert not torch.equal(model.model.retrieval_adapter.source_weight, torch.zeros(3))


@pytest.fixture(scope="module")
def trained(quick_fit, shop, tiny_recipe, tmp_path_factory):
    """A model of the tiny shop with a memory."""
    output = tmp_path_factory.mktemp("trained") / "model"
    recipe = tiny_recipe("retrieval.enabled=true", "retrieval.neighbours=10", "retrieval.time_decay=0.01")
    train(shop, recipe, output, say=lambda line: None, progress=False)
    return output


def test_training_with_retrieval_saves_a_memory_that_recommends(trained, shop):
    model = LLM4RecForCausalLM.from_pretrained(trained)
    processor = LLM4RecProcessor.from_pretrained(trained)
    assert set(model.memory.sizes()) == {"transitions", "behaviour", "metadata"}
    out = model.recommend(**processor(histories=[shop.items["item_id"][:3].to_list()], return_tensors="pt"), k=5)
    assert out.retrieved.items.shape == (1, 3, 10)
    facts = json.loads((trained / "training.json").read_text())
    assert facts["retrieval"]["entries"] == model.memory.sizes()


def test_the_card_says_what_the_memory_holds_and_what_it_brought(trained):
    card = (trained / "README.md").read_text()
    facts = json.loads((trained / "training.json").read_text())["retrieval"]
    assert f"- Memory: {facts['entries']['transitions']:,} transitions" in card
    assert f"{facts['metrics']['filtered/ndcg@10']:.4f} filtered" in card
    assert "can learn what single users" in card


def test_a_model_with_a_damaged_memory_still_recommends_when_asked_to_do_without(trained, tmp_path, capsys):
    folder = shutil.copytree(trained, tmp_path / "model")
    keys = folder / "memory" / "keys.safetensors"
    keys.write_bytes(keys.read_bytes()[:-10])
    for arguments, code in (([], 1), (["--no-retrieval"], 0)):
        with pytest.raises(SystemExit) as stopped:
            main(["recommend", str(folder), *arguments])
        assert (stopped.value.code or 0) == code
        said = capsys.readouterr()
        assert ("keys.safetensors" in said.err) == bool(code)
        assert "--no-retrieval" in said.err or not code


def test_evaluation_shows_what_retrieval_brings(trained, shop):
    report = evaluate_model(trained, shop, say=lambda line: None, progress=False, baselines=False)
    assert {"llm4rec", "llm4rec without retrieval"} == set(report["metrics"])
    assert 0 <= report["retrieval"]["all/precision@10"] <= 0.1


def test_lora_checkpoints_keep_the_memory_too(shop, tiny, tiny_recipe, tmp_path):
    tiny.backbone(tmp_path / "backbone")
    recipe = tiny_recipe(
        "retrieval.enabled=true",
        "retrieval.neighbours=10",
        f"model.backbone={tmp_path / 'backbone'}",
        "model.text_config={}",
        "training.epochs=1",
    )
    recipe.model.text_config = {}
    train(shop, recipe, tmp_path / "model", say=lambda line: None, progress=False)
    model = LLM4RecForCausalLM.from_pretrained(tmp_path / "model")
    assert model.memory is not None
    weight = model.model.retrieval_adapter.state_dict()
    assert any("source_weight" in name for name in weight)
    batch = LLM4RecProcessor.from_pretrained(tmp_path / "model")(histories=[[]], return_tensors="pt")
    assert model.recommend(**batch, k=3).retrieved is not None


def test_the_sweep_writes_a_table_and_plots_and_reads_no_test_event(trained, shop, tmp_path, monkeypatch):
    def without_test(data, recipe):
        split = leave_one_out(data.interactions)
        return Split(split.name, split.train, split.validation, test=None)

    monkeypatch.setattr("llm4rec.training.experiments.retrieval_sweep.split_of", without_test)
    result = retrieval_sweep(trained, shop, tmp_path, ks=(5, 3), say=lambda line: None, progress=False)
    assert [row["k"] for row in result["rows"]] == [3, 5]
    assert result["best"] in result["rows"]
    for ending in ("csv", "json", "png", "svg"):
        assert (tmp_path / f"retrieval-sweep.{ending}").stat().st_size > 100
    assert json.loads((tmp_path / "retrieval-sweep.json").read_text())["rows"] == result["rows"]


def test_a_run_stopped_while_it_fits_the_adapter_can_be_resumed(shop, tiny_recipe, tmp_path, monkeypatch):
    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    recipe = tiny_recipe("retrieval.enabled=true", "retrieval.neighbours=10", "training.epochs=1")
    monkeypatch.setattr("llm4rec.training.train.add_retrieval", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(shop, recipe, tmp_path / "model", say=lambda line: None, progress=False)
    monkeypatch.undo()
    train(shop, recipe, tmp_path / "model", resume=True, say=lambda line: None, progress=False)
    assert LLM4RecForCausalLM.from_pretrained(tmp_path / "model").memory is not None
