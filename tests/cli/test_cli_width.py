"""What commands print fits a terminal of 80 columns; what goes into a pipe is not broken."""

import json
import os
import pty
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_world import Built, Server
from walk_world import ALL, World, line

from fota_cli.fitting import fit
from fota_cli.main import COMMANDS
from fota_signer.factory.programmers import OPTIONS, continued, option_commands

COLUMNS = 80
NOT_HERE = {"server run", "provision export"}
"""One does not end, one writes data."""
HASH = "0123456789abcdef" * 4


def too_long(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if len(line) > COLUMNS]


@given(st.text("ab -{\\", min_size=100, max_size=300), st.integers(20, 120))
def test_line_fits_and_loses_no_word(text: str, columns: int) -> None:
    pieces = fit(text, columns)
    assert all(len(piece) <= columns for piece in pieces) or text.startswith("{")
    assert "".join("".join(pieces).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (f"keyhash  {HASH}", [f"keyhash  {HASH}"]),
        (f"public   {HASH}{HASH}", [f"public   {HASH}{HASH[:7]}", f"         {HASH[7:]}"]),
        (f"min security counter    {HASH}", ["min security counter", f"    {HASH}"]),
        ("fota: warning:" + " word" * 20, ["fota: warning:" + " word" * 13, " " + " word" * 7]),
        (json.dumps({"x": HASH * 3}), [json.dumps({"x": HASH * 3})]),
        (f"\r\x1b[K{HASH}{HASH}", [f"\r\x1b[K{HASH}{HASH}"]),
    ],
)
def test_pieces_stand_under_the_value(printed: str, shown: list[str]) -> None:
    assert fit(printed, COLUMNS) == shown


@pytest.mark.parametrize("top", COMMANDS)
def test_every_command_fits_the_terminal(world: World, top: str) -> None:
    long = []
    for path, command in ALL.items():
        if path.split()[0] == top and path not in NOT_HERE:
            done = world.run(line(path, command, {}), terminal=True, env={"COLUMNS": str(COLUMNS)})
            long += [f"{path}: {text}" for text in too_long(done["out"])]
            told = world.run([*path.split(), "--help"], terminal=True, env={"COLUMNS": str(COLUMNS)})
            long += [f"{path} --help: {text}" for text in too_long(told["out"])]
    for name in set(world.snapshot()) - set(world.files):
        os.unlink(name)  # noqa: PTH108  what the good lines made
    world.files = world.snapshot()
    assert not long, "\n".join(long)


def test_public_half_of_a_key_is_one_line_in_a_pipe(world: World) -> None:
    done = world.run(["keys", "show", "image-a.pem"], env={"COLUMNS": str(COLUMNS)})
    assert max(map(len, done["out"].splitlines())) > 128


def test_what_the_server_knows_fits_the_terminal(server: Server, releases: dict[str, Built]) -> None:
    assert server.publish(releases["1.1.0"])[0] == 201
    environment = {
        **os.environ,
        "COLUMNS": str(COLUMNS),
        "FOTA_SERVER": server.operator_url,
        "FOTA_TOKEN": server.token,
        "FOTA_CA": str(server.keys.server_ca),
    }
    of_server = [f"server {words} --data {server.data}" for words in ("audit", "token list", "doctor")]
    for words in ("release list", "device list", "rollout list", "group list", "device refused", *of_server):
        master, slave = pty.openpty()
        command = [sys.executable, "-m", "fota_cli", *words.split()]
        with subprocess.Popen(command, stdout=slave, stderr=slave, env=environment) as process:
            os.close(slave)
            seen = b""
            try:
                while chunk := os.read(master, 4096):
                    seen += chunk
            except OSError:  # EIO: it has ended
                pass
        os.close(master)
        assert process.returncode == 0, seen
        assert not too_long(seen.decode()), words


@pytest.mark.parametrize("chip", OPTIONS)
def test_commands_for_programmers_fit_and_are_what_a_shell_reads_as_one(chip: str) -> None:
    for commands in option_commands(chip, "012300000000000001.hex").values():
        for command in commands:
            lines = continued(command)
            assert max(map(len, lines)) <= COLUMNS - 2
            told = "f() { printf '%s\\n' \"$@\"; }; f "
            words = [
                subprocess.check_output(["bash", "-c", told + text]) for text in (command, "\n".join(lines))
            ]
            assert words[0] == words[1]
