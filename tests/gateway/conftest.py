import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from gateway_world import World
from hsm import of_process


@pytest.fixture(scope="session")
def hsm():
    return of_process()


@pytest.fixture(scope="session")
def world(tmp_path_factory, hsm):
    made = World(tmp_path_factory.mktemp("gateway"), hsm)
    yield made
    made.close()


@pytest.fixture(scope="session")
def first(world):
    """1.0.0, published."""
    return world.publish("1.0.0")[0]
