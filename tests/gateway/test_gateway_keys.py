"""Where a gateway's key lies: SoftHSM2 and the modelled element, TLS 1.2 and 1.3; wrong PIN, no token."""

import ctypes
import os
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from gateway_world import KEYS
from hsm import PIN
from lifeline import HANG_S, until

from fota_agent.agent import Agent
from fota_agent.boards.atecc608 import Atecc608
from fota_agent.boards.linux.board import LinuxBoard, open_element
from fota_agent.boards.linux.gateway import Gateway
from fota_agent.boards.linux.late import LateElement
from fota_agent.boards.linux.launcher import Launcher
from fota_agent.boards.linux.pkcs11 import Pkcs11Element
from fota_agent.transport import tls_cpython
from fota_cli import gateway_setup
from fota_signer.factory import ca, request
from fota_wire import host_crypto, pkcs10, settings, status
from fota_wire.errors import DeviceError, InputError
from fota_wire.host_pkcs11 import find

SERIAL = bytes.fromhex("f0") * 9


@pytest.fixture(scope="module")
def token(hsm):
    element = Pkcs11Element(hsm.module, "fota", "keys-test", PIN, SERIAL)
    element.generate_key(0)
    return element


def test_token_signs_draws_and_keeps_its_pairs_apart(token):
    digest = bytes(range(32))
    assert host_crypto.verify(token.public_key(), digest, token.sign(digest))
    first = token.public_key(0)
    second = token.generate_key(2)
    assert first != second
    assert host_crypto.verify(second, digest, token.sign(digest, 2))
    token.key_slot = 2
    assert token.public_key() == second
    token.key_slot = 0
    assert token.generate_key(2) != second, "the old one is gone"
    assert token.public_key(0) == first
    assert len(token.random()) == 32
    assert token.random() != token.random()
    with pytest.raises(DeviceError, match="no such key"):
        token.sign(digest, 5)
    with pytest.raises(DeviceError, match="no counter"):
        token.attest(bytes(20))


def behind_its_back(hsm, call, *arguments):
    """Call the module as another part of the process might: the same library, nobody's session asked."""
    module = ctypes.CDLL(hsm.module)
    assert getattr(module, call)(*arguments) == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the library's destructors
@pytest.mark.parametrize("loss", ["C_CloseAllSessions", "C_Finalize", "C_Logout"])
@pytest.mark.parametrize("act", ["sign", "random", "public_key", "generate_key"])
def test_session_that_was_lost_is_opened_again(token, hsm, loss, act):
    before = token.public_key(0)
    slot = ctypes.c_ulong(token.token.session.token.slot.slot_id)
    session = ctypes.c_ulong(token.token.session.handle)
    arguments = {"C_CloseAllSessions": slot, "C_Finalize": None, "C_Logout": session}
    behind_its_back(hsm, loss, arguments[loss])
    if act == "sign":
        assert host_crypto.verify(before, bytes(32), token.sign(bytes(32), 0))
    elif act == "random":
        assert len(token.random()) == 32
    elif act == "public_key":
        assert token.public_key(0) == before
    else:
        made = token.generate_key(3)
        assert host_crypto.verify(made, bytes(32), token.sign(bytes(32), 3))
    assert host_crypto.verify(before, bytes(32), token.sign(bytes(32), 0))


def test_private_key_cannot_be_read_out(token):
    from pkcs11 import Attribute, ObjectClass
    from pkcs11.exceptions import PKCS11Error

    key = find(token.token.session, ObjectClass.PRIVATE_KEY, "keys-test")
    assert key[Attribute.EXTRACTABLE] is False
    with pytest.raises(PKCS11Error):
        _ = key[Attribute.VALUE]


def test_module_is_kept_by_a_name_that_holds_everywhere(hsm, monkeypatch):
    module = Path(hsm.module)
    monkeypatch.chdir(module.parent)
    assert gateway_setup._module(f"./{module.name}") == str(module)
    assert gateway_setup._module(str(module)) == str(module)


@pytest.mark.parametrize(
    ("change", "code", "word"),
    [
        ({"pin": "000000"}, status.CE5, "refuses the PIN"),
        ({"token": "other"}, status.CE1, "no token other"),
        ({"module": "/nowhere.so"}, status.CE1, "/nowhere.so is no module that can be loaded: cannot open"),
    ],
)
def test_token_that_is_not_usable_is_one_clear_line(hsm, tmp_path, change, code, word):
    """In a process of its own: a module is loaded and logged in once."""
    import subprocess
    import sys

    values = {"module": hsm.module, "token": "fota", "pin": PIN, **change}
    script = (
        "from fota_agent.boards.linux.pkcs11 import Pkcs11Element\nfrom fota_wire.errors import FotaError\n"
        f"try: Pkcs11Element({values['module']!r}, {values['token']!r}, 'x', {values['pin']!r}, bytes(9))\n"
        "except FotaError as exc: print(exc.code, exc)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, **hsm.environment}
    )  # fmt: skip
    assert done.stdout.startswith(f"{code} ")
    assert word in done.stdout
    assert PIN not in done.stdout + done.stderr


def serve(version, got):
    """A server of the example CA that speaks one TLS version and requires a device certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(KEYS / "server.crt", KEYS / "server.pem")
    context.load_verify_locations(KEYS / "device-ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = version
    listener = socket.create_server(("127.0.0.1", 0))

    def run():
        raw, _ = listener.accept()
        try:
            with context.wrap_socket(raw, server_side=True) as tls:
                got.append((tls.version(), tls.getpeercert()["subject"][0][0][1]))
                tls.recv(10)
        except OSError as exc:
            got.append(exc)
        listener.close()

    threading.Thread(target=run, daemon=True).start()
    return listener.getsockname()[1]


def certificate(element, serial):
    authority = ca.load_ca(KEYS / "device-ca.pem", KEYS / "device-ca.crt", allow_example_keys=True)
    info, public = pkcs10.request_info(serial.hex(), element.public_key()), element.public_key()
    import hashlib

    signature = element.sign(hashlib.sha256(info).digest())
    return ca.issue(request.certificate_request(serial.hex(), public, signature), serial, authority)


def server_ca():
    pem = (KEYS / "server-ca.crt").read_bytes()
    return x509.load_pem_x509_certificate(pem).public_bytes(ca.Encoding.DER)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", ["SoftHSM2", "modelled element"])
def test_mutual_tls_with_the_key_outside(token, kind, version):
    element, serial = token, SERIAL
    if kind == "modelled element":
        element, serial = modelled_element()
    got = []
    key = tls_cpython.ElementKey(element.public_key(), element.sign)
    context = tls_cpython.client_context([server_ca()], certificate(element, serial), key, tls12=True)
    stream = tls_cpython.connector("127.0.0.1", serve(version, got), context, key, HANG_S)()
    stream.write(b"x")
    until(lambda: got)
    stream.close()
    assert got == [({771: "TLSv1.2", 772: "TLSv1.3"}[version], serial.hex())]


def modelled_element():
    """An element that a factory has made a key in, on the virtual device's I2C bus; and its serial number."""
    machine_module = pytest.importorskip("fota_vdev.machine")
    from fota_vdev.atecc608 import Atecc608 as Model
    from fota_vdev.atecc608.memory import LOCK_CONFIG, LOCK_VALUE, Nvm, factory_config

    serial = bytes.fromhex("0123a1a2a3a4a5a6ee")
    config = bytearray(factory_config(serial, b"\x00\x00\x60\x03"))
    config[LOCK_CONFIG] = config[LOCK_VALUE] = 0
    nvm = Nvm(config)
    nvm.slots[0][:] = bytes(4) + bytes(range(1, 33))
    machine = machine_module.Machine(element=Model(nvm=nvm), seed=3)
    machine.power_on()
    machine.mem32[0x40021060] |= 1
    return Atecc608(machine.i2c, machine.sleep_us), serial


def test_gateway_checks_in_with_a_key_in_the_modelled_element(world, first, tmp_path):
    """As with an ATECC608 on /dev/i2c-1: the same driver, the bus a model."""
    element, serial = modelled_element()
    made = world.gateway("element", first)
    text = (made / "gateway.toml").read_text()
    lines = [
        f'device_id = "{serial.hex()}"' if line.startswith("device_id") else line
        for line in text.splitlines()
    ]
    (made / "gateway.toml").write_text("\n".join(lines))
    trust = settings.unpack_trust_store((made / "trust.cbor").read_bytes())
    trust.device_cert = certificate(element, serial)
    (made / "trust.cbor").write_bytes(settings.pack_trust_store(trust))
    gateway = Gateway(made)
    with Launcher(gateway, [], lambda _line: None) as launcher:
        launcher.boot()
        agent = Agent(LinuxBoard(gateway, element))
        assert agent.sync(HANG_S)
        agent.close()
    assert world.fota("device", "show", serial.hex()).count("1.0.0") >= 2


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"kind": "pkcs11"}, "missing or unusable"),
        ({"kind": "tpm"}, "kind is pkcs11 or atecc608"),
        ({}, "missing or unusable"),
    ],
)
def test_element_table_that_is_not_usable_is_one_clear_line(world, first, table, word):
    path = world.folder / "unused"
    gateway = Gateway(path if path.exists() else world.gateway("unused", first))
    gateway.element = table
    with pytest.raises(InputError, match=word):
        open_element(gateway)


@pytest.mark.parametrize(
    ("change", "options", "code", "word"),
    [
        ('[updates]\nmode = "nonsense"', [], 3, "update mode nonsense is none of"),
        ('[updates]\nwindows = ["late"]', [], 3, "window late is not like"),
        ('[updates]\nproxy = "socks5://localhost:1"', [], 3, "updates.proxy: a proxy is http://"),
        ("", ["--server", "https://user@localhost"], 3, "there is a user in it"),
        ("", ["--server", "https://:443"], 3, "there is no host in it"),
        ("", ["--server", "https://[::1]:1"], 4, "[::1]:1: Connection refused"),
        ("", ["--server", "https://localhost:1"], 4, "localhost:1: Connection refused"),
    ],
)
def test_agent_that_cannot_begin_says_one_clear_line(world, first, change, options, code, word):
    path = world.folder / "cannot-begin"
    gateway = Gateway(path if path.exists() else world.gateway("cannot-begin", first))
    settings_file = path / "gateway.toml"
    before = settings_file.read_text()
    settings_file.write_text(f"{before}\n{change}\n")
    try:
        with Launcher(gateway, [], lambda _line: None) as launcher:
            launcher.boot()
            said = world.agent(path, "--once", *options, code=code)
    finally:
        settings_file.write_text(before)
    assert said.count("fota: ") == 1
    assert word in said


class Found:
    """What looks for an element, by a list of what comes of it: an error, or an element."""

    def __init__(self, *outcomes):
        self.outcomes, self.tries = list(outcomes), 0

    def __call__(self):
        self.tries += 1
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


GONE, LOCKED = DeviceError("gone", status.CE1), DeviceError("wrong PIN", status.CE5)


def test_element_that_comes_late_acts_by_the_slot_that_was_chosen_before(token):
    second = token.generate_key(2)
    find = Found(GONE, GONE, token)
    late = LateElement(find, SERIAL, token.public_key(0))
    late.key_slot = 2
    try:
        assert (late.serial_number(), late.public_key(0)) == (SERIAL, token.public_key(0))
        assert find.tries == 1, "known from the factory's certificate"
        with pytest.raises(DeviceError, match="gone"):
            late.sign(bytes(32))
        assert host_crypto.verify(second, bytes(32), late.sign(bytes(32)))
        assert late.public_key() == second
        late.key_slot = 0
        assert host_crypto.verify(token.public_key(0), bytes(32), late.sign(bytes(32)))
        assert len(late.random()) == 32
        assert find.tries == 3
    finally:
        token.key_slot = 0


def test_pin_that_was_refused_is_not_tried_again(token):
    find = Found(LOCKED)
    late = LateElement(find, SERIAL, token.public_key(0))
    for _ in range(3):
        with pytest.raises(DeviceError, match="wrong PIN"):
            late.random()
    assert find.tries == 1


@pytest.mark.parametrize(
    ("serial", "public_xy", "word"),
    [
        (bytes(9), None, "not the one of this gateway"),
        (SERIAL, bytes(64), "key is not the one of the device"),
    ],
)
def test_element_of_another_device_is_used_for_nothing(token, serial, public_xy, word):
    late = LateElement(Found(token), serial, public_xy or token.public_key(0))
    for ask in (late.random, lambda: late.sign(bytes(32)), lambda: late.generate_key(2)):
        with pytest.raises(DeviceError, match=word):
            ask()


def test_settings_that_name_no_element_are_told_at_once(token):
    with pytest.raises(InputError):
        LateElement(Found(InputError("no PIN file")), SERIAL, bytes(64))


def test_absent_i2c_bus_is_one_clear_line(world, first):
    path = world.folder / "unused"
    gateway = Gateway(path if path.exists() else world.gateway("unused", first))
    gateway.element = {"kind": "atecc608", "bus": "/dev/i2c-99"}
    with pytest.raises(DeviceError, match="I2C bus /dev/i2c-99"):
        open_element(gateway)
