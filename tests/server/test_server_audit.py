"""An exported audit trail: what was done to it afterwards is found, at whatever row."""

import json
from pathlib import Path
from typing import Any

import pytest
from databases import BOTH
from hypothesis import given
from hypothesis import strategies as st
from server_world import Server, fota

from fota_wire.errors import FotaError, InputError, VerifyError
from fota_wire.host_audit import START, detail_text, line_of, next_hash, read_lines, verify_chain

DATABASES = BOTH
Row = dict[str, Any]


def chained(rows: list[Row]) -> list[Row]:
    """Return rows with the numbers and hashes that fit."""
    before, found = START, []
    for number, row in enumerate(rows, 1):
        row = row | {"id": number}
        row["hash"] = before = next_hash(before, row)
        found.append(row)
    return found


def trail(size: int = 8) -> list[Row]:
    return chained(
        [
            {
                "at": 10 + n,
                "actor": f"a{n}",
                "action": "x.y",
                "subject": "ä\x1b",
                "detail": detail_text({"n": n}),
            }
            for n in range(size)
        ]
    )


def head_of(rows: list[Row]) -> str:
    return f"{rows[-1]['id']} {rows[-1]['hash']}"


def check(rows: list[Row], head: str | None = None, noted: tuple[str, ...] = ()) -> str:
    """As the command does it: through the lines."""
    lines = [line_of(row).encode() for row in rows]
    return verify_chain(read_lines(lines, "x"), head, noted)


@pytest.mark.sqlite
@pytest.mark.parametrize("number", range(8))
def test_row_that_was_altered_taken_out_put_in_or_moved_is_found(number: int) -> None:
    rows = trail()
    head = head_of(rows)
    assert check(rows, head, (head_of(rows[: number + 1]),)) == head
    changed: list[list[Row]] = []
    for field, value in (
        *(("at", 1), ("actor", "z"), ("action", "z"), ("subject", "ä"), ("hash", START)),
        *(("detail", "{}"), ("id", 99), ("id", 0)),
    ):
        changed.append([row | ({field: value} if n == number else {}) for n, row in enumerate(rows)])
    changed.append(rows[:number] + rows[number + 1 :])
    changed.append([*rows[:number], rows[number], *rows[number:]])
    changed.append([*rows[:number], rows[(number + 1) % 8], *rows[number:]])
    changed.append(rows[number:] + rows[:number] if number else [*rows[1:], rows[0]])
    changed.append(chained([*rows[:number], rows[number] | {"actor": "z"}, *rows[number + 1 :]]))
    changed.append(rows[:number])
    changed.append([*rows, rows[number]])
    changed.append(chained([*rows, rows[number]]))
    for found in changed:
        with pytest.raises(VerifyError, match="audit trail: "):
            check(found, head)


@pytest.mark.sqlite
def test_end_cut_off_and_chain_made_anew_are_found_by_heads_that_were_noted() -> None:
    rows = trail()
    anew = chained([rows[0] | {"actor": "z"}, *rows[1:]])
    assert check(rows[:5]) == head_of(rows[:5])
    assert check(anew) == head_of(anew), "nobody finds that in the trail alone"
    noted = head_of(rows[:6])
    for found in (rows[:5], anew, []):
        with pytest.raises(VerifyError):
            check(found, noted=(noted,))
    assert check(rows, noted=(noted, head_of(rows[:2]))) == head_of(rows), "it has gone on since"


@pytest.mark.sqlite
@given(st.binary(max_size=60) | st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists).map(
    lambda value: json.dumps(value).encode()
))  # fmt: skip
def test_lines_of_any_bytes_are_refused_in_one_line(data: bytes) -> None:
    for lines in ([data], [line_of(trail(1)[0]).encode(), data]):
        with pytest.raises(InputError) as caught:
            verify_chain(read_lines(lines, "x"), None)
        assert str(caught.value).isprintable()


def test_trail_of_a_server_is_exported_and_checked_without_it(server: Server, tmp_path: Path) -> None:
    env = {
        "FOTA_SERVER": server.operator_url,
        "FOTA_TOKEN": server.token,
        "FOTA_CA": str(server.keys.server_ca),
    }
    file, later = tmp_path / "trail.jsonl", tmp_path / "later.jsonl"
    assert server.api("POST", "halt", {"reason": 'a\x1b "b" ä\u2028'})[0] == 200
    assert server.api("POST", "unhalt")[0] == 200
    done = fota("audit", "export", "-o", str(file), "--json", env=env)
    told = json.loads(done.stdout)
    assert told["rows"] == len(file.read_bytes().splitlines()) == len(server.rows("SELECT id FROM audit"))
    assert fota("audit", "verify", str(file), "--head", told["head"]).returncode == 0
    assert server.api("POST", "limits", {"trials": None})[0] == 200
    fota("audit", "export", "-o", str(later), env=env)
    done = fota("audit", "verify", str(later), "--noted", told["head"], "--json")
    assert (done.returncode, json.loads(done.stdout)["rows"] > told["rows"]) == (0, True)
    done = fota("audit", "verify", str(later), "--head", told["head"])
    assert (done.returncode, "goes on behind row" in done.stderr) == (1, True)
    lines = later.read_bytes().splitlines(keepends=True)
    later.write_bytes(b"".join(lines[:-3] + lines[-2:]))
    done = fota("audit", "verify", str(later))
    assert (done.returncode, "are missing" in done.stderr) == (1, True)
    for wrong in (["--head", "x"], ["--noted", "1 2"]):
        assert fota("audit", "verify", str(file), *wrong).returncode == 3
    for nothing_proved in (b"\xff\n", b"", b"\n"):
        file.write_bytes(nothing_proved)
        done = fota("audit", "verify", str(file))
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1), nothing_proved
    assert server.api("GET", "audit?form=x")[0] == 400


@pytest.mark.sqlite
def test_empty_trail_has_no_rows() -> None:
    assert verify_chain([], None) == f"0 {START}"
    with pytest.raises(FotaError):
        verify_chain([], f"1 {START}")
