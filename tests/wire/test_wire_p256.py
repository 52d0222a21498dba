"""The pure-Python verifier beside OpenSSL's: at random, and where arithmetic likes to go wrong."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from fota_wire import host_crypto, p256

N, P = p256.N, p256.P
D = bytes(range(32))


def key(scalar):
    return ec.derive_private_key(scalar, ec.SECP256R1())


def xy(scalar):
    return host_crypto.public_xy(key(scalar))


def both(*case):
    verdict = p256.verify(*case)
    assert verdict is host_crypto.verify(*case)
    return verdict


@settings(max_examples=60)
@given(scalar=st.integers(1, N - 1), digest=st.binary(min_size=32, max_size=32), data=st.data())
def test_signatures_and_their_flipped_bits(scalar, digest, data):
    public, signature = xy(scalar), host_crypto.signer(key(scalar))(digest)
    assert both(public, digest, signature)
    part = data.draw(st.sampled_from(["public", "digest", "signature"]))
    parts = {"public": bytearray(public), "digest": bytearray(digest), "signature": bytearray(signature)}
    at = data.draw(st.integers(0, len(parts[part]) - 1))
    parts[part][at] ^= 1 << data.draw(st.integers(0, 7))
    assert not both(bytes(parts["public"]), bytes(parts["digest"]), bytes(parts["signature"]))


def forged(scalar, u, v):
    """Return (digest, signature) that hold for the key ``scalar`` with e/s = u and r/s = v."""
    at = host_crypto.public_xy(key((u + v * scalar) % N))
    r = int.from_bytes(at[:32], "big") % N
    s = r * pow(v, -1, N) % N
    return (u * s % N).to_bytes(32, "big"), r.to_bytes(32, "big") + s.to_bytes(32, "big")


@pytest.mark.parametrize("scalar", [1, 2, 3, N - 1, N - 2, 1 << 255])
@pytest.mark.parametrize(
    ("u", "v"), [(1, 1), (2, 1), (1, 2), (1, 3), (0, 1), (N - 1, 3), (5, N - 1), (1 << 255, 1 << 255)]
)
def test_products_that_meet_double_or_cancel_on_the_way(scalar, u, v):
    if (u + v * scalar) % N == 0:
        return
    digest, signature = forged(scalar, u, v)
    assert both(xy(scalar), digest, signature)


def test_sum_at_infinity_is_no_signature():
    r = s = 7  # u = e/s, v = r/s = 1, public key -G * u ...
    e = 21
    u = e * pow(s, -1, N) % N
    assert not both(xy((-u) % N), e.to_bytes(32, "big"), r.to_bytes(32, "big") + s.to_bytes(32, "big"))


@pytest.mark.parametrize("r", [0, 1, N - 1, N, N + 1, (1 << 256) - 1])
@pytest.mark.parametrize("s", [0, 1, N - 1, N, N + 1, (1 << 256) - 1])
def test_numbers_at_their_limits(r, s):
    assert not both(xy(3), D, r.to_bytes(32, "big") + s.to_bytes(32, "big"))


@pytest.mark.parametrize(
    "digest", [bytes(32), b"\xff" * 32, N.to_bytes(32, "big"), (N - 1).to_bytes(32, "big")]
)
def test_digests_at_their_limits(digest):
    assert both(xy(5), digest, host_crypto.signer(key(5))(digest))


@pytest.mark.parametrize(
    "public",
    [
        bytes(64),
        b"\xff" * 64,
        bytes(63) + b"\x01",
        P.to_bytes(32, "big") * 2,
        xy(3)[:63] + b"\0",
        xy(3)[:63],
        b"",
    ],
)
def test_points_off_the_curve(public):
    assert not both(public, D, host_crypto.signer(key(3))(D))


@pytest.mark.parametrize(("digest", "length"), [(D[:31], 64), (D + b"\0", 64), (D, 63), (D, 65), (b"", 0)])
def test_wrong_lengths(digest, length):
    signature = (host_crypto.signer(key(3))(D) + b"\0")[:length]
    assert not both(xy(3), digest, signature)


def test_r_that_wrapped_around_the_order_is_taken():
    """R's x lies in n..p-1, so r = x - n: one in 2^128 signatures; made here by choosing R, then the key."""
    x = next(x for x in range(N, N + 50) if pow(x**3 - 3 * x + p256.B, (P - 1) // 2, P) == 1)
    y = pow(x**3 - 3 * x + p256.B, (P + 1) // 4, P)
    r, s, e = x - N, 12345, int.from_bytes(D, "big") % N
    inverse = pow(r, -1, N)
    qx, qy, qz = p256._sum_of_products(-e * inverse % N, p256.G, s * inverse % N, (x, y))
    z = pow(qz, -1, P)
    public = (qx * z * z % P).to_bytes(32, "big") + (qy * z * z * z % P).to_bytes(32, "big")
    assert both(public, D, r.to_bytes(32, "big") + s.to_bytes(32, "big"))
