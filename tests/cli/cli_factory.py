"""The commands as a factory types them, each in its own process."""

import os

import warm
from cryptography.hazmat.primitives.asymmetric import ec
from lifeline import HANG_S

from fota_wire import cose, host_crypto
from fota_wire import root as roots

PASSWORD = "correct horse"


def fota(*words, code=0, password=PASSWORD, cwd=None):
    """Run the command in its own process; return (stdout, stderr)."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("FOTA_")}
    if password:
        env["FOTA_KEY_PASSWORD"] = password
    done = warm.run(*map(str, words), env=env, cwd=cwd, timeout=HANG_S)
    assert done.returncode == code, (words, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def one_line(stderr):
    lines = [line for line in stderr.splitlines() if line.startswith("fota: error: ")]
    assert len(lines) == 1, stderr
    return lines[0]


def genesis_root(signers=2, **more):
    """A ROOT 1 of fresh keys, each with one role, that wants two signatures."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(5)]
    xy = [host_crypto.public_xy(key) for key in keys]
    raw = roots.build_root(1, {0: (2, xy[:2]), 1: (2, xy[2:4]), 2: (1, xy[4:])}, **more)
    for key, public in zip(keys[:signers], xy, strict=False):
        raw = roots.FORM.add_signature(raw, cose.kid_of(public), host_crypto.signer(key))
    return raw
