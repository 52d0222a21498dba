"""Private keys at rest: PKCS #8, PBES2 with scrypt and AES-256-CBC (RFC 5958, 8018, 7914), as OpenSSL reads.

The `cryptography` package reads this form and writes another, with 2,048 rounds of PBKDF2: that is a password
guessed at a million a second.
"""

import base64
import os

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

COST, BLOCK, PARALLEL = 1 << 14, 8, 5
"""Of scrypt: 16 MiB and a tenth of a second; OpenSSL takes up to 32 MiB."""
_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_SCRYPT = bytes.fromhex("06092b06010401da47040b")
_AES_256_CBC = bytes.fromhex("060960864801650304012a")
_LINE = 64


def encrypted_pem(key: EllipticCurvePrivateKey, password: bytes) -> bytes:
    """Return ``key`` as an ENCRYPTED PRIVATE KEY in PEM."""
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    salt, iv = os.urandom(16), os.urandom(16)
    secret = Scrypt(salt, 32, COST, BLOCK, PARALLEL).derive(password)
    padder, encryptor = PKCS7(AES.block_size).padder(), Cipher(AES(secret), CBC(iv)).encryptor()
    sealed = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    kdf = _sequence(_SCRYPT, _sequence(_octets(salt), *(_integer(n) for n in (COST, BLOCK, PARALLEL))))
    scheme = _sequence(_PBES2, _sequence(kdf, _sequence(_AES_256_CBC, _octets(iv))))
    text = base64.b64encode(_sequence(scheme, _octets(sealed))).decode()
    lines = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
    label = "ENCRYPTED PRIVATE KEY"
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


def _item(tag: int, content: bytes) -> bytes:
    size = len(content)
    head = [size] if size < 0x80 else [0x81, size] if size < 0x100 else [0x82, size >> 8, size & 0xFF]
    return bytes([tag, *head]) + content


def _sequence(*items: bytes) -> bytes:
    return _item(0x30, b"".join(items))


def _octets(content: bytes) -> bytes:
    return _item(0x04, content)


def _integer(value: int) -> bytes:
    return _item(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))
