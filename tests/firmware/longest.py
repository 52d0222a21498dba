"""What has SPEC's limits: ROOTs, manifests, certificates and addresses as long as they may be, for the tests
of the chips' firmware.
"""

import datetime
import ipaddress
from contextlib import suppress

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from test_firmware_servers import certify
from world import VENDOR

from fota_wire import address, cose, host_crypto, suit, suit_profile
from fota_wire import root as roots
from fota_wire.errors import FormatError
from fota_wire.host_chips import DEFAULT
from fota_wire.signed import MAX_SIGNATURES

LOOPBACK = "127.0.0.1"
KEY_ID = 20  # bytes
SIGNATURE = 86  # bytes that one takes in a ROOT
THREE = ("root-1", "root-2", "root-3")
EIGHT = tuple(f"root-{n + 1}" for n in range(MAX_SIGNATURES))
RELEASERS = tuple(f"release-{n + 1}" for n in range(suit.MAX_SIGNATURES))
MEMORY = "MemoryError"  # its text is cut where there is no memory for that either
ANEW = "beginning anew"  # after eight tries without memory the agent resets (ADR 51)


def key(world, name):
    return load_pem_private_key((world.keys / f"{name}.pem").read_bytes(), None)


def more_keys(world):
    """Make the keys that the example has not."""
    for name in EIGHT + RELEASERS:
        file = world.keys / f"{name}.pem"
        if not file.exists():
            private = ec.generate_private_key(ec.SECP256R1())
            file.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.chmod(0o600)


def signed(world, raw, names=THREE):
    """Return the ROOT ``raw`` with the signatures of those."""
    for name in names:
        private = key(world, name)
        kid = cose.kid_of(host_crypto.public_xy(private))
        raw = roots.FORM.add_signature(raw, kid, host_crypto.signer(private))
    return raw


def another_ca(number, letters):
    """A CA of some 430 bytes, and ``letters`` in its name, that nobody has a certificate of."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([
        x509.NameAttribute(NameOID.COMMON_NAME, f"ca {number}"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "o" * letters),
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


def four_cas(world, letters=48):
    """Four, of which the server's is the last."""
    own = x509.load_pem_x509_certificate((world.keys / "server-ca.crt").read_bytes())
    others = (another_ca(number, letters) for number in range(roots.MAX_SERVER_CAS - 1))
    return (*others, own.public_bytes(Encoding.DER))


def longest_root(
    world, before, cas=(), size=roots.MAX_ROOT, signers=THREE, releasers=RELEASERS[:3], k=(2, 2)
):
    """Return an unsigned ROOT that follows ``before`` and has ``size`` bytes once ``signers`` have signed it:
    16 keys, ``cas``, as many revocations as there is room for, and the rest in the name of a server that is
    never asked. ``k``: thresholds of ROOT and RELEASE.
    """
    root, release = (
        [host_crypto.public_xy(key(world, name)) for name in names] for names in (signers, releasers)
    )
    assign = [before.keys[kid] for kid in before.role_keys(roots.ASSIGN)]
    filled = roots.MAX_KEYS - len(root) - len(release) - len(assign)
    fill = [bytes([before.version]) + bytes([n]) * 63 for n in range(filled)]
    signatures = SIGNATURE * len(signers)

    def build(count, letters):
        host = ("a" * 60 + ".") * (letters // 61) + "a" * (letters % 61 + 1)
        return roots.build_root(
            before.version + 1,
            {roots.ROOT: (k[0], root), roots.RELEASE: (k[1], release + fill), roots.ASSIGN: (1, assign)},
            revoked=tuple(bytes([before.version, number]) * 16 for number in range(count)),
            image_keys=tuple(before.image_keys.values()),
            servers=(world.device_url.rstrip("/"), f"https://{host}.example"),
            server_cas=cas,
        )

    for count in range(roots.MAX_REVOKED, -1, -1):
        with suppress(FormatError):  # longer than SPEC allows, unsigned
            gap = size - signatures - len(build(count, 0))
            for letters in range(max(0, gap - 3), max(0, min(gap, 200)) + 1):
                if len(raw := build(count, letters)) + signatures == size:
                    return raw
    raise AssertionError(f"no ROOT of {size} bytes")


def longest_manifest(world, image, sequence):
    """Return the file of a manifest about ``image`` with the longest text, signed by as many as may."""
    plain = suit.unsafe_read_manifest(world.manifest(image, sequence, ()).read_bytes())
    version = plain.text["version"]
    text = suit_profile.build_text(
        VENDOR, world.model, version, "d" * 300
    )  # a head as long as the next one's
    text = suit_profile.build_text(
        VENDOR, world.model, version, "d" * (300 + suit_profile.MAX_TEXT - len(text))
    )
    assert len(text) == suit_profile.MAX_TEXT
    content = suit_profile.build_manifest(
        sequence, plain.vendor_id, plain.class_id, plain.digest, plain.size, text
    )
    raw = suit.build_envelope(content, [], text)
    for name in RELEASERS:
        private = key(world, name)
        raw = suit.add_signature(
            raw, cose.kid_of(host_crypto.public_xy(private)), host_crypto.signer(private)
        )
    file = image.with_suffix(".longest")
    file.write_bytes(raw)
    return file


def longest_host(port):
    """Return a host's name with which ``https://HOST:port`` has as many characters as it may have."""
    size = address.MAX_ADDRESS - len(f"https://:{port}")
    return ".".join(["h" * 63] * (size // 64) + ["h" * (size % 64)])


def long_named_ca(world, size):
    """Give the device CA a name that has ``size`` bytes together with its key id."""
    private = key(world, "device-ca")
    old = x509.load_pem_x509_certificate((world.keys / "device-ca.crt").read_bytes())
    units = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "u" * 60) for _ in range(6)]
    for letters in range(1, 65):
        last = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "o" * letters)
        for more in (0, 32, 64):
            extra = [x509.NameAttribute(NameOID.COMMON_NAME, "c" * more)] if more else []
            name = x509.Name([*extra, *units, last])
            if len(name.public_bytes()) + KEY_ID == size:
                builder = x509.CertificateBuilder(name, name, private.public_key(), old.serial_number)
                builder = builder.not_valid_before(old.not_valid_before_utc)
                builder = builder.not_valid_after(old.not_valid_after_utc)
                for extension in old.extensions:
                    builder = builder.add_extension(extension.value, extension.critical)
                made = builder.sign(private, hashes.SHA256())
                (world.keys / "device-ca.crt").write_bytes(made.public_bytes(Encoding.PEM))
                return
    raise AssertionError(f"no name of {size} bytes")


def name_the_server(world, host):
    """Give the server a certificate for ``host``, too."""
    names = [x509.DNSName(host), x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(LOOPBACK))]
    ca = x509.load_pem_x509_certificate((world.keys / "server-ca.crt").read_bytes())
    issuer = ca.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    made = certify("server", key(world, "server"), issuer, key(world, "server-ca"), [
        (x509.SubjectAlternativeName(names), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(key(world, "server-ca").public_key()), False),
    ])  # fmt: skip
    (world.keys / "server.crt").write_bytes(made.public_bytes(Encoding.PEM))


def got_over(world, said):
    """Tell whether want of memory cost the STM32L476 no more than one fresh start, and larger chips nothing.

    How its heap is broken up differs from run to run: mostly the next try goes well, at times only the boot
    after a fresh start. A try that fails as the one before is not said again.
    """
    return said.count(ANEW) <= 1 if world.row.NAME == DEFAULT else MEMORY not in said
