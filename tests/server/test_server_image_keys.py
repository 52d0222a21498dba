"""The server knows the IMAGE keys, by ROOT or by its settings: what no device could take is not published,
and uses up no version.
"""

import dataclasses
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from server_world import FOTA, Built, Device, Keys, Server, build_release, image_key, new_key

from fota_wire import cose, der, host_crypto, suit
from fota_wire import root as roots
from fota_wire.errors import FormatError

XY = host_crypto.public_xy(image_key())
OTHER = host_crypto.public_xy(new_key())


def public_pem(key: object) -> bytes:
    return key.public_key().public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.fixture
def own(keys: Keys, tmp_path: Path) -> Iterator[Server]:
    running = Server(keys, tmp_path / "data").init().start()
    yield running
    assert running.stop()[0] == 0


def with_broken_signature(keys: Keys, built: Built) -> Built:
    """The same release; one bit of the image's ECDSA signature is flipped, and the manifest made of that."""
    signature = der.from_raw(built.image.signature)
    at = built.file.rindex(signature) + len(signature) - 1
    file = built.file[:at] + bytes([built.file[at] ^ 1])
    manifest = suit.unsafe_read_manifest(built.envelope)
    return dataclasses.replace(built, file=file, envelope=keys.envelope(file, manifest.sequence))


def test_image_that_no_device_could_take_is_refused_and_the_good_one_published_after_it(
    own: Server, keys: Keys
) -> None:
    assert own.api("POST", "roots", raw=keys.root_document(2, image_keys=(OTHER, XY)))[0] == 201
    good = build_release(keys, "1.1.0", 2, 2)
    status, answer = own.publish(with_broken_signature(keys, good))
    says = "IM10 image-signature: the image's signature is wrong: sign it anew"
    assert (status, answer["error"]["message"]) == (409, says)
    assert own.rows("SELECT * FROM releases") == []
    status, answer = own.publish(good)
    assert (status, answer["image_signature"]) == (201, "verified")
    assert len(own.rows("SELECT * FROM releases")) == 1


def test_image_of_an_unknown_key_is_refused_by_its_name(own: Server, keys: Keys) -> None:
    assert own.api("POST", "roots", raw=keys.root_document(2, image_keys=(OTHER,)))[0] == 201
    status, answer = own.publish(build_release(keys, "1.1.0", 2, 2))
    assert status == 409
    assert f"signed by key {cose.kid_of(XY).hex()}, which devices do not know" in answer["error"]["message"]
    assert cose.kid_of(OTHER).hex() in answer["error"]["message"]
    assert own.rows("SELECT * FROM releases") == []


def test_release_of_a_key_that_root_names_no_more_is_neither_rolled_out_nor_offered(
    own: Server, keys: Keys, releases: dict[str, Built]
) -> None:
    assert own.publish(releases["1.1.0"])[1]["image_signature"] == "unchecked"
    first, second = Device(own), Device(own)
    for device in (first, second):
        device.check_in()
    assert own.api("POST", "rollouts", {"version": "1.1.0", "device": first.id})[0] == 201
    assert own.api("POST", "roots", raw=keys.root_document(2, image_keys=(OTHER,)))[0] == 201
    assert first.check_in().assignment.manifest_digest is None
    status, answer = own.api("POST", "rollouts", {"version": "1.1.0", "device": second.id})
    assert status == 409
    assert "which is no IMAGE key of ROOT 2" in answer["error"]["message"]


def test_configured_keys_count_until_root_names_some(keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "image.pem").write_bytes(public_pem(image_key()))
    own = Server(keys, tmp_path / "data").init("--image-key", str(tmp_path / "image.pem"))
    assert json.loads((own.data / "config.json").read_text())["image_keys"] == ["keys/image-key-1.pem"]
    (tmp_path / "image.pem").unlink()
    own.start()
    good = build_release(keys, "1.1.0", 2, 2)
    try:
        assert own.publish(with_broken_signature(keys, good))[0] == 409
        assert own.publish(good)[1]["image_signature"] == "verified"
        assert own.api("POST", "roots", raw=keys.root_document(2, image_keys=(OTHER,)))[0] == 201
        assert own.publish(build_release(keys, "1.2.0", 3, 3))[0] == 409
    finally:
        assert own.stop()[0] == 0


def test_setting_up_without_any_image_key_says_so(keys: Keys, tmp_path: Path) -> None:
    command = [*FOTA, "server", "init", "--data", str(tmp_path / "data"), "--keys", str(keys.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "warning: neither this ROOT nor --image-key names an IMAGE key" in done.stderr
    (tmp_path / "image.pem").write_bytes(public_pem(image_key()))
    command[command.index("--data") + 1] = str(tmp_path / "other")
    done = subprocess.run([*command, "--image-key", tmp_path / "image.pem"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "keys_named",
    [[], [bytes(63)], [bytes(64), bytes(64)], [bytes([n]) * 64 for n in range(5)], b"", ["x" * 64]],
)
def test_root_with_malformed_image_keys_is_refused(keys: Keys, keys_named: object) -> None:
    from fota_wire import cbor

    payload = cbor.decode(cbor.decode(keys.genesis)[0])
    payload[10] = keys_named
    with pytest.raises(FormatError, match=r"ROOT (names an )?image key"):
        roots.unsafe_read_root(cbor.encode([cbor.encode(payload)]))


def test_root_names_its_image_keys(keys: Keys) -> None:
    root = roots.open_genesis(keys.root_document(1, image_keys=(XY, OTHER)), host_crypto.verify)
    assert root.image_keys == {cose.key_hash(XY): XY, cose.key_hash(OTHER): OTHER}
    assert roots.open_genesis(keys.genesis, host_crypto.verify).image_keys == {}
    roots.step(root, keys.root_document(2), host_crypto.verify)  # which may say nothing of them again
