"""Streams in place of files: what can be read once is read once, what nobody reads is no failure."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

PASSWORD = "correct horse battery"
FOTA = f"{sys.executable} -m fota_cli"


def shell(folder: Path, script: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash; ``fota`` in it is the command."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FOTA_")}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"fota() {{ {FOTA} \"$@\"; }}\n{script}"],
        cwd=folder, capture_output=True, env=clean | env, text=True, errors="surrogateescape",
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    (folder / "password").write_text(PASSWORD + "\n")
    (folder / "app.bin").write_bytes(
        b"\x00\x00\x01\x20\x01\x43\x00\x08" + bytes(range(256)) * 11  # a vector table, and some code
    )
    done = shell(folder, "fota keys new image/a -o a.pem --password-file password"
                         " && fota keys new release/r -o r.pem --password-file password")  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


SIGN = "fota sign {} --version 1.2.3 --security-counter 3 --vendor-domain example.com --model m"
SIGN += " --linked-for 0x08004200"


@pytest.mark.parametrize(
    "line",
    [
        SIGN.format("app.bin --key <(cat a.pem) --password-file <(cat password) -o out"),
        SIGN.format("- --key a.pem --password-file password -o out < app.bin"),
        SIGN.format("app.bin --key /dev/stdin --password-file password -o out < a.pem"),
        SIGN.format("<(cat app.bin) --key a.pem --password-file password -o - > out"),
        "cat password | "
        + SIGN.format("app.bin --key a.pem --password-file - -o >(cat > out)")
        + "; wait $!",
    ],
)
def test_image_signed_through_streams_is_the_one_signed_from_files(place: Path, line: str) -> None:
    done = shell(place, SIGN.format("app.bin --key a.pem --password-file password -o wanted --force"))
    assert done.returncode == 0, done.stderr
    (place / "out").unlink(missing_ok=True)
    done = shell(place, line)
    assert done.returncode == 0, done.stderr
    assert (place / "out").read_bytes() == (place / "wanted").read_bytes()


def test_manifest_goes_through_a_chain_of_pipes(place: Path) -> None:
    script = f"""
        {SIGN.format("app.bin --key a.pem --password-file password -o - 2>/dev/null")} |
        fota manifest new - --sequence 1 --vendor-domain example.com --model m -o - 2>/dev/null |
        fota manifest sign - --key r.pem --password-file password -o - 2>/dev/null |
        fota inspect - --json"""
    done = shell(place, script)
    assert done.returncode == 0, done.stderr
    assert '"sequence": 1' in done.stdout


@pytest.mark.parametrize(
    "line",
    [
        "fota keys show - --password-file - < a.pem",
        "cat a.pem | fota keys show - --password-file /dev/stdin",
        "cat a.pem | fota keys show /dev/stdin --password-file /dev/fd/0",
        "cat a.pem | " + SIGN.format("app.bin --key /dev/stdin --password-file /dev/stdin -o x"),
        "cat a.pem | " + SIGN.format("- --key a.pem --password-file /proc/self/fd/0 -o x"),
        SIGN.format("app.bin --key /dev/fd/5 --password-file /dev/fd/6 -o x 5< <(cat a.pem) 6<&5"),
    ],
)
def test_one_stream_is_not_two_inputs(place: Path, line: str) -> None:
    done = shell(place, line)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "is taken already, by" in done.stderr
    assert not (place / "x").exists()


@pytest.mark.parametrize("way", ["1<> own.pem", ">> own.pem"])
def test_standard_output_that_leads_to_an_input_is_not_written(place: Path, way: str) -> None:
    key = (place / "a.pem").read_bytes()
    (place / "own.pem").write_bytes(key)
    (place / "own.pem").chmod(0o600)
    done = shell(place, SIGN.format("app.bin --key own.pem --password-file password -o -") + " " + way)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "standard output leads to a file that this command reads" in done.stderr
    assert (place / "own.pem").read_bytes() == key


@pytest.mark.parametrize("link", ["ln a.pem", "ln -s a.pem"])
@pytest.mark.parametrize(
    ("command", "lock"),
    [("fota vdev create new.vdev", "new.vdev.lock"), ("fota server token list --data data", "data/lock")],
)
def test_lock_that_is_another_name_of_a_key_is_not_written(
    place: Path, link: str, command: str, lock: str
) -> None:
    key = (place / "a.pem").read_bytes()
    (place / "data").mkdir(exist_ok=True)
    (place / "data/fota.db").touch()
    (place / "data/config.json").write_text("{}")
    done = shell(place, f"{link.replace('a.pem', str(place / 'a.pem'))} {lock} && {command}")
    (place / lock).unlink()
    assert (place / "a.pem").read_bytes() == key
    if lock == "new.vdev.lock":
        assert (done.returncode, done.stderr.count("\n")) == (5, 1)


@pytest.mark.parametrize("reader", ["true", "head -c 1"])
def test_command_whose_output_is_cut_has_done_its_work(place: Path, reader: str) -> None:
    (place / "cut").unlink(missing_ok=True)
    line = SIGN.format("app.bin --key a.pem --password-file password -o cut")
    done = shell(place, f"{line} | {reader} >/dev/null; echo ${{PIPESTATUS[0]}}")
    assert (done.stdout, done.stderr) == ("0\n", "")
    assert (place / "cut").exists()


@pytest.mark.parametrize("closed", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_nobodys_failure(place: Path, closed: str) -> None:
    (place / "closed").unlink(missing_ok=True)
    line = SIGN.format("app.bin --key a.pem --password-file password -o closed")
    done = shell(place, f"{line} {closed} >/dev/null")
    assert (done.returncode, done.stderr) == (0, "")
    assert (place / "closed").exists()


def test_data_that_finds_standard_output_closed_is_missed(place: Path) -> None:
    done = shell(place, "fota keys public a.pem --password-file password >&-")
    assert (done.returncode, done.stderr) == (
        5, "fota: error: standard output is closed: nothing was written\n"
    )  # fmt: skip


def test_full_standard_output_is_a_matter_of_the_disk(place: Path) -> None:
    done = shell(place, "fota keys show a.pem --password-file password > /dev/full")
    assert (done.returncode, done.stderr.count("\n")) == (5, 1)
    assert "standard output: No space left on device" in done.stderr


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "POSIX"}])
def test_name_that_the_terminal_cannot_show_is_shown_otherwise(place: Path, locale: dict[str, str]) -> None:
    line = SIGN.format("app.bin --key a.pem --password-file password --force -o $'\\xff\\xe9'")
    done = shell(place, line, **locale)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\udcff" in done.stdout or "\udcff" in done.stdout
    os.unlink(os.fsencode(place) + b"/\xff\xe9")  # noqa: PTH108


def test_password_of_other_bytes_than_utf8_is_a_password(place: Path) -> None:
    password = "export FOTA_KEY_PASSWORD=$'\\xff\\xfe correct horse'"
    done = shell(place, f"{password}; fota keys new image/b -o b.pem && fota keys show b.pem")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["keys", "show", "a.pem"], b"Password of a.pem"),
        (["device", "retire", "0123" + "00" * 7], b"There is no way back"),
    ],
)
def test_end_of_input_at_a_question_is_one_line(place: Path, words: list[str], asked: bytes) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(place)
        os.environ |= {"FOTA_SERVER": "https://127.0.0.1:1", "FOTA_TOKEN": "x"}
        os.environ.pop("FOTA_KEY_PASSWORD", None)
        os.execv(sys.executable, [sys.executable, "-m", "fota_cli", *words])
    said = b""
    while asked not in said:
        said += os.read(terminal, 1024)
    os.write(terminal, b"\x04")
    try:
        while chunk := os.read(terminal, 1024):
            said += chunk
    except OSError:  # EIO: the other side is closed
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    assert b"fota: error: standard input ended where an answer was asked for" in said
    assert b"Traceback" not in said


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        ("{}['x']", 70, "fota: unforeseen: KeyError: 'x'; a bug"),
        ("(_ for _ in ()).throw(type('PanicException', (BaseException,), {})('rusty'))", 70, "rusty"),
        ("(lambda f: f(f))(lambda f: f(f))", 3, "nested too deeply"),
        ("bytes(1 << 62)", 5, "out of memory"),
        ("'\\udcff'.encode()", 3, "not text in UTF-8"),
    ],
)
def test_fault_that_nobody_foresaw_is_one_line_and_the_rest_for_whoever_asks(
    fault: str, code: int, said: str
) -> None:
    command = [sys.executable, "-c", f"from fota_cli import net; net.run(lambda: {fault})"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert said in done.stderr
    told = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "FOTA_DEBUG": "1"}
    )
    assert told.returncode == code
    assert "Traceback" in told.stderr


# A key as OpenSSL's old form has it, encrypted, whose initial vector is short: the library panics over it.
DAMAGED_KEY = """-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-256-CBC,00112233445566778899AABB

AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
-----END EC PRIVATE KEY-----
"""


def test_damaged_key_is_bad_input_and_not_a_panic(place: Path) -> None:
    (place / "damaged.pem").write_text(DAMAGED_KEY)
    done = shell(place, "fota keys show damaged.pem --password-file password")
    assert done.returncode == 3
    assert done.stderr == "fota: error: damaged.pem: wrong password, or a damaged file\n"


@pytest.mark.parametrize(("content", "code"), [("cat server.crt", 4), ("true", 3), ("echo nonsense", 3)])
def test_authority_comes_through_a_pipe_and_an_empty_one_is_not_the_systems(
    place: Path, content: str, code: int
) -> None:
    assert shell(place, "fota keys example . --force").returncode == 0
    script = f"fota release list --server https://127.0.0.1:1 --ca <({content})"
    done = shell(place, script, FOTA_TOKEN="x")
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
