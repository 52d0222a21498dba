"""ROOT and the LOG keys, by which devices ask for the release log (SPEC 5.9)."""

from pathlib import Path

import pytest

from fota_wire import root as roots


@pytest.fixture
def log_keys(fota, tmp_path):
    """Public halves of two LOG keys, as `fota keys new log/NAME` makes them."""
    for name in "ab":
        words = ("keys", "new", f"log/{name}", "-o", f"{name}.pem")
        assert fota(*words, env={"FOTA_KEY_PASSWORD": "correct horse battery"}).returncode == 0
        words = ("keys", "public", f"{name}.pem", "-o", f"{name}.pub")
        assert fota(*words, env={"FOTA_KEY_PASSWORD": "correct horse battery"}).returncode == 0
    return [tmp_path / "a.pub", tmp_path / "b.pub"]


def role(raw):
    threshold, kids = roots.unsafe_read_root(raw).roles.get(roots.LOG, (0, []))
    return threshold, len(kids)


def test_role_is_named_kept_widened_and_dropped_from_one_root_to_the_next(new_root, log_keys, tmp_path):
    one, two = log_keys
    assert role(new_root()) == (0, 0)
    (tmp_path / "first").write_bytes(new_root("--log-key", one))
    before = "--previous", tmp_path / "first"
    assert role(Path(tmp_path / "first").read_bytes()) == (1, 1)
    assert role(new_root(*before)) == (1, 1)
    assert role(new_root(*before, "--log-key", one, "--log-key", two, "--log-threshold", 2)) == (2, 2)
    assert role(new_root(*before, "--drop-log")) == (0, 0)


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (("--log-key", "a.pub", "--drop-log"), "one or the other"),
        (("--log-threshold", 1), "no key of role log"),
        (("--log-key", "a.pub", "--log-threshold", 2), "2 have to sign"),
        (("--log-key", "keys", "--log-threshold", 1), "folder"),
    ],
)
def test_role_that_makes_no_sense_is_one_line(fota, key_dir, log_keys, tmp_path, more, word):
    (tmp_path / "keys").mkdir(exist_ok=True)
    words = [w for name in ("root", "release") for w in (f"--{name}-key", key_dir / f"{name}-1.pub.pem")]
    words += ["--assign-key", key_dir / "assign.pub.pem", "--root-threshold", 1, "--release-threshold", 1]
    done = fota("root", "new", *words, *more, "-o", "root.cbor")
    assert (done.returncode in (2, 3), done.stderr.count("\n")) == (True, 1), done.stderr
    assert word in done.stderr
    assert not (tmp_path / "root.cbor").exists()
