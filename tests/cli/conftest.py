import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))
sys.path.insert(0, str(Path(__file__).parent))

from cli_factory import fota as run_fota
from server_world import ALL_DEVICES, Built, Keys, Server, build_release, fota
from walk_world import World

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def releases(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    built = [
        build_release(keys, "1.0.0", 1, 1),
        build_release(keys, "1.1.0", 2, 2, size=150_000),
        build_release(keys, "1.2.0", 3, 3),
    ]
    return {release.version: release for release in built}


@pytest.fixture(scope="module")
def files(releases: dict[str, Built], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """version: (image file, envelope file), as CI leaves them."""
    folder = tmp_path_factory.mktemp("releases")
    paths = {}
    for version, built in releases.items():
        image, envelope = folder / f"{version}.bin", folder / f"{version}.suit"
        image.write_bytes(built.file)
        envelope.write_bytes(built.envelope)
        paths[version] = (str(image), str(envelope))
    return paths


@pytest.fixture(scope="module")
def server(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(keys, tmp_path_factory.mktemp("server") / "data").init().start()
    yield running
    code, stderr = running.stop()
    assert (code, "Traceback" in stderr) == (0, False)


@pytest.fixture(scope="module")
def cli(server: Server) -> Run:
    """Run ``fota`` with everything set as an operator sets it."""
    environment = {
        "FOTA_SERVER": server.operator_url,
        "FOTA_TOKEN": server.token,
        "FOTA_CA": str(server.keys.server_ca),
    }

    def run(*args: str, **overrides: str) -> CompletedProcess[str]:
        env = {name: value for name, value in (environment | overrides).items() if value}
        return fota(*args, env=env)

    return run


@pytest.fixture(autouse=True)
def closed_connections() -> Iterator[None]:
    yield
    while ALL_DEVICES:
        ALL_DEVICES.pop().close()


@pytest.fixture(scope="module")
def factory(tmp_path_factory):
    """Options that every provisioning command needs: two roots and a CA, made by the commands themselves."""
    folder = tmp_path_factory.mktemp("factory")
    run_fota("ca", "new", "-o", folder / "ca.pem", "--cert", folder / "ca.crt", "--name", "Factory 1")
    for name in "ab":
        run_fota("keys", "new", f"image/{name}", "-o", folder / f"{name}.pem")
        run_fota("keys", "public", folder / f"{name}.pem", "-o", folder / f"{name}.pub")
    return folder


@pytest.fixture
def roots(factory):
    return "--image-key-a", factory / "a.pub", "--image-key-b", factory / "b.pub"


@pytest.fixture
def options(roots, factory):
    return *roots, "--ca-key", factory / "ca.pem", "--ca-cert", factory / "ca.crt"


@pytest.fixture
def device(tmp_path):
    run_fota("vdev", "create", tmp_path / "d.vdev", "--seed", 5)
    return tmp_path / "d.vdev"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("walk"))
    yield made
    made.close()
    assert Path("/dev/full").is_char_device(), "somebody has replaced a device by a file"
