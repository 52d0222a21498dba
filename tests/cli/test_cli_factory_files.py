"""`fota ca` and `fota provision` write no file over another kind of file, and leave no half of a pair."""

import json

import pytest
from cli_factory import fota, one_line


def is_blank(device):
    return json.loads(fota("provision", "look", device, "--json")[0])["kind"] == "blank"


def test_ca_whose_key_and_certificate_are_one_file_is_refused(tmp_path):
    args = "ca", "new", "--name", "x", "-o", tmp_path / "x.pem", "--cert", f"{tmp_path}/./x.pem"
    assert "two files" in one_line(fota(*args, code=3)[1])
    assert not list(tmp_path.iterdir())


def test_ca_whose_certificate_cannot_be_written_leaves_no_key_behind(tmp_path):
    args = "ca", "new", "--name", "x", "-o", tmp_path / "x.pem", "--cert"
    assert "none: no such folder" in one_line(fota(*args, tmp_path / "none/x.crt", code=3)[1])
    assert not list(tmp_path.iterdir())
    fota(*args, tmp_path / "x.crt")


@pytest.mark.parametrize("option", ["--certificate-out", "--request-out"])
def test_output_of_a_device_replaces_its_own_kind_alone(device, options, factory, tmp_path, option):
    args = "provision", "device", device, *options, "--work", tmp_path / "work", option
    before = (factory / "ca.pem").read_bytes()
    assert "ca.pem" in one_line(fota(*args, factory / "ca.pem", code=3)[1])
    assert (factory / "ca.pem").read_bytes() == before
    assert is_blank(device)
    for _ in range(2):  # a run that is repeated names the same file
        fota(*args, tmp_path / "out")


def test_csv_of_a_batch_replaces_no_ledger(options, tmp_path):
    ledger, table = tmp_path / "l.sqlite", tmp_path / "l.csv"
    args = "provision", "batch", "--ledger", ledger, *options, "--csv"
    for _ in range(2):
        fota(*args, table, "--count", 1)
    assert "l.sqlite" in one_line(fota(*args, ledger, "--count", 1, code=3)[1])
    assert fota("provision", "export", ledger)[0].count("-----BEGIN") == 2


def test_ledger_with_other_columns_is_refused_before_a_chip_is_touched(device, options, tmp_path):
    import sqlite3

    path = tmp_path / "l.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE device (serial TEXT, result TEXT, name TEXT)")
    other.close()
    args = "provision", "device", device, *options, "--ledger", path, "--work", tmp_path / "work"
    assert "ledger" in one_line(fota(*args, code=5)[1])
    assert is_blank(device)


def test_factory_hex_over_the_record_that_it_is_made_of_is_refused(tmp_path):
    record = tmp_path / "r.json"
    record.write_text("{}")
    given = [f"--{name}={tmp_path / name}" for name in ("bootloader", "image", "root-a", "root-b")]
    given += [f"--{name}={tmp_path / name}" for name in ("genesis-root", "server-ca")]
    given += ["--server-url=https://updates.example.com"]
    given += [f"--{name}={'1' * 32}" for name in ("class-id", "vendor-id")]
    said = fota("provision", "hex", record, *given, "-o", record, "--force", code=3)[1]
    assert "is the record itself" in one_line(said)
    assert record.read_text() == "{}"
