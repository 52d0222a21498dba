"""What kind of chip is on the bus, told from its configuration zone before anything is written."""

from dataclasses import dataclass

from fota_wire import element
from fota_wire.errors import VerifyError

SN8_TRUST = 0x01
TRUST_ADDRESSES = {0x6C: "TrustFLEX", 0x6A: "Trust&GO"}
OPEN = 0x55
ADVICE = {
    "TrustFLEX": (
        "can: identity and TLS with slot 0; root A and the IO key while slots 15 and 6 are open; "
        "cannot: the pairing key of the counters (slot 4 is a private key there), nor a second root "
        "without validation (slot 14); order blank parts (ATECC608 TrustCUSTOM) for this product"
    ),
    "Trust&GO": (
        "can: identity and TLS with Microchip's certificate; cannot: our firmware roots, IO, pairing keys; "
        "all of it is locked; order blank parts (ATECC608 TrustCUSTOM) for this product"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipFacts:
    """``kind``: blank, ours, foreign, TrustFLEX or Trust&GO. ``address``: 7-bit, as configured."""

    kind: str
    serial: bytes
    revision: bytes
    address: int
    config_locked: bool
    data_locked: bool
    locked_slots: tuple[int, ...]
    differs_at: int | None
    latched: bool

    def as_dict(self) -> dict[str, object]:
        """Return the facts for printing."""
        return {
            "kind": self.kind,
            "serial": self.serial.hex(),
            "revision": self.revision.hex(),
            "i2c_address": f"0x{self.address:02x}",
            "configuration_locked": self.config_locked,
            "data_locked": self.data_locked,
            "keys_need_latch": self.latched,
            "locked_slots": " ".join(map(str, self.locked_slots)) or "none",
            "advice": ADVICE.get(self.kind, "-"),
        }


def recognise(zone: bytes) -> ChipFacts:
    """Return the facts in a configuration zone of 128 bytes."""
    config_locked, data_locked = zone[87] != OPEN, zone[86] != OPEN
    bits = int.from_bytes(zone[88:90], "little")
    locked_slots = tuple(slot for slot in range(16) if not bits >> slot & 1)
    wanted = element.wanted_config(zone, latched=element.is_latched(zone))
    differs = next((at for a, b in element.FIXED for at in range(a, b) if zone[at] != wanted[at]), None)
    if zone[12] == SN8_TRUST or zone[16] in TRUST_ADDRESSES:
        kind = TRUST_ADDRESSES.get(zone[16], "TrustFLEX")
    elif config_locked:
        kind = "ours" if differs is None else "foreign"
    else:
        kind = "foreign" if data_locked or locked_slots else "blank"
    return ChipFacts(
        kind=kind,
        serial=zone[0:4] + zone[8:13],
        revision=zone[4:8],
        address=zone[16] >> 1,
        config_locked=config_locked,
        data_locked=data_locked,
        locked_slots=locked_slots,
        differs_at=differs,
        latched=config_locked and element.is_latched(zone),
    )


def require_usable(facts: ChipFacts) -> None:
    """Return if the chip is blank or configured as SPEC 1.4 says.

    Raises:
        VerifyError: it is not; code ``foreign``.
    """
    if facts.kind in ADVICE:
        raise VerifyError(
            f"step recognise: chip {facts.serial.hex()} is a {facts.kind} part, configured by Microchip: "
            f"{ADVICE[facts.kind]}",
            "foreign",
        )
    if facts.kind == "foreign" and facts.config_locked:
        raise VerifyError(
            f"step recognise: chip {facts.serial.hex()} is somebody else's: its locked configuration differs "
            f"from SPEC 1.4 at byte {facts.differs_at}; take another chip",
            "foreign",
        )
    if facts.kind == "foreign":
        raise VerifyError(
            f"step recognise: chip {facts.serial.hex()} is half locked: data or slots are, its "
            "configuration is not; take another chip",
            "foreign",
        )
