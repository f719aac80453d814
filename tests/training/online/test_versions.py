import json
import multiprocessing

import pytest
from llm4rec.training.online.versions import BASE, LearnerBusyError, VersionError, VersionStore


@pytest.fixture
def store(tmp_path):
    return VersionStore(tmp_path, keep=3)


def publish(store, text="weights", sequence=1, parent=BASE):
    return store.publish(
        lambda folder: (folder / "weights.txt").write_text(text), sequence, parent, events=1, facts={"loss": 1.0}
    )


def test_the_base_is_current_before_anything_is_published(store):
    version, sequence = store.current()
    assert (version.name, sequence) == (BASE, 0)
    assert store.names() == []
    assert store.stamp() is None


def test_a_published_version_is_current_and_says_how_far_it_has_learned(store):
    published = publish(store, sequence=7)
    version, sequence = store.current()
    assert version == published
    assert sequence == 7
    assert (store.path(version.name) / "weights.txt").read_text() == "weights"


def test_a_writer_that_fails_leaves_the_version_before(store):
    first = publish(store)

    def fail(folder):
        (folder / "half.txt").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        store.publish(fail, 2, first.name, 1, {})
    assert store.current()[0] == first
    assert store.names() == [first.name]
    assert [path.name for path in (store.folder / "versions").iterdir()] == [first.name]


def test_what_a_killed_writer_left_is_swept_by_the_next(store):
    publish(store)
    left = store.folder / "versions" / ".unfinished-000002"
    left.mkdir()
    (left / "half.txt").write_text("half")
    assert publish(store, sequence=2).name == "000002"
    assert not left.exists()


def test_the_stamp_changes_with_every_version(store):
    stamps = {store.stamp()}
    for sequence in range(1, 4):
        publish(store, sequence=sequence)
        stamps.add(store.stamp())
    assert len(stamps) == 4


def test_any_version_can_be_restored_and_learning_goes_on_after_its_events(store):
    first = publish(store, sequence=5)
    publish(store, sequence=9, parent=first.name)
    store.restore(first.name)
    assert (store.current()[0], store.current()[1]) == (first, 5)
    store.restore(BASE, sequence=9)
    assert (store.current()[0].name, store.current()[1]) == (BASE, 9)


def test_versions_are_numbered_on_after_a_restore(store):
    first = publish(store)
    publish(store, sequence=2, parent=first.name)
    store.restore(first.name)
    assert publish(store, sequence=3, parent=first.name).name == "000003"


def test_old_versions_go_but_never_the_current_one_or_its_parent(store):
    names = [publish(store, sequence=number).name for number in range(1, 7)]
    assert store.names() == names[-3:]
    assert store.check(names[-1]).sequence == 6


@pytest.mark.parametrize("name", ["000009", "nonsense", "../../etc"])
def test_an_unknown_version_is_refused_with_those_there_are(store, name):
    publish(store)
    with pytest.raises(VersionError, match="base, 000001"):
        store.restore(name)
    assert store.current()[0].name == "000001"


def test_a_damaged_file_is_named(store):
    version = publish(store)
    (store.path(version.name) / "weights.txt").write_text("weightz")
    with pytest.raises(VersionError, match=r"weights\.txt is missing or damaged"):
        store.restore(version.name)


def test_a_damaged_pointer_says_what_to_do(store):
    publish(store)
    (store.folder / "current.json").write_text("{")
    with pytest.raises(VersionError, match="llm4rec rollback"):
        store.current()
    store.restore("000001")
    assert store.current()[0].name == "000001"


def test_a_version_of_a_newer_format_is_refused(store):
    version = publish(store)
    path = store.path(version.name) / "version.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(VersionError, match="newer version of llm4rec"):
        store.current()


def _hold(folder, holds, free):
    with VersionStore(folder).lock():
        holds.set()
        free.wait(30)


def test_a_second_learner_is_refused_while_the_first_lives(tmp_path):
    context = multiprocessing.get_context("fork")
    holds, free = context.Event(), context.Event()
    first = context.Process(target=_hold, args=(tmp_path, holds, free))
    first.start()
    assert holds.wait(30)
    with pytest.raises(LearnerBusyError, match=rf"id {first.pid}"), VersionStore(tmp_path).lock():
        pass
    first.kill()  # nobody is there to let go of the lock
    first.join(30)
    with VersionStore(tmp_path).lock():
        pass
