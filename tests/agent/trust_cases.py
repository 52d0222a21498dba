"""By which CAs a server is believed: one table for the agent on CPython, for the TLS of the chip, and for the
server, which tells before a ROOT is published whether devices would find it.
"""

import datetime
import ipaddress
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DER, PEM = serialization.Encoding.DER, serialization.Encoding.PEM
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
NO_USAGE = dict.fromkeys(
    ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
     "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False,
)  # fmt: skip


class Signer:
    """A certificate and its key; ``certify`` issues others."""

    def __init__(self, name, by=None, *, ca=True, path_length=None, usage=None, purpose=None, san=()):
        self.name = name
        self.key = ec.generate_private_key(ec.SECP256R1())
        by = by or self
        builder = x509.CertificateBuilder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, by.name)]),
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            self.key.public_key(),
            x509.random_serial_number(),
        )
        builder = builder.not_valid_before(START).not_valid_after(START + datetime.timedelta(days=3650))
        basic = x509.BasicConstraints(ca=ca, path_length=path_length)
        builder = builder.add_extension(basic, critical=True)
        for key_id in (
            x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()),
            x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key()),
        ):
            builder = builder.add_extension(key_id, critical=False)
        if usage is not None:
            builder = builder.add_extension(x509.KeyUsage(**NO_USAGE | dict.fromkeys(usage, True)), True)
        if purpose is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if san:
            builder = builder.add_extension(x509.SubjectAlternativeName(san), critical=False)
        self.certificate = builder.sign(by.key, hashes.SHA256())
        self.der = self.certificate.public_bytes(DER)


LOCALHOST = (x509.DNSName("localhost"),)
LOOPBACK = (x509.IPAddress(ipaddress.ip_address("127.0.0.1")),)


def leaf(by=None, name="localhost", san=LOCALHOST, **how):
    return Signer(name, by, ca=False, san=san, **how)


ROOT, OTHER = Signer("root"), Signer("other")
SAME_NAME = Signer("root")
MIDDLE = Signer("middle", ROOT)
LAST = Signer("last", ROOT, path_length=0)
BEHIND_LAST = Signer("behind", LAST)
NO_CA = Signer("no ca", ca=False)
NO_CERT_SIGN = Signer("no sign", usage=("digital_signature",))
OWN, FAR, FURTHER = leaf(ROOT), leaf(MIDDLE), leaf(BEHIND_LAST)
ALONE = leaf(None)

CASES = [
    # name, what the server shows, what the device trusts, the host it asks for, whether it believes
    ("issued-by-the-root", [OWN], [ROOT], "localhost", True),
    ("issued-by-the-second-of-two", [OWN], [OTHER, ROOT], "localhost", True),
    ("issued-by-one-of-two-of-one-name", [OWN], [SAME_NAME, ROOT], "localhost", True),
    ("issued-by-another", [OWN], [OTHER], "localhost", False),
    ("issued-by-another-of-its-name", [OWN], [SAME_NAME], "localhost", False),
    ("through-an-intermediate", [FAR, MIDDLE], [ROOT], "localhost", True),
    ("through-an-intermediate-that-is-not-shown", [FAR], [ROOT], "localhost", False),
    ("an-intermediate-is-trusted", [FAR], [MIDDLE], "localhost", True),
    ("an-intermediate-is-trusted-and-shown", [FAR, MIDDLE], [MIDDLE], "localhost", True),
    ("an-intermediate-is-trusted-all-is-shown", [FAR, MIDDLE, ROOT], [MIDDLE], "localhost", True),
    ("an-intermediate-of-another-is-trusted", [OWN], [MIDDLE], "localhost", False),
    ("a-path-too-long", [FURTHER, BEHIND_LAST, LAST], [ROOT], "localhost", False),
    ("a-ca-that-is-none", [leaf(NO_CA)], [NO_CA], "localhost", False),
    ("a-ca-that-may-not-certify", [leaf(NO_CERT_SIGN)], [NO_CERT_SIGN], "localhost", False),
    ("the-certificate-itself-is-trusted", [OWN], [OWN], "localhost", False),
    ("a-certificate-of-its-own", [ALONE], [ALONE], "localhost", True),
    ("a-certificate-of-its-own-that-nobody-trusts", [ALONE], [ROOT], "localhost", False),
    ("a-client-s-certificate",
     [leaf(ROOT, purpose=ExtendedKeyUsageOID.CLIENT_AUTH)], [ROOT], "localhost", False),
    ("another-host", [leaf(ROOT, san=(x509.DNSName("elsewhere"),))], [ROOT], "localhost", False),
    ("a-host-by-its-common-name", [leaf(ROOT, san=())], [ROOT], "localhost", True),
    ("another-host-by-its-common-name", [leaf(ROOT, name="elsewhere", san=())], [ROOT], "localhost", False),
    ("an-address", [leaf(ROOT, san=LOOPBACK)], [ROOT], "127.0.0.1", True),
    ("an-address-that-it-is-not-for", [OWN], [ROOT], "127.0.0.1", False),
]  # fmt: skip
IDS = [case[0] for case in CASES]
HOST_CASES = ("another-host", "an-address-that-it-is-not-for", "another-host-by-its-common-name")


def write_chain(file, shown):
    """Write key and certificates as a server has them."""
    key = shown[0].key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(key + b"".join(one.certificate.public_bytes(PEM) for one in shown))
    return file


def server_context(file):
    """Return a server's context that asks for no certificate of its clients."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context
