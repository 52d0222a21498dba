"""The statements of the hot path find their rows by an index, whatever the size of the fleet."""

from pathlib import Path

import pytest
from fleet_world import Fleet, device_id
from server_world import Keys
from sqlalchemy import Connection

from fota_server import facts, hand_out, heard, judging
from fota_server.device_plane import payload_asked
from fota_server.quick import Statement

HOT = {
    "what is known of devices": judging.TWINS,
    "what was heard of them": facts._CONTACT,
    "what they reported": facts._FACTS,
    "that they were heard": heard._SEEN,
    "that they said the same": heard._REPORTED,
    "and attested it": heard._ATTESTED,
    "how far they are": facts._MOVED,
    "the stop for everything": hand_out._SETTINGS,
    "open waves": hand_out._GATES,
    "a device and its payload": Statement(payload_asked()),
}


@pytest.fixture(scope="module")
def fleet(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    fleet = Fleet(Path(tmp_path_factory.mktemp("quick")) / "fota.db", keys)
    fleet.fill(50)
    return fleet


@pytest.mark.parametrize("what", HOT)
def test_no_statement_of_a_check_in_or_a_range_reads_a_whole_table(fleet: Fleet, what: str) -> None:
    def plan(connection: Connection) -> list[str]:
        statement = HOT[what]
        sizes = {"ids": 2} if "ids" in str(statement._query) else {}
        text, constants = statement.spelled(connection.dialect, **sizes)
        names = dict.fromkeys(statement._query.compile().params) | {"ids_1": None, "ids_2": None}
        cursor = connection.connection.cursor()
        cursor.execute(f"EXPLAIN QUERY PLAN {text}", names | constants)
        return [str(row[3]) for row in cursor.fetchall()]

    steps = fleet.database.transact(plan)
    assert steps
    assert not [step for step in steps if step.startswith("SCAN")]


@pytest.mark.parametrize("number", [1, 2, 3, 5, 8, 33])
def test_a_list_of_any_length_finds_each_of_its_rows_once(fleet: Fleet, number: int) -> None:
    wanted = [device_id(n) for n in range(number)]
    rows = fleet.database.transact(lambda c: judging.TWINS.rows(c, ids=[*wanted, "nobody"]))
    assert sorted(row.id for row in rows) == wanted
