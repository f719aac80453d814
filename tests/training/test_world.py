"""The simulated world keeps the promises of its formulas: propensities, relevance, texts, and the same seed."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from llm4rec.training.baselines.item_knn import ItemKNN
from llm4rec.training.baselines.popularity import Popularity
from llm4rec.training.data.prepared import PreparedData
from llm4rec.training.data.splits import leave_one_out
from llm4rec.training.evaluation.ranking_evaluator import RankingEvaluator
from llm4rec.training.simulation.item_texts import CATEGORIES
from llm4rec.training.simulation.world import World, WorldConfig

SMALL = {"users": 300, "items": 80, "sessions": 15.0}

FINGERPRINT = """
import hashlib, sys
from llm4rec.training.simulation.world import World, WorldConfig
world = World(WorldConfig(users=200, items=50, sessions=8.0, seed=int(sys.argv[1])))
world.prepared(sys.argv[2])
print(hashlib.sha256(world.exposures.relevance.tobytes() + world.random_exposure(100).taken.tobytes()).hexdigest())
"""


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def fixed_world():
    """One relevance per user and item, all items there from the start, and what is shown more is better liked."""
    return World(
        WorldConfig(
            users=400,
            items=60,
            taste_drift=0,
            complement_strength=0,
            buys_again=True,
            new_items=0,
            base_logit=-4,
            popularity_from_quality=0.9,
            quality_strength=1.0,
            seed=5,
        )
    )


def assert_within_sampling_error(observed, expected, variance, deviations=4.5):
    """Sums of independent draws lie this many standard deviations around their mean, all of them."""
    np.testing.assert_array_less(np.abs(observed - expected), deviations * np.sqrt(variance) + 1e-9)


def fingerprint_in_new_process(folder, seed, hash_seed):
    command = [sys.executable, "-c", FINGERPRINT, str(seed), str(folder)]
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    truth = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    return truth, files


def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path):
    first = fingerprint_in_new_process(tmp_path / "first", seed=3, hash_seed=1)
    assert fingerprint_in_new_process(tmp_path / "second", seed=3, hash_seed=2) == first


def test_another_seed_gives_another_world():
    one, other = World(WorldConfig(**SMALL, seed=0)), World(WorldConfig(**SMALL, seed=1))
    assert one.items["title"].to_list() != other.items["title"].to_list()
    assert one.interactions.items[:100].tolist() != other.interactions.items[:100].tolist()


def test_the_default_world_has_the_size_it_promises(world):
    assert world.interactions.num_users == 2_000
    assert world.interactions.num_items == 600
    assert 36_000 < len(world.interactions.items) < 44_000


def test_nothing_is_missing_or_out_of_range(world):
    for table in (world.items, world.users):
        assert table.null_count().sum_horizontal().item() == 0
    assert world.items["price"].min() > 0
    assert world.items["title"].n_unique() > 590
    log = world.interactions
    assert set(np.unique(log.ratings)) == {1, 2, 3, 4, 5}
    same_user = np.repeat(np.arange(log.num_users), log.lengths)
    assert (np.diff(log.timestamps)[np.diff(same_user) == 0] >= 0).all()
    assert ((world.exposures.relevance >= 0) & (world.exposures.relevance < 1)).all()
    assert np.isnan(world.exposures.ratings).tolist() == (~world.exposures.taken).tolist()


def test_an_items_text_names_its_attributes(world):
    for item in world.items.iter_rows(named=True):
        noun = CATEGORIES[item["category"]].noun
        for word in (item["brand"], item["style"], item["material"], noun):
            assert word in item["title"]
            assert word in item["description"]
        assert f"made for {item['use']}" in item["description"]
        assert all(follower in item["description"] for follower in CATEGORIES[item["category"]].followed_by)


def test_every_complement_names_a_category():
    nouns = {kind.noun for kind in CATEGORIES.values()}
    assert {noun for kind in CATEGORIES.values() for noun in kind.followed_by} <= nouns


def test_propensities_sum_to_one_for_every_user(world):
    assert world.propensities.shape == (2_000, 600)
    assert world.propensities.sum(axis=1) == pytest.approx(np.ones(2_000))
    assert world.propensity(7).tolist() == world.propensities[7].tolist()


def test_exposures_happen_as_often_as_their_propensities_say():
    world = World(WorldConfig(**SMALL, new_items=0))
    log = world.exposures
    shown = np.bincount(log.items, minlength=80)
    slots = np.bincount(log.users, minlength=300)
    assert_within_sampling_error(
        shown, slots @ world.propensities, slots @ (world.propensities * (1 - world.propensities))
    )


def test_nothing_is_shown_before_its_release(world):
    released = world.items["released_at"].to_numpy()[world.exposures.items]
    assert (world.exposures.timestamps >= released).all()
    assert (world.items["released_at"] > world.exposures.timestamps.min()).sum() > 30


def test_items_are_taken_as_often_as_their_relevance_says(world):
    log = world.exposures
    edges = np.quantile(log.relevance, np.linspace(0, 1, 21)[1:-1])
    bins = np.searchsorted(edges, log.relevance)
    taken, expected, variance = (
        np.bincount(bins, weights=values) for values in (log.taken, log.relevance, log.relevance * (1 - log.relevance))
    )
    assert_within_sampling_error(taken, expected, variance)


def test_the_next_interaction_is_drawn_from_propensity_times_relevance():
    world = World(WorldConfig(**SMALL))
    log = world.interactions
    users = np.repeat(np.arange(log.num_users), log.lengths)
    law = world.propensity(users) * world.relevance(users, np.arange(len(users)) - log.offsets[users])
    law /= law.sum(axis=1, keepdims=True)
    happened = np.bincount(log.items, minlength=log.num_items)
    assert_within_sampling_error(happened, law.sum(axis=0), (law * (1 - law)).sum(axis=0))


def test_relevance_of_a_moment_is_what_the_log_was_drawn_with(world):
    log = world.interactions
    users = np.repeat(np.arange(log.num_users), log.lengths)[:500]
    relevance = world.relevance(users, np.arange(500) - log.offsets[users])
    logged = world.exposures.relevance[world.exposures.taken][:500]
    assert relevance[np.arange(500), log.items[:500]] == pytest.approx(logged, rel=1e-9)


def test_relevance_of_one_user_is_a_row_of_relevance_of_many(world):
    assert world.relevance(3).shape == (600,)
    assert world.relevance(3).tolist() == world.relevance(np.array([1, 3]))[1].tolist()


def test_relevance_beyond_the_end_of_a_history_is_an_error(world):
    length = world.interactions.lengths[4]
    with pytest.raises(IndexError, match=rf"User 4 has {length} interactions.*expected 0 to {length}"):
        world.relevance(4, length + 1)


def test_what_was_taken_is_more_relevant_than_what_was_passed_over(world):
    log = world.exposures
    assert log.relevance[log.taken].mean() > 5 * log.relevance[~log.taken].mean()


@pytest.mark.parametrize("gamma", [0.0, 0.4, 0.9])
def test_the_strength_of_popularity_confounding_can_be_read_off_the_log(gamma):
    world = World(WorldConfig(**SMALL, new_items=0, popularity_confounding=gamma, demographic_confounding=0))
    shown = np.bincount(world.exposures.items, minlength=80)
    slope = np.polyfit(np.log(world.items["popularity"].to_numpy()), np.log(shown), 1)[0]
    assert slope == pytest.approx(gamma, abs=0.03)


def test_groups_are_shown_different_items_only_under_demographic_confounding():
    def gap(strength):
        world = World(WorldConfig(**SMALL, demographic_confounding=strength))
        group = (world.users["group"] == "A").to_numpy()
        return np.abs(world.propensities[group][0] - world.propensities[~group][0]).sum()

    assert gap(0.0) == 0
    assert gap(0.5) > 0.2


def test_inverse_propensity_weights_recover_the_truth_where_the_plain_mean_does_not(fixed_world):
    log, world = fixed_world.exposures, fixed_world
    truth = world.relevance(np.arange(400)).mean(axis=1)[log.users].mean()
    weighted = log.taken / (log.propensity * world.config.items)
    error = weighted.std() / np.sqrt(len(log))
    assert abs(weighted.mean() - truth) < 4 * error
    assert abs(log.taken.mean() - truth) > 8 * error


def test_without_drift_complements_and_ownership_relevance_never_changes(fixed_world):
    user = int(np.argmax(fixed_world.interactions.lengths))
    first, last = fixed_world.relevance(user, 0), fixed_world.relevance(user)
    assert first.tolist() == last.tolist()


def test_nobody_takes_an_item_twice_unless_buying_again_is_allowed(world, fixed_world):
    def repeats(log):
        pairs = np.repeat(np.arange(log.num_users), log.lengths) * log.num_items + log.items
        return len(pairs) - len(np.unique(pairs))

    assert repeats(world.interactions) == 0
    assert repeats(fixed_world.interactions) > 0


def test_random_exposure_shows_all_items_alike_and_is_taken_by_relevance(world):
    log = world.random_exposure(60_000)
    shown = np.bincount(log.items, minlength=600)
    assert_within_sampling_error(shown, 100, 100)
    assert_within_sampling_error(log.taken.sum(), log.relevance.sum(), (log.relevance * (1 - log.relevance)).sum())
    assert (log.propensity == 1 / 600).all()
    row = int(np.argmax(log.relevance))
    assert log.relevance[row] == world.relevance(int(log.users[row]))[log.items[row]]


def test_expected_rating_is_the_mean_of_the_ratings_given(world):
    log = world.exposures
    expected = world.expected_rating(log.relevance[log.taken])
    assert ((expected >= 1) & (expected <= 5)).all()
    assert log.ratings[log.taken].mean() == pytest.approx(expected.mean(), abs=0.02)
    assert world.expected_rating(np.array([0.0])).tolist() == [1.0]


def test_the_prepared_folder_holds_the_log_and_no_ground_truth(tmp_path):
    world = World(WorldConfig(**SMALL))
    data = world.prepared(tmp_path / "shop")
    read = PreparedData.load(tmp_path / "shop")
    assert read.interactions.items.tolist() == world.interactions.items.tolist()
    assert read.interactions.offsets.tolist() == world.interactions.offsets.tolist()
    assert read.interactions.ratings.tolist() == world.interactions.ratings.tolist()
    assert read.interactions.timestamps.tolist() == world.interactions.timestamps.tolist()
    assert data.items.columns == ["item_id", "title", "description", "category", "brand", "price"]
    assert data.users.columns == ["user_id", "age_group", "group"]
    kinds = {name: modality.kind for name, modality in read.schema.items.modalities.items()}
    texts, categories = (
        dict.fromkeys(("title", "description"), "text"),
        dict.fromkeys(("category", "brand"), "categorical"),
    )
    assert kinds == {**texts, **categories, "price": "numerical"}
    assert read.schema.users.sensitive == ["group"]
    with pytest.raises(FileExistsError):
        world.prepared(tmp_path / "shop")
    world.prepared(tmp_path / "shop", overwrite=True)


def test_there_is_something_to_learn_beyond_popularity(world):
    split = leave_one_out(world.interactions)
    evaluator = RankingEvaluator(split.test, ks=(10,), batch_size=len(split.test))

    def ndcg(score):
        return evaluator.evaluate(score).metrics["filtered/ndcg@10"]

    popularity = ndcg(Popularity().fit(split.train).score)
    assert ndcg(lambda histories: world.relevance(split.test.users, histories.lengths)) > 4 * popularity
    assert ndcg(ItemKNN().fit(split.train).score) > 1.3 * popularity


@pytest.fixture(scope="module")
def fashions():
    """Six stretches of time in which what is popular changes, no other confounder and no new items."""
    return World(
        WorldConfig(
            **SMALL, new_items=0, demographic_confounding=0, popularity_confounding=0.7,
            popularity_periods=6, popularity_drift=0.8,
        )
    )  # fmt: skip


def test_under_popularity_drift_each_period_shows_items_by_its_own_popularity(fashions):
    log, world = fashions.exposures, fashions
    periods = world.period_of(log.timestamps)
    assert world.popularity.shape == (6, 80)
    assert set(np.unique(periods)) == set(range(6))
    for period in range(6):
        chance = world.popularity[period] ** 0.7 / (world.popularity[period] ** 0.7).sum()
        assert world.propensity(0, world.period_starts[period]) == pytest.approx(chance)
        rows = periods == period
        np.testing.assert_allclose(log.propensity[rows], chance[log.items[rows]])
        shown = np.bincount(log.items[rows], minlength=80)
        assert_within_sampling_error(shown, rows.sum() * chance, rows.sum() * chance * (1 - chance))
    assert world.propensities[0].tolist() == world.propensity(0, world.period_starts[-1]).tolist()
    assert world.items["popularity"].to_list() == world.popularity[-1].tolist()


def test_popularity_ranks_drift_from_period_to_period_as_far_as_asked(fashions):
    def likeness(world):
        """Rank correlation of each period with the next."""
        ranks = np.argsort(np.argsort(world.popularity, axis=1), axis=1)
        return [np.corrcoef(*ranks[period : period + 2])[0, 1] for period in range(5)]

    still = World(WorldConfig(**SMALL, popularity_periods=6, popularity_drift=0.0))
    slow = World(WorldConfig(**SMALL, popularity_periods=6, popularity_drift=0.2))
    assert np.ptp(still.popularity, axis=0).max() == 0
    assert np.mean(likeness(fashions)) < np.mean(likeness(slow)) < 0.999
    assert min(likeness(slow)) > 0.9
    assert all(sorted(row) == sorted(still.popularity[0]) for row in fashions.popularity)


def test_a_period_lasts_from_its_start_to_the_next(fashions):
    starts = fashions.period_starts
    assert np.ptp(np.diff(starts)) <= 1
    moments = np.array([starts[0] - 5, starts[0], starts[1] - 1, starts[1], starts[-1] + 10**9])
    assert fashions.period_of(moments).tolist() == [0, 0, 0, 1, 5]


def test_drift_without_periods_and_periods_without_drift_leave_the_log_as_it_was():
    plain = World(WorldConfig(**SMALL)).exposures
    for changed in ({"popularity_drift": 0.9}, {"popularity_periods": 5}):
        other = World(WorldConfig(**SMALL, **changed)).exposures
        assert other.items.tolist() == plain.items.tolist()
        assert other.timestamps.tolist() == plain.timestamps.tolist()
        assert other.taken.tolist() == plain.taken.tolist()
        np.testing.assert_allclose(other.propensity, plain.propensity)


def test_a_shop_that_logs_propensities_writes_those_of_the_events(fashions, tmp_path):
    written = fashions.prepared(tmp_path / "logged", with_propensities=True)
    read = PreparedData.load(tmp_path / "logged")
    log = fashions.interactions
    users = np.repeat(np.arange(log.num_users), log.lengths)
    expected = fashions.propensity(users, log.timestamps)[np.arange(len(users)), log.items]
    np.testing.assert_allclose(read.interactions.propensities, expected)
    assert read.interactions.propensities.tolist() == written.interactions.propensities.tolist()
    assert read.schema.interactions.propensity == "propensity"
    assert fashions.prepared(tmp_path / "plain").interactions.propensities is None


@pytest.mark.parametrize(("name", "value"), [
    ("taste_drift", 1.5), ("items", 1), ("popularity_confounding", -1.0), ("popularity_drift", 1.1),
    ("popularity_periods", 0),
])  # fmt: skip
def test_a_value_outside_its_range_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"WorldConfig.{name} is {value}, expected a number between"):
        WorldConfig(**{name: value})
