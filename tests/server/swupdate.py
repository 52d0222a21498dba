"""SWUpdate, Debian's, in its role as a client of hawkBit: the file that it installs, and its processes."""

import datetime
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from lifeline import HANG_S
from server_world import Server, cert_pem, new_key

PROGRAM = shutil.which("swupdate") or "/usr/bin/swupdate"
AGAIN, SUCCESS, FAILED = "1", "2", "3"
"""What it is told after a reboot about the update before it (its option -c)."""


def why_not() -> str:
    """Why there is no SWUpdate to try, or nothing."""
    return "" if Path(PROGRAM).exists() else "no Debian package swupdate (make oracles)"


def cpio(files: list[tuple[str, bytes]]) -> bytes:
    """An archive in the form "crc" of cpio."""
    out = b""
    for number, (name, data) in enumerate([*files, ("TRAILER!!!", b"")], 1):
        fields = [number, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, sum(data) & 0xFFFFFFFF]
        out += b"070702" + b"".join(b"%08X" % value for value in fields) + name.encode() + b"\0"
        out += b"\0" * (-len(out) % 4) + data
        out += b"\0" * (-len(out) % 4)
    return out + b"\0" * (-len(out) % 512)


@dataclass
class Box:
    """A device that runs SWUpdate: its folder, and who signs what it installs."""

    folder: Path
    running: list["subprocess.Popen[str]"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.sockets = tempfile.mkdtemp(prefix="swu-")  # their names may have 107 bytes
        self.key, name = new_key(), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "who signs .swu")])
        now = datetime.datetime.now(datetime.UTC)
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])  # as SWUpdate asks for
        self.cert = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(1))
            .not_valid_after(now + datetime.timedelta(10))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(purpose, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        (self.folder / "signer.crt").write_bytes(cert_pem(self.cert))

    @property
    def installed(self) -> bytes:
        """What was installed last; nothing before."""
        place = self.folder / "rootfs.bin"
        return place.read_bytes() if place.exists() else b""

    def swu(self, version: str, content: bytes) -> bytes:
        """A signed file that has ``content`` installed."""
        place, digest = self.folder / "rootfs.bin", hashlib.sha256(content).hexdigest()
        description = (
            f'software = {{ version = "{version}"; hardware-compatibility: ["1.0"]; files: ('
            f' {{ filename = "rootfs.bin"; path = "{place}"; sha256 = "{digest}"; }} ); }}\n'
        ).encode()
        options = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary]
        signer = pkcs7.PKCS7SignatureBuilder().set_data(description)
        signature = signer.add_signer(self.cert, self.key, hashes.SHA256()).sign(
            serialization.Encoding.DER, options
        )
        return cpio(
            [("sw-description", description), ("sw-description.sig", signature), ("rootfs.bin", content)]
        )

    def start(
        self,
        server: Server,
        name: str,
        *,
        token: str | None = None,
        pem: Path | None = None,
        confirm: str | None = None,
    ) -> "subprocess.Popen[str]":
        """Have it ask ``server`` every second; the token stands in a file, not in its arguments."""
        ways = f'targettoken = "{token}";' if token else f'sslkey = "{pem}"; sslcert = "{pem}";'
        config = self.folder / "swupdate.cfg"
        config.write_text(
            "globals : { verbose = false; };\n"
            f'suricatta : {{ cafile = "{server.keys.server_ca}"; {ways} }};\n'
            'identify : ( { name = "hw"; value = "rev-A"; } );\n'
        )
        config.chmod(0o600)
        ask = f"-t DEFAULT -u https://localhost:{server.device_port} -i {name} -p 1"
        ask += f" -c {confirm}" if confirm else ""
        command = [PROGRAM, "-l", "5", "-M", "-H", "press:1.0", "-k", str(self.folder / "signer.crt")]
        with (self.folder / "swupdate.log").open("a") as log:
            process = subprocess.Popen(
                [*command, "-f", str(config), "-u", ask],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                env=os.environ | {"TMPDIR": self.sockets},
                cwd=self.folder,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def stop(self) -> None:
        """End its processes, as a reboot does."""
        while self.running:
            process = self.running.pop()
            os.killpg(process.pid, signal.SIGTERM)  # its children, too
            process.wait(HANG_S)

    @property
    def log(self) -> str:
        return (self.folder / "swupdate.log").read_text(errors="replace")
