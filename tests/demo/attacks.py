"""What attackers do in the demo: on the I2C bus, and between device and server."""

import hashlib
from typing import Any

from fota_signer import esp_pack
from fota_vdev.atecc608.crc import crc16
from fota_wire import checkin, esp_image, esp_signature

CHANGED_AT = 0x900
"""Offset in an image of content that an attacker changes."""


def fit_mcuboot(image: bytes) -> bytes:
    """Return the image with a changed payload and its hash made to fit; only the signature can tell."""
    changed = bytearray(image)
    changed[CHANGED_AT] ^= 0x01
    size = int.from_bytes(image[12:16], "little") + 0x200
    hashed = size + int.from_bytes(image[10:12], "little")
    at = image.index(b"\x10\x00\x20\x00", hashed) + 4
    changed[at : at + 32] = hashlib.sha256(changed[:hashed]).digest()
    return bytes(changed)


def fit_espressif(image: bytes) -> bytes:
    """The same of Espressif's form: checksum, hash, and the digest in the signature block made to fit."""
    seen = esp_image.parse(image)
    changed = bytearray(image)
    changed[CHANGED_AT] ^= 0x01
    plain = esp_pack.build(esp_pack.head_of(seen.header), esp_pack.parts_of(bytes(changed), seen))
    padded = plain + b"\xff" * (esp_image.padded_size(len(plain)) - len(plain))
    genuine = esp_signature.read_sector(image[len(padded) :])[0]
    block = esp_signature.build_block(genuine.xy, genuine.signature, hashlib.sha256(padded).digest())
    return padded + esp_signature.build_sector([block])


MADE_TO_FIT = {"mcuboot": fit_mcuboot, "espressif": fit_espressif}


class ForgedOk:
    """On the I2C bus: turns the element's "bad signature" into "fine", as a plain Verify would believe."""

    def __init__(self) -> None:
        self.forged = 0
        self._verifying = False

    def on_write(self, address: int, data: bytes) -> bytes:
        """Watch for the Verify command."""
        if data[:1] == b"\x03":
            self._verifying = data[2] == 0x45
        return data

    def on_read(self, address: int, data: bytes) -> bytes:
        """Replace status 01 by 00."""
        if self._verifying and data[:2] == b"\x04\x01":
            self.forged += 1
            good = b"\x04\x00"
            return (good + crc16(good) + b"\xff" * len(data))[: len(data)]
        return data


class Body:
    """A body in memory, as a transport hands it out."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def readinto(self, buf: memoryview) -> int:
        """Fill ``buf`` from the front of what is left."""
        piece, self._data = self._data[: len(buf)], self._data[len(buf) :]
        buf[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Nothing to close."""


class Between:
    """Somebody who holds the server's TLS key: sees each check-in answered, and may change the answer."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.answers: list[bytes] = []

    def request(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Any:
        """Pass the request on; change what comes back."""
        status, answered, reader = self._transport.request(method, path, headers, body)
        if method != "POST":
            return status, answered, reader
        data = bytearray()
        piece = memoryview(bytearray(4096))
        while count := reader.readinto(piece):
            data += piece[:count]
        self.answers.append(bytes(data))
        changed = self.change(bytes(data))
        answered["content-length"] = str(len(changed))
        return status, answered, Body(changed)

    def change(self, answer: bytes) -> bytes:
        """Leave it as it is."""
        return answer

    def close(self) -> None:
        """Close the real transport."""
        self._transport.close()


class Replay(Between):
    """Answers with what the server said to an earlier check-in."""

    def __init__(self, transport: Any, old: bytes) -> None:
        super().__init__(transport)
        self._old = old

    def change(self, answer: bytes) -> bytes:
        """Return the old answer."""
        return self._old


class OtherEnvelope(Between):
    """Answers with another envelope for the assigned manifest."""

    def __init__(self, transport: Any, envelope: bytes) -> None:
        super().__init__(transport)
        self._envelope = envelope

    def change(self, answer: bytes) -> bytes:
        """Put the other envelope in."""
        response = checkin.parse_response(answer)
        if response.manifest is None:
            return answer
        response.manifest = self._envelope
        return checkin.encode_response(response)
