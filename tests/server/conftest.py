import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import databases
import fronts
from server_world import ALL_DEVICES, Built, Device, Keys, Server, build_release


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def releases(keys: Keys) -> dict[str, Built]:
    built = [
        build_release(keys, "1.0.0", 1, 1),
        build_release(keys, "1.1.0", 2, 2, size=150_000),
        build_release(keys, "1.2.0", 3, 3),
    ]
    return {release.version: release for release in built}


@pytest.fixture(scope="session", autouse=True)
def database_kind(request: pytest.FixtureRequest) -> str:
    """The database that servers of tests are set up with; a module's ``DATABASES`` says which it wants."""
    databases.kind = getattr(request, "param", databases.SQLITE)
    if databases.kind == databases.POSTGRESQL and (why := databases.why_no_postgresql()):
        pytest.skip(why)
    return databases.kind


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    kinds = getattr(metafunc.module, "DATABASES", ())
    if kinds and not metafunc.definition.get_closest_marker("sqlite"):
        metafunc.parametrize("database_kind", kinds, indirect=True, scope="session")


def pytest_sessionfinish() -> None:
    databases.end_postgres()


@pytest.fixture(scope="session")
def server(
    keys: Keys,
    releases: dict[str, Built],
    tmp_path_factory: pytest.TempPathFactory,
    database_kind: str,
) -> Iterator[Server]:
    """A server that runs through the session, with all releases published; tests bring their own devices."""
    running = Server(keys, tmp_path_factory.mktemp("server") / "data").init().start()
    for built in releases.values():
        status, answer = running.publish(built)
        assert status == 201, answer
    yield running
    code, stderr = running.stop()
    assert code == 0, stderr
    assert "Traceback" not in stderr, stderr


@pytest.fixture
def own(keys: Keys, releases: dict[str, Built], tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own, with all releases."""
    server = Server(keys, tmp_path / "data").init().start()
    for built in releases.values():
        assert server.publish(built)[0] == 201
    yield server
    assert server.stop()[0] == 0


@pytest.fixture(scope="session")
def big(keys: Keys) -> Built:
    return build_release(keys, "2.0.0", 9, 9, size=fronts.BIG)


@pytest.fixture(scope="session")
def fronted(
    keys: Keys,
    releases: dict[str, Built],
    big: Built,
    tmp_path_factory: pytest.TempPathFactory,
    database_kind: str,
) -> Iterator[fronts.Fronted]:
    """A server behind nginx, with all releases published; DDI is served, too."""
    if fronts.NGINX is None:
        pytest.skip("no nginx: 'make oracles' brings it, or install nginx-light")
    made = fronts.Fronted(keys, tmp_path_factory.mktemp("front"), ddi_tenant="DEFAULT")
    for built in (*releases.values(), big):
        assert made.server.publish(built)[0] == 201
    yield made
    made.stop()


@pytest.fixture
def device(server: Server) -> Device:
    return Device(server)


@pytest.fixture(autouse=True)
def closed_connections() -> Iterator[None]:
    yield
    while ALL_DEVICES:
        ALL_DEVICES.pop().close()
