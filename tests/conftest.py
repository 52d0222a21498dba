import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import lifeline


def pytest_configure() -> None:
    lifeline.hold()
