"""Every block of commands in a document is typed in by a test, and every command in a text exists."""

import ast
import configparser
import json
import re
import tomllib
from pathlib import Path

import click
import pytest
import yaml

from fota_cli.main import COMMANDS, LazyRoot

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.rglob("*.md")
    if not {".venv", "build", "node_modules"} & set(path.relative_to(ROOT).parts)
)
SHELL = ("sh", "bash", "shell", "console")
COMMAND = re.compile(r"^\s*(\$ |fota |make |pip |python)", re.MULTILINE)  # in a block that names no language
# page: (the test that types its shell blocks in, how many they are)
TYPED = {
    "README.md": ("tests/documents/test_documents_typed.py", 1),
    "docs/agent.md": ("tests/gateway/test_gateway_docs.py", 4),
    "docs/application.md": ("tests/bootloader/test_bootloader_application_page.py", 5),
    "docs/ceremony.md": ("tests/signer/test_signer_ceremony_page.py", 4),
    "docs/ci.md": ("tests/cli/test_cli_ci_page.py", 3),
    "docs/esp32.md": ("tests/signer/test_signer_esp_page.py", 4),
    "docs/from-source.md": ("tests/cli/test_cli_from_source_page.py", 8),
    "docs/hawkbit.md": ("tests/server/test_server_hawkbit_page.py", 4),
    "docs/log.md": ("tests/server/test_server_log_page.py", 2),
    "docs/operations.md": ("tests/server/test_server_operations_page.py", 6),
    "docs/provisioning.md": ("tests/documents/test_documents_typed.py", 1),
    "docs/rehearsal.md": ("tests/cli/test_cli_rehearsal_page.py", 2),
    "docs/release.md": ("tests/cli/test_cli_release_page.py", 6),
    "docs/releases.md": ("tests/signer/test_signer_releases_page.py", 2),
    "docs/signing.md": ("tests/signer/test_signer_signing_page.py", 6),
}
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def fenced(page: str) -> list[tuple[str, str]]:
    """(language, text) of the fenced blocks of a page."""
    return FENCE.findall((ROOT / page).read_text())


def spans(page: str) -> list[str]:
    """What stands between back-ticks in the text of a page."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", (ROOT / page).read_text()))


def test_every_shell_block_is_typed_in_by_a_test() -> None:
    found = {page: sum(language in SHELL for language, _ in fenced(page)) for page in PAGES}
    assert {page: n for page, n in found.items() if n} == {page: n for page, (_, n) in TYPED.items()}


@pytest.mark.parametrize("page", TYPED)
def test_test_that_types_a_page_in_reads_that_page(page: str) -> None:
    test = (ROOT / TYPED[page][0]).read_text()
    assert page in test, f"{TYPED[page][0]} does not name {page}"
    assert "```sh" in test


@pytest.mark.parametrize("page", PAGES)
def test_blocks_of_other_languages_are_at_least_whole(page: str) -> None:
    for language, text in fenced(page):
        if language == "python":
            ast.parse(text)
        elif language == "toml":
            tomllib.loads(text)
        elif language == "ini":  # systemd's units; tests/gateway has systemd read them
            configparser.ConfigParser(interpolation=None).read_string(text)
        elif language == "json":
            json.loads(text)
        elif language == "yaml":
            yaml.safe_load(text)
        elif language == "":
            assert not COMMAND.search(text), f"{page}: a block of commands says that it is one: ```sh"
        else:
            assert language in (*SHELL, "mermaid"), f"{page}: who reads '{language}'?"


def known_options(command: click.Command) -> set[str]:
    """Options of a command, and of those below it."""
    own = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return own.union({"--help"}, *map(known_options, below))


def why_not_fota(words: list[str]) -> str:
    """Why there is no such command line, or nothing; `device rotate|renew` are two of them."""
    root = LazyRoot(name="fota")
    command: click.Command = root
    while isinstance(command, click.Group) and words and re.fullmatch(r"[a-z-]+", words[0].split("|")[0]):
        if words[0].startswith("-"):
            break
        context = click.Context(command)
        first, *others = [command.get_command(context, name) for name in words[0].split("|")]
        if first is None or None in others:
            return f"no command '{words[0]}'"
        command, words = first, words[1:]
    options = {word.split("=")[0] for word in words if word.startswith("--")}
    missing = options - known_options(command) if command is not root else set()
    return f"{command.name}: no option {', '.join(sorted(missing))}" if missing else ""


def why_not_make(page: str, words: list[str]) -> str:
    """Why there is no such target in the Makefile that is meant, or nothing."""
    makefiles = [
        path
        for path in dict.fromkeys(((ROOT / page).parent / "Makefile", ROOT / "Makefile"))
        if path.exists()
    ]
    if words[0] == "-C":
        makefiles, words = [ROOT / words[1] / "Makefile"], words[2:]
    texts = [path.read_text().replace("$(VENV)", ".venv") for path in makefiles]
    for word in words:
        name, is_variable, _ = word.partition("=")
        rule = rf"^(?:[\w. -]* )?{re.escape(word)}(?: [\w. -]*)?:(?!=)|^READY := {re.escape(word)}$"
        pattern = rf"\b{name}\b" if is_variable else rule
        if not any(re.search(pattern, text, re.MULTILINE) for text in texts):
            return f"no '{word}' in {' or '.join(str(path.relative_to(ROOT)) for path in makefiles)}"
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_command_named_in_a_text_exists(page: str) -> None:
    wrong = {}
    for span in spans(page):
        program, *words = re.split(r"[|<>;]\s|\s#", span)[0].split() or [""]
        if program == "fota" and words and words[0] != "COMMAND":
            wrong[span] = why_not_fota(words)
        elif program == "make" and words:
            wrong[span] = why_not_make(page, words)
    assert {span: why for span, why in wrong.items() if why} == {}


def test_reader_of_command_lines_knows_good_from_bad() -> None:
    assert set(COMMANDS) >= {"device", "sign"}
    assert why_not_fota(["device", "rotate|renew", "--group", "x"]) == ""
    assert why_not_fota(["device", "rotat"]) == "no command 'rotat'"
    assert why_not_fota(["sign", "--versoin"]) == "sign: no option --versoin"
    assert why_not_make("README.md", ["demo"]) == ""
    assert why_not_make("README.md", ["-C", "bootloader", "latch"]) == ""
    assert why_not_make("README.md", ["dmeo"]) == "no 'dmeo' in Makefile"


def test_folders_of_the_map_are_there() -> None:
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert len(rows) > 5, "the table of CONTRIBUTING.md has another form"
    for first, told in rows:
        folders = re.findall(r"`([\w/-]+)`", first)
        base = ROOT / folders[0].rstrip("/")
        more = folders[1:] if base.parent != ROOT else []
        beside = re.findall(r"`([a-z]+)`", told) if base == ROOT / "tests" else []
        missing = [name for name in more if not (base.parent / name).is_dir()]
        missing += [name for name in beside if not (base / name).is_dir()]
        assert base.is_dir(), first
        assert not missing, first


def test_every_decision_is_in_the_map() -> None:
    told = set(re.findall(r"\(docs/adr/([^)]+\.md)\)", (ROOT / "CONTRIBUTING.md").read_text()))
    assert told == {path.name for path in (ROOT / "docs/adr").glob("*.md")}
