"""``fota inspect``: says what a file is and what is in it. Nothing shown here was verified, but hashes
inside images.
"""

from datetime import UTC, datetime
from pathlib import Path

from fota_wire import assignment, campaign, cbor, host_evidence, image, report, suit
from fota_wire import root as roots
from fota_wire.errors import FormatError, InputError, VerifyError
from fota_wire.host_kinds import CAMPAIGN, HEAD, kind_of
from fota_wire.host_values import uuid_text
from fota_wire.signed import MAX_SIGNATURES
from fota_wire.version import format_version

Table = dict[str, object]


def describe(path: Path, data: bytes) -> Table:
    """Return the fields of a file of ours, or of firmware that could be signed, ``kind`` first.

    Raises:
        InputError: none of our formats, or damaged.
    """
    if b"-----BEGIN " in data[:4096]:
        return _pem(path, data)
    if data[:4] == image.MAGIC.to_bytes(4, "little"):
        return _image(data)
    if data[:1] == image.ESPRESSIF:
        from fota_signer.esp_describe import explain

        return explain(data)
    if data[:2] == b"\xd8\x6b":
        return _envelope(data)
    if data[:1] == b"\xd2" or _is_shared(data):
        return _signed_message(data)
    if data[:1] and 0x80 <= data[0] <= 0x81 + MAX_SIGNATURES:  # a CBOR array
        return _campaign(data) if kind_of(data) == CAMPAIGN else _root(data)
    from fota_signer import describe_firmware

    firmware = describe_firmware.explain(data, str(path))
    if firmware is not None:
        return firmware
    raise InputError(
        f"{path}: not firmware, an image, manifest, ROOT, assignment, report or PEM key{_what_else(data)}"
    )


def _what_else(data: bytes) -> str:
    from fota_signer.foreign import foreign_kind

    kind = kind_of(data[:HEAD]) or foreign_kind(data)
    return f": it is {kind}" if kind else ""


def differences(before: Table, after: Table) -> list[str]:
    """Return what changes from one table of a kind to the next, a line each: ``name: old -> new``, and for
    lists ``name: + new`` and ``name: - old``.
    """
    lines = []
    for name in [*after, *(name for name in before if name not in after)]:
        old, new = before.get(name), after.get(name)
        if name in ("kind", "size", "signed_by") or old == new:
            continue
        label = name.replace("_", " ")
        if isinstance(old, list) and isinstance(new, list):
            lines += [f"{label}: - {item}" for item in old if item not in new]
            lines += [f"{label}: + {item}" for item in new if item not in old]
        else:
            lines.append(f"{label}: {'-' if old is None else old} -> {'-' if new is None else new}")
    return lines


def _pem(path: Path, data: bytes) -> Table:
    table: Table = {"kind": "key", "private": b"PRIVATE KEY" in data, "encrypted": b"ENCRYPTED" in data}
    if b"BEGIN CERTIFICATE" in data:
        table["kind"] = "certificate"
        table.update(_certificate(path, data))
    if b"ENCRYPTED" not in data:
        from fota_signer.keys import show

        public = show(path)
        table.update({"kid": public.kid.hex(), "keyhash": public.key_hash.hex(), "public": public.xy.hex()})
    return table


def _certificate(path: Path, data: bytes) -> Table:
    from fota_wire.host_pem import pem_certificate

    certificate = pem_certificate(data, str(path))
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
    }


def _image(data: bytes) -> Table:
    from fota_signer import mcuboot

    try:
        parsed = image.parse_image(data, programs=True)
    except VerifyError:
        return mcuboot.explain(data)
    return {
        "kind": "image",
        "version": format_version(parsed.version),
        "security_counter": parsed.sec_cnt,
        "class": uuid_text(parsed.class_id),
        "size": parsed.size,
        "payload_size": parsed.img_size,
        "flags": f"0x{parsed.flags:x}",
        "load_address": f"0x{parsed.load_addr:08x}",
        "stack_pointer": f"0x{parsed.vectors[0]:08x}",
        "reset_vector": f"0x{parsed.vectors[1]:08x}",
        "keyhash": parsed.key_hash.hex(),
        "image_hash": parsed.image_hash.hex(),
        "file_digest": parsed.file_digest.hex(),
        "tlvs": mcuboot.tlv_lines(parsed.protected, parsed.unprotected),
        "refused_for": [],
    }


def _envelope(data: bytes) -> Table:
    manifest = suit.unsafe_read_manifest(data)
    text = manifest.text
    signers = [signature.kid.hex() for signature in suit.parse_envelope(data).signatures if signature.kid]
    return {
        "kind": "manifest",
        "sequence": manifest.sequence,
        "vendor": uuid_text(manifest.vendor_id),
        "class": uuid_text(manifest.class_id),
        "image_digest": manifest.digest.hex(),
        "image_size": manifest.size,
        "uri": manifest.uri,
        "manifest_digest": manifest.manifest_digest.hex(),
        "text": text,
        "evidence": host_evidence.signed_digest(text),
        "signed_by": signers,
        "size": len(data),
    }


def _root(data: bytes) -> Table:
    signers = [kid.hex() for kid in roots.FORM.signers_of(data)]
    return {**root_table(roots.unsafe_read_root(data)), "signed_by": signers, "size": len(data)}


def _campaign(data: bytes) -> Table:
    found = campaign.unsafe_read_campaign(data)
    return {
        "kind": "campaign",
        "manifest_digest": found.manifest_digest.hex(),
        "waves": [_wave(*wave) for wave in found.waves],
        "signed_by": [kid.hex() for kid in campaign.FORM.signers_of(data)],
        "size": len(data),
    }


def _wave(begin: int, end: int, share: int, group: str) -> str:
    """Return a wave as it is typed."""
    times = " ".join(_moment(seconds) for seconds in (begin, end))
    return f"{share / 100:g}% {times} {group}".strip()


def _moment(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"  # beyond what calendars have


def root_table(root: roots.Root) -> Table:
    """Return what a ROOT says."""
    roles = {
        roots.ROLE_NAMES[role]: f"{threshold} of {', '.join(kid.hex() for kid in kids)}"
        for role, (threshold, kids) in sorted(root.roles.items())
    }
    return {
        "kind": "root",
        "version": root.version,
        **roles,
        "min_sequence": root.min_sequence,
        "min_security_counter": root.min_secver,
        "key_epoch": root.epoch,
        "image_keys": [key_hash.hex() for key_hash in root.image_keys],
        "retired_image_keys": [key_hash.hex() for key_hash in root.retired],
        "revoked": [digest.hex() for digest in root.revoked],
        "servers": root.servers,
        "server_cas": [_server_ca(raw) for raw in root.server_cas],
    }


def _server_ca(raw: bytes) -> str:
    """Return whose certificate it is, until when it holds, and its fingerprint."""
    import hashlib

    from cryptography import x509

    from fota_wire.host_pem import UNREADABLE

    fingerprint = hashlib.sha256(raw).hexdigest()
    try:
        certificate = x509.load_der_x509_certificate(raw)
        name, end = certificate.subject.rfc4514_string(), certificate.not_valid_after_utc
    except UNREADABLE:
        return f"unreadable, SHA-256 {fingerprint}"
    return f"{name}, until {end:%Y-%m-%d}, SHA-256 {fingerprint}"


def _is_shared(data: bytes) -> bool:
    """Tell whether these are an ASSIGNMENT's parts, whose second one is a number, and not a ROOT's."""
    if data[:1] != b"\x85":
        return False
    parts = cbor.decode(data)
    return isinstance(parts, list) and isinstance(parts[1], int)


def _signed_message(data: bytes) -> Table:
    signed, raw, _, _ = assignment.unsafe_open(data)
    payload = cbor.decode(raw)
    table: Table = {"kind": "assignment", "signed_by": (signed.kid or b"").hex()}
    message: assignment.Assignment | report.Report
    if isinstance(payload, dict) and 13 in payload:
        table["kind"] = "report"
        message = report.unsafe_read_payload(raw)
    elif isinstance(payload, dict):
        message = assignment.unsafe_read_payload(raw)
    else:
        raise FormatError("signed message is neither an assignment nor a report")
    for name, value in vars(message).items():
        table[name] = value.hex() if isinstance(value, bytes) else value
    return table
