"""The one key that the server holds."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from fota_wire import cose, host_crypto
from fota_wire.errors import InputError
from fota_wire.files import read_input
from fota_wire.seams import Sign


class AssignSigner:
    """The ASSIGN key: says what is wanted of one device, and can sign nothing that a device would run."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self.kid = cose.kid_of(host_crypto.public_xy(key))
        self.sign: Sign = host_crypto.signer(key)


def load_assign_signer(
    path: Path, *, password: str | None = None, allow_example_keys: bool = False, new: bool = False
) -> AssignSigner:
    """Return the signer whose key is in a PEM file, encrypted or not. ``new``: a server is set up with it,
    and it has to say what it is for.

    Raises:
        InputError: no P-256 key, one of another role, the password is missing or wrong, or others on this
            machine can read the file.
        VerifyError: it is one of the published example keys, and these are not allowed (``example-key``).
    """
    secret = password.encode() if password else None
    try:
        key = host_crypto.load_private_key(path, secret, allow_example_keys, role="assign")
    except InputError as exc:
        if exc.code != "password":
            raise
        raise InputError(f"{exc} (FOTA_ASSIGN_PASSWORD)", exc.code) from exc
    xy = host_crypto.public_xy(key)
    if new:
        host_crypto.require_own(read_input(path, 65536), xy, path, "assign")
    host_crypto.require_private(path, xy)
    return AssignSigner(key)
