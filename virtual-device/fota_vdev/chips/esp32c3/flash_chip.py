"""The flash chip at the end of the SPI bus: its commands, its status registers, the time that they take."""

from typing import ClassVar

from fota_vdev.chips.esp32c3.flash_array import PAGE, SECTOR, SIZE, NorFlash
from fota_vdev.parts.bus import Peripheral, UnmodelledError
from fota_vdev.parts.clock import PS_PER_US, Clock

JEDEC_ID = bytes.fromhex("c84016")  # 4 MiB
WREN, WRDI, RDSR, RDSR2, RDSR3, WRSR, WRSR2, RDID, SFDP = 0x06, 0x04, 0x05, 0x35, 0x15, 0x01, 0x31, 0x9F, 0x5A
READS = (0x03, 0x0B, 0x3B, 0x6B, 0xBB, 0xEB)
PP, SE, BE32, BE64, CE, CE_TOO = 0x02, 0x20, 0x52, 0xD8, 0xC7, 0x60
QUIET = (0x7A, 0x75, 0xAB, 0xB9, 0x66, 0x99, 0xFF)  # suspend and resume, sleep and reset: nothing to do
ERASES = {SE: SECTOR, BE32: 32 << 10, BE64: 64 << 10, CE: SIZE, CE_TOO: SIZE}
WIP, WEL, PROTECTION = 1, 2, 0x7C
QE = 2
PROGRAM_PS = 500 * PS_PER_US  # typical, of a page
ERASE_PS = {SECTOR: 50_000 * PS_PER_US, 32 << 10: 150_000 * PS_PER_US, 64 << 10: 250_000 * PS_PER_US,
            SIZE: 12_000_000 * PS_PER_US}  # fmt: skip


class FlashChip(Peripheral):
    """Answers whole commands. It has its own supply of time: busy after writing, as a real part is."""

    name = "SPI flash"
    STATE: ClassVar[tuple[str, ...]] = ("status", "quad", "busy_until_ps")

    def __init__(self, array: NorFlash, clock: Clock) -> None:
        self.array = array
        self._clock = clock
        self.quad = 0  # QE, of the second status register: drivers for four data lines set it, and look
        self.reset()

    def reset(self) -> None:
        """As after power-up: no operation goes on. The MCU's reset does not reach it; QE stays."""
        self.status = 0
        self.busy_until_ps = 0

    @property
    def busy(self) -> bool:
        """True while it programs or erases."""
        return self._clock.ps < self.busy_until_ps

    def wait(self) -> None:
        """Let time run on to the end of what it does."""
        self._clock.wait_until(self.busy_until_ps)

    def command(self, code: int, address: int = 0, data: bytes = b"", answer: int = 0) -> bytes:
        """Do one command: ``data`` goes in, ``answer`` bytes come out.

        Raises:
            UnmodelledError: a command that this model does not know.
            PowerCutError: an armed cut falls on it.
        """
        if code in (RDSR, RDSR2, RDSR3):
            return self._status_byte(code) * answer
        if self.busy:
            return b"\xff" * answer  # a busy chip hears nothing else
        if code in READS:
            at = address % SIZE
            return (self.array.read_phys(1, at, min(answer, SIZE - at)) + b"\xff" * answer)[:answer]
        if code == RDID:
            return (JEDEC_ID + b"\xff" * answer)[:answer]
        if code in (WREN, WRDI):
            self.status = self.status & ~WEL | (WEL if code == WREN else 0)
        elif code in (WRSR, WRSR2):
            self._write_status(code, data)
        elif code == PP or code in ERASES:
            self._change(code, address % SIZE, data)
        elif code != SFDP and code not in QUIET:
            raise UnmodelledError(f"command 0x{code:02x} to the SPI flash, which is not modelled")
        return b"\xff" * answer

    def _status_byte(self, code: int) -> bytes:
        if code != RDSR:
            return bytes([self.quad if code == RDSR2 else 0])
        if not self.busy:
            return bytes([self.status])
        self.wait()  # whoever polls sees "not yet" once
        return bytes([self.status | WIP | WEL])

    def _write_status(self, code: int, data: bytes) -> None:
        if code == WRSR and data and data[0] & PROTECTION:
            raise UnmodelledError("protected blocks of the SPI flash are not modelled")
        second = data[:1] if code == WRSR2 else data[1:2]
        if second and self.status & WEL:
            self.quad = second[0] & QE
        self.status &= ~WEL

    def _change(self, code: int, address: int, data: bytes) -> None:
        """Program or erase: ignored without write enable, which it uses up."""
        if not self.status & WEL:
            return
        self.status &= ~WEL
        if code == PP:
            self._program(address, data)
        else:
            size = ERASES[code]
            self.array.erase(address // size * size, size)
            self.busy_until_ps = self._clock.ps + ERASE_PS[size]

    def _program(self, address: int, data: bytes) -> None:
        """Bytes beyond the end of a page go to its beginning; of more than a page the last ones count."""
        start = address // PAGE * PAGE
        at = address - start
        if at + len(data) <= PAGE:
            self.array.program(address, data)
        else:
            page = bytearray(b"\xff" * PAGE)
            for index, byte in enumerate(data):
                page[(at + index) % PAGE] = byte
            self.array.program(start, bytes(page))
        self.busy_until_ps = self._clock.ps + PROGRAM_PS
