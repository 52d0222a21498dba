"""S-records are taken whole, or refused by their line; GNU objcopy, which writes them, is the judge."""

import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from intelhex import IntelHex

from fota_signer import s_record
from fota_signer.firmware import load_firmware
from fota_wire.errors import InputError

sys.path.insert(0, str(Path(__file__).parent))

from elf_world import CODE, START

OBJCOPY = shutil.which("objcopy")


def record(kind, address, content=b""):
    size = {0: 2, 1: 2, 2: 3, 3: 4, 5: 2, 6: 3, 7: 4, 8: 3, 9: 2}[kind]
    raw = bytes([size + len(content) + 1]) + address.to_bytes(size, "big") + content
    return f"S{kind}{raw.hex().upper()}{~sum(raw) & 0xFF:02X}\n".encode()


HEAD, END = record(0, 0, b"app"), record(7, START)
LINES = [HEAD, record(3, START, CODE[:16]), record(3, START + 16, CODE[16:]), record(5, 2), END]


def test_records_of_any_line_ends_case_and_a_byte_order_mark_are_taken_whole():
    for end in (b"\n", b"\r\n", b"\r", b" \n", b"\n\n"):
        for before in (b"", b"\xef\xbb\xbf", b"\n "):
            data = before + b"".join(LINES).replace(b"\n", end)
            assert load_firmware(data, "app") == load_firmware(data.lower(), "app") == CODE


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([*LINES, record(3, START + 32, b"more"), END], "line 6: behind the end record of line 5"),
        ([*LINES, b"garbage\n"], "line 6: behind the end record of line 5"),
        (LINES[:-1], "truncated S-record file: no end record up to line 4"),
        ([*LINES[:2], record(5, 2), END], "line 3: 2 records of content, says this one, and 1 are there"),
        ([*LINES[:3], record(6, 3), END], "line 4: 3 records of content, says this one, and 2 are there"),
        ([*LINES[:3], record(3, START + 15, b"x"), END], "line 4: records overlap at 0x0800420f"),
        ([HEAD, LINES[1][:-2] + b"0\n", END], "line 2: damaged S-record file: wrong checksum"),
        ([HEAD, LINES[1][:-3] + b"\n", END], "line 2: damaged S-record file: 20 bytes, not 21"),
        ([HEAD, LINES[1][:-2] + b"\n", END], "line 2: damaged S-record file: not a record"),
        ([HEAD, b"; comment\n", END], "line 2: damaged S-record file: not a record"),
        ([HEAD, b"S1 3\n", END], "line 2: damaged S-record file: not a record"),
        ([HEAD, b"S403000000FC\n", END], "line 2: damaged S-record file: no record S4 has 5 bytes"),
        ([HEAD, b"S304080042B1\n", END], "line 2: damaged S-record file: no record S3 has 5 bytes"),
        ([HEAD, b"S70608004200AA05\n"], "line 2: damaged S-record file: no record S7 has 7 bytes"),
        ([HEAD, record(3, 0xFFFFFFFF, b"xy"), END], "line 2: a record across the end of memory"),
        ([HEAD, END], "nothing to load"),
    ],
)
def test_records_that_cannot_be_taken_whole_are_refused_by_line(lines, says):
    with pytest.raises(InputError) as caught:
        load_firmware(b"".join(lines), "app")
    assert says in str(caught.value)


@given(st.dictionaries(st.integers(0, 0xFFFFFF), st.binary(min_size=1, max_size=40), max_size=5), st.data())
def test_what_was_written_in_any_order_is_read_by_address(parts, data):
    writer = IntelHex()
    for address, content in parts.items():
        writer.puts(address, content)
    runs = [(start, writer.gets(start, end - start)) for start, end in writer.segments()]
    kinds = data.draw(st.sampled_from(((2, 8), (3, 7), (3, 9))))
    lines = [record(kinds[0], address, content) for address, content in data.draw(st.permutations(runs))]
    found = s_record.read(b"".join([*lines, record(kinds[1], 0)]), "app")
    assert [(chunk.address, chunk.content) for chunk in found] == runs


@given(st.binary(max_size=60), st.integers(0, 59))
def test_a_changed_byte_is_refused_or_the_same(noise, at):
    data = bytearray(b"".join(LINES))
    data[at : at + len(noise)] = noise
    try:
        payload = load_firmware(bytes(data), "app")
    except InputError:
        return
    assert payload == CODE or not s_record.looks_like_s_records(bytes(data))


@pytest.mark.skipif(OBJCOPY is None, reason="objcopy is not installed")
@pytest.mark.parametrize("words", [(), ("--srec-forceS3",), ("--srec-len=5",)])
@pytest.mark.parametrize("address", [0x4200, 0x124200, START])
def test_what_objcopy_writes_is_what_it_was_given(tmp_path, address, words):
    given_hex, text = IntelHex(), io.StringIO()
    for at, content in ((address, CODE), (address + 0x100, bytes(range(256)) * 3)):
        given_hex.puts(at, content)
    given_hex.write_hex_file(text)
    (tmp_path / "app.hex").write_text(text.getvalue())
    command = [OBJCOPY, "-I", "ihex", "-O", "srec", *words, tmp_path / "app.hex", tmp_path / "app.srec"]
    subprocess.run(command, check=True)
    found = s_record.read((tmp_path / "app.srec").read_bytes(), "app")
    assert [(chunk.address, chunk.end) for chunk in found] == given_hex.segments()
    assert all(chunk.content == given_hex.gets(chunk.address, len(chunk.content)) for chunk in found)
