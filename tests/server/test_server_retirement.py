"""The end of a device's life on the server: refused at once, everywhere, for good."""

import socket
import ssl
import threading
from typing import Any

import pytest
from databases import BOTH, beside
from lifeline import HANG_S
from server_world import Built, Device, Refused, Server, fota

from fota_wire import checkin

DATABASES = BOTH


def test_retired_device_is_refused_on_its_open_connection_and_at_its_next_handshake(
    server: Server, releases: dict[str, Built]
) -> None:
    device = Device(server)
    device.check_in()
    assert server.api("POST", "rollouts", {"version": "1.1.0", "device": device.id})[0] == 201
    device.check_in()
    status, answer = server.api("POST", f"devices/{device.id}/retire", {"reason": "stolen"})
    assert (status, answer["status"], answer["retired"]["reason"]) == (200, "retired", "stolen")
    with pytest.raises((OSError, Refused)):
        device.check_in()  # the connection was open
    for _ in range(2):
        with pytest.raises((OSError, Refused)) as refused:
            device.check_in()
        if isinstance(refused.value, Refused):
            assert refused.value.args[:2] == (403, "retired")
    try:
        status = device.request("GET", f"/v1/payload/{releases['1.1.0'].digest}")[0]
    except OSError:  # closed before it could ask
        status = 403
    assert status == 403


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls12", "tls13"])
def test_new_connection_of_a_retired_device_is_answered_before_it_says_anything(
    server: Server, version: Any
) -> None:
    device = Device(server, tls=version)
    device.check_in()
    device.close()
    assert server.api("POST", f"devices/{device.id}/retire", {})[0] == 200
    with _connect(server, device) as connection:
        raw = b"".join(iter(lambda: connection.recv(4096), b""))
    head, body = raw.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 403")
    assert checkin.parse_error(body)[0] == "retired"


def _connect(server: Server, device: Device) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", server.device_port), timeout=HANG_S)
    return device.context.wrap_socket(raw, server_hostname="127.0.0.1")


def test_there_is_no_way_back(server: Server) -> None:
    device = Device(server)
    device.check_in()
    assert server.api("POST", f"devices/{device.id}/retire", {})[0] == 200
    for again in ("admit", "retire"):
        status, answer = server.api("POST", f"devices/{device.id}/{again}", {})
        assert (status, answer["error"]["code"]) == (400, "retired"), again
    assert server.api("GET", f"devices/{device.id}")[1]["status"] == "retired"
    with beside(server.data / "fota.db") as connection:
        for verb in ("DELETE FROM retirements", "UPDATE retirements SET device_id = 'x'"):
            with pytest.raises(Exception, match="append-only"):
                connection.execute(verb)


def test_device_that_was_never_seen_can_be_retired_and_then_never_gets_in(server: Server) -> None:
    device = Device(server)
    assert server.api("POST", f"devices/{device.id}/retire", {"reason": "scrapped"})[0] == 200
    with pytest.raises((OSError, Refused)):
        device.check_in()
    shown = server.api("GET", f"devices/{device.id}")[1]
    assert (shown["status"], shown["last_seen"]) == ("retired", None)


def test_rollouts_leave_a_retired_device_out_and_do_not_wait_for_it(
    server: Server, releases: dict[str, Built]
) -> None:
    device, other = Device(server), Device(server)
    for each in (device, other):
        each.check_in()
    started = server.api("POST", "rollouts", {"version": "1.1.0", "device": device.id})[1]
    server.api("POST", f"devices/{device.id}/retire", {})
    shown = server.api("GET", f"rollouts/{started['id']}/devices")[1]["devices"][0]
    assert (shown["state"], shown["reason"]) == ("gone", "the device was retired")
    assert server.api("GET", f"rollouts/{started['id']}")[1]["status"] == "failed"
    status, answer = server.api("POST", "rollouts", {"version": "1.2.0", "device": device.id})
    assert status >= 400
    assert "retired" in answer["error"]["message"]


def test_retirement_survives_a_restart_of_the_server(server: Server) -> None:
    device = Device(server)
    device.check_in()
    server.api("POST", f"devices/{device.id}/retire", {})
    device.close()
    server.stop()
    server.start()
    with pytest.raises((OSError, Refused)):
        device.check_in()
    other = Device(server)
    other.check_in()


@pytest.mark.parametrize("path", ["nonsense"])
def test_what_is_no_device_id_cannot_be_retired(server: Server, path: str) -> None:
    assert server.api("POST", f"devices/{path}/retire", {})[1]["error"]["code"] == "device-id"


def test_many_open_connections_of_one_device_are_all_closed(server: Server) -> None:
    device = Device(server)
    device.check_in()
    connections = [_connect(server, device) for _ in range(5)]
    ended = threading.Semaphore(0)

    def wait(connection: ssl.SSLSocket) -> None:
        try:
            while connection.recv(4096):
                pass
        except OSError:
            pass
        ended.release()

    threads = [threading.Thread(target=wait, args=(each,)) for each in connections]
    for thread in threads:
        thread.start()
    server.api("POST", f"devices/{device.id}/retire", {})
    assert all(ended.acquire(timeout=HANG_S) for _ in threads)
    for thread, connection in zip(threads, connections, strict=True):
        thread.join()
        connection.close()


def test_operator_retires_by_command_and_has_to_mean_it(server: Server) -> None:
    device = Device(server)
    device.check_in()
    env = {
        "FOTA_SERVER": server.operator_url,
        "FOTA_TOKEN": server.token,
        "FOTA_CA": str(server.keys.server_ca),
    }
    asked = fota("device", "retire", device.id, env=env)
    assert asked.returncode != 0
    assert server.api("GET", f"devices/{device.id}")[1]["status"] != "retired"
    done = fota("device", "retire", device.id, "--yes", "--reason", "end of lease", env=env)
    assert done.stdout == f"device {device.id}: retired\n"
    shown = fota("device", "show", device.id, env=env).stdout
    assert "retired    2" in shown
    assert "by first-operator: end of lease" in shown
    listed = fota("device", "list", env=env).stdout.splitlines()
    assert "retired" in next(line for line in listed if device.id in line)
