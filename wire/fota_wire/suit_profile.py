"""The manifest inside a SUIT envelope: profile "one image, two banks" (SPEC 5.1), and nothing outside it.

Layout (labels of draft-ietf-suit-manifest-37):
``{1: 1, 2: sequence, 3: common, 7: validate, 9: invoke, 20: install, ? 23: text or its digest}``;
common ``{2: [[h'00']], 4: shared sequence}``; a sequence is a flat array command, argument, command,
argument ...
"""

from fota_wire import cbor, check
from fota_wire.errors import FormatError, VerifyError

SHA256 = -16
VERSION, SEQUENCE, COMMON, VALIDATE, INVOKE, INSTALL, TEXT = 1, 2, 3, 7, 9, 20, 23
COMPONENTS, SHARED = 2, 4
IF_VENDOR, IF_CLASS, IF_IMAGE = 1, 2, 3
OVERRIDE, FETCH, DO_INVOKE = 20, 21, 23
VENDOR_ID, CLASS_ID, IMAGE_DIGEST, IMAGE_SIZE, URI = 1, 2, 3, 14, 21

COMMANDS = {IF_VENDOR: "vendor condition", IF_CLASS: "class condition", IF_IMAGE: "image match"}
COMMANDS.update({OVERRIDE: "override", FETCH: "fetch", DO_INVOKE: "invoke"})
COMPONENT = (b"\x00",)
REPORT_ALL, REPORT_FAILURE = 15, 2
TEXT_LABELS = ((1, "vendor"), (2, "model"), (6, "version"))
UPDATE_DESCRIPTION = 2
MAX_TEXT = 1024  # bytes of the text member: a small device reads it, too, in one piece


class Content:
    """Fields of a manifest, as in :class:`fota_wire.suit.Manifest` (which see for units); ``text`` is what
    :func:`parse_text` reads.
    """

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.vendor_id = b""
        self.class_id = b""
        self.digest = b""
        self.size = 0
        self.uri = ""
        self.text: bytes | memoryview | None = None


def build_text(vendor: str, model: str, version: str, description: str | None = None) -> bytes:
    """Return the text member: for people, severable."""
    english: dict[object, object] = {COMPONENT: {1: vendor, 2: model, 6: version}}
    if description is not None:
        english[UPDATE_DESCRIPTION] = description
    return cbor.encode({"en": english})


def build_manifest(
    sequence: int, vendor_id: bytes, class_id: bytes, digest: bytes, size: int, text: bytes | None = None
) -> bytes:
    """Return the content of a manifest bstr. ``digest`` and ``size`` are those of the whole image file;
    ``text`` comes from :func:`build_text` and goes into the envelope too (or not: it is severable).
    """
    shared = [OVERRIDE, {VENDOR_ID: vendor_id, CLASS_ID: class_id}]
    shared += [OVERRIDE, {IMAGE_DIGEST: cbor.encode([SHA256, digest]), IMAGE_SIZE: size}]
    shared += [IF_VENDOR, REPORT_ALL, IF_CLASS, REPORT_ALL]
    install = [OVERRIDE, {URI: "payload/" + digest.hex()}, FETCH, REPORT_FAILURE, IF_IMAGE, REPORT_ALL]
    manifest = {
        VERSION: 1,
        SEQUENCE: sequence,
        COMMON: cbor.encode({COMPONENTS: [COMPONENT], SHARED: cbor.encode(shared)}),
        VALIDATE: cbor.encode([IF_IMAGE, REPORT_ALL]),
        INVOKE: cbor.encode([DO_INVOKE, REPORT_FAILURE]),
        INSTALL: cbor.encode(install),
    }
    if text is not None:
        manifest[TEXT] = [SHA256, member_digest(text)]
    return cbor.encode(manifest)


def member_digest(content: "bytes | memoryview") -> bytes:
    """Return SHA-256 over the encoded bstr of a severable member, 32 bytes."""
    return cbor.hash_bstr(content)


def digest_of(value: object, what: str) -> bytes:
    """Return the 32 bytes of a SUIT_Digest ``[-16, digest]``."""
    parts = check.array(value, f"digest of {what}", 2, 2)
    if parts[0] != SHA256:
        raise FormatError(f"digest of {what} is not SHA-256", "suit-digest")
    return check.bstr(parts[1], f"digest of {what}", 32)


def check_severed(manifest: "dict[object, object]", members: "dict[int, bytes | memoryview]") -> None:
    """Return if every member beside the manifest matches the digest that the manifest holds for it.

    Raises:
        VerifyError: one does not; code ``severed``.
        FormatError: the manifest holds no digest for it.
    """
    for label, content in members.items():
        expected = digest_of(manifest.get(label), f"member {label}")
        if member_digest(content) != expected:
            raise VerifyError(f"envelope member {label} is not the one that was signed", "severed")


def parse_manifest(raw: "bytes | memoryview", members: "dict[int, bytes | memoryview]") -> Content:
    """Return the fields of a manifest (content of its bstr), and the text of the envelope's other members:
    held against its digest, not looked into.

    Raises:
        FormatError: anything outside the profile (``suit-...``).
        VerifyError: a severed member does not match; code ``severed``.
    """
    manifest = check.fields(
        cbor.decode(raw), "manifest", (VERSION, SEQUENCE, COMMON, VALIDATE, INVOKE, INSTALL), (TEXT,)
    )
    if check.uint(manifest[VERSION], "manifest version") != 1:
        raise FormatError("manifest version is not 1", "suit-version")
    check_severed(manifest, members)
    content = Content(check.uint(manifest[SEQUENCE], "manifest sequence number"))
    _common(manifest[COMMON], content)
    _sequence(manifest[VALIDATE], "validate", (IF_IMAGE,))
    _sequence(manifest[INVOKE], "invoke", (DO_INVOKE,))
    install = _sequence(manifest[INSTALL], "install", (OVERRIDE, FETCH, IF_IMAGE))
    content.uri = check.tstr(check.fields(install[0], "install parameters", (URI,))[URI], "uri")
    if TEXT in manifest:
        digest_of(manifest[TEXT], "text")
    if TEXT in members:
        if len(members[TEXT]) > MAX_TEXT:
            raise FormatError(f"text of {len(members[TEXT])} bytes is longer than {MAX_TEXT}", "limit")
        content.text = members[TEXT]
    return content


def _common(value: object, content: Content) -> None:
    common = check.fields(_embedded(value, "common"), "common", (COMPONENTS, SHARED))
    if common[COMPONENTS] != [list(COMPONENT)]:
        raise FormatError("manifest is not about the one component h'00'", "suit-component")
    shared = _sequence(common[SHARED], "shared sequence", (OVERRIDE, OVERRIDE, IF_VENDOR, IF_CLASS))
    identity = check.fields(shared[0], "identity parameters", (VENDOR_ID, CLASS_ID))
    content.vendor_id = check.bstr(identity[VENDOR_ID], "vendor id", 16)
    content.class_id = check.bstr(identity[CLASS_ID], "class id", 16)
    image = check.fields(shared[1], "image parameters", (IMAGE_DIGEST, IMAGE_SIZE))
    content.digest = digest_of(_embedded(image[IMAGE_DIGEST], "image digest"), "image")
    content.size = check.uint(image[IMAGE_SIZE], "image size", 0xFFFFFFFF)


def _sequence(value: object, what: str, expected: "tuple[int, ...]") -> "list[object]":
    """Return the arguments of a flat sequence that holds exactly the ``expected`` commands, in that order."""
    items = check.array(_embedded(value, what), what, 2, 64)
    if len(items) % 2:
        raise FormatError(f"{what} has an odd number of elements", "suit-odd-sequence")
    commands = items[0::2]
    for command in commands:
        if type(command) is not int or command not in COMMANDS:
            raise FormatError(f"{what} has a command {command} outside the profile", "suit-command")
    for command in expected:
        if commands.count(command) < expected.count(command):
            raise FormatError(f"{what} has no {COMMANDS[command]}", "suit-missing-command")
    if tuple(commands) != expected:
        raise FormatError(f"{what} is not the sequence of the profile", "suit-sequence")
    arguments = items[1::2]
    for command, argument in zip(commands, arguments):  # noqa: B905  MicroPython's zip has no strict
        if command != OVERRIDE:
            check.uint(argument, f"reporting policy in {what}", 15)
    return arguments


def _embedded(value: object, what: str) -> object:
    return cbor.decode(check.blob(value, what, 4096))


def parse_text(raw: "bytes | memoryview") -> "dict[str, str]":
    """Return {"vendor", "model", "version", ? "description"} of a text member. FormatError if malformed."""
    languages = check.fields(cbor.decode(raw), "text", ("en",))
    english = check.fields(languages["en"], "text", (COMPONENT,), (UPDATE_DESCRIPTION,))
    labels = check.fields(english[COMPONENT], "text of the component", (1, 2, 6))
    text = {name: check.tstr(labels[label], name) for label, name in TEXT_LABELS}
    if UPDATE_DESCRIPTION in english:
        text["description"] = check.tstr(english[UPDATE_DESCRIPTION], "description", 1024)
    return text
