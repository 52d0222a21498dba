"""``fota agent run`` on devices that are not there, not devices, in use, or empty: one line, exit code."""

import subprocess
import sys

import pytest
from lifeline import HANG_S

vdev = pytest.importorskip("fota_vdev.machine")


def run(*args):
    command = [
        sys.executable,
        "-c",
        "from fota_cli.main import main; main()",
        "agent",
        "run",
        *map(str, args),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG_S)
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def blank(tmp_path):
    from fota_vdev.atecc608 import Atecc608

    machine = vdev.Machine(element=Atecc608(seed=1))
    path = tmp_path / "blank.vdev"
    machine.save(path)
    machine.close()
    return path


def one_line(done):
    lines = [line for line in done.stderr.splitlines() if line.startswith("fota: error:")]
    assert len(lines) == 1
    return lines[0]


def test_missing_file_is_bad_input(tmp_path):
    assert run("--vdev", tmp_path / "none.vdev").returncode == 3


def test_file_that_is_no_device_is_bad_input(tmp_path):
    path = tmp_path / "junk.vdev"
    path.write_bytes(b"junk")
    done = run("--vdev", path, "--once")
    assert done.returncode == 3
    assert str(path) in one_line(done)


def test_device_without_firmware_is_a_device_error_and_its_file_stays_usable(blank):
    done = run("--vdev", blank, "--once")
    assert done.returncode == 6
    assert "does not start an application" in one_line(done)
    vdev.Machine.load(blank).close()


def test_device_in_use_by_another_process_is_refused(blank):
    with vdev.Machine.load(blank):
        done = run("--vdev", blank, "--once")
    assert done.returncode == 5
    assert "in use" in one_line(done)
