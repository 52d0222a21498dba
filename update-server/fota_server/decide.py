"""What a check-in means: the pure core. Rows and bytes in, a verdict out; no clock, no database, no network.

The home of all words that say how a device or a rollout stands. A target is what a rollout wants of one
device:

| State | Event in a verified report | Next |
|---|---|---|
| PENDING | (any check-in) the ASSIGNMENT names the release; not while it is held (`allowance.py`) | OFFERED |
| OFFERED | installed = the release's manifest, another image runs | INSTALLED |
| any | the release runs, state "trial" | TRIAL |
| any | the release runs, state "confirmed" | CONFIRMED |
| TRIAL, CONFIRMED | another image runs | REVERTED |
| OFFERED, INSTALLED | `reverted`, and the release was installed | REVERTED |
| OFFERED, INSTALLED | `rejected`, and the release was installed: it was never started | REJECTED |
| OFFERED to CONFIRMED | `reverted` for AP3: healthy, but could not reach us in time | OFFERED |
| any | the release runs, state "fallback" | unchanged: it runs, and nobody confirmed it |
| OFFERED | `refused` with a status code, or a second time for the same reason | FAILED |
| OFFERED, INSTALLED | `refused` once, `failed` | unchanged; the reason is shown |
| PENDING to TRIAL | the release runs confirmed, and another image waits for the next reset | OFFERED |
| OFFERED | a device without keys of ours says that it is done (``ddi_work.py``) | SAID |
| PENDING to TRIAL | ROOT bars the release, or an operator withdrew it | WITHDRAWN |
| PENDING to TRIAL | an operator cancels the rollout | CANCELLED |
| PENDING to TRIAL | an operator revokes or retires the device | GONE |
| PENDING to TRIAL | another rollout wants something of the device | SUPERSEDED |

REVERTED, REJECTED and FAILED stay until an operator acts: the release is not offered again. The last four are
closed: nothing changes them any more. Only CONFIRMED is success; SAID is the word of a device that cannot
prove it. A release is offered unasked once. Every
later ASSIGNMENT that names it follows a report verified in the same check-in, so that a device that went back
is never sent into the same trial again by an answer to old facts.

A rollout is PLANNING while its targets are made, RUNNING while one of them is under way, CANCELLING while
they are closed; then its verdict is stored (`VERDICTS`). RUNNING and held back is called "paused",
or "halted" if all are.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from fota_server.reports import read_report
from fota_wire.attestation import Attestation, open_attestation
from fota_wire.checkin import MAX_ROOT_STEPS, Request
from fota_wire.errors import FotaError
from fota_wire.release import root_refuses_image, root_refuses_manifest
from fota_wire.report import Report
from fota_wire.root import Root
from fota_wire.seams import Verify
from fota_wire.suit import with_receipt

_STATUS = re.compile(r"[A-Z]{2}[0-9]+ ")
"""What a refusal of the image itself begins with (SPEC 6); others, a late answer say, may pass."""


class TargetState(StrEnum):
    """How far a device is on its way to what is wanted of it."""

    PENDING = "pending"
    OFFERED = "offered"
    INSTALLED = "installed"
    TRIAL = "trial"
    CONFIRMED = "confirmed"
    SAID = "said"
    REVERTED = "reverted"
    REJECTED = "rejected"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    WITHDRAWN = "withdrawn"
    GONE = "gone"


UNDER_WAY = (TargetState.PENDING, TargetState.OFFERED, TargetState.INSTALLED, TargetState.TRIAL)
ON_TRIAL = (TargetState.OFFERED, TargetState.INSTALLED, TargetState.TRIAL)
"""In these a device was given the release, and nobody knows yet whether it is any good there."""
GIVEN_UP = (TargetState.REVERTED, TargetState.REJECTED, TargetState.FAILED)
CLOSED = (TargetState.SUPERSEDED, TargetState.CANCELLED, TargetState.WITHDRAWN, TargetState.GONE)
HELD = (*UNDER_WAY, TargetState.CONFIRMED, TargetState.SAID)
"""In these a target holds its device to the release."""
TAKEN = (TargetState.INSTALLED, TargetState.TRIAL, TargetState.CONFIRMED, TargetState.SAID)
"""In these the device has the release."""


class RolloutState(StrEnum):
    """How far a rollout is as a whole."""

    PLANNING = "planning"
    RUNNING = "running"
    CANCELLING = "cancelling"
    DONE = "done"
    SAID = "said"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"
    CANCELLED = "cancelled"


WORKED_ON = (RolloutState.PLANNING, RolloutState.CANCELLING)
"""The server itself has still to do something, in bounded steps."""
OPEN = (RolloutState.PLANNING, RolloutState.RUNNING)
"""Devices are still to come; what is neither in here nor CANCELLING has ended."""

VERDICTS = (
    (RolloutState.RUNNING, UNDER_WAY),
    (RolloutState.WITHDRAWN, (TargetState.WITHDRAWN,)),
    (RolloutState.FAILED, (*GIVEN_UP, TargetState.GONE)),
    (RolloutState.SUPERSEDED, (TargetState.SUPERSEDED,)),
    (RolloutState.SAID, (TargetState.SAID,)),
    (RolloutState.DONE, (TargetState.CONFIRMED,)),
)
"""The first of these of whose states a rollout has a target is its own. DONE: every device confirmed.
SAID: every device confirmed, or says that it is done.

A rollout without targets is FAILED. CANCELLED is an operator's word and not found by counting.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A published release. Digests: 32 bytes, ids: 16, ``file_size`` in bytes; ``version`` is for people.

    ``key_hash``: of the IMAGE key that signed it. ``chip``: that its image names, or "". None: not known.
    ``receipt``: proves that it is in the release log (SPEC 5.9), or None.
    """

    id: int
    version: str
    vendor_id: bytes
    class_id: bytes
    sequence: int
    manifest_digest: bytes
    file_digest: bytes
    file_size: int
    image_hash: bytes
    sec_cnt: int
    envelope: bytes
    key_hash: bytes | None
    chip: str | None = None
    receipt: bytes | None = None

    @property
    def logged(self) -> bytes:
        """The envelope with its RECEIPT, if there is one."""
        return self.envelope if self.receipt is None else with_receipt(self.envelope, self.receipt)


class Target(NamedTuple):
    """What is wanted of one device by one rollout. ``held``: why it may not be handed out now.

    A tuple, as `Twin` and `Verdict`: each check-in makes them, and a frozen dataclass takes thrice the time.
    """

    id: int
    rollout_id: int
    release: Release
    state: TargetState
    reason: str | None
    paused: bool
    withdrawn: bool = False
    cancelling: bool = False
    held: str | None = None


class Twin(NamedTuple):
    """What the server knows of a device before a check-in. ``confirmed_hash``: the last image it confirmed;
    ``running_hash``: the one that its last report named; ``settled``: see `settle_installed`."""

    device_id: str
    report_nonce: bytes | None
    confirmed_hash: bytes | None
    target: Target | None
    running_hash: bytes | None = None
    settled: bytes | None = None


class Verdict(NamedTuple):
    """What to store, and what to answer. ``asks``: nothing goes on without a report, and none came."""

    report: Report | None
    report_status: str
    target_state: TargetState | None
    target_reason: str | None
    newly_confirmed: bytes | None
    wanted: Release | None
    hurry: bool
    settled: bytes | None = None
    attested: Attestation | None = None
    asks: bool = False


def judge(
    twin: Twin,
    request: Request,
    public_key: bytes,
    root: Root,
    verify: Verify,
    attestation_key: bytes | None = None,
    root_steps: int = MAX_ROOT_STEPS,
) -> Verdict:
    """Return what a check-in by the holder of ``public_key`` means; ``root`` is the newest, and the answer
    brings ``root_steps`` of the way there at most.

    ``attestation_key``: KEYHASH; a device whose certificate names one has to attest every report (SPEC 5.7).
    """
    # (1) What is true of the device: only what its own key signed, over the nonce that it was last given.
    report, attested, status = _read_report(twin, request, public_key, verify, attestation_key)
    # (2) What that means for what is wanted of it.
    target = twin.target
    state, reason = (target.state, target.reason) if target else (None, None)
    settled = settle_installed(twin, report) if report else twin.settled
    if target and report:
        state, reason = advance(target, report, settled)
        if state is TargetState.OFFERED and target.held and target.state not in ON_TRIAL:
            state = TargetState.PENDING
    if target and state in UNDER_WAY:
        state, reason = close(target, root) or (state, reason)
    # (3) What to tell it.
    behind = root.version - request.root_version > root_steps
    wanted, asks = None, False
    if target and state and not behind:
        wanted = offer(target, state, root=root)
        if wanted and report is None and state is not TargetState.PENDING:
            wanted, asks = None, state in ON_TRIAL
        elif wanted and state is TargetState.PENDING:
            state = TargetState.OFFERED
    confirmed = report.image_hash if report and report.state == "confirmed" else None
    return Verdict(
        report=report,
        report_status=status,
        target_state=state,
        target_reason=reason,
        newly_confirmed=confirmed if confirmed != twin.confirmed_hash else None,
        wanted=wanted,
        # Somebody waits for the next step of this device, or for its first report.
        hurry=behind
        or twin.report_nonce is None
        or bool(target and state in UNDER_WAY and not target.paused and not _waits(target, state)),
        settled=settled,
        attested=attested,
        asks=asks,
    )


def _read_report(
    twin: Twin, request: Request, public_key: bytes, verify: Verify, attestation_key: bytes | None
) -> tuple[Report | None, Attestation | None, str]:
    attested = None
    if request.report is None:
        return None, None, "none"
    if twin.report_nonce is None:
        return None, None, "refused: no report was asked for; use the nonce of this answer"
    try:
        device_id = bytes.fromhex(twin.device_id)
        report = read_report(request.report, public_key, twin.report_nonce, device_id, verify)
        if attestation_key is not None:
            raw = request.attestation or b""
            attested = open_attestation(raw, request.report, attestation_key, device_id, verify)
    except FotaError as exc:
        return None, None, f"refused: {exc}"
    return report, attested, "accepted"


def settle_installed(twin: Twin, report: Report) -> bytes | None:
    """Return the manifest digest of the installed image that no reset will start any more.

    What was installed last has had its trial once another image runs than before, or once the device says
    that it went back. Of a first report nothing earlier is known: it is believed to have had it.
    """
    went_back = _last_event(report, ("reverted", "rejected")) is not None
    if twin.running_hash is None or twin.running_hash != report.image_hash or went_back:
        return report.installed
    return twin.settled


def close(target: Target, root: Root) -> tuple[TargetState, str] | None:
    """Return how a target that is under way ends without its device, or None: it goes on."""
    if target.cancelling:
        return TargetState.CANCELLED, f"rollout {target.rollout_id} was cancelled"
    barred = why_not(target.release, root, withdrawn=target.withdrawn)
    return (TargetState.WITHDRAWN, barred) if barred else None


def advance(target: Target, report: Report, settled: bytes | None) -> tuple[TargetState, str | None]:
    """Return the state of ``target`` after a verified report, and the reason for it."""
    release, state = target.release, target.state
    if state in CLOSED:
        return state, target.reason
    if report.image_hash == release.image_hash:
        if report.state == "fallback":
            return state, "runs in place of a confirmed image that was refused"
        staged = report.installed not in (None, settled, release.manifest_digest)
        if staged and report.state == "confirmed" and state in UNDER_WAY:
            return TargetState.OFFERED, "it runs, but another image is installed and starts at the next reset"
        return (TargetState.TRIAL if report.state == "trial" else TargetState.CONFIRMED), None
    if state in GIVEN_UP or state is TargetState.PENDING:
        return state, target.reason
    fallen_back = _last_event(report, ("reverted", "rejected"))
    if fallen_back and fallen_back.startswith("AP3 "):
        return TargetState.OFFERED, fallen_back
    if state in (TargetState.TRIAL, TargetState.CONFIRMED):
        return TargetState.REVERTED, fallen_back or "another image runs; the device gave no reason"
    if report.installed == release.manifest_digest:
        if fallen_back:
            never_ran = _last_event(report, ("rejected",)) == fallen_back
            return (TargetState.REJECTED if never_ran else TargetState.REVERTED), fallen_back
        return TargetState.INSTALLED, _last_event(report, ("failed",)) or target.reason
    refused = _last_event(report, ("refused",))
    if refused and (_STATUS.match(refused) or refused == target.reason):
        return TargetState.FAILED, refused
    return state, refused or _last_event(report, ("failed",)) or target.reason


def _last_event(report: Report, codes: tuple[str, ...]) -> str | None:
    details = [detail or code for code, detail in report.events if code in codes]
    return details[-1] if details else None


def offer(target: Target, state: TargetState, *, root: Root) -> Release | None:
    """Return the release that an ASSIGNMENT may name now, or None: nothing is wanted. Beyond PENDING it may
    only where a report was verified in the same check-in.
    """
    if state in GIVEN_UP or state in CLOSED:
        return None
    if target.paused and state not in (TargetState.TRIAL, TargetState.CONFIRMED):
        return None
    if why_not(target.release, root, withdrawn=target.withdrawn):
        return None
    return None if _waits(target, state) else target.release


def _waits(target: Target, state: TargetState) -> bool:
    return state is TargetState.PENDING and target.held is not None


def why_not(release: Release, root: Root, *, withdrawn: bool = False) -> str | None:
    """Return why no device may get ``release`` any more, or None. ``withdrawn``: by an operator."""
    if withdrawn:
        return f"release {release.version} was withdrawn"
    return _refused(root, release.manifest_digest, release.sequence, release.key_hash, release.sec_cnt)


@lru_cache(256)
def _refused(
    root: Root, manifest_digest: bytes, sequence: int, key_hash: bytes | None, sec_cnt: int
) -> str | None:
    """Return why ``root``, which nobody changes any more, refuses a release: asked at each check-in."""
    refusal = root_refuses_manifest(root, manifest_digest, sequence)
    return refusal or root_refuses_image(root, key_hash, sec_cnt)
