"""An IMAGE key that ROOT retired: what it signed is published, rolled out and offered no more."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_world import Built, Device, Keys, Server, build_release, image_key

from fota_wire import cose, host_crypto
from fota_wire import root as roots
from fota_wire.errors import VerifyError

KEY_HASH = cose.key_hash(host_crypto.public_xy(image_key()))


@pytest.fixture
def own(keys: Keys, tmp_path: Path) -> Iterator[Server]:
    running = Server(keys, tmp_path / "data").init().start()
    yield running
    assert running.stop()[0] == 0


def test_nothing_of_a_retired_key_is_published_rolled_out_or_offered(
    own: Server, keys: Keys, releases: dict[str, Built]
) -> None:
    for version in ("1.1.0", "1.2.0"):
        assert own.publish(releases[version])[0] == 201
    first, second = Device(own), Device(own)
    for device in (first, second):
        device.check_in()
    assert own.api("POST", "rollouts", {"version": "1.1.0", "device": first.id})[0] == 201
    assert own.api("POST", "roots", raw=keys.root_document(2, retired=(KEY_HASH,)))[0] == 201
    assert first.check_in().assignment.manifest_digest is None, "its rollout was under way"
    for status, answer in (
        own.api("POST", "rollouts", {"version": "1.2.0", "device": second.id}),
        own.publish(build_release(keys, "1.3.0", 4, 4)),
    ):
        assert status == 409, answer
        assert "signed by an IMAGE key that ROOT 2 retired" in answer["error"]["message"]


def test_release_that_was_published_before_keys_were_noted_is_still_read(
    own: Server, releases: dict[str, Built]
) -> None:
    assert own.publish(releases["1.1.0"])[0] == 201
    assert own.stop()[0] == 0
    with sqlite3.connect(own.data / "fota.db") as beside:
        beside.execute("DROP TABLE release_keys")
        beside.execute("UPDATE alembic_version SET version_num = '0001'")
    beside.close()
    own.start()
    device = Device(own)
    device.check_in()
    assert own.api("POST", "rollouts", {"version": "1.1.0", "device": device.id})[0] == 201


def test_retired_key_is_not_taken_back(keys: Keys) -> None:
    first = roots.open_genesis(keys.root_document(1, retired=(KEY_HASH,)), host_crypto.verify)
    with pytest.raises(VerifyError, match="takes back that image key"):
        roots.step(first, keys.root_document(2), host_crypto.verify)
    kept = roots.step(first, keys.root_document(2, retired=(KEY_HASH,)), host_crypto.verify)
    assert kept.retired == [KEY_HASH]
