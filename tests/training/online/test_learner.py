import json
import shutil

import numpy as np
import pytest
import torch
from llm4rec.training.data.prepared import Interactions, PreparedData
from llm4rec.training.load import load_recommender
from llm4rec.training.online.adaptation import OnlineAdaptation
from llm4rec.training.online.feedback_event import FeedbackEvent
from llm4rec.training.online.feedback_log import FeedbackLog
from llm4rec.training.online.learner import CONSUMER, OnlineLearner
from llm4rec.training.online.learning_settings import LearningSettings
from llm4rec.training.online.published import LiveRecommender, load_version
from llm4rec.training.online.versions import LearnerBusyError, VersionStore
from llm4rec.training.train import train

SETTINGS = LearningSettings(rank=2, learning_rate=3e-3, events_per_step=8, replay=4, ewc=1.0, average=5)
ALWAYS = {"forgetting_limit": 10.0, "say": lambda line: None}


@pytest.fixture(scope="module")
def trained(shop, tiny_recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "model"
    recipe = tiny_recipe("retrieval.enabled=true", "retrieval.sources=[transitions]", "training.epochs=2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llm4rec.training.retrieval.fit.LEAST_STEPS", 20)
        train(shop, recipe, folder, progress=False, say=lambda line: None)
    return folder


@pytest.fixture
def model(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "model")


@pytest.fixture
def log(tmp_path):
    with FeedbackLog(tmp_path / "feedback.db") as log:
        yield log


@pytest.fixture
def events(shop):
    """New users who all choose the same two items in turn, which nobody in the log of training did."""
    ids = shop.items["item_id"].to_list()

    def events(count, start=0):
        return [
            FeedbackEvent(f"new-{n % 7}", ids[3 if (n // 7) % 2 else 5], "buy", time=1e9 + n, event_id=f"e{n}")
            for n in range(start, start + count)
        ]

    return events


def learn(model, log, shop, **options):
    with OnlineLearner(model, log, SETTINGS, shop, **{**ALWAYS, **options}) as learner:
        return learner.learn()


def scores(snapshot, history):
    batch = snapshot.processor(histories=[history], return_tensors="pt")
    with torch.no_grad():
        return snapshot.model.score_items(**batch)[0]


def test_what_happens_in_the_feedback_is_recommended_more_and_readers_swap_to_it(model, log, shop, events):
    reader = LiveRecommender(model)
    before = reader.current()
    pipeline = reader.pipeline(k=4)
    assert reader.pipeline(k=4) is pipeline
    log.append(events(56))
    report = learn(model, log, shop)
    assert (report.events, report.learned, report.skipped) == (56, 56, 0)
    after = reader.current()
    assert (before.version, after.version) == ("base", report.version)
    assert reader.pipeline(k=4).model is after.model
    assert len(reader.pipeline(k=4)([shop.items["item_id"][5]])) == 4
    ids = shop.items["item_id"].to_list()
    gained = scores(after, [ids[5]]).log_softmax(0)[3] - scores(before, [ids[5]]).log_softmax(0)[3]
    assert gained > 0.1


def test_a_published_version_recommends_what_the_learner_would(model, log, shop, events):
    log.append(events(40))
    history = [shop.items["item_id"][5]]
    with OnlineLearner(model, log, SETTINGS, shop, **ALWAYS) as learner:
        learner.learn()
        batch = learner.processor(histories=[history], return_tensors="pt")
        with learner.adaptation.as_published() as recommender, torch.no_grad():
            expected = recommender.score_items(**batch)[0]
    torch.testing.assert_close(scores(load_version(model), history), expected, atol=1e-4, rtol=1e-4)


def test_stopped_and_started_again_it_ends_where_it_would_have(trained, tmp_path, shop, events):
    """Weights, averages, Adam's moments and memory go on; each event is learned once."""
    ends = []
    for name, pieces in (("whole", [48]), ("pieces", [16, 32])):
        model, taken = shutil.copytree(trained, tmp_path / name), 0
        settings = LearningSettings(rank=2, learning_rate=3e-3, events_per_step=8, replay=0, ewc=1.0, average=5)
        with FeedbackLog(tmp_path / f"{name}.db") as log:
            for count in pieces:
                log.append(events(count, taken))
                taken += count
                with OnlineLearner(model, log, settings, shop, publish_every=16, **ALWAYS) as learner:
                    learner.adaptation.model.train = lambda mode=True: learner.adaptation.model  # no dropout
                    learner.learn()
                    ends_with = (
                        learner.adaptation.state(),
                        learner.adaptation.recommender.memory.transitions.counts.clone(),
                    )
        ends.append(ends_with)
    (whole, counts), (pieces, same_counts) = ends
    assert counts.equal(same_counts)
    for name, values in whole.items():
        torch.testing.assert_close(values, pieces[name], atol=1e-5, rtol=1e-4, msg=name)


def test_events_that_were_not_published_are_read_again(model, log, shop, events):
    log.append(events(24))
    with OnlineLearner(model, log, SETTINGS, shop, **ALWAYS) as learner:
        learner._absorb(list(log.events(limit=8)))  # and then the process dies
    assert learn(model, log, shop).events == 24
    assert learn(model, log, shop).events == 0


def test_a_position_that_is_behind_the_version_is_mended(model, log, shop, events):
    log.append(events(16))
    report = learn(model, log, shop)
    log.record_position(CONSUMER, 0, rollback=True)  # died between publishing and recording
    assert learn(model, log, shop).events == 0
    assert log.position(CONSUMER).version == report.version


def test_an_update_that_forgets_too_much_is_not_published(model, log, shop, events):
    log.append(events(56))
    said = []
    settings = LearningSettings(rank=2, learning_rate=0.3, events_per_step=8, replay=0, average=0)
    with OnlineLearner(model, log, settings, shop, forgetting_limit=0.0, say=said.append) as learner:
        weights = {name: weight.clone() for name, weight in learner.adaptation.weights.items()}
        learner.anchor.guard_ndcg = 2.0  # nothing is good enough
        report = learner.learn()
        assert report.rejected == len(report.published)
        for name, weight in learner.adaptation.weights.items():
            assert weight.equal(weights[name])
    assert any("Update rejected" in line for line in said)
    assert learn(model, log, shop).events == 0, "refused events are not learned over and over"


def test_weights_do_not_answer_for_what_the_memory_took_in(model, log, shop):
    ids, draws, said = shop.items["item_id"].to_list(), np.random.default_rng(0), []
    users = [f"new-{n % 40}" for n in range(600)]  # who choose anything at all
    log.append([FeedbackEvent(user, str(draws.choice(ids)), "view", time=1e9 + n) for n, user in enumerate(users)])
    with OnlineLearner(model, log, SETTINGS, shop, forgetting_limit=0.0, say=said.append) as learner:
        learner.adaptation.step = lambda *given: 0.0  # the memory alone learns
        report = learner.learn()
        assert learner.version.facts["guard_ndcg"] < learner.anchor.guard_ndcg, "or there is nothing to answer for"
        assert learner.version.facts["memory_at_fault"]
    assert report.rejected == 0
    assert any("not by this update" in line for line in said)


def test_a_loss_that_is_not_finite_changes_nothing_and_is_told(model, log, shop, events):
    log.append(events(16))
    said = []
    with OnlineLearner(model, log, SETTINGS, shop, forgetting_limit=10.0, say=said.append) as learner:
        weights = {name: weight.clone() for name, weight in learner.adaptation.weights.items()}
        learner.adaptation._loss = lambda batch: next(iter(learner.adaptation.weights.values())).sum() * float("nan")
        learner.learn()
        for name, weight in learner.adaptation.weights.items():
            assert weight.equal(weights[name])
    assert any("step was not taken" in line for line in said)


def test_disk_full_while_publishing_leaves_the_last_version(model, log, shop, events, monkeypatch):
    log.append(events(16))
    first = learn(model, log, shop)
    log.append(events(16, 16))

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("llm4rec.training.online.learner.save_file", full)
        with pytest.raises(OSError, match="No space left"):
            learn(model, log, shop)
    assert LiveRecommender(model).current().version == first.version
    assert learn(model, log, shop).events == 16


def test_a_damaged_version_is_passed_over_by_a_reader(model, log, shop, events):
    log.append(events(16))
    reader = LiveRecommender(model)
    report = learn(model, log, shop)
    path = model / "online" / "versions" / report.version / "optimizer.safetensors"
    path.write_bytes(b"0" * 100)
    assert reader.current().version == "base"
    assert "damaged" in reader.problem
    VersionStore(model).restore("base")
    assert (reader.current().version, reader.problem) == ("base", None)


def test_a_refusal_is_learned_after_what_its_user_had_chosen_until_then(model, log, shop, monkeypatch):
    ids = shop.items["item_id"].to_list()
    kinds = ("dislike", "buy", "hide", "buy", "skip")
    log.append([FeedbackEvent("u", ids[n], kind, time=n, event_id=str(n)) for n, kind in enumerate(kinds)])
    seen = []
    step = OnlineAdaptation.step

    def spy(self, histories, learned, weights=None, refusals=None):
        seen.append(refusals)
        return step(self, histories, learned, weights, refusals)

    monkeypatch.setattr(OnlineAdaptation, "step", spy)
    report = learn(model, log, shop)
    assert (report.events, report.learned) == (5, 4), "the first is refused in nobody's place"
    (refusals,) = seen
    catalog = load_recommender(model)[1].catalog
    assert refusals.items.tolist() == [catalog.index(ids[2]), catalog.index(ids[4])]
    assert refusals.strengths.tolist() == [1.0, 0.25]
    chosen = [catalog.index(ids[1]), catalog.index(ids[3])]
    assert [refusals.histories.history(row).tolist() for row in range(2)] == [chosen[:1], chosen]


def test_propensities_weigh_events(model, log, shop, monkeypatch):
    ids = shop.items["item_id"].to_list()
    log.append(
        [
            FeedbackEvent("a", ids[1], "buy", time=1, propensity=0.5),
            FeedbackEvent("b", ids[2], "buy", time=2, propensity=0.1),
        ]
    )
    seen = {}
    step = OnlineAdaptation.step

    def spy(self, histories, learned, weights=None, refusals=None):
        seen["weights"] = weights[learned].tolist()
        return step(self, histories, learned, weights, refusals)

    monkeypatch.setattr(OnlineAdaptation, "step", spy)
    learn(model, log, shop)
    assert seen["weights"] == [2.0, 10.0]


def test_without_the_data_it_learns_and_says_what_is_missing(model, log, shop, events):
    log.append(events(16))
    said = []
    with OnlineLearner(model, log, SETTINGS, say=said.append) as learner:
        assert learner.learn().learned == 16
    assert "no rehearsal" in said[0]


@pytest.mark.parametrize(("asked", "used"), [({}, 1e-4), ({"learning_rate": 5e-4}, 5e-4)])
def test_without_rehearsal_it_learns_slowly_unless_told_otherwise(model, log, asked, used):
    with OnlineLearner(model, log, LearningSettings(**asked), say=lambda line: None) as learner:
        settings = learner.adaptation.settings
    assert (settings.learning_rate, settings.replay, settings.ewc, settings.proximal) == (used, 0, 0, 10)


def test_the_data_is_needed_once(model, log, shop, events):
    log.append(events(8))
    learn(model, log, shop)
    log.append(events(8, 8))
    with OnlineLearner(model, log, **ALWAYS) as learner:
        assert learner.anchor is not None
        assert learner.adaptation.settings == SETTINGS
        assert learner.learn().learned == 8


def test_the_first_settings_hold_even_if_nothing_was_published(model, log, shop, events):
    with OnlineLearner(model, log, SETTINGS, shop, **ALWAYS):
        pass
    log.append(events(8))
    with OnlineLearner(model, log, **ALWAYS) as learner:
        assert learner.adaptation.settings == SETTINGS
        assert learner.learn().learned == 8


def test_another_rank_from_the_base_on_gets_a_fisher_information_of_its_own(model, log, shop, events):
    log.append(events(8))
    learn(model, log, shop)
    VersionStore(model).restore("base", sequence=8)
    log.append(events(8, 8))
    with OnlineLearner(model, log, LearningSettings(rank=3, ewc=1.0), **ALWAYS) as learner:
        assert learner.learn().learned == 8


def test_another_rank_than_the_current_version_is_refused(model, log, shop, events):
    log.append(events(8))
    learn(model, log, shop)
    with pytest.raises(ValueError, match=r"has rank 2.*rollback MODEL base"):
        OnlineLearner(model, log, LearningSettings(rank=3), **ALWAYS)


def test_two_learners_of_one_model_are_refused(model, log, shop):
    with OnlineLearner(model, log, SETTINGS, shop, **ALWAYS), pytest.raises(LearnerBusyError, match="One learner"):
        OnlineLearner(model, log, SETTINGS, shop, **ALWAYS)


def test_elastic_weight_consolidation_holds_what_the_base_needs(model, shop):

    moved = {}
    base = shop.interactions
    for strength in (0.0, 1e6):
        recommender, processor = load_recommender(model)
        settings = LearningSettings(rank=2, learning_rate=3e-3, replay=0, ewc=strength, average=0)
        learner = OnlineAdaptation(recommender, processor, settings, base=base)
        if not strength:
            learner.fisher = OnlineAdaptation(
                load_recommender(model)[0], processor, LearningSettings(rank=2, replay=0, ewc=1.0), base=base
            ).fisher
        histories = base.take(np.flatnonzero(base.lengths > 2)[:8])
        for _ in range(10):
            learner.step(histories, np.ones(len(histories.items), dtype=bool))
        moved[strength] = learner.distance()
    assert moved[1e6] < 0.1 * moved[0.0]


def test_learn_versions_and_rollback_from_the_command_line(run, refused, model, shop, tmp_path):
    ids = shop.items["item_id"].to_list()
    file = tmp_path / "events.jsonl"
    rows = [{"event_id": f"e{n}", "user_id": "u", "item_id": ids[n % 9], "kind": "buy", "time": n} for n in range(20)]
    file.write_text("\n".join(map(json.dumps, rows)))
    learned = run("learn", model, "--feedback", file, "--data", shop.folder, "--publish-every", 10, "--json")
    assert learned.code == 0, learned.err
    assert json.loads(learned.out)["learned"] == 20
    listed = run("versions", model, "--plot", tmp_path / "plots", "--json")
    assert json.loads(listed.out)["current"] == json.loads(learned.out)["version"]
    assert {path.suffix for path in (tmp_path / "plots").iterdir()} == {".json", ".csv", ".png", ".svg"}
    back = run("rollback", model, "base")
    assert "Version base is current" in back.out
    assert LiveRecommender(model).current().version == "base"
    assert "000099" in refused("rollback", model, "000099")


def test_new_items_are_learned_about_and_recommended_by_readers(run, model, shop, tmp_path):
    row = {**shop.items.to_dicts()[0], "item_id": "brand-new", "title": "A new thing"}
    (tmp_path / "items.jsonl").write_text(json.dumps(row))
    ids = shop.items["item_id"].to_list()
    events = [
        {
            "event_id": f"e{n}",
            "user_id": f"u{n // 2}",
            "item_id": ("brand-new", ids[5])[(n + 1) % 2],
            "kind": "buy",
            "time": n,
        }
        for n in range(40)
    ]
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(map(json.dumps, events)))
    assert "20 refused" in run("learn", model, "--feedback", file, "--data", shop.folder).out
    result = run("learn", model, "--feedback", file, "--items", tmp_path / "items.jsonl", "--learning-rate", 1e-3)
    assert (result.code, "1 new items" in result.out) == (0, True), result.err
    snapshot = load_version(model)
    assert "brand-new" in snapshot.processor.catalog
    index = snapshot.processor.catalog.index("brand-new")
    assert scores(snapshot, [ids[5]]).argsort(descending=True).tolist().index(index) < 10
    again = run("learn", model, "--feedback", file, "--json")
    assert json.loads(again.out)["events"] == 0
    run("rollback", model, "base")
    assert "brand-new" not in load_version(model).processor.catalog


def test_recommend_speaks_for_the_current_version_and_an_export_stands_alone(run, model, log, shop, events, tmp_path):
    log.append(events(56))
    learn(model, log, shop)
    history = shop.items["item_id"][5]
    asked = json.loads(run("recommend", model, "--history", history, "--json").out)
    assert run("versions", model, "--export", tmp_path / "alone").code == 0
    assert json.loads(run("recommend", tmp_path / "alone", "--history", history, "--json").out) == asked
    run("rollback", model, "base")
    assert json.loads(run("recommend", model, "--history", history, "--json").out) != asked


def test_feedback_and_versions_are_not_uploaded(model, log, shop, events):
    from llm4rec.training.hub.upload_plan import plan_upload

    (model / "online").mkdir(exist_ok=True)
    (model / "online" / "feedback.db").write_bytes(b"people")
    plan = plan_upload(model)
    assert not any("online" in file.path for file in plan.files)
    assert [left.path for left in plan.left_out if "learned" in left.reason] == ["online/"]


def test_a_feedback_file_with_a_bad_line_says_where(run, model, shop, tmp_path):
    file = tmp_path / "events.jsonl"
    good = {"user_id": "u", "item_id": shop.items["item_id"][0], "kind": "buy", "time": 1}
    file.write_text("\n".join([json.dumps(good), "{", json.dumps(good | {"item_id": "nothing"})]))
    result = run("learn", model, "--feedback", file)
    assert result.code == 0
    assert "2 refused" in result.out
    assert "events.jsonl, line 2" in result.out
    assert "unknown item id 'nothing'" in result.out
    assert PreparedData.load(shop.folder).stats  # the data is as it was


def test_versions_tell_accuracy_by_group_of_users_and_of_new_ones(model, log, shop, events):
    log.append(events(16))
    report = learn(model, log, shop)
    facts = VersionStore(model).read(report.version).facts
    groups = {str(group) for group in shop.users["group"].to_list()}
    assert set(facts["guard_groups"]) == set(facts["base_guard_groups"]) == groups
    assert min(facts["guard_groups"].values()) <= facts["guard_ndcg"] <= max(facts["guard_groups"].values())
    assert set(facts["prequential_groups"]) == {"new users"}
    with OnlineLearner(model, log, SETTINGS, shop, **ALWAYS) as again:
        assert again.anchor.group_ndcg == facts["base_guard_groups"]


def test_the_base_is_rehearsed_by_event_in_parts_that_the_model_reads(model, shop):
    recommender, processor = load_recommender(model)
    longest = processor.max_history + 1
    lengths = np.array([1, 2, 9 * longest, longest - 3])
    base = Interactions(
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        items=np.arange(lengths.sum(), dtype=np.int32) % len(processor.catalog),
        num_items=len(processor.catalog),
    )
    settings = LearningSettings(rank=2, replay=4000, ewc=0.0)
    past = OnlineAdaptation(recommender, processor, settings, base=base)._past()
    drawn = {length: int((past.lengths == length).sum()) for length in (2, longest - 3)}
    long = 4000 - sum(drawn.values())
    assert 1 not in past.lengths, "one event is nothing to predict"
    shares = np.array([drawn[2], long, drawn[longest - 3]]) / 4000
    np.testing.assert_allclose(shares, lengths[1:] / lengths[1:].sum(), atol=0.03)
    ends = np.sort(past.lengths[past.lengths >= longest])
    assert ends[0] == longest
    assert ends[-1] == 9 * longest
    assert len(np.unique(ends)) > 4 * longest, "every part of a long history is rehearsed"


def test_what_users_dislike_is_recommended_less_in_their_place(model, log, shop):
    """Dislikes of the item that would come first; without them, the same choices change nothing of the sort."""
    ids = shop.items["item_id"].to_list()
    history = [ids[5], ids[9]]
    before = load_version(model)
    first = int(scores(before, history).argmax())
    for n in range(20):
        log.append([FeedbackEvent(f"new-{n}", item, "view", time=1e9 + n, event_id=f"{n}-{item}") for item in history])
        log.append([FeedbackEvent(f"new-{n}", ids[first], "dislike", time=1e9 + n + 1, event_id=f"{n}-no")])
    outcomes = {}
    for weight in (0.0, 1.0):
        folder = shutil.copytree(model, model.with_name(f"refusal-{weight}"))
        settings = LearningSettings(
            rank=2, learning_rate=3e-3, events_per_step=6, replay=0, ewc=0, average=0, refusal_weight=weight
        )
        with OnlineLearner(folder, log, settings, shop, **ALWAYS) as learner:
            report = learner.learn()
        assert (report.learned, report.skipped) == ((60, 0) if weight else (40, 20))
        outcomes[weight] = float(scores(load_version(folder), history).log_softmax(0)[first])
    assert outcomes[1.0] < outcomes[0.0] - 0.1


def test_a_refusal_that_nothing_can_be_learned_from_is_skipped(model, log, shop):
    ids = shop.items["item_id"].to_list()
    log.append([FeedbackEvent("nobody", ids[3], "dislike", time=1e9, event_id="without-history")])
    report = learn(model, log, shop)
    assert (report.events, report.learned, report.skipped) == (1, 0, 1)


def test_a_step_of_few_events_moves_the_less_for_them(model, shop):
    events = shop.interactions
    histories = events.take(np.flatnonzero(events.lengths > 1)[:4])
    learned = np.zeros(len(histories.items), dtype=bool)
    learned[histories.offsets[1:] - 1] = True
    moved = {}
    for events_per_step in (2, 4, 8, 16):
        recommender, processor = load_recommender(model)
        settings = LearningSettings(
            rank=2, replay=0, ewc=0, average=0, events_per_step=events_per_step, max_grad_norm=1e9
        )
        adaptation = OnlineAdaptation(recommender, processor, settings)
        adaptation.model.train = lambda mode=True, kept=adaptation.model: kept  # no dropout
        adaptation.optimizer = torch.optim.SGD(adaptation.weights.values(), lr=0.1)
        adaptation.step(histories, learned)
        moved[events_per_step] = (
            sum(
                float((weight.detach() - adaptation.anchor[name]).norm() ** 2)
                for name, weight in adaptation.weights.items()
            )
            ** 0.5
        )
    assert moved[4] == pytest.approx(moved[2], rel=1e-4), "a full step counts its events as they are"
    assert [moved[4] / moved[8], moved[4] / moved[16]] == pytest.approx([2, 4], rel=1e-3)


def test_what_is_published_leaves_the_trained_weights_slowly(model, shop):
    recommender, processor = load_recommender(model)
    settings = LearningSettings(rank=2, learning_rate=0.1, replay=0, ewc=0, average=10, events_per_step=2)
    adaptation = OnlineAdaptation(recommender, processor, settings)
    histories = shop.interactions.take(np.flatnonzero(shop.interactions.lengths > 1)[:4])

    def moved():
        return max(float((w.detach() - adaptation.anchor[name]).abs().max()) for name, w in adaptation.weights.items())

    adaptation.step(histories, np.ones(len(histories.items), dtype=bool))
    assert moved() == pytest.approx(0.1, rel=1e-3), "Adam's first step goes as far as the learning rate"
    with adaptation.as_published():
        assert moved() == pytest.approx(0.1 / 10, rel=1e-3)


def test_what_is_asked_before_learning_is_spread_over_the_users_of_a_step(model, log, shop, events):
    log.append(events(56))
    settings = LearningSettings(rank=2, events_per_step=56, replay=0, ewc=0)
    with OnlineLearner(model, log, settings, shop, **ALWAYS) as learner:
        asked = learner._absorb(list(log.events()))[2]
    assert len({user for user, _ in asked}) == 7
