"""``fota strip``: what is taken out of a signed image is what was put in, byte for byte, or nothing is."""

import json
import struct
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from imgtool.main import imgtool

from fota_signer import strip
from fota_wire.errors import FotaError

sys.path.insert(0, str(Path(__file__).parent))

from elf_world import CODE, START, Elf

WORDS = ("--version", "1.1.0", "--security-counter", "3", "--vendor-domain", "example.com", "--model", "demo")
BODY = CODE + bytes(range(256)) * 4


@pytest.fixture
def signed(fota, key_dir, tmp_path):
    (tmp_path / "app.elf").write_bytes(Elf(segments=[(START, BODY)]).build())
    done = fota("sign", "app.elf", "-o", "app.img", "--key", key_dir / "image-a.pem", *WORDS)
    assert done.returncode == 0, done.stderr
    return tmp_path / "app.img"


def test_image_is_signed_anew_by_another_key_as_its_elf_would_be(fota, key_dir, signed, tmp_path):
    done = fota("strip", signed, "-o", "app.bin", "--json")
    said = json.loads(done.stdout)
    assert (tmp_path / "app.bin").read_bytes() == BODY
    assert (said["version"], said["security_counter"], said["linked_for"]) == ("1.1.0", 3, "0x08004200")
    by_b = "--key", key_dir / "image-b.pem", *WORDS
    assert (
        fota("sign", "app.bin", "-o", "anew.img", "--linked-for", said["linked_for"], *by_b).returncode == 0
    )
    assert fota("sign", "app.elf", "-o", "elf.img", *by_b).returncode == 0
    assert (tmp_path / "anew.img").read_bytes() == (tmp_path / "elf.img").read_bytes()


def test_sign_of_a_signed_image_says_what_to_do(fota, key_dir, signed):
    done = fota("sign", signed, "-o", "out.img", "--key", key_dir / "image-a.pem", *WORDS)
    assert (done.returncode, "fota strip" in done.stderr) == (3, True), done.stderr


def test_image_that_is_not_whole_gives_nothing(signed):
    whole = signed.read_bytes()
    assert strip.strip(whole)[0] == BODY
    for end in range(len(whole) - 80):
        with pytest.raises(FotaError):
            strip.strip(whole[:end])
    for at in range(0, 0x200 + len(BODY), 7):
        with pytest.raises(FotaError):
            strip.strip(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])


@given(st.binary(max_size=300), st.integers(0, 40), st.integers(0, 300))
def test_any_bytes_behind_a_magic_are_an_image_or_refused(noise, header, size):
    fields = struct.pack("<IIHHIIBBHII", 0x96F3B83D, 0, header, 0, size, 0, 1, 0, 0, 0, 0)
    for data in (noise, b"\x3d\xb8\xf3\x96" + noise, fields + noise):
        with suppress(FotaError):  # and nothing else
            strip.strip(data)


@pytest.mark.parametrize(("content", "word"), [(b"", "not an MCUboot"), (b"\xe9" + bytes(40), "ESP32"),
                                               (b"\x3d\xb8\xf3\x96" + bytes(9), "truncated"),
                                               (b"\x3d\xb8\xf3\x96" + bytes(40), "no hash")])  # fmt: skip
def test_what_is_no_image_is_one_line_and_no_file(fota, tmp_path, content, word):
    (tmp_path / "other").write_bytes(content)
    done = fota("strip", "other", "-o", "out.bin")
    assert (done.returncode in (1, 3), done.stdout, done.stderr.count("\n")) == (True, "", 1)
    assert word in done.stderr
    assert not (tmp_path / "out.bin").exists()


def test_output_that_is_there_or_the_input_stays(fota, signed, tmp_path):
    before = signed.read_bytes()
    (tmp_path / "out.bin").write_text("kept")
    assert fota("strip", signed, "-o", "out.bin").returncode == 3
    assert fota("strip", signed, "-o", signed, "--force").returncode == 3
    assert ((tmp_path / "out.bin").read_text(), signed.read_bytes()) == ("kept", before)


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imgtool")
    (folder / "app.bin").write_bytes(struct.pack("<II", 0x20010000, 0x08000101) + bytes(range(256)) * 9)

    def call(*words):
        done = CliRunner().invoke(imgtool, [str(word) for word in words])
        assert done.exit_code == 0, done.output

    def make(kind, *more):
        key, out = folder / f"{kind}.pem", folder / "out.img"
        if not key.exists():
            call("keygen", "-k", key, "-t", kind)
        if "--encrypt" in more:
            call("getpub", "-k", key, "-e", "pem", "-o", folder / "public.pem")
            more = (*more, folder / "public.pem")
        words = ("--version", "1.2.3+4", "--slot-size", "0x20000", "--align", "8", "--pad-header")
        call("sign", "--key", key, *words, *more, folder / "app.bin", out)
        return out.read_bytes(), (folder / "app.bin").read_bytes()

    return make


@pytest.mark.parametrize("kind", ["ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-2048"])
@pytest.mark.parametrize("more", [(), ("--security-counter", "5"), ("--pad",), ("--rom-fixed", "0x08020000"),
                                  ("--custom-tlv", "0x00a0", "x")], ids=" ".join)  # fmt: skip
@pytest.mark.parametrize("header", ["0x200", "0x20", "0x400"])
def test_image_of_imgtool_gives_back_what_imgtool_was_given(judge, kind, more, header):
    data, put_in = judge(kind, "--header-size", header, *more)
    payload, said = strip.strip(data)
    assert payload == put_in
    assert said["linked_for"] == (f"0x{0x08020000 + int(header, 0):08x}" if "--rom-fixed" in more else None)


@pytest.mark.parametrize("more", [("--encrypt",), ("--compression", "lzma2")])
def test_payload_that_was_changed_is_not_given(judge, more):
    data, _ = judge("ecdsa-p256", "--header-size", "0x200", *more)
    with pytest.raises(FotaError, match="encrypted or compressed"):
        strip.strip(data)
