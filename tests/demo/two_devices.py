"""The demo's last part: two devices, one agent. A chip whose own firmware is the agent, and a Linux gateway
that runs the same modules on CPython, under one server; nothing stands beside the chip but its network.
"""

import sys
import threading
from pathlib import Path
from typing import Any

import click
from chip_world import ChipWorld, firmware, why_not
from gateways import Gateways, softhsm
from stage import chapter, shown, tell
from world import HANG_S

from fota_wire.host_chips import DEFAULT

SAID = ("fota-boot: ", "agent ")
PROGRAM = """import time
from fota_agent import board, Agent
agent = Agent(board.detect())
agent.start()
agent.publish("climate", {"t": 21.5})
time.sleep(1e9)
"""


class TwoDevices(ChipWorld):
    """One server, the chip, and the gateway."""

    def __init__(self, folder: Path, chip: str) -> None:
        super().__init__(folder, chip)
        self.gateways: Gateways | None = None
        self.gateway_id = ""

    # -- the chip ----------------------------------------------------------------------------------------

    def make_chip(self) -> None:
        """Factory and first release of the chip."""
        self.provision(self.sign("1.0.0", 2, elf=firmware("1.0.0", self.row.NAME)))
        self.release_chip("1.0.0", 1)
        tell("factory", f"chip {self.device_id}: its firmware is MicroPython, mbedTLS and the agent")
        self.switch_on()

    def chip_until(self, text: str) -> str:
        """Run the chip; print its lines that matter."""
        said = self.run_chip(text)
        for line in said.splitlines():
            if line.startswith(SAID) and not line.endswith((": nonce", ": idle", ": health")):
                tell("chip", line)
        return said

    # -- the gateway -------------------------------------------------------------------------------------

    def make_gateway(self) -> bool:
        """Set up and launch the gateway, its key in a SoftHSM2 token; False if there is no SoftHSM2."""
        if not softhsm():
            tell("gateway", "left out: install Debian's package softhsm2")
            shown("Linux gateway", "left out")
            return False
        self.gateways = Gateways(self)
        image = self.gateways.release("2.0.0", 11, PROGRAM)
        self.gateway_id = self.gateways.make("gateway", image)["device"]
        tell("factory", f"gateway {self.gateway_id[:18]}: Linux, its key in a PKCS#11 token")
        self.gateways.launch("gateway")
        return True

    def close(self) -> None:
        """Stop everything."""
        if self.gateways is not None:
            self.gateways.stop()
        if hasattr(self, "machine"):
            self.switch_off()
        self.stop()


def both(
    world: TwoDevices, gateway: bool, command: tuple[str, ...], gateway_command: tuple[str, ...]
) -> None:
    """Give both devices an order; the gateway obeys while the chip runs."""
    rows: list[str] = []
    waiting = threading.Thread(
        target=lambda: rows.append(
            world.fota(*gateway_command, "--device", world.gateway_id, "--wait", "--timeout", HANG_S)
        )
    )
    world.fota(*command, "--device", world.device_id)
    if gateway:
        waiting.start()
    world.chip_until("settled")
    if gateway:
        waiting.join()


def show(world: TwoDevices, gateway: bool, expect: Any, chip: str, other: str) -> None:
    """Print what the server knows of both; it has to be these versions, confirmed."""
    ids = [("chip", world.device_id, chip)] + ([("gateway", world.gateway_id, other)] if gateway else [])
    for name, device, version in ids:
        row = world.json("device", "show", device)
        confirmed = (
            row["confirmed"].get("version") if isinstance(row["confirmed"], dict) else row["confirmed"]
        )
        tell("server", f"{name}: confirmed {confirmed}, status {row['status']}")
        expect(confirmed == version, f"the {name} has confirmed {version}")


def story(folder: Path, expect: Any, chip: str = DEFAULT) -> None:
    """Tell it, of a chip; one line where it cannot be told."""
    second = "and a Linux gateway" if softhsm() else "and no gateway this time"
    chapter(f"Two devices, one agent: a chip that runs nothing else, {second}")
    if why_not():
        tell("demo", f"left out: {why_not()}")
        shown("two devices, one agent", "left out")
        return
    world = TwoDevices(folder, chip)
    try:
        world.make_keys()
        world.start_server()
        world.make_chip()
        gateway = world.make_gateway()
        world.chip_until("settled")
        who = "Both update" if gateway else "It updates"
        chapter(f"{who}: the chip fetches its own successor over TLS 1.3, the key in the element")
        world.release_chip("1.1.0", 2)
        if world.gateways is not None:
            world.gateways.release("2.1.0", 12, PROGRAM)
        both(world, gateway, ("rollout", "start", "1.1.0"), ("rollout", "start", "2.1.0"))
        show(world, gateway, expect, "1.1.0", "2.1.0")
        chapter("Both go back: one command each" if gateway else "It goes back: one command")
        both(world, gateway, ("rollback",), ("rollback",))
        show(world, gateway, expect, "1.0.0", "2.0.0")
        tell("chip", f"connections: {len(world.modem.connections)}, all outbound; it cannot listen")
        shown("devices updated and sent back under one server", 2 if gateway else 1)
        shown("connections that the chip opened, and that it accepted", f"{len(world.modem.connections)}, 0")
    finally:
        world.close()


def main() -> None:
    """Run this part alone, for development."""

    def expect(fact: bool, what: str) -> None:
        if not fact:
            raise click.ClickException(what)

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        story(Path(folder), expect, *sys.argv[1:2])


if __name__ == "__main__":
    main()
