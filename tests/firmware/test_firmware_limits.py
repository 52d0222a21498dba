"""ROOT steps of some size on the chip: four at once, which it takes one after the other, and a whole update
after them. Those of 4,096 bytes, as SPEC 5.2 allows, are taken, but not in any state of its heap (CHANGELOG).
"""

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fota_wire import cose, host_crypto
from fota_wire import root as roots

pytestmark = pytest.mark.slow
STEPS = 4
LARGE = 2_200  # bytes
SIGNERS = ("root-1", "root-3")
MEMORY = "MemoryError"  # its text is cut where there is no memory for that either


def key(world, name):
    return load_pem_private_key((world.keys / f"{name}.pem").read_bytes(), None)


def signed(world, raw, names):
    for name in names:
        private = key(world, name)
        kid = cose.kid_of(host_crypto.public_xy(private))
        raw = roots.add_signature(raw, kid, host_crypto.signer(private))
    return raw


def large_root(world, before):
    """Return a ROOT that follows ``before`` and is as near to ``LARGE`` bytes as revocations bring it."""
    three = [host_crypto.public_xy(key(world, f"root-{n}")) for n in (1, 2, 3)]
    release = [host_crypto.public_xy(key(world, f"release-{n}")) for n in (1, 2, 3)]
    fill = [bytes([before.version]) + bytes([n]) * 63 for n in range(roots.MAX_KEYS - 7)]
    assign = [before.keys[kid] for kid in before.role_keys(roots.ASSIGN)]
    best = b""
    for count in range(roots.MAX_REVOKED + 1):
        raw = roots.build_root(
            before.version + 1,
            {roots.ROOT: (2, three), roots.RELEASE: (2, release + fill), roots.ASSIGN: (1, assign)},
            revoked=tuple(bytes([before.version, count]) * 16 for count in range(count)),
            image_keys=tuple(before.image_keys.values()),
        )
        raw = signed(world, raw, SIGNERS)
        if len(raw) > LARGE:
            break
        best = raw
    return best


@pytest.fixture
def steps(chip):
    """Four ROOTs in a row, published."""
    before = roots.unsafe_read_root(chip.root.read_bytes())
    made = []
    for number in range(STEPS):
        made.append(large_root(chip, before))
        file = chip.folder / f"root-{number}.cbor"
        file.write_bytes(made[-1])
        chip.fota("release", "root", file)
        before = roots.unsafe_read_root(made[-1])
    return made


def test_four_large_root_steps_are_taken_and_a_whole_update_still_fits(chip, steps):
    assert all(LARGE - 34 < len(step) <= LARGE for step in steps)
    said = chip.run_chip("agent 1.0.0: settled")
    while chip.twin()["root_version"] <= STEPS:
        said += chip.run_chip("agent 1.0.0: settled")
    chip.release_chip("1.1.0", 2)
    chip.fota("rollout", "start", "1.1.0", "--device", chip.device_id)
    said += chip.run_chip("agent 1.1.0: confirmed")
    said += chip.run_chip("agent 1.1.0: settled")
    while chip.twin()["root_version"] <= STEPS:  # what its store has no room for comes again
        said += chip.run_chip("agent 1.1.0: settled")
    assert MEMORY not in said
    assert "agent: stopped" not in said
    assert chip.machine.faults == []
    assert [cause for _, cause in chip.machine.resets if cause == "iwdg"] == []
