"""Webhooks as the database has them: who is told, how far they have been, and what they did not take.

The changes themselves are the outbox (`changes.py`): a webhook is a place in them, which moves on when the
receiver has taken what is there. So what a transaction has changed is told, whatever is killed, in order, at
least once. One server of all that share a database sends (`webhook_work.py`).
"""

import json
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, exists, func, insert, or_, select, update

from fota_server import changes, schema
from fota_server.database import now, record_audit
from fota_server.webhook_send import SECRET_SIZE, Receiver, payload, require_url, shown_secret
from fota_wire.errors import InputError, VerifyError

MOST = 16
AT_ONCE = 20
WAITS_S = (5, 15, 60, 300, 900, 3600, *(3 * 3600,) * 12)
"""Before each new attempt: a day and a half in all; who has not been reached by then is told nothing more
until somebody says 'redeliver'."""
REFUSALS = 5
"""From so many attempts of one event on, whatever the others failed by, an answer of 4xx makes it a dead
letter, and the next one is told."""
LETTERS = 10_000
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_hooks, _dead = schema.webhooks, schema.dead_letters


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is to be told: a change, or the dead ``letter`` that it has become."""

    change: int
    body: bytes
    letter: int | None = None

    @property
    def id(self) -> str:
        """The same whenever it is told, so that a receiver knows what it has had."""
        return f"change_{self.change}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What is to be sent to one receiver, in order. ``after``: it was told up to here; ``upto``: to here, if
    it takes all of them.
    """

    name: str
    receiver: Receiver
    attempts: int
    after: int
    messages: tuple[Message, ...]
    upto: int


# -- by operators --------------------------------------------------------------------------------------------


def add(
    connection: Connection, name: str, url: str, kinds: list[str], ca: str | None, actor: str
) -> dict[str, Any]:
    """Tell ``url`` of changes from now on, of all or those whose kind begins so; its secret is returned once.

    Raises:
        InputError: name or URL are none. VerifyError: the name is taken, or there are `MOST`.
    """
    if not _NAME.fullmatch(name):
        raise InputError("a webhook's name has 1 to 64 letters, digits, '.', '_' and '-'", "name")
    require_url(url)
    taken = set(connection.execute(select(_hooks.c.name)).scalars())
    if name in taken:
        raise VerifyError(f"there is a webhook {name} already", "exists")
    if len(taken) >= MOST:
        raise VerifyError(f"there are {MOST} webhooks already", "too-many")
    secret = secrets.token_bytes(SECRET_SIZE)
    connection.execute(
        insert(_hooks).values(
            name=name, url=url, secret=secret, ca=ca, kinds=json.dumps(kinds), created_at=now(),
            created_by=actor, position=changes.newest(connection), attempts=0, next_at=0,
        )
    )  # fmt: skip
    record_audit(connection, actor, "webhook.add", name, url=url)
    return show(connection, name) | {"secret": shown_secret(secret)}


def show(connection: Connection, name: str) -> dict[str, Any]:
    """Return one webhook.

    Raises:
        InputError: not known.
    """
    for one in list_all(connection):
        if one["name"] == name:
            return one
    raise InputError(f"no webhook {name}: see 'fota webhook list'", "unknown-webhook")


def list_all(connection: Connection) -> list[dict[str, Any]]:
    """Return all webhooks, without their secrets."""
    dead = select(func.count()).where(_dead.c.webhook == _hooks.c.name).scalar_subquery()
    last = changes.newest(connection)
    return [
        {
            "name": row["name"],
            "url": row["url"],
            "kinds": json.loads(row["kinds"]),
            "created_at": row["created_at"],
            "created_by": row["created_by"],
            "behind": last - row["position"],
            "attempts": row["attempts"],
            "stopped": row["attempts"] > len(WAITS_S),
            "failing": row["failing"],
            "dead": row["dead"],
        }
        for row in connection.execute(select(_hooks, dead.label("dead")).order_by(_hooks.c.name)).mappings()
    ]


def remove(connection: Connection, name: str, actor: str) -> None:
    """Tell it nothing more; its dead letters go, too.

    Raises:
        InputError: not known.
    """
    show(connection, name)
    connection.execute(delete(_dead).where(_dead.c.webhook == name))
    connection.execute(delete(_hooks).where(_hooks.c.name == name))
    record_audit(connection, actor, "webhook.remove", name)


def dead(connection: Connection, name: str, after: int, limit: int) -> list[dict[str, Any]]:
    """Return up to ``limit`` dead letters of a webhook, the oldest first, of those numbered above ``after``.

    Raises:
        InputError: not known.
    """
    show(connection, name)
    query = select(_dead).where(_dead.c.webhook == name, _dead.c.id > after).order_by(_dead.c.id)
    return [
        {"id": row.id, "event": json.loads(row.body), "error": row.error, "at": row.at, "due": row.due}
        for row in connection.execute(query.limit(limit))
    ]


def redeliver(connection: Connection, name: str, actor: str) -> int:
    """Have all dead letters of a webhook told again, and one that was given up go on; return how many.

    Raises:
        InputError: not known.
    """
    show(connection, name)
    count = connection.execute(update(_dead).where(_dead.c.webhook == name).values(due=True)).rowcount
    connection.execute(update(_hooks).where(_hooks.c.name == name).values(attempts=0, next_at=0))
    record_audit(connection, actor, "webhook.redeliver", name, letters=count)
    return count


# -- by whoever sends ----------------------------------------------------------------------------------------


def is_any(connection: Connection) -> bool:
    """Return whether there is a webhook at all: who has none pays for none."""
    return connection.execute(select(_hooks.c.name).limit(1)).first() is not None


def due_rounds(connection: Connection, at: int, under_way: Collection[str]) -> list[Round]:
    """Return what is to be sent now, but to those receivers to which something is ``under_way``."""
    letters = exists().where(_dead.c.webhook == _hooks.c.name, _dead.c.due)
    waiting = or_(_hooks.c.position < changes.newest(connection), letters)
    # Nobody waits longer than the longest wait: then a clock was ahead when it was stored.
    due = or_(_hooks.c.next_at <= at, _hooks.c.next_at > at + max(WAITS_S))
    ready = and_(due, _hooks.c.attempts <= len(WAITS_S), waiting)
    found = []
    for row in connection.execute(select(_hooks).where(ready, _hooks.c.name.not_in(under_way))).all():
        one = _round(connection, row)
        if one.messages:
            found.append(one)
        else:  # nothing of what has changed is for it
            connection.execute(update(_hooks).where(_hooks.c.name == row.name).values(position=one.upto))
    return found


def _round(connection: Connection, row: Any) -> Round:  # noqa: ANN401 - a driver's row
    receiver = Receiver(url=row.url, secret=row.secret, ca=row.ca)
    letters = select(_dead).where(_dead.c.webhook == row.name, _dead.c.due).order_by(_dead.c.id)
    messages = tuple(
        Message(change=one.change, body=one.body.encode(), letter=one.id)
        for one in connection.execute(letters.limit(AT_ONCE))
    )
    upto = row.position
    if not messages:
        found, upto = changes.read_after(connection, row.position, AT_ONCE, kinds=json.loads(row.kinds))
        messages = tuple(Message(change=one["id"], body=payload(one)) for one in found)
    return Round(
        name=row.name,
        receiver=receiver,
        attempts=row.attempts,
        after=row.position,
        messages=messages,
        upto=upto,
    )


def taken(connection: Connection, done: Round, told: int, error: str | None, status: int, at: int) -> None:
    """Store what came of a round: the first ``told`` messages were taken; the next, if any, was not.

    Nothing is stored if somebody else has told on meanwhile, who took us for dead.
    """
    mine = _hooks.c.name == done.name, _hooks.c.position == done.after
    if connection.execute(select(_hooks.c.name).where(*mine)).first() is None:
        return
    for message in done.messages[:told]:
        if message.letter is not None:
            connection.execute(delete(_dead).where(_dead.c.id == message.letter))
    fresh = [message for message in done.messages[:told] if message.letter is None]
    position = done.upto if error is None else (fresh[-1].change if fresh else None)
    attempts = 0 if error is None or told else done.attempts
    if error is not None:
        failed = done.messages[told]
        attempts += 1
        if failed.letter is not None:  # once for each 'redeliver'
            change = {"error": error[:256], "at": at, "due": False}
            connection.execute(update(_dead).where(_dead.c.id == failed.letter).values(**change))
            attempts = 0
        elif 400 <= status < 500 and status not in (408, 425, 429) and attempts >= REFUSALS:
            _bury(connection, done.name, failed, error, at)
            position, attempts = failed.change, 0
    wait = WAITS_S[attempts - 1] if 0 < attempts <= len(WAITS_S) else 0
    values: dict[str, Any] = {"attempts": attempts, "next_at": at + wait, "failing": error and error[:256]}
    if position is not None:
        values["position"] = position
    connection.execute(update(_hooks).where(*mine).values(**values))


def _bury(connection: Connection, name: str, message: Message, error: str, at: int) -> None:
    body = message.body.decode()
    row = {"webhook": name, "change": message.change, "body": body, "error": error[:256], "at": at}
    connection.execute(insert(_dead).values(**row, due=False))
    oldest = select(_dead.c.id).where(_dead.c.webhook == name).order_by(_dead.c.id.desc())
    last = oldest.offset(LETTERS - 1).limit(1).scalar_subquery()
    connection.execute(delete(_dead).where(_dead.c.webhook == name, _dead.c.id < last))
