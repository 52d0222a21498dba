"""The ASSIGN key in a process of its own: the server has none, and does without for as long as it must."""

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from lifeline import HANG_S
from server_world import FOTA, Device, Keys, Refused, Server, assign_pem, new_key
from test_server_shield import allowed_calls

from fota_server.clock import now
from fota_wire import assignment, cbor, cose, host_crypto, merkle


class Signer:
    """A process that holds the ASSIGN key, started as an operator does."""

    def __init__(self, path: Path, key: Path) -> None:
        self.path, self.key = path, key
        self.start()

    def start(self, before: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen(
            [*before, *FOTA, "server", "signer", "--assign-key", str(self.key), "--socket", str(self.path)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout
        self.ready_line = self.process.stdout.readline()

    def stop(self, sig: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(sig)
        _, said = self.process.communicate(timeout=HANG_S)
        return self.process.returncode, said

    def ask(self, raw: bytes) -> object:
        """Return its answer to a message; None: it hung up."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(HANG_S)
            sock.connect(str(self.path))
            read_message(sock)
            sock.sendall(len(raw).to_bytes(4, "big") + raw)
            return read_message(sock)


def read_message(sock: socket.socket) -> object:
    size = sock.recv(4, socket.MSG_WAITALL)
    return cbor.decode(sock.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)) if size else None


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short name: those of sockets may have 107 bytes."""
    folder = Path(tempfile.mkdtemp())
    yield folder / "s"
    shutil.rmtree(folder)


@pytest.fixture
def signer(keys: Keys, place: Path) -> Iterator[Signer]:
    made = Signer(place, keys.folder / "assign.pem")
    yield made
    if made.process.poll() is None:
        made.stop()


@pytest.fixture
def start(keys: Keys, signer: Signer, tmp_path: Path) -> Iterator[Callable[[], Server]]:
    made = Server(keys, tmp_path / "data").init("--assign-key", str(signer.path))
    yield made.start
    if made.process and made.process.poll() is None:
        made.stop()


def test_server_answers_without_a_key_of_its_own(start: Any, signer: Signer, keys: Keys) -> None:
    server = start()
    device = Device(server)
    assert device.check_in().wanted is None
    assert device.check_in().response.report_status == "accepted"
    secret = assign_pem(keys.assign)
    assert all(secret not in path.read_bytes() for path in server.data.rglob("*") if path.is_file())
    assert stat.S_IMODE(signer.path.stat().st_mode) == 0o660
    assert signer.stop()[0] == 0
    assert not signer.path.exists()


def test_signer_that_is_killed_costs_no_report_and_no_restart(start: Any, signer: Signer) -> None:
    server = start()
    device = Device(server)
    device.check_in()
    signer.stop(signal.SIGKILL)
    device.events = [("failed", "of before")]
    for _ in range(2):
        with pytest.raises(Refused, match=r"503.*unavailable"):
            device.check_in()
    assert device.events, "nobody told the device that they were taken"
    signer.start()
    assert device.check_in(with_report=False).wanted is None
    assert device.check_in().response.report_status == "accepted"
    assert server.stop()[0] == 0


def test_signer_with_another_key_signs_for_nobody(start: Any, signer: Signer, tmp_path: Path) -> None:
    server = start()
    device = Device(server)
    device.check_in()
    signer.stop()
    signer.key = tmp_path / "other.pem"
    signer.key.write_bytes(assign_pem(new_key()))
    signer.key.chmod(0o600)
    signer.start()
    with pytest.raises(Refused, match=r"503.*unavailable"):
        device.check_in()
    code, said = server.stop()
    assert code == 0
    assert "another key" in said


def test_signer_needs_nothing_that_its_unit_denies(signer: Signer, tmp_path: Path) -> None:
    """From its start to its end, system call by system call."""
    signer.stop()
    calls = tmp_path / "calls"
    if shutil.which("strace") is None or subprocess.run(["strace", "-o", calls, "true"]).returncode != 0:
        pytest.skip("no strace, or it may not trace here")
    signer.start(["strace", "-f", "-qq", "-o", str(calls)])
    assert isinstance(signer.ask(cbor.encode([[payload(now()), False]])), list)
    own = int(subprocess.check_output(["pgrep", "-P", str(signer.process.pid)]).split()[0])
    os.kill(own, signal.SIGTERM)
    signer.process.communicate(timeout=HANG_S)
    assert signer.process.returncode == 0
    lines = calls.read_text(errors="replace").splitlines()
    used = {call[1] for line in lines if (call := re.match(r"\d+ +(\w+)\(", line))}
    assert {"bind", "accept4", "unlink"} <= used
    assert used - allowed_calls() == set()
    assert {family for line in lines for family in re.findall(r"\bsocket\((AF_\w+)", line)} == {"AF_UNIX"}


def payload(at: int) -> bytes:
    fields = {1: 1, 2: bytes(16), 3: bytes(9), 4: at, 5: 0, 6: None, 7: 1, 8: 0, 9: 60}
    return cbor.encode(fields)


def test_nothing_but_assignments_of_the_present_is_signed(signer: Signer, keys: Keys) -> None:
    good = signer.ask(cbor.encode([[payload(now()), False]]))
    assert isinstance(good, list)
    own = cose.parse_sign1(good[0])
    own.check(host_crypto.public_xy(keys.assign), assignment.AAD, own.payload or b"", host_crypto.verify)
    top, _ = merkle.grow([payload(now())] * 2)
    for asked, why in (
        ([[payload(now() + 3600), False]], "nothing but the present"),
        ([[payload(now() - 3600), True]] * 2, "nothing but the present"),
        ([[payload(now()), False], [cbor.encode([2, top]), False]], "not a map"),
        ([[keys.genesis[:300], False]], "CBOR"),
        ([[b"", False]], "CBOR"),
        ([], "0 elements"),
        ([[payload(now()), False]] * 257, "257 elements"),
        ({}, "not an array"),
        ([[payload(now())]], "1 elements"),
    ):
        said = signer.ask(cbor.encode(asked))
        assert isinstance(said, str), asked
        assert why in said
    assert signer.ask(b"\xff") is None
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(signer.path))
        read_message(sock)
        sock.sendall(b"\xff\xff\xff\xff")
        assert sock.recv(1) == b""
    assert isinstance(signer.ask(cbor.encode([[payload(now()), True]])), list)
    code, said_at_all = signer.stop()
    assert (code, said_at_all.count("not signed")) == (0, 9)


def signer_says(*words: str) -> tuple[int, str]:
    done = subprocess.run([*FOTA, "server", "signer", *words], capture_output=True, text=True, timeout=HANG_S)
    assert done.stderr.count("\n") == 1
    return done.returncode, done.stderr


def test_place_that_is_taken_is_refused_and_one_that_was_left_is_not(signer: Signer, tmp_path: Path) -> None:
    words = ("--assign-key", str(signer.key), "--socket")
    code, said = signer_says(*words, str(signer.path))
    assert (code, "another process listens there" in said) == (5, True)
    (tmp_path / "file").write_text("mine")
    code, said = signer_says(*words, str(tmp_path / "file"))
    assert (code, "is no socket" in said, (tmp_path / "file").read_text()) == (3, True, "mine")
    code, said = signer_says(*words, str(tmp_path / "no" / "folder"))
    assert (code, "cannot make the socket" in said) == (5, True)
    code, said = signer_says(*words, str(tmp_path / ("x" * 120)))
    assert (code, "cannot make the socket" in said) == (5, True)
    signer.stop(signal.SIGKILL)
    assert signer.path.is_socket()
    signer.start()
    assert "ready" in signer.ready_line


def test_server_that_finds_nobody_to_sign_says_so(start: Any, signer: Signer, tmp_path: Path) -> None:
    signer.stop(signal.SIGKILL)
    data = str(tmp_path / "data")
    done = subprocess.run(
        [*FOTA, "server", "run", "--data", data, "--port", "0"],
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    assert (done.returncode, done.stderr.count("\n")) == (5, 1)
    assert "start 'fota server signer'" in done.stderr
    signer.start()
    assert start().stop()[0] == 0
