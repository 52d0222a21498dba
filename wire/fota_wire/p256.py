"""ECDSA verification on P-256 in pure Python: for boards with neither an element that verifies nor C for it.

Slow (a tenth of a second on a workstation's MicroPython), and of no use for secrets: nothing here takes the
same time for different numbers. Verifying takes none.
"""

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
_NOWHERE = (1, 1, 0)  # the point at infinity: (x, y, z) stands for (x / z^2, y / z^3)


def verify(public_xy: bytes, digest: bytes, signature: bytes) -> bool:
    """Tell whether r||s is ``public_xy``'s signature of a SHA-256 ``digest``. False also for a point off the
    curve.
    """
    if len(public_xy) != 64 or len(digest) != 32 or len(signature) != 64:
        return False
    x, y, r, s, e = [
        int.from_bytes(part, "big")
        for part in (public_xy[:32], public_xy[32:], signature[:32], signature[32:], digest)
    ]
    if not (0 < r < N and 0 < s < N and x < P and y < P) or (y * y - (x * x - 3) * x - B) % P:
        return False
    w = pow(s, N - 2, N)
    at = _sum_of_products(e * w % N, G, r * w % N, (x, y))
    if at[2] == 0:
        return False
    z2 = at[2] * at[2] % P  # compare r with x / z^2 modulo N, without dividing
    return any(candidate < P and candidate * z2 % P == at[0] for candidate in (r, r + N))


def _sum_of_products(u: int, a: "tuple[int, int]", v: int, b: "tuple[int, int]") -> "tuple[int, int, int]":
    """Return u * a + v * b, both doubled along together."""
    one, two = (a[0], a[1], 1), (b[0], b[1], 1)
    table = (None, one, two, _add(one, two))
    total = _NOWHERE
    for bit in range(255, -1, -1):
        total = _double(total)
        step = table[(u >> bit & 1) | (v >> bit & 1) << 1]
        if step is not None:
            total = _add(total, step)
    return total


def _double(p: "tuple[int, int, int]") -> "tuple[int, int, int]":
    x, y, z = p
    if z == 0 or y == 0:
        return _NOWHERE
    yy, zz = y * y % P, z * z % P
    m = 3 * (x - zz) * (x + zz) % P  # the curve's a is -3
    s = 4 * x * yy % P
    t = (m * m - 2 * s) % P
    return t, (m * (s - t) - 8 * yy * yy) % P, 2 * y * z % P


def _add(p: "tuple[int, int, int]", q: "tuple[int, int, int]") -> "tuple[int, int, int]":
    if p[2] == 0:
        return q
    if q[2] == 0:
        return p
    zp, zq = p[2] * p[2] % P, q[2] * q[2] % P
    u, h = p[0] * zq % P, q[0] * zp % P
    v, r = p[1] * zq * q[2] % P, q[1] * zp * p[2] % P
    h, r = (h - u) % P, (r - v) % P
    if h == 0:
        return _double(p) if r == 0 else _NOWHERE
    hh = h * h % P
    hhh, uhh = h * hh % P, u * hh % P
    x = (r * r - hhh - 2 * uhh) % P
    return x, (r * (uhh - x) - v * hhh) % P, h * p[2] * q[2] % P
