"""The service and the door of docs/: what systemd and nftables say of them, and what the server needs."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import server_world
from lifeline import HANG_S
from server_world import Built, Device, Keys, Server

DOCS = Path(__file__).parents[2] / "docs"
UNIT = DOCS / "fota-server.service"
SIGNER = DOCS / "fota-signer.service"
DOOR = DOCS / "fota-server.nft"
MOST_EXPOSED = 2.0
ROOTS_ONLY = {"fchown"} if os.geteuid() == 0 else set()
"""SQLite gives its WAL to the owner of the database where it runs as root, as the unit's server does not."""
BARE = "[Service]\nExecStart=/usr/bin/true\n"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG_S)


@pytest.fixture
def systemd() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze: install Debian's package systemd")


@pytest.fixture
def strace(tmp_path: Path) -> tuple[list[str], Path]:
    """What goes before a command so that its system calls are written down, and where."""
    if shutil.which("strace") is None:
        pytest.skip("no strace: install Debian's package strace")
    if run("strace", "-f", "-o", tmp_path / "probe", "true").returncode != 0:
        pytest.skip("strace may not trace here")
    return ["strace", "-f", "-qq", "-o", str(tmp_path / "calls")], tmp_path / "calls"


def exposure(unit: Path, text: str) -> float:
    """What systemd makes of a unit: 0 (nothing it could do) to 10."""
    unit.write_text(text)
    done = run("systemd-analyze", "security", "--offline=yes", "--no-pager", unit)
    score = re.search(rf"Overall exposure level for {re.escape(unit.name)}: (\d+\.\d+)", done.stdout)
    assert score, done.stdout + done.stderr
    return float(score[1])


def settings(name: str, unit: Path = UNIT) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)


def members(name: str) -> set[str]:
    """The system calls of one of systemd's groups, those of groups in it, too."""
    done = run("systemd-analyze", "syscall-filter", "--no-pager", name)
    assert done.returncode == 0, done.stderr
    words = [line.strip() for line in done.stdout.splitlines()[1:]]
    calls = {word for word in words if word and not word.startswith(("#", "@"))}
    return calls.union(*(members(word) for word in words if word.startswith("@")))


def allowed_calls() -> set[str]:
    allow, deny = settings("SystemCallFilter")
    assert not allow.startswith("~")
    assert deny.startswith("~")
    calls = set().union(*(members(name) for name in allow.split()))
    return calls.difference(*(members(name) for name in deny[1:].split()))


@pytest.mark.usefixtures("systemd")
@pytest.mark.parametrize("unit", [UNIT, SIGNER], ids=lambda unit: unit.stem)
def test_unit_is_what_systemd_takes_and_finds_little_exposed(tmp_path: Path, unit: Path) -> None:
    copy = tmp_path / unit.name
    assert exposure(copy, BARE) > 9
    assert exposure(copy, unit.read_text()) < MOST_EXPOSED
    here = str(shutil.which("true"))
    copy.write_text(unit.read_text().replace("/opt/fota/bin/fota", here))
    verified = run("systemd-analyze", "verify", copy)
    assert unit.name not in verified.stderr, verified.stderr


def test_both_units_deny_the_same_calls_and_the_signer_any_network() -> None:
    assert settings("SystemCallFilter", SIGNER) == settings("SystemCallFilter")
    assert settings("RestrictAddressFamilies", SIGNER) == ["AF_UNIX"]
    assert settings("PrivateNetwork", SIGNER) == ["yes"]


@pytest.mark.usefixtures("systemd")
def test_server_needs_nothing_that_its_unit_denies(
    keys: Keys,
    releases: dict[str, Built],
    tmp_path: Path,
    strace: tuple[list[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A life of it (first start, upload, check-in, reload, end), system call by system call."""
    server = Server(keys, tmp_path / "data").init()
    prefix, traced = strace
    monkeypatch.setattr(server_world, "FOTA", [*prefix, *server_world.FOTA])
    server.start(env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    assert server.publish(releases["1.1.0"])[0] == 201
    assert Device(server).check_in()
    own = int((server.data / "lock").read_text())
    os.kill(own, signal.SIGHUP)
    assert server.process
    assert server.process.stderr
    assert any("read again" in line for line in server.process.stderr)
    os.kill(own, signal.SIGTERM)
    server.process.communicate(timeout=HANG_S)
    assert server.process.returncode == 0

    lines = traced.read_text(errors="replace").splitlines()
    used = {call[1] for line in lines if (call := re.match(r"\d+ +(\w+)\(", line))}
    assert {"openat", "listen", "accept4", "mmap"} <= used
    assert used - allowed_calls() - ROOTS_ONLY == set()
    families = {family for line in lines for family in re.findall(r"\bsocket\((AF_\w+)", line)}
    assert "AF_INET" in families
    assert families <= set(settings("RestrictAddressFamilies")[0].split())
    executable = [
        line
        for line in lines
        if re.search(r"\b(mmap|mprotect|pkey_mprotect)\(", line)
        and "PROT_EXEC" in line
        and ("PROT_WRITE" in line or ("mprotect(" in line and "PROT_READ|PROT_EXEC" not in line))
    ]
    assert executable == [], "MemoryDenyWriteExecute="
    opened = [re.search(r'\bopen(?:at)?\(.*?"(.*?)", (\S+?)[,)]', line) for line in lines]
    written = {one[1] for one in opened if one and re.search("O_WRONLY|O_RDWR|O_CREAT", one[2])}
    assert f"{server.data}/fota.db" in written
    assert {path for path in written if not path.startswith(f"{server.data}/")} <= {"/dev/null"}


def test_door_is_what_nftables_takes_and_has_the_servers_ports(tmp_path: Path) -> None:
    text = DOOR.read_text()
    ports = dict(re.findall(r"^define (\w+)_port = (\d+)$", text, re.MULTILINE))
    assert ports == {"devices": "8443", "operators": "8444"}
    bound = set(settings("SocketBindAllow"))
    assert bound == {f"tcp:{port}" for port in ports.values()}
    nft = shutil.which("nft", path=f"{os.environ['PATH']}:/usr/sbin")
    if nft is None:
        pytest.skip("no nft: install Debian's package nftables")
    done = run(nft, "-c", "-f", DOOR)
    if "Operation not permitted" in done.stderr:
        pytest.skip("nft may not ask the kernel here")
    assert done.returncode == 0, done.stderr
    broken = tmp_path / DOOR.name
    broken.write_text(text.replace("jump device_plane", "jump nowhere"))
    assert run(nft, "-c", "-f", broken).returncode != 0


def test_page_names_all() -> None:
    page = (DOCS / "operations.md").read_text()
    assert all(f"]({one.name})" in page for one in (UNIT, SIGNER, DOOR))
