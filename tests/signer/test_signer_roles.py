"""Each key has one role: a key file that says what it is for is taken for nothing else."""

import json

import pytest

PASSWORD = {"FOTA_KEY_PASSWORD": "correct horse"}
ROLES = ("root", "release", "image", "assign")
MODEL = ("--vendor-domain", "example.com", "--model", "demo")


@pytest.fixture
def keys(fota):
    """ROLE.pem and ROLE.pub of each role, as `fota keys` makes them."""
    for role in ROLES:
        for words in (
            ("new", f"{role}/x", "-o", f"{role}.pem"),
            ("public", f"{role}.pem", "-o", f"{role}.pub"),
        ):
            result = fota("keys", *words, env=PASSWORD)
            assert result.returncode == 0, result.stderr


def root_words(**changes):
    named = {"root": "root", "release": "release", "assign": "assign"} | changes
    words = [word for role, key in named.items() for word in (f"--{role}-key", f"{key}.pub")]
    return (
        "root",
        "new",
        *words,
        "--root-threshold",
        "1",
        "--release-threshold",
        "1",
        "-o",
        "r.cbor",
        "--force",
    )


@pytest.mark.parametrize("role", ["root", "release", "assign"])
def test_image_is_signed_by_no_key_of_another_role(fota, refused, keys, tmp_path, role):
    (tmp_path / "fw.bin").write_bytes(b"\x00\x00\x01\x20\x01\x43\x00\x08" + bytes(600))
    words = (
        "sign",
        "fw.bin",
        "--linked-for",
        "0x08004200",
        "-o",
        "fw.img",
        "--version",
        "1.0.0",
        "--security-counter",
        "1",
        *MODEL,
    )
    says = f"{role}.pem: the key {role}/x; what is wanted here is a key of role image"
    refused(3, *words, "--key", f"{role}.pem", says=says, env=PASSWORD)
    refused(3, *words, "--key", f"{role}.pem", says=says)  # before the password is asked for
    assert not (tmp_path / "fw.img").exists()


@pytest.mark.parametrize("role", ["root", "release", "assign"])
def test_root_names_no_key_for_another_role(fota, refused, keys, role):
    assert fota(*root_words()).returncode == 0
    refused(
        3,
        *root_words(**{role: "image"}),
        says=f"image.pub: the key image/x; what is wanted here is a key of role {role}",
    )


def test_root_names_a_retired_image_key_and_no_other_key_as_one(fota, refused, keys):
    told = fota(*root_words(), "--retire-image-key", "image.pub", "--json")
    shown = json.loads(fota("keys", "show", "image.pub", "--json").stdout)
    assert json.loads(told.stdout)["retired_image_keys"] == [shown["keyhash"]]
    refused(3, *root_words(), "--retire-image-key", "root.pub", says="a key of role image")


def test_root_is_signed_by_no_key_of_another_role(fota, refused, keys):
    refused(3, *root_words(), "--sign", "release.pem", says="a key of role root", env=PASSWORD)


def test_element_gets_no_root_of_another_role(fota, refused, keys):
    """What lies in its slots is there for ever."""
    words = "provision", "plan", "--image-key-a", "image.pub", "--image-key-b", "root.pub", "-o", "plan.json"
    refused(3, *words, says="root.pub: the key root/x; what is wanted here is a key of role image")


def test_key_that_does_not_say_what_it_is_for_is_taken(fota, keys, tmp_path):
    text = (tmp_path / "image.pub").read_text()
    assert text.startswith("# fota image/x ")
    (tmp_path / "release.pub").write_text(text.split("\n", 1)[1])
    assert fota(*root_words()).returncode == 0
