"""What the bootloader must refuse, by attack; each leaves the confirmed image running and says why."""

import contextlib
import hashlib
import struct
from collections.abc import Callable
from typing import Any

import pytest

A, B, NONE = 0x5A, 0xA5, 0xC3
REJECTED = 0x55
STAGED = 0x33
CE1, CE2, CE3, CE4 = (0x43450000 + n for n in (1, 2, 3, 4))
IO_KEY = 0x3800 + 40


def crc(data: bytes) -> bytes:
    from fota_vdev.atecc608.crc import crc16

    return crc16(data)


def answer(payload: bytes) -> bytes:
    body = bytes([len(payload) + 3]) + payload
    return body + crc(body)


class Adversary:
    """Sits on the I2C bus: sees every command, and may replace any answer or command."""

    def __init__(
        self, reply: Callable[[bytes, bytes], bytes], command: Callable[[bytes], bytes] | None = None
    ) -> None:
        self.reply, self.command, self.last = reply, command, b""
        self.commands: list[bytes] = []

    def on_write(self, address: int, data: bytes) -> bytes:
        if data[:1] == b"\x03":
            self.last = data[1:]
            self.commands.append(data[1:])
            if self.command is not None:
                return data[:1] + self.command(data[1:])
        else:
            self.last = b""  # asleep: what is read next is the wake-up word
        return data

    def on_read(self, address: int, data: bytes) -> bytes:
        if not self.last:
            return data
        changed = self.reply(self.last, data)
        return (changed + b"\xff" * len(data))[: len(data)]


def is_verify(command: bytes) -> bool:
    return command[1] == 0x45


@pytest.fixture
def staged(device: Any, signed: Callable[..., bytes]) -> Callable[..., Any]:
    """staged(image) -> the device with that file requested in slot B."""

    def stage(image: bytes) -> Any:
        device.boot()
        device.install("B", image)
        device.request("B")
        return device

    return stage


def assert_rejected(device: Any, code: str) -> None:
    """The update is refused for good with ``code``, and 1.0.0 runs, confirmed."""
    from fota_wire import status

    device.restart()
    assert f"fota-boot: slot B refused: {code}" in device.said
    assert "fota-boot: slot A 1.0.0 confirmed" in device.said
    state = device.state()
    assert (state.confirmed, state.candidate, state.state) == (A, B, REJECTED)
    assert status.describe(state.reason).startswith(code + " ")
    assert device.floor == 1


@pytest.mark.parametrize("where", [0x210, 0x800, -160])
def test_flipped_byte_is_refused(staged: Any, signed: Callable[..., bytes], where: int) -> None:
    image = bytearray(signed("1.1.0", sec_cnt=2))
    image[where] ^= 0x10
    device = staged(bytes(image))
    device.restart()
    assert "slot A 1.0.0 confirmed" in device.said
    assert device.state().state == REJECTED


def test_flipped_payload_byte_is_image_hash(staged: Any, signed: Callable[..., bytes]) -> None:
    image = bytearray(signed("1.1.0", sec_cnt=2))
    image[0x600] ^= 1
    assert_rejected(staged(bytes(image)), "IM6")


def test_flipped_byte_with_hash_made_to_fit_is_bad_signature(
    staged: Any, signed: Callable[..., bytes]
) -> None:
    image = bytearray(signed("1.1.0", sec_cnt=2))
    size = struct.unpack_from("<I", image, 12)[0]
    end = 0x200 + size + struct.unpack_from("<H", image, 10)[0]
    image[0x600] ^= 1
    at = image.index(b"\x10\x00\x20\x00", end) + 4
    image[at : at + 32] = hashlib.sha256(image[:end]).digest()
    assert_rejected(staged(bytes(image)), "IM10")


def test_unknown_key_is_refused(staged: Any, signed: Callable[..., bytes], keys: Any) -> None:
    assert_rejected(staged(signed("1.1.0", sec_cnt=2, key=keys.thief)), "IM8")


def test_wrong_key_under_a_known_key_hash_is_bad_signature(
    staged: Any, signed: Callable[..., bytes], keys: Any
) -> None:
    from fota_wire.cose import key_hash
    from fota_wire.host_crypto import public_xy

    image = signed("1.1.0", sec_cnt=2, key=keys.thief)
    forged = image.replace(key_hash(public_xy(keys.thief)), key_hash(public_xy(keys.root_a)))
    assert forged != image
    assert_rejected(staged(forged), "IM10")


def test_wrong_device_class_is_refused(staged: Any, signed: Callable[..., bytes]) -> None:
    assert_rejected(staged(signed("1.1.0", sec_cnt=2, class_id=bytes(16))), "IM7")


def test_counter_below_floor_is_rollback(staged: Any, signed: Callable[..., bytes]) -> None:
    device = staged(signed("1.1.0", sec_cnt=2))
    device.restart(until="self-test passed")
    device.confirm("B")
    device.restart()
    device.install("A", signed("1.0.5", sec_cnt=1))
    device.request("A")
    device.restart()
    assert "slot A refused: PO1" in device.said
    assert "slot B 1.1.0 confirmed" in device.said
    assert device.floor == 2


def test_counter_far_above_floor_is_refused(staged: Any, signed: Callable[..., bytes]) -> None:
    assert_rejected(staged(signed("1.1.0", sec_cnt=1 + 256)), "PO2")


def test_largest_step_is_accepted(staged: Any, signed: Callable[..., bytes]) -> None:
    device = staged(signed("1.1.0", sec_cnt=1 + 255))
    device.restart()
    assert "slot B 1.1.0 trial" in device.said


def test_root_b_is_accepted_and_root_a_is_retired_by_epoch(
    staged: Any, signed: Callable[..., bytes], keys: Any
) -> None:
    device = staged(signed("1.1.0", sec_cnt=1, key=keys.root_b))
    device.restart(until="self-test passed")
    assert "slot B 1.1.0 trial" in device.said
    device.confirm("B")
    from chip_host import ChipHost

    host = ChipHost(device.machine.i2c, device.machine.sleep_us)
    for _ in range(8):
        host.increment(1)
    device.restart()
    device.request("A")
    device.restart()
    assert "slot A refused: IM9" in device.said
    assert "slot B 1.1.0 confirmed" in device.said


# --- the adversary on the bus ---


def boots_nothing(device: Any, code: str, until: str | None = None) -> None:
    """The element is not believed: nothing boots, and the update is neither rejected nor lost."""
    before = device.state()
    device.restart(until=until or f"fota-boot: halt: {code}", time_ms=20_000)
    assert "slot" not in device.said
    assert device.state() == before


def test_forged_ok_is_caught(staged: Any, signed: Callable[..., bytes], keys: Any) -> None:
    from fota_wire.cose import key_hash
    from fota_wire.host_crypto import public_xy

    image = signed("1.1.0", sec_cnt=2, key=keys.thief)
    device = staged(image.replace(key_hash(public_xy(keys.thief)), key_hash(public_xy(keys.root_a))))
    device.machine.i2c_tamper = Adversary(lambda c, a: answer(b"\x00") if is_verify(c) else a)
    boots_nothing(device, "CE4")
    device.machine.i2c_tamper = Adversary(lambda c, a: answer(bytes(range(32))) if is_verify(c) else a)
    boots_nothing(device, "CE4")
    device.machine.i2c_tamper = None
    assert_rejected(device, "IM10")


def test_replayed_verify_mac_of_another_image_is_caught(
    staged: Any, signed: Callable[..., bytes], keys: Any
) -> None:
    from fota_wire.cose import key_hash
    from fota_wire.host_crypto import public_xy

    image = signed("1.1.0", sec_cnt=2, key=keys.thief)
    device = staged(image.replace(key_hash(public_xy(keys.thief)), key_hash(public_xy(keys.root_a))))
    kept: list[bytes] = []
    device.machine.i2c_tamper = Adversary(lambda c, a: kept.append(a) or a if is_verify(c) else a)
    device.restart()  # slot A is verified: the adversary records the answer
    macs = [a for a in kept if a[0] == 35]
    device.machine.i2c_tamper = Adversary(lambda c, a: macs[-1] if is_verify(c) else a)
    device.request("B")
    boots_nothing(device, "CE4")


def test_swapped_digest_verifies_nothing(staged: Any, signed: Callable[..., bytes], keys: Any) -> None:
    """The adversary has the chip verify the good image's digest and signature instead."""
    from fota_wire.cose import key_hash
    from fota_wire.host_crypto import public_xy
    from fota_wire.image import parse_image

    good = parse_image(signed("1.0.0"))
    image = signed("1.1.0", sec_cnt=2, key=keys.thief)
    device = staged(image.replace(key_hash(public_xy(keys.thief)), key_hash(public_xy(keys.root_a))))

    def swap(command: bytes) -> bytes:
        body = command[:-2]
        if command[1:3] == b"\x16\x63":
            body = body[:5] + good.image_hash + body[37:]
        elif is_verify(command):
            body = body[:5] + good.signature
        return body + crc(body)

    device.machine.i2c_tamper = Adversary(lambda c, a: a, swap)
    boots_nothing(device, "CE4")


def test_lying_counter_is_caught(staged: Any, signed: Callable[..., bytes]) -> None:
    device = staged(signed("1.1.0", sec_cnt=2))
    lie = answer((0).to_bytes(4, "little"))
    device.machine.i2c_tamper = Adversary(lambda c, a: lie if c[1:3] == b"\x24\x00" else a)
    boots_nothing(device, "CE4")


def test_replayed_counter_session_is_caught(staged: Any, signed: Callable[..., bytes]) -> None:
    """Yesterday's nonce, MAC and value, replayed: our nonce is new each time."""
    device = staged(signed("1.1.0", sec_cnt=2))
    kept: dict[bytes, bytes] = {}

    def record(command: bytes, data: bytes) -> bytes:
        kept.setdefault(command[1:3], data)
        return data

    device.machine.i2c_tamper = Adversary(record)
    device.restart()
    replay = {b"\x16\x00", b"\x08\x01", b"\x24\x00"}
    device.machine.i2c_tamper = Adversary(lambda c, a: kept[c[1:3]] if c[1:3] in replay else a)
    boots_nothing(device, "CE4")


def test_stuck_counter_never_boots_a_confirmed_update(updated_and_confirmed: Any) -> None:
    device = updated_and_confirmed

    def no_increment(command: bytes) -> bytes:
        if command[1:3] == b"\x24\x01":
            body = b"\x07\x24\x00" + command[3:5]
            return body + crc(body)
        return command

    device.machine.i2c_tamper = Adversary(lambda c, a: a, no_increment)
    device.restart(until="halt: CE5")
    assert "confirmed" not in device.said
    device.machine.i2c_tamper = None
    device.restart()
    assert "slot B 1.1.0 confirmed" in device.said
    assert device.floor == 2


@pytest.fixture
def updated_and_confirmed(staged: Any, signed: Callable[..., bytes]) -> Any:
    device = staged(signed("1.1.0", sec_cnt=2))
    device.restart(until="self-test passed")
    device.confirm("B")
    return device


def test_garbage_on_the_bus_halts(staged: Any, signed: Callable[..., bytes]) -> None:
    device = staged(signed("1.1.0", sec_cnt=2))
    device.machine.i2c_tamper = Adversary(lambda c, a: bytes(len(a)))
    boots_nothing(device, "CE2")


def test_foreign_element_is_caught(staged: Any, signed: Callable[..., bytes]) -> None:
    device = staged(signed("1.1.0", sec_cnt=2))
    nvm = device.machine.element.nvm
    slots = nvm.data if hasattr(nvm, "data") else nvm.slots
    slots[4][:32] = bytes(32)  # another chip has another pairing key
    boots_nothing(device, "CE4")


def test_absent_element_boots_nothing_and_keeps_the_update(staged: Any, signed: Callable[..., bytes]) -> None:
    device = staged(signed("1.1.0", sec_cnt=2))
    bus = device.machine.board.i2c_bus
    target, bus.target = bus.target, None
    try:
        boots_nothing(device, "CE1")
        assert device.state().state == STAGED
        device.boot(until="halt: CE1", time_ms=30_000)
        assert device.machine.resets[-1][1] == "iwdg"
    finally:
        bus.target = target
    device.restart()
    assert "slot B 1.1.0 trial" in device.said


def test_element_busy_or_awake_at_reset_is_resynchronised(device: Any) -> None:
    device.boot()
    i2c = device.machine.i2c
    with contextlib.suppress(OSError):
        i2c.writeto(0, b"")  # the wake pulse
    device.machine.sleep_us(1500)
    i2c.writeto(0x60, b"\x03\x07\x40\x00\x00\x00" + crc(b"\x07\x40\x00\x00\x00"))  # GenKey, public: busy now
    device.restart()
    assert "slot A 1.0.0 confirmed" in device.said
