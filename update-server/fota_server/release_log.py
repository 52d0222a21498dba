"""The release log: a hash tree that only grows, with one leaf for each release (SPEC 8).

A leaf is written with its release, and the checkpoint over it is signed in the same transaction: there is no
release without both. Nothing is signed that does not go on from what was signed before, so whoever alters the
database by hand and has not the key stops the log; whoever has both is found by those who keep a checkpoint.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from fota_server import receipts, schema
from fota_wire import host_note, host_tlog, host_tree
from fota_wire.errors import FormatError, InputError, VerifyError
from fota_wire.files import making_folder, read_input, require_unshared, write_atomic
from fota_wire.host_keys import SigningKey
from fota_wire.host_note import LOG, Checkpoint, PublicKey, Signer
from fota_wire.host_tlog import Entry, Tile
from fota_wire.host_tree import Nodes, leaf_hash

KEY = Path("keys/log.key")
"""The log's private key, in a data folder."""
_NOTED = "log_key"
_leaves, _heads, _releases = schema.log_leaves, schema.log_heads, schema.releases
_said = (
    *(_releases.c.id, _releases.c.manifest_digest, _releases.c.class_id, _releases.c.version),
    *(_releases.c.sequence, _releases.c.published_at),
)
"""What `entry_of` reads."""


@dataclass(frozen=True, slots=True)
class LogKeys:
    """What the log is signed with: ``tree`` its checkpoints, None: this server has not the key, and publishes
    nothing; ``receipts`` what devices read (SPEC 5.9), None: there are none.
    """

    tree: Signer | None = None
    receipts: SigningKey | None = None


# The key


def new_key(name: str | None = None) -> Signer:
    """Return a new key; ``name``: what the log is called, by default something that no other log is.

    Raises:
        InputError: no log may be called so.
    """
    return host_note.new_signer(name or f"fota-log/{secrets.token_hex(8)}", LOG)


def load_key(data: Path) -> Signer | None:
    """Return the key in a data folder; None: there is none.

    Raises:
        InputError, StorageError: it is no key, or others on this machine can read it.
    """
    path = data / KEY
    if not path.exists():
        return None
    require_unshared(path, "key of the release log")
    return host_note.read_signer(read_input(path, 4096), LOG, str(path))


def store_key(data: Path, signer: Signer) -> None:
    """Write the key into a data folder, mode 0600. StorageError: it cannot be written."""
    with making_folder((data / KEY).parent, 0o700):
        write_atomic(data / KEY, signer.to_text(), 0o600)


def begin(connection: Connection, data: Path) -> Signer | None:
    """Return the key that this server signs the log with, made where there has been none.

    None: the log is another key's, or its own is gone. Such a server serves the log, and publishes nothing.

    Raises:
        InputError, StorageError: as `load_key`, `store_key`.
    """
    signer, known = load_key(data), key_of(connection)
    if known is not None:
        return signer if signer is not None and str(signer.public) == known else None
    if signer is None:
        signer = new_key()
        store_key(data, signer)
    _note_key(connection, signer.public)
    return signer


def renew(connection: Connection, data: Path, name: str | None) -> Signer:
    """Make a new key for the log, which goes on under its name or another, and return it.

    Raises:
        VerifyError: the log does not hold by what was signed last.
    """
    known = key_of(connection)
    if known is not None:
        _require_whole(connection, _read_key(known))
        name = name or known.partition("+")[0]
    signer = new_key(name)
    store_key(data, signer)
    _note_key(connection, signer.public)
    _sign(connection, signer, [leaf_hash(entry) for entry in _entries(connection, 0, _size(connection))])
    return signer


def key_of(connection: Connection) -> str | None:
    """Return the public key that the log is signed with, as it is handed on; None: it was never signed."""
    query = select(schema.meta.c.value).where(schema.meta.c.key == _NOTED)
    return connection.execute(query).scalar_one_or_none()


def _read_key(known: str) -> PublicKey:
    return host_note.read_public_key(known, LOG)


def _note_key(connection: Connection, key: PublicKey) -> None:
    connection.execute(schema.meta.delete().where(schema.meta.c.key == _NOTED))
    connection.execute(insert(schema.meta).values(key=_NOTED, value=str(key)))


# Writing


def append_missing(connection: Connection) -> None:
    """Append a leaf for each release that has none, in the order of their publication."""
    without = (
        select(*_said)
        .select_from(_releases)
        .outerjoin(_leaves)
        .where(_leaves.c.position.is_(None))
        .order_by(_releases.c.id)
    )
    position = _size(connection)
    for row in connection.execute(without).all():
        leaf = {"position": position, "release_id": row.id, "entry": entry_of(row).encode()}
        connection.execute(insert(_leaves).values(**leaf))
        position += 1


def entry_of(row: Any) -> Entry:  # noqa: ANN401 - a row of whatever else
    """Return the leaf of a row of ``releases``."""
    digest, class_id = bytes.fromhex(row.manifest_digest), bytes.fromhex(row.class_id)
    return Entry(digest, class_id, row.version, row.sequence, row.published_at)


def sign(connection: Connection, keys: LogKeys) -> None:
    """Sign the log as it is, if it has grown or was never signed, and give releases their RECEIPTs.

    Raises:
        VerifyError: this server has not the key (``log-key``), or the log does not go on from what was signed
            before (``log-altered``). FotaError: the store of the other key does not sign.
    """
    signer = keys.tree
    if signer is None:
        known = key_of(connection) or ""
        raise VerifyError(
            f"this server lacks the key of the release log {known.partition('+')[0]}, and publishes nothing:"
            f" bring {KEY} back, or make another by 'fota server log-key --new'",
            "log-key",
        )
    leaves = _require_whole(connection, signer.public)
    newest = _newest(connection)
    if newest is None or newest.size != len(leaves):
        _sign(connection, signer, leaves)
    receipts.give(connection, keys.receipts, leaves)


def _sign(connection: Connection, signer: Signer, leaves: list[bytes]) -> None:
    root = host_tree.root_of(host_tree.nodes_over(leaves), len(leaves))
    note = host_note.sign_checkpoint(Checkpoint(signer.name, len(leaves), root), signer)
    connection.execute(insert(_heads).values(size=len(leaves), note=note.decode()))


def _require_whole(connection: Connection, key: PublicKey) -> list[bytes]:
    """Return the hashes of all leaves, if they go on from the newest checkpoint.

    Raises:
        VerifyError: they do not.
    """
    leaves = [leaf_hash(entry) for entry in _entries(connection, 0, _size(connection))]
    newest = _newest(connection)
    if newest is None:
        return leaves
    try:
        signed, _ = host_note.open_checkpoint(newest.note.encode(), key)
    except (FormatError, VerifyError) as exc:
        raise VerifyError(f"the release log was altered: {exc}", "log-altered") from exc
    if signed.size != newest.size or signed.size > len(leaves):
        raise VerifyError(
            f"the release log was altered: {len(leaves)} leaf(s), and {signed.size} were signed",
            "log-altered",
        )
    if host_tree.root_of(host_tree.nodes_over(leaves), signed.size) != signed.root:
        raise VerifyError(
            f"the release log was altered: its first {signed.size} leaf(s) are others than were signed",
            "log-altered",
        )
    return leaves


def require_sound(connection: Connection) -> str:
    """Return what is said of a log whose leaves are those of the releases, and are signed.

    Raises:
        VerifyError: they are not; says which.
    """
    known = key_of(connection)
    if known is None:
        return "not signed yet: the server has not been started since there is one"
    leaves = _require_whole(connection, _read_key(known))
    query = select(*_said, _leaves.c.entry).select_from(_releases).outerjoin(_leaves).order_by(_releases.c.id)
    for row in connection.execute(query):
        if row.entry != entry_of(row).encode():
            said = (
                "has no leaf in the release log" if row.entry is None else "is another one than its leaf says"
            )
            raise VerifyError(f"release {row.version} {said}", "log-altered")
    return f"whole, {len(leaves)} leaf(s)"


# Reading


def checkpoint(connection: Connection) -> bytes:
    """Return the newest checkpoint. InputError: there is none; code ``unknown-checkpoint``."""
    newest = _newest(connection)
    if newest is None:
        raise InputError("the release log was not signed yet", "unknown-checkpoint")
    return str(newest.note).encode()


def tile_bytes(connection: Connection, tile: Tile) -> bytes:
    """Return a tile of the log.

    Raises:
        InputError: the log has not come so far; code ``unknown-tile``.
    """
    span = 1 << 8 * (tile.level or 0)
    start, end = tile.start * span, (tile.start + tile.width) * span
    if end > _size(connection):
        raise InputError("log: no such tile", "unknown-tile")
    entries = list(_entries(connection, start, end))
    if len(entries) != end - start:  # somebody took leaves away
        raise InputError("log: no such tile", "unknown-tile")
    if tile.level is None:
        return host_tlog.pack(entries)
    nodes: Nodes = host_tree.nodes_over([leaf_hash(entry) for entry in entries])
    return b"".join(nodes(8 * tile.level, at) for at in range(tile.width))


def _newest(connection: Connection) -> Row[Any] | None:
    return connection.execute(select(_heads).order_by(_heads.c.id.desc()).limit(1)).first()


def _size(connection: Connection) -> int:
    last = connection.execute(select(func.max(_leaves.c.position))).scalar_one()
    return 0 if last is None else int(last) + 1


def _entries(connection: Connection, start: int, end: int) -> Iterator[bytes]:
    within = (_leaves.c.position >= start, _leaves.c.position < end)
    query = select(_leaves.c.entry).where(*within).order_by(_leaves.c.position)
    for (entry,) in connection.execute(query):
        yield bytes(entry)
