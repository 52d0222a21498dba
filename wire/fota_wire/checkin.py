"""Bodies of the device plane (SPEC 5.5): check-in request and response, and errors. Unsigned: TLS carries
them.
"""

from fota_wire import cbor, check
from fota_wire.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

CONTENT_TYPE = "application/cbor"
MAX_REQUEST = 8192
MAX_RESPONSE = 32768
MAX_ROOT_STEPS = 4
LEAST_ANSWER = 5120  # bytes of an answer that every device takes: one ROOT, or one manifest, and ANSWER_FRAME
ANSWER_FRAME = 1024  # bytes of an answer beside ROOT steps and manifest, at most
FIRST_EXTENSION = 16
KEY_ORDER, ATTESTATION, REFUSED_VALUES, LONGEST_ANSWER = 16, 17, 18, 19
SHARES, GROUP, CAMPAIGN, RECEIPTS = 20, 21, 22, 23
MAX_CAMPAIGN = 1024  # bytes, signatures included
MAX_TELEMETRY = 16
MAX_TOPIC = 32
MAX_VALUE = 256


class Request:
    """``nonce`` 16 bytes; ``root_version``; ``manifest_digest`` that the device holds, or None; ``report``
    or None; ``telemetry`` [(topic, time in s since 1970 or 0 for not known, JSON text)], the oldest first;
    ``refused_values``: of a parsed one, the places of published values that are malformed, and left out.
    """

    def __init__(
        self, nonce: bytes, root_version: int, manifest_digest: bytes | None, report: bytes | None = None
    ) -> None:
        self.nonce = nonce
        self.root_version = root_version
        self.manifest_digest = manifest_digest
        self.report = report
        self.attestation: bytes | None = None  # SPEC 5.7
        self.longest_answer = MAX_RESPONSE  # bytes that the device can take
        self.shares = False  # an ASSIGNMENT whose signature is shared is good for the device
        self.group: str | None = None  # its own, of CAMPAIGNs, "" for none; None: it takes none of these
        self.receipts = False  # it takes a ROOT with LOG keys, and envelopes with RECEIPTs
        self.telemetry: list[tuple[str, int, str]] = []
        self.refused_values: list[int] = []


class Response:
    """``assignment``; ``roots`` [ROOT]; ``manifest`` envelope, or None: nothing wanted, or the device holds
    it; ``interval`` in s until the next check-in; ``nonce`` 16 bytes for the next report; ``report_status``
    text; ``campaign``: of what is wanted, or None. The documents of a parsed one are views if that was parsed
    from a view.
    """

    def __init__(
        self,
        assignment: "bytes | memoryview",
        roots: "Sequence[bytes | memoryview]",
        manifest: "bytes | memoryview | None",
        interval: int,
        nonce: bytes,
        report_status: str,
    ) -> None:
        self.assignment = assignment
        self.roots = roots
        self.manifest = manifest
        self.interval = interval
        self.nonce = nonce
        self.report_status = report_status
        self.campaign: bytes | memoryview | None = None
        self.key_order = 0  # SPEC 5.6: 0 nothing, 1 renew, 2 rotate
        self.refused_values: list[int] = []  # places in the request's telemetry that were not stored


def encode_request(request: Request) -> bytes:
    """Return the body of a check-in."""
    body: dict[int, object] = {1: 1, 2: request.nonce, 3: request.root_version, 4: request.manifest_digest}
    if request.report is not None:
        body[5] = request.report
    if request.telemetry:
        body[6] = [list(item) for item in request.telemetry]
    if request.attestation is not None:
        body[ATTESTATION] = request.attestation
    if request.longest_answer != MAX_RESPONSE:
        body[LONGEST_ANSWER] = request.longest_answer
    if request.shares:
        body[SHARES] = 1
    if request.group is not None:
        body[GROUP] = request.group
    if request.receipts:
        body[RECEIPTS] = 1
    return cbor.encode(body)


def parse_request(raw: bytes) -> Request:
    """Return a check-in request.

    Raises:
        FormatError: malformed, or longer than 8 KiB. Not for a published value: one bad value costs itself.
    """
    optional = (5, 6, ATTESTATION, LONGEST_ANSWER, SHARES, GROUP, RECEIPTS)
    body = _body(raw, MAX_REQUEST, "check-in", (1, 2, 3, 4), optional)
    digest, report = body[4], body.get(5)
    request = Request(
        check.bstr(body[2], "nonce", 16),
        check.uint(body[3], "ROOT version"),
        None if digest is None else check.bstr(digest, "manifest digest", 32),
        None if 5 not in body else check.bstr(report, "REPORT"),
    )
    if ATTESTATION in body:
        request.attestation = check.bstr(body[ATTESTATION], "ATTESTATION", None, 512)
    request.longest_answer = check.uint(
        body.get(LONGEST_ANSWER, MAX_RESPONSE), "longest answer", MAX_RESPONSE
    )
    request.shares = check.uint(body.get(SHARES, 0), "shared ASSIGNMENT") > 0
    request.receipts = check.uint(body.get(RECEIPTS, 0), "RECEIPTs") > 0
    if GROUP in body:
        request.group = "" if body[GROUP] == "" else check.campaign_group(body[GROUP])
    if request.longest_answer < LEAST_ANSWER:
        raise FormatError(f"longest answer: less than {LEAST_ANSWER} bytes", "limit")
    if 6 in body:
        for place, item in enumerate(check.array(body[6], "telemetry", 1, MAX_TELEMETRY)):
            try:
                request.telemetry.append(parse_value(item))
            except FormatError:
                request.refused_values.append(place)
    return request


def parse_value(item: object) -> "tuple[str, int, str]":
    """Return (topic, time, JSON text) of one published value; that the text is JSON is not checked here.

    Raises:
        FormatError: malformed, or the topic is not one (SPEC 5.5).
    """
    parts = check.array(item, "published value", 3, 3)
    topic = check.tstr(parts[0], "topic", MAX_TOPIC)
    if not is_topic(topic):
        raise FormatError("topic is not 1 to 32 letters, digits, '.', '_', '-' or '/'", "topic")
    text = check.tstr(parts[2], "value", MAX_VALUE)
    if len(text.encode()) > MAX_VALUE:
        raise FormatError(f"value is longer than {MAX_VALUE} bytes", "limit")
    return topic, check.uint(parts[1], "time"), text


def is_topic(topic: str) -> bool:
    """Tell whether ``topic`` may name a published value (SPEC 5.5)."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/"
    return 0 < len(topic) <= MAX_TOPIC and all(letter in letters for letter in topic)


def encode_response(response: Response, manifest_held: bool = False) -> bytes:
    """Return the body of the answer; ``manifest_held`` leaves the manifest out instead of sending null."""
    body: dict[int, object] = {1: 1, 2: response.assignment, 3: response.roots, 5: response.interval}
    if not manifest_held:
        body[4] = response.manifest
    body[6] = response.nonce
    body[7] = response.report_status
    if response.key_order:
        body[KEY_ORDER] = response.key_order
    if response.refused_values:
        body[REFUSED_VALUES] = response.refused_values
    if response.campaign is not None:
        body[CAMPAIGN] = response.campaign
    return cbor.encode(body)


def parse_response(raw: "bytes | memoryview") -> Response:
    """Return the answer to a check-in; what it carries is unverified.

    Raises:
        FormatError: malformed, or longer than 32 KiB.
    """
    body = _body(
        raw, MAX_RESPONSE, "check-in response", (1, 2, 3, 5, 6, 7), (4, KEY_ORDER, REFUSED_VALUES, CAMPAIGN)
    )
    manifest, refused, wanted = body.get(4), body.get(REFUSED_VALUES), body.get(KEY_ORDER)
    steps = check.array(body[3], "ROOT steps", 0, MAX_ROOT_STEPS)
    response = Response(
        check.bstr(body[2], "ASSIGNMENT", None, 512),
        [check.blob(item, "ROOT", 4096) for item in steps],
        None if manifest is None else check.blob(manifest, "manifest", 4096),
        check.uint(body[5], "interval", 0xFFFFFFFF),
        check.bstr(body[6], "nonce", 16),
        check.tstr(body[7], "report status"),
    )
    response.refused_values = refused if isinstance(refused, list) else []
    if CAMPAIGN in body:
        response.campaign = check.blob(body[CAMPAIGN], "CAMPAIGN", MAX_CAMPAIGN)
    response.key_order = wanted if type(wanted) is int else 0
    return response


def encode_error(code: str, message: str) -> bytes:
    """Return the body of a 4xx or 5xx answer."""
    return cbor.encode({1: code[:64], 2: message[:256]})


def parse_error(raw: "bytes | memoryview") -> "tuple[str, str]":
    """Return (code, message) of a 4xx or 5xx answer.

    Raises:
        FormatError: malformed.
    """
    if len(raw) > MAX_REQUEST:
        raise FormatError("error body is too long", "limit")
    body = check.fields(cbor.decode(raw), "error", (1, 2))
    return check.tstr(body[1], "code", 64), check.tstr(body[2], "message")


def _body(
    raw: "bytes | memoryview",
    limit: int,
    what: str,
    required: "tuple[object, ...]",
    optional: "tuple[object, ...]",
) -> "dict[object, object]":
    if len(raw) > limit:
        raise FormatError(f"{what} is longer than {limit} bytes", "limit")
    found = cbor.decode(raw)
    if isinstance(found, dict):  # who is newer may say more: SPEC 5.5
        known = required + optional
        found = {key: value for key, value in found.items() if key in known or not _is_extension(key)}
    body = check.fields(found, what, required, optional)
    if body[1] != 1:
        raise FormatError(f"{what}: format is not 1", "checkin-format")
    return body


def _is_extension(key: object) -> bool:
    return type(key) is int and key >= FIRST_EXTENSION
