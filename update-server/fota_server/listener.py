"""A listener: a bound socket, who comes in by it, and the application that they speak to; by TLS, mostly."""

import asyncio
import errno
import logging
import socket
import ssl
from collections import defaultdict
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from fota_server import request_id
from fota_server.connection import ErrorBody, Gate, Limits, OnUnread, OnVisit, PlaneProtocol
from fota_server.door import Door, Visit, place_of
from fota_server.handshake import TlsProtocol
from fota_server.metrics import HANDSHAKES, MISTAKES, TURNED_AWAY
from fota_server.pace import BARE, Pace
from fota_wire.errors import InputError, StorageError

log = logging.getLogger("fota.server")


class Listener:
    """A bound socket and its application; ``name`` is what messages call it. Whoever comes is let in by
    `_take`.
    """

    ACCEPTS = 64  # at one go, so that a flood leaves the loop to others in between
    PAUSE_S = 0.5
    speaks: type[PlaneProtocol] = PlaneProtocol

    def __init__(
        self,
        name: str,
        app: ASGIApp,
        sock: socket.socket,
        error_body: ErrorBody,
        limits: Limits,
        always: tuple[tuple[bytes, bytes], ...] = (),
        gate: Gate = lambda tls, address: None,
        on_visit: OnVisit = lambda tls, address: None,
        on_unread: OnUnread = lambda *what: None,
    ) -> None:
        self._name = name
        self._config = Config(
            _logged(app, name),
            http=self.speaks,
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
        )
        self._config.load()
        self.door = Door(limits.room)
        # A class of its own per plane: what one connection needs of its plane is not kept in each.
        self._protocol: Any = type(
            "Protocol",
            (self.speaks,),
            {
                "limits": limits,
                "error_body": staticmethod(error_body),
                "always": always,
                "welcomed": HANDSHAKES.labels(name, "done"),
                "gate": staticmethod(gate),
                "on_visit": staticmethod(on_visit),
                "on_unread": staticmethod(on_unread),
                "door": self.door,
                "clients": defaultdict(list),
            },
        )
        self._state = ServerState()
        self._sock = sock
        self._limits = limits
        self._welcomes: set[asyncio.Task[None]] = set()
        self._silent: set[Callable[[], None]] = set()
        self._listening = False

    def start(self) -> None:
        """Begin to accept connections, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._sock.listen(2048)
        self._listen()

    def _listen(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock, self._accept)
            self._listening = True

    def _accept(self) -> None:
        """Take what waits; who is one too many is closed here, before it has cost anything."""
        for _ in range(self.ACCEPTS):
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:  # no files or no memory left: the loop must not spin on it
                log.warning("%s plane: cannot accept connections: %s", self._name, exc.strerror)
                self._loop.remove_reader(self._sock)
                self._loop.call_later(self.PAUSE_S, self._listen)
                return
            self._take(sock, peer)

    def _take(self, sock: socket.socket, peer: Any) -> None:  # noqa: ANN401 - as the socket's family has it
        """Let a connection in, or close it."""
        raise NotImplementedError

    def _enter(self, sock: socket.socket, place: str) -> Visit | None:
        """Return the visit of a connection, or None: there is no room, and it is closed."""
        visit = self.door.enter(place)
        if visit is None:
            self._turn_away(sock, place)
            sock.close()
        else:
            visit.close = partial(self._turn_away, sock, place)
        return visit

    def _turn_away(self, sock: socket.socket, place: str) -> None:
        """End a connection that there is no place for; whoever reads from it closes it."""
        TURNED_AWAY.labels(self._name).inc()
        log.warning("%s plane: too many connections, closed one from %s", self._name, place)
        with suppress(OSError):  # its client was first
            sock.shutdown(socket.SHUT_RDWR)

    def _new_protocol(self, visit: Visit) -> PlaneProtocol:
        protocol: PlaneProtocol = self._protocol(
            config=self._config, server_state=self._state, app_state={}, _loop=self._loop
        )
        protocol.visit = visit
        return protocol

    def _greet(self, welcome: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(welcome)
        self._welcomes.add(task)
        task.add_done_callback(self._welcomes.discard)

    def close_gate(self) -> None:
        """Hold every open connection against the gate, which has changed; an answer under way breaks off."""
        for connection in list(self._state.connections):
            if isinstance(connection, PlaneProtocol) and connection.refuse_at_gate():
                connection.hang_up()

    async def stop(self) -> None:
        """Accept no more, let running requests finish for ``drain_s`` seconds, then end them."""
        if not self._listening:
            return
        self._loop.remove_reader(self._sock)
        self._sock.close()
        for give_up in list(self._silent):
            give_up()
        await asyncio.gather(*self._welcomes, return_exceptions=True)
        for connection in list(self._state.connections):
            connection.shutdown()
        tasks = set(self._state.tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._limits.drain_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for connection in list(self._state.connections):
            if isinstance(connection, PlaneProtocol):
                connection.hang_up()


class TlsListener(Listener):
    """One plane: who comes shakes hands by ``context``.

    ``on_unknown(reason, certificate in DER or None, address)`` is called for each handshake that fails.
    """

    def __init__(
        self,
        name: str,
        app: ASGIApp,
        sock: socket.socket,
        context: ssl.SSLContext,
        error_body: ErrorBody,
        limits: Limits,
        always: tuple[tuple[bytes, bytes], ...] = (),
        gate: Gate = lambda tls, address: None,
        on_unknown: Callable[[ssl.SSLError, bytes | None, str], None] = lambda *what: None,
        on_visit: OnVisit = lambda tls, address: None,
        on_unread: OnUnread = lambda *what: None,
    ) -> None:
        super().__init__(name, app, sock, error_body, limits, always, gate, on_visit, on_unread)
        self.context = context  # another one may be put here: connections keep what they began with
        self._on_unknown = on_unknown
        self._bare = Pace()

    def _take(self, sock: socket.socket, peer: Any) -> None:  # noqa: ANN401 - as the socket's family has it
        if self._bare.is_late(place_of(peer[0]), self._loop.time()):
            self._turn_away(sock, peer[0])
            sock.close()
            return
        visit = self._enter(sock, peer[0])
        if visit is not None:
            self._await_first_byte(sock, peer[0], visit)

    def _await_first_byte(self, sock: socket.socket, address: str, visit: Visit) -> None:
        """Have TLS begin once there is something to read: who says nothing costs a socket, and no memory."""
        sock.setblocking(False)
        number, spoken = sock.fileno(), _has_spoken(sock)
        if spoken:  # mostly: who connects speaks first, and we come later
            self._greet(self._welcome(sock, address, visit))
            return

        def heard() -> None:
            spoken = _has_spoken(sock)
            if spoken is None:
                return
            stop_waiting()
            if spoken:
                self._greet(self._welcome(sock, address, visit))
            else:
                self._part(sock, visit)

        def give_up() -> None:
            stop_waiting()
            self._part(sock, visit)

        def stop_waiting() -> None:
            timer.cancel()
            self._loop.remove_reader(number)
            self._silent.discard(give_up)

        timer = self._loop.call_later(self._limits.header_s, give_up)
        self._silent.add(give_up)
        self._loop.add_reader(number, heard)

    def _part(self, sock: socket.socket, visit: Visit) -> None:
        """Close a connection on which TLS has not begun."""
        sock.close()
        self.door.leave(visit)

    async def _welcome(self, sock: socket.socket, address: str, visit: Visit) -> None:
        try:
            tls = TlsProtocol(
                self._loop,
                self._new_protocol(visit),
                self.context,
                handshake_s=self._limits.handshake_s,
                patience=self._limits.patience,
                on_failure=lambda reason, shown: self._on_failure(reason, shown, address),
                may_linger=lambda: self.door.doubt(visit),
                on_lost=lambda: self._leave(visit),
            )
            await self._loop.connect_accepted_socket(lambda: tls, sock)
        except OSError:
            self._part(sock, visit)

    def _leave(self, visit: Visit) -> None:
        """A connection is over on which TLS had begun; one that asked nothing is counted."""
        self.door.leave(visit)
        if not visit.asked:
            self._bare.wait(visit.place, BARE, self._loop.time())

    def _on_failure(self, reason: ssl.SSLError, shown: bytes | None, address: str) -> None:
        HANDSHAKES.labels(self._name, "failed").inc()
        self._on_unknown(reason, shown, address)


def _has_spoken(sock: socket.socket) -> bool | None:
    """Return whether there is something to read; None: not yet, False: it has hung up."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return None
    except OSError:
        return False


def _logged(app: ASGIApp, name: str) -> ASGIApp:
    """Return ``app``, with every mistake of ours told in the log, and all of a request's lines by its id."""

    async def logged(scope: Scope, receive: Receive, send: Send) -> None:
        request_id.current.set(scope["extensions"]["fota.request"]["id"])
        try:
            await app(scope, receive, send)
        except Exception:
            MISTAKES.labels(name).inc()
            log.exception("%s plane: %s %s failed", name, scope["method"], scope["path"][:80])
            raise

    return logged


def bind(host: str, port: int, *, share: bool = False) -> socket.socket:
    """Return a listening TCP socket; port 0 takes a free one. ``share``: it is one of several on the port.

    Raises:
        InputError: ``host`` is no address of this machine. StorageError: the port cannot be had.
    """
    family, address = _address_of(host, port)
    # Named explicitly: asyncio switches Nagle off only for sockets that say they are TCP, and with it an
    # answer of two writes waits 40 ms for the client's delayed acknowledgement.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        sock.setblocking(False)
    except OSError as exc:
        sock.close()
        if exc.errno == errno.EADDRNOTAVAIL:
            raise InputError(f"cannot listen on {host}: this machine has no such address") from exc
        advice = _ADVICE.get(exc.errno or 0, exc.strerror)
        raise StorageError(f"cannot listen on {host} port {port}: {advice}") from exc
    return sock


_ADVICE = {
    errno.EADDRINUSE: "another process, or the other plane, listens there; choose another port",
    errno.EACCES: "ports below 1024 are root's; choose another",
}


def _address_of(host: str, port: int) -> tuple[int, Any]:
    """Return family and address of an address, or of a name of this machine. InputError: it is neither."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as exc:
        raise InputError(f"cannot listen on {host}: it is no address, nor a name we know") from exc
    return found[0][0], found[0][4]
