"""`fota release check`: what a release lacks against its policy, and that nothing is taken for it."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from release_world import elf_with, files_of, git

from fota_signer import identity, manifests, release_check, release_named
from fota_wire import suit
from fota_wire.errors import InputError


def test_release_is_complete_when_as_many_have_signed_as_root_asks_for(build, check, signs, fota):
    build()
    assert check() == {"signatures": "1 of 2 by ROOT 1; 1 more, of 3c7b6d19fb91f0be, 66c81e8f6a782338"}
    told = fota("release", "check", "release")
    assert told.returncode == 1
    assert told.stdout.endswith("\n\nrelease lacks 1 of 7\n")
    signs("release-2")
    assert check() == {}
    assert fota("release", "check", "release").stdout.endswith("\n\nrelease is complete\n")


def test_policy_may_ask_for_more_signatures_and_for_somebody_among_them(build, check, signs, product):
    product.change('root = "root.cbor"', 'root = "root.cbor"\nrelease = 3\nby = ["keys/release-3.pub.pem"]')
    build()
    signs("release-2")
    assert check() == {
        "signatures": "2 of 3 by ROOT 1; 1 more, of 3c7b6d19fb91f0be",
        "signed by keys/release-3.pub.pem": "3c7b6d19fb91f0be not yet",
    }
    signs("release-3")
    assert check() == {}


def test_signature_that_is_wrong_or_of_nobody_makes_no_release(build, check, signs, product, key_dir, fota):
    build()
    place = product.folder / "release/manifest.suit"
    good = place.read_bytes()
    place.write_bytes(
        suit.add_signature(good, bytes.fromhex("66c81e8f6a782338"), lambda digest: bytes(range(64)))
    )
    assert check() == {"signatures": "the signature of 66c81e8f6a782338 is wrong"}
    signs("release-3")  # enough, and a wrong one beside them is none the less the end of it
    assert check() == {"signatures": "the signature of 66c81e8f6a782338 is wrong"}
    place.write_bytes(suit.add_signature(good, bytes(8), lambda digest: bytes(range(64))))
    assert list(check()) == ["signatures"]


@pytest.mark.parametrize(
    ("minimum", "what", "says"),
    [
        (
            ("--min-sequence", 1_002_004),
            "signatures",
            "refused, however many sign: manifest sequence 1002003",
        ),
        (("--min-security-counter", 5), "image", "security counter 4 is below 5, the minimum of ROOT 1"),
    ],
)
def test_release_that_root_refuses_is_none(build, check, signs, product, new_root, minimum, what, says):
    build()
    signs("release-2")
    product.change('root = "root.cbor"', 'root = "build/root.cbor"')
    (product.folder / "build/root.cbor").write_bytes(new_root(*minimum))
    lacks = check()
    del lacks["sources"]  # the policy is another one
    assert set(lacks) == {what}
    assert says in lacks[what]


def test_manifest_of_another_vendor_about_the_same_image_is_found(build, check, product):
    told = build()
    image = (product.folder / "release" / told["image"]["file"]).read_bytes()
    theirs = identity.device_class(class_uuid=told["class"], domain="example.org", model=None)
    nothing = manifests.load_known(None, [])
    envelope = manifests.new_envelope(image, sequence=1_002_003, device_class=theirs, known=nothing)
    (product.folder / "release/manifest.suit").write_bytes(envelope)
    assert check()["image"].startswith("the manifest is of vendor ")


def test_published_keys_are_no_release_of_a_policy_that_refuses_them(build, check, signs, product):
    build()
    signs("release-2")
    product.policy = product.policy.replace("development-keys = false", "dirty = false")
    (product.folder / "fota.toml").write_text(product.policy)
    assert check() == {
        "image": "signed by 61cd11fd44620bd6, a published example key",
        "signers": "66c81e8f6a782338 is a published example key",
    }


def test_image_with_a_text_that_is_refused_is_found(build, check, signs, product):
    product.change("[refuse]", "[refuse]\ndirty = false")
    (product.folder / "build/app.elf").write_bytes(elf_with(b"ASSERTIONS ON"))
    build()
    signs("release-2")
    assert check() == {}
    (product.folder / "fota.toml").write_text(product.policy + 'texts = ["ASSERTIONS ON"]\n')
    assert check() == {"image": "has the text 'ASSERTIONS ON' in it: a build that is no release"}


def test_image_that_was_changed_taken_away_or_exchanged_is_found(build, check, signs, product):
    told = build()
    signs("release-2")
    place = product.folder / "release" / told["image"]["file"]
    good = place.read_bytes()
    place.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert set(check()) == {"image"}
    place.write_bytes(good + b"\0")
    assert set(check()) == {"image"}
    place.unlink()
    assert "No such file" in check()["image"]
    (product.folder / "build/app.elf").write_bytes(elf_with(b"another one"))
    other = build(output="release-2")
    place.write_bytes((product.folder / "release-2" / other["image"]["file"]).read_bytes())
    assert "another image file" in check()["image"]


def test_release_for_another_class_or_vendor_is_found(build, check, signs, product):
    build()
    signs("release-2")
    product.change("[refuse]", "[refuse]\ndirty = false")
    for old, new in (('model = "sensor"', 'model = "valve"'), ('"example.com"', '"example.org"')):
        (product.folder / "fota.toml").write_text(product.policy.replace(old, new))
        assert "image is for class 57f55ecbeaa3" in check()["image"]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("version", "1.2.4", "version"),
        ("sequence", 7, "sequence"),
        ("security_counter", "4", "security_counter"),
        ("class", "", "class"),
        ("image", [], "image.size"),
        ("manifest", {"digest": "00"}, "manifest.digest"),
    ],
)
def test_description_that_says_what_nobody_signed_is_found(build, check, signs, product, name, value, says):
    build()
    signs("release-2")
    place = product.folder / "release/release.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {name: value}))
    assert check() == {"release.json": f"says another {says}"}


def test_release_of_other_sources_than_lie_there_is_found(build, check, signs, product):
    told = build()
    signs("release-2")
    (product.folder / "main.c").write_text("int main;")
    assert "'main.c' differs from commit" in check()["sources"]
    here = product.commit("v1.2.4")
    assert check() == {
        "sources": f"the release is of commit {told['commit'][:12]}, and here lies {here[:12]}"
    }


def test_numbers_that_their_rules_do_not_come_to_are_found(build, check, signs, product):
    product.change("[refuse]", "[refuse]\ndirty = false")
    build()
    signs("release-2")
    (product.folder / "security-counter").write_text("5")
    (product.folder / "fota.toml").write_text(product.policy.replace("minor = 1_000", "minor = 2_000"))
    assert check() == {
        "sequence": "1002003, and by its rule 1004003",
        "security counter": "4, and by its rule 5",
    }
    git(product.folder, "tag", "v1.2.4")
    git(product.folder, "tag", "-d", "v1.2.3")
    assert check()["version"] == "1.2.3, and by its rule 1.2.4"


def test_release_of_a_changed_tree_is_found_where_that_is_refused(build, check, signs, product):
    (product.folder / "main.c").write_text("int main;")
    (product.folder / "fota.toml").write_text(product.policy.replace("[refuse]", "[refuse]\ndirty = false"))
    build()
    signs("release-2")
    assert check() == {}
    (product.folder / "main.c").unlink()
    git(product.folder, "checkout", "-q", "fota.toml")
    assert check() == {"sources": "the release was built of a tree that differed from its commit"}


def test_what_is_no_release_is_told_in_one_line(refused, build, product, tmp_path):
    refused(3, "release", "check", "none", says="none")
    refused(3, "release", "check", "build", says="build/release.json: No such file")
    build()
    refused(
        3, "release", "check", "release/manifest.suit", says="is a manifest, expected a folder with an update"
    )
    (product.folder / "root.cbor").write_bytes(b"\x83")
    refused(3, "release", "check", "release", says="root.cbor: ")
    (product.folder / "fota.toml").unlink()
    refused(3, "release", "check", "release", says="fota.toml: No such file")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.sampled_from(["release.json", "manifest.suit", "payload"]),
    st.integers(0, 10_000),
    st.binary(max_size=4),
    st.integers(0, 20),
)
def test_any_bytes_in_a_release_make_it_none(made_once, name, at, more, less):
    named, folder, files = made_once
    path = folder / (name if name != "payload" else next(key for key in files if key.startswith("payload")))
    raw = files[str(path.relative_to(folder))]
    at %= len(raw)
    changed = raw[:at] + more + raw[at + less :]
    path.write_bytes(changed)
    said = ""
    try:
        rows = release_check.check(named, folder)
    except InputError as exc:
        rows = []
        said = str(exc)
    finally:
        path.write_bytes(raw)
    assert "\n" not in said
    if name != "release.json" and changed != raw:
        assert not rows or any(not row.good for row in rows)


@pytest.fixture
def made_once(build, signs, product, monkeypatch):
    monkeypatch.setenv("FOTA_ALLOW_EXAMPLE_KEYS", "1")
    build()
    signs("release-2")
    folder = product.folder / "release"
    named = release_named.read_policy(product.folder / "fota.toml")
    assert all(row.good for row in release_check.check(named, folder))
    return named, folder, files_of(folder)
