"""ROOT steps as large as SPEC 5.2 allows, on the chip: four at once, which it takes one after the other, and
a whole update after them. Two are full of server CAs, two of keys and revocations.
"""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID, ObjectIdentifier

from fota_wire import cose, host_crypto
from fota_wire import root as roots
from fota_wire.host_ca import certificate_der, pem_certificates

pytestmark = pytest.mark.slow
SIGNERS = ("root-1", "root-2", "root-3")
MEMORY = "MemoryError"  # its text is cut where there is no memory for that either
NETSCAPE_COMMENT = ObjectIdentifier("2.16.840.1.113730.1.13")
NEARLY = roots.MAX_ROOT - 64
CA_SIZE = 480  # bytes, as a CA of P-256 has them


def key(world, name):
    return load_pem_private_key((world.keys / f"{name}.pem").read_bytes(), None)


def signed(world, raw):
    for name in SIGNERS:
        private = key(world, name)
        kid = cose.kid_of(host_crypto.public_xy(private))
        raw = roots.add_signature(raw, kid, host_crypto.signer(private))
    return raw


def next_root(world, before, more=(), **fields):
    """Return a signed ROOT that follows ``before``; ``more``: RELEASE keys that nobody has."""
    three = [host_crypto.public_xy(key(world, f"root-{n}")) for n in (1, 2, 3)]
    release = [host_crypto.public_xy(key(world, f"release-{n}")) for n in (1, 2, 3)]
    assign = [before.keys[kid] for kid in before.role_keys(roots.ASSIGN)]
    raw = roots.build_root(
        before.version + 1,
        {roots.ROOT: (2, three), roots.RELEASE: (2, [*release, *more]), roots.ASSIGN: (1, assign)},
        image_keys=tuple(before.image_keys.values()),
        retired=tuple(bytes([n]) * 32 for n in range(roots.MAX_RETIRED)),
        **fields,
    )
    return signed(world, raw)


def full_of_keys(world, before):
    """All keys, all revocations that there may be, other ones each time."""
    fill = [bytes([before.version]) + bytes([n]) * 63 for n in range(roots.MAX_KEYS - 7)]
    revoked = tuple(bytes([before.version, n]) * 16 for n in range(roots.MAX_REVOKED))
    return next_root(world, before, fill, revoked=revoked)


def other_ca(number, size):
    """Return a CA's certificate of ``size`` bytes, in DER."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"CA {number}")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, private.public_key(), 1 << 80)
    builder = builder.not_valid_before(start).not_valid_after(start + datetime.timedelta(days=3650))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    room = size
    while True:
        comment = x509.UnrecognizedExtension(
            NETSCAPE_COMMENT, bytes([0x1E, 0x82, *divmod(room, 256)]) + bytes(room)
        )
        raw = certificate_der(builder.add_extension(comment, critical=False).sign(private, hashes.SHA256()))
        if len(raw) <= size:
            return raw
        room -= 1


def full_of_cas(world, before):
    """Four CAs, the server's own behind the others, and as many keys and revocations as there is room for."""
    own = certificate_der(pem_certificates((world.keys / "server-ca.crt").read_bytes(), "server CA")[0])
    cas = (*[other_ca(number, CA_SIZE) for number in range(roots.MAX_SERVER_CAS - 1)], own)
    where = {"servers": [world.device_url.rstrip("/")], "server_cas": cas}
    fill = [bytes([before.version]) + bytes([n]) * 63 for n in range(roots.MAX_KEYS - 7)]
    room = roots.MAX_ROOT - len(next_root(world, before, fill, **where))
    revoked = tuple(bytes([before.version, n]) * 16 for n in range(room // 34))
    return next_root(world, before, fill, revoked=revoked, **where)


@pytest.fixture
def steps(chip):
    """Four ROOTs in a row, published."""
    before = roots.unsafe_read_root(chip.root.read_bytes())
    made = []
    for number, make in enumerate((full_of_cas, full_of_cas, full_of_keys, full_of_keys)):
        made.append(make(chip, before))
        file = chip.folder / f"root-{number}.cbor"
        file.write_bytes(made[-1])
        chip.fota("release", "root", file)
        before = roots.unsafe_read_root(made[-1])
    return made


def test_root_steps_at_the_limit_are_taken_and_a_whole_update_still_fits(chip, steps):
    assert [len(step) for step in steps if not NEARLY <= len(step) <= roots.MAX_ROOT] == []
    said = chip.run_chip("agent 1.0.0: settled")
    while chip.twin()["root_version"] <= len(steps):
        said += chip.run_chip("agent 1.0.0: settled")
    chip.release_chip("1.1.0", 2)
    chip.fota("rollout", "start", "1.1.0", "--device", chip.device_id)
    said += chip.run_chip("agent 1.1.0: confirmed")
    said += chip.run_chip("agent 1.1.0: settled")
    while chip.twin()["root_version"] <= len(steps):  # what its store has no room for comes again
        said += chip.run_chip("agent 1.1.0: settled")
    assert said.count(MEMORY) <= 2  # CHANGELOG, "Known to fall short": at this edge it is tried again
    assert "agent: stopped" not in said
    assert chip.machine.faults == []
    assert [cause for _, cause in chip.machine.resets if cause == "iwdg"] == []
