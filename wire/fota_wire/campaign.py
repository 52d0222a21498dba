"""CAMPAIGN (SPEC 5.8): which devices a release may reach, and when. People sign it and devices check it, so
that whoever has taken the server over cannot choose. Asked for where ROOT names a role CAMPAIGN.
"""

import hashlib

from fota_wire import cbor, check
from fota_wire import root as roots
from fota_wire.checkin import MAX_CAMPAIGN
from fota_wire.errors import FormatError, VerifyError
from fota_wire.signed import Form

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_wire.seams import Verify

MAX_WAVES = 8
WHOLE = 10_000
"""A share of all devices."""
NO_END = 1 << 62
FORM = Form("CAMPAIGN", b"fota/campaign/1", MAX_CAMPAIGN)


class Campaign:
    """What a CAMPAIGN says. Only :func:`open_campaign` returns a verified one.

    ``manifest_digest`` 32 bytes; ``waves`` [(not before, not after, both in s since 1970 and of the wave,
    share of 1 to WHOLE, group or "" for all)].
    """

    def __init__(self, payload: "bytes | memoryview") -> None:
        found = check.fields(cbor.decode(payload), "CAMPAIGN", (1, 2, 3))
        if found[1] != 1:
            raise FormatError("CAMPAIGN: format is not 1", "campaign-format")
        self.manifest_digest = check.bstr(found[2], "manifest digest", 32)
        self.waves = [_wave(wave) for wave in check.array(found[3], "waves", 1, MAX_WAVES)]

    def waves_of(self, device_id: bytes, group: str) -> "list[tuple[int, int]]":
        """Return (not before, not after) of the waves that a device is in; ``group``: its own, or ""."""
        place = place_of(self.manifest_digest, device_id)
        return [
            (begin, end) for begin, end, share, named in self.waves if place < share and named in ("", group)
        ]

    def until(self, device_id: bytes, group: str, time: int) -> int:
        """Return until when, in s since 1970, a device may be given the release that may be at ``time``.

        Raises:
            VerifyError: it is in no wave (``campaign-scope``), or in none at that time (``campaign-time``).
        """
        mine = self.waves_of(device_id, group)
        if not mine:
            raise VerifyError("CAMPAIGN: this device is in no wave", "campaign-scope")
        ends = [end for begin, end in mine if begin <= time <= end]
        if not ends:
            raise VerifyError("CAMPAIGN: no wave of this device is open", "campaign-time")
        return max(ends)


def place_of(manifest_digest: bytes, device_id: bytes) -> int:
    """Return where a device stands among all, of 0 to WHOLE - 1; elsewhere for another release."""
    head = hashlib.sha256(b"fota/campaign-place/1" + manifest_digest + device_id).digest()[:4]
    return int.from_bytes(head, "big") % WHOLE


def build_campaign(manifest_digest: bytes, waves: "list[tuple[int, int, int, str]]") -> bytes:
    """Return an unsigned CAMPAIGN; fields as of :class:`Campaign`.

    Raises:
        FormatError: what devices would refuse, e.g. a wave that ends before it begins.
    """
    listed = [
        [begin, end, share] + ([check.campaign_group(group)] if group else [])
        for begin, end, share, group in waves
    ]
    raw = cbor.encode([cbor.encode({1: 1, 2: manifest_digest, 3: listed})])
    unsafe_read_campaign(raw)
    return raw


def open_campaign(
    raw: "bytes | memoryview", root: "roots.Root", manifest_digest: bytes, verify: "Verify"
) -> Campaign:
    """Return the CAMPAIGN of a manifest, if as many CAMPAIGN keys of ``root`` signed it as that wants.

    Raises:
        FormatError: malformed.
        VerifyError: ``duplicate-signer``, ``signature``, ``threshold``, or ``campaign-manifest``.
    """
    role = roots.CAMPAIGN
    campaign = Campaign(FORM.require(raw, root.role_keys(role), root.threshold(role), verify))
    if campaign.manifest_digest != manifest_digest:
        raise VerifyError("CAMPAIGN is of another manifest", "campaign-manifest")
    return campaign


def unsafe_read_campaign(raw: "bytes | memoryview") -> Campaign:
    """Return what a CAMPAIGN claims, **no signature checked**: to show it, or to decide whether to sign it.

    Raises:
        FormatError: malformed.
    """
    return Campaign(FORM.parse(raw)[0])


def _wave(value: object) -> "tuple[int, int, int, str]":
    parts = check.array(value, "wave", 3, 4)
    begin, end = check.uint(parts[0], "not before"), check.uint(parts[1], "not after")
    share = check.uint(parts[2], "share", WHOLE)
    if end < begin or not share:
        raise FormatError("CAMPAIGN: a wave that no device is ever in", "campaign-wave")
    return begin, end, share, check.tstr(parts[3], "group", check.MAX_GROUP) if len(parts) == 4 else ""
