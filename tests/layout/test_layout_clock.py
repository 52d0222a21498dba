"""No test, demo or benchmark fails by the clock: limits count progress, steps or virtual time.

The one time-out is `lifeline.HANG_S`, a guard against what hangs. A time that is the subject of a test, or
that has to pass, is a constant with its reason below it.
"""

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).resolve().parents[1]
FILES = sorted(TESTS.rglob("*.py"))
CLOCKS = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "time", "time_ns"}
# What takes a time as its only argument, or as one of several
ALONE = {"wait", "settimeout", "join", "communicate", "acquire", "sync"}
AMONG = {"wait_for", "connector", "open_socket"}
NAMES = {"timeout", "timeout_s"}
OPTIONS = {"--timeout", "--duration"}
MAY = {
    "lifeline.py": "the guard itself",
    "checkin_load.py": "measures for so long, and fails by nothing",
}


def times(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield whatever says how long something may take."""
    for node in ast.walk(tree):
        words = getattr(node, "elts", [])
        if isinstance(node, ast.Call):
            words = node.args
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in AMONG or (called in ALONE and len(words) == 1):
                yield from words
            yield from (given.value for given in node.keywords if given.arg in NAMES)
        if isinstance(node, ast.FunctionDef):
            named = node.args.args[len(node.args.args) - len(node.args.defaults) :] + node.args.kwonlyargs
            defaults = [*node.args.defaults, *node.args.kw_defaults]
            yield from (
                value for arg, value in zip(named, defaults, strict=True) if value and arg.arg in NAMES
            )
        for word, after in itertools.pairwise(words):
            if isinstance(word, ast.Constant) and word.value in OPTIONS:
                yield after


def is_number(node: ast.AST) -> bool:
    value = getattr(node, "value", None)
    return type(value) in (int, float) or (isinstance(value, str) and value.replace(".", "", 1).isdecimal())


def without_reason(tree: ast.Module) -> Iterator[int]:
    """Yield the lines of constants that are a time and say not why."""
    used = {node.id for node in times(tree) if isinstance(node, ast.Name)}
    for node, after in itertools.pairwise([*tree.body, ast.Pass()]):
        if isinstance(node, ast.Assign) and is_number(node.value):
            said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if not said and used & {getattr(target, "id", "") for target in node.targets}:
                yield node.lineno


def by_the_clock(scope: ast.AST) -> Iterator[int]:
    """Yield the lines of comparisons that hold only before some time; those that hold after it may stay."""
    told: set[str] = set()

    def is_time(node: ast.AST) -> bool:
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and part.id in told:
                return True
            if isinstance(part, ast.Attribute) and part.attr in CLOCKS:
                return getattr(part.value, "id", "") == "time"
        return False

    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and is_time(node.value):
            told |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    for node in ast.walk(scope):
        if isinstance(node, ast.Compare):
            sides = itertools.pairwise([node.left, *node.comparators])
            for how, (left, right) in zip(node.ops, sides, strict=True):
                early = left if isinstance(how, ast.Lt | ast.LtE) else right
                if isinstance(how, ast.Lt | ast.LtE | ast.Gt | ast.GtE) and is_time(early):
                    yield node.lineno


def faults(source: str) -> set[tuple[int, str]]:
    tree = ast.parse(source)
    scopes = [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))]
    return {
        *((node.lineno, "a number without a name and a reason") for node in times(tree) if is_number(node)),
        *((line, "a time without its reason below it") for line in without_reason(tree)),
        *(
            (line, "holds only on a machine that is fast enough")
            for one in scopes
            for line in by_the_clock(one)
        ),
    }


def test_nothing_fails_by_the_clock() -> None:
    found = {path.name: faults(path.read_text()) for path in FILES if path.name not in MAY}
    assert {name: those for name, those in found.items() if those} == {}


def test_no_property_has_a_deadline() -> None:
    assert settings().deadline is None


@pytest.mark.parametrize(
    "source",
    [
        "process.wait(20)",
        "subprocess.run(['x'], timeout=60)",
        "def until(condition, timeout_s=300): pass",
        "def until(condition, *, timeout=300): pass",
        "fota('--timeout', '90')",
        "fota(*['--duration', 8])",
        "assert time.monotonic() - begun < 5",
        "end = time.monotonic() + 30\nwhile time.monotonic() < end: pass",
        "def test():\n    end = time.time() + 30\n    assert end > time.time()",
        "SOON_S = 3\nsock.settimeout(SOON_S)",
    ],
)
def test_limit_by_the_clock_would_be_seen(source: str) -> None:
    assert len(faults(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "process.wait(HANG_S)",
        "assert 9 < time.monotonic() - begun",
        "assert told in range(now, int(time.time()) + 1)",
        "', '.join(names)",
        "SOON_S = 3\n'''What the server may take is three seconds.'''\nsock.settimeout(SOON_S)",
    ],
)
def test_guard_and_a_time_that_has_to_pass_are_let_be(source: str) -> None:
    assert faults(source) == set()
