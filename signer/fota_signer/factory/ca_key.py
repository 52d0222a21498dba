"""A key to sign with as the library that builds certificates takes it, wherever the key is kept."""

import hashlib
from typing import Any, NoReturn

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from fota_wire import der
from fota_wire.host_keys import SigningKey


class LibraryKey(ec.EllipticCurvePrivateKey):
    """A P-256 private key that signs with ECDSA over SHA-256 and does nothing else."""

    def __init__(self, key: SigningKey) -> None:
        self._key = key

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Return the public half."""
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + self._key.public)

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:  # noqa: ANN401
        """Return the signature of ``data`` in DER. ValueError: by another algorithm."""
        if not isinstance(signature_algorithm, ec.ECDSA) or not isinstance(
            signature_algorithm.algorithm, SHA256
        ):
            raise ValueError("this key signs by ECDSA with SHA-256")  # noqa: TRY004
        return der.from_raw(self._key.sign(hashlib.sha256(bytes(data)).digest()))

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256."""
        return ec.SECP256R1()

    @property
    def key_size(self) -> int:
        """In bits."""
        return 256

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        """Raise ValueError: it is a key to sign with."""
        raise ValueError("this key signs, and does nothing else")

    def private_numbers(self) -> NoReturn:
        """Raise ValueError: it may be where nobody can read it."""
        raise ValueError("this key is not to be read")

    def private_bytes(self, encoding: Any, format: Any, encryption_algorithm: Any) -> NoReturn:  # noqa: ANN401
        """Raise ValueError: it may be where nobody can read it."""
        raise ValueError("this key is not to be read")

    def __copy__(self) -> "LibraryKey":
        """Return itself: it does not change."""
        return self

    def __deepcopy__(self, memo: dict[Any, Any]) -> "LibraryKey":
        """Return itself: it does not change."""
        return self
