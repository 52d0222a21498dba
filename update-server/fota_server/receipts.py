"""RECEIPTs (SPEC 5.9): each release brings devices the proof that it is in the release log, by a P-256 key
that ROOT names: the one kind that chips verify. It may lie in any store, as every key that signs.

A RECEIPT is written with its leaf, in one transaction, and once for each key: what it proves stays true.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select, update

from fota_server import schema
from fota_server.config import ServerConfig
from fota_server.devices_of_before import mute
from fota_wire import host_crypto, host_keys, host_tree, receipt
from fota_wire import root as roots
from fota_wire.errors import InputError, VerifyError
from fota_wire.host_keys import Pin, SigningKey

_leaves, _releases, _devices = schema.log_leaves, schema.releases, schema.devices
_NOTED = "receipt_key"


def load_key(config: ServerConfig) -> SigningKey | None:
    """Return the key that RECEIPTs are signed with, in a PEM file or a store; None: the server has none.

    Raises:
        FotaError: there is no such key, it is of another role, or not usable; ``example-key``.
    """
    if not config.receipt_key:
        return None
    place, allow = host_keys.place_of(config.receipt_key), config.allow_example_keys
    if isinstance(place, Path):
        path = config.data / place
        password = os.environ.get("FOTA_RECEIPT_PASSWORD", "").encode() or None
        try:
            key = host_crypto.load_private_key(path, password, allow, role="log")
        except InputError as exc:
            if exc.code != "password":
                raise
            raise InputError(f"{exc} (FOTA_RECEIPT_PASSWORD)", exc.code) from exc
        host_crypto.require_private(path, host_crypto.public_xy(key))
        return host_keys.in_memory(key, str(path))
    host_keys.require_role(place, "log")
    found = place.open(_nobody_types)
    host_crypto.refuse_example_key(found.public, allow, found.name)
    return found


def _nobody_types(what: str) -> Pin:
    raise InputError(f"receipt_key: {what}: name its file by pin-source, a server asks nobody")


def require_key(root: roots.Root, key: SigningKey | None) -> None:
    """Return if devices that go by ``root`` take releases with RECEIPTs of ``key``, or want none.

    Raises:
        VerifyError: they would not; code ``receipt-key``.
    """
    threshold, known = root.threshold(roots.LOG), root.role_keys(roots.LOG)
    if threshold > 1:
        raise VerifyError(
            f"ROOT {root.version} wants {threshold} signatures under each RECEIPT, and a server makes one",
            "receipt-key",
        )
    if threshold and (key is None or key.kid not in known):
        ours = f"not {key.kid.hex()}" if key else "and this server has none: receipt_key in its config.json"
        raise VerifyError(
            f"ROOT {root.version} wants RECEIPTs by LOG key {', '.join(kid.hex() for kid in known)}, {ours}",
            "receipt-key",
        )


def give(connection: Connection, key: SigningKey | None, leaves: Sequence[bytes]) -> None:
    """Write a RECEIPT for each release that has none by ``key``; ``leaves``: the hashes of the whole log,
    which hold by what was signed. Beside what envelopes can have is room for the path of any tree.

    Raises:
        FotaError: the key's store does not sign.
    """
    if key is None:
        return
    _forget_others(connection, key)
    query = (
        select(_releases.c.id, _leaves.c.position, _leaves.c.entry)
        .join(_leaves)
        .where(_releases.c.receipt.is_(None))
    )
    rows = connection.execute(query).all()
    if not rows:
        return
    nodes, size = host_tree.nodes_over(leaves), len(leaves)
    signature = receipt.sign_tree(size, host_tree.root_of(nodes, size), key.kid, key.sign)
    for row in rows:
        path = host_tree.inclusion(nodes, row.position, size)
        raw = receipt.build_receipt(bytes(row.entry), row.position, size, path, signature)
        connection.execute(update(_releases).where(_releases.c.id == row.id).values(receipt=raw))


def _forget_others(connection: Connection, key: SigningKey) -> None:
    """Take away RECEIPTs of another key than this one, whose successor it is."""
    meta, ours = schema.meta, key.kid.hex()
    known = connection.execute(select(meta.c.value).where(meta.c.key == _NOTED)).scalar_one_or_none()
    if known != ours:
        connection.execute(delete(meta).where(meta.c.key == _NOTED))
        connection.execute(insert(meta).values(key=_NOTED, value=ours))
        connection.execute(update(_releases).values(receipt=None))


def root_dangers(
    connection: Connection, new: roots.Root, current: roots.Root, key: SigningKey | None, most: int
) -> list[str]:
    """Return which devices would be lost with ``new``, the first of ROOTs with LOG keys, and whether all are,
    since no release of this server is proved to them.
    """
    dangers = []
    try:
        require_key(new, key)
    except VerifyError as exc:
        dangers.append(exc.message)
    if new.threshold(roots.LOG) and not current.threshold(roots.LOG):
        dangers += mute(connection, _devices.c.takes_receipts.is_not(True), "LOG", most)
    return dangers
