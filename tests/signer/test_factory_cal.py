"""Provisioning through Microchip's CryptoAuthLib, whose own I2C drives the chip model."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from lifeline import HANG_S

from fota_signer.factory.cal import CalTransport
from fota_wire.errors import StorageError

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("cryptoauthlib") is None,
    reason="no cryptoauthlib wheel: pip install 'fota[test]'",
)


def provisioned(scenario, work):
    script = Path(__file__).with_name("factory_cal.py")
    done = subprocess.run(
        [sys.executable, str(script), scenario, str(work)], capture_output=True, text=True, timeout=HANG_S
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_library
@pytest.mark.parametrize("scenario", ["blank", "latched", "cut", "absent"])
def test_cryptoauthlib_carries_a_blank_chip_to_the_end(scenario, tmp_path):
    out = provisioned(scenario, tmp_path)
    assert out["device_id"] == out["serial"]
    assert out["locked"] == [True, True, 0, 1, 4, 6, 14, 15]
    assert out["paired"]
    assert out["roots"]
    assert out["changed_again"] == []
    assert out["unmodelled"] == []
    error = out.get("first_error", "")
    if scenario in ("blank", "latched"):
        assert error == ""
    else:
        assert error.startswith("step ")
        assert "no answer from I2C bus 1, address 0x60" in error


def test_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptoauthlib", None)
    with pytest.raises(StorageError, match="pip install cryptoauthlib"):
        CalTransport(None)
