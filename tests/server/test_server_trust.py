"""What a server is given is looked at as devices will: CAs that nobody believes, ROOTs that orphan them."""

import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server_world import Built, Device, Keys, Server, cert_pem, fota, new_key

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "signer"))

from ca_world import DAY, NO_CERT_SIGN, SERVER, make_ca

from fota_server.trust import TrustChain, fits
from fota_wire import cose, host_crypto
from fota_wire import root as roots
from fota_wire.host_ca import certificate_der, pem_certificates

BAD_CAS = {
    "no-keyCertSign": ({"usage": NO_CERT_SIGN}, "keyCertSign"),
    "no-CA": ({"ca": False}, "CA:TRUE"),
    "expired": ({"starts": -9 * DAY, "ends": -DAY}, "has expired on"),
    "future": ({"starts": 5 * DAY}, "is not valid before"),
    "for-servers": ({"purposes": [SERVER]}, "extended key usage"),
}


@pytest.fixture
def own(keys: Keys, tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own, set up and not started."""
    server = Server(keys, tmp_path / "data").init()
    yield server
    if server.process and server.process.poll() is None:
        server.stop(signal.SIGKILL)


@pytest.mark.parametrize("kind", BAD_CAS)
def test_device_ca_whose_devices_could_not_connect_is_refused_by_init(
    keys: Keys, tmp_path: Path, kind: str
) -> None:
    changes, says = BAD_CAS[kind]
    bad = tmp_path / "bad.crt"
    bad.write_bytes(cert_pem(keys.device_ca) + cert_pem(make_ca(**changes)[0]))  # beside a good one, too
    result = fota(
        "server",
        "init",
        "--data",
        str(tmp_path / "data"),
        "--keys",
        str(keys.folder),
        "--device-ca",
        str(bad),
    )
    assert (result.returncode, result.stderr.count("\n")) == (3, 1)
    assert f"{bad}, CN=a CA: no usable device CA: it " in result.stderr
    assert says in result.stderr
    assert not (tmp_path / "data").exists()


def test_server_does_not_start_with_a_device_ca_that_has_ended(own: Server, tmp_path: Path) -> None:
    ended = tmp_path / "ended.crt"
    ended.write_bytes(cert_pem(make_ca(starts=-9 * DAY, ends=-DAY)[0]))
    result = fota("server", "run", "--data", str(own.data), "--port", "0", "--device-ca", str(ended))
    assert result.returncode == 3
    assert "no usable device CA: it has expired on" in result.stderr


def test_server_starts_with_an_ended_device_ca_beside_a_good_one_and_says_so(
    own: Server, tmp_path: Path
) -> None:
    both = tmp_path / "both.crt"
    ended = make_ca(starts=-9 * DAY, ends=-DAY, name="the old one")[0]
    both.write_bytes(cert_pem(ended) + cert_pem(own.keys.device_ca))
    shutil.copy(both, own.data / "keys" / "device-ca.crt")
    own.start()
    assert Device(own).check_in().assignment
    _, stderr = own.stop()
    assert "CN=the old one: no usable device CA: it has expired on" in stderr


# ROOTs that would lose devices


def next_root(keys: Keys, release: list[Any] | None = None, **more: Any) -> bytes:
    """A well-signed ROOT 2 of this product."""
    xy = [[host_crypto.public_xy(key) for key in group] for group in (keys.root, release or keys.release)]
    roles = {0: (2, xy[0]), 1: (2, xy[1]), 2: (1, [host_crypto.public_xy(keys.assign)])}
    raw = roots.build_root(2, roles, **more)
    for key in keys.root[:2]:
        raw = roots.FORM.add_signature(raw, cose.kid_of(host_crypto.public_xy(key)), host_crypto.signer(key))
    return raw


def own_ca(keys: Keys) -> bytes:
    return certificate_der(pem_certificates(keys.server_ca.read_bytes(), "CA")[0])


OTHER_CA = certificate_der(make_ca(name="another CA")[0])
SOON_LOST = {
    "minimum-above-all": ({"min_sequence": 9}, "none of the 2 published releases may be installed any more"),
    "counter-above-all": ({"min_secver": 4}, "(1.1.0, 1.2.0)"),
    "counter-out-of-reach": ({"min_secver": 257}, "1 devices could never install anything again"),
    "other-release-keys": ({"release": [new_key(), new_key()]}, "not signed by its RELEASE keys"),
    "other-ca": ({"server_cas": (OTHER_CA,)}, "comes from none of the server CAs"),
    "other-host": ({"servers": ("https://b.example",)}, "is for none of the hosts that it names (b.example)"),
    "dead-ca": ({"server_cas": (certificate_der(make_ca(ends=-DAY, starts=-2 * DAY)[0]),)}, "has expired on"),
}


@pytest.fixture(scope="module")
def fleet(
    keys: Keys, releases: dict[str, Built], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with two releases, and a device that reported floor 1."""
    server = Server(keys, tmp_path_factory.mktemp("fleet") / "data").init().start()
    for version in ("1.1.0", "1.2.0"):
        assert server.publish(releases[version])[0] == 201
    device = Device(server)
    device.check_in()
    device.check_in()
    device.close()
    yield server
    server.stop()


@pytest.mark.parametrize("kind", SOON_LOST)
def test_root_that_would_lose_devices_is_refused_by_name(fleet: Server, kind: str) -> None:
    changes, says = SOON_LOST[kind]
    status, answer = fleet.api("POST", "roots", raw=next_root(fleet.keys, **changes))
    assert (status, answer["error"]["code"]) == (409, "root-danger"), answer
    assert says in answer["error"]["message"]
    assert fleet.api("GET", "roots")[1]["version"] == 1


def test_root_of_more_servers_and_cas_is_published_and_shown(own: Server, keys: Keys) -> None:
    own.start()
    servers = ("https://b.example", "https://localhost:8443")
    raw = next_root(keys, servers=servers, server_cas=(OTHER_CA, own_ca(keys)))
    status, answer = own.api("POST", "roots", raw=raw)
    assert status == 201, answer
    shown = own.api("GET", "roots")[1]
    assert shown["servers"] == list(servers)
    assert shown["server_cas"][0].startswith("CN=another CA, until 20")
    assert Device(own).check_in().assignment.root_version == 2


def test_root_that_would_lose_devices_is_taken_by_force_and_the_trail_tells(own: Server, keys: Keys) -> None:
    own.start()
    raw = next_root(keys, server_cas=(OTHER_CA,))
    assert own.api("POST", "roots", raw=raw)[0] == 409
    assert own.api("POST", "roots?force=1", raw=raw)[0] == 201
    added = [row for row in own.api("GET", "audit")[1]["audit"] if row["action"] == "root.add"]
    assert "comes from none of the server CAs" in added[0]["detail"]["lost"][0]
    own.stop()
    own.start()
    assert "comes from none of the server CAs" in own.stop()[1]


@pytest.mark.parametrize(("longest_answer", "count"), [(5120, 1), (8192, 2), (12_288, 3), (32_768, 4)])
def test_answer_brings_as_many_root_steps_as_the_device_can_take(
    keys: Keys, longest_answer: int, count: int
) -> None:
    revoked: tuple[bytes, ...] = tuple(bytes([number]) * 32 for number in range(64))
    steps = [keys.root_document(version, revoked=revoked) for version in range(2, 8)]
    assert 2900 < len(steps[0]) < 3000
    chain = TrustChain([keys.genesis, *steps])
    assert chain.steps_after(1, longest_answer) == steps[:count]
    assert fits(steps[:count], longest_answer)
