"""Rehearsals: while the policy names keys, no release is ordered that none of them has attested."""

from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from databases import BOTH
from server_world import Built, Keys, Server, fota
from test_server_in_waves import fleet

from fota_wire import host_rehearsal, host_statement
from fota_wire.host_keys import in_memory
from fota_wire.suit import unsafe_read_manifest

DATABASES = BOTH
LAB, OTHER = (in_memory(ec.generate_private_key(ec.SECP256R1())) for _ in range(2))


@pytest.fixture(scope="module")
def own(
    keys: Keys, releases: dict[str, Built], tmp_path_factory: pytest.TempPathFactory, database_kind: str
) -> Iterator[Server]:
    """A server of this module's own: the policy is the whole fleet's."""
    server = Server(keys, tmp_path_factory.mktemp("rehearsed") / "data").init().start()
    for built in releases.values():
        assert server.publish(built)[0] == 201
    yield server
    assert server.stop()[0] == 0


@pytest.fixture
def asked_for(own: Server) -> Iterator[None]:
    """The lab's word is asked for."""
    found = own.api("POST", "policies/rehearsal", {"keys": [LAB.public.hex()]})
    assert (found[0], found[1]["rehearsal"]) == (200, [LAB.kid.hex()])
    yield
    assert own.api("POST", "policies/rehearsal", {"keys": None})[1]["rehearsal"] is None


def attestation(built: Built, key: Any = LAB, result: str = "passed", of: Built | None = None) -> bytes:
    said = unsafe_read_manifest((of or built).envelope)
    subjects = {said.digest.hex(): "image", said.manifest_digest.hex(): "manifest"}
    return host_statement.sign(subjects, host_rehearsal.PREDICATE_TYPE, {"result": result}, [key])


def hand_in(server: Server, version: str, raw: bytes) -> tuple[int, Any]:
    return server.api("POST", f"releases/{version}/rehearsal", raw=raw)


def code_of(answer: tuple[int, Any]) -> str:
    return str(answer[1]["error"]["code"])


def test_release_is_ordered_once_its_attestation_is_there(
    own: Server, releases: dict[str, Built], asked_for: None
) -> None:
    group, (device,) = fleet(own, releases, 1)
    assert code_of(own.api("GET", f"preview?kind=update&version=1.1.0&group={group}")) == "not-rehearsed"
    for body in ({"version": "1.1.0", "group": group}, {"version": "1.1.0", "device": device.id}):
        refused = own.api("POST", "rollouts", body)
        assert code_of(refused) == "not-rehearsed"
        assert "release 1.1.0 is not rehearsed: no attestation" in refused[1]["error"]["message"]
    assert own.api("GET", "rollouts")[1]["rollouts"] == []
    answer = hand_in(own, "1.1.0", attestation(releases["1.1.0"]))
    assert (answer[0], answer[1]["verified"]) == (200, True)
    assert own.api("POST", "rollouts", {"version": "1.1.0", "group": group})[0] == 201


@pytest.mark.parametrize("case", ["key", "result", "release", "bytes"])
def test_attestation_that_proves_nothing_is_not_kept(
    own: Server, releases: dict[str, Built], asked_for: None, case: str
) -> None:
    new = releases["1.2.0"]
    raw, code = {
        "key": (attestation(new, key=OTHER), "rehearsal"),
        "result": (attestation(new, result="failed"), "rehearsal"),
        "release": (attestation(new, of=releases["1.1.0"]), "rehearsal"),
        "bytes": (b"\xff{", "dsse"),
    }[case]
    assert code_of(hand_in(own, "1.2.0", raw)) == code
    group, _ = fleet(own, releases, 1)
    assert code_of(own.api("POST", "rollouts", {"version": "1.2.0", "group": group})) == "not-rehearsed"


def test_key_that_the_policy_does_not_name_any_more_proves_nothing(
    own: Server, releases: dict[str, Built]
) -> None:
    assert hand_in(own, "1.2.0", attestation(releases["1.2.0"], key=OTHER))[1]["verified"] is False
    group, _ = fleet(own, releases, 1)
    for keys, good in (([OTHER], True), ([LAB], False), ([LAB, OTHER], True), (None, True)):
        said = None if keys is None else [key.public.hex() for key in keys]
        assert own.api("POST", "policies/rehearsal", {"keys": said})[0] == 200
        status, answer = own.api("GET", f"preview?kind=update&version=1.2.0&group={group}")
        assert (status == 200) is good, answer


@pytest.mark.parametrize("given", [[], ["00"], ["00" * 64], [1], "x", ["ff" * 64] * 9])
def test_keys_that_are_none_are_refused(own: Server, given: Any) -> None:
    assert code_of(own.api("POST", "policies/rehearsal", {"keys": given})) == "json"
    assert own.api("GET", "policies")[1]["rehearsal"] is None


def test_commands_set_the_policy_and_hand_in(own: Server, releases: dict[str, Built], tmp_path: Any) -> None:
    pem, pub, other = (str(tmp_path / name) for name in ("pem", "pub", "other"))
    env = {"FOTA_SERVER": own.operator_url, "FOTA_TOKEN": own.token, "FOTA_CA": str(own.keys.server_ca)}
    for words in (
        ("keys", "new", "evidence/lab", "-o", pem),
        ("keys", "public", pem, "-o", pub),
    ):
        done = fota(*words, env={"FOTA_KEY_PASSWORD": "correct-horse"})
        assert done.returncode == 0, done.stderr
    done = fota("policy", "rehearsal", pub, env=env)
    assert done.stdout.startswith("rehearsal: attested by "), done.stderr
    (tmp_path / "other").write_bytes(attestation(releases["1.1.0"]))
    done = fota("release", "rehearsal", "1.1.0", other, env=env)
    assert (done.returncode, "signed by no key that counts here" in done.stderr) == (1, True)
    assert fota("policy", "rehearsal", "--none", env=env).returncode == 0
    done = fota("release", "rehearsal", "1.1.0", other, env=env)
    assert (done.returncode, done.stdout) == (
        0, "release 1.1.0: attestation kept; no policy says whose word counts\n",
    )  # fmt: skip
