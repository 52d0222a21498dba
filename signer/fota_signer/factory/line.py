"""One chip at a factory's station: recognise, record, steps, certificate, report."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fota_signer.factory.ca import DeviceCa, issue, pem, require_issued
from fota_signer.factory.commands import INFO, Command, Session, Values
from fota_signer.factory.packets import Transport
from fota_signer.factory.plan import load_plan, make_plan, run_plan
from fota_signer.factory.recognise import ChipFacts, recognise, require_usable
from fota_signer.factory.record import DeviceRecord, find_record, new_record
from fota_signer.factory.request import certificate_request
from fota_signer.factory.steps import Step, Tell, all_steps, run_steps
from fota_wire.attestation import extension_value
from fota_wire.cose import key_hash
from fota_wire.element import COUNTER_MAX
from fota_wire.errors import DeviceError, FotaError, InputError, VerifyError

Gate = Callable[[ChipFacts], None]
"""Raises FotaError if this chip must not be provisioned: a serial number seen before."""


def require_two_roots(root_a_xy: bytes, root_b_xy: bytes) -> None:
    """Return unless both firmware roots are one key. Raises InputError."""
    if root_a_xy == root_b_xy:
        raise InputError("firmware roots A and B are the same key: a stolen A would be a stolen B")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What all devices of a batch have in common. ``floor``: the first security counter that may boot.

    ``latched``: the chip's keys are usable only after a verified boot.
    """

    root_a_xy: bytes
    root_b_xy: bytes
    ca: DeviceCa
    work: Path
    floor: int = 0
    latched: bool = False

    def __post_init__(self) -> None:
        """Refuse what no chip can hold. Raises InputError."""
        if not 0 <= 8 * self.floor <= COUNTER_MAX:
            raise InputError(f"--floor {self.floor}: 0 to {COUNTER_MAX // 8}")
        require_two_roots(self.root_a_xy, self.root_b_xy)

    @property
    def counters(self) -> tuple[int, int]:
        """First values of Counter0 (SPEC 1.4: div 8 is the floor) and Counter1 (key epoch 0)."""
        return 8 * self.floor, 0

    def steps(self, *, secrets: bool = True) -> tuple[Step, ...]:
        """Return the steps of these devices; ``secrets``: as for `all_steps`."""
        return all_steps(
            root_a_xy=self.root_a_xy,
            root_b_xy=self.root_b_xy,
            counters=self.counters,
            secrets=secrets,
            latched=self.latched,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the factory writes down of a device. No secret is in it. ``changed``: steps that did something."""

    record: DeviceRecord
    facts: ChipFacts
    identity: bytes
    attestation: bytes
    certificate: bytes
    changed: tuple[str, ...]
    commands: int

    @property
    def device_id(self) -> str:
        """18 hex digits of the chip's serial number."""
        return self.facts.serial.hex()

    def as_dict(self) -> dict[str, object]:
        """Return the report for JSON."""
        return {
            "device_id": self.device_id,
            "identity_key": self.identity.hex(),
            "attestation_key": self.attestation.hex(),
            "certificate": pem(self.certificate),
            "element_revision": self.facts.revision.hex(),
            "locked_slots": list(self.facts.locked_slots),
            "record": str(self.record.path),
            "pairing_keys": "in the record" if self.record.has_secrets else "in the factory HEX only",
            "changed": list(self.changed),
            "commands": self.commands,
        }


def look(transport: Transport) -> tuple[ChipFacts, Session]:
    """Return what is on the bus, and the session that goes on with it.

    Raises:
        DeviceError: nothing answers, or it is not an ATECC608.
    """
    session = Session(transport, Values())
    try:
        revision = session.run(INFO)
        facts = recognise(session.zone)
    except FotaError as exc:
        raise DeviceError(f"step recognise: {exc}") from exc
    if revision[2] != 0x60:
        raise DeviceError(f"step recognise: revision {revision.hex()} is not an ATECC608")
    return facts, session


def provision_chip(
    transport: Transport,
    job: Job,
    *,
    gate: Gate = lambda facts: None,
    tell: Tell = lambda name, did: None,
) -> Report:
    """Bring one chip, in whatever state a run before left it, to a locked, paired, certified one.

    Raises:
        DeviceError, VerifyError: the step that failed is named; what was done stays, a new run goes on there.
        StorageError: the record cannot be written; then the chip was not touched.
    """
    facts, session = look(transport)
    require_usable(facts)
    _require_latch(facts, job)
    gate(facts)
    record = _record(facts, job)
    if record.io_key is not None and record.mac_key is not None:
        session.values["io_key"], session.values["mac_key"] = record.io_key, record.mac_key
    changed: list[str] = []

    def note(name: str, did: bool) -> None:
        if did:
            changed.append(name)
        tell(name, did)

    run_steps(job.steps(secrets=record.has_secrets), session, note)
    known = bool(record.certificate)
    record = _certify(session, record, job)
    note("certificate", not known)
    return Report(
        record=record,
        facts=recognise(session.zone),
        identity=session.values["identity"],
        attestation=session.values["attestation"],
        certificate=record.certificate or b"",
        changed=tuple(changed),
        commands=session.sent,
    )


def provision_by_plan(
    transport: Transport,
    job: Job,
    plan: list[tuple[str, Command]],
    tell: Tell = lambda name, did: None,
) -> Report:
    """Send a plan to a blank chip; then check it by the steps, which find nothing left to do, and certify it.

    Raises:
        InputError: it is not the plan of this job, word for word; then the chip was not touched.
        DeviceError, VerifyError: the chip is not blank, or a command failed: `provision_chip` goes on.
    """
    if plan != load_plan(make_plan(job.steps()), "plan"):
        raise InputError(
            "the plan was made for other roots, --floor or --latch, by another version, or was changed: "
            "make it again with fota provision plan"
        )
    facts, session = look(transport)
    require_usable(facts)
    if facts.kind != "blank":
        raise VerifyError("a plan is for blank chips: go on with fota provision device")
    record = _record(facts, job)
    if record.io_key is None or record.mac_key is None:
        raise VerifyError(f"{record.path} holds no pairing keys: take another chip")
    session.values["io_key"], session.values["mac_key"] = record.io_key, record.mac_key
    session.values.counters, session.values.latched = job.counters, job.latched
    run_plan(plan, session, tell)
    return provision_chip(transport, job)


def _require_latch(facts: ChipFacts, job: Job) -> None:
    """Return unless the chip was configured the other way: that is for ever. Raises VerifyError."""
    if facts.config_locked and facts.latched != job.latched:
        word = "with" if facts.latched else "without"
        raise VerifyError(
            f"step recognise: chip {facts.serial.hex()} was configured {word} --latch, and that is for ever",
            "latch",
        )


def _record(facts: ChipFacts, job: Job) -> DeviceRecord:
    """Return the record of this chip, made now if there is none and the chip is still open."""
    roots = key_hash(job.root_a_xy), key_hash(job.root_b_xy)
    record = find_record(job.work, facts.serial)
    if record is None:
        if facts.data_locked or facts.locked_slots:
            raise VerifyError(
                f"step record: chip {facts.serial.hex()} is locked and {job.work} has no record of its "
                "pairing keys: it is somebody else's, or --work names another folder than before",
                "foreign",
            )
        return new_record(job.work, facts.serial, facts.address, *roots, job.floor, job.latched)
    if (record.root_a, record.root_b) != roots:
        raise VerifyError(
            f"step record: {record.path} was begun with other firmware roots: name those, or take another"
        )
    if not record.has_secrets and not facts.data_locked:
        raise VerifyError(
            f"step record: {record.path} says that this chip left the factory, but the chip is open: "
            "its serial number was seen before",
            "duplicate",
        )
    return record


def _certify(session: Session, record: DeviceRecord, job: Job) -> DeviceRecord:
    """Return the record with the chip's certificate; issue and save it unless it is there."""
    identity, serial = session.values["identity"], session.values.serial
    if record.certificate is not None:
        require_issued(record.certificate, serial, identity, job.ca)
        return record
    request = certificate_request(serial.hex(), identity, session.values["signature"])
    return replace(
        record,
        identity=identity,
        attestation=session.values["attestation"],
        request=request,
        certificate=issue(
            request, serial, job.ca, attestation_value=extension_value(session.values["attestation"])
        ),
    ).save()
