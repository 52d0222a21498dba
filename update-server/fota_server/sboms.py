"""Reads SBOMs: which components of which versions CycloneDX, SPDX 3 and SPDX 2 list, in JSON.

And what of two versions is the lower one. Pure; nothing of an SBOM is believed before its digest is signed.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from fota_wire.errors import InputError
from fota_wire.host_json import read_json

MOST = 5000
"""Components that an SBOM may list."""
MAX_NAME, MAX_VERSION = 256, 128
_DEPTH = 16
_PARTS = re.compile(r"[0-9]+|[a-z]+")
_BEFORE = ("alpha", "beta", "dev", "pre", "preview", "rc", "snapshot")


def read(raw: bytes) -> set[tuple[str, str]]:
    """Return {(name in small letters, version, "" if it says none)} of an SBOM.

    Raises:
        InputError: it is none, lists nothing, or too much; code ``sbom``.
    """
    content = read_json(raw, "SBOM", "sbom")
    if not isinstance(content, dict):
        raise InputError("SBOM: is no object", "sbom")
    if content.get("bomFormat") == "CycloneDX":
        metadata = content.get("metadata")
        product = metadata.get("component") if isinstance(metadata, dict) else None
        found = _cyclonedx([*_objects([product]), *_objects(content.get("components"))])
    elif "spdx.org" in str(content.get("@context"))[:4096]:
        packages = [one for one in _objects(content.get("@graph")) if one.get("type") == "software_Package"]
        found = ((one.get("name"), one.get("software_packageVersion")) for one in packages)
    elif "spdxVersion" in content:
        found = ((one.get("name"), one.get("versionInfo")) for one in _objects(content.get("packages")))
    else:
        raise InputError("SBOM: is neither CycloneDX nor SPDX, in JSON", "sbom")
    components = {_checked(name, version) for name, version in found}
    if not 1 <= len(components) <= MOST:
        raise InputError(f"SBOM: lists {len(components)} components, not 1 to {MOST}", "sbom")
    return components


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _cyclonedx(listed: list[dict[str, Any]], depth: int = 0) -> Iterator[tuple[object, object]]:
    if depth > _DEPTH:
        raise InputError("SBOM: is nested too deeply", "sbom")
    for one in listed:
        group, name = one.get("group"), one.get("name")
        yield (f"{group}/{name}" if isinstance(group, str) and group else name), one.get("version")
        yield from _cyclonedx(_objects(one.get("components")), depth + 1)


def _checked(name: object, version: object) -> tuple[str, str]:
    said = "" if version is None else version
    for text, limit, least in ((name, MAX_NAME, 1), (said, MAX_VERSION, 0)):
        if not isinstance(text, str) or not least <= len(text) <= limit or not text.isprintable():
            raise InputError(f"SBOM: a name or version is no text of up to {limit} characters", "sbom")
    return str(name).lower(), str(said)


@lru_cache(65536)
def order(version: str) -> tuple[tuple[int, int | str], ...]:
    """Return what versions are in order by: numbers as numbers, 1.0-rc1 before 1.0, that before 1.0a and
    1.0.1; a ``v`` in front does not count, build metadata (behind a ``+``) does.
    """
    parts: list[tuple[int, int | str]] = []
    for part in _PARTS.findall(version.lower().removeprefix("v")):
        parts.append((3, int(part)) if part.isdigit() else (0 if part in _BEFORE else 2, part))
    return (*parts, (1, ""))
