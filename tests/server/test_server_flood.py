"""Clients that have not said who they are: counted from accept() on, and nobody pays for them."""

import fcntl
import http.client
import json
import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lifeline import HANG_S, until
from server_world import FOTA, Device, Keys, Server

from fota_server.door import Door, Room, Visit, place_of
from fota_server.logs import BURST, MAX_KINDS, WINDOW_S, Limiter

FILES = 2048
"""Open files that the server of these tests may have; what it makes of them is `rooms`'s word."""


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))


@pytest.fixture
def own(keys: Keys, tmp_path: Path) -> Iterator[Server]:
    server = Server(keys, tmp_path / "data").init().start(preexec_fn=few_files)
    yield server
    if server.process and server.process.returncode is None:
        code, stderr = server.stop()
        assert code == 0, stderr
        assert "Traceback" not in stderr


@contextmanager
def crowd(port: int, count: int, *addresses: str) -> Iterator[list[socket.socket]]:
    """Hold ``count`` connections from each address that never say a word."""
    held: list[socket.socket] = []
    try:
        for address in addresses:
            for _ in range(count):
                held.append(socket.socket())
                held[-1].bind((address, 0))
                held[-1].settimeout(HANG_S)
                held[-1].connect(("127.0.0.1", port))
        yield held
    finally:
        for sock in held:
            sock.close()


def alive(held: list[socket.socket]) -> int:
    """Count those that the server has not closed.

    It took each, or not, before it answered a later one on the same plane: nothing is said of the other.
    """
    left = 0
    for sock in held:
        sock.setblocking(False)
        try:
            while sock.recv(1 << 16):
                pass
        except BlockingIOError:
            left += 1
        except OSError:
            pass
    return left


def memory(server: Server) -> int:
    """Return the resident bytes of the server."""
    assert server.process
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_crowd_of_one_address_leaves_the_room_of_all_others(own: Server) -> None:
    device = Device(own)
    device.check_in()
    device.close()
    before = memory(own)
    with crowd(own.device_port, 1500, "127.0.0.2") as held:
        device.check_in()  # a new connection, from another address
        assert own.api("GET", "health/ready")[0] == 200
        assert alive(held) <= 256
        during = memory(own)
    print(before, during)
    device.close()
    device.check_in()
    assert during - before < 6 << 20, "who says nothing costs a socket"
    code, stderr = own.stop()
    assert code == 0
    told = [line for line in stderr.splitlines() if "too many connections" in line]
    assert len(told) == BURST + 1, "and not a thousand times"
    assert " more in the last 60 s like: " in told[-1]


def test_crowd_of_many_addresses_cannot_take_the_operators_plane(own: Server) -> None:
    with crowd(own.device_port, 280, *(f"127.0.1.{host}" for host in range(1, 6))) as held:
        assert own.api("GET", "devices")[0] == 200
        Device(own).check_in()  # behind all of them
        assert alive(held) <= FILES // 4


def test_crowd_on_the_operators_plane_leaves_devices_alone(own: Server) -> None:
    with crowd(own.operator_port, 300, "127.0.0.2", "127.0.0.3") as held:
        Device(own).check_in()
        assert own.api("GET", "devices")[0] == 200, "two addresses, and an operator at a third"
        assert alive(held) < 300


@pytest.mark.parametrize(("plane", "each"), [("device", 2), ("operator", 60)])
def test_addresses_that_have_all_places_make_room_for_another_one(
    keys: Keys, tmp_path: Path, plane: str, each: int
) -> None:
    limits = {"device_connections": 8, "newcomers": 4, "newcomers_per_address": 2}  # operators: by FILES
    own = configured(keys, tmp_path, **limits).start(preexec_fn=few_files)
    port, ask = own.operator_port, lambda: own.api("GET", "devices")
    if plane == "device":
        port, ask = own.device_port, lambda: Device(own).check_in()
    with crowd(port, each, "127.0.0.2", "127.0.0.3") as shaking:
        for sock in shaking:
            hello(sock, own)
            assert sock.recv(1)
        ask()
        assert alive(shaking) == 2 * each - 1, "one of those who have begun a handshake"
        with crowd(port, 2 * each, *(f"127.0.1.{host}" for host in range(1, 6))) as silent:
            ask()
            assert 1 <= alive(shaking) + alive(silent) <= 2 * each - 1
    assert own.stop()[0] == 0


def hello(sock: socket.socket, server: Server) -> None:
    """Begin a handshake, and never go on."""
    context = ssl.create_default_context(cafile=str(server.keys.server_ca))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    sock.sendall(outgoing.read())


def configured(keys: Keys, folder: Path, **settings: object) -> Server:
    """A server whose config.json says more than ``init`` wrote."""
    server = Server(keys, folder / "data").init()
    config = server.data / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | settings))
    return server


def test_limits_of_connections_are_those_of_the_configuration(keys: Keys, tmp_path: Path) -> None:
    limits = {"device_connections": 5, "newcomers": 4, "newcomers_per_address": 1}  # and not the half of it
    own = configured(keys, tmp_path, **limits, connections_per_device=1).start(preexec_fn=few_files)
    with crowd(own.device_port, 2, "127.0.0.2") as held:
        guest = Device(own)
        guest.check_in()
        assert alive(held) == 1
    guest.close()
    with crowd(own.device_port, 1, *(f"127.0.0.{host}" for host in range(2, 7))) as held:
        first = Device(own)
        first.check_in()
        assert [alive([sock]) for sock in held] == [0, 0, 1, 1, 1], (
            "the oldest made room, for it was one of many"
        )
    first.close()
    *inside, second, third, fourth = (Device(own) for _ in range(6))
    for one in (*inside, second, third):
        until(lambda one=one: served(one))
    with pytest.raises((OSError, http.client.HTTPException)):
        fourth.check_in()
    third.close()
    until(lambda: served(fourth))
    twin = Device(own, fourth.id, key=fourth.key)
    twin.pem.write_bytes(fourth.pem.read_bytes())
    twin.context = fourth.context
    second.close()
    until(lambda: served(twin))
    with pytest.raises((OSError, http.client.HTTPException)):
        fourth.check_in()  # the older one of one certificate
    assert own.stop()[0] == 0


def served(device: Device) -> bool:
    with suppress(OSError, http.client.HTTPException):
        device.check_in()
        return True
    return False


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"device_connections": -1}, "device_connections is -1"),
        ({"device_connections": 500_001}, "it has to be 0 to 500000"),
        ({"device_connections": FILES}, "are enough for 7"),
        ({"device_connections": 5, "newcomers": 6}, "newcomers is 6; it has to be 0 to 5"),
        ({"newcomers": 5, "newcomers_per_address": 6}, "newcomers_per_address is 6"),
        ({"connections_per_device": 0}, "it has to be 1 to 1024"),
        ({"connections_per_device": 1025}, "it has to be 1 to 1024"),
        ({"newcomers": "5"}, "has the wrong type"),
        ({"newcomers": True}, "has the wrong type"),
    ],
)
def test_limits_that_cannot_hold_are_refused_at_the_start(
    keys: Keys, tmp_path: Path, settings: dict[str, object], said: str
) -> None:
    own = configured(keys, tmp_path, **settings)
    done = subprocess.run(
        [*FOTA, "server", "run", "--data", str(own.data), "--port", "0"],
        capture_output=True, text=True, preexec_fn=few_files,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
    assert said in done.stderr


def test_memory_comes_back(own: Server) -> None:
    sizes = []
    for _ in range(3):
        with crowd(own.device_port, 150, "127.0.0.2") as held:
            for sock in held:
                hello(sock, own)
            for sock in held:
                assert sock.recv(1)
        Device(own).check_in()
        sizes.append(memory(own))
    assert sizes[2] - sizes[0] < 8 << 20, f"each crowd would leave its own: {sizes}"


def at(door: Door) -> dict[str, int]:
    return {place: len(newcomers) for place, newcomers in door.newcomers_at.items()}


def test_who_is_known_is_no_newcomer_any_more() -> None:
    door = Door(Room(connections=3, newcomers=2, newcomers_per_address=1))
    first = door.enter("10.0.0.1")
    assert first
    assert door.enter("10.0.0.1") is None, "one newcomer an address"
    door.vouch(first)
    second, third = door.enter("10.0.0.1"), door.enter("10.0.0.2")
    assert second
    assert third
    door.vouch(second)
    door.vouch(third)
    assert door.enter("10.0.0.3") is None, "three in all"
    door.leave(third)
    door.leave(third)
    assert door.enter("10.0.0.3")
    for visit in (first, second):
        door.leave(visit)
        door.vouch(visit)
    assert (door.newcomers, len(door.inside), at(door)) == (1, 1, {"10.0.0.3": 1})


@given(data=st.data())
def test_address_with_fewest_newcomers_gets_in_and_known_clients_stay(data: st.DataObject) -> None:
    """Against a second, slow count of the same rules; whoever has to go is at the address that has most."""
    door = Door(Room(connections=7, newcomers=5, newcomers_per_address=3))
    closed: list[Visit] = []
    inside: list[Visit] = []
    for step in data.draw(st.lists(st.tuples(st.sampled_from("eeevl"), st.integers(0, 6)), max_size=40)):
        now = Counter(visit.place for visit in inside if not visit.known)
        crowded = max(now.values(), default=0)
        kind, number = step
        if kind == "e":
            place = f"10.0.0.{number}"
            visit = door.enter(place)
            full = len(inside) == 7 or now.total() == 5
            assert (visit is not None) is (now[place] < 3 and (not full or now[place] < crowded))
            if visit:
                inside.append(visit)
                visit.close = partial(closed.append, visit)
            for one in closed:
                assert full
                assert now[one.place] == crowded
                assert not one.known
                same = [visit for visit in inside if visit.place == one.place and not visit.known]
                assert same[0] is one, "the oldest"
                inside.remove(one)
            assert len(closed) == bool(visit and full)
            closed.clear()
        elif number < len(inside):
            visit = inside[number]
            if kind == "l":
                inside.remove(visit)
                door.leave(visit)
            elif kind == "v":
                door.vouch(visit)
        assert door.inside == set(inside)
        assert at(door) == Counter(visit.place for visit in inside if not visit.known)
        assert door.newcomers == sum(at(door).values()) <= 5


def test_who_is_heard_out_is_a_newcomer_again_if_there_is_a_place() -> None:
    door = Door(Room(connections=9, newcomers=2, newcomers_per_address=1))
    first, stranger = door.enter("10.0.0.1"), door.enter("10.0.0.2")
    assert first
    assert stranger
    door.vouch(first)
    second = door.enter("10.0.0.1")
    assert second
    assert not door.doubt(first), "its address has a newcomer already"
    door.vouch(second)
    assert door.doubt(first)
    assert door.enter("10.0.0.1") is None
    assert door.doubt(stranger), "it is one, and stays one"
    assert (door.newcomers, at(door)) == (2, {"10.0.0.1": 1, "10.0.0.2": 1})
    for visit in (first, second, stranger):
        door.leave(visit)
        assert not door.doubt(visit)
    assert (door.newcomers, len(door.inside), at(door)) == (0, 0, {})


def test_device_that_never_closes_what_is_over_fills_no_room(keys: Keys, tmp_path: Path) -> None:
    server = configured(keys, tmp_path, device_connections=20, newcomers=8, newcomers_per_address=4).start()
    stolen, other = Device(server), Device(server)
    held = []
    try:
        for _ in range(40):
            plain = socket.socket()
            plain.bind(("127.0.0.2", 0))
            plain.settimeout(HANG_S)
            plain.connect(("127.0.0.1", server.device_port))
            with suppress(OSError):  # there may be no place for it any more
                held.append(stolen.context.wrap_socket(plain, server_hostname="127.0.0.1"))
                held[-1].sendall(b"GET /v2 HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n")
                while held[-1].recv(4096):
                    pass
        other.check_in()
    finally:
        for connection in held:
            connection.close()
        other.close()
        server.stop()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_what_counts_as_one_address(one: str, other: str, same: bool) -> None:
    assert (place_of(one) == place_of(other)) is same


@pytest.mark.parametrize("files", [64, 256, 1024, 16384])
def test_rooms_fit_into_the_open_files(files: int) -> None:
    script = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({min(files, 64)}, {files}))\n"
        "from fota_server.service import rooms; d, o, _ = rooms()\n"
        "print(d.connections, o.connections, d.newcomers, d.newcomers_per_address, o.newcomers)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    devices, operators, newcomers, per_address, at_operators = map(int, done.stdout.split())
    assert 1 <= per_address <= newcomers <= devices
    assert 1 <= at_operators <= operators
    assert newcomers < devices or files < 200
    assert 2 * (devices + operators) <= max(files, 16)


# The log


def test_log_counts_what_is_too_much_and_says_so() -> None:
    limiter = Limiter()
    assert [limiter.admit("a", f"line {n}", 0.0) for n in range(BURST + 5)] == [True] * BURST + [False] * 5
    assert limiter.admit("b", "", 0.0), "another kind has its own"
    assert limiter.ended(WINDOW_S - 1) == []
    assert limiter.ended(WINDOW_S) == [("line 0", 5)]
    assert limiter.admit("a", "", WINDOW_S)
    for kind in range(3 * MAX_KINDS):
        limiter.admit(kind, "", 0.0)
    assert len(limiter.windows) <= MAX_KINDS + 1


def test_log_that_nobody_reads_stops_nothing(keys: Keys, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETFL, os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while os.write(writing, bytes(4096)):
            pass
    fcntl.fcntl(writing, fcntl.F_SETFL, 0)
    server = Server(keys, tmp_path / "data").init()
    run_full(server, writing)
    try:
        for _ in range(3):
            plain = socket.create_connection(("127.0.0.1", server.device_port), timeout=HANG_S)
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")  # no TLS: a line for the log
            while plain.recv(100):
                pass
            plain.close()
        Device(server).check_in()
        assert server.api("GET", "health/ready")[0] == 200
        assert server.process
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(HANG_S) == 0
    finally:
        os.close(reading)
        os.close(writing)
        if server.process:
            server.process.kill()
            server.process.wait()


def run_full(server: Server, stderr: int) -> None:
    """Start a server whose standard error goes into a pipe that is full."""
    command = [*FOTA, "server", "run", "--data", str(server.data), "--port", "0", "--host", "127.0.0.1"]
    server.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert server.process.stdout
    assert server.process.stdout.readline()
    server.process.stdout.close()
    server.read_urls()
