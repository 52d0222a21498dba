"""The server takes images in Espressif's form by the same door: key, class, sequence; a device gets them."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import esp_world
import pytest
from esp_refused import REFUSED, image_of
from server_world import CLASS, Built, Device, Keys, Server, image_key, new_key

from fota_signer import esp_pack
from fota_wire import host_crypto, host_keys
from fota_wire.status import label

XY = host_crypto.public_xy(image_key())


@pytest.fixture
def own(keys: Keys, tmp_path: Path) -> Iterator[Server]:
    running = Server(keys, tmp_path / "data").init().start()
    assert running.api("POST", "roots", raw=keys.root_document(2, image_keys=(XY,)))[0] == 201
    yield running
    assert running.stop()[0] == 0


def built(keys: Keys, sequence: int, *, class_id: bytes = CLASS, key: object = None) -> Built:
    signer = host_keys.in_memory(key or image_key())
    block = esp_pack.block_for((1, sequence, 0, 0), sequence, class_id, signer)
    file = esp_pack.sign(esp_world.application(seed=sequence), block, signer)
    return Built(f"1.{sequence}.0", file, keys.envelope(file, sequence))


def test_release_of_an_esp32_is_published_and_offered(own: Server, keys: Keys) -> None:
    one = built(keys, 2)
    status, answer = own.publish(one)
    assert (status, answer["image_signature"]) == (201, "verified")
    (row,) = own.rows("SELECT * FROM releases")
    assert row["image_hash"] == hashlib.sha256(one.file[:-4096]).hexdigest()
    assert (row["file_digest"], row["sec_cnt"]) == (one.digest, 2)
    device = Device(own)
    device.check_in()
    assert own.api("POST", "rollouts", {"version": "1.2.0", "device": device.id})[0] == 201
    assert device.check_in().assignment.manifest_digest == one.manifest_digest


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"key": new_key()}, "which devices do not know"),
        ({"class_id": bytes(16)}, "the manifest is for class"),
    ],
)
def test_image_that_no_device_could_take_is_refused(
    own: Server, keys: Keys, change: dict[str, object], says: str
) -> None:
    status, answer = own.publish(built(keys, 2, **change))
    assert status == 409
    assert says in answer["error"]["message"]
    assert own.rows("SELECT * FROM releases") == []


def test_unsigned_and_damaged_images_are_refused(own: Server, keys: Keys) -> None:
    good = built(keys, 2).file
    changed = bytearray(good)
    changed[0x400] ^= 1
    refusals = {good[:-4096]: "it has no signature sector", bytes(changed): "content does not match"}
    for file, says in refusals.items():
        status, answer = own.publish(Built("1.2.0", file, keys.envelope(file, 2)))
        assert (status, says in answer["error"]["message"]) == (409, True), answer
    assert own.rows("SELECT * FROM releases") == []


def test_each_thing_that_can_be_wrong_with_an_image_is_refused_by_its_status(own: Server, keys: Keys) -> None:
    for name, (_, code) in REFUSED.items():
        file = image_of(name)
        status, answer = own.publish(Built("1.1.0", file, keys.envelope(file, 2)))
        if code is not None:
            assert (status, answer["error"]["code"]) == (409, label(code).split()[1]), (name, answer)
    assert own.rows("SELECT * FROM releases") == []
