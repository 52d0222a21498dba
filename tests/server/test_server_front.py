"""nginx in front: who is believed, and who is not (ADR 72)."""

import datetime
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from fronts import FILES, ME, Fronted, ask
from lifeline import until
from server_world import Device, Keys, Refused, cert_pem, client_context, key_pem, make_cert, new_key
from test_server_refusals import traces

from fota_server import presented
from fota_wire import checkin

pytestmark = pytest.mark.usefixtures("fronted")


def signed(
    keys: Keys,
    name: str,
    key: Any,
    *extensions: tuple[x509.ExtensionType, bool],
    issuer: tuple[x509.Certificate, Any] | None = None,
    digest: Any = None,
    days: tuple[float, float] = (-1, 10),
) -> x509.Certificate:
    """A certificate with just these extensions."""
    ca, ca_key = issuer or (keys.device_ca, keys.device_ca_key)
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(ca_key, digest or hashes.SHA256())


def usage(**said: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: said.get(name, False) for name in names})


def test_configuration_is_well_formed(fronted: Fronted) -> None:
    said = fronted.nginx.tested()
    assert (said.returncode, "warn" in said.stderr.replace(str(fronted.nginx.folder), "")) == (0, False), said


def test_header_that_a_front_alone_may_send_is_refused_on_the_planes_themselves(fronted: Fronted) -> None:
    victim, liar = Device(fronted.server), Device(fronted.server)
    shown = quote(cert_pem(victim.cert).decode())
    fronted.server.device_port = fronted.direct_port
    try:
        for name, value in (
            ("X-Fota-Device-Certificate", shown),
            ("x-fota-device-address", "10.0.0.1"),
            ("X-FOTA-DEVICE-ANYTHING", ""),
        ):
            status, _, body = liar.request("POST", "/v1/checkin", b"", {name: value})
            assert (status, checkin.parse_error(body)[0]) == (400, "front-header")
            liar.close()
        liar.context = client_context(fronted.server.keys.server_ca, None)
        assert liar.request("POST", "/v1/checkin", b"", {"X-Fota-Device-Certificate": shown})[0] == 400
    finally:
        fronted.server.device_port = fronted.nginx.port
    assert traces(fronted.server, liar.id)["front-header"]["count"] == 3
    assert traces(fronted.server, victim.id) == {}
    assert fronted.server.rows("SELECT * FROM devices WHERE id = ?", victim.id) == []


def test_header_smuggled_in_from_outside_is_dropped(fronted: Fronted) -> None:
    server = fronted.server
    victim, liar = Device(server), Device(server)
    victim.check_in()
    shown = quote(cert_pem(victim.cert).decode())
    smuggled = {
        "X-Fota-Device-Certificate": shown,
        "x_fota_device_certificate": shown,
        "X-Fota-Device-Address": "192.0.2.1",
        "X-Fota-Device-Grant": "1",
        "X-Accel-Redirect": f"{FILES}/x",
    }
    assert liar.request("POST", "/v1/checkin", b"\xff", smuggled)[0] == 400
    assert traces(server, victim.id) == {}
    (trace,) = traces(server, liar.id).values()
    assert (trace["address"], trace["proved"]) == ("127.0.0.1", True)
    liar.close()
    liar.context = client_context(server.keys.server_ca, None)
    status, _, body = liar.request("POST", "/v1/checkin", b"\xff", smuggled)
    assert (status, checkin.parse_error(body)[0]) == (401, "no-certificate")
    status, _, body = liar.request("GET", "/", headers={"X-Fota-Device-Other": "1"})
    assert (status, checkin.parse_error(body)[0]) == (400, "front-header")


def test_front_that_says_half_or_says_it_twice_is_refused(fronted: Fronted) -> None:
    place = fronted.nginx.folder.parent / "f.sock"
    device = Device(fronted.server)
    address, shown = (
        "x-fota-device-address: 10.1.2.3",
        "x-fota-device-certificate: " + quote(cert_pem(device.cert).decode()),
    )
    assert b"400 Bad" in (said := ask(place, address, shown)), "an empty check-in, and it was heard"
    assert b"front" not in said
    for fields, code in (
        ((shown,), b"front"),
        (("x-fota-device-address: nowhere", shown), b"front"),
        ((address, shown, shown), b"front-header"),
        ((address, address, shown), b"front-header"),
        ((address, "x-fota-device-certificate: " + "a" * presented.MAX_ESCAPED + "a"), b"front-header"),
    ):
        said = ask(place, *fields)
        assert said.startswith(b"HTTP/1.1 400 "), fields
        assert checkin.parse_error(said.partition(b"\r\n\r\n")[2])[0].encode() == code
    for nonsense in ("", "%", "-----BEGIN", quote("-----BEGIN CERTIFICATE-----\nAAAA\n"), "a" * 8192):
        said = ask(place, address, "x-fota-device-certificate: " + nonsense)
        assert said.startswith(b"HTTP/1.1 401 "), nonsense
    assert [item["address"] for item in traces(fronted.server, device.id).values()] == ["10.1.2.3"]


def test_front_that_is_refused_before_it_has_said_all_still_hears_it(fronted: Fronted) -> None:
    more_than_the_socket_holds = bytes(1 << 20)
    said = ask(
        fronted.nginx.folder.parent / "f.sock",
        "x-fota-device-address: 10.1.2.3",
        body=more_than_the_socket_holds,
    )
    assert said.startswith(b"HTTP/1.1 401 ")


def test_nobody_but_the_user_of_the_front_is_heard(keys: Keys, tmp_path: Path) -> None:
    other = "daemon" if ME != "daemon" else "root"
    own = Fronted(keys, tmp_path, front_user=other)
    try:
        device = Device(own.server)
        status, headers, _ = device.request("POST", "/v1/checkin", b"")
        assert (status, headers["retry-after"]) == (503, "30"), "nginx runs as another user here"
        assert ask(tmp_path / "f.sock", "x-fota-device-address: 10.1.2.3") == b""
        assert own.server.rows("SELECT * FROM devices") == []
    finally:
        said = own.stop()
    assert f"front: closed a connection of user {os.getuid()}'s: config.json names another" in said


@pytest.mark.parametrize("whose", ["ours", "another's"])
def test_a_front_that_is_the_servers_own_user_is_warned_of(keys: Keys, tmp_path: Path, whose: str) -> None:
    other = "daemon" if ME != "daemon" else "root"
    own = Fronted(keys, tmp_path, front_user=ME if whose == "ours" else other)
    said = own.stop()
    assert ("is our own user, too: who takes nginx over has our keys" in said) == (whose == "ours")


OTHER = new_key()
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
STRANGE = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
PRESENTED: dict[str, Callable[[Keys, str, Any], x509.Certificate]] = {
    "plain": lambda keys, name, key: signed(keys, name, key),
    "for-clients": lambda keys, name, key: signed(
        keys, name, key, (x509.ExtendedKeyUsage([CLIENT, SERVER]), True)
    ),
    "for-servers": lambda keys, name, key: signed(keys, name, key, (x509.ExtendedKeyUsage([SERVER]), False)),
    "may-sign": lambda keys, name, key: signed(keys, name, key, (usage(digital_signature=True), True)),
    "may-agree": lambda keys, name, key: signed(keys, name, key, (usage(key_agreement=True), True)),
    "may-encipher": lambda keys, name, key: signed(keys, name, key, (usage(key_encipherment=True), True)),
    "strange": lambda keys, name, key: signed(keys, name, key, (STRANGE, False)),
    "strange-and-critical": lambda keys, name, key: signed(keys, name, key, (STRANGE, True)),
    "by-sha-384": lambda keys, name, key: signed(keys, name, key, digest=hashes.SHA384()),
    "expired": lambda keys, name, key: signed(keys, name, key, days=(-5, -0.01)),
    "not-yet": lambda keys, name, key: signed(keys, name, key, days=(0.1, 5)),
    "other-ca": lambda keys, name, key: signed(
        keys, name, key, issuer=(make_cert("another CA", OTHER, ca=True), OTHER)
    ),
    "forged-issuer": lambda keys, name, key: signed(keys, name, key, issuer=(keys.device_ca, OTHER)),
    "by-itself": lambda keys, name, key: signed(
        keys, name, key, issuer=(make_cert(name, key, ca=False), key)
    ),
}


@pytest.mark.parametrize("kind", PRESENTED)
def test_certificate_is_judged_as_in_a_handshake_of_our_own(fronted: Fronted, kind: str) -> None:
    server, verdicts = fronted.server, []
    for port in (fronted.direct_port, fronted.nginx.port):
        device = Device(server)
        device.pem.write_bytes(
            cert_pem(PRESENTED[kind](server.keys, device.id, device.key)) + key_pem(device.key)
        )
        device.context = client_context(server.keys.server_ca, device.pem)
        server.device_port = port
        try:
            device.check_in()
            verdicts.append(("taken", 0, ""))
        except (OSError, Refused) as refused:
            (code,) = traces(server, device.id)
            trace = traces(server, device.id)[code]
            assert (trace["proved"], trace["address"], "; serial " in trace["detail"]) == (
                False,
                "127.0.0.1",
                True,
            )
            said = refused.args[:2] if isinstance(refused, Refused) else (401, code)
            verdicts.append(("refused", *said))
            assert server.rows("SELECT * FROM devices WHERE id = ?", device.id) == []
        finally:
            server.device_port = fronted.nginx.port
            device.close()
    assert verdicts[0] == verdicts[1]
    assert verdicts[0][1] in (0, 401)


def test_certificate_that_ends_while_a_connection_is_kept_is_refused_from_then_on(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = presented.Presented([keys.device_ca])
    cert = make_cert("0123" + "ab" * 7, new_key(), (keys.device_ca, keys.device_ca_key))
    escaped = quote(cert_pem(cert).decode()).encode()
    assert book.tls(escaped)["client_cert_error"] is None
    for at, fault in (
        (cert.not_valid_before_utc.timestamp() - 1, "certificate-not-yet-valid"),
        (cert.not_valid_after_utc.timestamp(), None),
        (cert.not_valid_after_utc.timestamp() + 1, "certificate-expired"),
    ):
        monkeypatch.setattr(presented.time, "time", lambda at=at: at)
        found = book.tls(escaped)["client_cert_error"]
        assert (found and str(found).partition(":")[0]) == fault


def test_device_ca_that_ended_or_was_taken_away_is_believed_no_more(keys: Keys, tmp_path: Path) -> None:
    old_key = new_key()
    old_ca = make_cert("old device CA", old_key, ca=True, start_days=-9, days=-1)
    leaf = make_cert("0123" + "cd" * 7, new_key(), (old_ca, old_key))
    escaped = quote(cert_pem(leaf).decode()).encode()
    said = presented.Presented([keys.device_ca, old_ca]).tls(escaped)
    assert str(said["client_cert_error"]).startswith("certificate-expired:")
    own = Fronted(keys, tmp_path)
    try:
        other_key = new_key()
        other = make_cert("second device CA", other_key, ca=True, days=100)
        device = Device(own.server, issuer=(other, other_key))
        with pytest.raises(Refused):
            device.check_in()
        path = own.server.data / "keys" / "device-ca.crt"
        first = path.read_bytes()
        for content, heard in ((first + cert_pem(other), True), (first, False)):
            path.write_bytes(content)
            assert own.server.process
            own.server.process.send_signal(signal.SIGHUP)
            until(lambda heard=heard: is_heard(device) is heard, "the CAs of SIGHUP")
    finally:
        own.stop()


def is_heard(device: Device) -> bool:
    try:
        device.check_in()
    except Refused as refused:
        if refused.args[:2] != (401, "certificate-foreign"):
            raise
        return False
    return True
