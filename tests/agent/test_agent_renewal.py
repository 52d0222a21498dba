"""Keys over the air on the virtual device: rotation, renewal, and a power cut at every step of them."""

import contextlib
import hashlib
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fota_agent.agent import Agent
from fota_agent.runner.renewal import FALL_BACK_AFTER, PROOFS, _fits
from fota_signer.factory.ca import DeviceCa, issue
from fota_signer.factory.certify import certify_order
from fota_wire import certify, checkin, host_crypto, settings
from fota_wire.chips import stm32l476
from fota_wire.errors import DeviceError, TransportError

ID = "0123a1a2a3a4a5a6ee"


@pytest.fixture(scope="session")
def ca():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")])
    import datetime

    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, start, start.replace(year=2046))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return DeviceCa(key=key, certificate=certificate)


def certificate_for(ca, key):
    """The factory's certificate of a software key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ID)])
    csr = x509.CertificateSigningRequestBuilder(name).sign(key.private, hashes.SHA256())
    from cryptography.hazmat.primitives.serialization import Encoding

    return issue(csr.public_bytes(Encoding.DER), bytes.fromhex(ID), ca)


class Body:
    """A response body."""

    def __init__(self, data) -> None:
        self.length, self._data = len(data), data

    def readinto(self, buf):
        count = min(len(buf), len(self._data))
        buf[:count], self._data = self._data[:count], self._data[count:]
        return count

    def close(self) -> None:
        pass


class Server:
    """The server of SPEC 5.6 at the other end of ``request``, in variables; its CA is the real one.

    It takes a client by the certificate that the board acts by, and holds the element to possession of that
    certificate's key, as a TLS handshake does.
    """

    def __init__(self, device, ca, factory) -> None:
        self.network, self.device, self.ca, self.factory = device.network, device, ca, factory
        self.wanted, self.order, self.issued, self.current = 0, None, None, None
        self.board = None
        self.days = None
        self.hold = False
        self.refuse_new = False
        self.log = []

    def connect(self, path, proving):
        certificate = x509.load_der_x509_certificate(self.board.certificate)
        certificate.verify_directly_issued_by(self.ca.certificate)
        public = host_crypto.public_xy(certificate.public_key())
        digest = hashlib.sha256(b"handshake" + path.encode()).digest()
        if not host_crypto.verify(public, digest, self.board.element.sign(digest)):
            raise TransportError("the handshake failed: not the key of this certificate")
        allowed = [self.factory, self.current]
        if proving and self.issued is not None and not self.refuse_new:
            allowed.append(self.issued[0])
        if public not in allowed:
            raise TransportError("forbidden", 403)
        return public

    def request(self, method, path, headers, body=b""):
        order = certify.parse_request(body) if path == "/v1/certificate" else b""
        public = self.connect(path, order is None)
        self.log.append((path, public))
        if path == "/v1/checkin":
            self.network.device_public = public
            status, answer, reader = self.network.request(method, path, headers, body)
            parsed = checkin.parse_response(reader._data)
            parsed.key_order = self.wanted
            return self.answer(checkin.encode_response(parsed), status, answer)
        return self.answer(self.certificate(public, order))

    def answer(self, data, status=200, headers=None):
        return status, headers or {}, Body(data)

    def certificate(self, public, order):
        if order is None:
            if self.issued is not None and self.issued[1] == self.board.certificate:
                self.current, self.wanted, self.order, self.issued = public, 0, None, None
            return certify.encode_answer(certify.CURRENT, None)
        if not self.wanted:
            raise TransportError("not wanted", 403)
        raw = certify_order(order, ID, self.ca, self.days)
        key = host_crypto.public_xy(x509.load_der_x509_certificate(raw).public_key())
        if self.hold:
            return certify.encode_answer(certify.PENDING, None)
        if self.issued is None or self.issued[0] != key:
            self.issued = (key, raw)
        return certify.encode_answer(certify.ISSUED, self.issued[1])

    def close(self):
        pass


@pytest.fixture
def rotating(device, world, ca):
    """The virtual device with a re-keyable slot 2, its server, and the question what it acts by."""
    config = device.element._nvm.config
    config[20:22] = config[24:26] = b"\x81\x20"
    config[96:98] = config[100:102] = b"\x33\x00"
    trust = settings.TrustStore(
        genesis_root=world.genesis, server_ca=b"-", device_cert=certificate_for(ca, world.device),
        server_url="https://localhost", vendor_id=bytes(range(16)), class_id=bytes(range(16, 32)),
    )  # fmt: skip
    device.machine.flash.write_phys(1, stm32l476.TRUST_STORE_OFFSET, settings.pack_trust_store(trust))
    server = Server(device, ca, world.device.xy)

    def agent():
        from fota_agent.agent import Agent

        server.board = device.board()
        return Agent(server.board, server, device.hooks)

    def run(steps=40, agent_=None):
        """Let one boot of the agent go on until it is settled and nothing is left to do with its key."""
        made = agent_ or agent()
        for _ in range(steps):
            device.now += made.step()
            if made.engine.settled and not made._runner._renewal.due:
                break
        return made

    def key_in_slot(slot):
        board = device.board()
        return board.element.public_key(slot)

    return SimpleNamespace(device=device, server=server, agent=agent, run=run, key_in_slot=key_in_slot)


def acts_by(server):
    return [public for path, public in server.log if path == "/v1/checkin"][-1]


def test_device_rotates_and_reports_and_connects_by_its_new_key_after_a_reset(rotating, world):
    server = rotating.server
    server.wanted = certify.ROTATE
    rotating.run()
    assert server.current == rotating.key_in_slot(2) != world.device.xy
    assert server.log[0] == ("/v1/checkin", world.device.xy)
    assert acts_by(server) == server.current
    rotating.device.boot(world.v1)
    reports = len(rotating.device.network.reports)
    rotating.run()
    assert acts_by(server) == server.current
    assert len(rotating.device.network.reports) > reports  # opened with the new key: SPEC 5.4


def test_second_rotation_goes_by_the_factory_key_and_leaves_the_first_key_refused(rotating, world):
    server = rotating.server
    server.wanted = certify.ROTATE
    rotating.run()
    first = server.current
    server.wanted = certify.ROTATE
    rotating.device.boot(world.v1)
    rotating.run()
    assert server.current == rotating.key_in_slot(2) != first
    rotating.device.boot(world.v1)
    rotating.run()
    assert acts_by(server) == server.current


@pytest.mark.parametrize("rotated", [False, True], ids=["factory-key", "rotated-key"])
def test_renewal_keeps_the_key_and_changes_the_certificate(rotating, world, rotated):
    server = rotating.server
    if rotated:
        server.wanted = certify.ROTATE
        rotating.run()
        rotating.device.boot(world.v1)
    agent = rotating.run()
    before, key = server.board.certificate, server.board.public_key
    server.wanted = certify.RENEW
    agent.check_in()
    for _ in range(40):
        rotating.device.now += agent.step()
    assert server.wanted == 0
    assert server.board.certificate != before
    assert server.board.public_key == key


def test_certificate_that_the_ca_has_not_signed_yet_is_asked_for_again_with_the_same_key(rotating, world):
    server = rotating.server
    server.wanted, server.hold = certify.ROTATE, True
    rotating.run()
    made = rotating.key_in_slot(2)
    rotating.device.boot(world.v1)
    rotating.run()
    assert rotating.key_in_slot(2) == made
    server.hold = False
    rotating.device.boot(world.v1)
    rotating.run()
    assert server.current == made


def test_new_certificate_that_the_server_refuses_is_given_up_and_the_old_one_stays(rotating, world):
    server = rotating.server
    server.wanted, server.refuse_new = certify.ROTATE, True
    agent = rotating.run()
    for _ in range(PROOFS + 1):
        agent.check_in()
        for _ in range(20):
            rotating.device.now += agent.step()
    assert server.board.public_key == world.device.xy
    server.refuse_new = False
    rotating.device.boot(world.v1)
    rotating.run()
    assert server.current == rotating.key_in_slot(2)


def test_server_that_forgot_the_rotation_is_met_by_the_factory_key_after_some_refusals(rotating, world):
    server = rotating.server
    server.wanted = certify.ROTATE
    rotating.run()
    server.current = None
    rotating.device.boot(world.v1)
    agent = rotating.agent()
    for _ in range(20 * FALL_BACK_AFTER):
        rotating.device.now += agent.step()
    assert acts_by(server) == world.device.xy


def test_certificate_for_another_key_or_device_is_not_taken(rotating, world, ca):
    key = world.stranger
    raw = certificate_for(ca, key)
    assert _fits(raw, key.xy, ID)
    assert not _fits(raw, world.device.xy, ID)
    assert not _fits(raw, key.xy, "0123a1a2a3a4a5a6ef")


@pytest.mark.parametrize("reset", [True, False], ids=["before-a-boot", "while-it-runs"])
def test_key_that_somebody_on_the_bus_made_anew_is_given_up_for_the_factorys(rotating, world, reset):
    """GenKey of slot 2 is open to whoever has the bus: he ends the rotated key, and no more."""
    server = rotating.server
    server.wanted = certify.ROTATE
    agent = rotating.run()
    rotating.device.board().element.generate_key(2)
    if reset:
        rotating.device.boot(world.v1)
        agent = rotating.agent()
    for _ in range(20 * FALL_BACK_AFTER):
        agent.check_in()
        rotating.device.now += agent.step()
    assert acts_by(server) == world.device.xy
    server.wanted = certify.ROTATE
    for _ in range(40):
        agent.check_in()
        rotating.device.now += agent.step()
    assert server.current == rotating.key_in_slot(2)


def test_damaged_store_leaves_the_factory_key(rotating, world):
    server = rotating.server
    server.wanted = certify.ROTATE
    rotating.run()
    rotating.device.machine.flash.write_phys(
        2, stm32l476.AGENT_STORE_OFFSET, b"\0" * stm32l476.AGENT_STORE_SIZE
    )
    rotating.device.boot(world.v1)
    rotating.run()
    assert acts_by(server) == world.device.xy


def test_key_that_is_gone_from_the_element_keeps_no_agent_from_starting(rotating, world):
    """A token that was set up anew, say: the store still names a key in it."""
    server = rotating.server
    server.wanted = certify.ROTATE
    rotating.run()
    rotating.device.boot(world.v1)
    board = rotating.device.board()
    usual = board.element.public_key

    def gone(slot=None):
        if slot == 2:
            raise DeviceError("the token has no such key")
        return usual(slot)

    board.element.public_key = gone
    Agent(board, server, rotating.device.hooks)
    assert board.public_key == world.device.xy
    assert "key: the factory's instead: the token has no such key" in rotating.device.hooks.lines


def test_element_that_fails_while_the_key_is_changed_mixes_no_two_keys(rotating, world):
    server = rotating.server
    server.wanted = certify.ROTATE
    agent = rotating.agent()
    board, element = server.board, server.board.element
    usual, failures = element.public_key, [0]

    def fails_for_slot_2(slot=None):
        if slot == 2 and server.issued is not None and not failures[0]:
            failures[0] += 1
            raise DeviceError("noise on the bus")
        return usual(slot)

    element.public_key = fails_for_slot_2
    rotating.run(agent_=agent)
    assert failures == [1]
    assert (board.public_key, element.key_slot) == (rotating.key_in_slot(2), 2)
    assert server.wanted == 0


# -- power ---------------------------------------------------------------------------------------------------


def rotation_with_a_cut(rotating, world, arm):
    """Rotate twice; in the second rotation the power fails where ``arm`` says. Return whether it did."""
    server, device = rotating.server, rotating.device
    server.wanted = certify.ROTATE
    rotating.run()
    device.boot(world.v1)
    agent = rotating.agent()
    first = server.current
    server.wanted = certify.ROTATE
    arm(device)
    with contextlib.suppress(DeviceError):
        rotating.run(agent_=agent)
    cut = not device.machine.powered
    for _ in range(2):
        device.boot(world.v1)
        rotating.run()
    assert acts_by(server) in (server.factory, server.current)
    assert server.wanted == 0, "the rotation came to its end"
    assert server.current == rotating.key_in_slot(2) != first
    device.boot(world.v1)
    rotating.run()
    assert acts_by(server) == server.current
    return cut


COMMANDS, FLASH_OPERATIONS = 35, 142  # of a boot that rotates


@pytest.mark.parametrize("command", range(1, COMMANDS + 1))
@pytest.mark.parametrize("torn", [None, 7], ids=["before", "torn"])
def test_power_cut_at_an_element_command_of_a_rotation_never_locks_out(rotating, world, command, torn):
    assert rotation_with_a_cut(
        rotating, world, lambda device: device.machine.cut_power_at(element_command=command, torn=torn)
    )


@pytest.mark.parametrize("operation", range(1, FLASH_OPERATIONS + 1, 6))
@pytest.mark.parametrize("torn", [None, 3], ids=["before", "torn"])
def test_power_cut_while_the_store_is_written_never_locks_out(rotating, world, operation, torn):
    assert rotation_with_a_cut(
        rotating, world, lambda device: device.machine.cut_power_at(flash_op=operation, torn=torn)
    )
