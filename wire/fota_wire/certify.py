"""Keys and certificates over the air (SPEC 5.6): what a device asks for, and what it is answered."""

from fota_wire import cbor, check, cose
from fota_wire.errors import FormatError, VerifyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_wire.seams import Sign, Verify

AAD = b"fota/certify/1"
RENEWED_OID = "2.25.227366713270874209771199653954150578590"
"""Of the extension that marks a certificate ordered over the air: it cannot order others."""
RENEW, ROTATE = 1, 2
"""What the server wants, key 16 of its answer to a check-in: a new certificate, or a new key as well."""
PENDING, ISSUED, CURRENT = "pending", "issued", "current"
STATES = (PENDING, ISSUED, CURRENT)
MAX_CSR, MAX_CERTIFICATE, MAX_BODY = 512, 1024, 4096


class Order:
    """A verified order: ``csr`` (PKCS #10, DER, **not** verified here) and ``factory_certificate`` (DER)."""

    def __init__(self, device_id: bytes, csr: bytes, factory_certificate: bytes) -> None:
        self.device_id = device_id
        self.csr = csr
        self.factory_certificate = factory_certificate


def build_order(device_id: bytes, csr: bytes, factory_certificate: bytes, kid: bytes, sign: "Sign") -> bytes:
    """Return the order of a certificate, signed by the factory identity key."""
    return cose.sign1(cbor.encode({1: 1, 2: device_id, 3: csr, 4: factory_certificate}), kid, sign, AAD)


def unsafe_factory_certificate(raw: bytes) -> bytes:
    """Return the factory certificate that an order names; **no signature checked**.

    Raises:
        FormatError: malformed.
    """
    return _payload(cose.parse_sign1(raw).payload).factory_certificate


def open_order(raw: bytes, factory_xy: bytes, device_id: bytes, verify: "Verify") -> Order:
    """Return the order if the factory identity key of this device has signed it.

    Raises:
        FormatError: malformed.
        VerifyError: codes ``order-key``, ``signature``, ``device``.
    """
    signed = cose.parse_sign1(raw)
    if signed.kid != cose.kid_of(factory_xy) or signed.payload is None:
        raise VerifyError("the order is signed by another key than the factory's", "order-key")
    signed.check(factory_xy, AAD, signed.payload, verify)
    order = _payload(signed.payload)
    if order.device_id != device_id:
        raise VerifyError(f"the order is of device {order.device_id.hex()}", "device")
    return order


def _payload(raw: "bytes | None") -> Order:
    body = check.fields(cbor.decode(raw or b""), "order", (1, 2, 3, 4))
    if body[1] != 1:
        raise FormatError("order: format is not 1", "order-format")
    return Order(
        check.bstr(body[2], "device id", 9),
        check.bstr(body[3], "certificate request", None, MAX_CSR),
        check.bstr(body[4], "factory certificate", None, MAX_CERTIFICATE),
    )


def encode_request(order: "bytes | None") -> bytes:
    """Return the body of a POST /v1/certificate; without an order: "this is the certificate I came with"."""
    return cbor.encode({1: 1} if order is None else {1: 1, 2: order})


def parse_request(raw: bytes) -> "bytes | None":
    """Return the order in the body, not verified, or None. Raises FormatError."""
    body = check.fields(_decode(raw), "certificate request", (1,), (2,))
    if body[1] != 1:
        raise FormatError("certificate request: format is not 1", "certify-format")
    return check.bstr(body[2], "order", None, MAX_BODY) if 2 in body else None


def encode_answer(state: str, certificate: "bytes | None") -> bytes:
    """Return the body of the answer."""
    return cbor.encode({1: 1, 2: state, 3: certificate})


def parse_answer(raw: bytes) -> "tuple[str, bytes | None]":
    """Return (state, certificate or None). Raises FormatError."""
    body = check.fields(_decode(raw), "certificate answer", (1, 2, 3))
    state = check.tstr(body[2], "state", 16)
    if body[1] != 1 or state not in STATES:
        raise FormatError("certificate answer: format or state is not known", "certify-format")
    found = body[3]
    return state, None if found is None else check.bstr(found, "certificate", None, MAX_CERTIFICATE)


def _decode(raw: bytes) -> object:
    if len(raw) > MAX_BODY:
        raise FormatError(f"body is longer than {MAX_BODY} bytes", "limit")
    return cbor.decode(raw)
