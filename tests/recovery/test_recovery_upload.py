"""Recovery as a person does it: smpclient on a serial port, the bootloader's machine code behind it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from lifeline import HANG_S
from smpclient import SMPClient
from smpclient.exceptions import SMPUploadError
from smpclient.generics import success
from smpclient.requests.image_management import ImageStatesRead, ImageUploadWrite
from smpclient.requests.os_management import EchoWrite, ResetWrite
from smpclient.transport.serial import SMPSerialTransport

from fota_wire import journal, status
from fota_wire.image import parse_image
from fota_wire.layout import SLOT_A, SLOT_B, SLOT_NONE


def with_client(device: Any, talk: Callable[[SMPClient], Awaitable[Any]]) -> Any:
    """Connect smpclient to the device's console and let it talk."""

    async def session(path: str) -> Any:
        async with SMPClient(SMPSerialTransport(), path, timeout_s=HANG_S) as client:
            return await talk(client)

    with device.serial_port() as path:
        return asyncio.run(session(path))


async def upload(client: SMPClient, image: bytes) -> list[int]:
    return [offset async for offset in client.upload(image)]


async def upload_and_reset(client: SMPClient, image: bytes) -> None:
    await upload(client, image)
    await client.request(ResetWrite())


def test_upload_to_a_device_without_image_boots_on_trial(dead_device: Any, signed: Any) -> None:
    image = signed("1.1.0")

    async def talk(client: SMPClient) -> Any:
        assert (await client.request(EchoWrite(d="anybody there?"))).r == "anybody there?"
        offsets = await upload(client, image)
        states = await client.request(ImageStatesRead())
        await client.request(ResetWrite())
        return offsets, states

    offsets, states = with_client(dead_device, talk)
    assert offsets[-1] == len(image)
    assert offsets == sorted(offsets)
    assert success(states)
    in_a, in_b = states.images
    assert (in_a.slot, in_a.version, in_a.confirmed, in_a.pending) == (0, "1.0.0", True, False)
    assert (in_b.slot, in_b.version, in_b.confirmed, in_b.pending) == (1, "1.1.0", False, True)
    assert in_b.hash == parse_image(image).image_hash
    assert dead_device.slot("B", len(image)) == image
    if dead_device.state().state == journal.STAGED:
        dead_device.run("app 1.1.0")
    assert dead_device.state() == journal.Record(3, SLOT_A, SLOT_B, journal.TRIAL, 2)
    assert b"fota-boot: slot B 1.1.0 trial" in dead_device.machine.uart


@pytest.mark.parametrize(
    ("spoiled", "reason"),
    [
        pytest.param("key", status.IM8, id="wrong-key"),
        pytest.param("byte", status.IM6, id="flipped-byte"),
        pytest.param("noise", status.IM1, id="no-image"),
    ],
)
def test_uploaded_bad_image_is_refused_and_recovery_waits_again(
    dead_device: Any, signed: Any, spoiled: str, reason: int
) -> None:
    image = bytearray(signed("1.1.0", key="assign") if spoiled == "key" else signed("1.1.0"))
    if spoiled == "byte":
        image[0x300] ^= 1
    if spoiled == "noise":
        image = bytearray(range(256)) * 12 + b"odd"
    start = len(dead_device.machine.uart)
    with_client(dead_device, lambda client: upload_and_reset(client, bytes(image)))
    if bytes(dead_device.machine.uart[start:]).count(b"fota-boot: recovery") == 0:
        dead_device.run("fota-boot: recovery\r\n")
    assert b"app 1.1.0" not in dead_device.machine.uart[start:]
    assert dead_device.state() == journal.Record(3, SLOT_A, SLOT_B, journal.REJECTED, 0, reason)


def test_upload_whose_digest_does_not_match_is_not_staged(dead_device: Any, signed: Any) -> None:
    before = dead_device.state()
    image = signed("1.1.0")[:600]

    async def talk(client: SMPClient) -> Any:
        return await client.request(ImageUploadWrite(off=0, data=image, len=len(image), sha=bytes(32)))

    answer = with_client(dead_device, talk)
    assert (answer.off, answer.match) == (len(image), False)
    assert dead_device.state() == before


def test_upload_larger_than_a_slot_is_refused(dead_device: Any) -> None:
    blank = dead_device.slot("B")
    with pytest.raises(SMPUploadError):
        with_client(dead_device, lambda client: upload(client, bytes(dead_device.row.SLOT_SIZE + 1)))
    assert dead_device.slot("B") == blank


def test_confirmed_slot_b_is_spared_and_slot_a_takes_the_upload(device: Any, signed: Any) -> None:
    """After B has run: where banks change places by a reset, the bootloader runs from the other one then."""
    device.write_record(SLOT_B, SLOT_NONE, journal.NONE)
    device.install("B", signed("1.2.0"))
    device.run("app 1.2.0: slot B")
    device.machine.power_off()
    device.spoil("B")
    device.spoil("A")
    rotten = device.slot("B")
    device.run("fota-boot: recovery\r\n")
    assert device.machine.board.swapped == (device.row.FACTORY_BANKS == (1, 2))
    with_client(device, lambda client: upload_and_reset(client, signed("1.1.0")))
    if device.state().state == journal.STAGED:
        device.run("app 1.1.0")
    assert device.slot("B") == rotten
    assert device.state() == journal.Record(3, SLOT_B, SLOT_A, journal.TRIAL, 2)
