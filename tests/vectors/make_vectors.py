"""Writes the test vectors beside this file: ``python tests/vectors/make_vectors.py [DIRECTORY]``.

Every vector is ``{"name", "hex", "error"}``; ``error`` is null (accept) or the code that a verifier gives.
Keys are the published throw-away keys; nothing here depends on chance or time.
"""

import hashlib
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from fota_signer.examples import example_key
from fota_wire import (
    assignment,
    campaign,
    cbor,
    checkin,
    cose,
    der,
    host_crypto,
    host_tlog,
    image,
    journal,
    layout,
    merkle,
    receipt,
    report,
    status,
    suit,
)
from fota_wire import root as roots
from fota_wire.chips import stm32l476

Vector = dict[str, object]
VENDOR, CLASS = b"vendor-uuid-0001", b"class-uuid-00001"
NONCE, DEVICE = bytes(range(16)), bytes.fromhex("0123aabbccddeeff01")
TEXT = suit.build_text("example.com", "demo", "1.1.0")
SHARED = ((0, 1), (0, 2), (1, 2), (2, 3), (2, 7), (6, 7), (4, 5), (255, 256), (128, 129), (128, 255))
IMAGE_DIGEST = bytes(range(32))


def xy(name: str) -> bytes:
    return host_crypto.public_xy(example_key(name))


def kid(name: str) -> bytes:
    return cose.kid_of(xy(name))


def signer(name: str) -> Callable[[bytes], bytes]:
    return host_crypto.signer(example_key(name))


def vector(name: str, raw: bytes, error: str | int | None = None) -> Vector:
    label = status.STATUS[error][0] if isinstance(error, int) else error
    return {"name": name, "hex": raw.hex(), "error": label}


# --- CBOR


def cbor_vectors() -> list[Vector]:
    good = [
        0,
        23,
        24,
        255,
        256,
        65536,
        1 << 32,
        -1,
        -25,
        b"",
        b"x" * 24,
        "",
        "ü",
        [],
        [1, [2]],
        {},
        None,
        True,
    ]
    vectors = [vector(f"item-{number}", cbor.encode(item)) for number, item in enumerate(good)]
    vectors.append(vector("map-keys-sorted", cbor.encode({1: 2, b"a": 3, "z": 4, (b"\0",): 5})))
    bad = {
        "empty": ("", "cbor-truncated"),
        "truncated-head": ("19ff", "cbor-truncated"),
        "truncated-string": ("4361", "cbor-truncated"),
        "array-longer-than-input": ("9affffffff00", "cbor-truncated"),
        "trailing-bytes": ("0000", "cbor-trailing"),
        "long-form-integer": ("1817", "cbor-long-head"),
        "long-form-two-bytes": ("1900ff", "cbor-long-head"),
        "long-form-eight-bytes": ("1b00000000ffffffff", "cbor-long-head"),
        "long-form-string-head": ("580161", "cbor-long-head"),
        "indefinite-array": ("9f01ff", "cbor-indefinite"),
        "indefinite-map": ("bf0102ff", "cbor-indefinite"),
        "indefinite-string": ("5f4161ff", "cbor-indefinite"),
        "duplicate-key": ("a201010102", "cbor-duplicate-key"),
        "keys-out-of-order": ("a202000100", "cbor-order"),
        "float": ("f93c00", "cbor-simple"),
        "undefined": ("f7", "cbor-simple"),
        "simple-value": ("f820", "cbor-simple"),
        "reserved-head": ("1c", "cbor-reserved"),
        "unknown-tag": ("c100", "cbor-tag"),
        "boolean-key": ("a1f500", "cbor-key"),
        "map-as-key": ("a1a000", "cbor-key"),
        "bad-utf8": ("61ff", "cbor-utf8"),
        "deep-nesting": ("81" * 8 + "00", "cbor-depth"),
    }
    return vectors + [vector(name, bytes.fromhex(raw), error) for name, (raw, error) in bad.items()]


# --- SUIT


def manifest_map() -> dict[object, object]:
    raw = suit.build_manifest(7, VENDOR, CLASS, IMAGE_DIGEST, 200000, TEXT)
    decoded = cbor.decode(raw)
    assert isinstance(decoded, dict)
    return decoded


def signed(
    manifest: bytes,
    *,
    by: tuple[str, ...] = ("release-1", "release-2"),
    text: bytes | None = TEXT,
    digest: bytes | None = None,
    blocks: list[bytes] | None = None,
) -> bytes:
    """Return an envelope around any bytes, signed well unless ``digest`` or ``blocks`` says otherwise."""
    part = cbor.encode([-16, digest or suit.manifest_digest(manifest)])
    if blocks is None:
        blocks = [cose.sign1(part, kid(name), signer(name), detached=True) for name in by]
    members: dict[int, object] = {2: cbor.encode([part, *blocks]), 3: manifest}
    if text is not None:
        members[23] = text
    return cbor.encode(cbor.Tag(107, members))


def changed(label: int, value: object) -> bytes:
    manifest = manifest_map()
    if value is None:
        del manifest[label]
    else:
        manifest[label] = value
    return cbor.encode(manifest)


def shared(commands: list[object]) -> bytes:
    return changed(3, cbor.encode({2: [[b"\0"]], 4: cbor.encode(commands)}))


def block(protected: object, unprotected: object, name: str, signature: bytes | None = None) -> bytes:
    """Return a signature block with any headers, validly signed over them unless ``signature`` is given."""
    part = cbor.encode([-16, suit.manifest_digest(cbor.encode(manifest_map()))])
    header = cbor.encode(protected)
    if signature is None:
        tbs = cose.Sign1(header, None, None, b"").tbs(b"", part)
        signature = signer(name)(tbs)
    return cbor.encode(cbor.Tag(18, [header, unprotected, None, signature]))


def suit_vectors() -> list[Vector]:
    manifest = cbor.encode(manifest_map())
    good = signed(manifest)
    first, second = (block({1: -9, 4: kid(name)}, {}, name) for name in ("release-1", "release-2"))
    identity = [20, {1: VENDOR, 2: CLASS}]
    content = [20, {3: cbor.encode([-16, IMAGE_DIGEST]), 14: 200000}]
    slots = [20, {3: cbor.encode([-16, IMAGE_DIGEST]), 14: 1}]
    install = [20, {21: "payload/" + IMAGE_DIGEST.hex()}, 21, 2, 3, 15]
    deep = b"\x81" * 9 + b"\x00"
    wrapper = cbor.encode([cbor.encode([-16, suit.manifest_digest(manifest)]), first, second])
    pair2, pair3 = b"\x02" + cbor.encode(wrapper), b"\x03" + cbor.encode(manifest)
    crit = {1: -9, 2: [99], 4: kid("release-1")}
    other = "payload/" + bytes(32).hex()
    elsewhere = [20, {21: "https://evil.example/x"}, 21, 2, 3, 15]
    return [
        vector("two-of-three", good),
        vector("three-of-three", signed(manifest, by=("release-1", "release-2", "release-3"))),
        vector("text-severed", signed(manifest, text=None)),
        vector("with-a-receipt", suit.with_receipt(good, b"of whatever kind")),
        vector("receipt-that-is-no-string", good[:2] + b"\xa4" + good[3:] + b"\x39\x01\x00\x00", "field"),
        vector("receipt-in-front", b"\xd8\x6b\xa3\x39\x01\x00\x40" + pair2 + pair3, "cbor-order"),
        vector(
            "another-private-member", good[:2] + b"\xa4" + good[3:] + b"\x39\x01\x01\x40", "field-unknown"
        ),
        vector("unknown-third-signer", signed(manifest, by=("release-1", "release-2", "image-a"))),
        vector("one-signature-of-two", signed(manifest, by=("release-1",)), "threshold"),
        vector("no-signature", signed(manifest, by=()), "threshold"),
        vector("wrong-key", signed(manifest, by=("release-1", "image-a")), "threshold"),
        vector("duplicate-signer", signed(manifest, by=("release-1", "release-1")), "duplicate-signer"),
        vector(
            "signature-of-another-key",
            signed(manifest, blocks=[first, block({1: -9, 4: kid("release-2")}, {}, "release-1")]),
            "signature",
        ),
        vector(
            "content-only-digest",
            signed(manifest, digest=hashlib.sha256(manifest).digest()),
            "manifest-digest",
        ),
        vector(
            "manifest-of-another-release",
            signed(changed(2, 8), digest=suit.manifest_digest(manifest)),
            "manifest-digest",
        ),
        vector(
            "algorithm-unprotected",
            signed(manifest, blocks=[block({4: kid("release-1")}, {1: -9}, "release-1"), second]),
            "cose-unprotected",
        ),
        vector(
            "algorithm-missing",
            signed(manifest, blocks=[block({4: kid("release-1")}, {}, "release-1"), second]),
            "cose-algorithm",
        ),
        vector(
            "algorithm-es256",
            signed(manifest, blocks=[block({1: -7, 4: kid("release-1")}, {}, "release-1"), second]),
            "cose-algorithm",
        ),
        vector(
            "key-id-missing", signed(manifest, blocks=[block({1: -9}, {}, "release-1"), second]), "cose-kid"
        ),
        vector(
            "unknown-crit", signed(manifest, blocks=[block(crit, {}, "release-1"), second]), "cose-header"
        ),
        vector(
            "signature-truncated",
            signed(manifest, blocks=[block({1: -9, 4: kid("release-1")}, {}, "", b"\1" * 63), second]),
            "cose-signature",
        ),
        vector(
            "signature-zero",
            signed(manifest, blocks=[block({1: -9, 4: kid("release-1")}, {}, "", bytes(64)), second]),
            "cose-signature",
        ),
        vector(
            "five-signatures",
            signed(manifest, by=("release-1", "release-2", "release-3", "image-a", "image-b")),
            "limit",
        ),
        vector(
            "severed-text-swapped",
            signed(manifest, text=suit.build_text("example.com", "demo", "9.9.9")),
            "severed",
        ),
        vector("text-nobody-signed", signed(changed(23, None)), "field"),
        vector("manifest-before-wrapper", b"\xd8\x6b\xa2" + pair3 + pair2, "cbor-order"),
        vector("wrapper-twice", b"\xd8\x6b\xa3" + pair2 + pair2 + pair3, "cbor-duplicate-key"),
        vector("envelope-indefinite", b"\xd8\x6b\xbf" + pair2 + pair3 + b"\xff", "cbor-indefinite"),
        vector("envelope-untagged", good[2:], "suit-shape"),
        vector("trailing-bytes", good + b"\0", "cbor-trailing"),
        vector("long-form-head", good[:2] + b"\xb8\x03" + good[3:], "cbor-long-head"),
        vector("truncated", good[:-1], "cbor-truncated"),
        vector("too-long", signed(manifest, text=bytes(4096)), "limit"),
        vector(
            "integrated-payload",
            cbor.encode(cbor.Tag(107, {2: wrapper, 3: manifest, "#fw": b"x"})),
            "field-unknown",
        ),
        vector("deep-nesting", signed(changed(7, deep)), "cbor-depth"),
        vector("manifest-version-2", signed(changed(1, 2)), "suit-version"),
        vector("manifest-unknown-field", signed(changed(4, "https://example.com")), "field-unknown"),
        vector("manifest-without-install", signed(changed(20, None)), "field-missing"),
        vector(
            "vendor-condition-missing", signed(shared([*identity, *content, 2, 15])), "suit-missing-command"
        ),
        vector(
            "class-condition-missing", signed(shared([*identity, *content, 1, 15])), "suit-missing-command"
        ),
        vector("odd-sequence", signed(shared([*identity, *content, 1, 15, 2])), "suit-odd-sequence"),
        vector("unknown-command", signed(shared([*identity, *content, 1, 15, 2, 15, 99, 0])), "suit-command"),
        vector(
            "try-each", signed(shared([*identity, 15, [cbor.encode(slots)], 1, 15, 2, 15])), "suit-command"
        ),
        vector(
            "conditions-before-parameters",
            signed(shared([1, 15, 2, 15, *identity, *content])),
            "suit-sequence",
        ),
        vector(
            "vendor-id-short",
            signed(shared([20, {1: VENDOR[:15], 2: CLASS}, *content, 1, 15, 2, 15])),
            "field",
        ),
        vector(
            "digest-of-another-kind",
            signed(shared([*identity, 20, {3: cbor.encode([-43, bytes(32)]), 14: 1}, 1, 15, 2, 15])),
            "suit-digest",
        ),
        vector(
            "two-components",
            signed(
                changed(
                    3,
                    cbor.encode({2: [[b"\0"], [b"\1"]], 4: cbor.encode([*identity, *content, 1, 15, 2, 15])}),
                )
            ),
            "suit-component",
        ),
        vector("validate-without-match", signed(changed(7, cbor.encode([1, 15]))), "suit-missing-command"),
        vector(
            "install-without-match", signed(changed(20, cbor.encode(install[:4]))), "suit-missing-command"
        ),
        vector("uri-elsewhere", signed(changed(20, cbor.encode(elsewhere))), "suit-uri"),
        vector(
            "uri-of-another-payload",
            signed(changed(20, cbor.encode([20, {21: other}, 21, 2, 3, 15]))),
            "suit-uri",
        ),
    ]


# --- ROOT, ASSIGNMENT, REPORT


def make_root(version: int, by: tuple[str, ...], **changes: object) -> bytes:
    roles = {
        roots.ROOT: (2, [xy(f"root-{n}") for n in (1, 2, 3)]),
        roots.RELEASE: (2, [xy(f"release-{n}") for n in (1, 2, 3)]),
        roots.ASSIGN: (1, [xy("assign")]),
    }
    roles.update(changes.pop("roles", {}))  # type: ignore[call-overload]
    raw = roots.build_root(version, roles, **changes)  # type: ignore[arg-type]
    for name in by:
        raw = roots.FORM.add_signature(raw, kid(name), signer(name))
    return raw


def root_vectors() -> list[Vector]:
    """Vectors named ``step-...`` follow on the first one; the others stand alone."""
    two = ("root-1", "root-3")
    floors = {"min_sequence": 5, "min_secver": 2}
    new_keys = {roots.ROOT: (2, [xy("root-1"), xy("image-a"), xy("image-b")])}
    payload = cbor.decode(make_root(1, two))[0]  # type: ignore[index]
    aad = cose.sign1(payload, kid("root-1"), signer("root-1"), assignment.AAD, True)
    return [
        vector("genesis", make_root(1, two, **floors)),
        vector("genesis-one-signature", make_root(1, ("root-1",)), "threshold"),
        vector("genesis-release-keys", make_root(1, ("release-1", "release-2")), "threshold"),
        vector(
            "genesis-signed-twice-by-one",
            cbor.encode(
                [payload, *[cose.sign1(payload, kid("root-1"), signer("root-1"), roots.FORM.aad, True)] * 2]
            ),
            "duplicate-signer",
        ),
        vector("genesis-signed-as-assignment", cbor.encode([payload, aad]), "signature"),
        vector("step-next", make_root(2, two, **floors)),
        vector("step-higher-floors", make_root(2, two, min_sequence=6, min_secver=3)),
        vector("step-revokes", make_root(2, two, revoked=(bytes(32),), **floors)),
        vector("step-new-root-keys", make_root(2, ("root-1", "root-2", "image-a"), roles=new_keys, **floors)),
        vector(
            "step-old-keys-only", make_root(2, ("root-1", "root-2"), roles=new_keys, **floors), "threshold"
        ),
        vector(
            "step-new-keys-only", make_root(2, ("image-a", "image-b"), roles=new_keys, **floors), "threshold"
        ),
        vector("step-same-version", make_root(1, two, **floors), "root-version"),
        vector("step-skips-version", make_root(3, two, **floors), "root-version"),
        vector("step-lowers-floor", make_root(2, two, min_sequence=4, min_secver=2), "root-floor"),
        vector("step-lowers-counter", make_root(2, two, min_sequence=5, min_secver=1), "root-floor"),
    ]


CAMPAIGN_TIME = 1_800_000_000
CAMPAIGN_GROUP = "canary"


def campaign_root() -> bytes:
    """ROOT of the CAMPAIGN vectors; devices take a key that has two roles, people do not."""
    roles = {roots.CAMPAIGN: (2, [xy(f"release-{n}") for n in (1, 2, 3)])}
    return make_root(1, ("root-1", "root-3"), roles=roles)


def campaign_vectors() -> list[Vector]:
    """Each is asked of DEVICE, of CAMPAIGN_GROUP, at CAMPAIGN_TIME, about the manifest IMAGE_DIGEST."""
    at, two = CAMPAIGN_TIME, ("release-1", "release-3")
    place = campaign.place_of(IMAGE_DIGEST, DEVICE)
    whole = (at, at, campaign.WHOLE, "")

    def sealed_by(names: tuple[str, ...], payload: object, aad: bytes = campaign.FORM.aad) -> bytes:
        raw = cbor.encode(payload)
        blocks = [cose.sign1(raw, kid(name), signer(name), aad, True) for name in names]
        return cbor.encode([raw, *blocks])

    def of(
        *waves: tuple[int, int, int, str], digest: bytes = IMAGE_DIGEST, by: tuple[str, ...] = two
    ) -> bytes:
        raw = campaign.build_campaign(digest, list(waves))
        for name in by:
            raw = campaign.FORM.add_signature(raw, kid(name), signer(name))
        return raw

    def bent(payload: object) -> bytes:
        return sealed_by(two, payload)

    payload = {1: 1, 2: IMAGE_DIGEST, 3: [list(whole[:3])]}
    return [
        vector("whole", of(whole)),
        vector("eight-waves", of(*[(0, 1, 1, "x" * 32)] * 7, whole)),
        vector("last-second", of((0, at, campaign.WHOLE, ""))),
        vector("first-second", of((at, 1 << 40, campaign.WHOLE, ""))),
        vector("over", of((0, at - 1, campaign.WHOLE, "")), "campaign-time"),
        vector("not-yet", of((at + 1, 1 << 40, campaign.WHOLE, "")), "campaign-time"),
        vector("between-two", of((0, at - 1, 10000, ""), (at + 1, at + 2, 10000, "")), "campaign-time"),
        vector("just-in-the-share", of((at, at, place + 1, ""))),
        vector("just-outside-the-share", of((at, at, place, "")), "campaign-scope"),
        vector("its-group", of((at, at, campaign.WHOLE, CAMPAIGN_GROUP))),
        vector("another-group", of((at, at, campaign.WHOLE, "canar")), "campaign-scope"),
        vector("its-group-and-not-in-the-share", of((at, at, place, CAMPAIGN_GROUP)), "campaign-scope"),
        vector("another-manifest", of(whole, digest=bytes(32)), "campaign-manifest"),
        vector("nobody-signed", of(whole, by=()), "threshold"),
        vector("one-signature", of(whole, by=("release-2",)), "threshold"),
        vector("root-keys", of(whole, by=("root-1", "root-2")), "threshold"),
        vector("twice-by-one", sealed_by(("release-1",) * 2, payload), "duplicate-signer"),
        vector("signed-as-root", sealed_by(two, payload, roots.FORM.aad), "signature"),
        vector("signed-as-manifest", sealed_by(two, payload, b""), "signature"),
        vector("format", bent({**payload, 1: 2}), "campaign-format"),
        vector("unknown-field", bent({**payload, 4: 0}), "field-unknown"),
        vector("no-wave", bent({**payload, 3: []}), "limit"),
        vector("nine-waves", bent({**payload, 3: [list(whole[:3])] * 9}), "limit"),
        vector("share-of-nobody", bent({**payload, 3: [[at, at, 0]]}), "campaign-wave"),
        vector("share-above-all", bent({**payload, 3: [[at, at, 10001]]}), "field"),
        vector("ends-before-it-begins", bent({**payload, 3: [[at, at - 1, 1]]}), "campaign-wave"),
        vector("group-of-33", bent({**payload, 3: [[at, at, 1, "x" * 33]]}), "limit"),
        vector("wave-of-five", bent({**payload, 3: [[at, at, 1, "x", 0]]}), "limit"),
        vector("too-long", of(whole) + bytes(checkin.MAX_CAMPAIGN), "limit"),
    ]


def log_root() -> bytes:
    """ROOT of the RECEIPT vectors: one LOG key of two."""
    return make_root(1, ("root-1", "root-3"), roles={roots.LOG: (1, [xy("image-a"), xy("image-b")])})


def receipt_vectors() -> list[Vector]:
    """Each is asked about the manifest IMAGE_DIGEST, by the ROOT of `log_root`."""
    ours = host_tlog.Entry(IMAGE_DIGEST, CLASS, "1.1.0", 7, 1_800_000_000).encode()
    leaves = [b"leaf %d" % at for at in range(7)]
    leaves[2] = ours
    top, paths = merkle.grow(leaves)

    def by(name: str, size: int = 7, root: bytes = top, aad: bytes = receipt.AAD) -> bytes:
        return cose.sign1(cbor.encode([size, root]), kid(name), signer(name), aad, True)

    def of(*signers: str, leaf: bytes = ours, place: int = 2, size: int = 7, path: bytes = paths[2]) -> bytes:
        return cbor.encode([leaf, place, size, path, *(by(name) for name in signers)])

    def bent(*blocks: object) -> bytes:
        return cbor.encode([ours, 2, 7, paths[2], *blocks])

    alone = merkle.climb(ours, 0, 1, b"")
    other = ours.replace(IMAGE_DIGEST, bytes(32))
    strange = merkle.grow([*leaves[:2], b"\xa6\x01\x01\x02" + ours])[0]
    return [
        vector("of-seven", of("image-a")),
        vector("the-other-key", of("image-b")),
        vector("both-keys", of("image-a", "image-b")),
        vector("beside-a-stranger", of("release-1", "image-a")),
        vector("the-only-leaf", cbor.encode([ours, 0, 1, b"", by("image-a", 1, alone)])),
        vector("nobody-signed", cbor.encode([ours, 2, 7, paths[2]]), "limit"),
        vector("another-logs-key", of("release-1"), "threshold"),
        vector("the-assign-key", of("assign"), "threshold"),
        vector("twice-by-one", of("image-a", "image-a"), "duplicate-signer"),
        vector("nine-signatures", of(*["release-1"] * 9), "limit"),
        vector("signed-as-shared-assignment", bent(by("image-a", aad=assignment.SHARED_AAD)), "signature"),
        vector("signed-another-root", bent(by("image-a", root=bytes(32))), "signature"),
        vector("signed-another-size", bent(by("image-a", 8)), "signature"),
        vector("another-size", of("image-a", size=8), "signature"),
        vector("size-of-a-longer-path", of("image-a", size=9), "path"),
        vector("another-place", of("image-a", place=1), "signature"),
        vector("place-outside", of("image-a", place=7), "path"),
        vector("no-size", of("image-a", place=0, size=0, path=b""), "path"),
        vector("size-beyond-all", of("image-a", size=1 << 63), "field"),
        vector("longer-path", of("image-a", path=paths[2] + bytes(32)), "path"),
        vector("shorter-path", of("image-a", path=paths[2][32:]), "path"),
        vector("uneven-path", of("image-a", path=paths[2][:-1]), "path"),
        vector("no-path", of("image-a", path=b""), "path"),
        vector("path-of-another", of("image-a", path=paths[3]), "signature"),
        vector("leaf-of-another-release", of("image-a", leaf=other), "log-release"),
        vector("leaf-altered", of("image-a", leaf=ours[:-1] + b"\1"), "signature"),
        vector("leaf-that-is-none", cbor.encode([strange, 0, 1, b"", by("image-a")]), "log-release"),
        vector("a-node-for-a-leaf", of("image-a", leaf=paths[2][:64]), "log-release"),
        vector("not-an-array", b"\xa0", "field"),
        vector("garbage", b"\xff", "cbor-indefinite"),
    ]


def sealed(payload: dict[int, object], name: str, aad: bytes) -> bytes:
    return cose.sign1(cbor.encode(payload), kid(name), signer(name), aad)


def assignment_vectors() -> list[Vector]:
    base: dict[int, object] = {
        1: 1,
        2: NONCE,
        3: DEVICE,
        4: 1_800_000_000,
        5: 7,
        6: bytes(32),
        7: 1,
        8: 3,
        9: 86400,
    }

    def made(name: str = "assign", aad: bytes = assignment.AAD, **changes: object) -> bytes:
        return sealed({**base, **{int(key[1:]): value for key, value in changes.items()}}, name, aad)

    def shared(place: int, size: int, name: str = "assign", **changes: object) -> list[object]:
        """The parts of an ASSIGNMENT whose signature answers ``size`` devices: 0 payload, 1 place, 2 size,
        3 path, 4 signature.
        """
        others = [cbor.encode(base | {2: bytes([n]) * 16, 3: bytes([n]) * 9}) for n in range(size)]
        others[place] = cbor.encode(base | {int(key[1:]): value for key, value in changes.items()})
        parts = cbor.decode(assignment.share(others, kid(name), signer(name))[place])
        assert isinstance(parts, list)
        return parts

    def bent(place: int, size: int, part: int, value: object) -> bytes:
        parts = shared(place, size)
        parts[part] = value
        return cbor.encode(parts)

    lone = cose.parse_sign1(made()).payload or b""
    top, _ = merkle.grow([lone, lone])
    as_lone = cose.sign1(cbor.encode([2, top]), kid("assign"), signer("assign"), assignment.AAD, True)
    return [
        *(vector(f"shared-{n}-of-{of}", cbor.encode(shared(n, of))) for n, of in SHARED),
        vector("shared-another-place", bent(2, 7, 1, 3), "signature"),
        vector("shared-place-outside", bent(2, 7, 1, 7), "path"),
        vector("shared-another-size", bent(2, 7, 2, 8), "signature"),
        vector("shared-no-size", bent(0, 1, 2, 0), "path"),
        vector("shared-257", bent(0, 2, 2, 257), "field"),
        vector("shared-longer-path", bent(2, 7, 3, bytes(128)), "path"),
        vector("shared-uneven-path", bent(2, 7, 3, bytes(95)), "path"),
        vector("shared-payload-of-another", bent(2, 7, 0, cbor.encode(base | {4: 0})), "signature"),
        vector("shared-signature-of-another", bent(2, 7, 4, shared(2, 6)[4]), "signature"),
        vector(
            "shared-signed-as-lone", cbor.encode([lone, 0, 2, merkle.grow([lone])[0], as_lone]), "signature"
        ),
        vector("shared-release-key", cbor.encode(shared(1, 2, "release-1")), "assign-key"),
        vector("shared-another-nonce", cbor.encode(shared(1, 3, _2=bytes(16))), "nonce"),
        vector("shared-another-device", cbor.encode(shared(1, 3, _3=bytes(9))), "device"),
        vector("shared-six-parts", cbor.encode([*shared(1, 3), 0]), "limit"),
        vector("lone-signed-as-shared", made(aad=assignment.SHARED_AAD), "signature"),
        vector("wanted", made()),
        vector("nothing-wanted", made(_6=None)),
        vector("another-nonce", made(_2=bytes(16)), "nonce"),
        vector("another-device", made(_3=bytes(9)), "device"),
        vector("newer-root", made(_7=2), "root-missing"),
        vector("release-key", made("release-1"), "assign-key"),
        vector("signed-as-report", made(aad=report.AAD), "signature"),
        vector("signed-without-purpose", made(aad=b""), "signature"),
        vector("format-2", made(_1=2), "assign-format"),
        vector("extra-field", made(_10=0), "field-unknown"),
        vector("negative-time", made(_4=-1), "field"),
        vector("short-nonce", made(_2=bytes(15)), "field"),
    ]


def report_vectors() -> list[Vector]:
    """Signed by the throw-away key ``image-b`` in the place of a device key."""
    base: dict[int, object] = {1: 1, 2: NONCE, 3: DEVICE, 4: "A", 5: bytes(32), 6: "1.0.0", 7: 3, 8: 2, 9: 1}
    base.update({10: "confirmed", 11: None, 12: [["AP1", "self-test"]], 13: 4})

    def made(name: str = "image-b", aad: bytes = report.AAD, **changes: object) -> bytes:
        return sealed({**base, **{int(key[1:]): value for key, value in changes.items()}}, name, aad)

    return [
        vector("confirmed", made()),
        vector("trial", made(_4="B", _10="trial", _11=bytes(32), _12=[])),
        vector("another-nonce", made(_2=bytes(16)), "nonce"),
        vector("another-device", made(_3=bytes(9)), "device"),
        vector("another-key", made("image-a"), "report-key"),
        vector("signed-as-assignment", made(aad=assignment.AAD), "signature"),
        vector("unknown-slot", made(_4="C"), "report-slot"),
        vector("unknown-state", made(_10="fine"), "report-state"),
        vector("seventeen-events", made(_12=[["x", "y"]] * 17), "limit"),
        vector("format-2", made(_1=2), "report-format"),
    ]


# --- image and journal


def make_image(
    *,
    head: tuple[int, int] = (0x20010000, stm32l476.VECTOR_ADDRESS + 0x41),
    protected: bytes | None = None,
    tail: Callable[[bytes, bytes, bytes], bytes] = image.build_unprotected,
    patch: tuple[int, bytes] | None = None,
) -> bytes:
    """Return a small image signed by image-a; ``patch`` = (offset, bytes) is applied before hashing."""
    payload = struct.pack("<II", *head) + bytes(range(200))
    area = image.build_protected(5, CLASS) if protected is None else protected
    body = bytearray(image.build_header(len(payload), len(area), (1, 2, 3, 4)) + payload + area)
    if patch is not None:
        body[patch[0] : patch[0] + len(patch[1])] = patch[1]
    digest = hashlib.sha256(body).digest()
    return bytes(body) + tail(digest, cose.key_hash(xy("image-a")), signer("image-a")(digest))


def tlv(*entries: tuple[int, bytes], magic: int = 0x6907) -> bytes:
    body = b"".join(struct.pack("<HH", kind, len(value)) + value for kind, value in entries)
    return struct.pack("<HH", magic, len(body) + 4) + body


def overlong(digest: bytes, key_hash: bytes, signature: bytes) -> bytes:
    """Return an unprotected area whose last entry claims to be longer than the area."""
    area = tlv((0x10, digest), (1, key_hash), (0x22, signature))
    return area[: -len(signature) - 2] + b"\xff\0" + signature


def image_vectors() -> list[Vector]:
    good = make_image()
    s = status

    def area(*entries: tuple[int, bytes]) -> bytes:
        return make_image(protected=tlv(*entries, magic=0x6908))

    def tail(make: Callable[[bytes, bytes, bytes], bytes]) -> bytes:
        return make_image(tail=make)

    counter, cls = (0x50, struct.pack("<I", 5)), (0x75, CLASS)
    flipped = bytearray(good)
    flipped[0x250] ^= 1
    return [
        vector("good", good),
        vector("not-rom-fixed", make_image(patch=(4, bytes(4) + good[8:16] + bytes(4)))),
        vector("protected-extra-entry", area(counter, (0x74, VENDOR), cls)),
        vector("not-an-image", b"\0" * 1024, s.IM1),
        vector("empty", b"", s.IM1),
        vector("header-size", make_image(patch=(8, b"\x20\0")), s.IM2),
        vector("flag-encrypted", make_image(patch=(16, b"\4\1\0\0")), s.IM2),
        vector("flag-non-bootable", make_image(patch=(16, b"\x10\0\0\0")), s.IM2),
        vector("another-address", make_image(patch=(4, b"\0\0\4\x08")), s.IM2),
        vector("size-huge", make_image(patch=(12, b"\xf0\xff\xff\xff")), s.IM3),
        vector("truncated", good[:-1], s.IM3),
        vector("truncated-in-header", good[:100], s.IM3),
        vector("truncated-in-payload", good[:600], s.IM3),
        vector("bytes-behind", good + b"\0", s.IM4),
        vector("protected-size-differs", make_image(patch=(10, b"\x1c\0")), s.IM4),
        vector(
            "protected-size-larger", make_image(protected=image.build_protected(5, CLASS) + bytes(4)), s.IM4
        ),
        vector("header-pad-not-zero", make_image(patch=(28, b"\1\0\0\0")), s.IM2),
        vector("no-protected-area", make_image(protected=b""), s.IM4),
        vector("no-counter", area(cls), s.IM4),
        vector("counter-twice", area(counter, counter, cls), s.IM4),
        vector("counter-short", area((0x50, b"\5\0"), cls), s.IM4),
        vector("counter-zero", area((0x50, bytes(4)), cls), s.IM4),
        vector("no-class", area(counter), s.IM4),
        vector("class-short", area(counter, (0x75, CLASS[:15])), s.IM4),
        vector(
            "counter-unprotected",
            tail(lambda h, k, r: tlv((0x10, h), (1, k), (0x22, der.from_raw(r)), counter)),
            s.IM5,
        ),
        vector("hash-missing", tail(lambda h, k, r: tlv((1, k), (0x22, der.from_raw(r)))), s.IM4),
        vector("signature-missing", tail(lambda h, k, _: tlv((0x10, h), (1, k))), s.IM4),
        vector(
            "signature-twice",
            tail(lambda h, k, r: tlv((0x10, h), (1, k), (0x22, der.from_raw(r)), (0x22, der.from_raw(r)))),
            s.IM4,
        ),
        vector(
            "keyhash-behind-signature",
            tail(lambda h, k, r: tlv((0x10, h), (0x22, der.from_raw(r)), (1, k))),
            s.IM4,
        ),
        vector("entry-beyond-area", tail(lambda h, k, r: overlong(h, k, der.from_raw(r))), s.IM4),
        vector("content-flipped", bytes(flipped), s.IM6),
        vector(
            "der-trailing",
            tail(lambda h, k, r: tlv((0x10, h), (1, k), (0x22, der.from_raw(r) + b"\0"))),
            s.IM11,
        ),
        vector("der-raw", tail(lambda h, k, r: tlv((0x10, h), (1, k), (0x22, r))), s.IM11),
        vector("stack-outside", make_image(head=(0x20018000, stm32l476.VECTOR_ADDRESS + 1)), s.IM12),
        vector("stack-unaligned", make_image(head=(0x20010004, stm32l476.VECTOR_ADDRESS + 1)), s.IM12),
        vector("reset-even", make_image(head=(0x20010000, stm32l476.VECTOR_ADDRESS)), s.IM12),
        vector("reset-behind", make_image(head=(0x20010000, stm32l476.VECTOR_ADDRESS + 209)), s.IM12),
        vector(
            "another-key", good.replace(cose.key_hash(xy("image-a")), cose.key_hash(xy("image-b"))), s.IM8
        ),
        vector(
            "another-signature",
            tail(lambda h, k, _: image.build_unprotected(h, k, signer("image-b")(h))),
            s.IM10,
        ),
    ]


def journal_vectors() -> list[Vector]:
    a, b, none = layout.SLOT_A, layout.SLOT_B, layout.SLOT_NONE

    def cell(*values: int) -> bytes:
        return journal.pack(journal.Record(*values))

    good = cell(7, a, b, journal.TRIAL, 2, 0)
    return [
        vector("first-boot", cell(1, a, none, journal.NONE)),
        vector("staged", cell(2, a, b, journal.STAGED)),
        vector("trial", good),
        vector("rejected", cell(9, b, a, journal.REJECTED, 0, status.IM6)),
        vector("reverted", cell(10, b, a, journal.REVERTED, 0, status.AP1)),
        vector("highest-sequence", cell(0xFFFFFF, a, none, journal.NONE)),
        vector("blank", b"\xff" * 16, "absent"),
        vector("zeros", bytes(16), "absent"),
        vector("crc", good[:-1] + bytes([good[-1] ^ 1]), "absent"),
        vector("torn-second-half", good[:8] + b"\xff" * 8, "absent"),
        vector("sequence-zero", cell(0, a, none, journal.NONE), "absent"),
        vector("sequence-all-ones", cell(0xFFFFFFFF, a, none, journal.NONE), "absent"),
        vector("unknown-slot", cell(3, 0x11, none, journal.NONE), "absent"),
        vector("unknown-candidate", cell(3, a, 0, journal.NONE), "absent"),
        vector("unknown-state", cell(3, a, b, 0), "absent"),
        vector("tries-without-trial", cell(3, a, b, journal.STAGED, 1), "absent"),
        vector("candidate-is-confirmed", cell(3, a, a, journal.STAGED), "absent"),
    ]


def all_vectors() -> dict[str, str]:
    """Return {file name: content}."""
    tables = {
        "cbor": cbor_vectors(),
        "suit": suit_vectors(),
        "root": root_vectors(),
        "campaign": campaign_vectors(),
        "receipt": receipt_vectors(),
        "assignment": assignment_vectors(),
        "report": report_vectors(),
        "image": image_vectors(),
        "journal": journal_vectors(),
    }
    return {f"{name}.json": json.dumps(table, indent=1) + "\n" for name, table in tables.items()}


if __name__ == "__main__":
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for file_name, text in all_vectors().items():
        (directory / file_name).write_text(text)
