"""What firmware is made of: a product's list of components, and which of them are in by its linker map.

components.toml (docs/releases.md has its grammar) says what there may be, by patterns of the files that are
linked; the map says what there is. The first component of the list that claims a file has it, the product
comes last; a file that nobody claims is an error: an SBOM has no blank.
"""

import re
from fnmatch import fnmatchcase
from typing import NamedTuple

from fota_signer.linker_map import Linked
from fota_signer.toml_table import Table, read_toml
from fota_wire.errors import InputError, VerifyError
from fota_wire.host_values import shown

LIMIT = 256 << 10
"""Bytes of a file of components, and of a lock file."""
_LOCK_LINE = re.compile(r"(\S+)[ \t]+(\S+)[ \t]+([0-9a-f]{64})")


class Source(NamedTuple):
    """Where a component's source came from: the ``name`` of its archive, and ``sha256`` in hex."""

    name: str
    sha256: str


class Component(NamedTuple):
    """A component, and in an SBOM what of it is linked. ``version`` may be a pattern of a path with one ``*``
    (``by_path``); ``lock``: name of the file that pins its source. ``size`` in bytes, ``files`` in number.
    """

    name: str
    version: str
    license: str
    supplier: str | None = None
    purl: str | None = None
    cpe: str | None = None
    patterns: tuple[str, ...] = ()
    by_path: bool = False
    lock: str | None = None
    source: Source | None = None
    size: int = 0
    files: int = 0


class Parts(NamedTuple):
    """What a file of components says: the ``product`` itself, and what it may be made of, ``components``."""

    product: Component
    components: tuple[Component, ...]


def parse(text: str) -> Parts:
    """Return what a file of components says.

    Raises:
        InputError: it is none; names the key, and what to write.
    """
    top = Table(read_toml(text), "")
    top.whole("format", 1, 1, required=True)
    product = top.table("product")
    whole = _component(product, of_product=True)
    product.require_known()
    listed = []
    for table in top.tables("component"):
        listed.append(_component(table, of_product=False))
        table.require_known()
    top.require_known()
    names = [component.name for component in (whole, *listed)]
    if len(set(names)) < len(names):
        raise InputError("component: two have one name: say each once")
    if not listed:
        raise InputError("component is missing: write tables, [[component]]")
    return Parts(whole, tuple(listed))


def _component(table: Table, *, of_product: bool) -> Component:
    name, license_said = table.text("name", required=True), table.text("license", required=True)
    purl, cpe = table.text("purl"), table.text("cpe")
    component = Component(name, "", license_said, table.text("supplier"), purl, cpe)
    if purl is not None and not re.fullmatch(r"pkg:[a-z][a-z0-9.+-]*/[!-~]+", purl):
        raise InputError(f"{table.called('purl')}: {shown(purl)} is no package URL, pkg:TYPE/NAME@VERSION")
    if cpe is not None and not re.fullmatch(r"cpe:2\.3:[aho](?::[!-~]+){10}", cpe):
        raise InputError(f"{table.called('cpe')}: {shown(cpe)} is no CPE, cpe:2.3:a:VENDOR:PRODUCT:...")
    if of_product:
        return component._replace(patterns=table.texts("files"))
    version, path = table.text("version"), table.pattern("version-in-path")
    if (version is None) == (path is None):
        raise InputError(f"{table.called('version')}: write one of version and version-in-path")
    patterns = table.texts("files")
    if not patterns:
        raise InputError(f'{table.called("files")} is missing: write a list of texts, ["*/lib/*.o"]')
    return component._replace(
        version=str(version or path), by_path=version is None, patterns=patterns, lock=table.text("lock")
    )


def linked(parts: Parts, found: Linked, locks: dict[str, str]) -> Parts:
    """Return what is linked: the product, with the size of its own files, and the components in the order of
    the list, each with version, source and size; one of which nothing is linked is left out. ``locks``: {name
    as the list has it: text} of lock files.

    Raises:
        VerifyError: a file is linked that no component claims, or a version is not that of the lock file;
            code ``component``.
        InputError: a lock file says nothing of a component, or paths nothing of a version.
    """
    everybody = (*parts.components, parts.product)
    claimed: dict[str, list[str]] = {one.name: [] for one in everybody}
    nobodys: list[str] = []
    for file in found.files:
        owners = (one for one in everybody if any(fnmatchcase(file, pattern) for pattern in one.patterns))
        owner = next(owners, None)
        (nobodys if owner is None else claimed[owner.name]).append(file)
    if nobodys:
        raise VerifyError(
            f"{len(nobodys)} files are linked that no component claims, {shown(nobodys[0])} the first: add a"
            " pattern to files of one",
            "component",
        )

    def sized(one: Component) -> Component:
        files = claimed[one.name]
        return one._replace(size=sum(found.files[file] for file in files), files=len(files))

    components = [
        sized(_with_source(_with_version(one, claimed[one.name]), locks))
        for one in parts.components
        if claimed[one.name]
    ]
    return Parts(sized(parts.product), tuple(components))


def _with_version(component: Component, files: list[str]) -> Component:
    if not component.by_path:
        return component
    before, _, after = component.version.partition("*")
    pattern = re.compile(f"{re.escape(before)}([A-Za-z0-9][A-Za-z0-9._+~-]*){re.escape(after)}")
    versions = {match[1] for file in files if (match := pattern.search(file))}
    if len(versions) != 1:
        said = " and ".join(sorted(versions)) or "none"
        raise InputError(f"{component.name}: version-in-path comes to {shown(said)}: say the version itself")
    return component._replace(version=versions.pop())


def _with_source(component: Component, locks: dict[str, str]) -> Component:
    if component.lock is None:
        return component
    lines = (_LOCK_LINE.fullmatch(line.strip()) for line in locks[component.lock].splitlines())
    sources = [Source(line[2], line[3]) for line in lines if line and line[1] == component.name]
    if len(sources) != 1:
        raise InputError(f"{component.lock}: has not one line '{component.name} ARCHIVE SHA-256', in hex")
    if component.version not in sources[0].name:
        raise VerifyError(
            f"{component.name}: {component.version}, and {component.lock} has {shown(sources[0].name)}",
            "component",
        )
    return component._replace(source=sources[0])
