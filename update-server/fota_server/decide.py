"""What a check-in means: the pure core. Rows and bytes in, a verdict out; no clock, no database, no network.

A target is what a rollout wants of one device:

| State | Event in a verified report | Next |
|---|---|---|
| PENDING | (any check-in) the ASSIGNMENT names the release | OFFERED |
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

REVERTED, REJECTED and FAILED stay until an operator acts: the release is not offered again. Only CONFIRMED is
success. A release is offered unasked once. Every later ASSIGNMENT that names it follows a report verified in
the same check-in, so that a device that went back is never sent into the same trial again by an answer to old
facts.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from fota_wire.attestation import Attestation, open_attestation
from fota_wire.checkin import MAX_ROOT_STEPS, Request
from fota_wire.errors import FotaError
from fota_wire.release import root_refuses_image, root_refuses_manifest
from fota_wire.report import Report, open_report
from fota_wire.root import Root
from fota_wire.seams import Verify

_STATUS = re.compile(r"[A-Z]{2}[0-9]+ ")
"""What a refusal of the image itself begins with (SPEC 6); others, a late answer say, may pass."""


class TargetState(StrEnum):
    """How far a device is on its way to what is wanted of it."""

    PENDING = "pending"
    OFFERED = "offered"
    INSTALLED = "installed"
    TRIAL = "trial"
    CONFIRMED = "confirmed"
    REVERTED = "reverted"
    REJECTED = "rejected"
    FAILED = "failed"
    SUPERSEDED = "superseded"


UNDER_WAY = (TargetState.PENDING, TargetState.OFFERED, TargetState.INSTALLED, TargetState.TRIAL)
GIVEN_UP = (TargetState.REVERTED, TargetState.REJECTED, TargetState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A published release. Digests: 32 bytes, ids: 16, ``file_size`` in bytes; ``version`` is for people.

    ``key_hash``: of the IMAGE key that signed it; None: not known.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is wanted of one device by one rollout."""

    id: int
    rollout_id: int
    release: Release
    state: TargetState
    reason: str | None
    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """What the server knows of a device before a check-in. ``confirmed_hash``: the last image it
    confirmed."""

    device_id: str
    report_nonce: bytes | None
    confirmed_hash: bytes | None
    target: Target | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to store, and what to answer."""

    report: Report | None
    report_status: str
    target_state: TargetState | None
    target_reason: str | None
    newly_confirmed: bytes | None
    wanted: Release | None
    hurry: bool
    attested: Attestation | None = None


def judge(
    twin: Twin,
    request: Request,
    public_key: bytes,
    root: Root,
    verify: Verify,
    attestation_key: bytes | None = None,
) -> Verdict:
    """Return what a check-in by the holder of ``public_key`` means; ``root`` is the newest.

    ``attestation_key``: KEYHASH; a device whose certificate names one has to attest every report (SPEC 5.7).
    """
    # (1) What is true of the device: only what its own key signed, over the nonce that it was last given.
    report, attested, status = _read_report(twin, request, public_key, verify, attestation_key)
    # (2) What that means for what is wanted of it.
    target = twin.target
    state, reason = (target.state, target.reason) if target else (None, None)
    if target and report:
        state, reason = advance(target, report)
    # (3) What to tell it.
    behind = root.version - request.root_version > MAX_ROOT_STEPS
    wanted = None
    if target and state and not behind:
        wanted = offer(target, state, reported=report is not None, root=root)
        if wanted and state is TargetState.PENDING:
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
        or bool(target and state in UNDER_WAY and not target.paused),
        attested=attested,
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
        report = open_report(request.report, public_key, twin.report_nonce, device_id, verify)
        if attestation_key is not None:
            raw = request.attestation or b""
            attested = open_attestation(raw, request.report, attestation_key, device_id, verify)
    except FotaError as exc:
        return None, None, f"refused: {exc}"
    return report, attested, "accepted"


def advance(target: Target, report: Report) -> tuple[TargetState, str | None]:
    """Return the state of ``target`` after a verified report, and the reason for it."""
    release, state = target.release, target.state
    if report.image_hash == release.image_hash:
        if report.state == "fallback":
            return state, "runs in place of a confirmed image that was refused"
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


def offer(target: Target, state: TargetState, *, reported: bool, root: Root) -> Release | None:
    """Return the release that an ASSIGNMENT may name now, or None: nothing is wanted."""
    if state in GIVEN_UP or state is TargetState.SUPERSEDED:
        return None
    if target.paused and state not in (TargetState.TRIAL, TargetState.CONFIRMED):
        return None
    if why_not(target.release, root, floor=None):
        return None
    return target.release if reported or state is TargetState.PENDING else None


def why_not(release: Release, root: Root, floor: int | None) -> str | None:
    """Return why a device with this ``floor`` (None: not known) must not get ``release``, or None."""
    refusal = root_refuses_manifest(root, release.manifest_digest, release.sequence)
    refusal = refusal or root_refuses_image(root, release.key_hash, release.sec_cnt)
    if refusal:
        return refusal
    if floor is not None and release.sec_cnt < floor:
        return f"PO1 rollback: security counter {release.sec_cnt} is below the device's floor {floor}"
    return None
