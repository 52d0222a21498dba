import gc
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import lifeline
import pytest
from hypothesis import settings


def pytest_configure() -> None:
    lifeline.hold()
    settings.register_profile("by no clock", deadline=None)
    settings.load_profile("by no clock")


def pytest_collection_finish() -> None:
    """Nine thousand tests do not go away before the end: the agent collects garbage at each ROOT, and each
    time that would walk over them.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that names no database has SQLite, whichever one the test before it had."""
    databases = sys.modules.get("databases")
    if databases is not None:
        of_test = getattr(item, "callspec", None)
        databases.kind = (of_test.params if of_test else {}).get("database_kind", databases.SQLITE)
