"""The board that this program runs on, behind one interface (``fota_agent.seams.Board``)."""

import sys

from fota_wire.errors import DeviceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.seams import Board


def detect() -> "Board":
    """Return this board: ESP32, STM32, or a Linux gateway (its folder: FOTA_GATEWAY, or /var/lib/fota).

    Raises:
        DeviceError: no such board, or factory data or crypto element are not usable.
        InputError: the gateway's folder is not usable.
    """
    platform = str(sys.platform)
    if platform == "linux":
        from fota_agent.boards.linux.board import detect as detect_linux

        return detect_linux()
    if platform == "esp32":
        from fota_agent.boards.esp32 import detect as detect_esp32

        return detect_esp32()
    if platform == "fota-stm32l4":
        from fota_agent.boards.chip_stm32l4 import ChipBoard

        return ChipBoard()
    if platform == "fota-stm32u5":
        from fota_agent.boards import chip_stm32u5

        return chip_stm32u5.ChipBoard()
    if platform == "fota-esp32c3":
        from fota_agent.boards import chip_esp32c3

        return chip_esp32c3.ChipBoard()
    raise DeviceError(f"no board support for {platform}: give Agent a board of your own")
