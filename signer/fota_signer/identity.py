"""Who an image is for: vendor and class as name-based UUIDs (version 5, RFC 9562), 16 bytes each.

vendor = UUIDv5(DNS namespace, domain), class = UUIDv5(vendor, model). The same two go into image and
manifest.
"""

import hashlib
import re
from typing import NamedTuple

from fota_wire.errors import InputError
from fota_wire.host_values import UsageError, uuid_bytes, uuid_text

_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+(?=[a-z0-9-]*[a-z]){_LABEL}")
_DNS_NAMESPACE = bytes.fromhex("6ba7b8109dad11d180b400c04fd430c8")


class DeviceClass(NamedTuple):
    """``class_id`` and, if it is known, ``vendor_id``: 16 bytes; ``domain`` and ``model`` if they came by
    name.
    """

    class_id: bytes
    vendor_id: bytes | None = None
    domain: str | None = None
    model: str | None = None


def uuid5(namespace: bytes, name: str) -> bytes:
    """Return the 16 bytes of a version 5 UUID. (The standard module costs a start 5 ms.)"""
    raw = bytearray(hashlib.sha1(namespace + name.encode(), usedforsecurity=False).digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x50
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


def vendor_of_domain(domain: str) -> bytes:
    """Return the vendor UUID of a domain name, which is written in one way only: another way, in capitals
    say, would be another vendor.

    Raises:
        InputError: not a domain name in lower case.
    """
    if not _DOMAIN.fullmatch(domain) or len(domain) > 253:
        meant = _domain_meant(domain)
        advice = f"say {meant}" if _DOMAIN.fullmatch(meant) else "name one that is yours, like example.com"
        raise InputError(f"--vendor-domain {domain!r} is not a domain name in lower case: {advice}")
    return uuid5(_DNS_NAMESPACE, domain)


def _domain_meant(text: str) -> str:
    """Return the domain name in what a person took from a browser, a letter or a file."""
    meant = re.sub(r"^[a-z+]+://", "", text.strip().lower()).split("/")[0].split("@")[-1].split(":")[0]
    try:
        return meant.strip(". ").encode("idna").decode("ascii")
    except UnicodeError:
        return ""


def class_of_model(vendor_id: bytes, model: str) -> bytes:
    """Return the class UUID of a vendor's model, whose name is written in one way only, too.

    Raises:
        InputError: blanks around it or in a row, characters that nobody sees or that look like others
            (not Unicode's form NFKC).
    """
    meant = " ".join(model.split())
    if not model.isascii() and meant.isprintable():
        import unicodedata

        meant = unicodedata.normalize("NFKC", meant)
    if not model or model != meant or not model.isprintable():
        advice = f"say {meant!r}" if meant and meant.isprintable() else "name it in letters and digits"
        raise InputError(f"--model {model!r} has blanks or characters that nobody tells apart: {advice}")
    return uuid5(vendor_id, model)


def device_class(*, class_uuid: str | None, domain: str | None, model: str | None) -> DeviceClass:
    """Return the class that the options name: a class UUID, or a vendor domain and a model, or both if they
    agree.

    Raises:
        UsageError: neither. InputError: they disagree, or a name is written otherwise than it has to be.
    """
    vendor_id = vendor_of_domain(domain) if domain is not None else None
    if model is not None and vendor_id is None:
        raise UsageError("--model needs --vendor-domain")
    named = class_of_model(vendor_id, model) if vendor_id and model is not None else None
    given = uuid_bytes(class_uuid, "--class") if class_uuid else None
    if named and given and named != given:
        raise InputError(f"--class is not the class of {domain} {model}, which is {uuid_text(named)}")
    class_id = given or named
    if class_id is None:
        raise UsageError("say which device class: --class UUID, or --vendor-domain NAME and --model NAME")
    return DeviceClass(class_id=class_id, vendor_id=vendor_id, domain=domain, model=model)
