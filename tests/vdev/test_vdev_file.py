"""A device in a file: what persists, who may use it, what is refused; and the fota vdev commands."""

import json
import subprocess
import sys

import pytest
from chip_host import ChipHost
from lifeline import HANG_S

from fota_vdev.atecc608 import Atecc608
from fota_vdev.machine import Machine
from fota_wire import journal
from fota_wire.errors import FormatError, InputError, StorageError
from fota_wire.layout import SLOT_A, SLOT_NONE

HELLO = """
  ldr r0, =0x40021000
  movs r1, #1
  str r1, [r0, #0x4c]
  ldr r1, =(1 << 17)
  str r1, [r0, #0x58]
  ldr r0, =0x48000000
  ldr r1, =0xABFFFFAF
  str r1, [r0]
  ldr r1, =0x7700
  str r1, [r0, #0x20]
  ldr r0, =0x40004400
  movs r1, #35
  str r1, [r0, #0xc]
  movs r1, #13
  str r1, [r0]
  movs r1, #'h'
  strb r1, [r0, #0x28]
  movs r1, #'\\n'
  strb r1, [r0, #0x28]
1: ldr r1, [r0, #0x1c]
  lsrs r1, r1, #6
  bcc 1b
  ldr r1, [r0, #0x24]
  strb r1, [r0, #0x28]
  b 1b
"""

PROGRAM_JOURNAL = """
  ldr r0, =0x40022000
  movs r1, #0
  str r1, [r0]
  ldr r1, =0x45670123
  str r1, [r0, #8]
  ldr r1, =0xCDEF89AB
  str r1, [r0, #8]
  movs r1, #1
  str r1, [r0, #0x14]
  ldr r3, =0x08080000
2: movs r4, #0
  ldr r1, [r3]
  adds r1, #1
  bne 3f
  strd r4, r4, [r3]
1: ldr r1, [r0, #0x10]
  lsrs r1, r1, #17
  bcs 1b
3: adds r3, #8
  b 2b
"""


@pytest.fixture
def device_file(tmp_path, assemble):
    path = tmp_path / "d.vdev"
    machine = Machine(element=Atecc608(seed=3), seed=3)
    machine.flash.write_phys(1, 0, assemble(HELLO))
    machine.save(path)
    return path


def run_cli(*args, code=0):
    """Run the root command in a process of its own."""
    program = "import sys; from fota_cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "vdev", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    assert done.returncode == code, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def test_saved_device_comes_back_with_flash_marks_wear_options_and_element(tmp_path):
    path = tmp_path / "d.vdev"
    m = Machine(element=Atecc608(seed=8), seed=8)
    m.flash.write_phys(2, 0x1234, b"payload")
    m.flash.mark_torn(2, 0x2000)
    m.flash.protect(1, 0, 7)
    m.flash.erase(2, 5)
    m.power_on()
    host = ChipHost(m.i2c, m.sleep_us)
    host.write_config_word(16, bytes.fromhex("c0000000"))
    before = m.board.rng.stream.take(4)
    m.save(path)
    with Machine.load(path) as back:
        assert back.flash.state() == m.flash.state()
        assert back.element.persistent_state() == m.element.persistent_state()
        assert not back.powered
        assert back.board.rng.stream.take(4) != before
        back.power_on()
        assert back.read(0x2000_0000, 64) != m.read(0x2000_0000, 64), "RAM does not survive"


def test_file_is_readable_by_its_owner_only_and_replaced_whole(device_file):
    assert device_file.stat().st_mode & 0o777 == 0o600
    leftovers = [p.name for p in device_file.parent.iterdir() if p.name.endswith(".tmp")]
    assert leftovers == []


def test_second_user_of_a_file_is_told_who_holds_it(device_file):
    with Machine.load(device_file):
        with pytest.raises(StorageError, match="in use by process"):
            Machine.load(device_file)
        assert "in use by process" in run_cli("status", device_file, code=5).stderr
        with pytest.raises(StorageError, match="in use"):
            Machine().save(device_file)
    with Machine.load(device_file) as again:
        again.save(device_file)


@pytest.mark.parametrize("position", [0, 9, 20, 400, -40, -1])
def test_any_damaged_byte_is_refused(device_file, position):
    raw = bytearray(device_file.read_bytes())
    raw[position] ^= 0x40
    device_file.write_bytes(raw)
    with pytest.raises(FormatError):
        Machine.load(device_file)


def test_truncated_foreign_and_missing_files_are_named(tmp_path, device_file):
    device_file.write_bytes(device_file.read_bytes()[:100])
    with pytest.raises(FormatError, match=r"d\.vdev"):
        Machine.load(device_file)
    device_file.write_bytes(b"hello")
    with pytest.raises(FormatError, match="not a virtual device"):
        Machine.load(device_file)
    with pytest.raises(InputError, match="fota vdev create"):
        Machine.load(tmp_path / "none")


def test_create_makes_a_blank_device_and_keeps_an_existing_one(tmp_path):
    path = tmp_path / "n.vdev"
    made = json.loads(run_cli("create", path, "--seed", 5, "--json").stdout)
    raw = path.read_bytes()
    assert made["serial"].startswith("0123")
    assert "exists" in run_cli("create", path, code=3).stderr
    assert path.read_bytes() == raw
    view = json.loads(run_cli("status", path, "--json").stdout)
    assert view["element"]["serial"] == made["serial"]
    assert view["element"]["config_locked"] is False
    assert view["journal"]["confirmed"] == "none"


@pytest.mark.parametrize(
    ("chip", "unit"),
    [("stm32l476", "double_words"), ("stm32u585", "quad_words"), ("esp32c3", "programmed_pages")],
)
def test_status_counts_what_the_chip_programs_at_once(tmp_path, chip, unit):
    run_cli("create", tmp_path / "n.vdev", "--chip", chip)
    flash = json.loads(run_cli("status", tmp_path / "n.vdev", "--json").stdout)["flash"]
    words = {name for name in flash if "words" in name or "pages" in name}
    assert words == {unit} | ({f"torn_{unit}"} if chip != "esp32c3" else set())


def test_run_prints_the_uart_and_takes_input(device_file):
    out = run_cli("run", device_file, "--time-ms", 40, "--input", "x", "--input-at-ms", 10)
    assert out.stdout == "h\nx"
    told = json.loads(run_cli("run", device_file, "--until", "h", "--json").stdout)
    assert told["reason"] == "until"
    assert told["uart"] == "h\n"
    assert told["resets"] == ["power"]


def test_text_that_never_comes_is_said_and_no_success(device_file):
    out = run_cli("run", device_file, "--time-ms", 40, "--until", "hello", code=1)
    said = "fota: error: --until: the UART did not print 'hello' in 40 ms (--time-ms)"
    assert out.stderr.splitlines()[-1] == said
    assert out.stdout == "h\n"
    told = run_cli("run", device_file, "--time-ms", 40, "--until", "hello", "--json", code=1)
    assert json.loads(told.stdout)["reason"] == "time"
    assert told.stderr == f"{said}\n"
    assert "which text?" in run_cli("run", device_file, "--until", "", code=2).stderr
    typed = run_cli("run", device_file, "--time-ms", 40, "--until", "x", "--input", "x", "--input-at-ms", 10)
    assert typed.stdout == "h\nx"


def test_reset_presses_the_button_between_two_runs(device_file):
    told = json.loads(run_cli("reset", device_file, "--time-ms", 5, "--json").stdout)
    assert told["resets"] == ["power", "pin"]
    assert told["uart"] == "h\nh\n"


def test_fault_ends_with_exit_code_6_and_one_line(tmp_path):
    Machine().save(tmp_path / "blank.vdev")
    out = run_cli("run", tmp_path / "blank.vdev", "--time-ms", 5, code=6)
    assert out.stderr.strip().splitlines()[-1].startswith("fota: error: the run ended in a fault: lockup")


def test_cut_happens_at_the_operation_and_shows_in_the_cells(tmp_path, assemble):
    path = tmp_path / "c.vdev"
    m = Machine()
    m.flash.write_phys(1, 0, assemble(PROGRAM_JOURNAL))
    m.save(path)
    told = json.loads(run_cli("cut", path, "--at", 3, "--time-ms", 1, "--json").stdout)
    assert "power cut before program in bank 2 at offset 0x00010" in told["cut"]
    assert told["resets"] == ["power", "power"]
    with Machine.load(path) as back:
        written = back.flash.counters.double_words[2]
        assert written > 3
        assert back.flash.read_phys(2, 0, 24) == bytes(24)
    out = run_cli("cut", path, "--at", 1000, "--time-ms", 1, code=1)
    assert "nothing was cut" in out.stderr


def test_status_reads_the_journal_around_a_torn_record(tmp_path):
    path = tmp_path / "j.vdev"
    m = Machine()
    cells = [journal.pack(journal.Record(n, SLOT_A, SLOT_NONE, journal.NONE)) for n in (1, 2)]
    m.flash.write_phys(2, 0, b"".join(cells))
    m.flash.mark_torn(2, 24)
    m.save(path)
    view = json.loads(run_cli("status", path, "--json").stdout)["journal"]
    assert (view["sequence"], view["confirmed"]) == (1, "A")
    assert view["next_cell"] == 2
    assert "confirmed  A" in run_cli("status", path).stdout


def test_limits_names_every_assumption_and_what_is_missing():
    text = run_cli("limits").stdout
    told = json.loads(run_cli("limits", "--json").stdout)
    for word in ("PrivWrite", "NVIC", "watchdog_ms", "gendig_counter_feeds_mac"):
        assert word in text
    assert len(told["assumptions"]) >= 12


def test_flash_image_and_hexdump_reach_the_cells(device_file, tmp_path):
    (tmp_path / "i").write_bytes(b"\xabcd")
    run_cli("flash-image", device_file, tmp_path / "i", "--slot", "B")
    assert run_cli("hexdump", device_file, "--bank", 2, "--offset", "0x4000", "--length", 16).stdout == (
        "004000  ab 63 64" + " ff" * 13 + "\n"
    )
    assert run_cli("hexdump", device_file, "--bank", 1, "--offset", "zz", code=3).stderr
    assert run_cli("report", device_file, code=1).stdout


def test_vdev_help_does_not_load_the_emulator():
    program = "import sys, fota_vdev.cli; print(*(m in sys.modules for m in ('unicorn', 'cryptography')))"
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=HANG_S, check=True
    )
    assert out.stdout.split() == ["False", "False"]
