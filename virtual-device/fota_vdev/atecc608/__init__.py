"""A byte-level I2C model of the ATECC608B: transport, zones, locks, SRAM rules, P-256, counters."""

from fota_vdev.atecc608.assumptions import Assumptions
from fota_vdev.atecc608.chip import Atecc608

__all__ = ["Assumptions", "Atecc608"]
