"""ROOT steps as long as SPEC 5.2 allows, on the STM32s: four at once, a whole update beside them, and the
boot after it; the STM32L476's store has room for one of them, and it takes the others again. Each names 16
keys, the last two four CAs, none of them the other's but the server's.
"""

import pytest
from longest import THREE, four_cas, got_over, longest_root, signed

from fota_wire import root as roots
from fota_wire.host_chips import DEFAULT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("each_chip", [DEFAULT, "stm32u585"], indirect=True),
]
STEPS = 4
SETTLES = 24  # check-ins within which it has them all; a step or two each, and some tries that failed


@pytest.fixture
def steps(each_chip):
    """Four ROOTs in a row, published."""
    chip = each_chip
    before = roots.unsafe_read_root(chip.root.read_bytes())
    made = []
    for number in range(STEPS):
        made.append(signed(chip, longest_root(chip, before, four_cas(chip) if number >= STEPS // 2 else ())))
        file = chip.folder / f"root-{number}.cbor"
        file.write_bytes(made[-1])
        chip.fota("release", "root", file)
        before = roots.unsafe_read_root(made[-1])
    return made


def settled(chip, version):
    """Run until the chip of that version has every step, as the server knows; return what it said."""
    said = ""
    for _ in range(SETTLES):
        said += chip.run_chip(f"agent {version}: settled")
        if chip.twin()["root_version"] > STEPS:
            return said
    raise AssertionError(f"not all steps within {SETTLES} check-ins:\n{said}")


def test_four_of_the_longest_root_steps_are_taken_in_two_boots_and_an_update_beside_them(each_chip, steps):
    chip = each_chip
    assert [len(step) for step in steps] == [roots.MAX_ROOT] * STEPS
    said = settled(chip, "1.0.0")
    chip.release_chip("1.1.0", 2)
    chip.fota("rollout", "start", "1.1.0", "--device", chip.device_id)
    said += chip.run_chip("agent 1.1.0: confirmed")
    said += settled(chip, "1.1.0")  # what its store has no room for comes again
    assert got_over(chip, said), said
    assert "certificate is not" not in said  # it is by the last of four CAs
    assert "agent: stopped" not in said
    assert chip.machine.faults == []
    assert [cause for _, cause in chip.machine.resets if cause == "iwdg"] == []


def test_signer_and_server_take_no_longer_root_and_name_the_limit(each_chip):
    chip = each_chip
    before = roots.unsafe_read_root(chip.root.read_bytes())
    raw = longest_root(chip, before, size=roots.MAX_ROOT + 1)
    file, last = chip.folder / "too-long.cbor", chip.keys / f"{THREE[-1]}.pem"
    file.write_bytes(signed(chip, raw, THREE[:-1]))
    words = f"ROOT of {roots.MAX_ROOT + 1} bytes is longer than {roots.MAX_ROOT}"
    assert words in chip.fota(
        "root", "sign", file, "--previous", chip.root, "--key", last, "-o", chip.folder / "never.cbor", ends=3
    )
    assert not (chip.folder / "never.cbor").exists()
    file.write_bytes(bytes(roots.MAX_ROOT + 1))
    assert str(roots.MAX_ROOT) in chip.fota("release", "root", file, ends=3)
