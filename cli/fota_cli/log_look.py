"""The release log as somebody sees who does not trust its server: what is shown has to be what was signed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fota_cli.client import OperatorClient
from fota_wire import host_note, host_tlog, host_tree, receipt, suit
from fota_wire.errors import FormatError, InputError, VerifyError
from fota_wire.files import name_of, read_input, read_text
from fota_wire.host_note import Checkpoint, Note, PublicKey
from fota_wire.host_tlog import Entry, Tile
from fota_wire.host_tree import Nodes, leaf_hash


@dataclass(frozen=True, slots=True)
class Head:
    """A checkpoint that its log has signed: ``raw`` as it came, its ``note``, and what it says."""

    raw: bytes
    note: Note
    says: Checkpoint


def read_key(path: Path, kind: int) -> PublicKey:
    """Return the public key in a file. InputError: there is none of this kind."""
    try:
        return host_note.read_public_key(read_text(path, 4096), kind)
    except InputError as exc:
        raise InputError(f"{name_of(path)}: {exc}", exc.code) from exc


def read_head(path: Path, key: PublicKey) -> Head:
    """Return the checkpoint in a file.

    Raises:
        InputError: there is none. VerifyError: it is not the log's.
    """
    try:
        return _head(read_input(path, host_note.MAX_NOTE), key)
    except (FormatError, VerifyError) as exc:
        raise type(exc)(f"{name_of(path)}: {exc}", exc.code) from exc


def last_head(path: Path, key: PublicKey) -> Head | None:
    """Return the checkpoint that was kept in a file; None: nothing was kept yet. Raises as `read_head`."""
    return read_head(path, key) if path.exists() else None


def _head(raw: bytes, key: PublicKey) -> Head:
    says, note = host_note.open_checkpoint(raw, key)
    return Head(raw, note, says)


@contextmanager
def _of_server() -> Iterator[None]:
    """What is malformed here was made by the server, and is its lie: refused, and no bad input."""
    try:
        yield
    except FormatError as exc:
        raise VerifyError(str(exc), exc.code) from exc


class Log:
    """A server's log, as its newest checkpoint has it.

    Raises:
        VerifyError: the server shows what it did not sign. Others: as `OperatorClient.get`.
    """

    def __init__(self, client: OperatorClient, key: PublicKey) -> None:
        self._client = client
        raw = client.fetch("log/checkpoint")
        with _of_server():
            self.head = _head(raw, key)
        self.size = self.head.says.size

    def by_tiles(self) -> Nodes:
        """Return the tree's nodes, by its tiles of hashes, whose root is the one that was signed."""
        nodes = host_tlog.nodes_of(self._tile, self.size)
        self._require_root(nodes, "tiles")
        return nodes

    def leaves(self) -> list[bytes]:
        """Return all leaves, which are those that were signed."""
        with _of_server():
            found = list(host_tlog.entries_of(self._tile, self.size))
        self._require_root(host_tree.nodes_over([leaf_hash(raw) for raw in found]), "leaves")
        return found

    def _require_root(self, nodes: Nodes, what: str) -> None:
        with _of_server():
            root = host_tree.root_of(nodes, self.size)
        if root != self.head.says.root:
            raise VerifyError(
                f"the log's {what} are not those of the checkpoint that it signed", "log-altered"
            )

    def _tile(self, tile: Tile) -> bytes:
        try:
            return self._client.fetch(f"log/{tile.path}")
        except InputError as exc:
            raise VerifyError(
                f"the server does not show {tile.path} of the log that it signed: {exc}", "log-hidden"
            ) from exc


def require_follows(nodes: Nodes, now: Checkpoint, before: Checkpoint, whose: str) -> None:
    """Return if a log goes on from an earlier checkpoint; ``whose``: where that one is from, in messages.

    Raises:
        VerifyError: it was taken back (``log-rollback``), or is another one (``log-fork``).
    """
    if now.size < before.size:
        raise VerifyError(
            f"the log was taken back: it has {now.size} leaf(s), and had {before.size} {whose}",
            "log-rollback",
        )
    try:
        proof = host_tree.consistency(nodes, before.size, now.size) if before.size else b""
        host_tree.require_consistent(before.size, before.root, now.size, now.root, proof)
    except FormatError as exc:
        raise VerifyError(
            f"the log is another one: its first {before.size} leaf(s) are not those {whose}", "log-fork"
        ) from exc


def require_witnessed(
    nodes: Nodes, now: Checkpoint, seen: Head, witnesses: Sequence[PublicKey], name: str
) -> Mapping[str, int]:
    """Return who signed a checkpoint that was seen elsewhere, and when; the log goes on from it.

    Raises:
        VerifyError: it does not; or none of ``witnesses`` signed (``witness``).
    """
    signed = host_note.witnesses_of(seen.note, witnesses)
    if not signed:
        raise VerifyError(f"{name}: signed by none of the witnesses that were named", "witness")
    require_follows(nodes, now, seen.says, f"that {', '.join(sorted(signed))} saw")
    return signed


def require_shown(nodes: Nodes, now: Checkpoint, path: Path) -> None:
    """Return if what a device was shown of the log, in the envelope at ``path``, is what the log was.

    Raises:
        InputError: there is no such envelope, or no RECEIPT in it.
        VerifyError: it shows another log (``log-fork``), or more than there is (``log-rollback``).
    """
    found = suit.parse_envelope(read_input(path, suit.MAX_ENVELOPE)).receipt
    if found is None:
        raise InputError(f"{name_of(path)}: no RECEIPT in the envelope: no device was shown the log by it")
    size, root = receipt.tree_of(found)
    kids = ", ".join((kid or b"").hex() for kid in receipt.signers_of(found))
    shown = Checkpoint(now.origin, size, root)
    require_follows(nodes, now, shown, f"that {name_of(path)} shows, signed by {kids}")


def entries_of(leaves: Iterable[bytes]) -> list[Entry]:
    """Return the releases that leaves are of. VerifyError: one is none's."""
    with _of_server():
        return [host_tlog.read_entry(raw) for raw in leaves]


def require_listed(leaves: Iterable[bytes], listed: Sequence[Mapping[str, Any]]) -> list[Entry]:
    """Return the log's entries, if they are the releases of the server's list, all of them and no more.

    Raises:
        VerifyError: a release is in one of them alone, or another in each; says which.
    """
    entries = entries_of(leaves)
    logged = {entry.manifest_digest: entry for entry in entries}
    if len(logged) != len(entries):
        raise VerifyError("a release is in the log twice", "log-altered")
    for item in listed:
        found = logged.pop(_digest(item), None)
        name = f"release {item.get('version')} ({str(item.get('manifest_digest'))[:16]})"
        if found is None:
            raise VerifyError(f"{name} is not in the log", "log-missing")
        if found.encode() != _leaf(item):
            raise VerifyError(f"{name} is another one in the log: {describe(found)}", "log-altered")
    for entry in logged.values():
        raise VerifyError(f"the list hides a release that is in the log: {describe(entry)}", "log-hidden")
    return entries


def unlisted(leaves: Iterable[bytes], listed: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether a list lacks a release of the log: it may be older."""
    known = {_digest(item) for item in listed}
    return any(entry.manifest_digest not in known for entry in entries_of(leaves))


def describe(entry: Entry) -> str:
    """Return an entry in words."""
    digest, class_id = entry.manifest_digest.hex()[:16], entry.class_id.hex()[:8]
    return f"{entry.version}, sequence {entry.sequence}, class {class_id}, manifest {digest}"


def _digest(item: Mapping[str, Any]) -> bytes:
    with suppress(ValueError):
        return bytes.fromhex(str(item.get("manifest_digest")))
    return b""


def _leaf(item: Mapping[str, Any]) -> bytes | None:
    """Return the leaf of a release as a list shows it; None: it can have none."""
    try:
        digest, class_id = _digest(item), bytes.fromhex(item["class_id"])
        return Entry(digest, class_id, item["version"], item["sequence"], item["published_at"]).encode()
    except (KeyError, TypeError, ValueError):
        return None
