"""In the place of `fota server signer`: whoever can share a signature shares it with 255 others, who are not
there. So a device alone before a real server gets the longest ASSIGNMENT that there is.
"""

import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from fota_wire import assignment, cbor, cose, host_crypto

PLACE, SIZE = 201, assignment.MAX_SHARING


class Crowd:
    """Signs by the key in ``key`` at the socket ``path`` until it is left; ``shared`` counts."""

    def __init__(self, key: Path) -> None:
        private = host_crypto.load_private_key(key, allow_example_keys=True)
        self._kid = cose.kid_of(host_crypto.public_xy(private))
        self._sign = host_crypto.signer(private)
        self._folder = tempfile.TemporaryDirectory()
        self.path = Path(self._folder.name) / "s"
        self.shared = 0
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(self.path))
        self._door.listen()

    def __enter__(self) -> "Crowd":
        threading.Thread(target=self._open, daemon=True).start()
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self._folder.cleanup()

    def _open(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._door.accept()[0],), daemon=True).start()

    def _serve(self, asking: socket.socket) -> None:
        with asking, suppress(OSError):
            self._say(asking, self._kid)
            while head := asking.recv(4, socket.MSG_WAITALL):
                asked = cbor.decode(asking.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL))
                assert isinstance(asked, list)
                self._say(asking, [self._answer(payload, shares) for payload, shares in asked])

    @staticmethod
    def _say(asking: socket.socket, message: object) -> None:
        raw = cbor.encode(message)
        asking.sendall(len(raw).to_bytes(4, "big") + raw)

    def _answer(self, payload: bytes, shares: bool) -> bytes:
        if not shares:
            return cose.sign1(payload, self._kid, self._sign, assignment.AAD)
        self.shared += 1
        payloads = [bytes([number]) for number in range(SIZE)]
        payloads[PLACE] = payload
        return assignment.share(payloads, self._kid, self._sign)[PLACE]
