"""What the virtual device does not model, in sentences that `fota vdev limits` prints."""

from fota_vdev.atecc608.assumptions import Assumptions
from fota_vdev.atecc608.commands import NOT_MODELLED
from fota_vdev.chips import esp32c3, stm32u5

CHIP = (
    "Time: one instruction is one core clock. No wait states, pipeline, caches or bus contention.",
    "Polling a busy flag lets time run on to the end of the wait: few instructions, the full time.",
    "Registers, bits and peripherals that are not modelled end the run with a fault; none reads as zero.",
    "Interrupts of peripherals (NVIC): enabling one ends the run. SysTick, SVC, PendSV and NMI exist.",
    "Exceptions have one priority group: no nesting but NMI and HardFault; BASEPRI and FAULTMASK ignored.",
    "MemManage, BusFault and UsageFault always escalate to HardFault. No FPU, no unaligned traps.",
    "The MPU forbids execution only, in pages of 4 KiB, in every mode; data accesses are not checked.",
    "Stop and standby modes, HSE, LSE and the SAI PLLs do not exist; the PLL locks at once.",
    "Flash caches hold nothing; using them where silicon would go wrong is reported as a warning.",
    "Fetching code from a torn double word raises no NMI (a data read does); no single-bit errors (ECCC).",
    "Option bytes are set by the factory, not by the chip; no RDP, PCROP or fast programming.",
    "The IWDG has no window. The USART takes no time on the line. GPIO inputs read 1. No DMA or ADC.",
    "TIM2 counts up behind its prescaler, on the STM32L476; no channels, no interrupt. No other timer.",
    "I2C1 is a polling master: no arbitration, no clock stretching, no line held low by a confused element.",
    "The ROM loader (system memory boot, BFB2) is not there.",
    "No power analysis, no glitch physics, no real noise: random numbers come from a seeded generator.",
)
MODEM = (
    "No device of that name exists: a socket-offload modem on the external bus (ESP32-C3: at the end of a"
    " UART), one outbound connection.",
    "Commands take no virtual time; a wait for the peer takes the real time that it lasts.",
    "Where it may connect is the host's word: the loopback, unless a test or a program says more.",
    "Its memory is not modelled: it is empty after a reset or a power cut, and the peer sees the end.",
)
ELEMENT = (
    f"Commands answered as not modelled: {', '.join(sorted(NOT_MODELLED.values()))}.",
    "GPIO, UseLock, transport keys, the copy of CheckMac's password check, KDF messages in a slot.",
    "Supply current, temperature and side channels do not exist.",
)


def as_dict() -> dict[str, object]:
    """Return all limits and assumptions for JSON."""
    return {
        "chip": list(CHIP),
        "modem": list(MODEM),
        "element": list(ELEMENT),
        "esp32c3": list(esp32c3.NOT_MODELLED),
        "assumed_of_chips": {"stm32u585": list(stm32u5.ASSUMPTIONS), "esp32c3": list(esp32c3.ASSUMPTIONS)},
        "assumptions": {name: {"value": _plain(name), "why": why} for name, why in Assumptions.explain()},
    }


def _plain(name: str) -> object:
    value = getattr(Assumptions(), name)
    return value.hex() if isinstance(value, bytes) else value


def as_text() -> str:
    """Return the same as lines for people."""
    lines = ["Not modelled, STM32L476:", *(f"  - {line}" for line in CHIP)]
    lines += ["Not modelled, ESP32-C3:", *(f"  - {line}" for line in esp32c3.NOT_MODELLED)]
    for name, assumed in (("STM32U585", stm32u5.ASSUMPTIONS), ("ESP32-C3", esp32c3.ASSUMPTIONS)):
        lines += [f"Assumed of the {name}, unverified on silicon:", *(f"  - {line}" for line in assumed)]
    lines += ["Modem, where one is attached:", *(f"  - {line}" for line in MODEM)]
    lines += ["Not modelled, ATECC608:", *(f"  - {line}" for line in ELEMENT)]
    lines += ["Assumed, unverified on silicon (fota_vdev.atecc608.Assumptions):"]
    lines += [f"  - {name} = {_plain(name)}: {why}" for name, why in Assumptions.explain()]
    return "\n".join(lines)
