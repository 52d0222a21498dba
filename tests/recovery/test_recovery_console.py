"""When recovery is entered, when it ends, and what it survives."""

import random
from pathlib import Path
from typing import Any

import cbor2
import pytest
from elftools.elf.elffile import ELFFile
from smp.image_management import ImageUploadWriteRequest
from smp.os_management import EchoWriteRequest, MCUMgrParametersReadRequest
from smp.packet import encode

from fota_vdev.cells.board import IWDG_SW
from fota_vdev.machine import StopReason
from fota_wire import journal
from fota_wire.host_chips import Stm32
from fota_wire.layout import SLOT_A, SLOT_NONE


def frame(request: Any, **how: Any) -> bytes:
    return b"".join(encode(request.BYTES, **how))


ECHO = frame(EchoWriteRequest(d="still here", sequence=7))


def echoed(frames: list[bytes]) -> bool:
    return bool(frames) and cbor2.loads(frames[-1][8:]) == {"r": "still here"}


def test_session_may_take_longer_than_the_watchdog(dead_device: Any) -> None:
    """An image takes a minute at 115,200 baud; the watchdog runs since before recovery began."""
    dead_device.set_watchdog(3)
    dead_device.machine.power_off()
    dead_device.run("fota-boot: recovery\r\n")
    assert dead_device.machine.board.iwdg.expires_ps is not None
    resets = len(dead_device.machine.resets)
    for _ in range(4):  # 6 seconds
        assert echoed(dead_device.ask(ECHO))
        dead_device.machine.run(time_ms=1500)
    assert len(dead_device.machine.resets) == resets


def test_recovery_holds_the_watchdog_that_hardware_starts_at_reset(device: Any) -> None:
    """512 ms: from the button to silence, and on into the application."""
    device.flash.options["optr"] &= ~IWDG_SW
    device.hold_button()
    said = device.run("fota-boot: recovery\r\n", time_ms=2000)
    assert echoed(device.ask(ECHO))
    said += device.run("slot A 1.0.0 confirmed", time_ms=10_000)
    device.flash.options["optr"] |= IWDG_SW
    assert [cause for _, cause in device.machine.resets] == ["power"]
    assert said.count("fota-boot: recovery") == 1


def test_bootable_device_does_not_enter_recovery(device: Any) -> None:
    said = device.run("journal: record")
    assert "recovery" not in said


def test_held_button_enters_recovery_and_silence_boots_as_usual(device: Any) -> None:
    device.hold_button()
    device.run("fota-boot: recovery\r\n")
    assert echoed(device.ask(ECHO))
    said = device.run("journal: record", time_ms=10_000)
    assert "fota-boot: slot A 1.0.0 confirmed" in said
    assert device.state() == journal.Record(1, SLOT_A, SLOT_NONE, journal.NONE)


def test_silence_ends_in_a_reset_that_tries_everything_again(dead_device: Any) -> None:
    resets = len(dead_device.machine.resets)
    said = dead_device.run("fota-boot: recovery\r\n", time_ms=20_000)
    assert "halt: PO3" in said
    assert [cause for _, cause in dead_device.machine.resets[resets:]] == ["software"]


def test_noise_without_end_does_not_keep_a_device_from_booting(device: Any) -> None:
    device.hold_button()
    device.run("fota-boot: recovery\r\n")
    device.machine.uart_input(bytes(range(256)) * 20)
    said = device.run("journal: record", time_ms=2000)
    assert "fota-boot: slot A 1.0.0 confirmed" in said


@pytest.mark.parametrize("seed", range(4))
def test_garbage_before_a_frame_does_no_harm(dead_device: Any, seed: int) -> None:
    before, noise = dead_device.state(), random.Random(seed)
    for _ in range(5):
        dead_device.machine.uart_input(noise.randbytes(noise.randrange(1, 800)))
        dead_device.machine.run(time_ms=20)
    assert echoed(dead_device.ask(b"\n" + ECHO))
    assert dead_device.state() == before


@pytest.mark.parametrize("cut", [1, 2, 3, 10, 20, -1])
def test_frame_cut_off_is_dropped_and_the_next_is_answered(dead_device: Any, cut: int) -> None:
    assert dead_device.ask(ECHO[:cut], time_ms=20) == []
    assert echoed(dead_device.ask(ECHO))


def test_frame_with_a_flipped_bit_is_not_answered(dead_device: Any) -> None:
    for at in range(2, len(ECHO) - 1, 3):
        damaged = bytearray(ECHO)
        damaged[at] ^= 0x01
        assert dead_device.ask(bytes(damaged), time_ms=10) == [], at
    assert echoed(dead_device.ask(ECHO))


def test_frame_in_many_short_lines_is_answered(dead_device: Any) -> None:
    assert echoed(dead_device.ask(frame(EchoWriteRequest(d="still here"), line_length=8)))


def test_frame_longer_than_the_buffer_is_dropped(dead_device: Any) -> None:
    assert dead_device.ask(frame(EchoWriteRequest(d="x" * 1100)), time_ms=50) == []
    assert echoed(dead_device.ask(ECHO))


def test_answer_that_does_not_fit_says_so(dead_device: Any) -> None:
    (answer,) = dead_device.ask(frame(EchoWriteRequest(d="x" * 300)))
    assert cbor2.loads(answer[8:]) == {"rc": 7}


def test_unknown_command_is_answered_as_not_supported(dead_device: Any) -> None:
    raw = bytearray(MCUMgrParametersReadRequest().BYTES)
    raw[7] = 8
    (answer,) = dead_device.ask(b"".join(encode(bytes(raw))))
    assert cbor2.loads(answer[8:]) == {"rc": 8}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(bytes.fromhex("a0"), id="nothing-wanted"),
        pytest.param(cbor2.dumps({"off": 0, "data": b"x"}), id="no-length"),
        pytest.param(cbor2.dumps({"off": 0, "len": 0, "data": b""}), id="empty-file"),
        pytest.param(cbor2.dumps({"off": 0, "len": 1, "data": b"xy"}), id="more-than-announced"),
        pytest.param(cbor2.dumps({"off": 0, "len": 9, "data": b"x", "sha": b"short"}), id="short-digest"),
        pytest.param(cbor2.dumps({"off": "0", "len": 9, "data": b"x"}), id="wrong-type"),
        pytest.param(bytes.fromhex("a3636f666600636c656e09636f666600"), id="key-twice"),
        pytest.param(bytes.fromhex("bf636f666600ff"), id="indefinite-length"),
        pytest.param(bytes.fromhex("a1636f66661800"), id="not-the-shortest-head"),
        pytest.param(cbor2.dumps({"off": 0, "len": 9, "data": b"x"}) + b"\0", id="trailing-byte"),
        pytest.param(bytes.fromhex("ba10000000"), id="huge-map"),
    ],
)
def test_malformed_upload_is_refused_and_writes_nothing(dead_device: Any, body: bytes) -> None:
    slot, before = dead_device.slot("B"), dead_device.state()
    raw = bytes([0x0A, 0]) + len(body).to_bytes(2, "big") + bytes([0, 1, 9, 1]) + body
    (answer,) = dead_device.ask(b"".join(encode(raw)))
    assert cbor2.loads(answer[8:]) == {"rc": 3}
    assert (dead_device.slot("B"), dead_device.state()) == (slot, before)


def test_piece_out_of_order_is_answered_with_the_offset_wanted(dead_device: Any) -> None:
    first = ImageUploadWriteRequest(off=0, len=100, data=b"a" * 40)
    far = ImageUploadWriteRequest(off=80, data=b"b" * 20)
    offsets = [
        cbor2.loads(answer[8:])["off"] for answer in dead_device.ask(frame(far), frame(first), frame(far))
    ]
    assert offsets == [0, 40, 40]


@pytest.mark.parametrize(("operation", "torn"), [(1, None), (2, 5), (200, None), (300, 6), ("erase", 7)])
def test_power_cut_in_an_upload_leaves_a_device_that_recovers(
    dead_device: Any, signed: Any, operation: int | str, torn: int | None
) -> None:
    row = dead_device.row
    image = signed("1.1.0", pad=2 * row.PAGE_SIZE)
    if operation == "erase":  # of the second page
        operation = 2 + row.PAGE_SIZE // row.WRITE_SIZE
    dead_device.machine.cut_power_at(flash_op=operation, torn=torn)
    reason = None
    for offset in range(0, len(image), 512):
        request = ImageUploadWriteRequest(
            off=offset, data=image[offset : offset + 512], len=len(image) if offset == 0 else None
        )
        dead_device.machine.uart_input(frame(request))
        reason = dead_device.machine.run(time_ms=100).reason
        if reason is StopReason.POWER_CUT:
            break
    assert reason is StopReason.POWER_CUT
    dead_device.run("fota-boot: recovery\r\n")
    assert echoed(dead_device.ask(ECHO))


def test_recovery_fits_beside_the_trust_store(row: Stm32, recovery_elf: Path) -> None:
    with recovery_elf.open("rb") as file:
        elf = ELFFile(file)
        size = {s.name: s["sh_size"] for s in elf.iter_sections()}
        where = {s.name: s["sh_addr"] for s in elf.iter_sections()}
    assert size[".text"] + size[".data"] <= row.BOOTLOADER_SIZE
    assert where[".recovery"] == row.FLASH_BASE + row.RECOVERY_OFFSET
    assert size[".recovery"] <= row.SETTINGS_OFFSET - row.RECOVERY_OFFSET
