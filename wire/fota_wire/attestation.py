"""ATTESTATION (SPEC 5.7): what the crypto element says itself, beside a REPORT, by a key for nothing else.

The attestation key signs only messages that the element makes inside. This one covers a nonce that comes from
the REPORT, and Counter0: neither firmware nor a bus can have another floor signed, or an old message taken
for a new one.
"""

import binascii
import hashlib
import struct

from fota_wire import cbor, check, cose, element
from fota_wire.errors import VerifyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_wire.seams import Verify

LABEL = b"fota/attest/1"
EXTENSION_OID = "2.25.224212999644601627861651482034943772747"
"""Of the extension of a device certificate that holds the KEYHASH of its attestation key."""
EXTENSION_OID_DER = binascii.unhexlify(b"06146982d1aded97b9a9aae7a998af93f9e1e4cd904b")
NUM_IN_SIZE = 20
NONCE_COMMAND = b"\x16\x00\x00"
GENDIG_COMMAND = b"\x15\x04\x00\x00"
SIGN_MODE = 0x40  # message made inside, whole serial number in it
FROM_INPUT_FLAG = 0  # TempKey comes from a random nonce
COUNTS_PER_FLOOR = 8


class Attestation:
    """A verified ATTESTATION. ``counter``: Counter0 of the element; ``floor``: what it stands for."""

    def __init__(self, counter: int) -> None:
        self.counter = counter
        self.floor = counter // COUNTS_PER_FLOOR


def extension_value(public_xy: bytes) -> bytes:
    """Return the DER value of that extension: an OCTET STRING."""
    return b"\x04\x20" + cose.key_hash(public_xy)


def num_in(report: bytes) -> bytes:
    """Return the 20 bytes that tie the element's message to a REPORT, and by that to the server's nonce."""
    return hashlib.sha256(LABEL + report).digest()[:NUM_IN_SIZE]


def build(random: bytes, counter: int, signature: bytes, public_xy: bytes) -> bytes:
    """Return an ATTESTATION of what the element answered."""
    return cbor.encode({1: 1, 2: random, 3: counter, 4: signature, 5: public_xy})


def open_attestation(
    raw: bytes, report: bytes, key_hash: bytes, serial: bytes, verify: "Verify"
) -> Attestation:
    """Return what the element with this serial number says beside a REPORT.

    ``key_hash``: KEYHASH of the attestation key, from the device certificate.

    Raises:
        FormatError: malformed.
        VerifyError: codes ``attestation-key``, ``attestation``.
    """
    body = check.fields(cbor.decode(raw), "ATTESTATION", (1, 2, 3, 4, 5))
    random = check.bstr(body[2], "random number", 32)
    counter = check.uint(body[3], "counter", element.COUNTER_MAX)
    signature = check.bstr(body[4], "signature", 64)
    public = check.bstr(body[5], "attestation key", 64)
    if body[1] != 1 or cose.key_hash(public) != key_hash:
        raise VerifyError("ATTESTATION is by another key than the certificate names", "attestation-key")
    for latched in (False, True):
        digest = hashlib.sha256(message(random, counter, num_in(report), serial, latched)).digest()
        if verify(public, digest, signature) is True:
            return Attestation(counter)
    raise VerifyError("ATTESTATION is not of this REPORT, counter and element", "attestation")


def message(random: bytes, counter: int, number: bytes, serial: bytes, latched: bool) -> bytes:
    """Return the 55 bytes that Sign(internal) hashes after Nonce(random) and GenDig(Counter0)."""
    temp_key = hashlib.sha256(random + number + NONCE_COMMAND).digest()
    sn8, sn01 = serial[8:9], serial[0:2]
    counted = b"\x00" + struct.pack("<I", counter) + bytes(20)
    temp_key = hashlib.sha256(bytes(32) + GENDIG_COMMAND + sn8 + sn01 + counted + temp_key).digest()
    slot_config, key_config = element.slot_rules(element.IDENTITY_SLOT, latched)
    sign = bytes((0x41, SIGN_MODE, element.ATTESTATION_SLOT, 0))
    flags = bytes((FROM_INPUT_FLAG, 0, 0))
    number_of_chip = sn8 + serial[4:8] + sn01 + serial[2:4]
    return temp_key + sign + slot_config + key_config + flags + number_of_chip + bytes(3)
