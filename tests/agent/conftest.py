"""A world around one device: keys, ROOTs, releases and check-in answers, all really signed."""

import hashlib
import random
import struct
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fota_agent.engine import Engine
from fota_agent.state import State
from fota_wire import assignment, bootreport, checkin, cose, host_crypto, image, layout, root, suit

VENDOR, CLASS = bytes(range(16)), bytes(range(16, 32))
DEVICE_ID = bytes.fromhex("0123456789abcdef01")


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
    payload = struct.pack("<II", 0x20010000, layout.VECTOR_ADDRESS + 0x41) + filler.randbytes(size)
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
            raw = root.add_signature(raw, key.kid, key.sign)
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

    def answer(self, nonce, release=None, *, envelope=..., roots=(), order=None, **changes):
        """Return the body of a check-in response."""
        interval = changes.pop("interval", 60)
        report_status = changes.pop("report_status", "none")
        if envelope is ...:
            envelope = release.envelope if release else None
        body = checkin.Response(
            order or self.order(nonce, release, **changes),
            list(roots),
            envelope,
            interval,
            bytes(16),
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
            "slot_size": layout.SLOT_SIZE,
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
