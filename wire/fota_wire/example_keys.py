"""Key ids of published throw-away keys, ours and others: loaders refuse them outside rehearsals."""

SEED = b"fota example keys: public, worthless, never for a product"
"""Private key of NAME = SHA-256(SEED || 0 || NAME) mod (n - 1) + 1."""

NAMES = (
    "root-1",
    "root-2",
    "root-3",
    "release-1",
    "release-2",
    "release-3",
    "image-a",
    "image-b",
    "assign",
    "device-ca",
    "server-ca",
    "server",
)
_KIDS = (
    "116277939af80c23",  # root-1
    "56b8e4ec289ad984",  # root-2
    "62f64d728ec7916b",  # root-3
    "e66012d0a249e11f",  # release-1
    "66c81e8f6a782338",  # release-2
    "3c7b6d19fb91f0be",  # release-3
    "61cd11fd44620bd6",  # image-a
    "c6186463ca7e42b4",  # image-b
    "a6354a735a05efe8",  # assign
    "943c4a8b80e02c18",  # device-ca
    "6ed9a5a7c64a2991",  # server-ca
    "b71e28b04e0ecb50",  # server
)
_OTHERS = (
    "e30466f6b8470c1f",  # MCUboot's and Zephyr's root-ec-p256.pem
    "3c23fc4e1d332a0c",  # MCUboot's enc-ec256-priv.pem
    "bb868a727f0ef75e",  # MCUboot's cypress-test-ec-p256.pem
    "e6c097daf1458d0f",  # MCUboot's bad-ec-p256.pem
    "6dc968724fdedb71",  # MCUboot's key_ec256.pem
    "1c35c9ccb929906e",  # MCUboot's key_ec256_2.pem
)
"""P-256 keys in MCUboot's repository, by which its builds sign unless told otherwise: whoever comes from
there may bring one along.
"""
KIDS = frozenset([bytes.fromhex(kid) for kid in _KIDS])
PUBLISHED = KIDS | frozenset([bytes.fromhex(kid) for kid in _OTHERS])
