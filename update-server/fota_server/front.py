"""Devices behind an nginx of this machine, which ends their TLS and sends their files (ADR 72).

It comes by a UNIX socket, and the kernel says whose process has opened the other end: nobody but the user
that config.json names is heard. Of the header fields that it alone may send, one says where a device's
connection comes from, one has the device's certificate, which is verified here again, and one says that the
front asks for itself, whether it may send a file (ADR 73). A connection of a front's is many devices', so
each request says anew whose it is.
"""

import ipaddress
import logging
import os
import pwd
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fota_server.connection import FRONTS, ErrorBody, Gate, Limits, OnUnread, PlaneProtocol
from fota_server.door import Visit
from fota_server.listener import Listener
from fota_server.presented import MAX_ESCAPED, NOBODY, Presented
from fota_server.sockets import make_way
from fota_wire.errors import InputError, StorageError

log = logging.getLogger("fota.server")

CERTIFICATE, ADDRESS, GRANT = FRONTS + b"certificate", FRONTS + b"address", FRONTS + b"grant"
_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid: unix(7), SO_PEERCRED
_OVERFLOW = Path("/proc/sys/kernel/overflowuid")


class FrontProtocol(PlaneProtocol):
    """One connection of the front's."""

    presented: Callable[[], Presented]
    files: str

    @property
    def most_bytes(self) -> int:
        """What a device may send, and what the front adds."""
        return self.limits.header_bytes + MAX_ESCAPED + 256

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - asyncio's
        """Devices speak https to the front, and links to us say so."""
        self._said: dict[bytes, bytes] = {}
        super().connection_made(transport)
        self.scheme = "https"

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room for another one."""
        super().connection_lost(exc)
        self.door.leave(self.visit)

    def on_message_begin(self) -> None:
        """Nobody speaks until the header says who."""
        self._said, self._tls = {}, NOBODY
        super().on_message_begin()

    def on_front_header(self, name: bytes, value: bytes) -> None:
        """Keep what the front says.

        Raises:
            ValueError: twice, too long, or nothing that we know: who else could have put it there?
        """
        if name in self._said or name not in (CERTIFICATE, ADDRESS, GRANT) or len(value) > MAX_ESCAPED:
            super().on_front_header(name, value)
        self._said[name] = value

    def on_headers_complete(self) -> None:
        """Say whose request it is.

        Raises:
            ValueError: the front does not say where it comes from.
        """
        address = _address(self._said.get(ADDRESS))
        if address is None:
            raise self._object(400, "front", "the front does not say where a device's connection comes from")
        self.client = self.scope["client"] = (address, 0)
        self._tls = self.presented().tls(self._said.get(CERTIFICATE))
        self.scope["extensions"]["tls"] = self._tls
        if GRANT in self._said:
            self.scope["extensions"]["fota.grant"] = {}
        if self.files:
            self.scope["extensions"]["fota.files"] = {"at": self.files}
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """What is said next is somebody else's."""
        self._tls = NOBODY
        super().on_response_complete()


def _address(said: bytes | None) -> str | None:
    try:
        return str(ipaddress.ip_address((said or b"").decode("ascii")))
    except ValueError:
        return None


class Front(Listener):
    """The device plane, for the front. ``user``: whose processes may connect. ``files``: where nginx finds
    artifacts by ``X-Accel-Redirect``; empty: we send them.
    """

    speaks = FrontProtocol

    def __init__(
        self,
        app: ASGIApp,
        sock: socket.socket,
        user: str,
        files: str,
        presented: Callable[[], Presented],
        error_body: ErrorBody,
        limits: Limits,
        always: tuple[tuple[bytes, bytes], ...],
        gate: Gate,
        on_unread: OnUnread,
    ) -> None:
        super().__init__(
            "front", _read_first(app), sock, error_body, limits, always, gate, on_unread=on_unread
        )
        self._protocol.presented, self._protocol.files = staticmethod(presented), files
        self._path = Path(sock.getsockname())
        self._uid = uid_of(user)
        if self._uid == os.getuid():
            log.warning("front_user: %s is our own user, too: who takes nginx over has our keys", user)

    def _take(self, sock: socket.socket, peer: Any) -> None:  # noqa: ANN401 - it has no name
        _, uid, _ = _CREDENTIALS.unpack(
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        if uid != self._uid:
            sock.close()
            log.warning("front: closed a connection of user %d's: config.json names another", uid)
            return
        visit = self._enter(sock, "the front")
        if visit is not None:
            sock.setblocking(False)
            self._greet(self._welcome(sock, visit))

    async def _welcome(self, sock: socket.socket, visit: Visit) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: self._new_protocol(visit), sock)
        except OSError:
            sock.close()
            self.door.leave(visit)

    async def stop(self) -> None:
        """As any other, and take the socket's name away."""
        self._path.unlink(missing_ok=True)
        await super().stop()


def _read_first(app: ASGIApp) -> ASGIApp:
    """Return ``app``, which then answers no request before all of it was read: the front has all of it, and
    would lose an answer that came first, as a connection that is closed over what was not read is reset.
    """

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        whole = False

        async def read() -> Message:
            nonlocal whole
            message = await receive()
            whole = message["type"] != "http.request" or not message.get("more_body")
            return message

        async def reply(message: Message) -> None:
            while not whole:
                await read()
            await send(message)

        await app(scope, read, reply)

    return answered


def uid_of(user: str) -> int:
    """Return the number of a user.

    Raises:
        InputError: there is none, or it stands for many.
    """
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError as exc:
        raise InputError(f"front_user: this machine has no user {user!r}") from exc
    if uid == int(_OVERFLOW.read_text() if _OVERFLOW.exists() else "65534"):
        raise InputError(
            f"front_user: {user} is who the kernel names for everybody it has no name for: give nginx its own"
        )
    return uid


def bind_front(path: Path) -> socket.socket:
    """Return a socket at ``path``. Anybody may connect: who is heard is asked of the kernel (`Front`).

    Raises:
        InputError: the path is too long, or something else is there. StorageError: it cannot be made.
    """
    make_way(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(os.fspath(path))
        path.chmod(0o666)
        sock.setblocking(False)
    except OSError as exc:
        sock.close()
        if exc.errno is None:  # Python's own: the kernel was not asked
            raise InputError(f"front: {path} is too long for a socket's name") from exc
        raise StorageError(f"front: cannot listen at {path}: {exc.strerror}") from exc
    return sock
