"""`fota rehearse`: what is wrong makes the play red that shows it, and nothing is attested then."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from bootloader_make import ROOT, make
from lifeline import HANG_S, until

from fota_wire import host_statement

pytestmark = pytest.mark.slow

ELF = ROOT / "build/bootloader/stm32l4/bootloader.elf"
WHOM = ("--vendor-domain", "example.com", "--model", "board")
PASSWORD = {"FOTA_KEY_PASSWORD": "correct-horse", "FOTA_ALLOW_EXAMPLE_KEYS": "1"}
SEQUENCE = iter(range(1, 100))
# what is changed in the bootloader, and the play that has to show it
BUILT_WRONG = {
    "no-floor": ("core/boot.c", "  const uint32_t floor = floor_of(b);\n  if (sec_cnt < floor)",
                 "  const uint32_t floor = 0;\n  if (sec_cnt < floor)", "below the floor", "0"),
    "endless-tries": ("core/policy.c", "step->record.tries = (uint8_t)(tries - 1);",
                      "step->record.tries = tries;", "trial hangs", "0"),
    "one-try": ("core/policy.c", "staged ? view->tries : r->tries", "staged ? 1 : r->tries",
                "power cuts", "30"),
}  # fmt: skip


class Desk:
    """A folder with keys, a ROOT, and releases of the sample application."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fota("keys", "example", "keys")
        three = [w for n in "123" for w in ("--root-key", f"keys/root-{n}.pub.pem",
                                            "--release-key", f"keys/release-{n}.pub.pem")]  # fmt: skip
        self.fota("root", "new", "-o", "root.cbor", "--assign-key", "keys/assign.pub.pem", *three,
                  "--sign", "keys/root-1.pem", "--sign", "keys/root-2.pem")  # fmt: skip
        self.fota("keys", "new", "evidence/ci", "-o", "evidence.pem")
        self.fota("keys", "new", "image/line", "-o", "line.pem")

    def run(self, *words: object, **more: Any) -> CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FOTA")}
        return subprocess.run(
            [sys.executable, "-m", "fota_cli", *map(str, words)], cwd=self.folder, env={**clean, **PASSWORD},
            capture_output=True, text=True, check=False, timeout=HANG_S, **more,
        )  # fmt: skip

    def fota(self, *words: object) -> CompletedProcess[str]:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done

    def release(self, name: str, elf: Path, version: str, counter: int = 1, *more: str) -> str:
        self.fota("sign", elf, "-o", f"{name}.img", "--key", "keys/image-a.pem", "--version", version,
                  "--security-counter", counter, *WHOM, *more)  # fmt: skip
        self.fota("manifest", "new", f"{name}.img", "-o", f"{name}.0", "--sequence", next(SEQUENCE), *WHOM)
        self.fota("manifest", "sign", f"{name}.0", "--key", "keys/release-1.pem", "-o", f"{name}.1")
        self.fota("manifest", "sign", f"{name}.1", "--key", "keys/release-2.pem", "-o", f"{name}.suit")
        self.fota("agent", "card", f"{name}.img", f"{name}.suit", "-o", name)
        return name

    def line(self, release: str, *more: object, bootloader: Path = ELF) -> list[str]:
        return ["rehearse", release, "--from", "old", "--bootloader", str(bootloader), "--root", "root.cbor",
                "--image-key-a", "keys/image-a.pub.pem", "--image-key-b", "keys/image-b.pub.pem",
                *map(str, more)]  # fmt: skip

    def rehearse(self, release: str, *more: object, bootloader: Path = ELF) -> tuple[int, dict[str, Any]]:
        """The exit code, and the rows that went wrong {play: detail}."""
        done = self.run(*self.line(release, *more, bootloader=bootloader), "--json")
        assert "Traceback" not in done.stderr
        rows = json.loads(done.stdout)["rows"]
        assert [row["what"] for row in rows][:2] == ["update", "back"]
        return done.returncode, {row["what"]: row["detail"] for row in rows if not row["good"]}


def sample(version: str, *, fail: bool = False) -> Path:
    make("sample", f"VERSION={version}", f"SELF_TEST={'fail' if fail else 'pass'}")
    return ROOT / f"build/sample/app-{version}{'-fail' if fail else ''}.elf"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    make("bootloader")
    made = Desk(tmp_path_factory.mktemp("desk"))
    made.release("old", sample("1.0.0"), "1.0.0")
    made.release("new", sample("1.1.0"), "1.1.0")
    return made


def test_release_that_is_good_is_attested_and_twice_by_the_same_bytes(desk: Desk) -> None:
    line = desk.line("new", "--cuts", "4", "--key", "evidence.pem", "--jobs", "1")
    for name in ("a.json", "b.json"):
        desk.fota(*line, "-o", name)
    raw = (desk.folder / "a.json").read_bytes()
    assert raw == (desk.folder / "b.json").read_bytes()
    said = host_statement.read(raw, "it", {})
    assert (said.predicate["result"], list(said.subjects.values())) == ("passed", ["image", "manifest"])
    counted = {play["play"]: (play["played"], play["failed"]) for play in said.predicate["plays"]}
    assert counted.pop("power cuts") == (4, 0)
    assert len(counted) == 7
    assert set(counted.values()) == {(1, 0)}


def test_failing_self_test_makes_the_update_red_and_leaves_no_attestation(desk: Desk) -> None:
    bad = desk.release("bad", sample("1.2.0", fail=True), "1.2.0")
    code, wrong = desk.rehearse(bad, "--key", "evidence.pem", "-o", "none.json")
    assert code == 1
    assert wrong["update"] == (
        "the update ended so: reverted: AP1 self-test: the application's self-test failed"
    )
    assert wrong["power cuts"] == "not played: the update fails without them"
    assert not (desk.folder / "none.json").exists()


def test_floor_that_blocks_the_way_back_is_red_unless_it_is_meant(desk: Desk) -> None:
    high = desk.release("high", sample("1.3.0"), "1.3.0", 2)
    said = "no way back: the floor is 2 now, and its security counter 1 (if that is meant: --no-way-back)"
    assert desk.rehearse(high, "--cuts", "0") == (1, {"back": said})
    assert desk.rehearse(high, "--cuts", "0", "--no-way-back") == (0, {})
    code, wrong = desk.rehearse("new", "--cuts", "0", "--no-way-back")
    assert (code, list(wrong)) == (1, ["back"])


@pytest.mark.parametrize("name", BUILT_WRONG)
def test_bootloader_that_was_built_wrong_is_found_by_its_play(name: str, desk: Desk) -> None:
    file, old, new, play, cuts = BUILT_WRONG[name]
    copy = desk.folder / name / "bootloader"
    shutil.copytree(ROOT / "bootloader", copy)
    text = (copy / file).read_text()
    assert text.count(old) == 1
    (copy / file).write_text(text.replace(old, new))
    build = desk.folder / name / "build"
    made = subprocess.run(
        ["make", "-C", copy, f"BUILD={build}", "PORT=stm32l4", f"PYTHON={sys.executable}", "bootloader"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    code, wrong = desk.rehearse("new", "--cuts", cuts, bootloader=build / "bootloader/stm32l4/bootloader.elf")
    assert (code, list(wrong)) == (1, [play]), wrong


# --- peripherals without a model ---

ADC = """
#define STATUS (*(volatile uint32_t *)0x%08x)
#define DATA (*(volatile uint32_t *)0x%08x)
__attribute__((noinline)) static uint32_t adc_read(void) {
  while ((STATUS & 4) == 0) continue;
  return DATA;
}
static bool self_test(void) {
  return adc_read() == 1234;
"""
TOML = """format = 1
[[peripheral]]
name = "stand-in"
address = 0x%08x
registers = {0x00 = 4, 0x40 = 1234}
"""


def application(desk: Desk, name: str, address: int) -> Path:
    """The application of docs/application.md, whose self-test reads a peripheral."""
    page = (ROOT / "docs/application.md").read_text()
    folder = desk.folder / f"{name}-src"
    folder.mkdir()
    for file in ("app.c", "app.ld", "Makefile"):
        text = re.search(rf"cat > {file} <<'END'\n(.*?)\nEND\n", page, re.DOTALL)
        assert text is not None
        wanted = ADC % (address, address + 0x40)
        (folder / file).write_text(
            text[1].replace("static bool self_test(void) {\n  return true; /* yours */", wanted)
        )
    subprocess.run(["make", f"FOTA={ROOT}", "app.elf"], cwd=folder, check=True, capture_output=True)
    return folder / "app.elf"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        pytest.param(0x40013000, "read of 0x40013000: no peripheral is modelled there", id="in-the-map"),
        pytest.param(0x50040000, "read of 0x50040000, where nothing is modelled", id="outside"),
    ],
)
def test_missing_peripheral_is_named_and_a_stand_in_takes_its_place(
    address: int, said: str, desk: Desk
) -> None:
    name = f"adc-{address:x}"
    elf = application(desk, name, address)
    desk.release(name, elf, "2.0.0")
    code, wrong = desk.rehearse(name, "--cuts", "0", "--symbols", elf)
    register = {0x40013000: "SPI1.CR1", 0x50040000: "ADC1.ISR"}[address]
    assert code == 1
    assert said in wrong["update"]
    assert f"{register}, in adc_read() of app.elf; a stand-in may answer: --stand-in" in wrong["update"]
    (desk.folder / "adc.toml").write_text(TOML % address)
    assert desk.rehearse(name, "--cuts", "2", "--stand-in", "adc.toml") == (0, {})
    (desk.folder / "adc.toml").write_text((TOML % address).replace("1234", "1235"))
    code, wrong = desk.rehearse(name, "--cuts", "0", "--stand-in", "adc.toml")
    assert wrong["update"].startswith("the update ended so: reverted: AP1")


# --- what is not what it has to be ---


def spoiled(desk: Desk, name: str, change: Callable[[Path], object]) -> str:
    shutil.copytree(desk.folder / "new", desk.folder / name, dirs_exist_ok=True)
    change(desk.folder / name)
    return name


def flipped(folder: Path) -> None:
    (file,) = (folder / "payload").iterdir()
    raw = bytearray(file.read_bytes())
    raw[600] ^= 1
    file.write_bytes(raw)


def test_any_wrong_input_is_one_line_its_code_and_no_attestation(desk: Desk) -> None:
    place = desk.folder
    (place / "noise").write_bytes(bytes(range(256)) * 8)
    (place / "ends.py").write_text("import sys\nsys.exit(0)\n")
    (place / "wrong.py").write_text("PERIPHERALS = [1]\n")
    (place / "wrong.toml").write_text("format = 1\n[[peripheral]]\nname = 'x'\naddress = 1\n")
    (place / "deep.toml").write_text("a = " + "[" * 9000)
    old = ("--image-key-a", "keys/image-a.pub.pem", "--image-key-b", "keys/image-b.pub.pem")
    cases: list[tuple[int, list[object]]] = [
        (3, desk.line("new", bootloader=place / "noise")),
        (3, desk.line("new", bootloader=place / "none")),
        (3, desk.line("noise")),
        (2, desk.line("new.img")),
        (3, desk.line("new.img", "--manifest", "noise")),
        (1, desk.line("new.img", "--manifest", "old.suit")),
        (3, desk.line(spoiled(desk, "empty", lambda f: shutil.rmtree(f / "payload")))),
        (1, desk.line(spoiled(desk, "flipped", flipped))),
        (3, desk.line("old")),
        (3, desk.line("new", "--from", "noise")),
        (3, ["rehearse", "new", "--hex", "noise", *old]),
        (2, ["rehearse", "new", "--hex", "noise", "--root", "root.cbor", *old]),
        (2, ["rehearse", "new", "--from", "old", *old]),
        (3, desk.line("new", "--cuts", "many")),
        (3, desk.line("new", "--seed", "-1")),
        (3, desk.line("new", "--jobs", "0")),
        (2, desk.line("new", "-o", "none.json")),
        (3, desk.line("new", "-o", "none.json", "--key", "line.pem")),
        (3, desk.line("new", "-o", "new.img", "--key", "evidence.pem")),
        *((3, desk.line("new", "--stand-in", name)) for name in
          ("noise", "ends.py", "wrong.py", "wrong.toml", "deep.toml", "nowhere.toml")),
    ]  # fmt: skip
    for code, words in cases:
        done = desk.run(*words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), (words, done)
        assert done.stderr.startswith("fota: error: ")
    assert not (place / "none.json").exists()


def test_manifest_that_lacks_a_signature_is_refused_by_the_agent(desk: Desk) -> None:
    short = spoiled(desk, "short", lambda f: shutil.copy(desk.folder / "new.1", f / "manifest.suit"))
    code, wrong = desk.rehearse(short, "--cuts", "2")
    assert code == 1
    assert wrong["update"].startswith("the update ended so: refused: ")


HEARS = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
from fota_cli.main import main
main()
"""


def test_who_stops_a_rehearsal_stops_its_copies_and_leaves_nothing(desk: Desk, tmp_path: Path) -> None:
    line = desk.line(
        "new", "--cuts", "all", "--jobs", "2", "--key", "evidence.pem", "-o", tmp_path / "a.json"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", HEARS, *line], cwd=desk.folder, env={**os.environ, **PASSWORD},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    for told in process.stderr:
        if "update: good" in told:
            break
    os.kill(process.pid, signal.SIGINT)
    _, rest = process.communicate(timeout=HANG_S)
    assert process.returncode == 130
    assert rest.endswith("fota: stopped\n")

    def nobody() -> bool:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    until(nobody, "the copies are gone")
    assert list(tmp_path.iterdir()) == []
