"""Every command, walked through a table of bad inputs: one line, a documented exit code, nothing by half.

The commands and their options come from click's own tree, so that one that is added tomorrow is walked too.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from walk_world import ALL, World, is_output, line

from fota_cli.main import COMMANDS
from fota_wire.host_options import FileName, Seconds, Uuid, Whole

DOCUMENTED = {0, 1, 2, 3, 4, 5, 6}  # 70 is documented, too, and a bug; 130 and 143 nobody provokes here


def bad_lines(path: str, command: click.Command) -> Iterator[tuple[str, list[str], dict[str, Any]]]:
    """Yield (what is wrong, words, case)."""
    inputs = []
    for param in command.params:
        name = param.name or ""
        if is_output(param):
            values = ["/dev/full", "gateway", "nowhere/x", "closed/x", "app.bin/x"]
        elif isinstance(param.type, FileName):
            inputs.append(name)
            values = ["none", "random", "unreadable", "app.bin" if param.type.name == "folder" else "gateway"]
            if name == "socket":
                values.remove("none")  # that nothing is there is good for one: it would be waited at
        elif isinstance(param.type, Whole | Seconds):
            values = ["9" * 5000]
        elif isinstance(param.type, Uuid | click.Choice):
            values = ["\udcff"]
        elif getattr(param, "is_flag", False) or param.is_eager:
            continue
        else:
            values = ["\udcff\udcfe"]
        for value in values:
            yield f"{name}={value[:12]!a}", line(path, command, {name: value}), {"weak": True}
    good = line(path, command, {})
    if inputs:
        yield "every file empty", line(path, command, dict.fromkeys(inputs, "empty")), {}
        yield "every name of other bytes", line(path, command, dict.fromkeys(inputs, "\udcff")), {}
    for closed in ([0], [1, 2], [0, 1, 2]):
        yield f"closed {closed}", good, {"closed": closed}
    for stdout in ("full", "pipe"):
        yield f"stdout {stdout}", good, {"stdout": stdout}
    yield "unknown option, nothing open", [*good, "--nonsense"], {"closed": [0, 1, 2]}
    yield "help that nobody reads", [*path.split(), "--help"], {"stdout": "pipe"}


@pytest.mark.parametrize("top", COMMANDS)
def test_whatever_is_wrong_ends_in_one_line_and_a_documented_exit_code(world: World, top: str) -> None:
    faults = []
    for path, command in ALL.items():
        if path.split()[0] != top:
            continue
        for what, words, case in bad_lines(path, command):
            done = world.run(words, **case)
            complaint = complaint_about(done, case)
            after = world.snapshot()
            if done["code"] and after != world.files and case.get("stdout") != "full":
                complaint = complaint or f"left {sorted(set(after.items()) ^ set(world.files.items()))}"
            if after != world.files:
                for name in set(after) - set(world.files):
                    Path(name).unlink()
                world.files = world.snapshot()
            if complaint:
                faults.append(f"{path}: {what}: {complaint}")
    assert not faults, "\n".join(faults)


def complaint_about(done: dict[str, Any], case: dict[str, Any]) -> str:
    code, err = done["code"], done["err"]
    if code not in DOCUMENTED:
        return f"exit code {code}: {err[-300:]}"
    if "Traceback" in err or "panicked" in err:
        return f"traceback: {err[-300:]}"
    errors = [text for text in err.splitlines() if text.startswith("fota: ")]
    if code and "stdout" not in case and "closed" not in case and len(errors) != 1 and not done["out"]:
        return f"exit code {code} with {err[-300:]!r}"
    told = [text for text in err.splitlines() if not text.startswith(("  ", "-- ", "["))]  # but for progress
    return f"long-winded: {err[-300:]!r}" if len(told) > 2 or max(map(len, told), default=0) > 700 else ""
