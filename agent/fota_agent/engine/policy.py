"""The checks between what the server says and what is done about it: pure functions."""

import gc

from fota_wire import root as roots
from fota_wire import suit
from fota_wire.errors import DeviceError, FotaError, VerifyError
from fota_wire.receipt import require_logged
from fota_wire.status import IM7, PO1, PO2, label, short_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.seams import Identity, Random
    from fota_wire.assignment import Assignment
    from fota_wire.seams import Verify


def newest_root(
    genesis_raw: "bytes | memoryview", steps: "list[bytes | memoryview]", verify: "Verify"
) -> "roots.Root":
    """Return the newest ROOT that the stored steps lead to from the genesis ROOT, each verified again.

    The store is writable, so nothing in it is believed: what does not follow is dropped from ``steps``, and
    the server sends it again.

    Raises:
        DeviceError: the genesis ROOT of the trust store does not verify.
    """
    try:
        root = roots.open_genesis(genesis_raw, verify)
    except FotaError as exc:
        raise DeviceError(f"trust store: genesis ROOT: {exc}") from exc
    for number, raw in enumerate(steps):
        try:
            roots.require_step(root, raw, verify)
        except FotaError:
            del steps[number:]
            break
        del root  # a small heap has no room for both
        gc.collect()
        root = roots.unsafe_read_root(raw)
    return root


def held_digest(envelope: "bytes | memoryview | None") -> "bytes | None":
    """Return the manifest digest of a stored envelope, or None; it is verified when it is used."""
    if envelope is None:
        return None
    try:
        return suit.parse_envelope(envelope).manifest_digest
    except FotaError:
        return None


BACKOFF_BASE_MS, BACKOFF_MAX_MS = 2_000, 3_600_000
TRIAL_BACKOFF_MAX_MS = 30_000
RETRY_AFTER_MAX_S = 86_400
LOCAL = 0
"""The campaign of an update that no server has asked for."""


def open_manifest(
    envelope: "bytes | memoryview",
    root: "roots.Root",
    identity: "Identity",
    verify: "Verify",
    order: "Assignment | None" = None,
) -> "suit.Manifest":
    """Return the manifest in ``envelope`` if this device may install it, and it is the one that ``order``
    assigns (None: a local update).

    Raises:
        FormatError: malformed.
        VerifyError: as ``suit.open_envelope`` and ``require_logged``, and ``mix-and-match``, ``rollback``,
        ``revoked``, ``class``, ``size``.
    """
    # (1) k distinct RELEASE keys signed it
    keys, threshold = root.role_keys(roots.RELEASE), root.threshold(roots.RELEASE)
    manifest = suit.open_envelope(envelope, keys, threshold, verify, True)
    # (2) it is the one assigned
    if order and (manifest.manifest_digest, manifest.sequence) != (order.manifest_digest, order.sequence):
        raise VerifyError("manifest is not the one that was assigned", "mix-and-match")
    # (3) ROOT has not left it behind
    if manifest.sequence < root.min_sequence:
        raise VerifyError(f"sequence {manifest.sequence} is below ROOT's {root.min_sequence}", "rollback")
    if root.revokes(manifest.manifest_digest):
        raise VerifyError("manifest is revoked", "revoked")
    # (4) it is for this device, and fits
    if manifest.vendor_id != identity.vendor_id or manifest.class_id != identity.class_id:
        raise VerifyError("manifest is for another vendor or device class", "class")
    if not 0 < manifest.size <= identity.slot_size:
        raise VerifyError(f"image of {manifest.size} bytes does not fit {identity.slot_size}", "size")
    # (5) it is one that everybody can see, where ROOT wants that
    require_logged(manifest.receipt, manifest.manifest_digest, root, verify)
    return manifest


def check_image(sec_cnt: int, class_id: bytes, floor: int, root: "roots.Root", identity: "Identity") -> None:
    """Return if the bootloader would accept the image's class and security counter, and ROOT does.

    Raises:
        VerifyError: IM7, PO1, PO2.
    """
    low, high = max(floor, root.min_secver), floor + identity.max_counter_step
    if class_id != identity.class_id:
        raise VerifyError("image is for another device class", IM7)
    if sec_cnt < low:
        raise VerifyError(f"security counter {sec_cnt} is below the floor {low}", PO1)
    if sec_cnt > high:
        raise VerifyError(f"security counter {sec_cnt} is above {high}", PO2)


def back_off_ms(failures: int, trial: bool, retry_after_s: int, random_below: "Random") -> int:
    """Return the wait after so many failures in a row: a random time below a limit that doubles with each
    (full jitter), and not less than the server asked for, within a day.
    """
    cap = TRIAL_BACKOFF_MAX_MS if trial else BACKOFF_MAX_MS
    limit = min(cap, BACKOFF_BASE_MS << min(failures, 20))
    return max(random_below(limit), min(retry_after_s, RETRY_AFTER_MAX_S) * 1000)


def describe(error: FotaError) -> str:
    """Return one short line for an event: the status of SPEC 6 first, where the error carries one."""
    code, text = error.code, str(error)
    short = short_of(code) if isinstance(code, int) else ""
    if isinstance(code, int) and short and not text.startswith(short):
        return f"{label(code)}: {text}"
    return text
