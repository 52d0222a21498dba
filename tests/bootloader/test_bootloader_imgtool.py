"""An image signed by imgtool, which this project did not write, boots."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

CLASS_ID = bytes.fromhex("00112233445566778899aabbccddeeff")  # as in conftest


def test_image_signed_by_imgtool_boots(
    device: Any, sample: Callable[..., bytes], keys: Any, tmp_path: Path
) -> None:
    key, payload, image = tmp_path / "key.pem", tmp_path / "app.bin", tmp_path / "app.img"
    key.write_bytes(keys.root_a.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    payload.write_bytes(sample("1.3.0"))
    command = [
        sys.executable, "-m", "imgtool.main", "sign", "--key", str(key), "--header-size", "0x200",
        "--pad-header",
        "--slot-size", "0x7c000", "--align", "8", "--version", "1.3.0", "--security-counter", "2",
        "--cid", str(UUID(bytes=CLASS_ID)), str(payload), str(image),
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr + result.stdout
    device.boot()
    device.install("B", image.read_bytes())
    device.request("B")
    device.restart()
    assert "fota-boot: slot B 1.3.0 trial" in device.said
