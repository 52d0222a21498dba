"""Reads ``fota.toml``, the release policy beside a product's sources (docs/releases.md has its grammar).

Strict: a key that is not known, a value of another type or out of range is refused by its name. Nothing here
opens another file; what the rules come to for a commit is in :mod:`fota_signer.release_rules`.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from fota_signer import identity
from fota_signer.toml_table import Table, read_toml
from fota_wire import layout
from fota_wire.errors import InputError
from fota_wire.host_values import UsageError, shown
from fota_wire.release import MAX_SEQUENCE

NAME = "fota.toml"
LIMIT = 16384
"""Bytes: dotted keys cost the library the square of their length."""
BEFORE, ABOUT = ("sbom", "vex"), ("provenance", "rehearsal")
"""Kinds of evidence: what is there before the build, and what is said about an image that was built. Their
files go into the signed manifest, but those that come ``after`` it.
"""
PARTS = ("major", "minor", "revision", "build")
MAX_SIGNATURES = 4


class VersionRule(NamedTuple):
    """Where the version comes from: ``kind`` "tag" (``value``: a pattern with one ``*``), "file", "fixed"."""

    kind: str
    value: str


class NumberRule(NamedTuple):
    """Where a number comes from: ``number`` itself, the first line of ``file``, or the version's parts times
    ``weights`` (0: does not count), ``plus`` a number. One of the three is not None.
    """

    number: int | None = None
    file: str | None = None
    weights: tuple[int, ...] | None = None
    plus: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What ``fota.toml`` says. Files are named as written there, relative to its folder; keys as ``--key``
    takes them.

    ``who``: vendor and class. ``release``: RELEASE signatures that there have to be, if ROOT asks for fewer;
    ``by``: public keys of those who have to be among them. ``evidence``: {kind: files}, of which the kinds of
    ``after`` are made after the manifest; ``builders``: public keys of those who have to sign a provenance;
    ``rehearsers``: of those of whom one has to have signed the rehearsal.
    ``development_keys``, ``dirty``: builds that are refused; ``tagged``: pattern of tags that no other commit
    may have for this version; ``texts``: what may stand in no firmware.
    """

    who: identity.DeviceClass
    chip: str | None
    program: bool
    firmware: str
    linked_for: int | None
    header_size: int | None
    leave_out: tuple[str, ...]
    version: VersionRule
    sequence: NumberRule
    security_counter: NumberRule
    image_key: str | None
    release_key: str | None
    root: str
    image_keys: tuple[str, ...]
    release: int
    by: tuple[str, ...]
    evidence: dict[str, tuple[str, ...]]
    after: tuple[str, ...]
    builders: tuple[str, ...]
    rehearsers: tuple[str, ...]
    development_keys: bool
    dirty: bool
    tagged: str | None
    texts: tuple[str, ...]


def parse(text: str) -> Policy:
    """Return the policy in the text of a ``fota.toml``.

    Raises:
        InputError: no TOML, or not a policy; names the key, and what to do.
    """
    return _policy(read_toml(text))


def _policy(content: dict[str, Any]) -> Policy:
    top = Table(content, "")
    top.whole("format", 1, 1, required=True)
    product, firmware, version = (top.table(name) for name in ("product", "firmware", "version"))
    sequence, counter = top.table("sequence"), top.table("security-counter")
    keys, signed = top.table("keys", required=False), top.table("signed")
    evidence, refuse = top.table("evidence", required=False), top.table("refuse", required=False)
    policy = Policy(
        who=_who(product),
        chip=_chip(product),
        program=product.flag("program", default=False),
        firmware=firmware.file("file", required=True),
        linked_for=firmware.whole("linked-for", 0, 0xFFFFFFFF),
        header_size=firmware.whole("header-size", 0, 0xFFFFFFFF),
        leave_out=firmware.texts("leave-out"),
        version=_version_rule(version),
        sequence=_number_rule(sequence, 0, MAX_SEQUENCE),
        security_counter=_number_rule(counter, 1, layout.SEC_CNT_MAX),
        image_key=keys.text("image"),
        release_key=keys.text("release"),
        root=signed.file("root", required=True),
        image_keys=signed.texts("image"),
        release=signed.whole("release", 1, MAX_SIGNATURES) or 1,
        by=signed.texts("by"),
        evidence={kind: files for kind in (*BEFORE, *ABOUT) if (files := evidence.one_or_more(kind))},
        after=evidence.texts("after"),
        builders=evidence.texts("builders"),
        rehearsers=evidence.texts("rehearsers"),
        development_keys=refuse.flag("development-keys", default=True),
        dirty=refuse.flag("dirty", default=True),
        tagged=refuse.pattern("tagged"),
        texts=refuse.texts("texts"),
    )
    for table in (top, product, firmware, version, sequence, counter, keys, signed, evidence, refuse):
        table.require_known()
    _require_evidence(policy)
    return policy


def _require_evidence(policy: Policy) -> None:
    """Return if what is said of evidence goes together. InputError: it does not."""
    for kind in policy.after:
        if kind not in ABOUT or kind not in policy.evidence:
            raise InputError(
                f"evidence.after: {shown(kind)} is not {' or '.join(ABOUT)}, or no file of it is named"
            )
    if policy.builders and "provenance" not in policy.evidence:
        raise InputError('evidence.builders: they sign provenance: write its files, provenance = ["..."]')
    if policy.rehearsers and "rehearsal" not in policy.after:
        raise InputError(
            'evidence.rehearsers sign after the manifest: write rehearsal = "...", after = ["rehearsal"]'
        )


def _who(product: Table) -> identity.DeviceClass:
    domain, model = product.text("vendor-domain", required=True), product.text("model")
    class_uuid = product.text("class")
    if model is None and class_uuid is None:
        raise InputError('product.model is missing: write a text, "...", or product.class, a UUID')
    try:
        return identity.device_class(class_uuid=class_uuid, domain=domain, model=model)
    except InputError as exc:
        raise InputError(f"product: {exc}") from exc


def _chip(product: Table) -> str | None:
    from fota_wire.host_chips import CHIPS
    from fota_wire.host_values import one_of

    said = product.text("chip")
    try:
        return None if said is None else one_of(said, CHIPS, "product.chip")
    except UsageError as exc:  # there it is a word of the command line
        raise InputError(str(exc)) from exc


def _version_rule(table: Table) -> VersionRule:
    found = {"tag": table.pattern("tag"), "file": table.file("file"), "fixed": table.text("fixed")}
    said = [VersionRule(kind, value) for kind, value in found.items() if value is not None]
    if len(said) != 1:
        raise InputError('version: write one of tag = "v*", file = "VERSION" and fixed = "1.2.3"')
    return said[0]


def _number_rule(table: Table, low: int, high: int) -> NumberRule:
    number, file = table.whole("number", low, high), table.file("file")
    weights = tuple(table.whole(part, 1, high) or 0 for part in PARTS)
    plus, name = table.whole("plus", 0, high), table.called("")[:-1]
    if sum((number is not None, file is not None, any(weights))) != 1:
        raise InputError(f'{name}: write one of number = 1, file = "FILE", and weights like major = 256')
    if any(weights):
        if any(lower and not higher for higher, lower in pairwise(weights)):
            raise InputError(
                f"{name}: a part of the version counts, and a higher one does not: it could fall"
            )
        return NumberRule(weights=weights, plus=plus or 0)
    if plus is not None:
        raise InputError(f"{name}.plus goes with weights like major = 256: leave it out")
    return NumberRule(number=number, file=file)
