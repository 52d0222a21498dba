"""The device plane over real TLS: who gets in, what a check-in changes, what a payload request gets."""

import secrets
import socket
import ssl
import time
from typing import Any

import pytest
from lifeline import HANG_S
from server_world import (
    Built,
    Device,
    Refused,
    Server,
    cert_pem,
    client_context,
    key_pem,
    make_cert,
    make_image,
    new_key,
)

from fota_server.handshake import Patience
from fota_server.identity import IdentityError, identify
from fota_server.listener import bind
from fota_wire import checkin, image

TLS_VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def row_of(server: Server, device: Device) -> dict[str, Any]:
    rows = server.rows("SELECT * FROM devices WHERE id = ?", device.id)
    return rows[0] if rows else {}


def target_of(server: Server, device: Device) -> dict[str, Any]:
    query = "SELECT t.*, r.kind, r.paused FROM devices d JOIN targets t ON t.id = d.target_id "
    rows = server.rows(query + "JOIN rollouts r ON r.id = t.rollout_id WHERE d.id = ?", device.id)
    return rows[0] if rows else {}


def roll_out(server: Server, device: Device, version: str) -> dict[str, Any]:
    status, answer = server.api("POST", "rollouts", {"version": version, "device": device.id})
    assert status == 201, answer
    return dict(answer)


# Who gets in


@pytest.mark.parametrize("version", TLS_VERSIONS, ids=["tls12", "tls13"])
def test_first_check_in_registers_the_device(server: Server, version: Any) -> None:
    device = Device(server, tls=version)
    answer = device.check_in()
    assert answer.wanted is None
    assert answer.response.report_status == "none"
    row = row_of(server, device)
    assert row["admitted_by"] == "certificate"
    assert row["report_nonce"] == answer.response.nonce
    assert row["running_hash"] is None, "nothing is known of it before its first report"
    device.close()


def test_no_certificate_is_answered_401(server: Server) -> None:
    device = Device(server)
    device.context = client_context(server.keys.server_ca, None)
    with pytest.raises(Refused) as refused:
        device.check_in()
    assert refused.value.args[:2] == (401, "no-certificate")
    assert row_of(server, device) == {}


@pytest.mark.parametrize("version", TLS_VERSIONS, ids=["tls12", "tls13"])
@pytest.mark.parametrize("flaw", ["other-ca", "expired", "not-yet", "forged-issuer", "server-use"])
def test_unusable_certificate_does_not_get_through_the_handshake(
    server: Server, flaw: str, version: Any
) -> None:
    keys, other = server.keys, new_key()
    flaws: dict[str, dict[str, Any]] = {
        "other-ca": {"issuer": (make_cert("another CA", other, ca=True), other)},
        "expired": {"start_days": -5, "days": -0.01},
        "not-yet": {"start_days": 0.1},
        "forged-issuer": {"issuer": (keys.device_ca, other)},  # the right name, signed by somebody else
        "server-use": {"issuer": (make_cert("127.0.0.1", other, server=True), other)},
    }
    device = Device(server, tls=version, **flaws[flaw])
    with pytest.raises(OSError):  # noqa: PT011  TLS alert or reset, by version
        device.check_in()
    assert row_of(server, device) == {}


@pytest.mark.parametrize(
    "name", ["nobody", "0123ABCDEF01234567", "0123abcdef0123456", "0123abcdef01234567\n"]
)
def test_certificate_that_names_no_device_is_answered_401(server: Server, name: str) -> None:
    device = Device(server, name=name)
    with pytest.raises(Refused) as refused:
        device.check_in()
    assert refused.value.args[:2] == (401, "certificate-name")


def test_certificate_with_other_curve_is_answered_401(server: Server) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    device = Device(server, key=ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(Refused) as refused:
        device.check_in()
    assert refused.value.args[:2] == (401, "certificate-key")


def test_second_certificate_with_another_key_is_refused_until_admitted(server: Server) -> None:
    device = Device(server)
    device.check_in()
    other = Device(server, device.id)
    with pytest.raises(Refused) as refused:
        other.check_in()
    assert refused.value.args[:2] == (403, "key")
    assert server.api("POST", f"devices/{device.id}/admit")[0] == 200
    other.check_in()
    with pytest.raises(Refused):
        device.check_in()


def test_revoked_device_gets_nothing_on_its_open_connection(
    server: Server, releases: dict[str, Built]
) -> None:
    device = Device(server)
    device.check_in()
    roll_out(server, device, "1.1.0")
    device.check_in()
    assert server.api("POST", f"devices/{device.id}/revoke")[1]["status"] == "revoked"
    with pytest.raises(Refused) as refused:
        device.check_in()
    assert refused.value.args[:2] == (403, "revoked")
    assert device.request("GET", f"/v1/payload/{releases['1.1.0'].digest}")[0] == 403
    assert [row["action"] for row in server.rows("SELECT * FROM audit WHERE subject = ?", device.id)] == [
        "device.revoke"
    ]


# What a check-in changes


def test_update_is_counted_when_confirmed_and_not_before(
    server: Server, device: Device, releases: dict[str, Built]
) -> None:
    new = releases["1.1.0"]
    device.check_in()
    device.check_in()
    rollout = roll_out(server, device, "1.1.0")
    answer = device.check_in()
    assert answer.wanted == new.manifest_digest
    assert answer.response.manifest == new.envelope
    assert answer.assignment.campaign == rollout["id"]
    assert answer.assignment.sequence == 2
    assert target_of(server, device)["state"] == "offered"

    device.installed = device.held = new.manifest_digest
    assert device.check_in().response.manifest is None, "it holds the manifest"
    row = row_of(server, device)
    assert row["installed_digest"] == new.manifest_digest.hex()
    assert row["running_hash"] == device.running.image_hash.hex(), "installed is not running"
    assert target_of(server, device)["state"] == "installed"

    device.take(new)
    device.check_in()
    view = server.api("GET", f"devices/{device.id}")[1]
    assert view["running"]["version"] == "1.1.0"
    assert view["confirmed"] is None, "running is not confirmed"
    shown = server.api("GET", f"rollouts/{rollout['id']}")[1]
    assert (shown["status"], shown["progress"]["confirmed"], shown["progress"]["trial"]) == ("running", 0, 1)

    device.state = "confirmed"
    device.check_in()
    assert target_of(server, device)["state"] == "confirmed"
    assert server.api("GET", f"rollouts/{rollout['id']}")[1]["status"] == "done"
    history = server.rows("SELECT image_hash FROM confirmations WHERE device_id = ? ORDER BY id", device.id)
    assert [item["image_hash"] for item in history] == [
        releases["1.0.0"].image.image_hash.hex(),
        new.image.image_hash.hex(),
    ]


def test_failed_self_test_is_reverted_with_its_reason_and_not_offered_again(
    server: Server, device: Device, releases: dict[str, Built]
) -> None:
    device.check_in()
    rollout = roll_out(server, device, "1.2.0")
    device.check_in()
    device.installed = device.held = releases["1.2.0"].manifest_digest
    device.events = [("reverted", "AP1 self-test")]
    answer = device.check_in()
    assert answer.wanted is None
    assert device.request("GET", f"/v1/payload/{releases['1.2.0'].digest}")[0] == 403
    for _ in range(3):
        assert device.check_in().wanted is None
        assert device.check_in(with_report=False).wanted is None
    target = target_of(server, device)
    assert (target["state"], target["reason"]) == ("reverted", "AP1 self-test")
    view = server.api("GET", f"devices/{device.id}")[1]
    assert view["status"] == "reverted"
    assert view["wanted"]["reason"] == "AP1 self-test"
    assert [(item["code"], item["detail"]) for item in view["events"]] == [("reverted", "AP1 self-test")]
    assert server.api("GET", f"rollouts/{rollout['id']}")[1]["status"] == "failed"
    roll_out(server, device, "1.2.0")
    assert device.check_in().wanted == releases["1.2.0"].manifest_digest, "an operator acted"


def test_device_that_falls_back_after_confirming_is_reverted(
    server: Server, device: Device, releases: dict[str, Built]
) -> None:
    old = device.running
    device.check_in()
    roll_out(server, device, "1.1.0")
    device.check_in()
    device.take(releases["1.1.0"], state="confirmed")
    device.check_in()
    assert target_of(server, device)["state"] == "confirmed"
    device.running = old
    assert device.check_in().wanted is None
    assert target_of(server, device)["state"] == "reverted"
    assert row_of(server, device)["running_hash"] == old.image_hash.hex()


def test_replayed_report_is_refused_and_changes_nothing(
    server: Server, device: Device, releases: dict[str, Built]
) -> None:
    device.check_in()
    device.take(releases["1.1.0"], state="confirmed")
    old_report = device.report()
    device.check_in(raw_report=old_report)
    device.running = image.parse_image(make_image((1, 0, 0, 0), 1))
    device.check_in()
    before = row_of(server, device)
    answer = device.check_in(raw_report=old_report)
    assert answer.response.report_status == "refused: REPORT answers another nonce: replayed?"
    after = row_of(server, device)
    assert after["running_hash"] == before["running_hash"]
    assert after["report_at"] == before["report_at"]
    assert after["refused_report"] == answer.response.report_status
    assert device.check_in().response.report_status == "accepted"
    assert row_of(server, device)["refused_report"] is None


def test_nonce_of_a_report_is_good_for_one_only(server: Server, device: Device) -> None:
    device.check_in()
    raw = device.report()
    assert device.check_in(raw_report=raw).response.report_status == "accepted"
    assert device.check_in(raw_report=raw).response.report_status.startswith("refused")


def test_report_by_another_key_is_refused(server: Server, device: Device) -> None:
    device.check_in()
    answer = device.check_in(raw_report=device.report(key=new_key()))
    assert answer.response.report_status == "refused: REPORT is signed by another key than the device's"
    assert row_of(server, device)["running_hash"] is None


def test_report_for_another_device_is_refused(server: Server, device: Device) -> None:
    device.check_in()
    answer = device.check_in(raw_report=device.report(device_id=secrets.token_bytes(9)))
    assert "REPORT is of device" in answer.response.report_status
    assert row_of(server, device)["running_hash"] is None


def test_malformed_report_does_not_cost_the_answer(server: Server, device: Device) -> None:
    device.check_in()
    for raw in (b"", b"\xff" * 40, device.report()[:-1]):
        assert device.check_in(raw_report=raw).response.report_status.startswith("refused")
    assert device.check_in().response.report_status == "accepted"


def test_events_are_bounded(server: Server, device: Device) -> None:
    device.check_in()
    for round_number in range(8):
        device.events = [("failed", f"download {round_number}.{n}") for n in range(16)]
        device.check_in()
    events = server.api("GET", f"devices/{device.id}")[1]["events"]
    assert len(events) == 100
    assert events[-1]["detail"] == "download 7.15"


def test_paused_rollout_is_offered_after_it_was_resumed(
    server: Server, device: Device, releases: dict[str, Built]
) -> None:
    device.check_in()
    rollout = roll_out(server, device, "1.1.0")
    server.api("POST", f"rollouts/{rollout['id']}/pause")
    assert device.check_in().wanted is None
    assert target_of(server, device)["state"] == "pending"
    assert device.request("GET", f"/v1/payload/{releases['1.1.0'].digest}")[0] == 403
    server.api("POST", f"rollouts/{rollout['id']}/resume")
    assert device.check_in().wanted == releases["1.1.0"].manifest_digest


def test_intervals_are_spread(server: Server, device: Device) -> None:
    device.check_in()
    seen = {device.check_in().response.interval for _ in range(30)}
    assert len(seen) > 5
    assert min(seen) >= 240
    assert max(seen) <= 360


# Payload


def assigned(server: Server, device: Device, built: Built) -> str:
    device.check_in()
    roll_out(server, device, built.version)
    device.check_in()
    return f"/v1/payload/{built.digest}"


def test_payload_is_for_assigned_and_running_devices_only(
    server: Server, device: Device, releases: dict[str, Built]
) -> None:
    path = assigned(server, device, releases["1.1.0"])
    status, headers, body = device.request("GET", path)
    assert status == 200
    assert body == releases["1.1.0"].file
    assert headers["etag"] == f'"{releases["1.1.0"].digest}"'
    assert device.request("GET", f"/v1/payload/{releases['1.2.0'].digest}")[0] == 403
    stranger = Device(server)
    assert stranger.request("GET", path)[0] == 403
    stranger.check_in()
    assert stranger.request("GET", path)[0] == 403
    stranger.take(releases["1.1.0"])
    stranger.check_in()
    assert stranger.request("GET", path)[0] == 200, "it runs it"


def test_payload_in_ranges_adds_up_and_writes_no_row(
    server: Server, device: Device, releases: dict[str, Built]
) -> None:
    built = releases["1.1.0"]
    path = assigned(server, device, built)
    before = server.rows("SELECT * FROM devices WHERE id = ?", device.id)
    counts = "SELECT (SELECT count(*) FROM events) e, (SELECT count(*) FROM targets) t"
    rows = server.rows(counts)
    got, etag = b"", f'"{built.digest}"'
    while len(got) < len(built.file):
        headers = {"Range": f"bytes={len(got)}-{len(got) + 49_999}", "If-Range": etag}
        status, answer, body = device.request("GET", path, headers=headers)
        assert status == 206
        assert answer["content-range"] == f"bytes {len(got)}-{len(got) + len(body) - 1}/{len(built.file)}"
        got += body
    assert got == built.file
    assert server.rows("SELECT * FROM devices WHERE id = ?", device.id) == before
    assert server.rows(counts) == rows


def test_range_of_another_file_restarts_from_the_beginning(
    server: Server, device: Device, releases: dict[str, Built]
) -> None:
    path = assigned(server, device, releases["1.1.0"])
    headers = {"Range": "bytes=100-", "If-Range": f'"{releases["1.0.0"].digest}"'}
    status, _, body = device.request("GET", path, headers=headers)
    assert (status, body) == (200, releases["1.1.0"].file)


def test_range_behind_the_end_is_416(server: Server, device: Device, releases: dict[str, Built]) -> None:
    path = assigned(server, device, releases["1.1.0"])
    status, headers, body = device.request(
        "GET", path, headers={"Range": f"bytes={len(releases['1.1.0'].file)}-"}
    )
    assert (status, body) == (416, b"")
    assert headers["content-range"] == f"bytes */{len(releases['1.1.0'].file)}"


# What is not a check-in


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        pytest.param("POST", "/v1/checkin", b"", 400, None, id="empty"),
        pytest.param("POST", "/v1/checkin", b"\xff\xff", 400, None, id="not-cbor"),
        pytest.param("POST", "/v1/checkin", b"\xa0", 400, "field-missing", id="no-fields"),
        pytest.param("POST", "/v1/checkin", b"\x9f" * 8192, 400, None, id="nested-8192"),
        pytest.param("POST", "/v1/checkin", bytes(8193), 413, "too-large", id="one-byte-too-long"),
        pytest.param("POST", "/v1/checkin", bytes(1 << 20), 413, "too-large", id="a-mebibyte"),
        pytest.param("GET", "/v1/checkin", None, 405, "method", id="wrong-method"),
        pytest.param("GET", "/", None, 404, "not-found", id="nothing-at-root"),
        pytest.param("GET", "/v1/payload/", None, 404, "not-found", id="no-digest"),
        pytest.param("GET", "/v1/payload/../../fota.db", None, 404, "not-found", id="path-up"),
        pytest.param("GET", "/v1/payload/%2e%2e%2ffota.db", None, 404, "not-found", id="path-up-escaped"),
        pytest.param("GET", "/v1/payload/" + "A" * 64, None, 404, "not-found", id="upper-case"),
        pytest.param("GET", "/v1/payload/" + "a" * 64, None, 403, "unknown", id="unknown-payload"),
        pytest.param("GET", "/api/v1/devices", None, 404, "not-found", id="operator-plane-is-elsewhere"),
    ],
)
def test_bad_request_is_answered_in_cbor(
    server: Server, device: Device, method: str, path: str, body: bytes | None, status: int, code: str | None
) -> None:
    device.check_in()
    try:
        got, headers, data = device.request(method, path, body)
    except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
        assert len(body or b"") > Patience().size, "only who goes on for longer than that is not heard out"
        return
    assert got == status
    assert headers["content-type"] == "application/cbor"
    told, message = checkin.parse_error(data)
    assert message
    if code and code != "unknown":
        assert told == code
    device.close()
    assert device.check_in().response.report_status in ("accepted", "none")


def raw_connection(server: Server, device: Device) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", server.device_port), timeout=HANG_S)
    return device.context.wrap_socket(plain, server_hostname="127.0.0.1")


def read_all(connection: ssl.SSLSocket) -> bytes:
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    return data


def test_what_is_not_http_is_answered_in_cbor(server: Server, device: Device) -> None:
    with raw_connection(server, device) as connection:
        connection.sendall(b"\x00\x01 HELLO\r\n\r\n")
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert checkin.parse_error(body)[0] == "not-http"


@pytest.mark.parametrize("size", [9000, 100_000])
def test_endless_header_is_cut(server: Server, device: Device, size: int) -> None:
    with raw_connection(server, device) as connection:
        connection.sendall(b"POST /v1/checkin HTTP/1.1\r\nhost: x\r\n")
        try:
            for _ in range(size // 1000):
                connection.sendall(b"x-" + b"a" * 994 + b": 1\r\n")
            answer = read_all(connection)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
            assert size > Patience().size, "cut while still sending"
            return
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert checkin.parse_error(body)[0] == "header-too-large"


def answer_to(server: Server, device: Device, request: bytes) -> tuple[int, bytes]:
    with raw_connection(server, device) as connection:
        connection.sendall(request)
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    return int(head.split()[1]), head + body


HOST = b"host: x\r\nconnection: close\r\n"


@pytest.mark.parametrize("where", ["one-field", "many-fields", "path", "query"])
@pytest.mark.parametrize(("size", "status"), [(7900, 404), (8400, 431), (60_000, 431)])
def test_header_that_comes_in_one_read_is_held_to_the_same_limit(
    server: Server, device: Device, where: str, size: int, status: int
) -> None:
    fields = {"one-field": b"x: " + b"a" * size + b"\r\n", "many-fields": b"x: 1\r\n" * (size // 6)}
    path = {"path": b"/" + b"a" * size, "query": b"/v1?" + b"a" * size}.get(where, b"/v1")
    request = b"GET " + path + b" HTTP/1.1\r\n" + HOST + fields.get(where, b"") + b"\r\n"
    assert answer_to(server, device, request)[0] == status
    device.check_in()


@pytest.mark.parametrize(
    ("version", "hosts", "status"),
    [
        (b"1.1", b"", 400),
        (b"1.1", b"host: a\r\nhost: a\r\n", 400),
        (b"1.1", b"host: a\r\nHOST: b\r\n", 400),
        (b"1.1", b"host: a\r\n", 404),
        (b"1.1", b"host:\r\n", 404),
        (b"1.0", b"", 404),
        (b"1.0", b"host: a\r\nhost: b\r\n", 400),
    ],
)
def test_exactly_one_host_is_taken(
    server: Server, device: Device, version: bytes, hosts: bytes, status: int
) -> None:
    request = b"GET /v1 HTTP/" + version + b"\r\nconnection: close\r\n" + hosts + b"\r\n"
    assert answer_to(server, device, request)[0] == status


@pytest.mark.parametrize("path", [b"/v1/checkin/", b"/v1/payload/" + b"0" * 64 + b"/", b"//evil.example/v1"])
def test_no_answer_is_made_of_the_clients_host(server: Server, device: Device, path: bytes) -> None:
    request = b"POST " + path + b" HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n"
    status, answer = answer_to(server, device, request)
    assert status == 404
    assert b"evil" not in answer
    assert b"location" not in answer.lower()


def test_chunked_body_is_counted_too(server: Server, device: Device) -> None:
    with raw_connection(server, device) as connection:
        connection.sendall(b"POST /v1/checkin HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        connection.sendall(b"1000\r\n" + bytes(4096) + b"\r\n" + b"1001\r\n" + bytes(4097) + b"\r\n")
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert checkin.parse_error(body)[0] == "too-large"


def test_two_check_ins_on_one_connection_without_waiting(server: Server, device: Device) -> None:
    body = checkin.encode_request(checkin.Request(bytes(16), 1, None))
    request = b"POST /v1/checkin HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    last = request.replace(b"host: x", b"host: x\r\nconnection: close")
    with raw_connection(server, device) as connection:
        connection.sendall(request + last)
        answer = read_all(connection)
    assert answer.count(b"HTTP/1.1 200 ") == 2


@pytest.mark.slow
def test_slow_clients_are_cut_while_others_are_served(server: Server, device: Device) -> None:
    slow = Device(server)
    begun = time.monotonic()
    beginnings = {
        "silent": b"",
        "header": b"POST /v1/che",
        "body": b"POST /v1/checkin HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\nabc",
    }
    connections = {name: raw_connection(server, slow) for name in beginnings}
    for name, connection in connections.items():
        connection.sendall(beginnings[name])
    witness = raw_connection(server, slow)
    witness.setblocking(False)
    served = 0
    while not has_answer(witness):
        device.check_in()
        served += 1
    assert served > 1, "others are served while those say nothing"
    witness.close()
    for name, connection in connections.items():
        with connection:
            head, _, body = read_all(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 "), name
        assert checkin.parse_error(body)[0] == "too-slow"
    assert time.monotonic() - begun > 8


def has_answer(connection: ssl.SSLSocket) -> bool:
    """Tell whether something has come; it is lost."""
    try:
        return bool(connection.recv(65536))
    except ssl.SSLWantReadError:
        return False


def test_plain_text_connection_does_not_disturb_others(server: Server, device: Device) -> None:
    with socket.create_connection(("127.0.0.1", server.device_port), timeout=HANG_S) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"HTTP" not in plain.recv(1000)
    device.check_in()


def test_tls_below_1_2_is_refused(server: Server, device: Device) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(server.keys.server_ca)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", server.device_port), timeout=HANG_S) as plain,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_resumed_session_keeps_its_identity(server: Server, device: Device) -> None:
    device.context.maximum_version = (
        ssl.TLSVersion.TLSv1_2
    )  # where a session is there right after the handshake
    with raw_connection(server, device) as first:
        session = first.session
    plain = socket.create_connection(("127.0.0.1", server.device_port), timeout=HANG_S)
    body = checkin.encode_request(checkin.Request(bytes(16), 1, None))
    with device.context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as second:
        assert second.session_reused
        head = (
            b"POST /v1/checkin HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            % len(body)
        )
        second.sendall(head + body)
        assert read_all(second).startswith(b"HTTP/1.1 200 ")
    assert row_of(server, device)["id"] == device.id


def test_listening_socket_says_that_it_is_tcp() -> None:
    with bind("127.0.0.1", 0) as sock:
        assert sock.proto == socket.IPPROTO_TCP, "else asyncio leaves Nagle on, and each answer waits 40 ms"


@pytest.mark.parametrize(
    ("start_days", "days", "usable"),
    [(-1, 1, True), (-2, -1, False), (1, 2, False)],
    ids=["now", "past", "future"],
)
def test_validity_counts_also_after_the_handshake(start_days: float, days: float, usable: bool) -> None:
    cert = make_cert("0123" + "ab" * 7, new_key(), start_days=start_days, days=days)
    scope = {"extensions": {"tls": {"client_cert_chain": [cert_pem(cert).decode()]}}}
    if usable:
        assert identify(scope).device_id == "0123" + "ab" * 7
    else:
        with pytest.raises(IdentityError, match="not valid at this time"):
            identify(scope)


def test_key_pair_that_does_not_match_cannot_even_connect(server: Server, device: Device) -> None:
    device.pem.write_bytes(cert_pem(device.cert) + key_pem(new_key()))
    with pytest.raises(ssl.SSLError):
        client_context(server.keys.server_ca, device.pem)
