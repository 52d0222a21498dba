"""Who an image is for: vendor and class as name-based UUIDs (version 5, RFC 9562), 16 bytes each.

vendor = UUIDv5(DNS namespace, domain), class = UUIDv5(vendor, model). The same two go into image and
manifest.
"""

import hashlib
from typing import NamedTuple

from fota_wire.errors import InputError
from fota_wire.host_values import uuid_bytes, uuid_text

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
    """Return the vendor UUID of a domain name."""
    return uuid5(_DNS_NAMESPACE, domain)


def device_class(*, class_uuid: str | None, domain: str | None, model: str | None) -> DeviceClass:
    """Return the class that the options name: a class UUID, or a vendor domain and a model, or both if they
    agree.

    Raises:
        InputError: neither, or they disagree.
    """
    vendor_id = vendor_of_domain(domain) if domain else None
    if model and vendor_id is None:
        raise InputError("--model needs --vendor-domain")
    named = uuid5(vendor_id, model) if vendor_id and model else None
    given = uuid_bytes(class_uuid, "--class") if class_uuid else None
    if named and given and named != given:
        raise InputError(f"--class is not the class of {domain} {model}, which is {uuid_text(named)}")
    class_id = given or named
    if class_id is None:
        raise InputError("say which device class: --class UUID, or --vendor-domain NAME and --model NAME")
    return DeviceClass(class_id=class_id, vendor_id=vendor_id, domain=domain, model=model)
