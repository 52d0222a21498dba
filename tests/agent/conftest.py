"""A world around one device: keys, ROOTs, releases and check-in answers, all really signed."""

import hashlib
import os
import random
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fota_agent import Hooks
from fota_agent.agent import Agent
from fota_agent.boards.stm32 import Stm32Board
from fota_agent.engine.engine import Engine
from fota_agent.engine.state import State
from fota_wire import (
    assignment,
    bootreport,
    checkin,
    cose,
    host_crypto,
    image,
    journal,
    layout,
    report,
    root,
    settings,
    suit,
)
from fota_wire.chips import stm32l476
from fota_wire.errors import TransportError

sys.path.insert(0, str(Path(__file__).parent))

VENDOR, CLASS = bytes(range(16)), bytes(range(16, 32))
DEVICE_ID = bytes.fromhex("0123456789abcdef01")
SERIAL = bytes.fromhex("0123a1a2a3a4a5a6ee")


class Key:
    def __init__(self) -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.xy = host_crypto.public_xy(self.private)
        self.kid = cose.kid_of(self.xy)
        self.sign = host_crypto.signer(self.private)


class Release:
    """One image and its manifest; ``signers`` sign the envelope."""

    def __init__(self, world, version, sequence, sec_cnt, size=20_000, **changes) -> None:
        self.version, self.sequence, self.sec_cnt = version, sequence, sec_cnt
        self.image = build_image(version, sec_cnt, size, changes.get("image_class", CLASS))
        self.digest = hashlib.sha256(self.image).digest()
        vendor, device_class = changes.get("vendor", VENDOR), changes.get("device_class", CLASS)
        text = suit.build_text("Example", "Model", ".".join(map(str, version[:3])))
        self.manifest = suit.build_manifest(
            sequence, vendor, device_class, self.digest, changes.get("size_claim", len(self.image)), text
        )
        self.envelope = suit.build_envelope(self.manifest, [], text)
        for key in changes.get("signers", world.release[:2]):
            self.envelope = suit.add_signature(self.envelope, key.kid, key.sign)
        self.manifest_digest = suit.manifest_digest(self.manifest)


def build_image(version, sec_cnt, size, device_class):
    filler = random.Random(repr((version, sec_cnt, size)))
    payload = struct.pack("<II", 0x20010000, stm32l476.VECTOR_ADDRESS + 0x41) + filler.randbytes(size)
    protected = image.build_protected(sec_cnt, device_class)
    signed = image.build_header(len(payload), len(protected), (*version, 0), True) + payload + protected
    return signed + image.build_unprotected(hashlib.sha256(signed).digest(), bytes(32), b"\x01" * 64)


class World:
    def __init__(self) -> None:
        self.root_keys = [Key() for _ in range(3)]
        self.release = [Key() for _ in range(3)]
        self.assign, self.stranger, self.device = Key(), Key(), Key()
        self.genesis = self.root(1)
        self.v1 = Release(self, (1, 0, 0), 1, 1)
        self.v2 = Release(self, (1, 1, 0), 2, 2)

    def root(self, version, signers=None, **changes):
        roles = {
            root.ROOT: (2, [key.xy for key in changes.pop("root_keys", self.root_keys)]),
            root.RELEASE: (2, [key.xy for key in changes.pop("release", self.release)]),
            root.ASSIGN: (1, [changes.pop("assign", self.assign).xy]),
        }
        raw = root.build_root(version, roles, **changes)
        for key in self.root_keys[:2] if signers is None else signers:
            raw = root.FORM.add_signature(raw, key.kid, key.sign)
        return raw

    def release_of(self, *args, **changes):
        return Release(self, *args, **changes)

    def order(self, nonce, release=None, key=None, **changes):
        """Return an ASSIGNMENT of ``release`` (None: nothing is wanted)."""
        fields = {
            "nonce": nonce,
            "device_id": DEVICE_ID,
            "time": 1_795_000_000,
            "sequence": release.sequence if release else 0,
            "manifest_digest": release.manifest_digest if release else None,
            "root_version": 1,
            "campaign": 7,
            "valid_for": 3600,
            **changes,
        }
        key = key or self.assign
        return assignment.build(**fields, kid=key.kid, sign=key.sign)

    def shared_order(self, place, size, *args, **changes):
        """As `order`, answered together with ``size`` - 1 other devices."""
        payloads = [bytes([number]) for number in range(size)]
        payloads[place] = cose.parse_sign1(self.order(*args, **changes)).payload
        return assignment.share(payloads, self.assign.kid, self.assign.sign)[place]

    def answer(self, nonce, release=None, *, envelope=..., roots=(), order=None, **changes):
        """Return the body of a check-in response."""
        interval = changes.pop("interval", 60)
        report_status = changes.pop("report_status", "none")
        next_nonce = changes.pop("next_nonce", bytes(16))
        if envelope is ...:
            envelope = release.envelope if release else None
        body = checkin.Response(
            order or self.order(nonce, release, **changes),
            list(roots),
            envelope,
            interval,
            next_nonce,
            report_status,
        )
        return checkin.encode_response(body)

    def identity(self, **changes):
        fields = {
            "device_id": DEVICE_ID,
            "vendor_id": VENDOR,
            "class_id": CLASS,
            "genesis_root": self.genesis,
            "max_counter_step": 255,
            "slot_size": stm32l476.SLOT_SIZE,
            **changes,
        }
        return SimpleNamespace(**fields)

    def boot(self, **changes):
        report = bootreport.BootReport()
        report.running = report.confirmed = layout.SLOT_A
        report.version, report.sec_cnt, report.floor = (1, 0, 0, 0), 1, 1
        for name, value in changes.items():
            setattr(report, name, value)
        return report

    def engine(self, state=None, boot=None, **identity):
        half = lambda limit: limit // 2  # noqa: E731  a jitter that tests can count on
        return Engine(
            self.identity(**identity), boot or self.boot(), state or State(), host_crypto.verify, half
        )


@pytest.fixture(scope="session")
def world():
    return World()


class Reader:
    """A response body that may break off after ``cut`` bytes, or never end in time."""

    def __init__(self, network, data, cut=None, piece=1000) -> None:
        self.length = len(data)
        self._network, self._data, self._left, self._piece = network, data, cut, piece

    def readinto(self, buf):
        if self._left is not None and self._left <= 0:
            raise TransportError("broke off")
        count = min(len(buf), self._piece, len(self._data), len(buf) if self._left is None else self._left)
        buf[:count] = self._data[:count]
        self._data = self._data[count:]
        self._network.payload_bytes += count
        self._network.on_read()
        if self._left is not None:
            self._left -= count
        return count

    def close(self) -> None:
        pass


class Network:
    """The server's side of SPEC 5.5 behind a ``request`` call: signed answers, checked reports."""

    def __init__(self, world, device_public) -> None:
        self.world, self.device_public = world, device_public
        self.wanted = None
        self.releases = [world.v1, world.v2]
        self.order = {}
        self.campaign = 1
        self.cuts = []
        self.refuse_checkin = None
        self.nonces = []
        self.requests = []
        self.reports = []
        self.payload_bytes = 0
        self.report_nonce = None
        self.on_read = lambda: None
        self.on_request = lambda method, path: None
        self.change_payload = lambda status, headers, body: (status, headers, body)

    def request(self, method, path, headers, body=b""):
        self.requests.append((method, path, headers))
        self.on_request(method, path)
        if path == "/v1/checkin" and self.refuse_checkin:
            return (*self.refuse_checkin, Reader(self, checkin.encode_error("busy", "try later")))
        if path == "/v1/checkin":
            return 200, {}, Reader(self, self.checkin(body))
        digest = path.removeprefix("/v1/payload/")
        image = next(release.image for release in self.releases if release.digest.hex() == digest)
        status, answer, data = 200, {"etag": f'"{digest}"'}, image
        if "Range" in headers:
            first, _, last = headers["Range"].removeprefix("bytes=").partition("-")
            start, end = int(first), int(last or len(image) - 1) + 1
            status, data = 206, image[start:end]
            answer["content-range"] = f"bytes {start}-{end - 1}/{len(image)}"
        status, answer, data = self.change_payload(status, answer, data)
        return status, answer, Reader(self, data, self.cuts.pop(0) if self.cuts else None)

    def close(self) -> None:
        pass

    def checkin(self, body):
        request = checkin.parse_request(body)
        self.nonces.append(request.nonce)
        status = "none"
        if request.report is not None:
            opened = report.open_report(
                request.report, self.device_public, self.report_nonce, SERIAL, host_crypto.verify
            )
            self.reports.append(opened)
            status = "accepted"
        if request.report is not None or self.report_nonce is None:
            self.report_nonce = os.urandom(16)
        fields = {"device_id": SERIAL, "campaign": self.campaign, **self.order}
        order = self.world.order(request.nonce, self.wanted, **fields)
        held = self.wanted is None or request.manifest_digest == self.wanted.manifest_digest
        return checkin.encode_response(
            checkin.Response(
                order, [], None if held else self.wanted.envelope, 60, self.report_nonce, status
            ),
            held,
        )


class Device:
    """A virtual device with a paired element, 1.0.0 in slot A, and a boot report."""

    def __init__(self, world) -> None:
        machine_module = pytest.importorskip("fota_vdev.machine")
        from fota_vdev.atecc608 import Atecc608
        from fota_vdev.atecc608.memory import LOCK_CONFIG, LOCK_VALUE, Nvm, factory_config

        self.world = world
        config = bytearray(factory_config(SERIAL, b"\x00\x00\x60\x03"))
        config[LOCK_CONFIG] = config[LOCK_VALUE] = 0
        nvm = Nvm(config)
        scalar = world.device.private.private_numbers().private_value
        nvm.slots[0][:] = bytes(4) + scalar.to_bytes(32, "big")
        self.element = Atecc608(nvm=nvm)
        self.machine = machine_module.Machine(element=self.element, seed=3)
        paired = settings.Settings(
            class_id=CLASS,
            serial=SERIAL,
            io_key=bytes(32),
            mac_key=bytes(32),
            root_a=bytes(32),
            root_b=bytes(32),
        )
        trust = settings.TrustStore(
            genesis_root=world.genesis,
            server_ca=b"-",
            device_cert=b"-",
            server_url="https://localhost",
            vendor_id=VENDOR,
            class_id=CLASS,
        )
        flash = self.machine.flash
        flash.write_phys(1, stm32l476.SETTINGS_OFFSET, settings.pack(paired))
        flash.write_phys(1, stm32l476.TRUST_STORE_OFFSET, settings.pack_trust_store(trust))
        flash.write_phys(1, stm32l476.SLOT_OFFSET, world.v1.image)
        self.network = Network(world, world.device.xy)
        self.hooks = Hooks()
        self.hooks.lines = []
        self.hooks.log = self.hooks.lines.append
        self.now = 0
        self.boot(world.v1)

    def boot(self, release, slot=layout.SLOT_A, **changes):
        """Stand in for the bootloader: map the bank of ``slot`` and leave the report of ``release``."""
        machine = self.machine
        machine.power_off()
        machine.power_on()
        machine.mem32[0x40021060] |= 1
        machine.mem32[0x40010000] = (1 << 8) if slot == layout.SLOT_B else 0
        fields = {"running": slot, "version": (*release.version, 0), "sec_cnt": release.sec_cnt, **changes}
        fields.setdefault("image_hash", image.parse_image(release.image).image_hash)
        raw = bootreport.pack(self.world.boot(**fields))
        for at in range(0, len(raw), 4):
            machine.mem32[stm32l476.BOOT_REPORT_ADDRESS + at] = int.from_bytes(raw[at : at + 4], "little")
        machine.mem32[stm32l476.HEALTH_ADDRESS] = layout.HEALTH_GOOD

    def board(self):
        machine = self.machine
        return Stm32Board(
            machine.mem32,
            machine.i2c,
            machine.read,
            machine.sleep_us,
            lambda: self.now,
            lambda limit: limit // 2,
        )

    def agent(self):
        return Agent(self.board(), self.network, self.hooks)

    def run(self, agent=None, seconds=3600):
        """Run the agent until it reboots, is settled, or its time is up; return it."""
        agent = agent or self.agent()
        end = self.now + seconds * 1000
        while not (agent.rebooting or agent.engine.settled) and self.now < end and self.machine.powered:
            self.now += agent.step()
        return agent

    def journal(self):
        pages = [self.machine.flash.read_phys(2, page * 2048, 2048) for page in (0, 1)]
        return journal.scan(*pages)[0]

    def slot(self, bank, size):
        return self.machine.flash.read_phys(bank, stm32l476.SLOT_OFFSET, size)


@pytest.fixture
def device(world):
    return Device(world)


@pytest.fixture
def told(device):
    """The values that the server got, in order."""
    got = []
    answer = device.network.checkin

    def checkin_and_listen(body):
        got.extend(checkin.parse_request(body).telemetry)
        return answer(body)

    device.network.checkin = checkin_and_listen
    return got
