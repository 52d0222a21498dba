"""``fota gateway init`` looks at what a gateway is to live with, before it makes one: as for a chip."""

import pytest
from gateway_world import KEYS, MODEL, REPO, VENDOR

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def roots(world):
    """ROOT documents by what is wrong with them."""

    def new(name, *more):
        keys = [arg for n in (1, 2, 3) for arg in ("--root-key", KEYS / f"root-{n}.pub.pem")]
        keys += [arg for n in (1, 2, 3) for arg in ("--release-key", KEYS / f"release-{n}.pub.pem")]
        signers = [arg for n in (1, 2) for arg in ("--sign", KEYS / f"root-{n}.pem")]
        path = world.folder / f"{name}.cbor"
        world.fota("root", "new", *keys, "--assign-key", KEYS / "assign.pub.pem", *signers, "-o", path, *more)
        return path

    return {
        "other keys": new("other-keys", "--image-key", KEYS / "image-b.pub.pem"),
        "out of reach": new("out-of-reach", "--min-security-counter", 1000, "--device-floor", 800),
    }


def init(world, first, name, code, **other):
    given = {
        "--image": first,
        "--image-key": KEYS / "image-a.pub.pem",
        "--root": world.root,
        "--server": world.url,
        "--server-ca": KEYS / "server-ca.crt",
        "--vendor-domain": VENDOR,
        "--model": MODEL,
        "--module": world.hsm.module,
        "--token": "fota",
        "--pin-file": world.hsm.pin_file,
        "--label": name,
        "--ca-key": KEYS / "device-ca.pem",
        "--ca-cert": KEYS / "device-ca.crt",
    }
    given |= {f"--{option.replace('_', '-')}": value for option, value in other.items()}
    words = [word for pair in given.items() for word in pair]
    return world.fota("gateway", "init", world.folder / name, *words, code=code)


@pytest.mark.parametrize(
    ("other", "code", "says"),
    [
        ({"server": "http://localhost:8443"}, 3, "--server http://localhost:8443: it begins with http://"),
        ({"server": "localhost:8443"}, 3, "--server localhost:8443: it lacks https:// in front"),
        ({"server": "https://"}, 3, "--server https://: there is no host in it"),
        (
            {"server_ca": KEYS / "server.crt"},
            3,
            "server.crt: no usable server CA: it is not the certificate of a CA",
        ),
        ({"root": KEYS / "server-ca.crt"}, 3, "server-ca.crt is a certificate, expected a ROOT"),
        ({"root": "other keys"}, 1, "names other IMAGE keys than --image-key"),
        ({"root": "out of reach"}, 1, "minimum security counter 1000 is out of reach"),
        ({"image": REPO / "README.md"}, 3, "README.md: not a firmware image"),
        ({"pin_file": KEYS / "nothing"}, 3, "there is no such file with the PIN"),
    ],
)
def test_gateway_that_could_not_live_is_not_made(world, first, roots, other, code, says):
    other = {option: roots.get(value, value) for option, value in other.items()}
    error = init(world, first, "unborn", code, **other)
    assert says in error
    assert error.count("\n") == 1
    assert not (world.folder / "unborn").exists()


@pytest.mark.parametrize("which", ["image_key", "root"])
def test_gateway_with_published_keys_is_not_made_unless_told(world, first, which, tmp_path, monkeypatch):
    monkeypatch.delitem(world.environment, "FOTA_ALLOW_EXAMPLE_KEYS")
    monkeypatch.setitem(world.environment, "FOTA_KEY_PASSWORD", "correct-horse")
    world.fota("keys", "new", "image/own", "-o", tmp_path / "own.pem")
    world.fota("keys", "public", tmp_path / "own.pem", "-o", tmp_path / "own.pub.pem")
    ca = {"ca_key": tmp_path / "ca.pem", "ca_cert": tmp_path / "ca.crt"}
    world.fota("ca", "new", "-o", ca["ca_key"], "--cert", ca["ca_cert"], "--name", "Own")
    key = {"image_key": KEYS / "image-a.pub.pem", "root": tmp_path / "own.pub.pem"}[which]
    assert "a published example key" in init(world, first, "published", 1, image_key=key, **ca)
    assert not (world.folder / "published").exists()
