"""SBOMs of firmware: CycloneDX 1.6 (JSON) and SPDX 3.0.1 (JSON-LD); what is the same gives the same bytes."""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version as version_of
from typing import Any, NamedTuple

from fota_signer.components import Component
from fota_signer.identity import uuid5
from fota_wire.host_values import uuid_text

UNDATED = "1970-01-01T00:00:00Z"
"""The time of an SBOM of sources that are not in git, without SOURCE_DATE_EPOCH: SPDX asks for one."""
_SPDX = "https://spdx.org/rdf/3.0.1"


class Bom(NamedTuple):
    """A product with a version, the ``components`` that are linked, bytes that were ``merged`` by the
    optimiser so that no single one has them, and ``time`` (ISO 8601, UTC) or None.
    """

    product: Component
    components: Sequence[Component]
    merged: int
    time: str | None


def cyclonedx(bom: Bom) -> bytes:
    """Return the SBOM as CycloneDX 1.6."""
    product = {"type": "firmware", "bom-ref": "product", **_cyclonedx_of(bom.product)}
    refs = [f"component/{one.name}" for one in bom.components]
    body: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": bom.time or UNDATED,
            "tools": {"components": [{"type": "application", "name": "fota", "version": version_of("fota")}]},
            "component": product,
            "properties": [
                *_linked(bom.product),
                {"name": "fota:merged-bytes", "value": str(bom.merged)},
            ],
        },
        "components": [
            {"type": "library", "bom-ref": ref, **_cyclonedx_of(one), "properties": _linked(one)}
            for ref, one in zip(refs, bom.components, strict=True)
        ],
        "dependencies": [{"ref": "product", "dependsOn": refs}, *({"ref": ref} for ref in refs)],
        "compositions": [{"aggregate": "complete", "assemblies": ["product"]}],
    }
    return _json({"serialNumber": f"urn:uuid:{_uuid(body)}", **body})


def _cyclonedx_of(one: Component) -> dict[str, Any]:
    found: dict[str, Any] = {"name": one.name, "version": one.version}
    if one.supplier:
        found["supplier"] = {"name": one.supplier}
    found["licenses"] = [{"expression": one.license}]
    found |= {"cpe": one.cpe} if one.cpe else {}
    found |= {"purl": one.purl} if one.purl else {}
    if one.source:
        hashes = [{"alg": "SHA-256", "content": one.source.sha256}]
        found["externalReferences"] = [
            {"type": "source-distribution", "url": one.source.name, "hashes": hashes}
        ]
    return found


def _linked(one: Component) -> list[dict[str, str]]:
    return [
        {"name": "fota:linked-bytes", "value": str(one.size)},
        {"name": "fota:linked-files", "value": str(one.files)},
    ]


def spdx(bom: Bom) -> bytes:
    """Return the SBOM as SPDX 3.0.1."""
    told = [_fields(bom.product), *map(_fields, bom.components), bom.merged, bom.time]
    base = f"urn:uuid:{_uuid(told)}#"
    made: list[dict[str, Any]] = []

    def element(kind: str, ref: str, **fields: Any) -> str:  # noqa: ANN401  JSON
        made.append({"type": kind, "spdxId": base + ref, "creationInfo": "_:made", **fields})
        return base + ref

    def relation(source: str, kind: str, targets: list[str], name: str) -> None:
        element("Relationship", name, **{"from": source, "relationshipType": kind, "to": targets})

    tool = element("SoftwareAgent", "fota", name=f"fota {version_of('fota')}")
    packages = []
    for number, one in enumerate((bom.product, *bom.components)):
        fields: dict[str, Any] = {"name": one.name, "software_packageVersion": one.version}
        fields["software_primaryPurpose"] = "firmware" if number == 0 else "library"
        if one.supplier:
            fields["suppliedBy"] = element("Organization", f"supplier-{number}", name=one.supplier)
        fields |= {"software_packageUrl": one.purl} if one.purl else {}
        if one.cpe:
            fields["externalIdentifier"] = [
                {"type": "ExternalIdentifier", "externalIdentifierType": "cpe23", "identifier": one.cpe}
            ]
        if one.source:
            fields["software_sourceInfo"] = f"{one.source.name}, SHA-256 {one.source.sha256}"
        fields["comment"] = f"{one.size} bytes of {one.files} files are linked"
        packages.append(element("software_Package", f"package-{number}", **fields))
        license_id = element(
            "simplelicensing_LicenseExpression",
            f"license-{number}",
            simplelicensing_licenseExpression=one.license,
        )
        relation(packages[-1], "hasDeclaredLicense", [license_id], f"licensed-{number}")
    relation(packages[0], "contains", packages[1:], "contains")
    sbom = element(
        "software_Sbom", "sbom", rootElement=[packages[0]], element=packages, software_sbomType=["build"]
    )
    element(
        "SpdxDocument",
        "document",
        rootElement=[sbom],
        profileConformance=["core", "software", "simpleLicensing"],
    )
    info = {"type": "CreationInfo", "@id": "_:made", "specVersion": "3.0.1", "created": bom.time or UNDATED}
    return _json(
        {"@context": f"{_SPDX}/spdx-context.jsonld", "@graph": [{**info, "createdBy": [tool]}, *made]}
    )


def _fields(one: Component) -> list[object]:
    return [
        one.name,
        one.version,
        one.license,
        one.supplier,
        one.purl,
        one.cpe,
        one.source,
        one.size,
        one.files,
    ]


def _uuid(content: object) -> str:
    """Return a UUID (version 5, RFC 9562) that follows from the content: the same SBOM has the same one."""
    raw = json.dumps(content, sort_keys=True, ensure_ascii=True).encode()
    return uuid_text(uuid5(bytes(16), hashlib.sha256(raw).hexdigest()))


def _json(content: object) -> bytes:
    return json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"
