"""TLS whose client key cannot be loaded: the signature comes from outside, against a real ``ssl`` server."""

import datetime
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

from fota_agent import tls_cpython
from fota_agent.http import HttpTransport
from fota_wire import host_crypto
from fota_wire.errors import DeviceError, InputError, TransportError

DER = serialization.Encoding.DER
PEM = serialization.Encoding.PEM
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def issue(name, key, issuer_name, issuer_key, *, ca=False, days=3650):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(START + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )
    return builder.sign(issuer_key, hashes.SHA256())


class Pki:
    def __init__(self, folder: Path, days=3650) -> None:
        self.ca_key, self.server_key, self.device_key = (
            ec.generate_private_key(ec.SECP256R1()) for _ in "abc"
        )
        self.ca = issue("ca", self.ca_key, "ca", self.ca_key, ca=True)
        self.server = issue("localhost", self.server_key, "ca", self.ca_key, days=days)
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
            raw.settimeout(5)
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


def transport(pki, port, element, *, ca=None, certificate=None, host="localhost"):
    key = tls_cpython.ElementKey(element.public, element.sign)
    context = tls_cpython.client_context(
        (ca or pki.ca).public_bytes(DER), (certificate or pki.device).public_bytes(DER), key
    )
    connect = tls_cpython.connector(host, port, context, key, timeout_s=5)
    return HttpTransport(connect, host, lambda: time.monotonic_ns() // 1_000_000)


def get(client):
    status, _, body = client.request("GET", "/", {})
    data = bytearray(body.length)
    view = memoryview(data)
    at = 0
    while at < len(data):
        at += body.readinto(view[at:])
    return status, bytes(data)


@pytest.mark.parametrize("version", VERSIONS)
def test_handshake_signs_a_sha256_digest_outside_and_server_sees_the_device(pki, serve, version):
    element = Element(pki.device_key)
    server = serve(pki, version)
    client = transport(pki, server.port, element)
    assert get(client) == (200, b"0123456789abcdef01")
    assert [len(digest) for digest in element.digests] == [32]
    client.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_kept_alive_connection_signs_once_for_many_requests(pki, serve, version):
    element = Element(pki.device_key)
    server = serve(pki, version)
    client = transport(pki, server.port, element)
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
        get(transport(pki, server.port, element))


@pytest.mark.parametrize("version", VERSIONS)
def test_signature_by_another_key_is_refused_by_the_server(pki, serve, version):
    element = Element(pki.device_key)
    element.sign = host_crypto.signer(ec.generate_private_key(ec.SECP256R1()))
    server = serve(pki, version)
    with pytest.raises((TransportError, DeviceError)):
        get(transport(pki, server.port, element))
    time.sleep(0.05)
    assert server.errors


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
    with pytest.raises(TransportError, match="certificate is refused"):
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
