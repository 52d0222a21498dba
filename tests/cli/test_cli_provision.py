"""`fota ca` and `fota provision` as a factory types them: files, exit codes, one line per error."""

import csv
import json
import sqlite3
import subprocess
import uuid
from pathlib import Path

import pytest
from cli_factory import fota, genesis_root, one_line
from cryptography.hazmat.primitives.serialization import Encoding

from fota_signer.factory.ca import load_certificate, make_ca
from fota_vdev.machine import Machine
from fota_wire.settings import unpack_trust_store

BOOTLOADER = Path(__file__).resolve().parents[2] / "build/bootloader/stm32l4/bootloader.elf"
RECOVERY = BOOTLOADER.with_name("bootloader-recovery.elf")
SAMPLE = BOOTLOADER.parents[2] / "sample/app-1.0.0.elf"
VENDOR_ID = uuid.uuid5(uuid.NAMESPACE_DNS, "example.com")
CLASS_ID = uuid.uuid5(VENDOR_ID, "demo")


# -- ca ------------------------------------------------------------------------------------------------


def test_new_ca_is_a_ca_for_openssl_and_its_key_is_encrypted(factory):
    text = (factory / "ca.pem").read_text()
    assert "BEGIN ENCRYPTED PRIVATE KEY" in text
    assert (factory / "ca.pem").stat().st_mode & 0o777 == 0o600
    shown = json.loads(fota("ca", "show", factory / "ca.crt", "--json")[0])
    assert (shown["ca"], shown["subject"]) == (True, "CN=Factory 1")
    done = subprocess.run(
        ["openssl", "verify", "-CAfile", factory / "ca.crt", factory / "ca.crt"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_ca_without_a_password_or_over_an_existing_file_is_refused(factory, tmp_path):
    args = "ca", "new", "--name", "x", "--cert", tmp_path / "x.crt"
    assert "no password" in one_line(fota(*args, "-o", tmp_path / "x.pem", code=3, password="")[1])
    before = (factory / "ca.pem").read_bytes()
    assert "exists" in one_line(fota(*args, "-o", factory / "ca.pem", code=3)[1])
    assert (factory / "ca.pem").read_bytes() == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("days", "warned"), [("700", True), ("800", False)])
def test_factory_is_warned_of_a_ca_that_ends_soon(device, roots, tmp_path, days, warned):
    key, certificate = tmp_path / "ca.pem", tmp_path / "ca.crt"
    fota("ca", "new", "-o", key, "--cert", certificate, "--name", "x", "--days", days)
    shown = json.loads(fota("ca", "show", certificate, "--json")[0])
    assert (shown["usable"], "warning" in shown) == (True, warned)
    ca = "--ca-key", key, "--ca-cert", certificate
    said = fota("provision", "device", device, *roots, *ca, "--work", tmp_path / "work")[1]
    assert ("fota: warning: the device CA ends on 20" in said) == warned


# -- one device ----------------------------------------------------------------------------------------


def test_device_is_provisioned_once_and_its_certificate_verifies(device, options, factory, tmp_path):
    work = tmp_path / "work"
    args = "provision", "device", device, *options, "--work", work, "--ledger", tmp_path / "l.sqlite"
    out, err = fota(*args, "--certificate-out", tmp_path / "d.crt", "--request-out", tmp_path / "d.csr")
    assert ": provisioned; record" in out
    assert "done     lock-data" in err
    certificate = (tmp_path / "d.crt").read_bytes()
    verified = subprocess.run(
        ["openssl", "verify", "-purpose", "sslclient", "-CAfile", factory / "ca.crt", tmp_path / "d.crt"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert verified.returncode == 0, verified.stderr
    request = subprocess.run(
        ["openssl", "req", "-inform", "der", "-in", tmp_path / "d.csr", "-verify", "-noout", "-subject"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert "verify OK" in request.stderr
    again = json.loads(fota(*args, "--json")[0])
    assert again["changed"] == []
    assert again["certificate"].encode() == certificate
    look = json.loads(fota("provision", "look", device, "--json")[0])
    assert (look["kind"], look["locked_slots"]) == ("ours", "0 1 4 6 14 15")
    record = json.loads(next(work.glob("*.json")).read_text())
    ledger = b"".join(path.read_bytes() for path in tmp_path.glob("l.sqlite*"))
    for name in ("io_key", "mac_key"):
        assert record[name] not in out + err + json.dumps(again)
        assert record[name].encode() not in ledger
        assert bytes.fromhex(record[name]) not in ledger


def test_wrong_ca_password_or_missing_ca_key_touches_no_chip(device, options, tmp_path, factory):
    args = ["provision", "device", device, *options, "--work", tmp_path / "work"]
    assert "wrong password" in one_line(fota(*args, code=3, password="no")[1])
    assert "no password" in one_line(fota(*args, code=3, password="")[1])
    args[args.index(factory / "ca.pem")] = tmp_path / "none.pem"
    assert "none.pem" in one_line(fota(*args, code=3)[1])
    assert json.loads(fota("provision", "look", device, "--json")[0])["kind"] == "blank"
    assert not (tmp_path / "work").exists()


def test_example_ca_key_is_refused_unless_allowed(device, roots, tmp_path):
    fota("keys", "example", tmp_path / "keys")
    ca = "--ca-key", tmp_path / "keys/device-ca.pem", "--ca-cert", tmp_path / "keys/device-ca.crt"
    args = "provision", "device", device, *roots, *ca, "--work", tmp_path / "work"
    assert "example key" in one_line(fota(*args, code=1)[1])
    fota(*args, "--allow-example-keys")


def test_device_of_another_factory_is_refused(device, options, tmp_path):
    fota("provision", "device", device, *options, "--work", tmp_path / "one")
    before = device.read_bytes()
    error = fota("provision", "device", device, *options, "--work", tmp_path / "two", code=1)[1]
    assert "step record" in one_line(error)
    header = 8
    assert device.read_bytes()[:header] == before[:header]
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [((), 2), (("--kit", "--i2c", "1"), 2), (("--i2c", "x"), 3), (("--kit", "--address", "0x90"), 3)],
)
def test_command_that_names_no_chip_or_two_or_none_that_can_be_is_refused(options, words, code):
    fota("provision", "device", *words, *options, code=code)


def test_hardware_that_is_not_there_is_one_line(options, tmp_path):
    pytest.importorskip("cryptoauthlib")
    error = one_line(fota("provision", "look", "--i2c", 250, code=6)[1])
    assert "I2C bus 250" in error


# -- plan ----------------------------------------------------------------------------------------------


def test_plan_runs_on_a_blank_device_and_on_no_other(device, options, roots, tmp_path):
    fota("provision", "plan", *roots, "-o", tmp_path / "plan.json")
    args = "provision", "run-plan", tmp_path / "plan.json", device, *options, "--work", tmp_path / "work"
    assert "provisioned by the plan" in fota(*args)[0]
    assert "blank chips" in one_line(fota(*args, code=1)[1])
    (tmp_path / "plan.json").write_text("{}")
    assert "not a plan" in one_line(fota(*args, code=3)[1])


# -- batch ---------------------------------------------------------------------------------------------


def test_batch_of_twenty_boards_has_twenty_certificates_that_verify(options, factory, tmp_path):
    args = "provision", "batch", *options, "--ledger", tmp_path / "l.sqlite", "--seed", 100, "--count", 20
    out, err = fota(*args, "--csv", tmp_path / "l.csv", "--json")
    result = json.loads(out)
    assert (result["ok"], result["failed"]) == (20, 0)
    assert result["seconds_per_board"] <= 1.0
    assert "20/20" in err
    assert "ETA" in err
    rows = list(csv.DictReader((tmp_path / "l.csv").read_text().splitlines(keepends=True)))
    assert len({row["serial"] for row in rows}) == len({row["public_key"] for row in rows}) == 20
    assert {row["result"] for row in rows} == {"ok"}
    for row in rows:
        (tmp_path / f"{row['serial']}.crt").write_text(row["certificate"])
    done = subprocess.run(
        ["openssl", "verify", "-CAfile", factory / "ca.crt", *tmp_path.glob("*.crt")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout.count(": OK")) == (0, 20), done.stderr
    assert not list((tmp_path / "l.sqlite.work").iterdir())
    assert fota("provision", "export", tmp_path / "l.sqlite")[0] == (tmp_path / "l.csv").read_text()


def test_serials_seen_before_are_refused_and_resume_skips_them(options, tmp_path):
    args = "provision", "batch", *options, "--ledger", tmp_path / "l.sqlite", "--seed", 7, "--json"
    fota(*args, "--count", 2)
    before = fota("provision", "export", tmp_path / "l.sqlite")[0]
    result = json.loads(fota(*args, "--count", 3, code=1)[0])
    assert (result["ok"], result["failed"]) == (1, 2)
    assert "was seen before" in result["first_failures"][0]
    assert set(before.splitlines()) <= set(fota("provision", "export", tmp_path / "l.sqlite")[0].splitlines())
    resumed = json.loads(fota(*args, "--count", 4, "--resume")[0])
    assert (resumed["ok"], resumed["skipped"], resumed["failed"]) == (1, 3, 0)


def test_resume_without_a_seed_would_skip_nothing_and_is_refused(options, tmp_path):
    args = "provision", "batch", *options, "--ledger", tmp_path / "l.sqlite", "--count", 1, "--resume"
    assert "--resume needs --seed" in one_line(fota(*args, code=2)[1])
    assert not (tmp_path / "l.sqlite").exists()


def test_ledger_that_cannot_be_written_is_said_and_no_chip_is_touched(device, options, tmp_path):
    work, none = tmp_path / "work", tmp_path / "none"
    for ledger, code, said in (
        (Path("/proc/l.sqlite"), 5, "ledger"),
        (none / "l", 3, f"{none}: no such folder"),
    ):
        for words in (("batch", "--count", 1), ("device", device)):
            args = "provision", *words, *options, "--ledger", ledger, "--work", work
            assert said in one_line(fota(*args, code=code)[1])
    assert not work.exists()
    assert json.loads(fota("provision", "look", device, "--json")[0])["kind"] == "blank"


def test_ledger_locked_by_another_program_is_exit_five_and_a_rerun_continues(device, options, tmp_path):
    path = tmp_path / "l.sqlite"
    args = "provision", "device", device, *options, "--ledger", path, "--work", tmp_path / "work"
    fota("provision", "batch", "--count", 1, *options, "--ledger", path)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert "in use by another process" in one_line(fota(*args, code=5)[1])
    holder.close()
    fota(*args)


def test_file_that_is_no_ledger_is_one_line(device, options, tmp_path):
    (tmp_path / "l.sqlite").write_bytes(b"not a database, but long enough to be looked at" * 100)
    args = "provision", "device", device, *options, "--ledger", tmp_path / "l.sqlite"
    assert "not a database" in one_line(fota(*args, "--work", tmp_path / "work", code=3)[1])


# -- factory HEX ---------------------------------------------------------------------------------------

needs_firmware = pytest.mark.skipif(
    not (BOOTLOADER.exists() and SAMPLE.exists()), reason="make firmware first"
)


@pytest.fixture
def hex_options(factory, roots, tmp_path):
    fota("sign", SAMPLE, "-o", tmp_path / "app.img", "--key", factory / "a.pem", "--version", "1.0.0",
         "--security-counter", 1, "--vendor-domain", "example.com", "--model", "demo")  # fmt: skip
    (tmp_path / "root.cbor").write_bytes(genesis_root())
    return (
        *("--bootloader", BOOTLOADER, "--image", tmp_path / "app.img", "--class", CLASS_ID),
        *("--vendor-id", VENDOR_ID, *roots, "--root", tmp_path / "root.cbor"),
        *("--server-ca", factory / "ca.crt", "--server-url", "https://updates.example:8443"),
    )


@needs_firmware
def test_factory_hex_boots_its_device_and_takes_the_keys_out_of_the_record(
    device, options, hex_options, tmp_path
):
    work = tmp_path / "work"
    fota("provision", "device", device, *options, "--work", work)
    path = next(work.glob("*.json"))
    secret = json.loads(path.read_text())["io_key"]
    made = tmp_path / "d.hex"
    out, err = fota("provision", "hex", path, *hex_options, "-o", made)
    assert made.stat().st_mode & 0o777 == 0o600
    assert secret not in out + err
    for words in (
        "STM32_Programmer_CLI",
        "WRP1A_END=0x07",
        "RDP=0xBB",
        "OpenOCD:",
        "pyOCD:",
        "onfirm on silicon",
    ):
        assert words in out
    assert "io_key" not in json.loads(path.read_text())
    assert path.stat().st_mode & 0o777 == 0o600

    fota("provision", "load", device, made)
    said = fota("vdev", "run", device, "--until", "journal: ")[0]
    assert "fota-boot: slot A 1.0.0 confirmed" in said
    again = json.loads(fota("provision", "device", device, *options, "--work", work, "--json")[0])
    assert again["changed"] == []
    assert "no pairing keys any more" in one_line(
        fota("provision", "hex", path, *hex_options, "-o", tmp_path / "e.hex", code=3)[1]
    )


@needs_firmware
def test_factory_hex_refuses_inputs_that_do_not_fit_and_keeps_the_keys(
    device, options, hex_options, factory, tmp_path
):
    work = tmp_path / "work"
    fota("provision", "device", device, *options, "--work", work)
    path = next(work.glob("*.json"))
    before = path.read_bytes()

    def refused(option, value, code=3):
        words = list(hex_options)
        words[words.index(option) + 1] = value
        return one_line(fota("provision", "hex", path, *words, "-o", tmp_path / "d.hex", code=code)[1])

    assert "another device class" in refused("--class", VENDOR_ID)
    fota("keys", "new", "image/c", "-o", tmp_path / "c.pem")
    fota("keys", "public", tmp_path / "c.pem", "-o", tmp_path / "c.pub")
    assert "other firmware roots" in refused("--image-key-b", tmp_path / "c.pub")
    assert "the same key" in refused("--image-key-a", factory / "b.pub")
    assert "another vendor" in refused("--vendor-id", CLASS_ID)
    assert "is a signed image, expected an ELF file" in refused("--bootloader", tmp_path / "app.img")
    assert path.read_bytes() == before
    assert not (tmp_path / "d.hex").exists()


@needs_firmware
def test_factory_hex_that_the_board_could_not_live_with_is_not_written(
    device, options, hex_options, factory, tmp_path
):
    work = tmp_path / "work"
    fota("provision", "device", device, *options, "--work", work)
    path = next(work.glob("*.json"))
    before = path.read_bytes()
    fota("sign", SAMPLE, "-o", tmp_path / "far.img", "--key", factory / "a.pem", "--version", "1.0.0",
         "--security-counter", 900, "--vendor-domain", "example.com", "--model", "demo")  # fmt: skip
    (tmp_path / "short.cbor").write_bytes(genesis_root(signers=1))
    words = list(hex_options)
    for option, value in (("--image", "far.img"), ("--root", "short.cbor")):
        words[words.index(option) + 1] = tmp_path / value
    said = one_line(fota("provision", "hex", path, *words, "-o", tmp_path / "d.hex", code=1)[1])
    for says in ("PO2 counter-step", "1 of 2 necessary signatures"):
        assert says in said
    assert path.read_bytes() == before
    assert not (tmp_path / "d.hex").exists()
    many = tmp_path / "many.crt"
    cas = [make_ca(f"Server CA {number}", 7300).certificate for number in range(5)]
    many.write_bytes(b"".join(ca.public_bytes(Encoding.PEM) for ca in cas))
    words = [*hex_options, "--server-ca", many, "-o", tmp_path / "d.hex"]
    said = one_line(fota("provision", "hex", path, *words, code=3)[1])
    assert "the 6 server CAs have" in said
    assert "has room for 2048" in said


@needs_firmware
def test_factory_hex_has_every_server_ca_that_was_named(device, options, hex_options, factory, tmp_path):
    work = tmp_path / "work"
    fota("provision", "device", device, *options, "--work", work)
    cas = [make_ca(f"Server CA {number}", 7300).certificate for number in range(3)]
    (tmp_path / "two.crt").write_bytes(b"".join(ca.public_bytes(Encoding.PEM) for ca in cas[:2]))
    (tmp_path / "one.crt").write_bytes(2 * cas[2].public_bytes(Encoding.PEM))
    words = "--server-ca", tmp_path / "two.crt", "--server-ca", tmp_path / "one.crt"
    fota("provision", "hex", next(work.glob("*.json")), *hex_options, *words, "-o", tmp_path / "d.hex")
    load = fota("provision", "load", device, tmp_path / "d.hex")
    with Machine.load(device) as machine:
        trust = unpack_trust_store(machine.flash.read_phys(1, 0x2000, 0x1800))
    own = load_certificate(factory / "ca.crt")
    assert trust.server_ca == b"".join(ca.public_bytes(Encoding.DER) for ca in (own, *cas)), load


@needs_firmware
def test_factory_hex_takes_class_and_vendor_from_the_image(device, options, hex_options, tmp_path):
    work = tmp_path / "work"
    fota("provision", "device", device, *options, "--work", work)
    words = [word for word in hex_options if word not in ("--class", CLASS_ID, "--vendor-id", VENDOR_ID)]
    record, made = next(work.glob("*.json")), tmp_path / "d.hex"
    other = "--vendor-domain", "example.org"
    refused = fota("provision", "hex", record, *words, *other, "-o", made, code=3)[1]
    assert "another vendor: " in one_line(refused)
    refused = fota("provision", "hex", record, *words, "--model", "other", "-o", made, code=3)[1]
    assert "is not model 'other' of vendor" in one_line(refused)
    fota("provision", "hex", record, *words, "--model", "demo", "-o", made)
    fota("provision", "load", device, made)
    store = unpack_trust_store(Machine.load(device).flash.read_phys(1, 0x2000, 0x1800))
    assert (store.class_id, store.vendor_id) == (CLASS_ID.bytes, VENDOR_ID.bytes)


def test_plan_of_published_or_equal_roots_is_refused(factory, tmp_path):
    fota("keys", "example", tmp_path / "k")
    published = "--image-key-a", tmp_path / "k/image-a.pub.pem", "--image-key-b", factory / "b.pub"
    plan = "provision", "plan", "-o", tmp_path / "plan.json"
    assert "published example key" in one_line(fota(*plan, *published, code=1)[1])
    same = "--image-key-a", factory / "b.pub", "--image-key-b", factory / "b.pub"
    assert "the same key" in one_line(fota(*plan, *same, code=3)[1])
    assert not (tmp_path / "plan.json").exists()
    fota(*plan, *published, "--allow-example-keys")


@needs_firmware
def test_factory_hex_with_recovery_boots_and_recovers_what_has_no_image(
    device, options, hex_options, tmp_path
):
    """The recovery build lies around the trust store: both have to come out of the HEX whole."""
    work, made = tmp_path / "work", tmp_path / "d.hex"
    fota("provision", "device", device, *options, "--work", work)
    words = list(hex_options)
    words[words.index("--bootloader") + 1] = RECOVERY
    said = fota("provision", "hex", next(work.glob("*.json")), *words, "--rehearse", "-o", made)
    assert "Rehearsed on a virtual device: slot A boots 1.0.0, and its agent starts." in said[0]
    fota("provision", "load", device, made)
    assert "slot A 1.0.0 confirmed" in fota("vdev", "run", device, "--until", "journal: ")[0]
    machine = Machine.load(device)
    store = unpack_trust_store(machine.flash.read_phys(1, 0x2000, 0x900))
    assert store.server_url == "https://updates.example:8443"
    machine.power_off()
    machine.flash.write_phys(1, 0x4000, bytes(2048))
    machine.power_on()
    said = len(machine.uart)
    machine.run(time_ms=5000, until=lambda m: b"fota-boot: recovery" in m.uart[said:])
    assert b"halt: PO3" in machine.uart[said:]
    assert b"fota-boot: recovery" in machine.uart[said:]
    machine.close()


@needs_firmware
def test_trust_store_that_recovery_leaves_no_room_for_is_refused(device, options, hex_options, tmp_path):
    work = tmp_path / "work"
    fota("provision", "device", device, *options, "--work", work)
    words = list(hex_options)
    words[words.index("--bootloader") + 1] = RECOVERY
    words[words.index("--root") + 1] = tmp_path / "long.cbor"
    (tmp_path / "long.cbor").write_bytes(genesis_root(revoked=tuple(bytes([n] * 32) for n in range(64))))
    said = one_line(
        fota("provision", "hex", next(work.glob("*.json")), *words, "-o", tmp_path / "d.hex", code=3)[1]
    )
    assert "with recovery in the bootloader, room is for 2304" in said
    assert not (tmp_path / "d.hex").exists()


def test_hex_of_other_addresses_is_not_loaded(device, tmp_path):
    (tmp_path / "x.hex").write_text(":020000040900F1\n:0400000001020304F2\n:00000001FF\n")
    assert "outside bank 1" in one_line(fota("provision", "load", device, tmp_path / "x.hex", code=3)[1])
    (tmp_path / "x.hex").write_text("hello")
    assert "Intel HEX" in one_line(fota("provision", "load", device, tmp_path / "x.hex", code=3)[1])


# -- keys that need a verified boot ------------------------------------------------------------------------


def test_latch_is_for_ever_and_a_rerun_has_to_say_the_same(device, options, factory, tmp_path):
    args = "provision", "device", device, *options, "--work", tmp_path / "work"
    fota(*args, "--latch", "--certificate-out", tmp_path / "d.crt")
    look = json.loads(fota("provision", "look", device, "--json")[0])
    assert (look["kind"], look["keys_need_latch"]) == ("ours", True)
    assert json.loads(fota(*args, "--latch", "--json")[0])["changed"] == []
    assert "configured with --latch" in one_line(fota(*args, code=1)[1])
    checked = subprocess.run(
        ["openssl", "verify", "-CAfile", factory / "ca.crt", tmp_path / "d.crt"],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stderr


def test_plan_with_latch_is_run_to_its_end(device, roots, options, tmp_path):
    fota("provision", "plan", *roots, "--latch", "-o", tmp_path / "plan.json")
    args = "provision", "run-plan", tmp_path / "plan.json", device, *options, "--work", tmp_path / "work"
    assert "provisioned by the plan" in fota(*args, "--latch")[0]


# -- what went over the bus --------------------------------------------------------------------------------


def test_captured_bus_of_provisioning_is_printed_and_holds_no_pairing_key(device, options, tmp_path):
    log, work = tmp_path / "bus.log", tmp_path / "work"
    fota("provision", "device", device, *options, "--work", work, "--bus-log", log)
    text = fota("vdev", "trace", log)[0]
    brief = fota("vdev", "trace", log, "--brief")[0]
    record = json.loads(next(work.glob("*.json")).read_text())
    for name in ("io_key", "mac_key"):
        assert record[name] not in text.replace(" ", "") + log.read_text().replace(" ", "")
    assert "> 03 07 17 81 00 00 3a 07" in text  # Lock of the data zone, byte for byte
    assert "-- done     lock-data" in brief
    assert "## ##" not in brief
    assert len(brief.splitlines()) < len(text.splitlines()) / 3


def test_only_a_virtual_bus_is_captured(options, tmp_path):
    args = "provision", "device", "--i2c", "1", *options, "--bus-log", tmp_path / "log"
    assert "only the bus of a virtual device" in fota(*args, code=2)[1]
    assert not (tmp_path / "log").exists()


def test_failed_provisioning_leaves_its_bus_log(device, options, tmp_path):
    log = tmp_path / "bus.log"

    fota("provision", "device", device, *options, "--work", tmp_path / "one")
    fota("provision", "device", device, *options, "--work", tmp_path / "two", "--bus-log", log, code=1)
    assert "Info revision" in fota("vdev", "trace", log)[0]
