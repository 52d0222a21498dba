"""Says how an image came to be: SLSA provenance, version 1, in a signed in-toto statement.

Who signs one has the sources at that commit and has built them: the image is held against them to the byte.
So a second builder's provenance of the same image is his agreement.
"""

import hashlib
import re
from typing import Any

from fota_signer.release_evidence import PROVENANCE
from fota_signer.release_image import Made
from fota_signer.release_named import Named
from fota_signer.release_policy import LIMIT
from fota_signer.release_rules import Ruled
from fota_wire import host_statement
from fota_wire.files import read_input
from fota_wire.host_keys import SigningKey
from fota_wire.host_values import UsageError, shown
from fota_wire.version import format_version

BUILD_TYPE = "urn:fota:release-image:1"
"""Of SLSA's buildType: an image by `fota release image`, of a commit and its policy."""


def require_uri(text: str) -> None:
    """Return if ``text`` is a URI. UsageError: it is none."""
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*:[!-~]{1,500}", text):
        raise UsageError(f"--builder: {shown(text)} is no URI: https://ci.example.com/firmware, say")


def sign(
    named: Named, policy_name: str, rules: Ruled, made: Made, key: SigningKey, builder: str | None
) -> bytes:
    """Return the signed provenance of an image that the sources here come to; ``builder``: a URI that says
    who built it, else it is the key.

    Raises:
        FotaError, Prepared: from the key's ``sign``.
    """
    policy = read_input(named.folder / policy_name, LIMIT)
    sources: list[dict[str, Any]] = [
        {"name": policy_name, "digest": {"sha256": hashlib.sha256(policy).hexdigest()}}
    ]
    if rules.sources.commit is not None:
        sources.append({"name": "sources", "digest": {"gitCommit": rules.sources.commit}})
    parameters = {
        "policy": policy_name,
        "version": format_version(rules.version),
        "securityCounter": rules.security_counter,
        "changed": rules.sources.changed is not None,
    }
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": parameters,
            "resolvedDependencies": sources,
        },
        "runDetails": {"builder": {"id": builder or f"urn:fota:key:{key.kid.hex()}"}},
    }
    digest = made.image.file_digest.hex()
    return host_statement.sign({digest: f"payload/{digest}"}, PROVENANCE, predicate, [key])
