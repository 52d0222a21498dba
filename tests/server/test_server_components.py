"""Which releases hold a component, and who runs them: by SBOMs that the releases themselves sign."""

import hashlib
import json
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from databases import BOTH
from hypothesis import given
from hypothesis import strategies as st
from server_world import Built, Device, Keys, Server, build_release, fota, make_image

from fota_server import sboms
from fota_server.sboms import order
from fota_wire import host_evidence, suit
from fota_wire.errors import InputError
from fota_wire.host_evidence import Piece

DATABASES = BOTH


def bom_of(**components: str) -> str:
    listed = [{"type": "library", "name": name, "version": version} for name, version in components.items()]
    product = {"type": "firmware", "name": "sensor", "version": "1"}
    return json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": listed,
                       "metadata": {"component": product}})  # fmt: skip


def index_of(sbom: str) -> str:
    piece = Piece("sbom", "app.cdx.json", hashlib.sha256(sbom.encode()).hexdigest())
    return host_evidence.build_index([piece]).decode()


def release_with(server: Server, keys: Keys, sbom: str | None) -> Built:
    """A published release of a class of its own that signs this SBOM; None: it signs no evidence."""
    version, class_id = f"67.{secrets.randbelow(256)}.{secrets.randbelow(60000)}", secrets.token_bytes(16)
    if sbom is None:
        built = build_release(keys, version, 1, 1, class_id=class_id)
    else:
        line = host_evidence.signed_line(index_of(sbom).encode())
        text = suit.build_text("example.com", "sensor", version, line)
        major, minor, revision = (int(part) for part in version.split("."))
        file = make_image((major, minor, revision, 0), 1, class_id=class_id)
        built = Built(version, file, keys.envelope(file, 1, class_id=class_id, text=text))
    assert server.api("PUT", f"artifacts/{built.digest}", raw=built.file)[0] == 201
    assert server.api("POST", "releases", raw=built.envelope)[0] == 201
    return built


def give(server: Server, built: Built, sbom: str, index: str | None = None) -> tuple[int, Any]:
    body = {"index": index_of(sbom) if index is None else index, "sbom": sbom}
    return server.api("POST", f"releases/{built.version}/sbom", body)


def holding(server: Server, name: str, below: str | None = None) -> dict[str, tuple[list[str], int]]:
    """{version of the release: (versions of the component, devices)}."""
    query = f"component={quote(name, safe='')}" + (f"&below={quote(below, safe='')}" if below else "")
    status, answer = server.api("GET", f"components?{query}")
    assert status == 200, answer
    return {one["version"]: (one["components"], one["devices"]) for one in answer["releases"]}


def test_releases_below_a_version_are_found_with_the_devices_that_run_them(
    server: Server, keys: Keys
) -> None:
    name = "tls-" + secrets.token_hex(4)
    old, new, other = (release_with(server, keys, bom_of(**{name: version, "libc": "1"}))
                       for version in ("3.6.5", "3.6.10", "3.10.0"))  # fmt: skip
    for built, version in ((old, "3.6.5"), (new, "3.6.10"), (other, "3.10.0")):
        assert give(server, built, bom_of(**{name: version, "libc": "1"}))[0] == 200
    for _ in range(2):
        device = Device(server)
        device.check_in()
        device.running = old.image
        device.check_in()
    assert holding(server, name.upper()) == {
        old.version: (["3.6.5"], 2),
        new.version: (["3.6.10"], 0),
        other.version: (["3.10.0"], 0),
    }
    assert holding(server, name, "3.6.10") == {old.version: (["3.6.5"], 2)}
    assert set(holding(server, name, "3.6.11")) == {old.version, new.version}
    assert holding(server, name, "3.6.5") == holding(server, name + "x") == {}
    seen: list[str] = []
    after = 0
    while after is not None:
        answer = server.api("GET", f"components?component={name}&limit=1&after={after}")[1]
        seen += [one["version"] for one in answer["releases"]]
        after = answer["next"]
    assert seen == [old.version, new.version, other.version]


def test_what_nobody_knows_is_told(server: Server, keys: Keys) -> None:
    def unknown() -> dict[str, int]:
        return dict(server.api("GET", "components?component=x")[1]["unknown"])

    before = unknown()
    built = release_with(server, keys, bom_of(x="1"))
    device = Device(server)
    device.check_in()
    device.running = built.image
    device.check_in()
    assert unknown() == {"releases": before["releases"] + 1, "devices": before["devices"] + 1}
    assert give(server, built, bom_of(x="1"))[0] == 200
    assert unknown() == before


def test_sbom_that_the_release_does_not_sign_is_refused_and_nothing_is_kept(
    server: Server, keys: Keys
) -> None:
    name = "own-" + secrets.token_hex(4)
    sbom = bom_of(**{name: "1.0"})
    signed, unsigned = release_with(server, keys, sbom), release_with(server, keys, None)
    other = bom_of(**{name: "2.0"})
    for built, given_sbom, index, code in (
        (signed, other, None, "evidence"),
        (signed, other, index_of(sbom), "evidence"),
        (unsigned, sbom, None, "evidence"),
    ):
        status, answer = give(server, built, given_sbom, index)
        assert (status, answer["error"]["code"]) == (409, code), answer
    for wrong in ({}, {"index": index_of(sbom)}, {"index": 1, "sbom": sbom}, {"index": "x", "sbom": ""}):
        assert server.api("POST", f"releases/{signed.version}/sbom", wrong)[0] == 400
    assert give(server, Built("9.9.9", b"", b""), sbom)[0] == 404
    assert holding(server, name) == {}
    assert give(server, signed, sbom)[1]["components"] == 2
    assert give(server, signed, sbom)[0] == 200  # once more changes nothing
    assert holding(server, name) == {signed.version: (["1.0"], 0)}
    for query in ("", "?component=", "?component=x&below=", "?component=x&below=" + "1" * 129):
        assert server.api("GET", f"components{query}")[0] == 400


def test_sbom_that_is_signed_and_is_none_is_refused(server: Server, keys: Keys) -> None:
    for sbom in ("{}", "no JSON", '{"bomFormat": "CycloneDX"}'):
        status, answer = give(server, release_with(server, keys, sbom), sbom)
        assert (status, answer["error"]["code"]) == (400, "sbom")


def test_sbom_comes_along_with_a_release_and_the_list_answers(
    server: Server, keys: Keys, tmp_path: Path
) -> None:
    name = "cli-" + secrets.token_hex(4)
    sbom = bom_of(**{name: "1.2"})
    built = release_with(server, keys, sbom)
    (tmp_path / "image").write_bytes(built.file)
    (tmp_path / "manifest").write_bytes(built.envelope)
    folder = tmp_path / "evidence"
    (folder / "sbom").mkdir(parents=True)
    env = {"FOTA_SERVER": server.operator_url, "FOTA_TOKEN": server.token,
           "FOTA_CA": str(server.keys.server_ca)}  # fmt: skip
    publish = ("release", "publish", str(tmp_path / "image"), str(tmp_path / "manifest"))
    done = fota(*publish, "--evidence", str(folder), env=env)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    (folder / "SHA256SUMS").write_text(index_of(sbom))
    (folder / "sbom/app.cdx.json").write_text(sbom)
    done = fota(*publish, "--evidence", str(folder), env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("its SBOM lists 2 components\n")
    listed = fota("release", "list", "--component", name, "--below", "1.10", env=env)
    assert listed.returncode == 0, listed.stderr
    assert built.version in listed.stdout
    assert "1 releases, run by 0 devices" in listed.stdout
    told = fota("release", "list", "--component", name, "--json", env=env)
    assert json.loads(told.stdout)["releases"][0]["components"] == ["1.2"]
    assert fota("release", "list", "--below", "1", env=env).returncode == 2


# Reading SBOMs


@pytest.mark.parametrize(
    "content",
    [
        {"bomFormat": "CycloneDX", "components": [{"name": "B", "group": "a", "version": "1",
         "components": [{"name": "c"}]}]},
        {"@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld", "@graph": [
            {"type": "software_Package", "name": "a/B", "software_packageVersion": "1"},
            {"type": "software_Package", "name": "c"}, {"type": "Tool", "name": "d"}]},
        {"spdxVersion": "SPDX-2.3", "packages": [{"name": "a/B", "versionInfo": "1"}, {"name": "c"}]},
    ],
)  # fmt: skip
def test_three_forms_say_the_same(content: dict[str, Any]) -> None:
    assert sboms.read(json.dumps(content).encode()) == {("a/b", "1"), ("c", "")}


def test_sbom_with_too_much_or_too_deep_is_refused() -> None:
    def read(components: Any) -> None:
        sboms.read(json.dumps({"bomFormat": "CycloneDX", "components": components}).encode())

    read([{"name": str(number)} for number in range(sboms.MOST)])
    deep: list[Any] = []
    for _ in range(40):
        deep = [{"name": "a", "components": deep}]
    many = [{"name": str(number)} for number in range(sboms.MOST + 1)]
    long, number, line = {"name": "a" * 257}, {"name": "a", "version": 1}, {"name": "a\n"}
    for wrong in (many, deep, [], [{"name": ""}], [{}], [long], [number], [line], {"name": "a"}):
        with pytest.raises(InputError) as caught:
            read(wrong)
        assert "\n" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("components", "name", "version", "metadata", "@graph", "type")), inner
        )
    ),
    max_leaves=8,
)


@given(
    st.binary(max_size=60)
    | JSON.map(
        lambda value: json.dumps({"bomFormat": "CycloneDX", "components": value, "metadata": value}).encode()
    )
    | JSON.map(lambda value: json.dumps({"spdxVersion": "SPDX-2.3", "packages": value}).encode())
)
def test_any_bytes_are_an_sbom_or_are_refused(raw: bytes) -> None:
    with suppress(InputError):
        sboms.read(raw)


def test_versions_are_in_the_order_that_people_mean() -> None:
    rising = ["0", "0.9", "1.0-alpha1", "1.0-beta", "1.0-rc1", "1.0-rc2", "1.0", "1.0a", "1.0b", "1.0.0"]
    rising += ["1.0.1", "1.0.9", "1.0.10", "1.1", "3.6.5", "3.6.6", "3.6.10", "10"]
    assert sorted(set(rising), key=order) == rising
    assert order("V1.2") == order("1.2")
    assert order("1.25.0+ds") > order("1.25.0")
