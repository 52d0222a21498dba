"""What a ROOT had better not say, though devices take it: looked at before it is signed or published (not for
devices).

A ROOT step is for ever: no minimum goes down again, and a device that it leaves behind stays there.
"""

from contextlib import suppress
from datetime import UTC, datetime

from fota_wire import cose
from fota_wire import root as roots
from fota_wire.errors import FotaError, InputError
from fota_wire.host_ca import SERVER_CA, ca_faults, der_certificate, ends_within, short_name
from fota_wire.layout import SEC_CNT_MAX
from fota_wire.release import MAX_SEQUENCE
from fota_wire.root import Root
from fota_wire.settings import DEFAULT_MAX_STEP

CA_NOTICE_DAYS = 365
MAX_VERSION = 0xFFFFFFFF - (1 << 20)
"""As of manifests' sequences: numbers that only go up keep room above them."""


def root_faults(root: Root, at: datetime | None = None) -> list[str]:
    """Return why nobody could live with ``root`` for long; none if all is well.

    Each is a sentence without its end. ``at``: None is now.
    """
    faults = [*_minimum_faults(root)]
    for number, raw in enumerate(root.server_cas, start=1):
        try:
            certificate = der_certificate(raw, f"server CA {number}")
        except InputError as exc:
            faults.append(str(exc))
            continue
        broken = ca_faults(certificate, SERVER_CA, at or datetime.now(UTC))
        faults += [f"server CA {certificate.subject.rfc4514_string()} {fault}" for fault in broken]
    return faults


def shared_keys(root: Root) -> list[str]:
    """Return the keys that have more than one role: good enough for a desk, and for nothing else."""
    faults = []
    for kid in root.keys:
        named = [roots.ROLE_NAMES[role] for role, (_, kids) in sorted(root.roles.items()) if kid in kids]
        if cose.key_hash(root.keys[kid]) in root.image_keys:
            named.append("image")
        if len(named) > 1:
            faults.append(f"key {kid.hex()} is {' and '.join(named)}: each key has one role")
    return faults


def reach_faults(root: Root, floor: int, max_step: int = DEFAULT_MAX_STEP) -> list[str]:
    """Return why devices whose floor is ``floor`` could never install anything under ``root`` again.

    ``max_step``: the largest step of the security counter above the floor that they take (SPEC 1.2).
    """
    if root.min_secver <= floor + max_step:
        return []
    return [
        f"the minimum security counter {root.min_secver} is out of reach for devices with floor {floor},"
        f" which take at most {floor + max_step}"
    ]


def succession_faults(root: Root, previous: Root) -> list[str]:
    """Return why no device steps from ``previous`` to ``root``, signatures apart, or goes on from there."""
    try:
        roots.require_succession(previous, root)
    except FotaError as exc:
        return [str(exc)]
    if previous.image_keys and not root.image_keys:
        return ["no IMAGE key is left to sign for devices: all that were named are retired; name the next"]
    return []


def remarks(root: Root, at: datetime | None = None) -> list[str]:
    """Return what is right and yet to be known by those who sign."""
    notes = []
    for role in (roots.ROOT, roots.RELEASE, roots.CAMPAIGN):
        threshold, kids = root.roles.get(role, (0, []))
        if threshold == 1:
            notes.append(f"one stolen {roots.ROLE_NAMES[role]} key is enough: {threshold} of {len(kids)}")
    threshold, kids = root.roles[roots.ROOT]
    if threshold == len(kids):
        notes.append(f"one lost root key ends all updates for good: {threshold} of {len(kids)}")
    if not root.image_keys:
        notes.append("names no IMAGE key: nobody but the devices can tell who may sign images (--image-key)")
    for raw in root.server_cas:
        with suppress(InputError):  # unreadable: a fault, and told as one
            certificate = der_certificate(raw, "server CA")
            if ends_within(certificate, CA_NOTICE_DAYS, at):
                notes.append(f"server CA {short_name(certificate)}: name its successor before that")
    return notes


def _minimum_faults(root: Root) -> list[str]:
    faults = []
    if root.min_secver > SEC_CNT_MAX:
        faults.append(
            f"no image can carry the minimum security counter {root.min_secver}: {SEC_CNT_MAX} is all"
        )
    if root.min_sequence > MAX_SEQUENCE:
        faults.append(f"above the minimum sequence {root.min_sequence} is no room for releases")
    if root.version > MAX_VERSION:
        faults.append(f"no ROOT could follow version {root.version} for long: number them from 1 on")
    return faults
