"""ATTESTATION (SPEC 5.7): made by the driver on the modelled element, opened as the server does."""

import pytest
from cryptography import x509

from fota_agent.runner.attest import attest
from fota_wire import attestation, cose, element
from fota_wire.errors import FotaError
from fota_wire.host_crypto import verify

SERIAL = bytes.fromhex("0123a1a2a3a4a5a6ee")
REPORT = b"a report over the server's nonce"


@pytest.fixture
def board(device):
    """A board whose element has an attestation key in slot 1, named in its certificate."""
    config = device.element._nvm.config
    for slot in (0, 1, 2):
        config[20 + 2 * slot : 22 + 2 * slot], config[96 + 2 * slot : 98 + 2 * slot] = element.SLOTS[slot]
    made = device.board()
    public = made.element.generate_key(1)
    device.element.nvm.config[88] &= 0xFC  # slots 0 and 1 locked, as the factory leaves them
    made.certificate = attestation.EXTENSION_OID_DER + attestation.extension_value(public)
    made.attestation_xy = public
    return made


def opened(raw, board, report=REPORT, serial=SERIAL, key_hash=None):
    wanted = cose.key_hash(board.attestation_xy) if key_hash is None else key_hash
    return attestation.open_attestation(raw, report, wanted, serial, verify)


def test_element_attests_the_counter_that_it_has(device, board):
    assert opened(attest(board, REPORT), board).counter == 0
    device.element.nvm.counters[0] = 8 * 3 + 1
    said = opened(attest(board, REPORT), board)
    assert (said.counter, said.floor) == (25, 3)


def test_attestation_of_another_report_counter_key_or_chip_is_refused(device, board, world):
    raw = attest(board, REPORT)
    fields = (
        {"report": b"another report"},
        {"serial": SERIAL[:-1] + b"\x00"},
        {"serial": b"\x02" + SERIAL[1:]},
    )
    for change in fields:
        with pytest.raises(FotaError):
            opened(raw, board, **change)
    with pytest.raises(FotaError, match="another key"):
        opened(raw, board, key_hash=cose.key_hash(world.stranger.xy))
    body = bytearray(raw)
    at = raw.index(b"\x03\x00\x04")  # 3: counter 0, 4: signature
    body[at + 1] = 1
    with pytest.raises(FotaError, match="not of this REPORT"):
        opened(bytes(body), board)


def test_every_flipped_byte_is_refused(board):
    raw = attest(board, REPORT)
    for at in range(len(raw)):
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        with pytest.raises(FotaError):
            opened(changed, board)


def test_firmware_that_owns_the_bus_cannot_have_another_message_signed(board):
    """The key signs what is made inside, and nothing that comes from outside."""
    with pytest.raises(FotaError, match="refused"):
        board.element.sign(bytes(32), 1)


def test_element_that_would_not_sign_a_digested_counter_is_told_and_breaks_nothing(device, board):
    from fota_vdev.atecc608.assumptions import Assumptions

    device.element._executor._assume = Assumptions(gendig_counter_feeds_sign=False)
    with pytest.raises(FotaError, match="refused command 0x41"):
        attest(board, REPORT)
    from fota_agent.agent import Agent

    agent = Agent(board, device.network, device.hooks)
    for _ in range(12):
        device.now += agent.step()
    assert device.network.reports, "it goes on checking in and reporting"
    assert any(line.startswith("no attestation: ") for line in device.hooks.lines)


def test_nothing_is_attested_where_the_certificate_names_no_key(board):
    named = board.certificate
    board.certificate = b"-"
    assert attest(board, REPORT) is None
    board.certificate = named.replace(cose.key_hash(board.attestation_xy), bytes(32))
    assert attest(board, REPORT) is None


def test_oid_is_the_same_in_both_forms():
    name = x509.ObjectIdentifier(attestation.EXTENSION_OID)
    extension = x509.UnrecognizedExtension(name, b"\x04\x00")
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    request = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(extension, critical=False)
    raw = request.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.DER)
    assert attestation.EXTENSION_OID_DER in raw
