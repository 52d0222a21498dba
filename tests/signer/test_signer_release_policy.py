"""fota.toml is read strictly: whatever is in it is a policy, or one line that names the key."""

import copy
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from release_world import POLICY, files_of

from fota_cli.net import judge
from fota_signer.release_policy import NumberRule, Policy, VersionRule, parse
from fota_wire.errors import InputError

WHOLE = POLICY.replace(
    "[refuse]",
    """[evidence]
sbom = "build/app.cdx.json"
rehearsal = "build/rehearsal.json"

[refuse]
tagged = "v*"
texts = ["DEBUG"]
""",
)


def test_policy_says_what_is_written_and_is_strict_where_nothing_is():
    policy = parse(WHOLE)
    assert policy.who.class_id.hex() == "57f55ecbeaa35765960ee1e1418a661b"
    assert (policy.version, policy.security_counter) == (
        VersionRule("tag", "v*"),
        NumberRule(file="security-counter"),
    )
    assert policy.sequence == NumberRule(weights=(1_000_000, 1000, 1, 0))
    assert policy.evidence == {"sbom": ("build/app.cdx.json",), "rehearsal": ("build/rehearsal.json",)}
    assert (policy.tagged, policy.texts, policy.release, policy.by) == ("v*", ("DEBUG",), 1, ())
    silent = parse(POLICY.partition("[refuse]")[0])
    assert (silent.development_keys, silent.dirty) == (True, True)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("format = 1", "format = 2", "format: 2 is not the number 1"),
        ("format = 1\n", "", "format is missing: write the number 1"),
        ("format = 1", "format = true", "format: 'True' is not the number 1"),
        ("format = 1", "format = 1\nclas = 1", "clas: no such key; known are format, product"),
        ('model = "sensor"', 'modle = "sensor"', "product.model is missing"),
        ('model = "sensor"', 'model = "sensor"\nvendor = "x"', "product.vendor: no such key; did you"),
        ('model = "sensor"', 'model = " x"', "product: --model ' x' has blanks"),
        ('model = "sensor"', 'model = "x"\nclass = "1"', "product: --class: '1' is not a UUID"),
        ('model = "sensor"', 'model = "x"\nchip = "z80"', "product.chip: 'z80' is none of "),
        ('"example.com"', '"Example.com"', "is not a domain name in lower case: say example.com"),
        ('"example.com"', "[]", "product.vendor-domain: '[]' is not a text"),
        ('file = "build/app.elf"', "", "firmware.file is missing"),
        ('file = "build/app.elf"', 'file = " "', "firmware.file: ' ' is empty"),
        ('file = "build/app.elf"', 'file = "a\\u0000b"', "characters that nobody sees"),
        ('file = "build/app.elf"', 'file = "x"\nleave-out = [1]', "firmware.leave-out: '1' is not a text"),
        ('file = "build/app.elf"', 'file = "x"\nleave-out = ["a", "a"]', "one of them is there twice"),
        ('file = "build/app.elf"', 'file = "x"\nlinked-for = -1', "firmware.linked-for: -1 is not a"),
        ('tag = "v*"', "", "version: write one of tag"),
        ('tag = "v*"', 'tag = "v*"\nfixed = "1.0.0"', "version: write one of tag"),
        ('tag = "v*"', 'tag = "v"', "version.tag: 'v' has to have one *"),
        ('tag = "v*"', 'tag = "**"', "version.tag: '**' has to have one *"),
        ("minor = 1_000\n", "", "sequence: a part of the version counts, and a higher one does not"),
        ("minor = 1_000", "minor = 0", "sequence.minor: 0 is not a whole number of 1 to"),
        ("minor = 1_000", "minor = 1.5", "sequence.minor: '1.5' is not a whole number"),
        ("minor = 1_000", f"minor = {'9' * 100}", "sequence.minor: it is not a whole number"),
        ('file = "security-counter"', "", "security-counter: write one of number = 1"),
        ('file = "security-counter"', "number = 0", "security-counter.number: 0 is not a whole"),
        ('file = "security-counter"', "number = 1\nplus = 1", "security-counter.plus goes with weights"),
        ('file = "security-counter"', "number = 1\nmajor = 1", "security-counter: write one of number = 1"),
        ('root = "root.cbor"', "", "signed.root is missing"),
        ('root = "root.cbor"', 'root = "r"\nrelease = 5', "signed.release: 5 is not a whole number"),
        ("development-keys = false", "development-keys = 0", "refuse.development-keys: '0' is not true"),
        ("[refuse]", "[evidence]\nvexx = 'x'\n[refuse]", "evidence.vexx: no such key; did you mean vex?"),
        ("[refuse]", "[evidence]\nsbom = ['a', 1]\n[refuse]", "evidence.sbom: '1' is not a text"),
        ("[refuse]", "[evidence]\nsbom = 1\n[refuse]", "evidence.sbom: '1' is not a text"),
        ("[refuse]", "[evidence]\nsbom = 'a'\nafter = ['sbom']\n[refuse]", "evidence.after: 'sbom' is not"),
        ("[refuse]", "[evidence]\nafter = ['rehearsal']\n[refuse]", "or no file of it is named"),
        ("[refuse]", "[evidence]\nbuilders = ['a']\n[refuse]", "evidence.builders: they sign provenance"),
        ("[refuse]", "refuse = 1\n[x]", "x: no such key"),
        ("[refuse]", "[refuse", "not TOML: "),
        ("[refuse]", "[signed]", "not TOML: "),
    ],
)  # fmt: skip
def test_mistake_is_named_by_its_key(old, new, says):
    assert old in POLICY
    with pytest.raises(InputError) as refused:
        parse(POLICY.replace(old, new, 1))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 3


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


def read(text: str) -> None:
    """Take it, or refuse it as bad input in one line: nothing else."""
    try:
        found: Policy | InputError = parse(text)
    except InputError as exc:
        found = exc
    if isinstance(found, InputError):
        code, line = judge(found)
        assert (code, line[:7], "\n" in line) == (3, "error: ", False)


@given(st.text())
def test_any_text_is_a_policy_or_one_line(text):
    read(text)


CONTENT = tomllib.loads(WHOLE)


@given(st.data(), st.sampled_from(sorted(CONTENT)), VALUES)
def test_any_value_anywhere_is_a_policy_or_one_line(data, name, value):
    content = copy.deepcopy(CONTENT)
    if isinstance(content[name], dict) and data.draw(st.booleans()):
        content[name][data.draw(st.sampled_from(sorted(content[name])) | st.text())] = value
    else:
        content[name] = value
    with pytest.MonkeyPatch.context() as patch:  # values that no text of ours would make, too
        patch.setattr(tomllib, "loads", lambda text: content)
        read("")


@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_any_bytes_in_the_middle_are_a_policy_or_one_line(at, more, less):
    raw = WHOLE.encode()
    read((raw[:at] + more + raw[at + less :]).decode(errors="replace"))


@pytest.mark.parametrize(
    "text", ["x = " + "[" * 5000, "format" + ".x" * 4000 + " = 1"], ids=["list", "table"]
)
def test_what_is_nested_too_deeply_is_no_policy(text):
    with pytest.raises(InputError, match="nested too deeply"):
        parse(text)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"\0" * 20000, b"x = " + b"[" * 5000, b"x = " + b"9" * 5000, b"x = 2026-02-30",
     b"[[[", b"\x1b[2J"],
    ids=lambda content: content[:8].hex(),
)  # fmt: skip
def test_any_bytes_for_a_policy_end_in_one_line_and_leave_nothing(refused, tmp_path, content):
    (tmp_path / "fota.toml").write_bytes(content)
    refused(3, "release", "build", "-o", "release", says="fota.toml")
    assert set(files_of(tmp_path)) == {"fota.toml"}


def test_policy_that_is_longer_than_anybody_writes_is_refused(refused, tmp_path):
    (tmp_path / "fota.toml").write_text(POLICY + "#" * 16384)
    refused(3, "release", "build", "-o", "release", says="fota.toml: larger than 16384 bytes")


def test_policy_that_is_not_there_or_something_else_is_named(refused, tmp_path, key_dir):
    refused(3, "release", "build", "-o", "release", says="fota.toml: No such file")
    refused(3, "release", "build", "-o", "release", "--policy", key_dir / "image-a.pem",
            says="is a private key, expected a release policy")  # fmt: skip
    refused(3, "release", "build", "-o", "release", "--policy", tmp_path, says="is a folder")
