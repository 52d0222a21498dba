"""Where ROOT says that the update server is (SPEC 5.2, keys 11 and 12): strictly one way of writing."""

import pytest

from fota_signer.examples import example_key
from fota_wire import cbor, cose, der, host_crypto
from fota_wire import root as roots
from fota_wire.address import parse_address, parse_url
from fota_wire.errors import FormatError, VerifyError

KEYS = [example_key(f"root-{n}") for n in (1, 2)]
XY = [host_crypto.public_xy(key) for key in KEYS]
ROLES = dict.fromkeys((roots.ROOT, roots.RELEASE, roots.ASSIGN), (1, XY))
SERVERS = ("https://updates.example", "https://[2001:db8::1]:8443")
CA = bytes([0x30, 0x82, 0x01, 0x00]) + bytes(256)


def signed(version=1, **more):
    raw = roots.build_root(version, ROLES, **more)
    return roots.FORM.add_signature(raw, cose.kid_of(XY[0]), host_crypto.signer(KEYS[0]))


def payload_with(**fields):
    raw = roots.build_root(1, ROLES)
    payload = cbor.decode(cbor.decode(raw)[0])
    payload.update({int(name[1:]): value for name, value in fields.items()})
    return cbor.encode([cbor.encode(payload)])


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("https://updates.example", "updates.example", 443),
        ("https://localhost:1", "localhost", 1),
        ("https://xn--bcher-kva.example:65535", "xn--bcher-kva.example", 65535),
        ("https://127.0.0.1:8443", "127.0.0.1", 8443),
        ("https://[::1]", "::1", 443),
        ("https://[::]:2", "::", 2),
        ("https://[2001:db8:0:1:2:3:4:5]:8443", "2001:db8:0:1:2:3:4:5", 8443),
        ("https://" + "a" * 63 + ".b", "a" * 63 + ".b", 443),
    ],
)
def test_address_in_its_one_form_is_read(text, host, port):
    assert parse_address(text) == (host, port)


@pytest.mark.parametrize(
    "rest",
    [
        "", ":443", "a:", "a:0", "a:08443", "a:65536", "a:443/", "a/", "a/v1", "a?x", "a#x", "u@a", "u:p@a",
        " a", "a ", "a b", "A.example", "a..b", ".a", "a.", "-a", "a-", "a_b", "b\u00fccher.example", "a\x00",
        "a\n",
        "1.2.3", "1.2.3.256", "1.2.3.04", "12", "a.12", "[::1", "::1", "[]", "[::1]8443", "[::1]:", "[:::1]",
        "[1::2::3]", "[1:2:3:4:5:6:7]", "[1:2:3:4:5:6:7:8:9]", "[12345::]", "[fe80::1%eth0]", "[::ABCD]",
        "[fe80::1%1]", "[1:2:3:4:5:6:7::8]", "a:4\u0664", "a" * 64, "a." * 124 + "a", "a:8443:1",
    ],
)  # fmt: skip
def test_address_in_any_other_form_is_refused(rest):
    with pytest.raises(FormatError) as refused:
        parse_address("https://" + rest)
    assert refused.value.code == "address"
    with pytest.raises(FormatError):
        roots.unsafe_read_root(payload_with(_11=["https://" + rest]))


def test_url_of_a_first_server_is_an_address_and_perhaps_a_path():
    assert parse_url("https://a:1/fota/v1") == ("a", 1, "/fota/v1")
    assert parse_url("https://[::1]") == ("::1", 443, "")
    for odd in (
        "https://a/b?c",
        "https://a/b#c",
        "https://a/ b",
        "https://a/\u00fc",
        "https://a.",
        "http://a/",
    ):
        with pytest.raises(FormatError):
            parse_url(odd)


@pytest.mark.parametrize("text", ["http://a", "HTTPS://a", "a", "", "//a", "https:/a", " https://a"])
def test_address_of_another_scheme_is_refused(text):
    with pytest.raises(FormatError):
        parse_address(text)


def test_root_names_servers_and_their_cas():
    root = roots.open_genesis(signed(servers=SERVERS, server_cas=(CA,)), host_crypto.verify)
    assert (root.servers, root.server_cas) == (list(SERVERS), [CA])


def test_root_that_names_none_leaves_the_factorys():
    root = roots.open_genesis(signed(), host_crypto.verify)
    assert (root.servers, root.server_cas) == ([], [])


def test_root_step_moves_the_servers_and_gives_them_up():
    genesis = roots.open_genesis(signed(), host_crypto.verify)
    moved = roots.step(genesis, signed(2, servers=SERVERS), host_crypto.verify)
    assert (moved.servers, moved.server_cas) == (list(SERVERS), [])
    assert roots.step(moved, signed(3), host_crypto.verify).servers == []


@pytest.mark.parametrize(
    "fields",
    [
        {"_11": []},
        {"_12": []},
        {"_11": [f"https://{n}.example" for n in "abcde"]},
        {"_12": [bytes([0x30, 0x81, 0x80, n]) + bytes(127) for n in range(5)]},
        {"_11": ["https://a", "https://a"]},
        {"_12": [CA, CA]},
        {"_11": "https://a"},
        {"_11": [b"https://a"]},
        {"_12": [CA.hex()]},
        {"_11": None},
        {"_12": [bytes([0x30, 0x82, 0x03, 0xFD]) + bytes(0x3FD)]},
    ],
)
def test_root_with_servers_out_of_shape_is_refused(fields):
    with pytest.raises(FormatError):
        roots.unsafe_read_root(payload_with(**fields))


def test_root_takes_as_many_servers_and_as_large_cas_as_the_limits_say():
    largest = [bytes([0x30, 0x82, 0x03, 0xFC, n]) + bytes(0x3FB) for n in range(3)]
    names = [f"https://{n * 60}.example" for n in "abcd"]
    root = roots.unsafe_read_root(payload_with(_11=names, _12=largest))
    assert (len(root.servers), [len(ca) for ca in root.server_cas]) == (4, [roots.MAX_CA] * 3)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        CA[:-1],
        CA + b"\x00",
        b"\x31" + CA[1:],
        bytes([0x30, 0x7F]) + bytes(127),
        bytes([0x30, 0x81, 0x7F]) + bytes(127),
        bytes([0x30, 0x82, 0x00, 0xFF]) + bytes(255),
        bytes([0x30, 0x80]) + bytes(200),
        bytes([0x30, 0x83, 0x00, 0x01, 0x00]) + bytes(256),
    ],
)
def test_certificate_out_of_its_frame_is_refused(raw):
    with pytest.raises(FormatError) as refused:
        der.require_sequence(raw, "server CA certificate")
    assert refused.value.code == "der"


def test_root_that_outgrows_its_limit_is_not_built():
    cas = tuple(bytes([0x30, 0x82, 0x03, 0xFC, n]) + bytes(0x3FB) for n in range(4))
    with pytest.raises(FormatError, match="longer than 4096"):
        roots.build_root(1, ROLES, server_cas=cas)


def test_any_changed_byte_of_a_root_with_servers_is_refused():
    raw = signed(servers=SERVERS, server_cas=(CA,))
    for at in range(0, len(raw), 3):
        broken = raw[:at] + bytes([raw[at] ^ 0x01]) + raw[at + 1 :]
        with pytest.raises((FormatError, VerifyError)):
            roots.open_genesis(broken, host_crypto.verify)


def ca_of(size, fill=0):
    return bytes([0x30, 0x82, *(size - 4).to_bytes(2, "big")]) + bytes([fill]) * (size - 4)


def root_of(size):
    """A ROOT that has ``size`` bytes once both keys have signed it, and one of them has."""
    block = len(signed()) - len(roots.build_root(1, ROLES))
    big = tuple(ca_of(900, fill) for fill in range(3))
    rest = size - 2 * block - len(roots.build_root(1, ROLES, server_cas=(*big, ca_of(300, 3)))) + 300
    raw = signed(server_cas=(*big, ca_of(rest, 3)))
    assert len(raw) + block == size
    return raw


def test_longest_root_is_signed_and_read():
    full = roots.FORM.add_signature(root_of(roots.MAX_ROOT), cose.kid_of(XY[1]), host_crypto.signer(KEYS[1]))
    assert len(full) == roots.MAX_ROOT
    assert roots.open_genesis(full, host_crypto.verify).version == 1


def test_signature_that_makes_a_root_longer_than_devices_take_is_not_made():
    raw = root_of(roots.MAX_ROOT + 1)
    other = roots.build_root(1, ROLES, server_cas=tuple(roots.unsafe_read_root(raw).server_cas))
    other = roots.FORM.add_signature(other, cose.kid_of(XY[1]), host_crypto.signer(KEYS[1]))
    for make in (
        lambda: roots.FORM.add_signature(raw, cose.kid_of(XY[1]), host_crypto.signer(KEYS[1])),
        lambda: roots.FORM.merge(raw, other),
    ):
        with pytest.raises(FormatError, match="4097 bytes is longer than 4096") as refused:
            make()
        assert refused.value.code == "limit"


def test_image_keys_are_left_out_and_never_null():
    with pytest.raises(FormatError):
        roots.unsafe_read_root(payload_with(_10=None))
