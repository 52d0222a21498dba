"""`fota release build`: one step from a commit to a release; the same commit gives the same bytes."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from release_world import POLICY, elf_with, files_of, git

from fota_wire import image, suit

SEQUENCE = "major = 1_000_000\nminor = 1_000\nrevision = 1"


def test_release_is_an_update_package_that_says_what_it_is(build, product, fota, key_dir):
    told = build()
    files = files_of(product.folder / "release")
    digest = hashlib.sha256(files[told["image"]["file"]]).hexdigest()
    assert set(files) == {f"payload/{digest}", "manifest.suit", "release.json"}
    made = image.parse_image(files[f"payload/{digest}"])
    assert (made.version, made.sec_cnt) == ((1, 2, 3, 0), 4)
    manifest = suit.unsafe_read_manifest(files["manifest.suit"])
    assert (manifest.digest.hex(), manifest.sequence, manifest.class_id) == (digest, 1_002_003, made.class_id)
    said = json.loads(files["release.json"])
    assert {**said, "output": "release", "created": True, "notes": []} == told
    assert said["commit"] == git(product.folder, "rev-parse", "HEAD")
    assert said["manifest"] == {"file": "manifest.suit", "digest": manifest.manifest_digest.hex(),
                                "signed_by": ["e66012d0a249e11f"]}  # fmt: skip
    assert said["image"]["key"] == "61cd11fd44620bd6"
    sign = ("manifest", "sign", "release/manifest.suit", "-o", "release/manifest.suit", "--key")
    assert fota(*sign, key_dir / "release-2.pem", "--root", "root.cbor").returncode == 0
    verify = ("manifest", "verify", "release/manifest.suit", "--root", "root.cbor", "--image")
    assert fota(*verify, f"release/payload/{digest}").returncode == 0


ELSEWHERE = """
import datetime, time
time.time = lambda: 2e9
time.time_ns = lambda: 2 * 10**18
class Late(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(2e9, tz)
datetime.datetime = Late
"""


def test_same_commit_gives_the_same_bytes_in_another_place_at_another_time(build, product, tmp_path):
    build()
    other = tmp_path / "a place of somebody else's"
    git(tmp_path, "clone", "-q", str(product.folder), str(other))
    for name in ("keys", "build"):
        (product.folder / name).rename(other / name)
    (other / "build/app.elf").touch()
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(ELSEWHERE)
    env = {"PATH": os.environ["PATH"], "FOTA_ALLOW_EXAMPLE_KEYS": "1", "PYTHONPATH": str(tmp_path / "site")}
    env |= {"TZ": "Pacific/Kiritimati", "LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "7", "HOME": "/nowhere"}
    line = [sys.executable, "-m", "fota_cli", "release", "build", "-o", str(tmp_path / "of another"),
            "--policy", str(other / "fota.toml")]  # fmt: skip
    done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, umask=0o077)
    assert done.returncode == 0, done.stderr
    assert files_of(tmp_path / "of another") == files_of(product.folder / "release")


def test_time_of_a_release_is_its_commits_unless_somebody_says_another(build, product, refuses):
    at = int(git(product.folder, "log", "-1", "--format=%ct"))
    told = build()["time"]
    assert told == git(product.folder, "log", "-1", "--format=%cd", "--date=format-local:%Y-%m-%dT%H:%M:%SZ")
    assert build(output="release-2", env={"SOURCE_DATE_EPOCH": "0"})["time"] == "1970-01-01T00:00:00Z"
    assert build(output="release-3", env={"SOURCE_DATE_EPOCH": str(at)})["time"] == told
    refuses(3, "SOURCE_DATE_EPOCH: 'noon' is not a whole number", output="release-4",
            env={"SOURCE_DATE_EPOCH": "noon"})  # fmt: skip


def test_release_that_is_there_is_left_alone_and_another_is_not_written_over_it(build, product, refuses):
    assert build()["created"] is True
    before = files_of(product.folder)
    assert build()["created"] is False
    assert files_of(product.folder) == before
    (product.folder / "build/app.elf").write_bytes(elf_with(b"another one"))
    refuses(3, "release exists, and is not the same: ")
    (product.folder / "release/more").touch()
    (product.folder / "build/app.elf").write_bytes(elf_with(b""))
    refuses(3, "release exists, and is not the same: more differs")


@pytest.mark.parametrize("same", [True, False])
def test_of_two_that_build_at_once_one_writes_and_the_other_compares(fota, build, product, monkeypatch, same):
    build(output="release-1")
    if not same:
        (product.folder / "release-1/release.json").write_text("{}")
    real = os.rename

    def late(old, new):
        shutil.copytree(product.folder / "release-1", new)
        real(old, new)

    monkeypatch.setattr(os, "rename", late)
    result = fota("release", "build", "-o", "release")
    assert result.returncode == (0 if same else 3)
    assert ("was there already" in result.stdout) == same
    assert ("release.json differs" in result.stderr) != same
    assert files_of(product.folder / "release") == files_of(product.folder / "release-1")
    assert not list(product.folder.glob(".*.tmp"))


@pytest.mark.parametrize("there", ["folder", "file", "link"])
def test_what_is_no_release_is_not_written_over(refuses, product, there):
    place = product.folder / "release-0"
    if there == "folder":
        place.mkdir()
    elif there == "file":
        place.write_text("mine")
    else:
        place.symlink_to("nowhere")
    refuses(3, "release-0 is a file" if there == "file" else "exists", output="release-0")


def test_disk_that_fails_in_the_middle_leaves_nothing(product, refuses, monkeypatch):
    real = os.fsync
    left = [4]  # of image, manifest, description two each: file and folder

    def fsync(fd):
        left[0] -= 1
        if not left[0]:
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    refuses(5, "No space left on device", output="new/release")
    assert left == [0]
    assert not (product.folder / "new").exists()
    assert not list(product.folder.glob(".*.tmp"))


# Which builds are refused


def test_tree_that_is_not_its_commit_is_refused(refuses, build, product):
    (product.folder / "main.c").write_text("int main;")
    refuses(1, "'main.c' differs from commit ")
    product.commit()
    git(product.folder, "tag", "-f", "v1.2.3")
    (product.folder / "security-counter").write_text("9")
    refuses(1, "'security-counter' differs from commit ")
    product.change("[refuse]", "[refuse]\ndirty = false")
    (product.folder / "security-counter").write_text("8")
    told = build()
    assert (told["changed"], told["security_counter"]) == (True, 8)


def test_published_key_is_refused_whatever_the_environment_allows(refuses, product):
    product.change("development-keys = false", "development-keys = true")
    refuses(1, "keys.image: a published example key: name one of your own (refuse.development-keys)")
    product.change("development-keys = true\n", "")
    refuses(1, "keys.image: a published example key")
    refuses(1, "a published example key", "--key", "keys/image-b.pem")


def test_published_key_that_a_policy_lets_pass_still_has_to_be_allowed(fota, product):
    result = fota("release", "build", "-o", "release", allow=False)
    assert result.returncode == 1
    assert "say --allow-example-keys" in result.stderr


@pytest.mark.parametrize("how", [(), ("-a", "-m", "with a word about it")], ids=["light", "annotated"])
def test_version_that_another_commit_has_is_refused(refuses, build, product, how):
    product.change('tag = "v*"', 'file = "VERSION"')
    (product.folder / "VERSION").write_text("1.2.3\n")
    product.change("[refuse]", '[refuse]\ntagged = "v*"')
    git(product.folder, "tag", "-f", *how, "v1.2.3")
    assert build()["version"] == "1.2.3"  # the tag is this commit's
    product.commit()
    refuses(1, "1.2.3 is released: tag v1.2.3 is another commit, ", output="release-2")
    (product.folder / "VERSION").write_text("1.2.4\n")
    product.commit()
    assert build(output="release-2")["version"] == "1.2.4"


def test_firmware_with_a_text_of_a_debug_build_is_refused(refuses, build, product):
    product.change("[refuse]", '[refuse]\ntexts = ["ASSERTIONS ON"]')
    (product.folder / "build/app.elf").write_bytes(elf_with(b"ASSERTIONS ON\0"))
    refuses(1, "has the text 'ASSERTIONS ON' in it")
    (product.folder / "build/app.elf").write_bytes(elf_with(b"assertions off\0"))
    build()


def test_image_that_devices_would_refuse_is_not_made(refuses, product):
    refuses(1, "the image is signed by key", "--key", "keys/image-b.pem")
    product.change("keys/release-1.pem", "keys/root-1.pem")
    refuses(1, "key 116277939af80c23 is no RELEASE key of ROOT 1: it would not count")


# Rules


@pytest.mark.parametrize(
    ("tags", "version"),
    [(["v2.0.0"], "2.0.0"), (["v2.0.0+5"], "2.0.0+5"), (["v2.0.0", "release-1.0.0"], "2.0.0")],
)
def test_version_comes_from_the_tag_of_the_commit(build, product, tags, version):
    git(product.folder, "tag", "-d", "v1.2.3")
    for tag in tags:
        git(product.folder, "tag", "-a", tag, "-m", "x")
    if "+" in version:
        product.change(SEQUENCE, SEQUENCE.replace("= 1", "= 1000") + "\nbuild = 1")
        git(product.folder, "tag", "-d", "v1.2.3")
        git(product.folder, "tag", "-f", *tags)
    assert build()["version"] == version


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        ([], "version.tag: no tag v* at this commit"),
        (["v1.2.3", "v1.2.4"], "version.tag: this commit has v1.2.3 and v1.2.4: take one away"),
        (["v1.2.3-rc1"], "tag v1.2.3-rc1: version '1.2.3-rc1' is not like 1.2.3"),
        (["v01.2.3"], "a number in it begins with 0"),
    ],
)
def test_commit_whose_tags_say_no_version_or_two_is_refused(refuses, product, tags, says):
    git(product.folder, "tag", "-d", "v1.2.3")
    for tag in tags:
        git(product.folder, "tag", tag)
    refuses(3, says)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("major = 100\nminor = 2\nrevision = 1", "what is below minor comes to 3, and one minor is 2: make"),
        ("major = 100", "has revision 3, which does not count: say what one revision is, sequence.revision"),
        (
            "major = 4_293_000_000\nminor = 1_000_000\nrevision = 1",
            "comes to 4295000003, which is not one of",
        ),
        ('file = "none"', "none: No such file"),
        ('file = "fota.toml"', "'format = 1' is not a whole number of 0 to 4293918719"),
    ],
)
def test_sequence_that_would_not_rise_with_each_version_is_refused(refuses, product, rule, says):
    product.change(SEQUENCE, rule)
    refuses(3, says)


@pytest.mark.parametrize(
    ("rule", "counter"),
    [("number = 9", 9), ("major = 1", 1), ("major = 1\nplus = 2", 3), ("major = 16\nminor = 1", 18)],
)
def test_security_counter_goes_by_its_rule(build, product, rule, counter):
    product.change('file = "security-counter"', rule)
    assert build()["security_counter"] == counter


def test_release_of_sources_outside_git_needs_neither_git_nor_a_time(build, product, refuses, monkeypatch):
    product.change('tag = "v*"', 'fixed = "1.2.3"')
    (product.folder / ".git").rename(product.folder.parent / "gone")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(product.folder.parent))
    refuses(3, "not a git repository")
    (product.folder / "fota.toml").write_text(product.policy.replace("[refuse]", "[refuse]\ndirty = false"))
    told = build()
    assert (told["commit"], told["time"], told["changed"]) == (None, None, False)
    monkeypatch.setenv("PATH", "/nowhere")
    assert build()["created"] is False


def test_git_that_is_not_there_is_named(refuses, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    refuses(5, "git is not installed, and the release policy asks it")


# Keys in other hands, evidence


def test_release_without_a_release_key_is_left_for_others_to_sign(build, product):
    product.change('release = "keys/release-1.pem"\n', "")
    assert build()["manifest"]["signed_by"] == []
    assert suit.parse_envelope((product.folder / "release/manifest.suit").read_bytes()).signatures == []


def test_image_key_in_a_room_without_a_network_signs_in_two_steps(build, product, fota, refuses):
    build(output="release-1")
    product.change('image = "keys/image-a.pem"', 'image = "keys/image-a.pub.pem"')
    refuses(3, "is a public key, expected a private key (or --prepare, --attach)")
    result = fota("release", "build", "-o", "release", "--prepare", "digest")
    assert result.returncode == 0, result.stderr
    assert not (product.folder / "release").exists()
    line = ["openssl", "pkeyutl", "-sign", "-inkey", "keys/image-a.pem", "-in", "digest", "-out", "signature"]
    subprocess.run(line, cwd=product.folder, check=True)
    told = build("--attach", "signature")
    made = image.parse_image((product.folder / "release" / told["image"]["file"]).read_bytes())
    same = image.parse_image(next((product.folder / "release-1/payload").iterdir()).read_bytes())
    assert made.image_hash == same.image_hash
    (product.folder / "build/app.elf").write_bytes(elf_with(b"another one"))
    refuses(1, "signature: no signature of ", "--attach", "signature", output="release-2")


def test_key_that_nobody_names_is_asked_for(refuses, build, product):
    product.change('image = "keys/image-a.pem"\n', "")
    refuses(2, "which IMAGE key? pass --key, or write keys.image in fota.toml")
    build("--key", "keys/image-a.pem")


def test_key_in_a_store_is_named_by_its_uri(refuses, product):
    product.change('"keys/image-a.pem"', '"exec:no-such-command?public=keys/image-a.pub.pem"')
    refuses(3, "no-such-command")
    product.change("exec:no-such-command?public=keys/image-a.pub.pem", "pkcs11:nonsense")
    refuses(3, "fota.toml: keys.image: ")


def test_policy_of_the_page_is_one_that_the_command_takes():
    from fota_signer.release_policy import parse

    assert parse(POLICY).who.model == "sensor"
