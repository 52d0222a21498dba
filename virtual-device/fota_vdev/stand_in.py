"""Stand-ins for peripherals that are not modelled: a TOML file with registers that answer constants, or a
script in Python, which is run because somebody named it (docs/rehearsal.md has both).

format = 1
[[peripheral]]
name = "ADC1"
address = 0x50040000
size = 0x100         # 0x400 if it is not said
reads = 0            # what every other register answers; without it, reading one ends the run
keeps = true         # a register answers what was written to it last; false: writes are dropped
registers = {0x00 = 1, 0x40 = 2048}
"""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fota_vdev.machine import Machine
from fota_vdev.parts.bus import Peripheral
from fota_wire.errors import InputError
from fota_wire.files import name_of, read_input

LIMIT = 1 << 16
MOST = 64
WORD = 0xFFFF_FFFF
LARGEST = 1 << 20
BLOCK = 0x400
KEYS = ("name", "address", "size", "reads", "keeps", "registers")


class StandIn(Peripheral):
    """A peripheral that is none: ``base`` and ``size`` in bytes of where it answers."""

    def __init__(self, name: str, base: int, size: int) -> None:
        self.name = name  # type: ignore[misc]
        self.base, self.size = base, size


class Constants(StandIn):
    """Registers that answer ``registers`` {offset: value}, others ``reads``; ``keeps`` what is written."""

    STATE = ("_written",)

    def __init__(
        self, name: str, base: int, size: int, *, registers: dict[int, int], reads: int | None, keeps: bool
    ) -> None:
        super().__init__(name, base, size)
        self._registers, self._reads, self._keeps = registers, reads, keeps
        self._written: dict[int, int] = {}

    def reset(self) -> None:
        """Forget what was written."""
        self._written = {}

    def read(self, offset: int) -> int:
        """Return a constant, or what was written. UnmodelledError: nothing is said of this register."""
        known = self._written.get(offset, self._registers.get(offset, self._reads))
        if known is None:
            raise self.unmodelled(offset, "read of the stand-in")
        return known

    def write(self, offset: int, value: int) -> None:
        """Keep or drop ``value``."""
        if self._keeps:
            self._written[offset] = value


class Scripted(StandIn):
    """What an object of a script answers; a mistake in it ends the run, and is named."""

    def __init__(self, name: str, base: int, size: int, script: Any, time_us: Callable[[], int]) -> None:  # noqa: ANN401
        super().__init__(name, base, size)
        self._script, self.time_us = script, time_us

    def reset(self) -> None:
        """Tell the script, if it wants to know."""
        self._call("reset", 0, lambda: getattr(self._script, "reset", lambda: None)())

    def read(self, offset: int) -> int:
        """Return the script's word. UnmodelledError: it has none."""
        value = self._call("read", offset, lambda: self._script.read(offset, self.time_us()))
        if type(value) is not int or not 0 <= value <= WORD:
            raise self.unmodelled(offset, f"the script answers {value!r:.40}, no 32-bit word, to a read of")
        return value

    def write(self, offset: int, value: int) -> None:
        """Hand a word to the script. UnmodelledError: it fails."""
        self._call("write", offset, lambda: self._script.write(offset, value, self.time_us()))

    def _call(self, what: str, offset: int, call: Callable[[], Any]) -> Any:  # noqa: ANN401
        try:
            return call()
        except Exception as exc:
            said = f"the script failed ({type(exc).__name__}: {exc!s:.80}) at a {what} of"
            raise self.unmodelled(offset, said) from exc


def load(path: Path) -> list[StandIn]:
    """Return the stand-ins of a file; a script is run for that.

    Raises:
        InputError: it is neither TOML nor a script of this form, or two of them are in one place.
    """
    raw = read_input(path, LIMIT)
    try:
        text = raw.decode()
    except UnicodeDecodeError as exc:
        raise InputError(
            f"{name_of(path)}: stand-ins are text: TOML, or Python in a file that ends in .py"
        ) from exc
    made = _of_script(text, path) if path.suffix == ".py" else _of_toml(text, path)
    require_apart(made)
    return made


def require_apart(made: list[StandIn]) -> None:
    """Return if no two stand-ins share a name or a block of 1 KiB. Raises InputError."""
    taken: dict[int, str] = {}
    for one in made:
        for block in range(one.base // BLOCK, (one.base + one.size - 1) // BLOCK + 1):
            if taken.setdefault(block, one.name) != one.name:
                raise InputError(
                    f"stand-ins {taken[block]} and {one.name} are in one block of 1 KiB: make one of both"
                )
    names = [one.name for one in made]
    if len(set(names)) != len(names):
        raise InputError(f"a stand-in's name is there twice: {max(names, key=names.count)}")


def attach(machine: Machine, stand_ins: list[StandIn]) -> None:
    """Put stand-ins where they say; they are in place of a model that is there."""
    for one in stand_ins:
        if isinstance(one, Scripted):
            one.time_us = lambda: machine.time_us
        machine.attach(one.base, one.size, one)


def _place(name: object, base: object, size: object, where: str) -> tuple[str, int, int]:
    if type(name) is not str or not name.isprintable() or not 1 <= len(name) <= 32:
        raise InputError(f"{where}: name is not a text of 1 to 32 characters")
    if type(base) is not int or not 0x4000_0000 <= base < 1 << 32 or base % BLOCK:
        raise InputError(f"{where}: address of {name} is no multiple of 0x400 from 0x40000000 on")
    if type(size) is not int or not 4 <= size <= LARGEST or base + size > 1 << 32:
        raise InputError(f"{where}: size of {name} is not 4 to {LARGEST} bytes")
    return name, base, size


def _of_toml(text: str, path: Path) -> list[StandIn]:
    where = name_of(path)
    try:
        content = tomllib.loads(text)
    except RecursionError as exc:
        raise InputError(f"{where}: nested too deeply") from exc
    except ValueError as exc:
        raise InputError(f"{where}: not TOML: {exc}") from exc
    entries = content.get("peripheral")
    if (
        content.get("format") != 1
        or set(content) != {"format", "peripheral"}
        or not isinstance(entries, list)
    ):
        raise InputError(f"{where}: stand-ins begin with format = 1, and have [[peripheral]] tables alone")
    if not 1 <= len(entries) <= MOST:
        raise InputError(f"{where}: 1 to {MOST} [[peripheral]] tables")
    return [_constants(entry, where) for entry in entries]


def _constants(entry: object, where: str) -> StandIn:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: peripheral is no table")
    unknown = sorted(entry.keys() - set(KEYS))
    if unknown:
        raise InputError(f"{where}: {unknown[0]!r:.40}: no such key; known are {', '.join(KEYS)}")
    name, base, size = _place(entry.get("name"), entry.get("address"), entry.get("size", BLOCK), where)
    reads, keeps, registers = entry.get("reads"), entry.get("keeps", False), entry.get("registers", {})
    if reads is not None:
        _require_word(reads, f"{where}: reads of {name}")
    if type(keeps) is not bool:
        raise InputError(f"{where}: keeps of {name} is not true or false")
    if not isinstance(registers, dict):
        raise InputError(f"{where}: registers of {name} is no table {{0x00 = 1}}")
    found: dict[int, int] = {}
    for key, value in registers.items():
        try:
            offset = int(key, 0)
        except ValueError:
            offset = -1
        if not 0 <= offset < size or offset % 4:
            raise InputError(
                f"{where}: {name}: {key!r:.40} is no offset of a 32-bit register in {size} bytes"
            )
        found[offset] = _require_word(value, f"{where}: {name}, register {key}")
    return Constants(name, base, size, registers=found, reads=reads, keeps=keeps)


def _require_word(value: object, what: str) -> int:
    if type(value) is not int or not 0 <= value <= WORD:
        raise InputError(f"{what} is no number of 32 bits")
    return value


def _of_script(text: str, path: Path) -> list[StandIn]:
    where = name_of(path)
    space: dict[str, Any] = {"__name__": "stand_in", "__file__": str(path)}
    try:
        exec(compile(text, str(path), "exec"), space)  # noqa: S102  somebody named this very file
        objects = list(space["PERIPHERALS"])
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # sys.exit, too
        said = "has no PERIPHERALS" if isinstance(exc, KeyError) else f"{type(exc).__name__}: {exc!s:.200}"
        raise InputError(f"{where}: {said}") from exc
    if not 1 <= len(objects) <= MOST:
        raise InputError(f"{where}: PERIPHERALS has not 1 to {MOST} objects")
    made: list[StandIn] = []
    for one in objects:
        size = getattr(one, "size", BLOCK)
        name, base, size = _place(getattr(one, "name", None), getattr(one, "address", None), size, where)
        if not all(callable(getattr(one, method, None)) for method in ("read", "write")):
            raise InputError(
                f"{where}: {name} has no methods read(offset, time_us) and write(offset, value, time_us)"
            )
        made.append(Scripted(name, base, size, one, lambda: 0))
    return made
