"""Stand-ins for what is not modelled: read from any bytes, and in the place of a peripheral."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fota_vdev import names, stand_in
from fota_vdev.machine import Machine
from fota_vdev.models import MODELS
from fota_vdev.parts.bus import UnmodelledError
from fota_wire.errors import DeviceError, InputError

GOOD = """format = 1
[[peripheral]]
name = "ADC1"
address = 0x50040000
registers = {0x00 = 4, 0x40 = 1234}
"""


def loaded(tmp_path: Path, text: str, name: str = "x.toml") -> list[stand_in.StandIn]:
    (tmp_path / name).write_text(text)
    return stand_in.load(tmp_path / name)


@pytest.mark.parametrize("chip", MODELS)
def test_stand_in_answers_where_nothing_did(tmp_path: Path, chip: str) -> None:
    machine = Machine(chip=MODELS[chip])
    base = {"esp32c3": 0x6001_6000}.get(chip, 0x5004_0000)
    stand_in.attach(machine, loaded(tmp_path, GOOD.replace("0x50040000", hex(base))))
    machine.power_on()
    assert (machine.load32(base), machine.load32(base + 0x40)) == (4, 1234)
    machine.store32(base + 8, 7)  # dropped
    with pytest.raises(DeviceError, match="ADC1"):
        machine.load32(base + 8)


def test_stand_in_keeps_what_was_written_until_a_reset(tmp_path: Path) -> None:
    (one,) = loaded(tmp_path, GOOD + "keeps = true\nreads = 9\n")
    one.write(0, 5)
    assert (one.read(0), one.read(8)) == (5, 9)
    one.reset()
    assert one.read(0) == 4


SCRIPT = """class One:
    name, address = "X", 0x40013000
    def read(self, offset, time_us): return {0: 1, 4: time_us, 8: "word", 12: 1 / 0 if offset else 0}[offset]
    def write(self, offset, value, time_us): raise OSError("no")
PERIPHERALS = [One()]
"""


def test_mistakes_of_a_script_end_the_run_and_are_named(tmp_path: Path) -> None:
    (one,) = loaded(tmp_path, SCRIPT.replace("12: 1 / 0 if offset else 0", "12: -1"), "x.py")
    assert one.read(0) == 1
    for offset, said in (
        (8, "'word', no 32-bit word"),
        (12, "-1, no 32-bit word"),
        (16, r"\(KeyError: 16\)"),
    ):
        with pytest.raises(UnmodelledError, match=said):
            one.read(offset)
    with pytest.raises(UnmodelledError, match=r"\(OSError: no\) at a write of X\+0x00"):
        one.write(0, 1)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("format = 1", "format = 2", "begin with format = 1"),
        ("[[peripheral]]", "[peripheral]", "begin with format = 1"),
        ('"ADC1"', '""', "name is not a text of 1 to 32"),
        ("0x50040000", "0x50040004", "no multiple of 0x400"),
        ("0x50040000", "0x20000000", "no multiple of 0x400 from 0x40000000"),
        ("0x40 = 1234", "0x41 = 1", "'0x41' is no offset"),
        ("0x40 = 1234", "0x400 = 1", "'0x400' is no offset"),
        ("0x40 = 1234", "0x40 = 4294967296", "register 0x40 is no number of 32 bits"),
        ("0x40 = 1234", "0x40 = true", "register 0x40 is no number of 32 bits"),
        ("registers", "register", "'register': no such key; known are name"),
        ("\nregisters", "\nkeeps = 1\nregisters", "keeps of ADC1 is not true or false"),
        ("\nregisters", "\nsize = 2\nregisters", "size of ADC1 is not 4 to"),
    ],
)
def test_wrong_stand_in_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        loaded(tmp_path, GOOD.replace(old, new))


def test_two_stand_ins_in_one_place_or_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = GOOD + GOOD.partition("\n")[2].replace("0x50040000", "0x50041000")
    with pytest.raises(InputError, match="name is there twice: ADC1"):
        loaded(tmp_path, twice)
    with pytest.raises(InputError, match="ADC1 and ADC2 are in one block"):
        loaded(tmp_path, GOOD + GOOD.partition("\n")[2].replace("ADC1", "ADC2"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(
    raw=st.binary(max_size=200) | st.text(max_size=100).map(lambda t: (GOOD + t).encode("utf-8", "replace"))
)
def test_any_bytes_are_stand_ins_or_an_input_error(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "any.toml").write_bytes(raw)
    with suppress(InputError):
        assert stand_in.load(tmp_path / "any.toml")


@pytest.mark.parametrize(
    ("chip", "address", "name"),
    [
        ("stm32l476", 0x5004_0000, "ADC1.ISR"),
        ("stm32l476", 0x4001_3008, "SPI1.SR"),
        ("stm32l476", 0x4002_0008, "DMA1+0x08"),
        ("stm32l476", 0x4800_0814, "GPIOC.ODR"),
        ("stm32u585", 0x4202_8008, "ADC1.CR"),
        ("esp32c3", 0x6001_6004, "RMT+0x04"),
        ("stm32l476", 0x7000_0000, ""),
        ("none", 0x4000_0000, ""),
    ],
)
def test_registers_have_their_names(chip: str, address: int, name: str) -> None:
    assert names.name_of(chip, address) == name
