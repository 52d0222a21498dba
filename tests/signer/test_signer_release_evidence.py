"""Evidence in the signed manifest: its index, who builds and agrees, and what is none."""

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from evidence_judges import STATEMENT, judge
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from release_world import elf_with, files_of, git

from fota_signer import cra
from fota_wire import host_evidence, host_keys, host_rehearsal, host_statement, suit, suit_profile
from fota_wire.errors import FormatError
from fota_wire.host_evidence import Piece

PASSWORD = {"FOTA_KEY_PASSWORD": "correct-horse"}
TWO_BUILDERS = """\
[evidence]
sbom = ["build/app.cdx.json", "build/app.spdx.json"]
provenance = ["build/one.json", "build/two.json"]
builders = ["keys/one.pub.pem", "keys/two.pub.pem"]

[refuse]"""


@pytest.fixture
def builders(fota, product):
    """Keys of two builders, and SBOMs that are there."""
    for name in ("one", "two"):
        assert fota("keys", "new", f"evidence/{name}", "-o", f"keys/{name}.pem", env=PASSWORD).returncode == 0
        public = fota("keys", "public", f"keys/{name}.pem", "-o", f"keys/{name}.pub.pem", env=PASSWORD)
        assert public.returncode == 0, public.stderr
    for kind in ("cdx", "spdx"):
        (product.folder / f"build/app.{kind}.json").write_text(kind)
    product.change("[refuse]", TWO_BUILDERS)


@pytest.fixture
def image(fota, builders):
    """The image of the sources, before anything is said about it."""
    made = fota("release", "image", "-o", "build/app.img", "--json")
    assert made.returncode == 0, made.stderr
    return json.loads(made.stdout)["sha256"]


@pytest.fixture
def provenance(fota):
    """Have a builder sign that the image is what the sources come to."""

    def run(name, *more, code=0):
        command = ("release", "provenance", "build/app.img", "--key", f"keys/{name}.pem", "--force")
        done = fota(*command, "-o", f"build/{name}.json", *more, env=PASSWORD)
        assert done.returncode == code, done.stderr
        return done.stderr

    return run


def test_manifest_signs_the_evidence_by_its_index(build, check, signs, product, fota, image, provenance):
    provenance("one")
    provenance("two")
    told = build("--image", "build/app.img")
    release = product.folder / "release"
    index = (release / "evidence/SHA256SUMS").read_bytes()
    assert [piece.path for piece in host_evidence.read_index(index)] == [
        "provenance/one.json", "provenance/two.json", "sbom/app.cdx.json", "sbom/app.spdx.json"]  # fmt: skip
    subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=release / "evidence", check=True)
    assert told["evidence"] == sorted(f"evidence/{name}" for name in files_of(release / "evidence"))
    digest = hashlib.sha256(index).hexdigest()
    manifest = suit.unsafe_read_manifest((release / "manifest.suit").read_bytes())
    assert manifest.text["description"] == f"evidence sha256:{digest}"
    assert json.loads(fota("inspect", "release/manifest.suit", "--json").stdout)["evidence"] == digest
    status = ("manifest", "status", "release/manifest.suit", "--root", "root.cbor")
    assert json.loads(fota(*status, "--json").stdout)["evidence"] == digest
    assert f"evidence, SHA-256 of its index {digest}" in fota(*status).stdout
    assert (release / "payload" / image).read_bytes() == (product.folder / "build/app.img").read_bytes()
    signs("release-2")
    assert check() == {}
    build("--image", "build/app.img", output="release-again")
    again = {**files_of(product.folder / "release-again"), "manifest.suit": b""}
    assert again == {**files_of(release), "manifest.suit": b""}  # but for the second signature


def test_provenance_is_slsas_in_an_in_toto_statement(product, image, provenance):
    provenance("one", "--builder", "https://ci.example.com/1")
    file = product.folder / "build/one.json"
    raw = file.read_bytes()
    found = host_statement.read(raw, "one.json", {})
    assert found.subjects == {image: f"payload/{image}"}
    assert found.predicate_type == "https://slsa.dev/provenance/v1"
    assert found.predicate["runDetails"]["builder"]["id"] == "https://ci.example.com/1"
    sources = found.predicate["buildDefinition"]["resolvedDependencies"]
    assert sources[1]["digest"]["gitCommit"] == git(product.folder, "rev-parse", "HEAD")
    policy = (product.folder / "fota.toml").read_bytes()
    assert sources[0]["digest"]["sha256"] == hashlib.sha256(policy).hexdigest()
    provenance("one", "--builder", "https://ci.example.com/1")
    assert file.read_bytes() == raw
    kid = json.loads(raw)["signatures"][0]["keyid"]
    said = judge(STATEMENT, file, kid, product.folder / "keys/one.pub.pem")
    assert said.returncode == 0, said.stderr
    assert judge(STATEMENT, file, kid, product.folder / "keys/two.pub.pem").returncode
    assert "is no URI" in provenance("one", "--builder", "me", code=2)


def test_no_manifest_before_every_builder_has_agreed(refuses, product, image, provenance, check, build):
    refuses(3, "evidence.provenance: ", "--image", "build/app.img")
    refuses(3, "fota release image makes the image that it is about")
    provenance("one")
    (product.folder / "build/two.json").write_bytes((product.folder / "build/one.json").read_bytes())
    refuses(1, "no provenance of this image is signed by builder ", "--image", "build/app.img")
    provenance("two")
    build("--image", "build/app.img")
    assert set(check()) == {"signatures"}


def test_builder_whose_sources_come_to_another_image_does_not_agree(product, image, provenance):
    (product.folder / "build/app.elf").write_bytes(elf_with(b"of a bent compiler"))
    assert "is not what the sources here come to" in provenance("two", code=1)
    assert not (product.folder / "build/two.json").exists()


def test_image_is_taken_if_the_sources_come_to_it_and_no_other(refuses, product, image, fota, provenance):
    provenance("one")
    provenance("two")
    other = product.folder / "build/other.img"
    raw = bytearray((product.folder / "build/app.img").read_bytes())
    raw[600] ^= 1
    other.write_bytes(raw)
    refuses(1, "", "--image", other)
    product.change('file = "security-counter"', "number = 5")
    refuses(1, "is not what the sources here come to", "--image", "build/app.img")
    refuses(2, "--image is signed already", "--image", "build/app.img", "--key", "keys/image-a.pem")
    refuses(3, "expected a signed image", "--image", "build/app.elf")


def test_statement_about_another_image_or_of_another_kind_is_refused(refuses, product, image, provenance):
    provenance("one")
    provenance("two")
    file = product.folder / "build/one.json"
    for raw, code, says in (
        (
            host_statement.sign({"00" * 32: ""}, "https://slsa.dev/provenance/v1", {}, []),
            3,
            "1 to 16 signatures",
        ),
        (b"{}", 3, "payloadType"),
        (b"[" * 5000, 3, "not JSON"),
        (b"", 3, "is empty"),
    ):
        file.write_bytes(raw)
        refuses(code, says, "--image", "build/app.img")
    product.change('builders = ["keys/one.pub.pem", "keys/two.pub.pem"]\n', "")
    file.unlink()
    provenance("one")
    product.change('provenance = ["build/one.json", "build/two.json"]', 'rehearsal = ["build/one.json"]')
    refuses(1, "is not about this image", "--key", "keys/image-b.pem")


@pytest.fixture
def whole(build, signs, image, provenance, product):
    provenance("one")
    provenance("two")
    build("--image", "build/app.img")
    signs("release-2")
    return product.folder / "release/evidence"


def test_evidence_that_was_changed_taken_away_or_added_is_found(whole, check):
    assert check() == {}
    for path in sorted(path for path in whole.rglob("*") if path.is_file()):
        raw = path.read_bytes()
        for change in (lambda p: p.write_bytes(p.read_bytes() + b" "), Path.unlink):
            change(path)
            assert "evidence" in check()
            path.write_bytes(raw)
    (whole / "sbom/more.json").write_text("{}")
    assert check()["evidence"] == "evidence/sbom/more.json is there, and not in the index that was signed"
    (whole / "sbom/more.json").unlink()
    assert check() == {}


def test_index_of_another_release_is_not_the_one_that_is_signed(whole, check):
    index = whole / "SHA256SUMS"
    index.write_bytes(b"".join(index.read_bytes().splitlines(keepends=True)[:2]))
    found = check()
    assert found["evidence"].startswith("evidence/SHA256SUMS is not the index that the manifest signs")
    assert {"sbom", "provenance"} <= set(found)


def test_release_without_the_evidence_that_a_policy_wants_by_now_lacks_it(build, check, signs, product):
    build()
    signs("release-2")
    product.change("[refuse]", '[evidence]\nsbom = "build/sbom"\nvex = "build/vex"\n[refuse]')
    assert {"evidence", "sbom", "vex"} <= set(check())


def test_what_comes_after_the_manifest_is_looked_for_where_the_policy_says(
    build, check, signs, product, fota
):
    more = '[evidence]\nrehearsal = "build/later.json"\nafter = ["rehearsal"]\n[refuse]'
    product.change("[refuse]", more)
    told = build()
    signs("release-2")
    assert (told["evidence"], set(check())) == ([], {"rehearsal"})
    fota("keys", "new", "evidence/one", "-o", "keys/one.pem", env=PASSWORD)
    image = f"release/{told['image']['file']}"
    later = ("-o", "build/later.json", "--key", "keys/one.pem")
    assert fota("release", "provenance", image, *later, env=PASSWORD).returncode == 0
    assert check() == {}


def test_evidence_is_read_before_anything_is_written(refuses, builders, product):
    product.change(TWO_BUILDERS, '[evidence]\nsbom = "build/sbom.json"\n[refuse]')
    refuses(3, "evidence.sbom: ")
    (product.folder / "build/sbom.json").touch()
    refuses(3, "build/sbom.json is empty")
    (product.folder / "build/ä.json").write_text("{}")
    product.change("build/sbom.json", "build/ä.json")
    refuses(3, "call it otherwise, in ASCII")


# The manifest that devices get


@given(st.binary(min_size=1, max_size=40))
def test_devices_take_a_manifest_with_evidence_as_they_take_one_without(index):
    words = ("v" * 60, "m" * 60, "1.2.3")
    identity = (7, bytes(16), bytes(16), bytes(32), 1000)
    plain, text = suit.build_text(*words), suit.build_text(*words, host_evidence.signed_line(index))
    envelope = suit.build_envelope(suit.build_manifest(*identity, text), [], text)
    before = suit.build_envelope(suit.build_manifest(*identity, plain), [], plain)
    assert len(envelope) - len(before) <= 90
    assert len(text) <= suit_profile.MAX_TEXT
    manifest = suit.unsafe_read_manifest(envelope)
    assert host_evidence.signed_digest(manifest.text) == hashlib.sha256(index).hexdigest()
    parts, older = suit.parse_envelope(envelope), suit.parse_envelope(before)
    told = suit_profile.parse_manifest(parts.manifest, parts.members)
    told_before = suit_profile.parse_manifest(older.manifest, older.members)
    told.text = told_before.text = None
    assert vars(told) == vars(told_before)


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        (None, None),
        ({}, None),
        ({"description": "fixes"}, None),
        ({"description": "fixes\nevidence sha256:" + 64 * "a"}, 64 * "a"),
        ({"description": "evidence sha256:" + 64 * "b" + "\nevidence sha256:" + 64 * "a"}, 64 * "a"),
        ({"description": "evidence sha256:" + 64 * "a" + "\n"}, None),
        ({"description": "evidence sha256:" + 64 * "A"}, None),
        ({"description": "no evidence sha256:" + 64 * "a"}, None),
        ({"description": "evidence sha256:" + 65 * "a"}, None),
    ],
)
def test_last_line_of_the_description_alone_names_evidence(text, digest):
    assert host_evidence.signed_digest(text) == digest


PIECES = [Piece("vex", "b", "00" * 32), Piece("sbom", "c", "11" * 32), Piece("sbom", "a", "22" * 32)]
INDEX = host_evidence.build_index(PIECES)


def test_index_has_one_form():
    assert host_evidence.read_index(INDEX) == sorted(PIECES, key=lambda piece: piece.path)
    assert host_evidence.build_index(reversed(PIECES)) == INDEX
    lines = INDEX.splitlines(keepends=True)
    for raw in (b"", b"\n", INDEX[:-1], INDEX + b"\n", b"".join(reversed(lines)), lines[0] * 2,
                INDEX.replace(b"  ", b" "), INDEX.replace(b"vex", b"vey"), INDEX.replace(b"/a", b"/../a"),
                INDEX.replace(b"22", b"2A"), INDEX.replace(b"/a", b"/\xc3\xa4"), b" " * 9000):  # fmt: skip
        with pytest.raises(FormatError, match="index of evidence"):
            host_evidence.read_index(raw)


@given(st.integers(0, len(INDEX) - 1), st.binary(max_size=3), st.integers(0, 8))
def test_any_bytes_are_an_index_in_its_form_or_none(at, more, less):
    raw = INDEX[:at] + more + INDEX[at + less :]
    try:
        found = host_evidence.read_index(raw)
    except FormatError:
        return
    assert host_evidence.build_index(found) == raw


# The archive, and the technical file's table


@pytest.fixture
def exported(fota, whole, product):
    """`fota release evidence`, which ends with ``code``; returns what was written, or the error."""

    def run(*more, code=0):
        output = product.folder / "build/evidence"
        output.unlink(missing_ok=True)
        done = fota("release", "evidence", "release", "--root", "root.cbor", "-o", output, *more)
        assert done.returncode == code, done.stderr
        assert output.exists() == (code == 0)
        return output if code == 0 else done.stderr

    return run


def test_archive_has_all_evidence_with_what_signs_it_and_is_the_same_each_time(exported, product):
    raw = exported().read_bytes()
    release = product.folder / "release"
    want = {f"evidence/{name}": content for name, content in files_of(release / "evidence").items()}
    want |= {name: (release / name).read_bytes() for name in ("manifest.suit", "release.json")}
    want["root.cbor"] = (product.folder / "root.cbor").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        assert {entry.name: tar.extractfile(entry).read() for entry in tar} == want
        assert {(entry.mtime, entry.uid, entry.mode) for entry in tar} == {(0, 0, 0o644)}
    (release / "evidence/sbom/app.cdx.json").touch()
    assert exported().read_bytes() == raw


def test_evidence_that_nobody_signed_is_not_exported(exported, whole, product, build):
    build("--image", "build/app.img", output="release-2")  # one signature, of two
    for name in ("manifest.suit", "release.json"):
        (product.folder / "release" / name).write_bytes((product.folder / "release-2" / name).read_bytes())
    assert "1 of 2 necessary signatures" in exported(code=1)


def test_evidence_that_was_changed_is_not_exported(exported, whole):
    (whole / "sbom/app.cdx.json").write_text("another")
    assert "is not the file that was signed" in exported(code=1)
    assert "is not the file that was signed" in exported("--cra", code=1)


def test_technical_file_says_openly_what_it_does_not_answer(exported):
    text = exported("--cra").read_text()
    rows = [
        line.split(" | ") for line in text.splitlines() if line.startswith(("| CRA", "| EN ", "| Decision"))
    ]
    assert len(rows) == 34
    told = {row[0].removeprefix("| "): (row[2], row[3]) for row in rows}
    state, pointers = told["CRA I.II(1)"]
    assert state == "this release"
    assert f"evidence/sbom/app.cdx.json, SHA-256 {hashlib.sha256(b'cdx').hexdigest()}" in pointers
    state, pointers = told["CRA I.I(2)(a)"]
    assert state == "in part"
    assert "open: no vex in this release; the scan, and its date" in pointers
    assert told["CRA Art. 13(19)"][0] == "not answered"
    counted = dict(
        reversed(part.split(" ", 1)) for part in text.splitlines()[-1].split(": ")[1][:-1].split(", ")
    )
    states = [row[2] for row in rows]
    assert {state: int(count) for state, count in counted.items()} == {s: states.count(s) for s in cra.STATES}
    assert int(counted["not answered"]) > 0


def test_pages_to_which_the_technical_file_points_are_there():
    repository = Path(__file__).parents[2]
    pages = {row.page.split(",")[0] for row in cra.ROWS if row.page}
    assert [page for page in pages if not (repository / page).is_file()] == []


def test_rehearsal_counts_if_one_of_those_named_has_signed_that_this_manifest_passed(
    build, check, signs, product, fota
):
    for name in ("lab", "other"):
        fota("keys", "new", f"evidence/{name}", "-o", f"keys/{name}.pem", env=PASSWORD)
        fota("keys", "public", f"keys/{name}.pem", "-o", f"keys/{name}.pub.pem", env=PASSWORD)
    said = 'rehearsal = "build/later.json"\nafter = ["rehearsal"]\nrehearsers = ["keys/lab.pub.pem"]\n'
    product.change("[refuse]", f"[evidence]\n{said}[refuse]")
    told = build()
    signs("release-2")
    subjects = {told["image"]["sha256"]: "image", told["manifest"]["digest"]: "manifest"}

    def lacks(name, result="passed", about=subjects):
        raw = (product.folder / f"keys/{name}.pem").read_bytes()
        pem = raw[raw.index(b"-----BEGIN") :]
        key = host_keys.in_memory(load_pem_private_key(pem, PASSWORD["FOTA_KEY_PASSWORD"].encode()))
        signed = host_statement.sign(about, host_rehearsal.PREDICATE_TYPE, {"result": result}, [key])
        (product.folder / "build/later.json").write_bytes(signed)
        return check()

    assert lacks("lab") == {}
    assert "signed by no key that counts here" in lacks("other")["rehearsal"]
    assert "did not pass" in lacks("lab", "failed")["rehearsal"]
    assert "another image or manifest" in lacks("lab", about={told["image"]["sha256"]: "image"})["rehearsal"]
    product.change('after = ["rehearsal"]\n', "")
    refused = fota("release", "check", "release")
    assert (refused.returncode, refused.stderr.count("\n")) == (3, 1)
    assert "evidence.rehearsers sign after the manifest" in refused.stderr
