"""Linux gateways of the demo: a SoftHSM2 token for their keys, releases of their program, their launchers."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from world import HANG_S, VENDOR, World

MODEL = "gateway-demo"
MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "493827"
SIGNERS = ("release-1", "release-2")


def softhsm() -> bool:
    """Tell whether SoftHSM2 is on this machine."""
    return MODULE.exists() and shutil.which("softhsm2-util") is not None


class Gateways:
    """The gateways of one world: made, released for, launched, and stopped."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._home = world.folder / "hsm"
        self._launchers: list[subprocess.Popen[bytes]] = []
        (self._home / "tokens").mkdir(parents=True)
        conf = self._home / "softhsm2.conf"
        conf.write_text(f"directories.tokendir = {self._home}/tokens\nlog.level = ERROR\n")
        (self._home / "pin").write_text(PIN + "\n")
        world.environment["SOFTHSM2_CONF"] = str(conf)
        token = ["softhsm2-util", "--init-token", "--free", "--label", "fota", "--pin", PIN, "--so-pin", PIN]
        subprocess.run(token, check=True, capture_output=True, env=world.environment)

    def release(self, version: str, sequence: int, program: str) -> Path:
        """Write, sign and publish one release of the gateways' program; return its image."""
        world = self._world
        source, image = world.folder / f"gateway-{version}.py", world.folder / f"gateway-{version}.img"
        source.write_text(f"#!{sys.executable}\n{program}")
        whom = ("--vendor-domain", VENDOR, "--model", MODEL)
        world.fota("sign", source, "--program", "-o", image, "--key", world.keys / "image-a.pem",
                   "--version", version, "--security-counter", 1, *whom)  # fmt: skip
        last = image.with_suffix(".suit0")
        world.fota("manifest", "new", image, "-o", last, "--sequence", sequence, *whom)
        for number, signer in enumerate(SIGNERS, start=1):
            signed = image.with_suffix(f".suit{number}")
            world.fota("manifest", "sign", last, "--key", world.keys / f"{signer}.pem", "-o", signed)
            last = signed
        world.fota("release", "publish", image, last)
        return image

    def make(self, name: str, image: Path) -> Any:
        """Set up the gateway in folder ``name``, its key born in the token; return what it says of itself."""
        world, path = self._world, self._world.folder / name
        world.fota("gateway", "init", path, "--image", image, "--image-key", world.keys / "image-a.pub.pem",
                   "--root", world.root, "--server", world.device_url,
                   "--server-ca", world.keys / "server-ca.crt", "--vendor-domain", VENDOR,
                   "--model", MODEL, "--module", MODULE, "--token", "fota", "--label", name,
                   "--pin-file", self._home / "pin", "--ca-key", world.keys / "device-ca.pem",
                   "--ca-cert", world.keys / "device-ca.crt")  # fmt: skip
        return world.json("gateway", "show", path)

    def launch(self, name: str) -> None:
        """Start the launcher of a gateway, as its service would."""
        with (self._world.folder / f"{name}.log").open("wb") as log:
            self._launchers.append(
                subprocess.Popen(
                    [sys.executable, "-m", "fota_cli", "gateway", "launch", str(self._world.folder / name)],
                    stdout=log, stderr=log, env=self._world.environment,
                )
            )  # fmt: skip

    def stop(self) -> None:
        """End all launchers, and their programs with them."""
        for launcher in self._launchers:
            launcher.send_signal(signal.SIGTERM)
        for launcher in self._launchers:
            launcher.wait(HANG_S)
        self._launchers.clear()
