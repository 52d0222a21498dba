"""ASSIGNMENT (SPEC 5.3): the server's nonce-bound answer to one device: "the newest for you is this". Its
signature is its own, or one over a tree of those that were answered at the same moment.
"""

from fota_wire import cbor, check, cose, merkle
from fota_wire import root as roots
from fota_wire.errors import FormatError, VerifyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_wire.seams import Sign, Verify

AAD = b"fota/assign/1"
SHARED_AAD = b"fota/assign-shared/1"
MAX_SHARING = 256  # devices that one signature answers
NONCE_SIZE = 16
DEVICE_ID_SIZE = 9
MAX_ASSIGNMENT = 512


class Assignment:
    """A verified ASSIGNMENT: ``time`` in s since 1970, ``sequence`` of the manifest, ``manifest_digest`` 32
    bytes or None (nothing is wanted), ``root_version``, ``campaign`` (0 = none), ``valid_for`` in s.
    """

    def __init__(self, payload: "dict[object, object]") -> None:
        self.nonce = check.bstr(payload[2], "nonce", NONCE_SIZE)
        self.device_id = check.bstr(payload[3], "device id", DEVICE_ID_SIZE)
        self.time = check.uint(payload[4], "time")
        self.sequence = check.uint(payload[5], "manifest sequence")
        digest = payload[6]
        self.manifest_digest = None if digest is None else check.bstr(digest, "manifest digest", 32)
        self.root_version = check.uint(payload[7], "ROOT version")
        self.campaign = check.uint(payload[8], "campaign")
        self.valid_for = check.uint(payload[9], "validity", 0xFFFFFFFF)


def build(
    *,
    nonce: bytes,
    device_id: bytes,
    time: int,
    sequence: int,
    manifest_digest: bytes | None,
    root_version: int,
    campaign: int,
    valid_for: int,
    kid: bytes,
    sign: "Sign",
) -> bytes:
    """Return a signed ASSIGNMENT; fields as in :class:`Assignment`."""
    payload = {1: 1, 2: nonce, 3: device_id, 4: time, 5: sequence, 6: manifest_digest}
    payload.update({7: root_version, 8: campaign, 9: valid_for})
    return cose.sign1(cbor.encode(payload), kid, sign, AAD)


def share(payloads: "list[bytes]", kid: bytes, sign: "Sign") -> "list[bytes]":
    """Return the ASSIGNMENTs of 1 to MAX_SHARING encoded payloads, all under one signature."""
    root, paths = merkle.grow(payloads)
    size = len(payloads)
    signature = cose.sign1(cbor.encode([size, root]), kid, sign, SHARED_AAD, detached=True)
    return [cbor.encode([payloads[at], at, size, paths[at], signature]) for at in range(size)]


def open_assignment(
    raw: "bytes | memoryview", root: "roots.Root", nonce: bytes, device_id: bytes, verify: "Verify"
) -> Assignment:
    """Return the ASSIGNMENT if it is the answer to this device's ``nonce`` by an ASSIGN key of ``root``.

    The caller steps through newer ROOTs first, and uses a nonce once.

    Raises:
        FormatError: malformed.
        VerifyError: codes ``assign-key``, ``signature``, ``nonce``, ``device``, ``root-missing``.
    """
    if len(raw) > MAX_ASSIGNMENT:
        raise FormatError(f"ASSIGNMENT is longer than {MAX_ASSIGNMENT} bytes", "limit")
    signed, payload, aad, covered = unsafe_open(raw)
    keys = root.role_keys(roots.ASSIGN)
    if signed.kid not in keys:
        raise VerifyError(f"ROOT {root.version} does not know the ASSIGNMENT's key", "assign-key")
    signed.check(keys[signed.kid], aad, covered, verify)
    assignment = unsafe_read_payload(payload)
    if assignment.nonce != nonce:
        raise VerifyError("ASSIGNMENT answers another nonce: replayed?", "nonce")
    if assignment.device_id != device_id:
        raise VerifyError(f"ASSIGNMENT is for device {assignment.device_id.hex()}", "device")
    if assignment.root_version > root.version:
        raise VerifyError(
            f"ASSIGNMENT refers to ROOT {assignment.root_version}, here is {root.version}", "root-missing"
        )
    return assignment


def unsafe_open(raw: "bytes | memoryview") -> "tuple[cose.Sign1, bytes, bytes, bytes]":
    """Return (COSE_Sign1, payload, external_aad, what it signs) of an ASSIGNMENT: the payload itself, or a
    tree's size and root, in which the payload is a leaf; **no signature checked** here.

    Raises:
        FormatError: malformed.
    """
    if raw[:1] == b"\xd2":  # tag 18: it has a signature of its own
        signed = cose.parse_sign1(raw)
        payload = signed.payload or b""
        return signed, payload, AAD, payload
    payload, tree, blocks = merkle.unsafe_open(raw, "ASSIGNMENT", MAX_SHARING, 1)
    return cose.parse_sign1(blocks[0], True), payload, SHARED_AAD, tree


def unsafe_read_payload(raw: bytes) -> Assignment:
    """Return what the payload of an ASSIGNMENT says; **no signature checked** here.

    Raises:
        FormatError: malformed.
    """
    payload = check.fields(cbor.decode(raw), "ASSIGNMENT", (1, 2, 3, 4, 5, 6, 7, 8, 9))
    if payload[1] != 1:
        raise FormatError("ASSIGNMENT: format is not 1", "assign-format")
    return Assignment(payload)
