"""In the world of decisive attributes one value per user decides, the truth is kept, and nothing else tells it."""

import hashlib
import os
import re
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from llm4rec.training.data.prepared import PreparedData
from llm4rec.training.debiasing.propensity_features import user_features
from llm4rec.training.simulation.decisive_attributes import (
    ATTRIBUTES,
    DECISIVE_COLUMNS,
    DecisiveAttributeConfig,
    DecisiveAttributeWorld,
)
from llm4rec.training.simulation.item_texts import CATEGORIES

SMALL = {"users": 150, "items": 120, "attributes": ("style", "use"), "min_events": 4, "max_events": 10}

WRITE = """
import sys
from llm4rec.training.simulation.decisive_attributes import DecisiveAttributeConfig, DecisiveAttributeWorld
DecisiveAttributeWorld(DecisiveAttributeConfig(users=200, seed=3)).prepared(sys.argv[1])
"""


@pytest.fixture(scope="module")
def world():
    return DecisiveAttributeWorld()


def small_world(**changes):
    return DecisiveAttributeWorld(DecisiveAttributeConfig(**{**SMALL, **changes}))


def users_of(log):
    """(events,) whose event it is."""
    return np.repeat(np.arange(log.num_users), log.lengths)


def number_of(log):
    """(events,) 0-based number of each event in its user's history."""
    return np.arange(len(log.items)) - log.offsets[users_of(log)]


def carriers(world, name):
    """(values, items) bool, read from the catalog."""
    held = world.items[name].to_list()
    return np.array([[value in values for values in held] for value in ATTRIBUTES[name].values])


def assert_within_sampling_error(observed, expected, variance, deviations=4.5):
    """Sums of independent draws lie this many standard deviations around their mean, all of them."""
    np.testing.assert_array_less(np.abs(observed - expected), deviations * np.sqrt(variance) + 1e-9)


def fingerprint(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path):
    DecisiveAttributeWorld(DecisiveAttributeConfig(users=200, seed=3)).prepared(tmp_path / "here")
    command = [sys.executable, "-c", WRITE, str(tmp_path / "there")]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "7"})
    assert fingerprint(tmp_path / "here") == fingerprint(tmp_path / "there")


def test_another_seed_gives_another_world():
    one, other = small_world(seed=0), small_world(seed=1)
    assert one.items["title"].to_list() != other.items["title"].to_list()
    assert one.users["decisive_value"].to_list() != other.users["decisive_value"].to_list()
    assert one.interactions.items[:100].tolist() != other.interactions.items[:100].tolist()


def test_the_default_world_has_the_size_it_promises(world):
    log = world.interactions
    assert log.num_users == len(world.users) == 2_000
    assert log.num_items == len(world.items) == 600
    assert set(log.lengths) == set(range(8, 21))
    assert 27_000 < len(log.items) < 29_000
    assert world.items.null_count().sum_horizontal().item() == 0


def test_events_stand_in_the_order_of_their_times(world):
    log = world.interactions
    assert (np.diff(log.timestamps)[np.diff(users_of(log)) == 0] >= 0).all()
    assert np.ptp(log.timestamps) < world.config.days * 86_400


def test_an_item_holds_as_many_distinct_values_as_its_column_allows(world):
    for name, attribute in ATTRIBUTES.items():
        held = world.items[name].to_list()
        sizes = np.array([len(set(values)) for values in held])
        assert sizes.tolist() == [len(values) for values in held]
        counts = np.bincount(sizes, minlength=attribute.most + 1)
        assert counts[0] == 0
        assert len(counts) == attribute.most + 1
        assert_within_sampling_error(counts[1:], 600 / attribute.most, 600 / attribute.most)


def test_no_user_can_exhaust_a_value(world):
    for name in ATTRIBUTES:
        assert carriers(world, name).sum(axis=1).min() > world.config.max_events
    assert carriers(world, "category").sum(axis=1).tolist() == [30] * 20
    assert carriers(world, "style").sum(axis=1).tolist() == [75] * 8


def test_columns_are_independent_of_each_other(world):
    for one, other in combinations(ATTRIBUTES, 2):
        first, second = carriers(world, one), carriers(world, other)
        together = first.astype(int) @ second.T
        expected = np.outer(first.sum(axis=1), second.sum(axis=1)) / 600
        assert_within_sampling_error(together, expected, expected)


def test_a_title_names_no_value_of_an_attribute(world):
    nouns = [kind.noun for kind in CATEGORIES.values()]
    words = [*nouns, *(value for attribute in ATTRIBUTES.values() for value in attribute.values)]
    named = re.compile(rf"\b({'|'.join(map(re.escape, words))})\b", re.IGNORECASE)
    assert [title for title in world.items["title"] if named.search(title)] == []
    assert world.items["title"].n_unique() > 520


def test_every_value_decides_for_as_many_users_as_the_others_of_its_column(world):
    users = world.users.group_by(DECISIVE_COLUMNS).len()
    columns = dict(world.users.group_by("decisive_attribute").len().iter_rows())
    for name, attribute in ATTRIBUTES.items():
        assert_within_sampling_error(columns[name], 500, 2_000 * 0.25 * 0.75)
        counts = users.filter(decisive_attribute=name)
        assert set(counts["decisive_value"]) == set(attribute.values)
        expected = 500 / len(attribute.values)
        assert_within_sampling_error(counts["len"].to_numpy(), expected, expected)


def test_an_item_has_the_decisive_value_where_the_catalog_says_so(world):
    of_column = {name: carriers(world, name) for name in ATTRIBUTES}
    for user in (0, 7, 1_999):
        name, value = world.users.select(DECISIVE_COLUMNS).row(user)
        expected = of_column[name][ATTRIBUTES[name].values.index(value)]
        assert world.has_decisive_value[user].tolist() == expected.tolist()


def test_probabilities_are_those_of_the_formula(world):
    user = 5
    has = world.has_decisive_value[user]
    first, second = world.interactions.history(user)[:2]
    start = world.probabilities(user, 0)
    np.testing.assert_allclose(start[has], 0.95 / has.sum() + 0.05 / 600)
    np.testing.assert_allclose(start[~has], 0.05 / 600)
    later = world.probabilities(user, 2)
    left = has.copy()
    left[[first, second]] = False
    assert later[first] == later[second] == 0
    np.testing.assert_allclose(later[left], 0.95 / left.sum() + 0.05 / 598)


def test_probabilities_sum_to_one_at_every_moment(world):
    rows = np.arange(50)
    for events in (0, 3, None):
        assert world.probabilities(rows, events).sum(axis=1) == pytest.approx(np.ones(50))
    assert world.probabilities(3).tolist() == world.probabilities(np.array([1, 3]))[1].tolist()


def test_probabilities_beyond_the_end_of_a_history_are_an_error(world):
    length = world.interactions.lengths[4]
    with pytest.raises(IndexError, match=rf"User 4 has {length} interactions.*expected 0 to {length}"):
        world.probabilities(4, length + 1)


def test_items_are_chosen_as_often_as_their_probabilities_say():
    world = small_world(users=1_000)
    log = world.interactions
    law = world.probabilities(users_of(log), number_of(log))
    happened = np.bincount(log.items, minlength=log.num_items)
    assert_within_sampling_error(happened, law.sum(axis=0), (law * (1 - law)).sum(axis=0))


@pytest.mark.parametrize("faithfulness", [0.0, 0.6, 0.95, 1.0])
def test_the_decisive_value_is_chosen_as_often_as_faithfulness_and_chance_say(faithfulness):
    world = small_world(users=600, faithfulness=faithfulness)
    log, users = world.interactions, users_of(world.interactions)
    chosen = world.has_decisive_value[users, log.items]
    # Counted from the log: what each user had taken with the value, and at all, before each event.
    before = np.concatenate([np.cumsum(own) - own for own in np.split(chosen, log.offsets[1:-1])])
    by_chance = (world.has_decisive_value.sum(axis=1)[users] - before) / (120 - number_of(log))
    chance = faithfulness + (1 - faithfulness) * by_chance
    assert_within_sampling_error(chosen.sum(), chance.sum(), (chance * (1 - chance)).sum())


def test_nobody_takes_an_item_twice(world):
    log = world.interactions
    assert len(np.unique(users_of(log).astype(np.int64) * log.num_items + log.items)) == len(log.items)


def test_the_last_event_always_has_the_value_only_where_that_is_asked_for():
    loose, strict = small_world(faithfulness=0.5), small_world(faithfulness=0.5, decisive_last=True)
    users, last = np.arange(150), loose.interactions.offsets[1:] - 1
    assert strict.has_decisive_value[users, strict.interactions.items[last]].all()
    assert loose.has_decisive_value[users, loose.interactions.items[last]].mean() < 0.75
    earlier = np.setdiff1d(np.arange(len(loose.interactions.items)), last)
    assert strict.interactions.items[earlier].tolist() == loose.interactions.items[earlier].tolist()
    assert (strict.probabilities(0, strict.interactions.lengths[0] - 1) > 0).sum() < 40


def test_a_history_tells_the_decisive_value(world):
    """By Bayes' rule on all but the last two events, which is what an explanation sees."""
    pairs = [(name, value) for name in ATTRIBUTES for value in ATTRIBUTES[name].values]
    has = np.concatenate([carriers(world, name) for name in ATTRIBUTES])
    log_law = np.log(0.95 * has / has.sum(axis=1, keepdims=True) + 0.05 / 600)
    truth = world.users.select(DECISIVE_COLUMNS).rows()
    guessed = [pairs[log_law[:, world.interactions.history(u)[:-2]].sum(axis=1).argmax()] for u in range(2_000)]
    assert np.mean([guess == true for guess, true in zip(guessed, truth, strict=True)]) > 0.995


def test_the_truth_is_read_back_from_the_prepared_folder(tmp_path):
    world = small_world(faithfulness=1.0)
    world.prepared(tmp_path / "shop")
    data = PreparedData.load(tmp_path / "shop")
    assert data.users.columns == ["user_id", *DECISIVE_COLUMNS]
    assert data.interactions.items.tolist() == world.interactions.items.tolist()
    assert data.interactions.offsets.tolist() == world.interactions.offsets.tolist()
    assert data.interactions.timestamps.tolist() == world.interactions.timestamps.tolist()
    for user, (name, value) in enumerate(data.users.select(DECISIVE_COLUMNS).iter_rows()):
        assert all(value in values for values in data.items[name].gather(data.interactions.history(user)))


def test_the_truth_has_no_role_that_a_model_could_read(tmp_path):
    data = small_world().prepared(tmp_path / "shop")
    assert data.schema.users.attributes == data.schema.users.sensitive == []
    assert user_features(data) is None
    assert not set(DECISIVE_COLUMNS) & set(data.items.columns)


def test_the_catalog_is_declared_as_the_model_reads_it(tmp_path):
    data = small_world().prepared(tmp_path / "shop")
    assert data.items.columns == ["item_id", "title", "style", "use", "price"]
    kinds = {name: modality.kind for name, modality in data.schema.items.modalities.items()}
    assert kinds == {"title": "text", "style": "categorical", "use": "categorical", "price": "numerical"}
    with pytest.raises(FileExistsError):
        small_world().prepared(tmp_path / "shop")
    small_world().prepared(tmp_path / "shop", overwrite=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": 400}, r"400 items share 20 values of 'category', 20 items a value.*may take 20.*items >= 420"),
        ({"items": 120, "attributes": ("style", "use")}, r"values of 'use', 12 items a value.*max_events < 12"),
        ({"attributes": ("style", "brand")}, r"attributes is \('style', 'brand'\), expected some of category"),
        ({"attributes": ()}, "attributes is"),
        ({"attributes": ("use", "use")}, "once each"),
        ({"faithfulness": 1.2}, "faithfulness is 1.2, expected a number between 0 and 1"),
        ({"min_events": 2}, "min_events is 2, expected a number between 3 and 20"),
        ({"min_events": 25}, "min_events is 25"),
        ({"max_events": 2, "min_events": 2}, "is 2, expected a number between 3"),
        ({"users": 0}, "users is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_what_cannot_be_made_is_refused_with_what_to_change(changes, message):
    with pytest.raises(ValueError, match=message):
        DecisiveAttributeConfig(**changes)
