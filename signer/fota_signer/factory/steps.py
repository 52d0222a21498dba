"""The steps from a blank chip to a locked, paired one: each knows by reading the chip whether it is done.

Order matters twice. The pairing keys are on disk before the chip gets them (`record`); and a slot is locked
only after the chip has proved what is in it, so that a power cut anywhere leaves something to go on with.
"""

from collections.abc import Callable
from dataclasses import dataclass

from fota_signer.factory.commands import LOCK, OTHER_DATA, WRITE, Command, Keep, Session, Value, read_zone
from fota_signer.factory.packets import ElementStatusError
from fota_wire import element
from fota_wire.element import (
    ATTESTATION_SLOT,
    IDENTITY_SLOT,
    IO_SLOT,
    LOCKED_SLOTS,
    MAC_SLOT,
    NEXT_SLOT,
    ROOT_A_SLOT,
    ROOT_B_SLOT,
)
from fota_wire.errors import DeviceError, FotaError, VerifyError

READ, GENKEY, NONCE, SIGN, INFO = 0x02, 0x40, 0x16, 0x41, 0x30
MAC, CHECKMAC, COUNTER = 0x08, 0x28, 0x24
Done = Callable[[Session], bool]
Tell = Callable[[str, bool], None]
"""(step, did something): called after every step."""


def never(session: Session) -> bool:
    """Let a step run every time: it proves something, and changes nothing."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """``commands`` do it, unless ``done`` finds that it is done. ``always``: it only looks."""

    name: str
    commands: tuple[Command, ...]
    done: Done = never

    @property
    def looks_only(self) -> bool:
        """True for a step that changes nothing."""
        return self.done is never


def run_steps(steps: tuple[Step, ...], session: Session, tell: Tell = lambda name, did: None) -> None:
    """Bring the chip through all steps that are not done yet.

    Raises:
        DeviceError, VerifyError: a step failed; names it. What was done stays, and a new run goes on there.
    """
    for number, step in enumerate(steps, start=1):
        try:
            done = step.done(session)
            if not done:
                for command in step.commands:
                    session.run(command)
        except FotaError as exc:
            kind = VerifyError if isinstance(exc, VerifyError) else DeviceError
            raise kind(f"step {number} of {len(steps)}, {step.name}: {exc}", exc.code) from exc
        tell(step.name, not (done or step.looks_only))


# -- configuration -------------------------------------------------------------------------------------------


def _config_word(offset: int, *data: bytes | Value) -> Command:
    p2 = offset // 32 << 3 | offset % 32 // 4
    return Command(name=f"Write of the configuration at {offset}", opcode=WRITE, p1=0x00, p2=p2, data=data)


def _config_block(block: int) -> Command:
    name = f"Write of the configuration at {32 * block}"
    return Command(name=name, opcode=WRITE, p1=0x80, p2=block << 3, data=(Value(f"wanted_{block}"),))


def configure(counters: tuple[int, int], latched: bool = False) -> Step:
    """Write SlotConfig, KeyConfig, SecureBoot, ChipOptions and the counters' first values (SPEC 1.4)."""
    zone = element.wanted_config(bytes(element.CONFIG_SIZE), counters, latched)

    def done(session: Session) -> bool:
        now = session.zone
        if session.config_locked:
            return True
        session.values.counters, session.values.latched = counters, latched
        return now == element.wanted_config(now, counters, latched)

    return Step(
        name="configure",
        commands=(
            _config_word(16, Value("config_16"), zone[18:20]),
            *(_config_word(at, zone[at : at + 4]) for at in (20, 24, 28)),
            _config_block(1),
            _config_word(64, zone[64:68]),
            _config_word(68, zone[68:72]),
            _config_word(88, Value("config_88"), zone[90:92]),
            _config_word(92, zone[92:96]),
            _config_block(3),
        ),
        done=done,
    )


def lock_config() -> Step:
    """Read the zone back, then lock it under its checksum."""
    proof = tuple(
        Command(name="read-back of the configuration", opcode=READ, p1=0x80, p2=block << 3,
                answer=Value(f"wanted_{block}"))
        for block in range(4)
    )  # fmt: skip
    lock = Command(name="Lock of the configuration", opcode=LOCK, p1=0x00, p2=Value("config_crc"))
    return Step(name="lock-configuration", commands=(*proof, lock), done=lambda s: s.config_locked)


# -- keys ----------------------------------------------------------------------------------------------------


def _public(slot: int, name: str) -> Command:
    return Command(
        name=f"GenKey (public) of slot {slot}", opcode=GENKEY, p1=0x00, p2=slot, answer=Keep(name, 64)
    )


def make_key(slot: int, name: str) -> Step:
    """Make a private key in the chip. Until the data zone is locked it is made again, whatever is there: only
    then is it certain that nobody put a key in that he knows.
    """

    def done(session: Session) -> bool:
        if not session.data_locked:
            return False
        try:
            session.run(_public(slot, name))
        except ElementStatusError:
            if session.slot_locked(slot):
                raise
            return False
        return True

    command = Command(name=f"GenKey of slot {slot}", opcode=GENKEY, p1=0x04, p2=slot, answer=Keep(name, 64))
    return Step(name=f"make-key-{name}", commands=(command,), done=done)


def _block(slot: int, block: int, data: bytes | Value) -> Command:
    return Command(
        name=f"Write of slot {slot}", opcode=WRITE, p1=0x82, p2=block << 8 | slot << 3, data=(data,)
    )


def _stored(public_xy: bytes) -> bytes:
    return bytes(4) + public_xy[:32] + bytes(4) + public_xy[32:]


def _root_writes(slot: int, public_xy: bytes) -> tuple[Command, ...]:
    raw = _stored(public_xy).ljust(96, b"\0")
    return tuple(_block(slot, block, raw[32 * block : 32 * block + 32]) for block in range(3))


def _root_proof(slot: int, public_xy: bytes) -> tuple[Command, ...]:
    raw, name = _stored(public_xy), f"read-back of the firmware root in slot {slot}"
    blocks = tuple(
        Command(name=name, opcode=READ, p1=0x82, p2=b << 8 | slot << 3, answer=raw[32 * b : 32 * b + 32])
        for b in range(2)
    )
    words = tuple(
        Command(
            name=name, opcode=READ, p1=0x02, p2=2 << 8 | slot << 3 | w, answer=raw[64 + 4 * w : 68 + 4 * w]
        )
        for w in range(2)
    )
    return blocks + words


MAC_WRITE = (_block(MAC_SLOT, 0, Value("mac_key")),)
MAC_PROOF = (
    Command(name="MAC with the pairing key in slot 4", opcode=MAC, p2=MAC_SLOT, data=(Value("challenge"),),
            answer=Value("mac_answer")),
)  # fmt: skip
IO_WRITE = (_block(IO_SLOT, 0, Value("io_key")),)
IO_PROOF = (
    Command(name="CheckMac with the IO protection key in slot 6", opcode=CHECKMAC, p2=IO_SLOT,
            data=(Value("challenge"), Value("io_response"), OTHER_DATA)),
)  # fmt: skip


def store(slot: int, name: str, writes: tuple[Command, ...], proof: tuple[Command, ...]) -> Step:
    """Write a slot. Until the data zone is locked the chip shows nothing of it: then it is written again."""

    def done(session: Session) -> bool:
        return session.slot_locked(slot) or (session.data_locked and session.proves(proof))

    return Step(name=f"store-{name}", commands=writes, done=done)


def lock_data() -> Step:
    """Lock data and OTP zones. Without checksum: it would cover private keys that nobody knows."""
    command = Command(name="Lock of the data zone", opcode=LOCK, p1=0x81)
    return Step(name="lock-data", commands=(command,), done=lambda s: s.data_locked)


def lock_slot(slot: int) -> Step:
    """Lock one slot, whose content was proved before."""
    command = Command(name=f"Lock of slot {slot}", opcode=LOCK, p1=0x02 | slot << 2)
    return Step(name=f"lock-slot-{slot}", commands=(command,), done=lambda s: s.slot_locked(slot))


def check_counters(counters: tuple[int, int]) -> Step:
    """Find both counters where the factory set them; once the data zone is locked, at least there: in the
    field they only grow. Whoever counted before that would have made a board that boots nothing of root A.
    """
    commands = tuple(
        Command(name=f"read of Counter{i}", opcode=COUNTER, p2=i, answer=value.to_bytes(4, "little"))
        for i, value in enumerate(counters)
    )

    def done(session: Session) -> bool:
        if not session.data_locked:
            for command in commands:
                session.run(command)
            return True
        kept = [Command(name="Counter", opcode=COUNTER, p2=i, answer=Keep(f"counter_{i}", 4)) for i in (0, 1)]
        values = [int.from_bytes(session.run(command), "little") for command in kept]
        return all(now >= wanted for now, wanted in zip(values, counters, strict=True))

    return Step(name="check-counters", commands=commands, done=done)


def set_latch() -> Step:
    """Set the persistent latch, as the bootloader does at each power-up: now the keys can sign."""
    nonce = Command(name="Nonce (random)", opcode=NONCE, p1=0x00, data=(Value("num_in"),),
                    answer=Keep("nonce_random", 32))  # fmt: skip
    proof = Command(name="CheckMac with the IO key over TempKey", opcode=CHECKMAC, p1=0x01, p2=IO_SLOT,
                    data=(bytes(32), Value("latch_proof"), OTHER_DATA))  # fmt: skip
    latch = Command(name="Info (set the latch)", opcode=INFO, p1=4, p2=3, answer=b"\x01\0\0\0")
    return Step(name="set-latch", commands=(nonce, proof, latch))


def sign_request() -> Step:
    """Have the identity key sign its certificate request."""
    nonce = Command(name="Nonce (digest)", opcode=NONCE, p1=0x43, data=(Value("request_digest"),))
    sign = Command(
        name="Sign with slot 0", opcode=SIGN, p1=0xA0, p2=IDENTITY_SLOT, answer=Keep("signature", 64)
    )
    return Step(name="sign-request", commands=(nonce, sign))


def all_steps(
    *,
    root_a_xy: bytes,
    root_b_xy: bytes,
    counters: tuple[int, int] = (0, 0),
    secrets: bool = True,
    latched: bool = False,
) -> tuple[Step, ...]:
    """Return the steps in their order. ``secrets`` False: the pairing keys are in the factory HEX alone,
    so nothing is stored or proved that needs them. ``latched``: keys are usable only after a verified boot.
    """
    signing = [set_latch(), sign_request()] if latched else [sign_request()]
    if latched and not secrets:
        signing = []  # the record has request and certificate, or its keys would not be gone
    stored = [
        (ROOT_A_SLOT, "root-a", _root_writes(ROOT_A_SLOT, root_a_xy), _root_proof(ROOT_A_SLOT, root_a_xy)),
        (ROOT_B_SLOT, "root-b", _root_writes(ROOT_B_SLOT, root_b_xy), _root_proof(ROOT_B_SLOT, root_b_xy)),
    ]
    if secrets:
        stored += [(MAC_SLOT, "pairing-key", MAC_WRITE, MAC_PROOF), (IO_SLOT, "io-key", IO_WRITE, IO_PROOF)]
    return (
        configure(counters, latched),
        lock_config(),
        make_key(IDENTITY_SLOT, "identity"),
        make_key(ATTESTATION_SLOT, "attestation"),
        make_key(NEXT_SLOT, "next"),
        *(store(slot, name, writes, proof) for slot, name, writes, proof in stored),
        check_counters(counters),
        lock_data(),
        *(Step(name=f"prove-{name}", commands=proof) for _, name, _, proof in stored),
        *(lock_slot(slot) for slot in LOCKED_SLOTS),
        *signing,
        Step(name="read-back", commands=read_zone()),
    )
