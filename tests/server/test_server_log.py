"""The release log: what is published is in it, and a server that lies about it is found by those who look."""

import json
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import databases
import pytest
from databases import BOTH, beside
from lifeline import HANG_S
from server_world import Built, Keys, Server, fota, new_key

from fota_server import release_log
from fota_server.config import load_config
from fota_server.service import open_database
from fota_wire import host_keys, host_note, host_tlog, host_tree
from fota_wire.host_note import LOG
from fota_wire.host_tree import leaf_hash

DATABASES = BOTH
NAMES = ("1.0.0", "1.1.0", "1.2.0")
SWAP = "UPDATE log_leaves SET entry = (SELECT entry FROM log_leaves WHERE position = 1) WHERE position = 0"


@pytest.fixture
def own(keys: Keys, releases: dict[str, Built], tmp_path: Path, database_kind: str) -> Iterator[Server]:
    """A server of the test's own, with two releases."""
    server = Server(keys, tmp_path / "data").init().start()
    for name in NAMES[:2]:
        assert server.publish(releases[name])[0] == 201
    yield server
    code, said = server.stop()
    assert (code, "Traceback" in said) == (0, False), said


class Watcher:
    """Somebody with the log's public key, a token, a witness's key and files of their own."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        done = fota("server", "log-key", "--data", str(server.data))
        assert done.returncode == 0, done.stderr
        self.key = self.write("log.pub", done.stdout)
        self.last = folder / "last"
        self.cosigned = folder / "cosigned"
        done = fota("log", "new-witness", "witness.example/w", "-o", str(folder / "witness.key"))
        assert done.returncode == 0, done.stderr
        self.witness_key = self.write("witness.pub", done.stdout)

    def write(self, name: str, text: str) -> Path:
        (self.folder / name).write_text(text)
        return self.folder / name

    def run(self, command: str, *more: str, token: bool = True) -> subprocess.CompletedProcess[str]:
        words = ["log", command, "--key", str(self.key), "--server", self.server.operator_url]
        words += ["--ca", str(self.server.keys.server_ca)]
        words += ["--token-file", str(self.server.data / "operator.token")] if token else []
        return fota(*words, *more)

    def verify(self, *more: str) -> str:
        """Look, and return what was said; it says "no" by exit code 1 and one line."""
        return self.said(self.run("verify", "--last", str(self.last), *more))

    def witness(self, **how: bool) -> str:
        key = str(self.folder / "witness.key")
        return self.said(self.run("witness", "--last", str(self.cosigned), "--witness-key", key, **how))

    @staticmethod
    def said(done: subprocess.CompletedProcess[str]) -> str:
        if done.returncode == 0:
            return done.stdout
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
        return done.stderr


@pytest.fixture
def watcher(own: Server, tmp_path: Path) -> Watcher:
    return Watcher(own, tmp_path)


def lie(server: Server, *statements: str, sign: bool = True) -> None:
    """Alter the log's tables by hand, as who owns the database can; ``sign``: and has the log's key."""
    assert server.stop()[0] == 0
    path = server.data / "fota.db"
    with beside(path) as connection:
        for table in ("log_leaves", "log_heads"):
            for verb in ("update", "delete", "truncate"):
                on = "" if databases.kind == databases.SQLITE else f" ON {table}"
                connection.execute(f"DROP TRIGGER IF EXISTS {table}_no_{verb}{on}")
        for sql in statements:
            connection.execute(sql)
        if sign:
            connection.execute("DELETE FROM log_heads")
    server.start()


def leaves_of(server: Server) -> list[bytes]:
    return [bytes(row["entry"]) for row in server.rows("SELECT entry FROM log_leaves ORDER BY position")]


def raw_get(server: Server, path: str, token: str | None) -> tuple[int, bytes, str]:
    context = ssl.create_default_context(cafile=str(server.keys.server_ca))
    with closing(HTTPSConnection("127.0.0.1", server.operator_port, context=context, timeout=HANG_S)) as to:
        to.request("GET", f"/api/v1/{path}", headers={"authorization": f"Bearer {token}"} if token else {})
        answer = to.getresponse()
        return answer.status, answer.read(), answer.headers["content-type"]


# What is in it


def test_each_release_has_a_leaf_that_anybody_can_make_of_it_and_the_head_over_all_is_signed(
    own: Server, releases: dict[str, Built]
) -> None:
    listed = own.api("GET", "releases")[1]["releases"]
    leaves = leaves_of(own)
    for built, item, raw in zip((releases[name] for name in NAMES[:2]), listed, leaves, strict=True):
        assert (
            raw
            == host_tlog.Entry(
                built.manifest_digest,
                bytes.fromhex(item["class_id"]),
                built.version,
                item["sequence"],
                item["published_at"],
            ).encode()
        )
    status, raw, media = raw_get(own, "log/checkpoint", own.token)
    assert (status, media) == (200, "text/plain; charset=utf-8")
    key = host_note.read_public_key(fota("server", "log-key", "--data", str(own.data)).stdout, LOG)
    says, _ = host_note.open_checkpoint(raw, key)
    nodes = host_tree.nodes_over([leaf_hash(leaf) for leaf in leaves])
    assert (says.size, says.root) == (2, host_tree.root_of(nodes, 2))
    assert raw_get(own, "log/tile/entries/000.p/2", own.token)[:2] == (200, host_tlog.pack(leaves))
    hashes = b"".join(map(leaf_hash, leaves))
    assert raw_get(own, "log/tile/0/000.p/2", own.token) == (200, hashes, "application/octet-stream")
    assert raw_get(own, "log/tile/0/000.p/1", own.token)[:2] == (200, hashes[:32])
    for path in (
        "0/000.p/3",
        "0/000",
        "1/000.p/1",
        "63/000",
        "0/001.p/1",
        "0/0",
        "x/000",
        "entries/000/.p/1",
    ):
        status, body, _ = raw_get(own, f"log/tile/{path}", own.token)
        assert (status, json.loads(body)["error"]["code"]) == (404, "unknown-tile")


def test_log_is_the_tokens_alone_until_the_configuration_says_that_it_is_everybodys(
    own: Server, watcher: Watcher
) -> None:
    assert raw_get(own, "log/checkpoint", None)[0] == 401
    assert raw_get(own, "log/tile/0/000.p/2", None)[0] == 401
    assert watcher.run("show", token=False).returncode == 1
    own.stop()
    own.configure(log_public=True)
    own.start()
    assert raw_get(own, "log/checkpoint", None)[0] == 200
    assert raw_get(own, "log/tile/0/000.p/2", None)[0] == 200
    assert raw_get(own, "releases", None)[0] == 401
    done = watcher.run("show", "--json", token=False)
    assert [leaf["version"] for leaf in json.loads(done.stdout)["leaves"]] == list(NAMES[:2])
    assert "signed" in watcher.witness(token=False)


def test_withdrawn_release_stays_in_the_log(own: Server, watcher: Watcher) -> None:
    before = leaves_of(own)
    assert own.api("POST", "releases/1.0.0/withdraw")[0] == 200
    assert "2 release(s)" in watcher.verify()
    assert leaves_of(own) == before


def test_tables_of_the_log_only_grow(own: Server) -> None:
    with beside(own.data / "fota.db") as connection:
        for sql in (
            "UPDATE log_leaves SET position = 9",
            "DELETE FROM log_leaves",
            "UPDATE log_heads SET size = 9",
            "DELETE FROM log_heads",
        ):
            with pytest.raises(Exception, match="append-only"):
                connection.execute(sql)


def test_release_that_is_refused_leaves_no_leaf(own: Server, keys: Keys, releases: dict[str, Built]) -> None:
    before = leaves_of(own)
    old = releases["1.2.0"]
    envelope = keys.envelope(old.file, 1)
    status, _ = own.publish(Built(old.version, old.file, envelope))
    assert (status, leaves_of(own)) == (409, before)
    assert own.publish(releases["1.1.0"])[0] == 200, "published already"
    assert leaves_of(own) == before


def test_releases_of_before_get_their_leaves_in_the_order_of_their_publication(
    own: Server, watcher: Watcher
) -> None:
    before = leaves_of(own)
    before_it = "UPDATE alembic_version SET version_num = '0019'"
    unsigned = "DELETE FROM meta WHERE key = 'log_key'"
    lie(own, "DROP TABLE log_leaves", "DROP TABLE log_heads", before_it, unsigned, sign=False)
    assert leaves_of(own) == before
    assert "2 release(s), 2 new" in watcher.verify()


# The key


def test_key_is_made_by_init_kept_to_itself_printed_and_never_made_anew_by_itself(
    keys: Keys, releases: dict[str, Built], tmp_path: Path, database_kind: str
) -> None:
    server = Server(keys, tmp_path / "data").init().start()
    key = server.data / "keys" / "log.key"
    assert key.stat().st_mode & 0o777 == 0o600
    printed = fota("server", "log-key", "--data", str(server.data)).stdout
    assert host_note.read_public_key(printed, LOG).name.startswith("fota-log/")
    server.stop()
    kept = key.read_bytes()
    key.unlink()
    server.start()
    status, answer = server.publish(releases["1.0.0"])
    assert (status, answer["error"]["code"]) == (409, "log-key")
    assert not key.exists()
    assert server.rows("SELECT id FROM releases") == []
    server.stop()
    key.write_bytes(kept)
    key.chmod(0o600)
    server.start()
    assert server.publish(releases["1.0.0"])[0] == 201
    server.stop()
    key.chmod(0o644)
    done = fota("server", "run", "--data", str(server.data), "--port", "0")
    assert (done.returncode, "chmod 600" in done.stderr) == (3, True)


def test_new_key_goes_on_with_the_log_and_is_told_by_who_watches(
    own: Server, watcher: Watcher, releases: dict[str, Built]
) -> None:
    assert "2 new" in watcher.verify()
    assert "stop it first" in fota("server", "log-key", "--data", str(own.data), "--new").stderr
    own.stop()
    done = fota("server", "log-key", "--data", str(own.data), "--new")
    assert done.returncode == 0, done.stderr
    own.start()
    assert own.publish(releases["1.2.0"])[0] == 201
    assert "not signed by fota-log/" in watcher.verify()
    watcher.write("log.pub", done.stdout)
    watcher.last.unlink()
    assert "3 release(s)" in watcher.verify()


# Who watches


def test_who_watches_sees_it_grow_and_a_witness_signs_what_goes_on(
    own: Server, watcher: Watcher, releases: dict[str, Built]
) -> None:
    assert "2 release(s), 2 new" in watcher.verify()
    assert "2 leaf(s)" in watcher.witness()
    assert own.publish(releases["1.2.0"])[0] == 201
    assert "3 leaf(s)" in watcher.witness()
    cosigned = ("--cosigned", str(watcher.cosigned), "--witness", str(watcher.witness_key))
    assert "3 release(s), 1 new; none hidden, none changed" in watcher.verify(*cosigned)
    assert "3 release(s), 0 new" in watcher.verify(*cosigned)
    assert watcher.last.read_bytes() == raw_get(own, "log/checkpoint", own.token)[1]


def test_server_says_by_doctor_that_its_log_is_whole(own: Server) -> None:
    done = fota("server", "doctor", "--data", str(own.data))
    assert "release log   whole, 2 leaf(s)" in done.stdout, done.stdout + done.stderr


LIES = {
    # by somebody with the key: what was signed holds, and is not what was there before
    "taken back": (
        ("DELETE FROM log_leaves WHERE position = 1",),
        True,
        "the log was taken back: it has 1 leaf(s), and had 2 at the last look",
    ),
    "altered": (
        (SWAP,),
        True,
        "the log is another one: its first 2 leaf(s) are not those at the last look",
    ),
    # by somebody with the database alone
    "altered, not signed": (
        (SWAP,),
        False,
        "are not those of the checkpoint that it signed",
    ),
    "leaf taken away, not signed": (
        ("DELETE FROM log_leaves WHERE position = 1",),
        False,
        "the server does not show tile/",
    ),
    "head of another": (
        ("UPDATE log_heads SET note = replace(note, 'A', 'B')",),
        False,
        "fota: error: ",  # what the letters were of is another each time
    ),
}


@pytest.mark.parametrize("case", LIES)
def test_log_that_was_altered_is_found_by_who_watches_and_by_witnesses_and_nothing_is_kept(
    own: Server, watcher: Watcher, releases: dict[str, Built], case: str
) -> None:
    statements, sign, said = LIES[case]
    assert "2 new" in watcher.verify()
    assert "2 leaf(s)" in watcher.witness()
    kept = watcher.last.read_bytes(), watcher.cosigned.read_bytes()
    lie(own, *statements, sign=sign)
    assert said in watcher.verify()
    assert said.replace("leaves are", "tiles are") in watcher.witness()
    assert (watcher.last.read_bytes(), watcher.cosigned.read_bytes()) == kept
    if case == "leaf taken away, not signed":  # its release is there, and makes it anew
        assert own.publish(releases["1.2.0"])[0] == 201
        assert "3 release(s), 1 new" in watcher.verify()
    elif not sign:
        status, answer = own.publish(releases["1.2.0"])
        assert (status, answer["error"]["code"]) == (409, "log-altered")
        doctor = fota("server", "doctor", "--data", str(own.data))
        assert (doctor.returncode, "the release log was altered" in doctor.stdout + doctor.stderr) == (
            1,
            True,
        )


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "UPDATE releases SET version = '1.1.1' WHERE version = '1.1.0'",
            "is another one in the log: 1.1.0,",
        ),
        ("UPDATE releases SET published_at = 5 WHERE version = '1.1.0'", "is another one in the log: 1.1.0,"),
        (f"UPDATE releases SET manifest_digest = '{'5' * 64}' WHERE version = '1.1.0'", "is not in the log"),
        ("DELETE FROM log_leaves WHERE position = 1", "release 1.1.0 ({digest}) is not in the log"),
    ],
)
def test_list_that_is_not_that_of_the_log_is_found(
    own: Server, watcher: Watcher, releases: dict[str, Built], statement: str, said: str
) -> None:
    lie(own, statement)
    assert said.format(digest=releases["1.1.0"].manifest_digest.hex()[:16]) in watcher.verify()
    assert not watcher.last.exists()
    doctor = fota("server", "doctor", "--data", str(own.data))
    assert doctor.returncode == 1


def test_release_that_the_list_hides_is_found(own: Server, watcher: Watcher) -> None:
    lie(
        own,
        "DROP TABLE log_leaves",
        "CREATE TABLE log_leaves AS"
        " SELECT 0 AS position, 1 AS release_id, envelope AS entry FROM releases WHERE 1 = 0",
        sign=False,
    )
    entries = [host_tlog.Entry(bytes([n]) * 32, bytes(16), f"9.9.{n}", n, n).encode() for n in range(1)]
    with beside(own.data / "fota.db") as connection:
        connection.execute("DELETE FROM log_heads")
        connection.executemany(
            "INSERT INTO log_leaves VALUES (?, ?, ?)", [(n, n, raw) for n, raw in enumerate(entries)]
        )
        connection.execute("DELETE FROM release_chips")
        connection.execute("DELETE FROM release_keys")
        connection.execute("DELETE FROM releases")
    own.stop()
    own.start()
    assert "the list hides a release that is in the log: 9.9.0, sequence 0" in watcher.verify()


def test_two_customers_that_are_shown_two_logs_find_it_by_a_witness(
    own: Server, watcher: Watcher, releases: dict[str, Built], tmp_path: Path
) -> None:
    """A split view: the witness was shown one log, and whoever looks now another, both signed."""
    assert "2 leaf(s)" in watcher.witness()
    lie(
        own,
        SWAP,
    )
    cosigned = ("--cosigned", str(watcher.cosigned), "--witness", str(watcher.witness_key))
    said = watcher.verify(*cosigned)
    assert "the log is another one: its first 2 leaf(s) are not those that witness.example/w saw" in said
    stranger = fota("log", "new-witness", "other.example/w", "-o", str(tmp_path / "other.key")).stdout
    other = watcher.write("other.pub", stranger)
    said = watcher.verify("--cosigned", str(watcher.cosigned), "--witness", str(other))
    assert "signed by none of the witnesses that were named" in said


@pytest.mark.parametrize("content", [b"", b"\0", b"x\n1\nAAAA\n\n", b"\xff" * 100, b"a" * 20000])
def test_what_is_no_checkpoint_in_a_file_is_told_and_left_as_it_is(
    own: Server, watcher: Watcher, content: bytes
) -> None:
    watcher.last.write_bytes(content)
    done = watcher.run("verify", "--last", str(watcher.last))
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
    assert watcher.last.read_bytes() == content
    key = watcher.write("broken.pub", "no key")
    watcher.key = key
    done = watcher.run("show")
    assert (done.returncode, "broken.pub: not the public key of a log" in done.stderr) == (3, True)


def test_publication_that_dies_leaves_neither_release_nor_leaf_nor_head(
    own: Server, releases: dict[str, Built], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every statement of it that writes, as by a power cut before its commit."""
    own.stop()
    config = load_config(own.data, {})
    database = open_database(config.database_url, own.data)
    receipts = host_keys.in_memory(new_key())
    signer = release_log.LogKeys(release_log.load_key(own.data), receipts)
    try:

        def counts() -> list[int]:
            return [
                own.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"]
                for table in ("releases", "log_leaves", "log_heads")
            ]  # fmt: skip

        before = counts()
        for stop_at in range(1, 99):
            done = _publish_until(database, releases["1.2.0"], own.keys, signer, stop_at)
            if done:
                break
            assert counts() == before
        assert stop_at > 4
        assert counts() == [n + 1 for n in before]
    finally:
        database.close()
        own.start()


def _publish_until(database: Any, built: Built, keys: Keys, signer: Any, stop_at: int) -> bool:
    from sqlalchemy import event

    from fota_server import operator_releases
    from fota_server.catalog import check_release
    from fota_wire import root as roots
    from fota_wire import suit
    from fota_wire.host_crypto import verify

    root = roots.open_genesis(keys.genesis, verify)
    manifest = suit.unsafe_read_manifest(built.envelope)
    release = check_release(manifest, built.envelope, built.file, root, {})
    done = 0

    class Cut(Exception):
        pass

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal done
        done += not statement.lstrip().upper().startswith(("SELECT", "PRAGMA"))
        if done == stop_at:
            raise Cut

    event.listen(database.engine, "before_cursor_execute", count)
    try:
        database.transact(operator_releases._store_release, release, [], root, "ci", signer)
    except Cut:
        return False
    finally:
        event.remove(database.engine, "before_cursor_execute", count)
    return True
