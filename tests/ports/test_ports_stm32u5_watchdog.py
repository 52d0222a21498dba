"""Slower core, larger slot: no watchdog that the factory can set is shorter than a step of a boot."""

import dataclasses
import hashlib
import struct
from itertools import pairwise
from typing import Any

import pytest

from fota_vdev.parts.clock import PS_PER_MS
from fota_wire import image, journal
from fota_wire.chips.stm32u585 import SETTINGS_OFFSET, SLOT_SIZE
from fota_wire.cose import key_hash
from fota_wire.host_crypto import public_xy, signer
from fota_wire.settings import pack, unpack

from .conftest import CLASS_ID, A, B, refused

UNFED_MS = 434  # 512 ms of the hardware's watchdog, with LSI at its fastest and a tenth to spare


def full_image(keys: Any, *, spoilt: bool) -> bytes:
    """An image of 960 KiB, `wfi` for ever; signed by root A, with one wrong bit or without."""
    body = struct.pack("<2I", 0x2001_7F00, 0x0800_4241).ljust(64, b"\0") + b"\x30\xbf\xfd\xe7"
    protected = image.build_protected(1, CLASS_ID)
    body = body.ljust(SLOT_SIZE - 0x200 - len(protected) - 160, b"\xa5")
    signed = image.build_header(len(body), len(protected), (2, 0, 0, 0)) + body + protected
    digest = hashlib.sha256(signed).digest()
    signature = bytearray(signer(keys.root_a)(digest))
    signature[-1] ^= spoilt
    return signed + image.build_unprotected(digest, key_hash(public_xy(keys.root_a)), bytes(signature))


@pytest.mark.parametrize("spoilt", [True, False], ids=["wrongly-signed", "good"])
def test_full_slot_is_judged_within_the_shortest_watchdog(device: Any, keys: Any, *, spoilt: bool) -> None:
    device.boot()
    device.install("B", full_image(keys, spoilt=spoilt))
    device.append(journal.request(device.state(), A, B))
    machine, element = device.machine, device.machine.element
    machine.power_off()
    settings = unpack(machine.flash.read_phys(1, SETTINGS_OFFSET, 256))
    settings.watchdog_s = 1
    for bank in (1, 2):
        machine.flash.write_phys(bank, SETTINGS_OFFSET, pack(settings))
    usual = element.assumptions
    element.assumptions = dataclasses.replace(usual, execution=1.0)
    feeds: list[int] = []
    write = machine.board.iwdg.write

    def fed(offset: int, value: int) -> None:
        feeds.append(machine.clock.ps)
        write(offset, value)

    machine.board.iwdg.write = fed
    machine.resets.clear()
    try:
        device.boot(until="slot A 1.0.0 confirmed" if spoilt else "slot B 2.0.0 trial")
    finally:
        element.assumptions = usual
        del machine.board.iwdg.write
    assert "iwdg" not in [cause for _, cause in machine.resets]
    assert refused(device, "B") == ("IM10" if spoilt else "")
    assert max(b - a for a, b in pairwise(feeds)) < UNFED_MS * PS_PER_MS
