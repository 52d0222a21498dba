"""What the server's tests are made of: throw-away keys, images, devices with real TLS, a server process."""

import datetime
import functools
import hashlib
import http.client
import ipaddress
import json
import os
import secrets
import signal
import socket
import ssl
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import databases
import warm
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from lifeline import HANG_S

from fota_wire import assignment, checkin, cose, host_crypto, image, report, suit
from fota_wire import root as roots
from fota_wire.chips import stm32l476

VENDOR = bytes(range(16))
CLASS = bytes(range(16, 32))
FOTA = [sys.executable, "-c", "from fota_cli.main import main; main()"]


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def assign_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A key file as `fota keys new` writes it, but for the password."""
    kid = cose.kid_of(host_crypto.public_xy(key)).hex()
    return f"# fota assign/test {kid}\n".encode() + key_pem(key)


def cert_pem(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(serialization.Encoding.PEM)


def make_cert(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None,
    *,
    ca: bool = False,
    server: bool = False,
    start_days: float = -1,
    days: float = 10,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=start_days))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if server:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    elif not ca:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256())


def make_image(
    version: tuple[int, int, int, int],
    sec_cnt: int,
    size: int = 5000,
    class_id: bytes = CLASS,
    salt: str = "",
    chip: str = "",
) -> bytes:
    """A well-formed image whose content follows from its arguments."""
    body = hashlib.shake_256(repr((version, sec_cnt, size, salt)).encode()).digest(size)
    payload = struct.pack("<II", stm32l476.STACK_TOP_MAX, stm32l476.VECTOR_ADDRESS + 9) + body
    protected = image.build_protected(sec_cnt, class_id, chip=chip)
    hashed = image.build_header(len(payload), len(protected), version) + payload + protected
    key = image_key()
    digest = hashlib.sha256(hashed).digest()
    xy = host_crypto.public_xy(key)
    return hashed + image.build_unprotected(digest, cose.key_hash(xy), host_crypto.signer(key)(digest))


@functools.cache
def image_key() -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(424242, ec.SECP256R1())


@dataclass
class Keys:
    """All roles of one product, and the files that a server needs."""

    folder: Path
    root: list[Any] = field(default_factory=lambda: [new_key() for _ in range(3)])
    release: list[Any] = field(default_factory=lambda: [new_key() for _ in range(3)])
    assign: Any = field(default_factory=new_key)

    def __post_init__(self) -> None:
        self.device_ca_key, server_ca_key, server_key = new_key(), new_key(), new_key()
        self.device_ca = make_cert("test device CA", self.device_ca_key, ca=True, days=3650)
        server_ca = make_cert("test server CA", server_ca_key, ca=True, days=100)
        server_cert = make_cert("localhost", server_key, (server_ca, server_ca_key), server=True, days=100)
        self.genesis = self.root_document(1)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.server_ca = self.folder / "server-ca.crt"
        files = {
            "server-ca.crt": cert_pem(server_ca),
            "server.crt": cert_pem(server_cert),
            "server.pem": key_pem(server_key),
            "device-ca.crt": cert_pem(self.device_ca),
            "assign.pem": assign_pem(self.assign),
            "root.cbor": self.genesis,
        }
        for name, data in files.items():
            (self.folder / name).write_bytes(data)
            (self.folder / name).chmod(0o600)

    def root_document(
        self,
        version: int,
        min_sequence: int = 0,
        min_secver: int = 0,
        revoked: tuple[bytes, ...] = (),
        assign: Any = None,
        signers: int = 2,
        retired: tuple[bytes, ...] = (),
        image_keys: tuple[bytes, ...] = (),
        campaign: tuple[Any, ...] = (),
        log: tuple[Any, ...] = (),
    ) -> bytes:
        publics = [[host_crypto.public_xy(key) for key in group] for group in (self.root, self.release)]
        assign_xy = host_crypto.public_xy(assign or self.assign)
        roles = {
            roots.ROOT: (2, publics[0]),
            roots.RELEASE: (2, publics[1]),
            roots.ASSIGN: (1, [assign_xy]),
        }
        if campaign:
            roles[roots.CAMPAIGN] = (2, [host_crypto.public_xy(key) for key in campaign])
        if log:
            roles[roots.LOG] = (1, [host_crypto.public_xy(key) for key in log])
        raw = roots.build_root(
            version, roles, min_sequence, min_secver, revoked, retired=retired, image_keys=image_keys
        )
        for key in self.root[:signers]:
            raw = roots.FORM.add_signature(
                raw, cose.kid_of(host_crypto.public_xy(key)), host_crypto.signer(key)
            )
        return raw

    def envelope(
        self,
        file: bytes,
        sequence: int,
        *,
        signers: list[Any] | None = None,
        class_id: bytes = CLASS,
        **kwargs: Any,
    ) -> bytes:
        digest = kwargs.get("digest", hashlib.sha256(file).digest())
        size, text = kwargs.get("size", len(file)), kwargs.get("text")
        manifest = suit.build_manifest(
            sequence=sequence,
            vendor_id=VENDOR,
            class_id=class_id,
            digest=digest,
            size=size,
            text=text,
        )
        raw = suit.build_envelope(manifest, [], text)
        for key in self.release[:2] if signers is None else signers:
            raw = suit.add_signature(raw, cose.kid_of(host_crypto.public_xy(key)), host_crypto.signer(key))
        return raw


@dataclass(frozen=True)
class Built:
    """A release as CI hands it over."""

    version: str
    file: bytes
    envelope: bytes

    @property
    def image(self) -> image.Image:
        return image.parse_image(self.file)

    @property
    def manifest_digest(self) -> bytes:
        return suit.unsafe_read_manifest(self.envelope).manifest_digest

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.file).hexdigest()


def build_release(keys: Keys, version: str, sec_cnt: int, sequence: int, **kwargs: Any) -> Built:
    major, minor, revision = (int(part) for part in version.split("."))
    file = make_image((major, minor, revision, 0), sec_cnt, **kwargs)
    return Built(version, file, keys.envelope(file, sequence, class_id=kwargs.get("class_id", CLASS)))


class Server:
    """A server process of its own, started by the command line as an operator does."""

    def __init__(self, keys: Keys, data: Path, *options: str) -> None:
        self.keys = keys
        self.data = data
        self.options = options
        self.process: subprocess.Popen[str] | warm.Process | None = None

    def init(self, *more: str) -> "Server":
        words = ["server", "init", "--data", str(self.data), "--keys", str(self.keys.folder), *more]
        warm.run(*words, timeout=HANG_S).check_returncode()
        if databases.kind != databases.SQLITE:
            self.configure(database_url=databases.url_of(self.data / "fota.db"))
        return self

    def configure(self, **settings: Any) -> None:
        path = self.data / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))

    def start(self, **popen: Any) -> "Server":
        words = ["server", "run", "--data", str(self.data), "--port", "0", "--host", "127.0.0.1"]
        words += self.options
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        if popen:  # what only a process of its own from the start can have
            self.process = subprocess.Popen([*FOTA, *words], **streams, text=True, **popen)
        else:
            self.process = warm.start(*words, **streams)
        assert self.process.stdout
        assert self.process.stderr
        self.ready_line = self.process.stdout.readline()
        if not self.ready_line:
            self.process.wait(HANG_S)
            raise AssertionError(self.process.stderr.read())
        self.read_urls()
        return self

    def read_urls(self) -> None:
        urls = json.loads((self.data / "server.json").read_text())
        self.device_port = int(urls["device_url"].rsplit(":", 1)[1])
        self.operator_port = int(urls["operator_url"].rsplit(":", 1)[1])
        self.operator_url = urls["operator_url"]
        self.token = (self.data / "operator.token").read_text().strip()

    def stop(self, sig: int = signal.SIGTERM) -> tuple[int, str]:
        """End the process; return its exit code and what it said on stderr."""
        assert self.process
        self.process.send_signal(sig)
        _, err = self.process.communicate(timeout=HANG_S)
        return self.process.returncode, err

    def rows(self, sql: str, *args: Any) -> list[dict[str, Any]]:
        """Read the database beside the server."""
        return databases.rows(self.data / "fota.db", sql, *args)

    def tmp_files(self) -> list[Path]:
        return list((self.data / "artifacts" / "tmp").iterdir())

    def api(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, raw: bytes | None = None
    ) -> tuple[int, Any]:
        context = ssl.create_default_context(cafile=str(self.keys.server_ca))
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.operator_port, context=context, timeout=HANG_S
        )
        headers = {"authorization": f"Bearer {self.token if token is None else token}"}
        data = raw if raw is not None else (json.dumps(body).encode() if body is not None else None)
        try:
            connection.request(method, "/api/v1/" + path, data, headers)
            response = connection.getresponse()
            raw = response.read()
            is_json = response.headers.get_content_type() == "application/json"
            return response.status, json.loads(raw) if is_json else raw.decode()
        finally:
            connection.close()

    def publish(self, built: Built) -> tuple[int, Any]:
        status, answer = self.api("PUT", f"artifacts/{built.digest}", raw=built.file)
        assert status in (200, 201), answer
        return self.api("POST", "releases", raw=built.envelope)


ALL_DEVICES: list["Device"] = []
"""Those of the running test; their connections are closed after it."""


class Device:
    """A device as the server sees one: certificate, TLS, check-ins and signed reports; no flash."""

    def __init__(self, server: Server, device_id: str | None = None, *, tls: Any = None, **cert: Any) -> None:
        self.server = server
        self.keys = server.keys
        self.id = device_id or "0123" + secrets.token_hex(7)
        self.key = cert.pop("key", None) or new_key()
        issuer = cert.pop("issuer", (self.keys.device_ca, self.keys.device_ca_key))
        self.cert = make_cert(cert.pop("name", self.id), self.key, issuer, **cert)
        self.pem = self.keys.folder / f"device-{secrets.token_hex(6)}.pem"
        self.pem.write_bytes(cert_pem(self.cert) + key_pem(self.key))
        self.context = client_context(self.keys.server_ca, self.pem, tls)
        self.connection: http.client.HTTPSConnection | None = None
        ALL_DEVICES.append(self)
        self.root = roots.open_genesis(self.keys.genesis, host_crypto.verify)
        self.server_nonce: bytes | None = None
        self.group: str | None = None  # of CAMPAIGNs; None: an agent of before
        self.receipts = False  # it takes them: an agent of before does not
        self.shares = True  # the signature of an ASSIGNMENT
        self.held: bytes | None = None
        self.running: image.Image = image.parse_image(make_image((1, 0, 0, 0), 1))
        self.state = "confirmed"
        self.installed: bytes | None = None
        self.floor = 1
        self.events: list[tuple[str, str]] = []

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        if self.connection is None:
            self.connection = http.client.HTTPSConnection(
                "127.0.0.1", self.server.device_port, context=self.context, timeout=HANG_S
            )
        try:
            self.connection.request(method, path, body, headers or {})
            response = self.connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def connect(self) -> ssl.SSLSocket:
        """Return a connection of its own, of which the server knows: in TLS 1.3 it is not yet when we are."""
        sock = socket.create_connection(("127.0.0.1", self.server.device_port), timeout=HANG_S)
        tls = self.context.wrap_socket(sock, server_hostname="localhost")
        tls.sendall(b"\r\n")
        return tls

    def close(self) -> None:
        if self.connection:
            self.connection.close()
        self.connection = None

    def report(self, **changes: Any) -> bytes:
        key = changes.pop("key", self.key)
        values: dict[str, Any] = {
            "nonce": self.server_nonce,
            "device_id": bytes.fromhex(self.id),
            "slot": "A",
            "image_hash": self.running.image_hash,
            "version": ".".join(str(part) for part in self.running.version[:3]),
            "sec_cnt": self.running.sec_cnt,
            "floor": self.floor,
            "root_version": self.root.version,
            "state": self.state,
            "installed": self.installed,
            "events": self.events,
            "reset_cause": 4,
            "kid": cose.kid_of(host_crypto.public_xy(key)),
            "sign": host_crypto.signer(key),
        } | changes
        return report.build(**values)

    def post(self, body: bytes) -> tuple[int, bytes]:
        status, _, data = self.request("POST", "/v1/checkin", body, {"content-type": "application/cbor"})
        return status, data

    def check_in(self, *, with_report: bool = True, raw_report: bytes | None = None) -> "Answer":
        """One check-in, its answer verified as a device does it; raises ``Refused`` for other than 200."""
        nonce = secrets.token_bytes(16)
        if raw_report is None and with_report and self.server_nonce is not None:
            raw_report = self.report()
        request = checkin.Request(nonce, self.root.version, self.held, raw_report)
        request.shares = self.shares
        request.group = self.group
        request.receipts = self.receipts
        status, data = self.post(checkin.encode_request(request))
        if status != 200:
            raise Refused(status, *checkin.parse_error(data))
        response = checkin.parse_response(data)
        self.key_order = response.key_order
        for raw in response.roots:
            self.root = roots.step(self.root, raw, host_crypto.verify)
        self.server_nonce = response.nonce
        if response.report_status == "accepted":
            self.events = []
        signed = assignment.open_assignment(
            response.assignment, self.root, nonce, bytes.fromhex(self.id), host_crypto.verify
        )
        return Answer(response, signed)

    def take(self, built: Built, *, state: str = "trial") -> None:
        """Do as if the release had been written and booted."""
        self.running, self.state = built.image, state
        self.installed = self.held = built.manifest_digest


@dataclass(frozen=True)
class Answer:
    response: checkin.Response
    assignment: assignment.Assignment

    @property
    def wanted(self) -> bytes | None:
        return self.assignment.manifest_digest


class Refused(Exception):
    """The server answered a check-in with an error: (status, code, message)."""


def client_context(ca: Path, pem: Path | None, tls: Any = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca))
    if tls:
        context.minimum_version = context.maximum_version = tls
    if pem:
        context.load_cert_chain(pem)
    return context


def fota(
    *args: str, env: dict[str, str] | None = None, timeout: float = HANG_S
) -> subprocess.CompletedProcess[str]:
    """Run the ``fota`` command in a process of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FOTA_")}
    return warm.run(*args, timeout=timeout, env=clean | (env or {}))
