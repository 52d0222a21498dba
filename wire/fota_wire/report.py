"""REPORT (SPEC 5.4): what a device says about itself, signed by the key inside its crypto element."""

from fota_wire import cbor, check, cose
from fota_wire.errors import FormatError, VerifyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_wire.seams import Sign, Verify

AAD = b"fota/report/1"
STATES = ("trial", "confirmed", "fallback")
MAX_EVENTS = 16
MAX_REPORT = 6144


class Report:
    """A verified REPORT.

    ``slot`` "A" or "B"; ``image_hash`` 32 bytes of the running image; ``version`` text; ``sec_cnt``;
    ``floor``; ``root_version``; ``state`` "trial", "confirmed", or "fallback": in place of the confirmed
    image, which was refused; ``installed`` manifest digest of the last
    completed write, or None; ``events`` [(code, detail)]; ``reset_cause`` bits 31..24 of RCC_CSR.
    """

    def __init__(self, payload: "dict[object, object]") -> None:
        self.nonce = check.bstr(payload[2], "nonce", 16)
        self.device_id = check.bstr(payload[3], "device id", 9)
        self.slot = check.tstr(payload[4], "slot", 1)
        if self.slot not in ("A", "B"):
            raise FormatError("REPORT: slot is neither A nor B", "report-slot")
        self.image_hash = check.bstr(payload[5], "image hash", 32)
        self.version = check.tstr(payload[6], "version", 32)
        self.sec_cnt = check.uint(payload[7], "SEC_CNT", 0xFFFFFFFF)
        self.floor = check.uint(payload[8], "floor", 0xFFFFFFFF)
        self.root_version = check.uint(payload[9], "ROOT version")
        self.state = check.tstr(payload[10], "state", 16)
        if self.state not in STATES:
            raise FormatError("REPORT: state is none of trial, confirmed, fallback", "report-state")
        digest = payload[11]
        self.installed = None if digest is None else check.bstr(digest, "installed", 32)
        self.events = [_event(item) for item in check.array(payload[12], "events", 0, MAX_EVENTS)]
        self.reset_cause = check.uint(payload[13], "reset cause", 255)


def build(
    *,
    nonce: bytes,
    device_id: bytes,
    slot: str,
    image_hash: bytes,
    version: str,
    sec_cnt: int,
    floor: int,
    root_version: int,
    state: str,
    installed: bytes | None,
    events: "list[tuple[str, str]]",
    reset_cause: int,
    kid: bytes,
    sign: "Sign",
) -> bytes:
    """Return a signed REPORT; fields as in :class:`Report`. Of more than 16 events the oldest drop out."""
    payload = {1: 1, 2: nonce, 3: device_id, 4: slot, 5: image_hash, 6: version, 7: sec_cnt, 8: floor}
    payload.update({9: root_version, 10: state, 11: installed, 12: events[-MAX_EVENTS:], 13: reset_cause})
    return cose.sign1(cbor.encode(payload), kid, sign, AAD)


def open_report(raw: bytes, public_xy: bytes, nonce: bytes, device_id: bytes, verify: "Verify") -> Report:
    """Return the REPORT if the device with key ``public_xy`` made it for the server's ``nonce``.

    Raises:
        FormatError: malformed.
        VerifyError: codes ``report-key``, ``signature``, ``nonce``, ``device``.
    """
    if len(raw) > MAX_REPORT:
        raise FormatError(f"REPORT is longer than {MAX_REPORT} bytes", "limit")
    signed = cose.parse_sign1(raw)
    if signed.kid != cose.kid_of(public_xy) or signed.payload is None:
        raise VerifyError("REPORT is signed by another key than the device's", "report-key")
    signed.check(public_xy, AAD, signed.payload, verify)
    report = unsafe_read_payload(signed.payload)
    if report.nonce != nonce:
        raise VerifyError("REPORT answers another nonce: replayed?", "nonce")
    if report.device_id != device_id:
        raise VerifyError(f"REPORT is of device {report.device_id.hex()}", "device")
    return report


def unsafe_read_payload(raw: bytes) -> Report:
    """Return what the payload of a REPORT says; **no signature checked** here.

    Raises:
        FormatError: malformed.
    """
    payload = check.fields(cbor.decode(raw), "REPORT", (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13))
    if payload[1] != 1:
        raise FormatError("REPORT: format is not 1", "report-format")
    return Report(payload)


def _event(item: object) -> "tuple[str, str]":
    pair = check.array(item, "event", 2, 2)
    return check.tstr(pair[0], "event code", 32), check.tstr(pair[1], "event detail", 256)
