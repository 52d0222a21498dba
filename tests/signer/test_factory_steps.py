"""Provisioning step by step: what it leaves in the chip, after any cut, and what it refuses to touch."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from factory_world import blank, new_device_ca, new_root, require_finished

from fota_signer.factory.line import look, provision_chip
from fota_signer.factory.packets import packet
from fota_signer.factory.plan import make_plan
from fota_signer.factory.record import find_record, load_record
from fota_signer.factory.steps import all_steps
from fota_wire import element
from fota_wire.element import crc16
from fota_wire.errors import DeviceError, FormatError, InputError, VerifyError

CUTS = range(1, 68)


def test_blank_chip_becomes_a_locked_paired_certified_one(job):
    chip = blank()
    report = provision_chip(chip.bus, job)
    require_finished(chip, job, report)
    assert report.record.path.stat().st_mode & 0o777 == 0o600
    assert report.commands == CUTS[-1]


def test_second_run_changes_nothing_and_keeps_keys_and_certificate(job):
    chip = blank()
    first = provision_chip(chip.bus, job)
    before = chip.nvm.state()
    again = provision_chip(chip.bus, job)
    assert again.changed == ()
    assert chip.nvm.state() == before
    assert (again.identity, again.certificate) == (first.identity, first.certificate)


def test_finished_device_without_secrets_in_its_record_is_still_recognised(job):
    chip = blank()
    provision_chip(chip.bus, job).record.without_secrets().save()
    again = provision_chip(chip.bus, job)
    assert again.changed == ()
    assert again.as_dict()["pairing_keys"] == "in the factory HEX only"


@pytest.mark.parametrize("torn", [None, 7], ids=["before", "during"])
@pytest.mark.parametrize("tenth", range(0, 70, 10))
def test_power_cut_at_any_command_leaves_what_a_rerun_completes(job, tenth, torn):
    for at in (n for n in range(tenth, tenth + 10) if n in CUTS):
        chip = blank(seed=at)
        bus = chip.bus
        chip.machine.cut_power_at(element_command=at, torn=None if torn is None else torn + at)
        with pytest.raises(DeviceError, match=r"step .*power cut"):
            provision_chip(bus, job)
        assert not chip.machine.powered
        require_finished(chip, job, provision_chip(chip.bus, job))


@pytest.mark.parametrize(("first", "second"), [(9, 12), (17, 25), (30, 20), (41, 33), (55, 20)])
def test_second_cut_during_the_rerun_is_survived_too(job, first, second):
    chip = blank(seed=first)
    for at in (first, second):
        bus = chip.bus
        chip.machine.cut_power_at(element_command=at, torn=at)
        with pytest.raises(DeviceError, match="power cut"):
            provision_chip(bus, job)
    require_finished(chip, job, provision_chip(chip.bus, job))


def test_pairing_keys_are_on_disk_before_the_chip_gets_its_first_write(job):
    chip = blank()
    bus, execute, seen = chip.bus, chip.bus.execute, []

    def watch(packet):
        if packet[1] == 0x12 and not seen:
            seen.append(find_record(job.work, chip.machine.element.serial))
        return execute(packet)

    bus.execute = watch
    provision_chip(bus, job)
    assert seen[0].has_secrets
    assert bytes(chip.nvm.slots[4][:32]) == seen[0].mac_key


def test_record_that_cannot_be_written_leaves_the_chip_untouched(job, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    chip = blank()
    with pytest.raises(InputError, match="no folder"):
        provision_chip(chip.bus, replace(job, work=tmp_path / "file"))
    assert not chip.nvm.config_locked
    assert look(chip.bus)[0].kind == "blank"


# -- chips that are somebody else's ----------------------------------------------------------


def test_locked_chip_without_a_record_is_refused_and_left_alone(job, tmp_path):
    chip = blank()
    provision_chip(chip.bus, job)
    before = chip.nvm.state()
    with pytest.raises(VerifyError, match=r"step record.*somebody else's"):
        provision_chip(chip.bus, replace(job, work=tmp_path / "other"))
    assert chip.nvm.state() == before
    assert not (tmp_path / "other").exists()


def test_chip_with_other_roots_is_refused_and_left_alone(job):
    chip = blank()
    provision_chip(chip.bus, job)
    before = chip.nvm.state()
    with pytest.raises(VerifyError, match=r"step record.*other firmware roots"):
        provision_chip(chip.bus, replace(job, root_a_xy=new_root()))
    assert chip.nvm.state() == before


@pytest.mark.parametrize(
    ("name", "length", "step"), [("io_key", 32, "prove-io-key"), ("mac_key", 32, "prove-pairing-key")]
)
def test_locked_slot_that_does_not_match_is_named(job, name, length, step):
    chip = blank()
    report = provision_chip(chip.bus, job)
    replace(report.record, **{name: bytes(length)}).save()
    with pytest.raises(VerifyError, match=step):
        provision_chip(chip.bus, job)


def test_locked_root_that_does_not_match_is_named(job):
    from fota_wire.cose import key_hash

    chip, other = blank(), new_root()
    report = provision_chip(chip.bus, job)
    replace(report.record, root_b=key_hash(other)).save()
    with pytest.raises(VerifyError, match="prove-root-b"):
        provision_chip(chip.bus, replace(job, root_b_xy=other))


def test_open_chip_whose_counters_were_counted_on_is_refused_before_its_data_lock(job):
    """Somebody counted between two runs: such a board would refuse its first image, or root A for ever."""
    chip = blank()
    bus = chip.bus
    chip.machine.cut_power_at(element_command=30)
    with pytest.raises(DeviceError):
        provision_chip(bus, job)
    bus = chip.bus
    for _ in range(8):
        bus.execute(packet(0x24, 1, 1))
    with pytest.raises(VerifyError, match="check-counters"):
        provision_chip(bus, job)
    assert not chip.nvm.data_locked


def test_certificate_of_another_ca_is_refused(job):
    chip = blank()
    provision_chip(chip.bus, job)
    with pytest.raises(VerifyError, match=r"step certificate.*another CA"):
        provision_chip(chip.bus, replace(job, ca=new_device_ca("elsewhere")))


def test_open_chip_with_the_serial_of_a_shipped_one_is_refused(job):
    provision_chip(blank(seed=3).bus, job).record.without_secrets().save()
    twin = blank(seed=3)
    with pytest.raises(VerifyError, match="serial number was seen before") as caught:
        provision_chip(twin.bus, job)
    assert caught.value.code == "duplicate"
    assert not twin.nvm.config_locked


def configured(*changes):
    """A blank chip whose zone somebody changed: (offset, bytes)."""
    chip = blank()
    for at, data in changes:
        chip.machine.element._nvm.config[at : at + len(data)] = data
    return chip


def test_chip_at_another_address_is_provisioned_and_its_address_recorded(job):
    chip = configured((16, b"\xb0"))
    bus = chip.bus
    bus.address = 0x58
    report = provision_chip(bus, job)
    require_finished(chip, job, report)
    assert load_record(report.record.path).address == b"\x58"


def test_key_that_somebody_put_in_before_is_replaced(job):
    chip = blank()
    bus = chip.bus
    chip.machine.cut_power_at(element_command=26)
    with pytest.raises(DeviceError):
        provision_chip(bus, job)
    assert (chip.nvm.config_locked, chip.nvm.data_locked) == (True, False)
    known = bytes(35) + b"\x07"
    for slot in (0, 1, 2):
        chip.machine.element._nvm.slots[slot][:] = known
    require_finished(chip, job, provision_chip(chip.bus, job))
    assert all(bytes(chip.nvm.slots[slot]) != known for slot in (0, 1, 2))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param([(87, b"\0")], "somebody else's.*byte 20", id="locked-with-factory-defaults"),
        pytest.param([(86, b"\0")], "half locked", id="data-locked-alone"),
        pytest.param([(88, b"\xfe\xff")], "half locked", id="slot-locked-alone"),
        pytest.param([(12, b"\x01")], "TrustFLEX.*can: .*cannot: ", id="trustflex-by-serial"),
        pytest.param([(12, b"\x01"), (16, b"\x6a")], "Trust&GO.*cannot: our", id="trust-and-go"),
    ],
)
def test_foreign_chip_is_refused_with_the_reason_and_left_alone(job, changes, words):
    chip = configured(*changes)
    bus = chip.bus
    bus.address = chip.machine.element.address
    before = chip.nvm.state()
    with pytest.raises(VerifyError, match=rf"step recognise.*{words}"):
        provision_chip(bus, job)
    assert chip.nvm.state() == before
    assert not job.work.exists()


# -- a chip or a bus that fails ----------------------------------------------------------


class Noise:
    """Flips a bit in the n-th answer longer than the count byte."""

    def __init__(self, at):
        self.left = at

    def on_write(self, address, data):
        return data

    def on_read(self, address, data):
        self.left -= len(data) > 1
        return bytes([data[0] ^ 1]) + data[1:] if self.left == 0 and len(data) > 1 else data


@pytest.mark.parametrize("at", [2, 8, 24, 40, 60, 90, 120])
def test_damaged_answer_is_one_error_naming_the_step_and_a_rerun_completes(job, at):
    chip = blank(seed=at)
    bus = chip.bus
    chip.machine.i2c_tamper = Noise(at)
    with pytest.raises(DeviceError, match="step "):
        provision_chip(bus, job)
    chip.machine.i2c_tamper = None
    require_finished(chip, job, provision_chip(chip.bus, job))


def test_chip_that_does_not_answer_is_one_error_naming_the_step(job):
    chip = blank()
    bus = chip.bus
    bus.address = 0x35
    with pytest.raises(DeviceError, match="step recognise: no crypto element answers at I2C address 0x35"):
        provision_chip(bus, job)


class Liar:
    """Replaces what the chip reads out for the first firmware root by another key."""

    target = False

    def on_write(self, address, data):
        self.target = data[:1] == b"\x03" and data[2:6] == bytes([0x02, 0x82, 15 << 3, 0])
        return data

    def on_read(self, address, data):
        if self.target and len(data) > 30:
            body = b"\x23" + bytes(32)
            return body[1:] + crc16(body)
        return data


def test_root_that_reads_back_wrong_stops_before_its_slot_is_locked(job):
    chip = blank()
    bus = chip.bus
    chip.machine.i2c_tamper = Liar()
    with pytest.raises(VerifyError, match="prove-root-a"):
        provision_chip(bus, job)
    assert not any(chip.nvm.slot_locked(slot) for slot in range(16))


# -- inputs ----------------------------------------------------------


@pytest.mark.parametrize("floor", [-1, 262144])
def test_floor_that_no_counter_holds_is_refused(shared_job, floor):
    with pytest.raises(InputError, match="floor"):
        replace(shared_job, floor=floor)


def test_largest_floor_fits(shared_job):
    assert replace(shared_job, floor=262143).counters == (2097144, 0)


def test_same_key_as_both_roots_is_refused(shared_job):
    with pytest.raises(InputError, match="same key"):
        replace(shared_job, root_b_xy=shared_job.root_a_xy)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format": 2}', b'{"format": 1, "serial": "00"}'])
def test_damaged_record_is_refused(job, content, tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"x\.json"):
        load_record(path)


@pytest.mark.parametrize("floor", [0, 1, 2, 9, 12345, 262143])
def test_counter_bytes_are_those_of_the_chip_model(floor):
    from fota_vdev.atecc608.memory import decode_counter

    assert decode_counter(element.counter_bytes(8 * floor)) == 8 * floor


def test_no_secret_shows_in_report_plan_or_repr(job):
    chip = blank()
    report = provision_chip(chip.bus, job)
    plan = make_plan(all_steps(root_a_xy=job.root_a_xy, root_b_xy=job.root_b_xy))
    shown = repr(report) + json.dumps(report.as_dict()) + plan.decode()
    for secret in (report.record.io_key, report.record.mac_key):
        assert secret.hex() not in shown
        assert repr(secret) not in shown
