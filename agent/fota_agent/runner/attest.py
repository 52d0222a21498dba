"""ATTESTATION (SPEC 5.7), the device's part."""

from fota_wire import attestation, cose
from fota_wire.element import ATTESTATION_SLOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.seams import Board


def attest(board: "Board", report: bytes) -> "bytes | None":
    """Return the element's own word beside ``report``, or None if no key for it is in the certificate.

    Raises:
        DeviceError: the element does not answer, or refuses.
    """
    if board.certificate.find(attestation.EXTENSION_OID_DER) < 0:
        return None
    public = board.element.public_key(ATTESTATION_SLOT)
    if board.certificate.find(cose.key_hash(public)) < 0:
        return None
    random, counter, signature = board.element.attest(attestation.num_in(report), ATTESTATION_SLOT)
    return attestation.build(random, counter, signature, public)
