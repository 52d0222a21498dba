"""The ASSIGN key in a process of its own: the web process asks it through a socket in the file system, and
has nothing that could be stolen from its memory.

Who connects is sent the key id, a CBOR byte string; then each question, `[[payload, shares (bool)]...]`, has
an answer, the ASSIGNMENTs in the same order, or a text: why not. Each message goes behind its length, 4
bytes, the highest first. The holder signs what an ASSIGNMENT is made of, of the present time, and nothing
else: who takes over the web process can have signatures for as long as that lasts, and no key.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from fota_server.crypto import AssignSigner, SignerUnavailable
from fota_server.sockets import WAIT_S, make_way
from fota_wire import assignment, cbor, check
from fota_wire.errors import FormatError, FotaError, StorageError, VerifyError

log = logging.getLogger("fota.server")

LENGTH = 4
MAX_MESSAGE = 1 << 18  # 256 ASSIGNMENTs of 512 bytes, and their frame
CLOCK_S = 300  # that two processes of one machine may differ by; one may have been stopped for a while


# -- who holds the key -------------------------------------------------------------------------------------


async def hold(
    signer: AssignSigner,
    path: Path,
    now: Callable[[], int],
    stop: asyncio.Event,
    on_ready: Callable[[], None],
) -> None:
    """Sign for whoever may open the socket ``path`` (mode 0660) until ``stop`` is set.

    Raises:
        InputError: something else is there. StorageError: another process holds it, or it cannot be made.
    """
    make_way(path)
    old = os.umask(0o117)
    try:
        served = await asyncio.start_unix_server(
            lambda reader, writer: _serve(signer, now, reader, writer), str(path), limit=MAX_MESSAGE
        )
    except OSError as exc:
        raise StorageError(f"cannot make the socket {path}: {exc.strerror or exc}") from exc
    finally:
        os.umask(old)
    try:
        on_ready()
        await stop.wait()
    finally:
        served.close()
        await asyncio.to_thread(path.unlink, missing_ok=True)


async def _serve(
    signer: AssignSigner, now: Callable[[], int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        _send(writer, signer.kid)
        while True:
            asked = await _receive(reader)
            try:
                answer: object = _sign(signer, asked, now())
            except FotaError as exc:
                log.warning("not signed: %s", exc)
                answer = str(exc)[:256]
            _send(writer, answer)
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError, FormatError) as exc:
        if isinstance(exc, FormatError):
            log.warning("whoever asked is hung up on: %s", exc)
    finally:
        writer.close()


def _sign(signer: AssignSigner, asked: object, now: int) -> list[bytes]:
    payloads: list[bytes] = []
    sharing: list[bool] = []
    for item in check.array(asked, "question", 1, assignment.MAX_SHARING):
        raw, shares = check.array(item, "question", 2, 2)
        payload = check.bstr(raw, "payload", None, assignment.MAX_ASSIGNMENT)
        time = assignment.unsafe_read_payload(payload).time
        if abs(time - now) > CLOCK_S:
            raise VerifyError(f"an ASSIGNMENT of {time}, and it is {now}: nothing but the present is signed")
        payloads.append(payload)
        sharing.append(shares is True)
    return signer.sign_all(payloads, sharing)


# -- who asks ----------------------------------------------------------------------------------------------


class AssignSocket:
    """The ASSIGN key behind the socket ``path``; as `crypto.Assigner`. One batch after the other.

    Raises:
        SignerUnavailable: nobody holds a key there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()
        self.kid = self._ask_kid()

    def _ask_kid(self) -> bytes:
        try:
            with socket.socket(socket.AF_UNIX) as beside:
                beside.settimeout(WAIT_S)
                beside.connect(str(self._path))
                size = int.from_bytes(beside.recv(LENGTH, socket.MSG_WAITALL), "big")
                return check.bstr(cbor.decode(beside.recv(min(size, 64), socket.MSG_WAITALL)), "key id", 8)
        except (OSError, FormatError) as exc:
            raise self._gone(exc) from exc

    async def assignments(self, payloads: Sequence[bytes], sharing: Sequence[bool]) -> list[bytes]:
        """As `crypto.Assigner`."""
        asked = [[payload, shares] for payload, shares in zip(payloads, sharing, strict=True)]
        async with self._turn:
            answer = await self._ask(asked)
        if not isinstance(answer, list) or len(answer) != len(asked):
            raise SignerUnavailable(f"the holder of the ASSIGN key does not sign: {answer}")
        return [check.bstr(item, "ASSIGNMENT", None, assignment.MAX_ASSIGNMENT) for item in answer]

    async def _ask(self, asked: object) -> object:
        # A connection that stood may have been to a process that was started anew since: once more, then.
        for last in (True,) if self._streams is None else (False, True):
            try:
                async with asyncio.timeout(WAIT_S):
                    return await self._exchange(asked)
            except (OSError, asyncio.IncompleteReadError, FormatError) as exc:
                self._drop()
                if last:
                    raise self._gone(exc) from exc
            except BaseException:
                self._drop()  # half an answer may be on its way
                raise
        raise AssertionError

    async def _exchange(self, asked: object) -> object:
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(str(self._path), limit=MAX_MESSAGE)
            kid = await _receive(self._streams[0])
            if kid != self.kid:
                raise FormatError("it holds another key now: start the server again", "assign-key")
        reader, writer = self._streams
        _send(writer, asked)
        await writer.drain()
        return await _receive(reader)

    def _drop(self) -> None:
        if self._streams:
            with suppress(OSError, RuntimeError):
                self._streams[1].close()
        self._streams = None

    def _gone(self, exc: Exception) -> SignerUnavailable:
        why = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
        return SignerUnavailable(f"nobody signs at {self._path} ({why}): start 'fota server signer'")


def _send(writer: asyncio.StreamWriter, message: object) -> None:
    raw = cbor.encode(message)
    writer.write(len(raw).to_bytes(LENGTH, "big") + raw)


async def _receive(reader: asyncio.StreamReader) -> object:
    size = int.from_bytes(await reader.readexactly(LENGTH), "big")
    if size > MAX_MESSAGE:
        raise FormatError(f"message of {size} bytes is longer than {MAX_MESSAGE}", "limit")
    return cbor.decode(await reader.readexactly(size))
