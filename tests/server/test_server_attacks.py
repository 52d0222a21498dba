"""One stolen device, with its key: what it can send, and what that may cost the others."""

import resource
from pathlib import Path
from typing import Any

import pytest
from server_world import Built, Device, Keys, Server, make_image
from test_server_devices import assigned, raw_connection, read_all
from test_server_telemetry import publish, shown

from fota_server.connection import Limits
from fota_server.facts import CONFIRMATIONS_KEPT
from fota_wire import image


@pytest.mark.parametrize("text", ['"\\ud800"', "1e999", "[-1e999]", '{"\\udc00": 1}'])
def test_value_that_cannot_be_said_again_never_reaches_the_operator(
    server: Server, device: Device, text: str
) -> None:
    assert publish(device, [["bad", 0, text], ["good", 0, "1"]]) == 200
    assert set(shown(server, device)) == {"good"}


def flood(connection: Any) -> int:
    """Send up to 40 MB of trailer fields; return how many bytes went out before the server hung up."""
    fields = b"".join(b"x-%d: %s\r\n" % (number, b"a" * 900) for number in range(20))
    sent = 0
    try:
        for _ in range(2200):
            connection.sendall(fields)
            sent += len(fields)
    except OSError:
        pass
    return sent


def test_endless_trailer_fields_are_cut_in_a_check_in(server: Server, device: Device) -> None:
    with raw_connection(server, device) as connection:
        connection.sendall(b"POST /v1/checkin HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n")
        assert flood(connection) < 20_000_000, "more than sockets hold"
    device.check_in()


def test_answered_client_that_still_sends_is_cut(
    server: Server, device: Device, releases: dict[str, Built]
) -> None:
    path = assigned(server, device, releases["1.1.0"]).encode()
    head = b"GET %s HTTP/1.1\r\nhost: x\r\nrange: bytes=0-9\r\ntransfer-encoding: chunked\r\n\r\n" % path
    with raw_connection(server, device) as connection:
        connection.sendall(head)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 206 ")
    assert answer.partition(b"\r\n\r\n")[2] == releases["1.1.0"].file[:10]


A_MOMENT_S = 0.2
"""How long is looked at what stays silent."""


def has_ended(connection: Any) -> bool:
    try:
        return not connection.recv(1)
    except OSError:
        return True


def test_one_device_has_so_many_connections_and_a_further_one_ends_its_oldest(
    server: Server, device: Device
) -> None:
    other = Device(server)
    other.check_in()
    limit = Limits().per_client
    held = [raw_connection(server, device) for _ in range(limit)]
    device.check_in()  # on a connection of its own, as after a network that lost all the others
    assert has_ended(held[0])
    held[1].settimeout(A_MOMENT_S)
    with pytest.raises(TimeoutError):
        held[1].recv(1)
    other.check_in()
    for connection in held:
        connection.close()


def test_device_that_makes_up_a_history_is_held_to_its_newest_part(server: Server, device: Device) -> None:
    device.check_in()
    for number in range(CONFIRMATIONS_KEPT + 3):
        device.running = image.parse_image(make_image((9, 0, number, 0), 1, size=64))
        device.check_in()
    history = server.api("GET", f"devices/{device.id}")[1]["history"]
    assert len(history) == CONFIRMATIONS_KEPT
    assert history[-1]["image_hash"] == device.running.image_hash.hex()


def test_server_takes_the_open_files_it_may_have(keys: Keys, tmp_path: Path) -> None:
    def few_at_first() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 4096))

    own = Server(keys, tmp_path / "data").init().start(preexec_fn=few_at_first)
    try:
        limits = Path(f"/proc/{own.process.pid}/limits").read_text()  # type: ignore[union-attr]
        assert "Max open files            4096                 4096" in limits
    finally:
        own.stop()
