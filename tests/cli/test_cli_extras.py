"""The plain install: every command that lacks a library says which, in one line that helps."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fota_cli.extras import EXTRAS, requirements

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WITHOUT = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {("cryptoauthlib", *sum(EXTRAS.values(), ()))!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from fota_cli.entry import main
main()
"""


@pytest.mark.parametrize(
    ("words", "library"),
    [
        ("server run --data x", "uvicorn"),
        ("server token list --data x", "sqlalchemy"),
        ("vdev create x.vdev", "unicorn"),
        ("vdev status x.vdev", "unicorn"),
        ("agent run --vdev x.vdev", "unicorn"),
        ("provision look x.vdev", "unicorn"),
        ("provision look --kit", "cryptoauthlib"),
        ("provision look --i2c 1", "cryptoauthlib"),
        ("keys show awskms:///alias/image/a", "boto3"),
        ("keys show pkcs11:token=a;object=b?module-path=/m&pin-source=p", "pkcs11"),
        ("gateway init gw --image i --image-key k --root r --server https://h --server-ca c "
         "--vendor-domain d --model m --module m --token t --pin-file p --ca-key k --ca-cert c",
         ""),
    ],
)  # fmt: skip
def test_command_without_its_library_says_which_one_and_how_to_get_it(
    tmp_path: Path, words: str, library: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *words.split()], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.returncode in ((5,) if library else (3,)), done.stderr
    if library:
        assert re.search("needs (the Python|Microchip's) library", done.stderr)
        assert library in done.stderr
        assert "pip install " in done.stderr
    assert "fota[" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_library_that_is_missing_is_this_machine_s_fault_wherever_it_is_found_out() -> None:
    """Exit code 5: whoever catches a failed import raises StorageError, or nothing."""
    kinds = {"ImportError", "ModuleNotFoundError"}
    found = 0
    for package in ("agent", "cli", "signer", "update-server", "virtual-device", "wire"):
        for path in sorted((ROOT / package).glob("fota_*/**/*.py")):
            for handler in ast.walk(ast.parse(path.read_text())):
                if not isinstance(handler, ast.ExceptHandler) or not handler.type:
                    continue
                if not kinds & {name.id for name in ast.walk(handler.type) if isinstance(name, ast.Name)}:
                    continue
                for raised in (node.exc for node in ast.walk(handler) if isinstance(node, ast.Raise)):
                    found += 1
                    assert isinstance(raised, ast.Call), path
                    assert ast.unparse(raised.func) == "StorageError", f"{path}:{raised.lineno}"
    assert found >= 2


@pytest.mark.parametrize(
    "words", ["--help", "server --help", "vdev --help", "agent run --help", "gateway --help"]
)
def test_help_needs_no_library(words: str) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT, *words.split()], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("extra", EXTRAS)
def test_table_of_libraries_is_that_of_the_project(extra: str) -> None:
    assert requirements(extra)
    named = {re.split(r"[^A-Za-z0-9_-]", line)[0].lower() for line in PROJECT["optional-dependencies"][extra]}
    brings = importlib.metadata.packages_distributions()
    known = {name.lower().replace("_", "-") for module in EXTRAS[extra] for name in brings[module]}
    assert named <= known


def test_who_imports_us_gets_ranges_and_our_own_development_exact_versions() -> None:
    asked = [
        *PROJECT["dependencies"],
        *(line for extra in EXTRAS for line in PROJECT["optional-dependencies"][extra]),
    ]
    for line in asked:
        assert ">=" in line, line
        assert "<" in line, line
        assert "==" not in line, line
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    names = {name.lower().replace("_", "-") for name in pinned}
    for line in sum(PROJECT["optional-dependencies"].values(), PROJECT["dependencies"]):
        assert re.split(r"[\[<>=]", line)[0].lower() in names, line
    for name, version in pinned.items():
        assert importlib.metadata.version(name) == version, f"{name}: make installs by constraints.txt"


@pytest.mark.slow
def test_wheel_alone_signs_and_says_what_it_lacks(tmp_path: Path) -> None:
    """A real environment: the wheel, and what it asks for; from the caches of pip where they are."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*map(str, words)], cwd=tmp_path, capture_output=True, text=True, env=env)

    assert run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv").returncode == 0
    bin_ = tmp_path / "venv" / "bin"
    pip = [sys.executable, "-m", "pip", "--python", bin_ / "python", "--quiet", "--disable-pip-version-check"]
    done = run(*pip, "install", "-c", ROOT / "constraints.txt", ROOT)
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip("no index of packages here")
    assert done.returncode == 0, done.stderr
    assert run(bin_ / "fota", "keys", "example", "keys").returncode == 0
    for words in (
        ("vdev", "create", "x"),
        ("server", "run", "--data", "x"),
        ("agent", "run", "--vdev", "x"),
    ):
        done = run(bin_ / "fota", *words)
        assert (done.returncode, done.stderr.count("\n")) == (5, 1), done.stderr
        assert "this needs the Python library" in done.stderr
