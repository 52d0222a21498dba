"""``fota sign-list``: the images of ``fota sign``, all of them or none, by a key that is opened once."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from elf_world import CODE, START, Elf

WORDS = "--version 1.{n}.0 --security-counter {n} --vendor-domain example.com --model m{n}"


@pytest.fixture
def firmware_of(tmp_path):
    def make(number):
        path = tmp_path / f"app {number}.elf"
        path.write_bytes(Elf(segments=[(START, CODE + bytes([number]) * 8)]).build())
        return path

    return make


@pytest.fixture
def listed(tmp_path, firmware_of):
    """A list of three images."""
    lines = [f"'{firmware_of(n)}' -o out-{n}.img {WORDS.format(n=n)}" for n in (1, 2, 3)]
    lines.insert(1, "# a comment\n")
    (tmp_path / "images.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "images.txt"


@pytest.fixture
def by(key_dir):
    return ("--key", key_dir / "image-a.pem")


def made(tmp_path):
    return sorted(path.name for path in tmp_path.glob("out-*"))


def test_each_is_what_sign_makes_of_it(fota, listed, by, firmware_of, tmp_path):
    done = fota("sign-list", listed, *by, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)["images"]
    assert [one["output"] for one in said] == ["out-1.img", "out-2.img", "out-3.img"]
    for n in (1, 2, 3):
        alone = fota("sign", firmware_of(n), "-o", "alone.img", "--force", *by, *WORDS.format(n=n).split())
        assert alone.returncode == 0
        assert (tmp_path / f"out-{n}.img").read_bytes() == (tmp_path / "alone.img").read_bytes()
    assert fota("sign-list", listed, *by).returncode == 3, "they are there"
    told = fota("sign-list", listed, *by, "--force")
    assert (told.returncode, told.stdout.count("out-")) == (0, 3)


LIES = {
    "no-such-firmware": ("none.elf -o out-4.img " + WORDS, 3, "No such file"),
    "no-version": ("images.txt -o out-4.img --security-counter 1", 3, "line 6: not FIRMWARE -o FILE"),
    "a-key": ("images.txt -o out-4.img --key k.pem " + WORDS, 3, "said once, for all"),
    "force": ("images.txt -o out-4.img --force " + WORDS, 3, "said once, for all"),
    "a-password": ("images.txt -o out-4.img --password-file p " + WORDS, 3, "said once, for all"),
    "twice-one-output": ("images.txt -o out-2.img " + WORDS, 3, "output of"),
    "an-open-quote": ("'images.txt -o out-4.img " + WORDS, 3, "quotes do not close"),
    "no-firmware": ("images.txt -o out-4.img " + WORDS, 3, "line 6"),
    "a-class-of-nobody": ("'app 1.elf' -o out-4.img --version 1.0.0 --security-counter 1", 2, "line 6"),
    "a-version-of-nobody": ("'app 1.elf' -o out-4.img " + WORDS.replace("1.{n}.0", "x"), 3, "line 6"),
    "no-folder": ("'app 1.elf' -o none/out-4.img " + WORDS, 3, "no such folder"),
    "not-utf-8": ("\udcff", 3, ""),
}


@pytest.mark.parametrize("lie", LIES)
def test_line_that_cannot_be_done_is_named_and_nothing_is_signed(fota, listed, by, tmp_path, lie):
    line, code, word = LIES[lie]
    with listed.open("ab") as file:
        file.write(line.replace("{n}", "4").encode("utf-8", "surrogateescape") + b"\n")
    done = fota("sign-list", listed, *by)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), done.stderr
    assert word in done.stderr
    assert made(tmp_path) == []


@pytest.mark.parametrize(("count", "code"), [(0, 3), (1001, 3)])
def test_list_has_one_image_to_a_thousand(fota, by, firmware_of, tmp_path, count, code):
    lines = [f"'{firmware_of(1)}' -o out-{n}.img {WORDS.format(n=1)}\n" for n in range(count)]
    (tmp_path / "images.txt").write_text("".join(lines) + "\n")
    done = fota("sign-list", "images.txt", *by)
    assert (done.returncode, f"{count} images, not 1 to 1000" in done.stderr) == (code, True), done.stderr
    assert made(tmp_path) == []


def test_two_steps_are_for_one_image(fota, listed, key_dir, tmp_path):
    two = fota("sign-list", listed, "--key", key_dir / "image-a.pub.pem", "--prepare", "digest")
    assert (two.returncode, "for one image" in two.stderr) == (2, True)
    assert made(tmp_path) == []
