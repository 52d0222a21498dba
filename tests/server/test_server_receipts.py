"""Where ROOT names LOG keys, devices take only what is in the release log: the server proves it to them, and
publishes nothing that it cannot prove. The device has the last word (tests/agent/test_agent_log.py).
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import databases
import pytest
from databases import BOTH, beside
from server_world import Built, Device, Keys, Server, assign_pem, build_release, fota, key_pem, new_key

from fota_wire import cbor, host_crypto, host_tree, receipt, suit
from fota_wire import root as roots
from fota_wire.host_tlog import read_entry

DATABASES = BOTH
LOG = new_key()


@pytest.fixture
def own(keys: Keys, tmp_path: Path, database_kind: str) -> Iterator[Server]:
    """A server of the test's own, which has a LOG key from its second start on."""
    server = Server(keys, tmp_path / "data").init().start()
    yield server
    code, said = server.stop()
    assert (code, "Traceback" in said) == (0, False), said


def give_key(own: Server, key: Any = LOG) -> str:
    """Start the server anew with a LOG key; return what it said before that."""
    _, said = own.stop()
    pem = own.data / "keys/receipt.pem"
    pem.write_bytes(b"# fota log/test 0\n" + key_pem(key))
    pem.chmod(0o600)
    own.configure(receipt_key="keys/receipt.pem")
    own.start()
    return said


def built_one(keys: Keys, own: Server, version: str, number: int) -> Built:
    made = build_release(keys, version, number, number)
    status, answer = own.publish(made)
    assert status == 201, answer
    return made


def device(own: Server, *, receipts: bool = True) -> Device:
    made = Device(own)
    made.receipts = receipts
    made.check_in()
    return made


def want_log(own: Server, keys: Keys, version: int = 2, *more: Any) -> tuple[int, Any]:
    return own.api("POST", "roots", raw=keys.root_document(version, log=(LOG, *more)))


def brought(one: Device) -> Any:
    """Have a device check in until it is given something, and return the envelope."""
    for _ in range(3):
        answer = one.check_in()
        if answer.response.manifest is not None:
            return answer.response.manifest
    raise AssertionError("nothing was brought")


def prove(one: Device, envelope: Any, built: Built) -> list[Any]:
    """Look at a proof as a device does, and return leaf, place and size."""
    raw = suit.parse_envelope(envelope).receipt
    assert raw is not None
    receipt.require_logged(raw, built.manifest_digest, one.root, host_crypto.verify)
    return list(cbor.decode(raw)[:3])  # type: ignore[index]


def test_device_gets_each_release_with_its_proof_those_of_before_too_and_an_agent_of_before_without(
    own: Server, keys: Keys
) -> None:
    first = built_one(keys, own, "1.0.1", 2)
    give_key(own)
    second = built_one(keys, own, "1.1.0", 3)
    new, old = device(own), device(own, receipts=False)
    for one in (new, old):
        own.api("POST", "rollouts", {"version": "1.0.1", "device": one.id})
    assert brought(old) == first.envelope
    proved = brought(new)
    assert suit.without_receipt(proved) == first.envelope
    assert suit.parse_envelope(proved).receipt is not None  # before any ROOT asks for it
    old.receipts = True
    old.check_in()
    assert want_log(own, keys)[0] == 201
    new.check_in()
    leaf, place, size = prove(new, proved, first)
    assert (read_entry(leaf).version, place, size) == ("1.0.1", 0, 1)
    own.api("POST", "rollouts", {"version": "1.1.0", "device": new.id})
    new.take(first, state="confirmed")
    new.held = None
    envelope = brought(new)
    leaf, place, size = prove(new, envelope, second)
    entries = [row["entry"] for row in own.rows("SELECT entry FROM log_leaves ORDER BY position")]
    assert (leaf, place, size) == (bytes(entries[1]), 1, 2), "the very leaf of the log"
    nodes = host_tree.nodes_over([host_tree.leaf_hash(bytes(entry)) for entry in entries])
    raw = suit.parse_envelope(envelope).receipt
    assert raw is not None
    assert cbor.decode(raw)[3] == host_tree.inclusion(nodes, 1, 2)  # type: ignore[index]


def test_root_that_would_lose_devices_or_this_server_is_not_published(own: Server, keys: Keys) -> None:
    of_before = device(own, receipts=False)
    status, answer = want_log(own, keys)
    assert (status, answer["error"]["code"]) == (409, "root-danger")
    assert "this server has none: receipt_key" in answer["error"]["message"]
    assert (
        f"a ROOT with LOG keys, and would refuse it and all after it ({of_before.id})"
        in answer["error"]["message"]
    )
    give_key(own)
    of_before.receipts = True
    of_before.close()
    of_before.check_in()
    two = roots.build_root(
        2,
        {
            **_roles(keys),
            roots.LOG: (2, [host_crypto.public_xy(LOG), host_crypto.public_xy(keys.release[2])]),
        },
    )
    for key in keys.root[:2]:
        xy = host_crypto.public_xy(key)
        two = roots.FORM.add_signature(two, receipt.cose.kid_of(xy), host_crypto.signer(key))
    assert "wants 2 signatures under each RECEIPT" in own.api("POST", "roots", raw=two)[1]["error"]["message"]
    assert own.api("POST", "roots", raw=keys.root_document(2, log=(new_key(),)))[0] == 409
    assert want_log(own, keys)[0] == 201


def _roles(keys: Keys) -> dict[int, Any]:
    xy = host_crypto.public_xy
    return {
        roots.ROOT: (2, [xy(key) for key in keys.root]),
        roots.RELEASE: (2, [xy(key) for key in keys.release]),
        roots.ASSIGN: (1, [xy(keys.assign)]),
    }


def test_server_without_the_key_that_root_names_publishes_nothing_and_serves_on(
    own: Server, keys: Keys
) -> None:
    give_key(own)
    assert want_log(own, keys)[0] == 201
    first = built_one(keys, own, "1.1.0", 2)
    one = device(own)
    own.stop()
    own.configure(receipt_key="")
    own.start()
    made = build_release(keys, "1.2.0", 3, 3)
    status, answer = own.publish(made)
    assert (status, answer["error"]["code"]) == (409, "receipt-key")
    assert len(own.rows("SELECT id FROM releases")) == len(own.rows("SELECT position FROM log_leaves")) == 1
    own.api("POST", "rollouts", {"version": "1.1.0", "device": one.id})
    one.close()
    envelope = brought(one)
    prove(one, envelope, first)
    _, said = own.stop()
    assert "nothing is published: ROOT 2 wants RECEIPTs by LOG key" in said
    own.start()


def test_another_key_makes_all_proofs_anew(own: Server, keys: Keys) -> None:
    give_key(own)
    built_one(keys, own, "1.1.0", 2)
    other = new_key()
    assert want_log(own, keys, 2, other)[0] == 201
    before = own.rows("SELECT receipt FROM releases")
    give_key(own, other)
    (row,) = own.rows("SELECT receipt FROM releases")
    assert row not in before
    kid = receipt.cose.kid_of(host_crypto.public_xy(other))
    assert receipt.signers_of(bytes(row["receipt"])) == [kid]


def test_leaves_that_do_not_hold_are_proved_to_nobody(own: Server, keys: Keys) -> None:
    built_one(keys, own, "1.1.0", 2)
    own.stop()
    with beside(own.data / "fota.db") as connection:
        for table in ("log_leaves", "log_heads"):
            on = "" if databases.kind == databases.SQLITE else f" ON {table}"
            connection.execute(f"DROP TRIGGER IF EXISTS {table}_no_update{on}")
        connection.execute("UPDATE log_leaves SET entry = ?", (b"another",))
    own.start()
    said = give_key(own)
    assert "nothing is published: the release log was altered" in said
    assert own.rows("SELECT receipt FROM releases") == [{"receipt": None}]


def test_envelope_that_brings_a_proof_of_elsewhere_is_published_without_it(own: Server, keys: Keys) -> None:
    made = build_release(keys, "1.1.0", 2, 2)
    status, _ = own.publish(
        Built(made.version, made.file, suit.with_receipt(made.envelope, b"of another log"))
    )
    assert status == 201
    assert [bytes(row["envelope"]) for row in own.rows("SELECT envelope FROM releases")] == [made.envelope]


def test_longest_envelope_has_room_for_the_proof_of_any_tree() -> None:
    text = bytes(1024)
    manifest = suit.build_manifest(1 << 62, bytes(16), bytes(16), bytes(32), 0xFFFFFFFF, text)
    blocks = [receipt.sign_tree(1 << 62, bytes(32), bytes(8), lambda _: b"\1" * 64)] * suit.MAX_SIGNATURES
    envelope = suit.build_envelope(manifest, blocks, text)
    raw = receipt.build_receipt(bytes(256), 1 << 40, 1 << 48, bytes(48 * 32), blocks[0])
    assert len(suit.with_receipt(envelope, raw)) <= suit.MAX_ENVELOPE


def cli(own: Server, *words: str) -> subprocess.CompletedProcess[str]:
    by = ["--server", own.operator_url, "--ca", str(own.keys.server_ca)]
    return fota(*words, *by, "--token-file", str(own.data / "operator.token"))


def test_card_gets_the_envelope_with_its_proof_and_a_second_tree_is_found_by_it(
    own: Server, keys: Keys, tmp_path: Path
) -> None:
    key = tmp_path / "log.pub"
    key.write_text(fota("server", "log-key", "--data", str(own.data)).stdout)
    made = built_one(keys, own, "1.1.0", 2)
    manifest, card = tmp_path / "app.suit", tmp_path / "manifest.suit"
    manifest.write_bytes(made.envelope)
    put = ["log", "receipt", "1.1.0", str(manifest), "-o", str(card)]
    look = ["log", "verify", "--key", str(key), "--last", str(tmp_path / "last"), "--receipt"]
    done = cli(own, *put)
    assert (done.returncode, card.exists()) == (1, False)
    assert "has no RECEIPT" in done.stderr
    give_key(own)
    assert cli(own, *put).returncode == 0
    assert suit.without_receipt(card.read_bytes()) == made.envelope
    other = build_release(keys, "1.2.0", 3, 3)
    manifest.write_bytes(other.envelope)
    assert "not the manifest of release 1.1.0" in cli(own, *put, "--force").stderr
    assert cli(own, *look, str(card)).returncode == 0
    assert "no RECEIPT in the envelope" in cli(own, *look, str(manifest)).stderr
    built_one(keys, own, "1.2.0", 3)
    assert cli(own, *look, str(card)).returncode == 0, "an earlier tree of the log"
    leaf = receipt.LEAF + made.manifest_digest
    kid = receipt.cose.kid_of(host_crypto.public_xy(LOG))
    sign = host_crypto.signer(LOG)
    for size, word in ((1, "the log is another one"), (5, "the log was taken back")):
        path = bytes(32 * (size > 1) * 3)
        tree = cbor.decode(receipt.merkle.unsafe_open(cbor.encode([leaf, 0, size, path, b""]), "", 9, 1)[1])
        secret = receipt.build_receipt(leaf, 0, size, path, receipt.sign_tree(*tree, kid, sign))  # type: ignore[misc]
        receipt.require_logged(
            secret, made.manifest_digest, _root(keys), host_crypto.verify
        )  # a device takes it
        card.write_bytes(suit.with_receipt(made.envelope, secret))
        done = cli(own, *look, str(card))
        assert (done.returncode, word in done.stderr) == (1, True), done.stderr
        assert kid.hex() in done.stderr


def _root(keys: Keys) -> roots.Root:
    return roots.open_genesis(keys.root_document(1, log=(LOG,)), host_crypto.verify)


@pytest.mark.parametrize(
    ("named", "code", "word"),
    [
        ("wrong.pem", 3, "role log"),
        ("keys/none.pem", 3, "No such file"),
        ("pkcs11:nonsense", 3, "pkcs11"),
        ("awskms:///alias/none?region=nowhere&x=y", 3, "awskms"),
    ],
)
def test_key_that_is_none_ends_the_start_in_one_line(own: Server, named: str, code: int, word: str) -> None:
    (own.data / "wrong.pem").write_bytes(assign_pem(LOG))
    own.stop()
    own.configure(receipt_key=named)
    done = fota("server", "run", "--data", str(own.data), "--port", "0")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), done.stderr
    assert word in done.stderr
    own.configure(receipt_key="")
    own.start()
