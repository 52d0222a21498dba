"""API tokens of operators: ``fota_<id>_<secret>``; only the SHA-256 of the secret is stored.

A plain hash is enough because the secret is 256 random bits, not a password somebody chose.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, or_, select, update

from fota_server import schema
from fota_server.database import now, record_audit
from fota_wire.errors import InputError

SEE, SEE_RELEASES, PUBLISH, OPERATE, ADMINISTER = "see", "see releases", "publish", "operate", "administer"

FORGET_LOGINS_S = 30 * 86400

ROLES = {
    "viewer": frozenset((SEE, SEE_RELEASES)),
    "publisher": frozenset((SEE_RELEASES, PUBLISH)),
    "operator": frozenset((SEE, SEE_RELEASES, OPERATE)),
    "admin": frozenset((SEE, SEE_RELEASES, PUBLISH, OPERATE, ADMINISTER)),
}
"""What each role may. A publisher is a CI's: it hands in releases, and learns nothing of the fleet. What has
no way back (retiring a device, the next ROOT) is an admin's.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Who calls the operator plane: the token's name, what it may do, and for which groups; None: all.

    ``person``: who holds it, for what takes two (`second_policy.py`); None: nobody has said.
    """

    name: str
    role: str
    groups: frozenset[str] | None = None
    person: str | None = None

    def may(self, right: str) -> bool:
        """Return whether this operator has one of the rights above; a role of a newer server has none."""
        return right in ROLES.get(self.role, ())


def create_token(
    connection: Connection,
    name: str,
    role: str,
    actor: str,
    *,
    expires_at: int | None = None,
    groups: Collection[str] = (),
    person: str | None = None,
    login: str | None = None,
) -> str:
    """Return a new token; this is the only time that it can be seen. ``expires_at`` None: it does not end.

    ``groups``: those that it is for (`scopes.py`); none: the whole fleet. ``person``: who holds it.
    ``login``: of the sign-in that it was made by.

    Raises:
        InputError: name, role or groups are not usable.
    """
    if role not in ROLES:
        raise InputError(f"role {role}: use one of {', '.join(ROLES)}", "role")
    _require_groups(connection, role, groups)
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise InputError("a token's name has 1 to 64 printable characters", "token-name")
    if person is not None and not (
        1 <= len(person) <= 64 and person.isprintable() and person == person.strip()
    ):
        raise InputError("a person's name has 1 to 64 printable characters, no blank at an end", "person")
    table = schema.tokens
    if connection.execute(select(table.c.id).where(table.c.name == name)).first():
        raise InputError(f"there is a token named {name} already: choose another name", "token-name")
    token_id, secret = secrets.token_hex(8), secrets.token_hex(32)
    row = {
        "id": token_id,
        "name": name,
        "role": role,
        "secret_hash": _hash(secret),
        "created_at": now(),
        "expires_at": expires_at,
        "groups": json.dumps(sorted(set(groups))) if groups else None,
        "person": person,
        "login": login,
    }
    connection.execute(insert(table).values(**row))
    of: dict[str, object] = {"groups": sorted(set(groups))} if groups else {}
    of |= {"person": person} if person else {}
    of |= {"login": True} if login else {}
    record_audit(connection, actor, "token.create", name, role=role, expires_at=expires_at, **of)
    return f"fota_{token_id}_{secret}"


def signed_in_before(connection: Connection, login: str) -> bool:
    """Tell whether a token was made by this sign-in."""
    table = schema.tokens
    return connection.execute(select(table.c.id).where(table.c.login == login)).first() is not None


def forget_logins(connection: Connection) -> None:
    """Take away tokens of sign-ins that ended long ago: a CI makes one for each of its runs."""
    table = schema.tokens
    connection.execute(
        delete(table).where(table.c.login.is_not(None), table.c.expires_at < now() - FORGET_LOGINS_S)
    )


def _require_groups(connection: Connection, role: str, groups: Collection[str]) -> None:
    if groups and SEE not in ROLES[role]:
        raise InputError(f"a {role} learns nothing of groups: a token of this role is for no group", "role")
    table = schema.groups
    known = set(connection.execute(select(table.c.name).where(table.c.name.in_(groups))).scalars())
    for name in sorted(set(groups) - known):
        raise InputError(f"no group {name[:64]!a}: see 'fota group list'", "unknown-group")


def find_operator(connection: Connection, token: str) -> Operator | None:
    """Return whose token this is, or None: nobody's, revoked, expired. The comparison takes constant time."""
    prefix, _, rest = token.partition("_")
    token_id, _, secret = rest.partition("_")
    if prefix != "fota" or len(token) > 128 or not token.isascii():
        return None
    table = schema.tokens
    row = connection.execute(select(table).where(table.c.id == token_id)).first()
    # An unknown id costs the same comparison, so that time does not tell which ids exist.
    known = hmac.compare_digest(_hash(secret), row.secret_hash if row else _hash(""))
    if row is None or not known or row.revoked_at is not None:
        return None
    if row.expires_at is not None and row.expires_at <= now():
        return None
    groups = None if row.groups is None else frozenset(json.loads(row.groups))
    return Operator(name=row.name, role=row.role, groups=groups, person=row.person)


def in_force_for(connection: Connection, group: str) -> list[str]:
    """Return the names of the tokens in force that reach this group by its name."""
    table = schema.tokens
    good = table.c.revoked_at.is_(None), or_(table.c.expires_at.is_(None), table.c.expires_at > now())
    query = select(table.c.name, table.c.groups).where(table.c.groups.is_not(None), *good)
    return sorted(row.name for row in connection.execute(query) if group in json.loads(row.groups))


def list_tokens(connection: Connection) -> list[dict[str, Any]]:
    """Return all tokens, without their secrets."""
    table = schema.tokens
    names = ("name", "role", "created_at", "revoked_at", "expires_at", "groups", "person")
    shown = [table.c[name] for name in names]
    query = select(*shown).order_by(table.c.created_at)
    rows = connection.execute(query).mappings()
    return [dict(row) | {"groups": json.loads(row["groups"] or "null")} for row in rows]


def revoke_token(connection: Connection, name: str, actor: str) -> None:
    """Make a token useless, at once.

    Raises:
        InputError: no such token in force.
    """
    table = schema.tokens
    in_force = (table.c.name == name) & table.c.revoked_at.is_(None)
    result = connection.execute(update(table).where(in_force).values(revoked_at=now()))
    if result.rowcount == 0:
        raise InputError(f"no token named {name} in force: see 'fota server token list'", "unknown-token")
    record_audit(connection, actor, "token.revoke", name)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
