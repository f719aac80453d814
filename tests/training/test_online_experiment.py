import json

import numpy as np
import pytest
from llm4rec.training.data.streams import event_stream
from llm4rec.training.evaluation.prequential import new_events, prequential
from llm4rec.training.experiments.online_learning import METHODS, methods_named, online_experiment
from llm4rec.training.experiments.periodic_retraining import known_events
from llm4rec.training.load import load_recommender
from llm4rec.training.online.adaptation import OnlineAdaptation
from llm4rec.training.online.micro_batches import micro_batch

FAST = {"rank": 2, "events_per_step": 16}


@pytest.fixture(scope="module")
def outcome(shop, tiny_recipe, tmp_path_factory):
    output = tmp_path_factory.mktemp("online")
    methods = methods_named(["frozen", "finetune", "online"], ["online.rank=2", "events_per_step=16", "replay=2"])
    result = online_experiment(
        shop, tiny_recipe("training.epochs=1"), output, methods, share=0.2, blocks=2, say=lambda line: None
    )
    return output, result


def test_every_method_is_judged_by_the_same_events_and_leaves_tables_and_plots(outcome):
    output, result = outcome
    assert [row["method"] for row in result["rows"]] == ["frozen", "finetune", "online"]
    assert {path.name for path in output.iterdir()} >= {f"online.{kind}" for kind in ("csv", "json", "png", "svg")}
    asked = {json.loads((output / "methods" / f"{row['method']}.json").read_text())["asked"] for row in result["rows"]}
    assert len(asked) == 1


def test_the_frozen_model_forgets_nothing_and_its_accuracy_on_a_block_never_changes(outcome):
    frozen = outcome[1]["rows"][0]
    assert (frozen["forgetting"], frozen["backward_transfer"]) == (0, 0)
    table = outcome[1]["accuracy"]["frozen"]
    assert table[0][0] == table[1][0] == table[2][0]


def test_the_base_has_seen_nothing_of_the_stream(shop):
    stream = event_stream(shop.interactions, 0.4, "time")
    first = shop.interactions.timestamps[stream.events].min()
    assert (stream.base.timestamps <= first).all()


def test_an_event_is_asked_for_before_it_is_learned(outcome, shop):
    """A spy learner: no event is among those learned when it is asked for."""
    model, processor = load_recommender(outcome[0] / "base-time-0.2")
    stream = event_stream(shop.interactions, 0.4, "time")
    learner = OnlineAdaptation(model, processor, methods_named(["frozen"], ["rank=2", "events_per_step=8"])["frozen"])
    learned, asked = [], []
    cases = stream.cases

    def step(histories, wanted, weights=None):
        learned.append(int(wanted.sum()))

    def spy(chosen):
        asked.append((len(learned), chosen))
        return cases(chosen)

    learner.step, stream.cases = step, spy
    prequential(stream, learner, blocks=2)
    chunks = [chunk for steps, chunk in asked if len(chunk) <= 8 and len(chunk) and not stream.held_out[chunk].any()]
    assert all((np.diff(chunk) > 0).all() for chunk in chunks)
    assert sum(learned) == int((~stream.held_out).sum())


def test_held_out_events_are_context_and_never_targets(outcome, shop):
    processor = load_recommender(outcome[0] / "base-time-0.2")[1]
    stream = event_stream(shop.interactions, 0.4, "time", held_out=0.5, seed=3)
    chunk = np.arange(12)
    histories, learned = new_events(stream, chunk)
    assert int(learned.sum()) == int((~stream.held_out[chunk]).sum())
    batch = micro_batch(histories, learned, processor)
    targets = sorted((batch["labels"][batch["labels"] >= 0] - processor.text_vocab_size).tolist())
    assert targets == sorted(stream.items[chunk][~stream.held_out[chunk]].tolist())
    assert set(stream.items[chunk]) <= set((batch["input_ids"] - processor.text_vocab_size).flatten().tolist())


@pytest.fixture
def run_again(outcome, shop, tiny_recipe):
    """What a run of the frozen model into the same folder says."""

    def run(**options):
        said = []
        methods = methods_named(["frozen"], ["events_per_step=16"])
        recipe = tiny_recipe("training.epochs=1")
        online_experiment(shop, recipe, outcome[0], methods, share=0.2, blocks=2, say=said.append, **options)
        return said

    return run


def test_an_interrupted_run_goes_on_with_the_base_it_has(run_again):
    assert "trained earlier" in run_again()[0]


def test_another_stream_never_gets_a_base_that_has_learned_its_events(run_again):
    assert not any("trained earlier" in line for line in run_again(before=0.4))


def test_settings_are_changed_for_one_method_or_all():
    methods = methods_named([], ["online.ewc=3", "learning_rate=1e-4"])
    assert methods["online"].ewc == 3
    assert methods["ewc"].ewc == METHODS["ewc"].ewc
    assert {settings.learning_rate for settings in methods.values()} == {1e-4}


@pytest.mark.parametrize("override", ["nothing=1", "ewc", "onlin.ewc=1", "ewc=much"])
def test_a_misspelt_setting_is_refused(override):
    with pytest.raises(ValueError, match=r"ewc|nothing"):
        methods_named([], [override])


def test_retraining_learns_what_has_come_and_never_what_is_asked_for_later(shop):
    stream = event_stream(shop.interactions, 0.4, "time", held_out=0.3)
    end = len(stream) // 2
    known = known_events(stream, end)
    pairs = {
        (user, item) for user in range(known.num_users) for item in known.items[slice(*known.offsets[user : user + 2])]
    }
    came, later = np.arange(end), np.arange(end, len(stream))
    learned = came[~stream.held_out[came]]
    hidden = np.concatenate([came[stream.held_out[came]], later])
    assert len(known.items) == len(stream.base.items) - len(stream.base_split().test) + len(learned)
    assert {(stream.users[n], stream.items[n]) for n in learned} <= pairs
    tests = stream.base_split().test
    asked = {(stream.users[n], stream.items[n]) for n in hidden} | set(zip(tests.users, tests.targets, strict=True))
    everything = list(zip(np.repeat(range(known.num_users), stream.whole.lengths), stream.whole.items, strict=True))
    once = {pair for pair in asked if everything.count(pair) == 1}  # a user may have had the item before
    assert once
    assert not once & pairs


def test_retraining_trains_a_model_for_every_block_and_changes_between_blocks_alone(shop, tiny_recipe, tmp_path):
    result = online_experiment(
        shop,
        tiny_recipe("training.epochs=1"),
        tmp_path,
        methods_named(["retrain"], ["events_per_step=16"]),
        share=0.2,
        blocks=2,
        say=lambda line: None,
    )
    assert {path.name for path in (tmp_path / "retrain-base-time-0.2").iterdir()} == {"block-1", "block-2"}
    accuracy = result["accuracy"]["retrain"]
    assert accuracy[0][0] != accuracy[1][0]
    assert "retrain" not in methods_named([])
