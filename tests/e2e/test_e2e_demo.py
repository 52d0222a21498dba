"""The demo is the product's promise: it runs as a whole, on each chip, and each claim stands in what it
printed. `make demo` tells no other story.
"""

import fcntl
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import lifeline
import pytest
from lifeline import HANG_S, until

DEMO = Path(__file__).parents[1] / "demo" / "demo.py"
sys.path.insert(0, str(DEMO.parent))

from kits import KITS  # noqa: E402

from fota_wire.host_chips import DEFAULT  # noqa: E402

pytestmark = pytest.mark.slow


def run(folder: Path, *chip: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DEMO), str(folder), *chip]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG_S)


@pytest.fixture(scope="module", params=KITS)
def chip(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def printed(chip: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("demo")
    leave_a_demo(folder)
    done = run(folder, chip)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert not (folder / "left-over.img").exists()
    return done.stdout


def leave_a_demo(folder: Path) -> None:
    """What an earlier demo left behind: the next one starts afresh."""
    (folder / "lock").touch()
    (folder / "left-over.img").write_bytes(b"left over")
    (folder / "server").mkdir()


@pytest.fixture(scope="module")
def told(printed: str) -> str:
    """What was printed, each line whole."""
    return re.sub(r"\n {12}(?=[^ .])|\n {3}(?=[^ ])", " ", printed)


def test_every_line_fits_the_terminal(printed: str) -> None:
    assert [line for line in printed.splitlines() if len(line) > 80] == []


def test_table_at_the_end_says_what_was_shown_in_numbers(printed: str) -> None:
    table = printed[printed.index("What was shown") :]
    for row in (
        r"ROOT signed by \.+ 2 of 3",
        r"pages of firmware erased or copied \.+ 0",
        r"attacks refused \.+ 9 of 9",
        r"power cuts in the middle of a write, survived \.+ 2 of 2",
    ):
        assert re.search(row, table), table


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_demo_that_is_ended_from_outside_leaves_no_server_behind(tmp_path: Path, sig: int) -> None:
    env = {name: value for name, value in os.environ.items() if name != lifeline.MARK}
    demo = subprocess.Popen(
        [sys.executable, str(DEMO), str(tmp_path)],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until((tmp_path / "server" / "server.json").exists, "the server", demo)
    assert len(at_work_in(tmp_path)) >= 2  # the demo, and its server
    demo.send_signal(sig)
    demo.wait()
    until(lambda: not at_work_in(tmp_path))


def at_work_in(folder: Path) -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words and b"pytest" not in words.split(b"\0")[1:3]:
            found.append(str(place))
    return found


@pytest.mark.parametrize(
    "line",
    [
        "fota-boot: slot A 1.0.0 confirmed",
        "fota-boot: slot B 1.1.0 trial",
        "installed 1.1.0, running 1.1.0, confirmed 1.1.0, status confirmed",
        "page erases in slots: 0;",
        "installed 1.0.0, running 1.0.0, confirmed 1.0.0, status confirmed",
        "fota-boot: slot B reverted: AP1",
        "installed 1.2.0, running 1.0.0, confirmed 1.0.0, status reverted",
        "why: reverted AP1 self-test",
        "installed 1.3.0, running 1.3.0, confirmed 1.3.0, status confirmed",
    ],
)
def test_story_is_told_by_device_and_server(told: str, line: str) -> None:
    assert line in told


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        ("one bit flipped in the image", "IM6 image-hash"),
        ("signed with a key of somebody else", "IM8 image-key"),
        ("made for another device class", "IM7 image-class"),
        ("security counter 1, floor 2", "PO1 rollback"),
        ("content changed, hash made to fit", "IM10 image-signature"),
        ("forged OK on the I2C bus", "CE4 element-forged"),
        ("replayed assignment of 1.1.0", "another nonce"),
        ("publishing with one signature of two", "1 of 2 necessary signatures"),
        ("server hands out one signature of two", "1 of 2 necessary signatures"),
    ],
)
def test_attack_is_refused_with_its_reason(told: str, attack: str, reason: str) -> None:
    lines = [line for line in told.splitlines() if attack in line]
    assert len(lines) == 1
    assert "refused" in lines[0]
    assert reason in lines[0]


def test_power_fails_as_the_trial_begins_and_the_trial_begins_all_the_same(told: str) -> None:
    part = told[told.index("though the power fails twice") :]
    cut = part.index("as the trial begins")
    assert "fota-boot: slot B 1.3.0 trial" in part[cut:]
    assert "journal" in part[cut:]
    assert re.search(r"power cut while (programming|erasing)", part)


def test_what_a_chip_cannot_show_is_in_the_table_with_its_reason(printed: str) -> None:
    table = printed[printed.index("What was shown") :]
    assert "left out" not in table or "left out: MicroPython" in printed


def test_two_devices_update_and_go_back_or_the_demo_says_why_not(told: str) -> None:
    part = told[told.index("Two devices, one agent") :]
    if "left out: MicroPython" in part:
        pytest.skip("MicroPython is not there: make agent-firmware says why")
    for line in (
        "agent 1.0.0: slot A runs 1.0.0, confirmed",
        "fota-boot: slot B 1.1.0 trial",
        "agent 1.1.0: confirmed",
        "chip: confirmed 1.1.0, status confirmed",
        "chip: confirmed 1.0.0, status confirmed",
    ):
        assert line in part


def test_bad_release_in_waves_stops_itself_and_is_taken_back(chip: str, told: str) -> None:
    if chip != DEFAULT:
        assert "In waves" not in told
        return
    part = told[told.index("In waves") :]
    for line in (
        r"wave 1 \(group:lab\), passed: 1 of 1 confirmed, 0 failed",
        r"wave 2 \(2\), open: 0 of 2 confirmed, [12] failed",
        r"wave 3 \(rest\), waiting: 0 of 3 confirmed, 0 failed",
        r"the rollout has paused itself: wave 2: [12] of 2 device\(s\) in error",
        r"slot B is reverted: AP1 self-test",
        r"each device that was given it goes back",
        r"all 6 have confirmed 2\.0\.0; [34] of them never heard of 2\.1\.0",
        r"bad release in three waves: devices that it reached \.+ [23] of 6",
    ):
        assert re.search(line, part), line


def test_second_demo_at_the_same_time_is_refused_in_one_line(tmp_path: Path) -> None:
    marker = tmp_path / "kept"
    marker.write_text("x")
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run(tmp_path)
    assert done.returncode == 5
    assert done.stderr.count("\n") == 1
    assert "a demo is running" in done.stderr
    assert marker.read_text() == "x"


def test_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    done = run(tmp_path)
    assert done.returncode == 5
    assert "no demo made" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("words", [["demo.py", "FOLDER"], ["phases.py"]])
def test_chip_without_a_story_is_refused_in_one_line_that_names_those_that_have_one(
    tmp_path: Path, words: list[str]
) -> None:
    script, *folder = (word.replace("FOLDER", str(tmp_path / "new")) for word in words)
    command = [sys.executable, str(DEMO.with_name(script)), *folder, "stm32f4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"demo: no chip 'stm32f4' has this story: CHIP is one of {', '.join(KITS)}\n"
    assert list(tmp_path.iterdir()) == []
