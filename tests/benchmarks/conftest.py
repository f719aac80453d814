"""A tiny shop of the built-in world in a work folder, as the runner keeps it."""

import pytest
from llm4rec.training.simulation.world import World, WorldConfig


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """Folder that holds the prepared data set `world` with 80 users and 60 items."""
    folder = tmp_path_factory.mktemp("work")
    World(WorldConfig(users=80, items=60, sessions=24)).prepared(folder / "world")
    return folder


@pytest.fixture(scope="session")
def shop(work):
    """The same, loaded."""
    from llm4rec.training.data.prepared import PreparedData

    return PreparedData.load(work / "world")
