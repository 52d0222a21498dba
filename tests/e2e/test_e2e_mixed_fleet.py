"""A fleet of three chips whose owner gave all of them one class: what is made for one of them never runs on
another; the server refuses it where it can tell, each device where it cannot, and says by name why.
"""

import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "demo"))

from kits import KITS
from lifeline import HANG_S
from world import BUILD, VENDOR, World

from fota_agent.boards import esp32c3 as board_c3
from fota_agent.transport import download
from fota_signer.esp_firmware import load_application
from fota_signer.examples import example_key
from fota_signer.firmware import load_firmware
from fota_signer.identity import DeviceClass
from fota_signer.images import sign_application, sign_payload
from fota_wire.errors import VerifyError
from fota_wire.host_chips import CHIPS, DEFAULT, ESPRESSIF, STM32
from fota_wire.status import IM13

MODEL = "everything"


def sample(chip: str, version: str = "1.1.0") -> Path:
    path = BUILD / "sample" / ("" if chip == DEFAULT else CHIPS[chip].PORT) / f"app-{version}.elf"
    if not path.exists():
        pytest.skip(f"no {path.name} of {chip}: make firmware")
    return path


def signed(chip: str) -> bytes:
    """The sample application of a chip, signed for the one class of all of them."""
    data, name = sample(chip).read_bytes(), sample(chip).name
    words: dict[str, Any] = {
        "key": example_key("image-a"),
        "version": (1, 1, 0, 0),
        "sec_cnt": 2,
        "device_class": DeviceClass(vendor_id=bytes(16), class_id=bytes(16)),
    }
    if chip in STM32:
        return sign_payload(load_firmware(data, name, chip=STM32[chip]), chip=STM32[chip], **words)
    return sign_application(load_application(data, name, ESPRESSIF[chip]), **words)


def inspected(chip: str, image: bytes) -> tuple[int, bytes]:
    """What the agent on a chip makes of the image in its slot."""
    slot: Any = SimpleNamespace(chip=chip, size=len(image), read=lambda at, n: image[at : at + n])
    return (download.inspect if chip in STM32 else board_c3.inspect)(slot, len(image))


@pytest.mark.parametrize("image", KITS)
@pytest.mark.parametrize("device", KITS)
def test_agent_of_each_chip_takes_its_own_image_and_names_whose_another_is(device: str, image: str) -> None:
    data = signed(image)
    if device == image:
        assert inspected(device, data) == (2, bytes(16))
        return
    with pytest.raises(VerifyError, match="image is for ") as caught:
        inspected(device, data)
    assert caught.value.code == IM13
    of_one_family = image in STM32 and device in STM32
    whose = image if of_one_family else "an STM32" if image in STM32 else "an ESP32"
    assert whose in str(caught.value)


def test_chip_that_an_image_names_moves_no_terminal_in_the_error() -> None:
    data = bytearray(signed("stm32u585"))
    at = data.index(b"\xa0\x00" + struct.pack("<H", 9) + b"stm32u585")
    data[at + 4 : at + 8] = b"\x1b[2J"
    with pytest.raises(VerifyError) as caught:
        inspected("stm32l476", bytes(data))
    assert str(caught.value).isprintable()


# --- one server, devices of two chips, images of three, one class ---


class Fleet(World):
    """A world whose devices, of whichever chip, are of one class."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.model = MODEL

    def image(self, chip: str, version: str, *named: str) -> Path:
        made = self.folder / f"{chip}-{version}.img"
        self.fota("sign", sample(chip, version), "-o", made, "--key", self.keys / "image-a.pem",
                  "--version", version, "--security-counter", 1, "--vendor-domain", VENDOR,
                  "--model", MODEL, *named)  # fmt: skip
        return made

    def publish(self, image: Path, sequence: int, ends: int = 0) -> str:
        envelope = self.manifest(image, sequence, ("release-1", "release-2"))
        return self.fota("release", "publish", image, envelope, ends=ends)

    def make(self, chip: str, image: Path) -> None:
        """The factory makes a device of this chip; it becomes the one that commands are about."""
        self.row, self.device = CHIPS[chip], self.folder / f"{chip}.vdev"
        self.provision(image)

    def run_agent(self) -> Any:
        """Let the device work until nothing is left to do; return what the server knows of it."""
        self.fota("agent", "run", "--vdev", self.device, "--until-idle", "--duration", HANG_S)
        return self.json("device", "show", self.device_id)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """1.0.0 of the STM32L476 does not name its chip, so that the server takes 1.1.0 of an STM32U585."""
    world = Fleet(tmp_path_factory.mktemp("fleet"))
    try:
        world.make_keys()
        world.start_server()
        world.publish(world.image("stm32l476", "1.0.0"), 1)
        yield world
    finally:
        world.leave()


@pytest.mark.slow
def test_server_refuses_what_it_can_tell_and_a_device_by_name_what_it_cannot(fleet: Fleet) -> None:
    c3 = fleet.image("esp32c3", "1.3.0", "--chip", "esp32c3")
    said = fleet.publish(c3, 2, ends=1)
    assert "for chip esp32c3, and release 1.0.0 of its class for another kind of device" in said
    fleet.publish(fleet.image("stm32u585", "1.1.0", "--chip", "stm32u585"), 3)
    said = fleet.publish(fleet.image("stm32l476", "1.3.0", "--chip", "stm32l476"), 4, ends=1)
    assert "for chip stm32l476, and release 1.1.0 of its class for chip stm32u585" in said

    first = {"stm32l476": fleet.folder / "stm32l476-1.0.0.img",
             "esp32c3": fleet.image("esp32c3", "1.0.0", "--chip", "esp32c3")}  # fmt: skip
    for chip, why in (
        ("stm32l476", "chip 'stm32u585', not stm32l476"),
        ("esp32c3", "an STM32, not for chip"),
    ):
        fleet.make(chip, first[chip])
        fleet.run_agent()
        fleet.fota("rollout", "start", "1.1.0", "--device", fleet.device_id)
        row = fleet.run_agent()
        assert (row["running"]["version"], row["confirmed"]["version"]) == ("1.0.0", "1.0.0"), row
        events = [event["detail"] for event in row["events"]]
        assert any(event.startswith("IM13 ") and f"image is for {why}" in event for event in events), events
        assert not any(event["code"] == "reverted" for event in row["events"])  # no trial was begun
