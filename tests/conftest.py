import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import lifeline
from hypothesis import settings


def pytest_configure() -> None:
    lifeline.hold()
    settings.register_profile("by no clock", deadline=None)
    settings.load_profile("by no clock")
