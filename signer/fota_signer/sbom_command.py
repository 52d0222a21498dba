"""What `fota release sbom` reads: a linker map, a file of components, its lock files, the version."""

from pathlib import Path

from fota_signer import components, linker_map, release_named, release_rules
from fota_signer.sbom import Bom
from fota_wire.errors import FotaError, InputError
from fota_wire.files import read_input, read_text
from fota_wire.version import format_version, parse_version


def read(map_file: Path, components_file: Path, version: str | None, policy_file: Path) -> Bom:
    """Return the SBOM of what is linked by a map; version and time by the policy, or of ``version`` none.

    Raises:
        VerifyError: a file is linked that no component claims, or a version that is not in its lock file.
        FotaError: what is read is not what it has to be; as `release_rules.ruled`.
    """
    if version is None:
        named = release_named.read_policy(policy_file)
        rules = release_rules.ruled(named.policy, named.folder)
        product_version, time = format_version(rules.version), rules.time
    else:
        product_version, time = format_version(parse_version(version)), release_rules.said_time()
    try:
        parts = components.parse(read_text(components_file, components.LIMIT))
    except InputError as exc:
        text = str(exc)
        raise InputError(
            text if text.startswith(str(components_file)) else f"{components_file}: {text}"
        ) from exc
    locks = {one.lock: _lock(components_file, one.lock) for one in parts.components if one.lock is not None}
    found = linker_map.read_map(read_input(map_file, linker_map.LIMIT), str(map_file))
    parts = components.linked(parts, found, locks)
    product = parts.product._replace(version=product_version)
    return Bom(product, parts.components, found.merged, time)


def _lock(components_file: Path, name: str) -> str:
    try:
        return read_text(components_file.parent / name, components.LIMIT)
    except FotaError as exc:
        raise type(exc)(f"{components_file}: lock: {exc}") from exc
