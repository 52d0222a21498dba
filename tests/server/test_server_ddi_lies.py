"""DDI clients that lie: one clear answer with a code, nothing half done, and a trace of it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from ddi_world import Ddi
from hypothesis import given
from hypothesis import strategies as st
from server_world import Built, Keys, Server

from fota_server import ddi_words
from fota_wire.errors import FormatError

TABLES = ("targets", "said", "ddi_devices", "ddi_attributes", "events", "rollouts", "devices")


@pytest.fixture(scope="module")
def ddi_server(
    keys: Keys, releases: dict[str, Built], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    running = (
        Server(keys, tmp_path_factory.mktemp("ddi-lies") / "data").init("--ddi-tenant", "DEFAULT").start()
    )
    assert running.publish(releases["1.1.0"])[0] == 201
    yield running
    code, stderr = running.stop()
    assert code == 0, stderr
    assert "Traceback" not in stderr, stderr


@pytest.fixture(scope="module")
def busy(ddi_server: Server) -> tuple[Ddi, int]:
    """A device with an action that it has not closed."""
    one = Ddi(ddi_server, "busy")
    one.configure({"hw": "A"})
    one.roll_out("1.1.0")
    return one, one.action()


def state_of(server: Server) -> dict[str, Any]:
    found = {table: server.rows(f"SELECT * FROM {table}") for table in TABLES}
    for row in found["devices"]:
        row.pop("last_seen")
    return found


GOOD = b'{"status":{"execution":"closed","result":{"finished":"success"}}}'


def status(**changes: Any) -> bytes:
    return json.dumps(
        {"status": {"execution": "closed", "result": {"finished": "success"}} | changes}
    ).encode()


FEEDBACKS = {
    "no-json": b"closed",
    "empty": b"",
    "utf-16": GOOD.decode().encode("utf-16"),
    "list": b"[]",
    "no-status": b"{}",
    "status-is-text": b'{"status":"closed"}',
    "deep": b'{"status":' * 5_000 + b"1" + b"}" * 5_000,
    "deep-list": b'{"status":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "duplicate": GOOD[:-1] + b',"status":{"execution":"closed","result":{"finished":"failure"}}}',
    "duplicate-inside": GOOD.replace(b'{"exec', b'{"execution":"proceeding","exec'),
    "digits": b'{"id":' + b"9" * 60_000 + b"," + GOOD[1:],
    "infinite": b'{"id":Infinity,' + GOOD[1:],
    "huge-real": b'{"id":1e' + b"9" * 30 + b"," + GOOD[1:],
    "unknown-execution": status(execution="done"),
    "execution-is-a-number": status(execution=1),
    "execution-is-a-list": status(execution=["closed"]),
    "no-result": b'{"status":{"execution":"closed"}}',
    "result-is-null": status(result=None),
    "finished-is-true": status(result={"finished": True}),
    "finished-is-an-object": status(result={"finished": {}}),
    "details-is-text": status(details="done"),
    "details-of-numbers": status(details=[1]),
    "half-a-character": GOOD[:-2] + b',"details":["\\ud800"]}}',
}


@pytest.mark.parametrize("lie", FEEDBACKS)
def test_feedback_that_is_none_changes_nothing(ddi_server: Server, busy: tuple[Ddi, int], lie: str) -> None:
    one, action = busy
    before = state_of(ddi_server)
    status_code, answer = one.send(action, FEEDBACKS[lie])
    assert status_code == 400, answer
    assert set(answer) == {"errorCode", "message"}
    assert state_of(ddi_server) == before
    code = answer["errorCode"].removeprefix("fota.")
    assert [row["proved"] for row in one.twin()["refusals"] if row["code"] == code] == [True]


def test_feedback_that_is_too_long_is_told_so(ddi_server: Server, busy: tuple[Ddi, int]) -> None:
    one, action = busy
    before = state_of(ddi_server)
    body = GOOD[:-1] + b',"x":"' + b"a" * ddi_words.MAX_BODY + b'"}'
    assert one.send(action, body)[0] == 413
    assert state_of(ddi_server) == before


@pytest.mark.parametrize("kind", ["deploymentBase", "cancelAction"])
@pytest.mark.parametrize(
    "whose", ["another's", "nobody's", "zero", "2^31", "ten digits", "eleven digits", "none"]
)
def test_action_of_somebody_else_is_none(
    ddi_server: Server, busy: tuple[Ddi, int], whose: str, kind: str
) -> None:
    one, action = busy
    numbers: dict[str, object] = {"another's": action, "nobody's": 99999, "zero": 0, "2^31": 1 << 31}
    numbers |= {"ten digits": "9" * 10, "eleven digits": "9" * 11, "none": "x"}
    liar = Ddi(ddi_server, f"liar-{kind}-{whose.replace(' ', '-').replace(chr(39), '').replace('^', '')}")
    before = state_of(ddi_server)
    before["devices"] = [row | {"first_seen": None} for row in before["devices"]]
    answer = liar.send(str(numbers[whose]), GOOD, kind=kind)
    assert answer[0] == 404
    after = state_of(ddi_server)
    after["devices"] = [row | {"first_seen": None} for row in after["devices"]]
    assert after == before
    assert liar.get(f"/{kind}/{numbers[whose]}")[0] == 404
    assert one.links()["deploymentBase"].rsplit("/", 1)[1].startswith(f"{action}?")
    traces = {row["code"] for row in liar.twin()["refusals"]}
    assert traces & {"foreign-action", "not-found"}


def test_action_that_is_not_to_be_stopped_is_not(busy: tuple[Ddi, int]) -> None:
    one, action = busy
    assert one.tell(action, kind="cancelAction") == 405
    assert "deploymentBase" in one.links()


ATTRIBUTES = {
    "no-data": {},
    "data-is-a-list": {"data": ["hw"]},
    "value-is-an-object": {"data": {"hw": {"rev": 1}}},
    "value-is-null": {"data": {"hw": None}},
    "value-too-long": {"data": {"hw": "a" * 129}},
    "name-too-long": {"data": {"a" * 129: "A"}},
    "name-empty": {"data": {"": "A"}},
    "name-with-a-nul": {"data": {"a\0b": "A"}},
    "value-with-a-newline": {"data": {"hw": "A\nB"}},
    "unknown-mode": {"mode": "forget", "data": {}},
    "mode-is-a-list": {"mode": ["merge"], "data": {}},
    "too-many": {"data": {f"name-{n}": "A" for n in range(101)}},
    "too-many-with-those-there": {"data": {f"name-{n}": "A" for n in range(100)}},
}


@pytest.mark.parametrize("lie", ATTRIBUTES)
def test_attributes_that_are_none_change_nothing(ddi_server: Server, busy: tuple[Ddi, int], lie: str) -> None:
    one, _ = busy
    before = state_of(ddi_server)
    body = json.dumps(ATTRIBUTES[lie]).encode()
    assert one.raw("PUT", one.root() + "/configData", body)[0] == 400
    assert state_of(ddi_server) == before


def test_feedback_that_tells_too_much_is_taken_and_its_end_is_kept(ddi_server: Server) -> None:
    one = Ddi(ddi_server, "talker")
    one.roll_out("1.1.0")
    action = one.action()
    lines = [f"line {n} " + "x" * 300 for n in range(150)]
    assert one.tell(action, "proceeding", "none", *lines) == 200
    kept = [event["detail"] for event in one.twin()["events"]]
    assert kept == [line[:256] for line in lines[-10:]]
    assert one.tell(action, "closed", "success", "\0\x1b[31m\n") == 200, (
        "the word that ends it is always taken"
    )
    assert one.twin()["events"][-1]["detail"] == "\\x00\\x1b[31m\\n"


@pytest.mark.parametrize("host", ["", "a b", "evil.example/x", "x" * 254, "a@b", "[::1", "h:123456"])
def test_host_that_is_none_is_put_into_no_link(busy: tuple[Ddi, int], host: str) -> None:
    one, _ = busy
    status_code, _, body = one.raw("GET", one.root(), headers={"host": host})
    assert status_code == 400
    assert host.encode() not in body or not host


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_other_method_is_not_taken(busy: tuple[Ddi, int], method: str) -> None:
    one, _ = busy
    assert one.raw(method, one.root(), b"{}")[0] == 405


def test_token_stands_in_no_log_and_no_answer(ddi_server: Server, busy: tuple[Ddi, int]) -> None:
    one, _ = busy
    assert one.token
    liar = Ddi(ddi_server, "busy", token=one.token[:-1] + ("0" if one.token[-1] != "0" else "1"))
    status_code, _, body = liar.raw("GET", liar.root())
    assert status_code == 401
    assert one.token[:32].encode() not in body
    assert one.token[:32] not in json.dumps(ddi_server.api("GET", "refusals")[1])


def test_device_that_asks_all_the_time_is_slowed_down_and_named(ddi_server: Server) -> None:
    one = Ddi(ddi_server, "hurry")
    for _ in range(122):
        assert one.get()[0] == 200
    assert "too-often" in {row["code"] for row in one.twin()["refusals"]}


# Whatever the bytes


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["status", "execution", "result", "finished", "details", "mode", "data", "id"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_taken_or_refused_in_words(raw: bytes) -> None:
    for parse in (ddi_words.parse_feedback, ddi_words.parse_attributes):
        try:
            found = parse(raw)
        except FormatError:
            continue
        if isinstance(found, ddi_words.Feedback):
            assert found.execution in ddi_words.EXECUTIONS
            assert all(len(line) <= ddi_words.DETAIL_LENGTH and line.isprintable() for line in found.details)
        else:
            assert all(len(text) <= ddi_words.MAX_TEXT for pair in found.values.items() for text in pair)
