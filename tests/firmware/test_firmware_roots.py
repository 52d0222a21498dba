"""A ROOT ceremony as the chip lives through it (docs/ceremony.md): a release is revoked before it gets there,
the RELEASE keys are others from then on, and the floors go up behind the release that the new ones signed.
"""

import chip_world
import pytest

from fota_wire import suit

pytestmark = pytest.mark.slow
SETTLES = 8  # check-ins within which a ROOT is taken
NEW = ("release/new-1", "release/new-2")


def make_new_keys(world):
    """Return the files of two new RELEASE keys, private and public."""
    world.environment["FOTA_KEY_PASSWORD"] = "correct horse battery"
    made = []
    for name in NEW:
        private = world.folder / f"{name.replace('/', '-')}.pem"
        public = private.with_suffix(".pub.pem")
        world.fota("keys", "new", name, "-o", private)
        world.fota("keys", "public", private, "-o", public)
        made.append((private, public))
    return made


def next_root(world, previous, *words):
    """Publish the ROOT that follows ``previous``, signed by two of three; return its file."""
    file = world.folder / f"after-{previous.name}"
    signers = [word for n in (1, 3) for word in ("--sign", world.keys / f"root-{n}.pem")]
    world.fota("root", "new", "--previous", previous, *words, *signers, "-o", file)
    world.fota("release", "root", file)
    return file


def signed(world, image, sequence, keys):
    """Return the file of a manifest about ``image`` that these private keys have signed."""
    file = world.manifest(image, sequence, ())
    for number, key in enumerate(keys):
        more = image.with_suffix(f".new{number}")
        world.fota("manifest", "sign", file, "--key", key, "-o", more)
        file = more
    return file


def settled(world, version, root_version):
    """Run until the server knows that the chip has a ROOT; return what it said."""
    said = ""
    for _ in range(SETTLES):
        said += world.run_chip(f"agent {version}: settled")
        if world.twin()["root_version"] == root_version:
            return said
    raise AssertionError(f"ROOT {root_version} not taken:\n{said}")


def test_release_is_revoked_its_keys_are_replaced_and_floors_go_up_on_the_chip(chip):
    chip.run_chip("agent 1.0.0: settled")
    keys = make_new_keys(chip)
    old = [chip.keys / f"{name}.pem" for name in chip_world.RELEASES]
    both = [*old, *(private for private, _ in keys)]  # so that nothing bars it but that it is revoked
    bad = chip.sign("1.0.5", 2, elf=chip_world.firmware("1.1.0"))
    by_both = signed(chip, bad, 2, both)
    chip.fota("release", "publish", bad, by_both)
    chip.fota("rollout", "start", "1.0.5", "--device", chip.device_id)
    good = chip.sign("1.1.0", 3, elf=chip_world.firmware("1.1.0"))
    chip.fota("release", "publish", good, signed(chip, good, 3, both))

    digest = suit.unsafe_read_manifest(by_both.read_bytes()).manifest_digest.hex()
    words = [word for _, public in keys for word in ("--release-key", public)]
    second = next_root(chip, chip.root, *words, "--revoke", digest)
    assert "erase" not in settled(chip, "1.0.0", 2)
    assert chip.twin()["confirmed"]["version"] == "1.0.0"

    late = chip.sign("1.1.5", 3, elf=chip_world.firmware("1.1.0"))
    told = chip.fota("release", "publish", late, chip.manifest(late, 4, chip_world.RELEASES), ends=1)
    assert "0 of 2 necessary signatures" in told
    chip.fota("rollout", "start", "1.1.0", "--device", chip.device_id)
    chip.run_chip("agent 1.1.0: confirmed")

    next_root(chip, second, "--min-sequence", 3, "--min-security-counter", 3, "--device-floor", 2)
    settled(chip, "1.1.0", 3)
    assert chip.twin()["confirmed"]["version"] == "1.1.0"
    told = chip.fota("rollback", "--device", chip.device_id, "--to", "1.0.0", "--yes", ends=1)
    assert "minim" in told
    assert chip.machine.faults == []
