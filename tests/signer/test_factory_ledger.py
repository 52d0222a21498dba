"""The ledger: what it notes, refuses, and never holds."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from factory_world import blank

from fota_signer.factory.ledger import Ledger, provision_noted
from fota_wire.errors import DeviceError, StorageError, VerifyError


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(tmp_path / "l.sqlite")
    yield made
    made.close()


def test_provisioned_chip_is_noted_with_key_certificate_and_times(job, ledger):
    report = provision_noted(blank().bus, job, ledger)
    row = ledger.find(report.facts.serial)
    assert row["public_key"] == report.identity.hex()
    assert row["certificate"].startswith("-----BEGIN CERTIFICATE-----")
    assert (row["result"], row["detail"]) == ("ok", "")
    assert row["started"] <= row["finished"]
    assert ledger.counts() == {"ok": 1}
    for secret in (report.record.io_key, report.record.mac_key):
        assert secret.hex() not in ledger.as_csv()


def test_failed_chip_is_noted_with_its_step_and_a_rerun_makes_it_good(job, ledger):
    chip = blank()
    bus = chip.bus
    chip.machine.cut_power_at(element_command=30)
    with pytest.raises(DeviceError):
        provision_noted(bus, job, ledger)
    row = ledger.find(chip.machine.element.serial)
    assert row["result"] == "failed"
    assert row["detail"].startswith("step ")
    provision_noted(chip.bus, job, ledger)
    assert ledger.counts() == {"ok": 1}
    assert ledger.find(chip.machine.element.serial)["detail"] == ""


def test_open_chip_with_a_finished_serial_is_refused_and_the_row_stays(job, ledger):
    provision_noted(blank(seed=2).bus, job, ledger)
    before, twin = ledger.as_csv(), blank(seed=2)
    with pytest.raises(VerifyError, match=r"step ledger: serial number .* was seen before"):
        provision_noted(twin.bus, job, ledger)
    assert ledger.as_csv() == before
    assert not twin.nvm.config_locked


def test_finished_serial_with_another_key_is_refused(job, ledger):
    report = provision_noted(blank().bus, job, ledger)
    with pytest.raises(VerifyError, match="another key"):
        ledger.finish(replace(report, identity=bytes(64)))


def test_key_under_two_serials_is_refused(job, ledger):
    report = provision_noted(blank().bus, job, ledger)
    other = replace(report.facts, serial=bytes(9), data_locked=False)
    ledger.begin(other)
    with pytest.raises(VerifyError, match="another device's too") as caught:
        ledger.finish(replace(report, facts=other))
    assert caught.value.code == "duplicate"


def test_finished_chip_that_fails_a_check_later_keeps_its_row(job, ledger):
    chip = blank()
    provision_noted(chip.bus, job, ledger)
    before, bus = ledger.as_csv(), chip.bus
    chip.machine.cut_power_at(element_command=12)
    with pytest.raises(DeviceError):
        provision_noted(bus, job, ledger)
    assert ledger.as_csv() == before


def test_ledger_lost_after_the_chip_was_done_is_an_error_and_a_rerun_notes_it(job, ledger, tmp_path):
    chip = blank()
    other = Ledger(tmp_path / "gone.sqlite")
    finish = other.finish

    def closed(report):
        other.close()
        finish(report)

    other.finish = closed
    with pytest.raises(StorageError, match="run again"):
        provision_noted(chip.bus, job, other)
    report = provision_noted(chip.bus, job, ledger)
    assert report.changed == ()
    assert ledger.counts() == {"ok": 1}
