"""Where a device's flash holds what: by the chip's row, or by the partition table that lies in it."""

from dataclasses import dataclass

from fota_vdev.machine import Machine
from fota_wire import esp_partitions, settings
from fota_wire.errors import FotaError
from fota_wire.host_chips import ESPRESSIF, Chip, Espressif, stm32
from fota_wire.layout import SLOT_A, SLOT_B, SLOT_BANKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Bytes of one physical bank."""

    bank: int
    offset: int
    size: int

    def read(self, machine: Machine) -> bytes:
        """Return its cells."""
        return machine.flash.read_phys(self.bank, self.offset, self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Both pages of the journal, the slots by their codes, the agent's store."""

    journal: tuple[Region, Region]
    slots: dict[int, Region]
    agent_store: Region


def places(machine: Machine) -> Places:
    """Return where everything is.

    Raises:
        VerifyError: PT1, neither partition table nor settings page of an ESP32 says it.
    """
    name = machine.chip.row.NAME
    if name in ESPRESSIF:
        return _by_table(machine, ESPRESSIF[name])
    row = stm32(name)
    slots = {slot: Region(bank=SLOT_BANKS[slot], offset=row.SLOT_OFFSET, size=row.SLOT_SIZE)
             for slot in (SLOT_A, SLOT_B)}  # fmt: skip
    store = Region(bank=row.AGENT_STORE_BANK, offset=row.AGENT_STORE_OFFSET, size=row.AGENT_STORE_SIZE)
    return Places(journal=_journal(row, row.JOURNAL_BANK, 0), slots=slots, agent_store=store)


def untouched(machine: Machine, inactive: int) -> "list[tuple[int, int, int]]":
    """Return (bank, begin, end) of all flash but what an agent writes while the slot ``inactive`` does not
    run: journal, own store, that slot.

    Raises:
        VerifyError: as `places`.
    """
    of = places(machine)
    written = [*of.journal, of.agent_store, of.slots[inactive]]
    found = []
    for bank in machine.flash.banks:
        at = 0
        own = sorted((w.offset, w.offset + w.size) for w in written if w.bank == bank)
        for begin, end in [*own, (machine.flash.geometry.bank, 0)]:
            if at < begin:
                found.append((bank, at, begin))
            at = end
    return found


def _journal(row: Chip, bank: int, base: int) -> tuple[Region, Region]:
    first, second = (
        Region(
            bank=bank, offset=base + row.JOURNAL_OFFSET + page * row.JOURNAL_STRIDE, size=row.JOURNAL_STRIDE
        )
        for page in (0, 1)
    )
    return first, second


def _by_table(machine: Machine, row: Espressif) -> Places:
    fota, a, a_size, b, b_size = _copy(machine, row)
    slots = {SLOT_A: Region(bank=1, offset=a, size=a_size), SLOT_B: Region(bank=1, offset=b, size=b_size)}
    store = Region(bank=1, offset=fota + row.AGENT_STORE_OFFSET, size=row.AGENT_STORE_SIZE)
    return Places(journal=_journal(row, 1, fota), slots=slots, agent_store=store)


def _copy(machine: Machine, row: Espressif) -> tuple[int, int, int, int, int]:
    """The places by the table; if that is damaged, by the copy in the settings, as the bootloader does it."""
    try:
        table = esp_partitions.parse(machine.flash.read_phys(1, row.TABLE_OFFSET, row.TABLE_SIZE), row)
        return esp_partitions.places(table, row).copy()
    except FotaError as why:
        page = machine.flash.read_phys(1, row.SETTINGS_OFFSET, settings.SIZE)
        try:
            copy = settings.unpack(page).places
            esp_partitions.check_copy(copy, row)
        except FotaError:
            raise why from None
        return copy
