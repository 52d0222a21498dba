"""Rooms: which part of a package may know which, and that nobody knows each other in a circle."""

import ast
import re
from collections.abc import Iterator
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
# room -> rooms it may import; "" is what lies at the top of the package: it imports every room, no room it.
# A file at the top may be a room as well: the agent's seams are what all of its rooms have in common.
ARROWS: dict[str, dict[str, set[str]]] = {
    "fota_vdev": {
        "parts": set(),
        "atecc608": {"parts"},
        "wires": {"parts"},
        "cortex_m": {"parts"},
        "cells": {"parts", "atecc608", "wires", "cortex_m"},
        "chips/stm32l4": {"parts", "cells"},
        "chips/stm32u5": {"parts", "cortex_m", "cells"},
        "chips/esp32c3": {"parts", "atecc608", "wires"},
        "modem": {"parts"},
    },
    "fota_agent": {
        "seams": set(),
        "engine": {"seams"},
        "transport": {"engine", "seams"},
        "boards": {"engine", "seams"},
        "boards/linux": {"boards", "seams"},
        "runner": {"engine", "transport", "seams"},
    },
}


C_HOMES = ("bootloader", "agent/firmware/port")
C_FOLDERS = sorted(
    {path.parent.relative_to(ROOT).as_posix() for home in C_HOMES for path in (ROOT / home).rglob("*.c")}
)
C_NOISE = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"", re.DOTALL)
DEFINED = re.compile(r"^(?!static\b)[A-Za-z_][\w *]*?\b(\w+)\([^;{}]*\)\s*\{", re.MULTILINE)
INCLUDE = re.compile(r'#\s*include\s*"([^"]+)"')
# what a library calls for a file of ours: its configuration names functions that nobody else mentions
CALLED_BY = {"tls.c": "mbedtls/mbedtls_config_port.h"}


def c_uses(folder: Path) -> dict[str, set[str]]:
    """file -> files beside it whose functions it names, whether a header declares them or an extern.

    What core's headers or the file's own declare, and another file defines, is a seam: who names it does not
    know who is behind it.
    """
    told = {name: folder / header for name, header in CALLED_BY.items() if (folder / header).is_file()}
    files = {
        path.name: [path, *([told[path.name]] if path.name in told else [])] for path in folder.glob("*.c")
    }
    texts = {name: C_NOISE.sub(" ", "".join(p.read_text() for p in paths)) for name, paths in files.items()}
    home = {function: name for name, text in texts.items() for function in DEFINED.findall(text)}
    core = "".join(path.read_text() for path in (ROOT / "bootloader/core").glob("*.h"))
    uses = {}
    for name, text in texts.items():
        own = (folder / name).with_suffix(".h")
        seams = set(re.findall(r"\w+", C_NOISE.sub(" ", core + (own.read_text() if own.is_file() else ""))))
        uses[name] = {home[word] for word in set(re.findall(r"\w+", text)) - seams if word in home} - {name}
    return uses


def module_of(path: Path, home: Path) -> str:
    """`fota_vdev.cells.flash` of a file; a package is its `__init__`."""
    parts = path.relative_to(home).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_of(path, ROOT / home): path
    for package, home in HOMES.items()
    for path in sorted((ROOT / home / package).rglob("*.py"))
}


def known(path: Path, modules: dict[str, Path]) -> set[str]:
    """Modules that a file imports: at its top, in a function, or for the type checker alone.

    What a file imports late it knows all the same: it cannot be read, moved or tested without it.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found = {f"{node.module}.{alias.name}" for alias in node.names} & set(modules)
            names |= found
            if len(found) < len(node.names):
                names.add(node.module)
    return names & set(modules)


def circles(knows: dict[str, set[str]]) -> list[list[str]]:
    """All sets of two or more nodes that reach each other, and nodes that know themselves (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(knows[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            circle = stack[at:]
            del stack[at:]
            if len(circle) > 1 or node in knows[node]:
                found.append(sorted(circle))

    for node in sorted(knows):
        if node not in index:
            visit(node)
    return found


def room_of(module: str, package: str) -> str:
    """The room of `ARROWS` that a module lies in; "" for the top of the package."""
    rest = module.removeprefix(package).strip(".").replace(".", "/")
    rooms = [room for room in ARROWS[package] if rest == room or rest.startswith(f"{room}/")]
    return max(rooms, key=len, default="")


def arrows(package: str) -> Iterator[tuple[str, str]]:
    for module, path in MODULES.items():
        if module.split(".")[0] == package:
            for other in known(path, MODULES):
                if other.split(".")[0] == package:
                    yield module, other


def test_circles_are_found_wherever_the_import_stands(tmp_path: Path) -> None:
    files = {
        "fota_x.a": "import fota_x.b",
        "fota_x.b": "def late():\n    from fota_x import c",
        "fota_x.c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fota_x.a import A",
        "fota_x.d": "from fota_x.a import A",
    }
    paths = {name: tmp_path / name for name in files}
    for name, text in files.items():
        paths[name].write_text(text)
    knows = {name: known(path, paths) for name, path in paths.items()}
    assert circles(knows) == [["fota_x.a", "fota_x.b", "fota_x.c"]]


def test_no_modules_import_each_other() -> None:
    assert circles({name: known(path, MODULES) for name, path in MODULES.items()}) == []


@pytest.mark.parametrize("folder", C_FOLDERS)
def test_no_c_files_of_a_folder_use_each_other(folder: str) -> None:
    uses = c_uses(ROOT / folder)
    assert uses
    assert circles(uses) == []


def test_no_headers_include_each_other() -> None:
    paths = [path for home in C_HOMES for path in (ROOT / home).rglob("*.h")]
    headers = {path.relative_to(ROOT).as_posix(): path for path in paths}
    includes = {}
    for name, path in headers.items():
        lines = INCLUDE.findall(path.read_text())
        includes[name] = {h for h in headers if any(f"/{h}".endswith(f"/{line}") for line in lines)}
    assert circles(includes) == []


def test_circle_of_c_files_is_found_through_what_a_library_is_told_to_call(tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text("void stop(int c) {\n}\nint main(void) {\n  start(); /* never() */\n}\n")
    (tmp_path / "tls.c").write_text('#include "mbedtls/x509.h"\nvoid start(void) {\n}\n')
    assert circles(c_uses(tmp_path)) == []
    (tmp_path / "mbedtls").mkdir()
    (tmp_path / "mbedtls/mbedtls_config_port.h").write_text("#define EXIT stop\n")
    assert circles(c_uses(tmp_path)) == [["main.c", "tls.c"]]


@pytest.mark.parametrize("package", ARROWS)
def test_every_file_below_the_top_lies_in_a_room(package: str) -> None:
    home = ROOT / HOMES[package] / package
    for path in home.rglob("*.py"):
        module = module_of(path, ROOT / HOMES[package])
        hall = path.name == "__init__.py" and not known(path, MODULES)  # `chips/` only holds rooms
        assert room_of(module, package) or path.parent == home or hall, f"{path}: in no room of ARROWS"
    assert all((home / room).is_dir() or (home / f"{room}.py").is_file() for room in ARROWS[package])


@pytest.mark.parametrize("package", ARROWS)
def test_rooms_know_only_what_their_arrows_allow(package: str) -> None:
    wrong = []
    for module, other in arrows(package):
        here, there = room_of(module, package), room_of(other, package)
        if here and here != there and there not in ARROWS[package][here]:
            wrong.append(f"{module} imports {other}: no arrow from {here} to {there or 'the top'}")
    assert wrong == []


@pytest.mark.parametrize("package", ARROWS)
def test_every_arrow_is_used_and_none_leads_back(package: str) -> None:
    assert circles(ARROWS[package]) == []
    used = {(room_of(module, package), room_of(other, package)) for module, other in arrows(package)}
    drawn = {(here, there) for here, rooms in ARROWS[package].items() for there in rooms}
    assert drawn <= used
