"""What a server is given is looked at as devices will: CAs that nobody believes, ROOTs that orphan them."""

import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_world import Device, Keys, Server, cert_pem, fota

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "signer"))

from ca_world import DAY, NO_CERT_SIGN, SERVER, make_ca

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
