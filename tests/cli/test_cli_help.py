"""What a person finds who asks: an example, a word for every option, a hand where a word was mistyped."""

import os
import pty
import shlex
import subprocess
import sys

import click
import pytest
from test_cli_walk import ALL

from fota_cli.examples import EXAMPLES
from fota_wire.errors import FotaError
from fota_wire.host_options import Renamed

FOTA = [sys.executable, "-m", "fota_cli"]


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*FOTA, *words], capture_output=True, text=True, env=os.environ | env)


@pytest.mark.parametrize("path", ALL)
def test_every_command_has_an_example_that_it_would_take(path: str) -> None:
    command, words = ALL[path], shlex.split(EXAMPLES[path])
    assert words[: len(path.split())] == path.split()
    assert f"Example: fota {EXAMPLES[path]}" in command.get_help(click.Context(command))
    command.make_context(path, words[len(path.split()) :])


@pytest.mark.parametrize("path", ALL)
def test_every_option_is_explained(path: str) -> None:
    for param in ALL[path].params:
        assert not isinstance(param, click.Option) or param.help, param.opts


RENAMED = [(path, param) for path in ALL for param in ALL[path].params if isinstance(param, Renamed)]


@pytest.mark.parametrize("path", ALL)
def test_every_option_has_one_name(path: str) -> None:
    for param in ALL[path].params:
        assert not isinstance(param, click.Option) or sum(o.startswith("--") for o in param.opts) == 1


def test_root_has_one_meaning_among_options() -> None:
    rooted = {(option, param.help) for path in ALL for param in ALL[path].params
              if isinstance(param, click.Option) for option in param.opts if "root" in option}  # fmt: skip
    assert len(rooted) > 3
    for option, said in rooted:
        assert "ROOT" in said, option


@pytest.mark.parametrize(("path", "param"), RENAMED, ids=[f"{path} {param.old}" for path, param in RENAMED])
def test_old_name_of_an_option_is_taken_with_a_note_and_shown_nowhere(
    capsys: pytest.CaptureFixture[str], path: str, param: Renamed
) -> None:
    command, words = ALL[path], shlex.split(EXAMPLES[path])[len(path.split()) :]
    new = param.opts[-1]
    if new not in words:
        words += [new, "1" * 32]
    meant = command.make_context(path, list(words)).params
    assert capsys.readouterr().err == ""
    old = [param.old if word == new else word for word in words]
    assert command.make_context(path, old).params == meant
    assert capsys.readouterr().err == f"fota: note: {param.old} is deprecated, it is called {new} now\n"
    with pytest.raises(click.UsageError, match="give one of them"):
        command.make_context(path, [*words, param.old, "x"])
    assert param.old not in command.get_help(click.Context(command))
    assert param.old not in " ".join(o.value for o in command.shell_complete(click.Context(command), "--"))


VALUES = [(path, param) for path in ALL for param in ALL[path].params
          if isinstance(param, click.Option) and not param.is_flag]  # fmt: skip


@pytest.mark.parametrize(("path", "param"), VALUES, ids=[f"{path} {param.name}" for path, param in VALUES])
def test_option_given_twice_is_refused_unless_it_may_be(path: str, param: click.Option) -> None:
    words = shlex.split(EXAMPLES[path])[len(path.split()) :]
    said = ""
    try:
        ALL[path].make_context(path, [*words, param.opts[0], "x", param.opts[-1], "x"])
    except (click.UsageError, FotaError) as exc:
        said = str(exc)
    name = max(param.opts, key=len)
    assert (said == f"{name} is given twice, and takes one value") is not param.multiple, said


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(["mainfest"], "manifest"), (["roolout", "start"], "rollout"), (["keys", "shwo"], "show"),
     (["server", "tokens"], "token"), (["sign", "--outptu", "x"], "--output")],
)  # fmt: skip
def test_mistyped_word_is_answered_with_the_one_that_was_meant(typed: list[str], meant: str) -> None:
    done = run(*typed)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "Did you mean" in done.stderr
    assert meant in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("publish", "No such command 'publish'. Did you mean 'fota release publish'? (see 'fota --help')"),
        ("version", "No such command 'version'. Did you mean 'fota --version'? (see 'fota --help')"),
        ("help", "No such command 'help'. Did you mean 'fota --help'? (see 'fota --help')"),
        ("devices", "No such command 'devices'. Did you mean 'device'? (see 'fota --help')"),
        (
            "token",
            "No such command 'token'. Did you mean 'fota server token' or 'fota ddi token'?"
            " (see 'fota --help')",
        ),
        ("xyzzy", "No such command 'xyzzy' (see 'fota --help')"),
        *(
            (
                f"{command} {option}",
                f"No such option '{option}' here: it stands before the command, fota {option} ..."
                f" (see 'fota {command} --help')",
            )
            for command in ("device list", "device", "sign", "server token list")
            for option in ("-v", "-q", "--verbose", "--quiet")
        ),
    ],
)
def test_word_in_the_wrong_place_is_told_where_it_belongs(words: str, said: str) -> None:
    done = subprocess.run([*FOTA, *words.split()], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"fota: error: {said}\n")


def test_verbose_shows_where_an_error_comes_from_and_quiet_shows_errors_alone() -> None:
    assert "Traceback" in run("-v", "inspect", "none").stderr
    quiet = run("-q", "inspect", "none")
    assert (quiet.returncode, quiet.stderr) == (3, "fota: error: none: No such file or directory\n")


def test_shell_completes_commands_and_options() -> None:
    done = run(_FOTA_COMPLETE="bash_complete", COMP_WORDS="fota mani", COMP_CWORD="1")
    assert "manifest" in done.stdout
    done = run(_FOTA_COMPLETE="bash_complete", COMP_WORDS="fota vdev run --bus", COMP_CWORD="3")
    assert "--bus-log" in done.stdout
    assert "_fota_completion" in run(_FOTA_COMPLETE="bash_source").stdout


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_terminal_that_wants_no_colours_gets_no_escapes(environment: dict[str, str]) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [*FOTA, "--help"], os.environ | environment)
    said = b""
    try:
        while chunk := os.read(terminal, 4096):
            said += chunk
    except OSError:  # EIO: the other side is closed
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"manifest" in said
    assert b"\x1b" not in said
