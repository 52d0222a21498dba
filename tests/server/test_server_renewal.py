"""Keys and certificates over the air through the real server: what it carries to the CA and back."""

import hashlib
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from databases import BOTH, beside
from server_world import (
    Device,
    Keys,
    Refused,
    Server,
    cert_pem,
    client_context,
    fota,
    key_pem,
    make_cert,
    new_key,
)

from fota_wire import certify, checkin, cose, pkcs10
from fota_wire.host_crypto import public_xy, signer

DATABASES = BOTH


def order(device: Device, new: Any, *, factory: Any = None, name: str | None = None) -> bytes:
    """Return what a device signs with its factory key to have ``new`` certified."""
    factory, name = factory or device.key, name or device.id
    xy = public_xy(new)
    digest = hashlib.sha256(pkcs10.request_info(name, xy)).digest()
    csr = pkcs10.assemble(name, xy, signer(new)(digest))
    kid = cose.kid_of(public_xy(factory))
    certificate = device.cert.public_bytes(Encoding.DER)
    return certify.build_order(bytes.fromhex(device.id), csr, certificate, kid, signer(factory))


def post(device: Device, raw: bytes | None) -> tuple[str, bytes | None]:
    status, _, body = device.request("POST", "/v1/certificate", certify.encode_request(raw))
    if status != 200:
        raise Refused(status, *checkin.parse_error(body))
    return certify.parse_answer(body)


def act_as(device: Device, key: Any, certificate: bytes) -> None:
    """Have a device connect by another key and certificate from now on."""
    device.close()
    pem = device.pem.with_name(device.pem.name + "2")
    pem.write_bytes(cert_pem(x509.load_der_x509_certificate(certificate)) + key_pem(key))
    device.context = client_context(device.keys.server_ca, pem)
    device.key = key


def wanted_key(device: Device) -> int:
    """Check in; return what the server wants of the key."""
    device.check_in()
    return int(device.key_order)


@pytest.fixture
def operator(server: Server) -> dict[str, str]:
    return {
        "FOTA_SERVER": server.operator_url,
        "FOTA_TOKEN": server.token,
        "FOTA_CA": str(server.keys.server_ca),
        "FOTA_KEY_PASSWORD": "",
    }


@pytest.fixture
def ca_files(keys: Keys, tmp_path: Path) -> list[str]:
    key = tmp_path / "ca.pem"
    key.write_bytes(b"# fota device-ca " + 16 * b"0" + b"\n" + key_pem(keys.device_ca_key))
    key.chmod(0o600)
    return ["--ca-key", str(key), "--ca-cert", str(keys.folder / "device-ca.crt")]


def test_rotation_from_the_operators_word_to_the_new_key_in_use(
    server: Server, operator: dict[str, str], ca_files: list[str]
) -> None:
    device, new = Device(server), new_key()
    factory = device.key
    device.check_in()
    said = fota("device", "rotate", device.id, env=operator)
    assert said.stdout == f"device {device.id}: will rotate at its next check-in\n", said.stderr
    assert wanted_key(device) == certify.ROTATE
    raw = order(device, new)
    assert post(device, raw) == (certify.PENDING, None)
    assert "to rotate, certificate pending" in fota("device", "show", device.id, env=operator).stdout
    signed = fota("device", "certify", *ca_files, "--days", "90", env=operator)
    assert f"device {device.id}: certified" in signed.stdout, signed.stderr
    state, certificate = post(device, raw)
    assert state == certify.ISSUED
    assert certificate is not None
    act_as(device, new, certificate)
    with pytest.raises(Refused):  # not in use before the device has shown that it works
        device.check_in()
    assert post(device, None) == (certify.CURRENT, None)
    device.check_in()
    device.check_in()
    assert server.rows("SELECT refused_report FROM devices WHERE id = ?", device.id) == [
        {"refused_report": None}
    ], "REPORT is signed by the new key"
    shown = server.api("GET", f"devices/{device.id}")[1]["key"]
    assert (shown["in_use"], shown["wanted"], shown["order"]) == ("rotated", None, None)
    assert (shown["not_after"] - int(time.time())) // 86400 in (88, 89, 90)
    actions = [row["action"] for row in server.rows("SELECT action FROM audit WHERE subject = ?", device.id)]
    assert actions == ["device.rotate", "device.certify", "device.key"]
    act_as(device, factory, device.cert.public_bytes(Encoding.DER))
    device.check_in()  # the way back that cannot be lost


def test_nothing_is_certified_that_nobody_wanted(server: Server) -> None:
    device = Device(server)
    device.check_in()
    with pytest.raises(Refused) as refused:
        post(device, order(device, new_key()))
    assert refused.value.args[:2] == (403, "not-wanted")
    assert post(device, None) == (certify.CURRENT, None)
    assert server.api("GET", f"devices/{device.id}")[1]["key"]["in_use"] == "factory"


def test_order_that_the_factory_key_or_the_new_key_has_not_signed_is_refused(server: Server) -> None:
    device, new = Device(server), new_key()
    device.check_in()
    server.api("POST", f"devices/{device.id}/key", {"kind": "rotate"})
    flaws = {
        "order-key": order(device, new, factory=new),
        "csr": order(device, new, name="0123ffffffffffffee"),
        "order-kind": order(device, device.key),
    }
    for code, raw in flaws.items():
        with pytest.raises(Refused) as refused:
            post(device, raw)
        assert refused.value.args[:2] == (403, code)
    damaged = bytearray(order(device, new))
    damaged[-1] ^= 1
    with pytest.raises(Refused) as refused:
        post(device, bytes(damaged))
    assert refused.value.args[0] == 403
    status, _, body = device.request("POST", "/v1/certificate", b"\xa1\x01\x02")
    assert (status, checkin.parse_error(body)[0]) == (400, "certify-format")
    assert device.id not in [item["device"] for item in server.api("GET", "orders")[1]["orders"]]


def test_ca_that_finds_a_forged_order_refuses_it_and_says_so(
    server: Server, operator: dict[str, str], ca_files: list[str]
) -> None:
    """Somebody who owns the server's database plants an order for a key of his."""
    device, thief = Device(server), new_key()
    device.check_in()
    server.api("POST", f"devices/{device.id}/key", {"kind": "rotate"})
    post(device, order(device, new_key()))
    forged = order(device, thief, factory=thief)
    with beside(server.data / "fota.db") as connection:
        connection.execute('UPDATE device_keys SET "order" = ? WHERE device_id = ?', (forged, device.id))
    done = fota("device", "certify", *ca_files, env=operator)
    assert done.returncode == 1
    assert f"device {device.id}: refused" in done.stderr


def test_certificate_of_another_ca_or_key_is_not_taken(server: Server, keys: Keys) -> None:
    device, new = Device(server), new_key()
    device.check_in()
    server.api("POST", f"devices/{device.id}/key", {"kind": "rotate"})
    post(device, order(device, new))
    other_ca = new_key()
    issuer = (make_cert("other", other_ca, ca=True), other_ca)
    wrong = {
        "other CA": make_cert(device.id, new, issuer),
        "other key": make_cert(device.id, new_key(), (keys.device_ca, keys.device_ca_key)),
        "other name": make_cert("0123ffffffffffffee", new, (keys.device_ca, keys.device_ca_key)),
    }
    for what, certificate in wrong.items():
        raw = certificate.public_bytes(Encoding.DER)
        status, answer = server.api("POST", f"devices/{device.id}/certificate", raw=raw)
        assert (status, answer["error"]["code"]) == (409, "certificate"), what
    assert server.api("POST", f"devices/{device.id}/certificate", raw=b"-")[0] == 409
    other = Device(server)
    other.check_in()
    assert (
        server.api("POST", f"devices/{other.id}/certificate", raw=b"-")[1]["error"]["code"] == "unknown-order"
    )


def test_certificate_that_runs_out_is_renewed_without_anybody_asking(server: Server, keys: Keys) -> None:
    device = Device(server, start_days=-80, days=10)  # the last third of 90 days
    assert wanted_key(device) == certify.RENEW
    state, _ = post(device, order(device, device.key))
    assert state == certify.PENDING
    renewed = make_cert(device.id, device.key, (keys.device_ca, keys.device_ca_key), days=365)
    raw = renewed.public_bytes(Encoding.DER)
    assert server.api("POST", f"devices/{device.id}/certificate", raw=raw)[0] == 200
    assert post(device, order(device, device.key)) == (certify.ISSUED, raw)
    act_as(device, device.key, raw)
    assert post(device, None) == (certify.CURRENT, None)
    assert wanted_key(device) == 0


def test_device_that_comes_by_its_factory_key_after_the_other_ran_out_is_told_to_rotate(
    server: Server, keys: Keys
) -> None:
    device, new = Device(server), new_key()
    factory = device.key
    device.check_in()
    server.api("POST", f"devices/{device.id}/key", {"kind": "rotate"})
    post(device, order(device, new))
    raw = make_cert(device.id, new, (keys.device_ca, keys.device_ca_key)).public_bytes(Encoding.DER)
    assert server.api("POST", f"devices/{device.id}/certificate", raw=raw)[0] == 200
    act_as(device, new, raw)
    assert post(device, None) == (certify.CURRENT, None)
    with beside(server.data / "fota.db") as connection:  # as time will have it
        ended = (int(time.time()) - 1, device.id)
        assert connection.execute("UPDATE device_keys SET not_after = ? WHERE device_id = ?", ended).rowcount
    act_as(device, factory, device.cert.public_bytes(Encoding.DER))
    assert wanted_key(device) == certify.ROTATE


def test_retired_or_revoked_device_gets_no_certificate(server: Server) -> None:
    device = Device(server)
    device.check_in()
    server.api("POST", f"devices/{device.id}/key", {"kind": "rotate"})
    post(device, order(device, new_key()))
    waiting = [item["device"] for item in server.api("GET", "orders")[1]["orders"]]
    assert device.id in waiting
    server.api("POST", f"devices/{device.id}/revoke")
    assert device.id not in [item["device"] for item in server.api("GET", "orders")[1]["orders"]]
    with pytest.raises(Refused) as refused:
        post(device, order(device, new_key()))
    assert refused.value.args[:2] == (403, "revoked")


@pytest.mark.parametrize("body", [{}, {"kind": "lose"}, {"kind": 1}])
def test_what_is_wanted_has_to_be_one_of_two(server: Server, body: dict[str, object]) -> None:
    device = Device(server)
    device.check_in()
    assert server.api("POST", f"devices/{device.id}/key", body)[0] == 400
    assert server.api("POST", "devices/0123ffffffffffffee/key", {"kind": "renew"})[0] == 404


def test_whole_group_is_told_to_rotate_but_not_its_retired_devices(
    server: Server, operator: dict[str, str]
) -> None:
    devices = [Device(server) for _ in range(3)]
    for device in devices:
        device.check_in()
    server.api("POST", "groups", {"name": "rotating"})
    server.api("POST", "groups/rotating/devices", {"devices": [device.id for device in devices]})
    server.api("POST", f"devices/{devices[0].id}/retire", {})
    said = fota("device", "rotate", "--group", "rotating", env=operator)
    assert said.returncode == 0, said.stderr
    assert said.stdout == "group rotating: 2 device(s) will rotate at their next check-ins\n"
    assert said.stderr == "left out: 1 device(s) that are revoked or retired\n"
    row = server.rows("SELECT detail FROM audit WHERE action = 'device.rotate' ORDER BY id DESC LIMIT 1")
    assert row == [{"detail": '{"devices": 2}'}]
    assert [wanted_key(device) for device in devices[1:]] == [certify.ROTATE] * 2
    assert fota("device", "rotate", env=operator).returncode == 2
    assert fota("device", "renew", devices[1].id, "--group", "rotating", env=operator).returncode == 2
    assert fota("device", "renew", "--group", "none-such", env=operator).returncode == 3
