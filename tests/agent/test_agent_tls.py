"""TLS whose client key cannot be loaded: the signature comes from outside, against a real ``ssl`` server."""

import datetime
import re
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from date_cases import CASES, IDS
from lifeline import HANG_S, until

from fota_agent.transport import tls_cpython
from fota_agent.transport.http import HttpTransport
from fota_wire import host_crypto
from fota_wire.errors import DeviceError, InputError, TransportError

DER = serialization.Encoding.DER
PEM = serialization.Encoding.PEM
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def issue(name, key, issuer_name, issuer_key, *, ca=False, days=3650, start=START):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )
    return builder.sign(issuer_key, hashes.SHA256())


class Pki:
    def __init__(self, folder: Path, days=3650, start=START) -> None:
        self.ca_key, self.server_key, self.device_key = (
            ec.generate_private_key(ec.SECP256R1()) for _ in "abc"
        )
        self.ca = issue("ca", self.ca_key, "ca", self.ca_key, ca=True)
        self.server = issue("localhost", self.server_key, "ca", self.ca_key, days=days, start=start)
        self.device = issue("0123456789abcdef01", self.device_key, "ca", self.ca_key)
        self.chain = folder / "server.pem"
        pem = self.server_key.private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.chain.write_bytes(pem + self.server.public_bytes(PEM))
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(self.ca.public_bytes(PEM))


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


class Server:
    """A TLS server that requires a client certificate, and answers with the peer's common name."""

    def __init__(self, pki: Pki, version=None, answers=None) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pki.chain)
        self.context.load_verify_locations(pki.ca_file)
        self.context.verify_mode = ssl.CERT_REQUIRED
        if version:
            self.context.minimum_version = self.context.maximum_version = version
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connections = 0
        self.errors = []
        self.answers = answers
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                raw, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            raw.settimeout(HANG_S)
            try:
                with self.context.wrap_socket(raw, server_side=True) as tls:
                    self._talk(tls)
            except OSError as exc:
                self.errors.append(exc)

    def _talk(self, tls) -> None:
        peer = dict(pair[0] for pair in tls.getpeercert()["subject"])["commonName"].encode()
        while True:
            head = b""
            while b"\r\n\r\n" not in head:
                piece = tls.recv(4096)
                if not piece:
                    return
                head += piece
            body = self.answers(head) if self.answers else peer
            if body is None:
                return
            if len(body) < len(peer):
                tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(peer) + body)
                return
            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(peer) + body)

    def close(self) -> None:
        self.listener.close()


@pytest.fixture
def serve(pki):
    servers = []

    def start(*args, **kwargs):
        servers.append(Server(*args, **kwargs))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


class Element:
    """The device key as the agent sees it: a public key, and a function that signs."""

    def __init__(self, key) -> None:
        self.sign_digest = host_crypto.signer(key)
        self.public = host_crypto.public_xy(key)
        self.digests = []

    def sign(self, digest):
        self.digests.append(digest)
        return self.sign_digest(digest)


def transport(pki, port, element, *, ca=None, host="localhost", version=None, dates=None):
    key = tls_cpython.ElementKey(element.public, element.sign)
    tls12 = version is ssl.TLSVersion.TLSv1_2
    context = tls_cpython.client_context(
        [(ca or pki.ca).public_bytes(DER)], pki.device.public_bytes(DER), key, tls12
    )
    connect = tls_cpython.connector(host, port, context, key, HANG_S, dates)
    return HttpTransport(connect, host, lambda: time.monotonic_ns() // 1_000_000)


def get(client):
    status, _, body = client.request("GET", "/", {})
    data = bytearray(body.length)
    view = memoryview(data)
    at = 0
    while at < len(data):
        at += body.readinto(view[at:])
    return status, bytes(data)


def reaches(client):
    """Tell whether a request is answered; hang up."""
    try:
        return get(client)[0] == 200
    finally:
        client.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_handshake_signs_a_sha256_digest_outside_and_server_sees_the_device(pki, serve, version):
    element = Element(pki.device_key)
    server = serve(pki, version)
    client = transport(pki, server.port, element, version=version)
    assert get(client) == (200, b"0123456789abcdef01")
    assert [len(digest) for digest in element.digests] == [32]
    client.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_kept_alive_connection_signs_once_for_many_requests(pki, serve, version):
    element = Element(pki.device_key)
    server = serve(pki, version)
    client = transport(pki, server.port, element, version=version)
    for _ in range(5):
        assert get(client)[0] == 200
    assert len(element.digests) == 1
    assert server.connections == 1
    client.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_element_failure_in_handshake_is_reported_as_device_error(pki, serve, version):
    element = Element(pki.device_key)

    def refuse(_digest):
        raise DeviceError("crypto element: no answer on the bus")

    element.sign = refuse
    server = serve(pki, version)
    with pytest.raises(DeviceError, match="no answer on the bus"):
        get(transport(pki, server.port, element, version=version))


@pytest.mark.parametrize("version", VERSIONS)
def test_signature_by_another_key_is_refused_by_the_server(pki, serve, version):
    element = Element(pki.device_key)
    element.sign = host_crypto.signer(ec.generate_private_key(ec.SECP256R1()))
    server = serve(pki, version)
    with pytest.raises((TransportError, DeviceError)):
        get(transport(pki, server.port, element, version=version))
    until(lambda: server.errors)


def test_certificate_of_another_key_is_refused_before_any_connection(pki):
    other = Element(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(InputError, match="another key"):
        transport(pki, 1, other)


def test_public_key_off_the_curve_is_refused(pki):
    element = Element(pki.device_key)
    element.public = bytes(63) + b"\x01"
    with pytest.raises(DeviceError, match="not a point"):
        transport(pki, 1, element)


def test_server_of_another_ca_is_refused(pki, serve, tmp_path):
    other = Pki(tmp_path)
    server = serve(pki)
    says = r"certificate is refused: it comes from none of the CAs that this device trusts: .*--server-ca"
    with pytest.raises(TransportError, match=says):
        get(transport(pki, server.port, Element(pki.device_key), ca=other.ca))


def test_server_with_another_name_is_refused(pki, serve):
    server = serve(pki)
    with pytest.raises(TransportError, match="certificate is refused"):
        get(transport(pki, server.port, Element(pki.device_key), host="127.0.0.1"))


def test_server_with_expired_certificate_is_refused(pki, serve, tmp_path):
    expired = Pki(tmp_path, days=1)
    server = serve(expired)
    with pytest.raises(TransportError, match="expired"):
        get(transport(expired, server.port, Element(expired.device_key)))


def test_server_that_is_down_is_a_transport_error(pki):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(TransportError, match="refused"):
        get(transport(pki, port, Element(pki.device_key)))


def test_server_without_tls_13_is_refused_unless_the_setting_allows_it(pki, serve):
    server = serve(pki, ssl.TLSVersion.TLSv1_2)
    element = Element(pki.device_key)
    with pytest.raises(TransportError, match="does not speak this version of TLS"):
        get(transport(pki, server.port, element))
    assert reaches(transport(pki, server.port, element, version=ssl.TLSVersion.TLSv1_2))


IN_2020, IN_2050, VALID = 1_577_836_800, 2_524_608_000, START.timestamp() + 86_400 * 3000


def dates(clock, passed=0):
    return tls_cpython.Dates(lambda: passed, lambda: clock)


def test_clock_that_was_never_set_keeps_no_device_out(pki, serve, tmp_path):
    """Its certificate begins in 2026, and the clock says 2020: who is to know better?"""
    server = serve(pki)
    assert reaches(transport(pki, server.port, Element(pki.device_key), dates=dates(IN_2020)))


def test_clock_that_was_never_set_still_refuses_what_ended_before_a_known_time(pki, serve, tmp_path):
    expired = Pki(tmp_path, days=1)
    server = serve(expired)
    client = transport(expired, server.port, Element(expired.device_key), dates=dates(IN_2020))
    with pytest.raises(TransportError, match="has expired"):
        get(client)
    server = serve(pki)
    for passed, good in ((VALID, True), (START.timestamp() + 86_400 * 3651, False)):
        client = transport(pki, server.port, Element(pki.device_key), dates=dates(IN_2020, int(passed)))
        if good:
            assert reaches(client)
            continue
        with pytest.raises(TransportError, match="has expired"):
            get(client)


@pytest.mark.parametrize(("name", "begin", "end", "clock", "passed", "says"), CASES, ids=IDS)
def test_dates_of_certificates_are_judged_by_what_the_device_can_know(
    serve, tmp_path, name, begin, end, clock, passed, says
):
    made = Pki(tmp_path, (end - begin) // 86_400, datetime.datetime.fromtimestamp(begin, datetime.UTC))
    server = serve(made)
    client = transport(made, server.port, Element(made.device_key), dates=dates(clock, passed))
    if says is None:
        assert reaches(client)
        return
    with pytest.raises(TransportError, match=says):
        get(client)


@pytest.mark.parametrize(("name", "begin", "end", "clock", "passed", "says"), CASES[:-1], ids=IDS[:-1])
def test_dates_alone_say_the_same_of_a_certificate(name, begin, end, clock, passed, says):
    """What MicroPython goes by; the last case is about the CA's own."""
    told = dates(clock, passed).complaint(begin, end)
    assert (told == "") if says is None else re.search(says, told)


def test_clock_that_is_set_has_openssl_check_the_dates_again(pki, serve, tmp_path):
    """The flag for one connection is not left behind for the next one."""
    expired = Pki(tmp_path, days=1)
    server = serve(expired)
    told = [IN_2020]
    later = tls_cpython.Dates(lambda: 0, lambda: told[0])
    client = transport(expired, server.port, Element(expired.device_key), dates=later)
    with pytest.raises(TransportError, match="it has expired"):
        get(client)
    told[0] = IN_2050
    with pytest.raises(TransportError, match=r"expired \(is this device's clock right\?\)"):
        get(client)


def test_certificate_that_is_not_valid_yet_is_refused_by_a_clock_that_is_set(pki, serve, tmp_path):
    early = Pki(tmp_path, start=datetime.datetime(2200, 1, 1, tzinfo=datetime.UTC))
    server = serve(early)
    with pytest.raises(TransportError, match=r"not yet valid \(is this device's clock right"):
        get(transport(early, server.port, Element(early.device_key), dates=dates(time.time())))


def test_idle_connection_closed_by_server_is_opened_again(pki, serve):
    state = {"n": 0}

    def answer(_head):
        state["n"] += 1
        return None if state["n"] == 2 else b"0123456789abcdef01"

    server = serve(pki, answers=answer)
    client = transport(pki, server.port, Element(pki.device_key))
    assert get(client)[0] == 200
    assert get(client)[0] == 200
    assert server.connections == 2
    client.close()


def test_stream_cut_without_close_notify_is_not_an_end(pki, serve):
    server = serve(pki, answers=lambda _head: b"01234567")
    client = transport(pki, server.port, Element(pki.device_key))
    status, _, body = client.request("GET", "/", {})
    server.close()
    assert status == 200
    assert body.readinto(memoryview(bytearray(64))) == 8
    with pytest.raises(TransportError, match=r"broke off"):
        body.readinto(memoryview(bytearray(64)))
