"""What a file is (not for devices): the kinds of ours, told from content, and the words for a wrong one.

Nothing is verified here. A kind is named only where the first bytes leave no doubt; of all else the one who
reads the file says what is wrong with it.
"""

import re
from collections.abc import Collection
from pathlib import Path

from fota_wire.errors import InputError
from fota_wire.files import name_of, peek

IMAGE = "a signed image"
ESPRESSIF = "an Espressif image"
MANIFEST = "a manifest"
ROOT = "a ROOT"
CAMPAIGN = "a CAMPAIGN"
MESSAGE = "an ASSIGNMENT or REPORT"
PRIVATE = "a private key"
PUBLIC = "a public key"
CERTIFICATE = "a certificate"
DER_CERTIFICATE = "a certificate in DER"
DER_PUBLIC = "a public key in DER"
DER_PRIVATE = "a private key in DER"
OPENSSH = "a private key of OpenSSH"
OPENSSH_PUBLIC = "a public key of OpenSSH"
PKCS12 = "a PKCS#12 file"
JWK = "a JSON Web Key"
REQUEST = "a certificate request"
TOKEN = "an API token"  # noqa: S105  the name of the kind
VDEV = "a virtual device"
HEX = "an Intel HEX file"
ELF = "an ELF file"
PARTITIONS = "a partition table"
DATABASE = "a SQLite file"
RECORD = "a device's record"
PLAN = "a plan of provisioning"
ROLLOUT = "a plan of a rollout"
BUS_LOG = "a bus log"
FOLDER = "a folder"
GATEWAY = "a gateway's folder"
SERVER = "a server's folder"
BACKUP = "a server's backup"
CARD = "a folder with an update"

FILE = "a file"
SECRET = "a password or PIN"  # noqa: S105
FIRMWARE = "firmware as the linker made it"
ROM = "a mask ROM"
POLICY = "a policy for a rollout"
RELEASE_POLICY = "a release policy"
DEVICES = "a list of devices, CSV or JSON lines"
FOREIGN = "an update for another client (.swu, .raucb)"
SIGN_LIST = "a list of images to sign"
TRAIL = "an exported audit trail"
SIGNATURE = "a signature"
LOG_KEY = "the public key of a log or witness"
WITNESS_KEY = "the private key of a witness"
CHECKPOINT = "a log's checkpoint"
LINKER_MAP = "a linker map"
COMPONENTS = "a list of components"
STAND_INS = "stand-ins of peripherals"
ATTESTATION = "a signed attestation"
"""The last eighteen are recognised nowhere: they have no form of their own."""

ALSO = {
    IMAGE: (ESPRESSIF,),
    PUBLIC: (PRIVATE,),
    FIRMWARE: (ELF, HEX, ESPRESSIF),
    SECRET: (TOKEN, HEX),
    FOLDER: (GATEWAY, SERVER, BACKUP, CARD),
    **dict.fromkeys((GATEWAY, SERVER, BACKUP, CARD), (FOLDER,)),
}
"""What may stand for a kind: a public key is in its private one, an unfilled folder may become any. A
certificate says who somebody is to TLS, and is nobody's role key by oversight.
"""
ADVICE = {
    (IMAGE, FIRMWARE): "; to sign it anew: fota strip",
    (CERTIFICATE, PUBLIC): "; if its key is meant: fota keys public",
    (DER_CERTIFICATE, CERTIFICATE): " in PEM: openssl x509 -inform der -in FILE -out NEW",
    (DER_PUBLIC, PUBLIC): " in PEM: openssl pkey -pubin -inform der -in FILE -out NEW",
    (DER_PRIVATE, PRIVATE): "; make PEM of it: fota keys import",
    (OPENSSH, PRIVATE): "; make PEM of a copy: ssh-keygen -p -m PKCS8 -f COPY",
    (OPENSSH_PUBLIC, PUBLIC): "; make PEM of it: ssh-keygen -e -m PKCS8 -f FILE",
    (PKCS12, PRIVATE): "; make PEM of it: openssl pkcs12 -nocerts -in FILE -out NEW",
    (PKCS12, CERTIFICATE): "; make PEM of it: openssl pkcs12 -nokeys -in FILE -out NEW",
}
"""What to do with a file of the first kind where the second is wanted."""

HEAD = 4096
API_TOKEN = re.compile(rb"fota_[0-9a-f]{16}_[0-9a-f]{64}\s*")
_CONTENT = (
    (b"\x3d", rb"\x3d\xb8\xf3\x96", IMAGE),
    (b"\xe9", rb"\xe9[\x01-\x10][\x00-\x05].{21}", ESPRESSIF),
    (b"\xd8", rb"\xd8\x6b[\xa0-\xbf]", MANIFEST),
    (bytes(range(0x81, 0x8A)), rb".(\x58.|\x59..)[\xa6-\xaf]\x01\x01", ROOT),
    (bytes(range(0x81, 0x8A)), rb".(\x58.|\x59..)\xa3\x01\x01\x02\x58\x20", CAMPAIGN),
    (b"\xd2", rb"\xd2\x84\x43", MESSAGE),
    (b"\xaa", rb"\xaa\x50[\x00\x01\x40-\xfe]", PARTITIONS),
    (b"\x30", rb"\x30\x82..\x30\x82..\xa0\x03\x02\x01\x02\x02", DER_CERTIFICATE),
    (b"\x30", rb"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01", DER_PUBLIC),
    (b"\x30", rb"\x30(\x81.|\x82..)\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01", DER_PRIVATE),
    (b"\x30", rb"\x30.\x02\x01\x01\x04\x20.{32}\xa0", DER_PRIVATE),
    (b"\x30", rb"\x30(\x82..|\x80)\x02\x01\x03\x30", PKCS12),
    (b"es", rb"(ecdsa-sha2|ssh|sk-ssh|sk-ecdsa)-[!-~]+ AAAA", OPENSSH_PUBLIC),
    (b"{", rb'\{\s*"[a-z0-9]+"\s*:[^{}]*"kty"|\{\s*"kty"', JWK),
    (b"F", rb"FOTAVDEV", VDEV),
    (b"\x7f", rb"\x7fELF", ELF),
    (b"S", rb"SQLite format 3\0", DATABASE),
    (b"\xef: \t\n\r\f\v", rb"(\xef\xbb\xbf)?\s*:[0-9A-Fa-f]{10}", HEX),
    (b"{", rb'\{"log": "fota bus log"', BUS_LOG),
    (b"{", rb'\{\s*"format": [0-9]+,\s*"serial":', RECORD),
    (b"{", rb'\{\s*"format": [0-9]+,\s*"placeholders":', PLAN),
    (b"{", rb'\{\s*"kind": "fota rollout plan"', ROLLOUT),
)
"""Its first byte is one of these, how it goes on, what it is: every start would pay for patterns that are
compiled, and few are needed.
"""
_IS_PEM = re.compile(rb"(?!#!)[^\0]*?-----BEGIN ")  # not a program with a certificate in it
_PEM = (
    (rb"-----BEGIN OPENSSH PRIVATE KEY-----", OPENSSH),
    (rb"-----BEGIN (ENCRYPTED |EC |RSA |DSA |ANY )?PRIVATE KEY-----", PRIVATE),
    (rb"-----BEGIN PUBLIC KEY-----", PUBLIC),
    (rb"-----BEGIN CERTIFICATE-----", CERTIFICATE),
    (rb"-----BEGIN (NEW )?CERTIFICATE REQUEST-----", REQUEST),
)
_IN_FOLDER = (
    ("gateway.toml", GATEWAY),
    ("backup.json", BACKUP),
    ("config.json", SERVER),
    ("manifest.suit", CARD),
)


def what_is(path: Path) -> str | None:
    """Return the kind of a file or folder; None: none of ours, not there, or not readable."""
    try:
        is_folder = path.is_dir()
        inside = [kind for name, kind in _IN_FOLDER if is_folder and (path / name).exists()]
    except (OSError, ValueError):
        return None
    return (inside[0] if inside else FOLDER) if is_folder else kind_of(peek(path, HEAD))


def kind_of(data: bytes) -> str | None:
    """Return the kind of a file that begins with ``data``; None: none that is certain."""
    if API_TOKEN.fullmatch(data):
        return TOKEN
    if _IS_PEM.match(data):
        found = [kind for pattern, kind in _PEM if re.search(pattern, data)]
        return found[0] if len(found) == 1 else None
    first = data[:1] or b"none"
    return next(
        (kind for begins, how, kind in _CONTENT if first in begins and re.match(how, data, re.DOTALL)), None
    )


def require_kind(path: Path, kinds: Collection[str], label: str) -> None:
    """Return unless ``path`` is certainly of another kind than those that ``label`` wants; none: any.

    Raises:
        InputError: it is, and names both; or it is no name of a file.
    """
    _require_name(path, label)
    if not kinds:
        return
    found = what_is(path)
    taken = {*kinds, *(also for kind in kinds for also in ALSO.get(kind, ()))}
    if found is None and FOLDER in taken and path.is_file():
        found = FILE
    if found is not None and found not in taken:
        advice = next((ADVICE[found, kind] for kind in kinds if (found, kind) in ADVICE), "")
        raise InputError(f"{label}: {name_of(path)} is {found}, expected {' or '.join(kinds)}{advice}")


def _require_name(path: Path, label: str) -> None:
    """Return unless ``path`` is what the file should hold, and not its name: a variable of the wrong type in
    CI, say. It may be a secret, and is not shown.

    Raises:
        InputError: it is.
    """
    text = str(path)
    if "\n" in text or "-----BEGIN" in text or API_TOKEN.fullmatch(text.encode(errors="replace")):
        raise InputError(
            f"{label}: that is no name of a file, but what is to be in it: put it into one, or hand it over"
            " as a stream (- or <(...))"
        )
