"""`fota vdev trace`: what the bus log holds, what it hides, and how it reads."""

import json

import pytest
from chip_host import ChipHost
from click.testing import CliRunner
from emulated_factory import provision_element

from fota_vdev.atecc608.crc import crc16
from fota_vdev.cli import vdev
from fota_vdev.wires.bus_log import BusLog, load_log
from fota_vdev.wires.bus_secrets import Censor, hides_answer, hides_data
from fota_vdev.wires.trace import read_log
from fota_wire.errors import FormatError
from fota_wire.host_crypto import public_xy

IO_KEY, MAC_KEY = bytes(range(0x40, 0x60)), bytes(range(0x80, 0xA0))


def packet(opcode, p1, p2, data=b""):
    body = bytes([len(data) + 7, opcode, p1]) + p2.to_bytes(2, "little") + data
    return b"\x03" + body + crc16(body)


@pytest.fixture
def roots():
    from fota_signer.examples import example_key

    return {f"root_{x}_xy": public_xy(example_key(f"image-{x}")) for x in "ab"}


@pytest.fixture
def capture(machine, roots):
    """Provision the machine's chip with a log listening; return the log."""

    def run(**how):
        log = BusLog(lambda: machine.clock.ps, **how)
        machine.board.i2c_bus.listener = log
        provision_element(machine, io_key=IO_KEY, mac_key=MAC_KEY, **roots)
        return log

    return run


def test_pairing_keys_are_masked_before_they_reach_the_log_and_so_are_their_checksums(capture, tmp_path):
    capture().save(tmp_path / "log")
    raw = (tmp_path / "log").read_text().replace(" ", "")
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    for slot, key in ((4, MAC_KEY), (6, IO_KEY)):
        sent = packet(0x12, 0x82, slot << 3, key)
        assert key.hex() not in raw
        assert f'"{sent[:6].hex()}{"##" * 34}"' in raw  # the head is seen; data and CRC are not


def test_every_other_byte_is_as_it_was_on_the_bus(capture, tmp_path):
    masked = read_log(capture().messages)
    assert sum(None in entry.sent for entry in masked) == 2
    assert not any(None in entry.got for entry in masked)
    for entry in masked:
        known = [byte for byte in entry.sent if byte is not None]
        if entry.is_command and len(known) == len(entry.sent):
            assert crc16(bytes(known[1:-2])) == bytes(known[-2:])


def test_secrets_are_shown_only_if_asked_for_twice(capture, tmp_path):
    capture(secrets=True).save(tmp_path / "log")
    run = CliRunner().invoke
    plain = run(vdev, ["trace", str(tmp_path / "log")])
    asked = run(vdev, ["trace", str(tmp_path / "log"), "--show-secrets"])
    key = " ".join(f"{byte:02x}" for byte in IO_KEY[:20])
    assert (plain.exit_code, asked.exit_code) == (0, 0)
    assert key not in plain.output
    assert key in asked.output
    assert "holds secrets in clear" in asked.output
    capture_of_masked = load_log(tmp_path / "log")[0]
    assert sum(None in message.data for message in capture_of_masked) == 2


def test_log_reads_as_commands_with_slots_results_and_times(capture, tmp_path):
    capture().save(tmp_path / "log")
    result = CliRunner().invoke(vdev, ["trace", str(tmp_path / "log"), "--json"])
    told = json.loads(result.output)
    said = [f"{e['name']} {e['words']} -> {e['result']}" for e in told["entries"]]
    assert "GenKey new private key in slot 0 (identity key) -> public key, 64 bytes" in said
    assert "Write slot 6 (IO key), 32 bytes at 0 -> ok" in said
    assert "Lock data and OTP -> ok" in said
    assert told["secrets"] == "masked"
    made = next(e for e in told["entries"] if e["name"] == "GenKey")
    assert 69_000 <= made["took_us"] <= 71_000  # 60 % of 115 ms (fota vdev limits)
    assert made["polls"] > 10


def test_a_refused_command_and_a_silent_chip_are_told(machine):
    log = BusLog(lambda: machine.clock.ps)
    machine.board.i2c_bus.listener = log
    host = ChipHost(machine.i2c, machine.sleep_us)
    host.wake()
    assert len(host.exchange(0x41, 0xA0, 0)) == 1  # Sign on a blank chip
    machine.element.power_off()
    with pytest.raises(Exception, match="message"):
        host.exchange(0x30, 0, 0)
    entries = read_log(log.messages)
    assert entries[1].result == "refused by configuration or state"
    assert (entries[-1].name, entries[-1].words) == ("nobody", "at 0x60")


def test_packet_in_pieces_and_answer_in_pieces_hide_the_same_bytes():
    whole = packet(0x12, 0x82, 6 << 3, IO_KEY)
    for cut in range(2, len(whole)):
        censor = Censor()
        shown = censor.write(whole[:cut]) + censor.write(b"\x03" + whole[cut:])[1:]
        assert shown == tuple(whole[:6]) + (None,) * 34, cut
    censor = Censor()
    censor.write(packet(0x43, 0x08, 2, bytes(64)))  # ECDH, output in clear
    assert censor.read(b"\x23") == (0x23,)
    assert censor.read(bytes(34)) == (None,) * 34
    censor.write(packet(0x43, 0x08, 2, bytes(64)))
    assert censor.read(b"\x04\x0f\x23\x42") == (4, 0x0F, 0x23, 0x42)  # a refusal is no secret


@pytest.mark.parametrize(
    ("opcode", "p1", "p2", "data", "answer"),
    [
        pytest.param(0x12, 0x82, 8 << 3, True, False, id="write-slot-8"),
        pytest.param(0x12, 0x82, 15 << 3, False, False, id="write-root"),
        pytest.param(0x12, 0xC2, 6 << 3, False, False, id="write-encrypted"),
        pytest.param(0x12, 0x80, 1 << 3, False, False, id="write-configuration"),
        pytest.param(0x02, 0x82, 6 << 3, False, True, id="read-slot-6"),
        pytest.param(0x02, 0x82, 15 << 3, False, False, id="read-root"),
        pytest.param(0x16, 0x03, 0, True, False, id="nonce-to-tempkey"),
        pytest.param(0x16, 0x63, 0, False, False, id="nonce-to-digest-buffer"),
        pytest.param(0x16, 0x00, 0x8000, False, True, id="nonce-tells-tempkey"),
        pytest.param(0x56, 0, 0, True, True, id="kdf"),
        pytest.param(0x51, 0, 0, True, True, id="aes"),
        pytest.param(0x46, 0, 0, True, True, id="privwrite"),
        pytest.param(0x99, 0, 0, True, True, id="not-known-is-secret"),
    ],
)
def test_what_is_secret(opcode, p1, p2, data, answer):
    assert (hides_data(opcode, p1, p2), hides_answer(opcode, p1, p2)) == (data, answer)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "no", '{"log": "fota bus log", "format": 2}', "[]"]
    + [
        '{"log": "fota bus log", "format": 1}\n' + line
        for line in ("x", "[]", "{}", '{"kind": "beep", "at_us": 1}', '{"kind": "read", "at_us": "soon"}',
                     '{"kind": "read", "at_us": 1, "data": "0g"}', '{"kind": "read", "at_us": 1, "data": 7}')
    ],
)  # fmt: skip
def test_file_that_is_no_log_is_refused_with_one_line(text, tmp_path):
    (tmp_path / "log").write_text(text)
    with pytest.raises(FormatError, match=r"bus log|kind of message"):
        load_log(tmp_path / "log")


@pytest.mark.parametrize("line", ['{"kind": "write", "at_us": 1}', '{"kind": "read", "at_us": 1}'])
def test_log_with_an_empty_message_is_read(line, tmp_path):
    (tmp_path / "log").write_text('{"log": "fota bus log", "format": 1}\n' + line)
    assert CliRunner().invoke(vdev, ["trace", str(tmp_path / "log")]).exit_code == 0
