"""ROOT steps as long as SPEC 5.2 allows, on the chip: four at once, a whole update beside them, and the boot
after it, whose store has room for one of them and which takes the others again. Each names 16 keys, the last
two four CAs, none of them the other's but the server's.
"""

import datetime
from contextlib import suppress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from fota_wire import cose, host_crypto
from fota_wire import root as roots
from fota_wire.errors import FormatError

pytestmark = pytest.mark.slow
STEPS = 4
SIGNERS = ("root-1", "root-2", "root-3")
SIGNED = 258  # bytes that three signatures take
MEMORY = "MemoryError"  # its text is cut where there is no memory for that either
SETTLES = 24  # check-ins within which it has them all; a step or two each, and some tries that failed
GOT_OVER = 1  # by the next try: how the heap is broken up differs from run to run


def key(world, name):
    return load_pem_private_key((world.keys / f"{name}.pem").read_bytes(), None)


def signed(world, raw, names=SIGNERS):
    for name in names:
        private = key(world, name)
        kid = cose.kid_of(host_crypto.public_xy(private))
        raw = roots.add_signature(raw, kid, host_crypto.signer(private))
    return raw


def another_ca(number):
    """A CA of some 480 bytes that nobody has a certificate of."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([
        x509.NameAttribute(NameOID.COMMON_NAME, f"ca {number}"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "o" * 48),
    ])  # fmt: skip
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    usage = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "crl_sign", "encipher_only", "decipher_only"), False,
    )  # fmt: skip
    builder = x509.CertificateBuilder().serial_number(x509.random_serial_number()).subject_name(name)
    builder = builder.issuer_name(name).public_key(private.public_key())
    builder = builder.not_valid_before(start).not_valid_after(start + datetime.timedelta(days=3650))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    builder = builder.add_extension(x509.KeyUsage(key_cert_sign=True, **usage), True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), False)
    return builder.sign(private, hashes.SHA256()).public_bytes(Encoding.DER)


def four_cas(world):
    """Four, of which the server's is the last."""
    own = x509.load_pem_x509_certificate((world.keys / "server-ca.crt").read_bytes())
    return (*map(another_ca, range(roots.MAX_SERVER_CAS - 1)), own.public_bytes(Encoding.DER))


def longest_root(world, before, cas=(), size=roots.MAX_ROOT):
    """Return an unsigned ROOT that follows ``before`` and has ``size`` bytes with three signatures: 16 keys,
    ``cas``, as many revocations as there is room for, and the rest in the name of a server that is never
    asked.
    """
    three = [host_crypto.public_xy(key(world, f"root-{n}")) for n in (1, 2, 3)]
    release = [host_crypto.public_xy(key(world, f"release-{n}")) for n in (1, 2, 3)]
    fill = [bytes([before.version]) + bytes([n]) * 63 for n in range(roots.MAX_KEYS - 7)]
    assign = [before.keys[kid] for kid in before.role_keys(roots.ASSIGN)]

    def build(count, letters):
        host = ("a" * 60 + ".") * (letters // 61) + "a" * (letters % 61 + 1)
        return roots.build_root(
            before.version + 1,
            {roots.ROOT: (2, three), roots.RELEASE: (2, release + fill), roots.ASSIGN: (1, assign)},
            revoked=tuple(bytes([before.version, number]) * 16 for number in range(count)),
            image_keys=tuple(before.image_keys.values()),
            servers=(world.device_url.rstrip("/"), f"https://{host}.example"),
            server_cas=cas,
        )

    for count in range(roots.MAX_REVOKED, -1, -1):
        with suppress(FormatError):  # longer than SPEC allows, unsigned
            gap = size - SIGNED - len(build(count, 0))
            for letters in range(max(0, gap - 3), max(0, min(gap, 200)) + 1):
                if len(raw := build(count, letters)) + SIGNED == size:
                    return raw
    raise AssertionError(f"no ROOT of {size} bytes")


@pytest.fixture
def steps(chip):
    """Four ROOTs in a row, published."""
    before = roots.unsafe_read_root(chip.root.read_bytes())
    made = []
    for number in range(STEPS):
        made.append(signed(chip, longest_root(chip, before, four_cas(chip) if number >= STEPS // 2 else ())))
        file = chip.folder / f"root-{number}.cbor"
        file.write_bytes(made[-1])
        chip.fota("release", "root", file)
        before = roots.unsafe_read_root(made[-1])
    return made


def settled(chip, version):
    """Run until the chip of that version has every step, as the server knows; return what it said."""
    said = ""
    for _ in range(SETTLES):
        said += chip.run_chip(f"agent {version}: settled")
        if chip.twin()["root_version"] > STEPS:
            return said
    raise AssertionError(f"not all steps within {SETTLES} check-ins:\n{said}")


def test_four_of_the_longest_root_steps_are_taken_in_two_boots_and_an_update_beside_them(chip, steps):
    assert [len(step) for step in steps] == [roots.MAX_ROOT] * STEPS
    said = settled(chip, "1.0.0")
    chip.release_chip("1.1.0", 2)
    chip.fota("rollout", "start", "1.1.0", "--device", chip.device_id)
    said += chip.run_chip("agent 1.1.0: confirmed")
    said += settled(chip, "1.1.0")  # what its store has no room for comes again
    assert said.count(MEMORY) <= GOT_OVER
    assert "certificate is not" not in said  # it is by the last of four CAs
    assert "agent: stopped" not in said
    assert chip.machine.faults == []
    assert [cause for _, cause in chip.machine.resets if cause == "iwdg"] == []


def test_signer_and_server_take_no_longer_root_and_name_the_limit(chip):
    before = roots.unsafe_read_root(chip.root.read_bytes())
    raw = longest_root(chip, before, size=roots.MAX_ROOT + 1)
    file, last = chip.folder / "too-long.cbor", chip.keys / f"{SIGNERS[-1]}.pem"
    file.write_bytes(signed(chip, raw, SIGNERS[:-1]))
    words = f"ROOT of {roots.MAX_ROOT + 1} bytes is longer than {roots.MAX_ROOT}"
    assert words in chip.fota(
        "root", "sign", file, "--previous", chip.root, "--key", last, "-o", chip.folder / "never.cbor", ends=3
    )
    assert not (chip.folder / "never.cbor").exists()
    file.write_bytes(bytes(roots.MAX_ROOT + 1))
    assert str(roots.MAX_ROOT) in chip.fota("release", "root", file, ends=3)
