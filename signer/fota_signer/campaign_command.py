"""What ``fota campaign`` does: build, sign, show and check the CAMPAIGN of a release (SPEC 5.8)."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fota_signer import describe
from fota_signer.signing import Door
from fota_wire import campaign, check, host_crypto, suit
from fota_wire import root as roots
from fota_wire.errors import FormatError, InputError, VerifyError
from fota_wire.files import name_of, read_input
from fota_wire.host_values import moment, shown
from fota_wire.root import Root

_SHARE = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,2}))?%")


def new_campaign(manifest: bytes, waves: Iterable[tuple[int, int, int, str]]) -> bytes:
    """Return the unsigned CAMPAIGN of a manifest envelope, of waves of `read_wave`.

    Raises:
        InputError: it is no manifest, or there are too many waves.
    """
    digest = suit.unsafe_read_manifest(manifest).manifest_digest
    return campaign.build_campaign(digest, list(waves))


def read_wave(text: str) -> tuple[int, int, int, str]:
    """Return a wave that was typed, ``5% 2026-12-01T08:00 2026-12-08 canary``, as `campaign.Campaign` has it.

    Raises:
        InputError: it is none, or has ended by this machine's clock.
    """
    words = text.split()
    if not 3 <= len(words) <= 4:
        raise InputError(f"--wave: {shown(text)} is not 'SHARE FROM UNTIL [GROUP]'")
    share = _SHARE.fullmatch(words[0])
    part = int(share[1]) * 100 + int((share[2] or "").ljust(2, "0")) if share else 0
    if not 1 <= part <= campaign.WHOLE:
        raise InputError(f"--wave: {shown(words[0])} is no share of 0.01% to 100% with at most two decimals")
    begin, end = (moment(word, "--wave") for word in words[1:3])
    if end < begin:
        raise InputError(f"--wave: {shown(text)} ends before it begins")
    if end < _now():
        raise InputError(f"--wave: {shown(text)} has ended: {_clock()}")
    try:
        return begin, end, part, check.campaign_group(words[3]) if len(words) == 4 else ""
    except FormatError as exc:
        raise InputError(f"--wave: {exc}") from exc


def read_root(path: Path | None) -> Root | None:
    """Return the ROOT that names the CAMPAIGN keys, vouched for by whoever names it; None for no file.

    Raises:
        InputError, VerifyError: it is none, short of signatures, or names no such role.
    """
    if path is None:
        return None
    raw, where = read_input(path, roots.MAX_ROOT), f"--root {name_of(path)}"
    try:
        root = roots.open_genesis(raw, host_crypto.verify)
    except (InputError, VerifyError) as exc:
        raise type(exc)(f"{where}: {exc}", exc.code) from exc
    if not root.threshold(roots.CAMPAIGN):
        raise InputError(f"{where}: ROOT {root.version} names no CAMPAIGN keys")
    return root


def require_signatures_hold(raw: bytes, root: Root | None) -> None:
    """Return if no CAMPAIGN key of ``root`` signed it wrongly, be they many, few or none.

    Raises:
        VerifyError: one did; code ``signature``.
    """
    if root is not None:
        with _but_too_few():
            _open(raw, root)


@contextmanager
def _but_too_few() -> Iterator[None]:
    try:
        yield
    except VerifyError as exc:
        if exc.code != "threshold":
            raise


def require_ahead(raw: bytes) -> None:
    """Return if not all waves of a CAMPAIGN have ended by this machine's clock.

    Raises:
        InputError: they have: no device would begin anything by it; code ``campaign-over``.
    """
    waves = campaign.unsafe_read_campaign(raw).waves
    if len(_ended(waves)) == len(waves):
        raise InputError(
            f"all its waves have ended, so no device would begin anything by it: {_clock()}", "campaign-over"
        )


def _ended(waves: list[tuple[int, int, int, str]]) -> list[int]:
    """Return the numbers, from 1, of those that have ended."""
    return [number for number, (_, end, _, _) in enumerate(waves, start=1) if end < _now()]


def _now() -> float:
    return datetime.now(UTC).timestamp()


def _clock() -> str:
    return f"this machine's clock says {datetime.now(UTC):%Y-%m-%dT%H:%MZ}"


def sign_campaign(
    raw: bytes,
    root: Root | None,
    door: Door,
    before: Callable[[], None] = lambda: None,
) -> bytes:
    """Return the CAMPAIGN with one more signature; ``before`` a password is asked for, show it.

    Raises:
        InputError: the key file is not usable, or of no CAMPAIGN key of ``root``.
        VerifyError: signed by it already, or an example key.
    """
    key = door.open("campaign", before)
    if root is not None and key.kid not in root.role_keys(roots.CAMPAIGN):
        raise InputError(f"{key.name}: no CAMPAIGN key of ROOT {root.version}: it would not count")
    return campaign.FORM.add_signature(raw, key.kid, key.sign)


def summary(path: Path, raw: bytes, root: Root | None) -> dict[str, Any]:
    """Return the fields of a CAMPAIGN; ``ended``: the numbers of the waves that have; with ``root``,
    ``verified``: signed as its devices want it, and ``missing``: what they would say.
    """
    table = describe.describe(path, raw)
    if table["kind"] != "campaign":
        raise InputError(f"{name_of(path)}: not a CAMPAIGN")
    ended = _ended(campaign.unsafe_read_campaign(raw).waves)
    if ended:
        table["ended"] = ended
    if root is None:
        return table
    try:
        _open(raw, root)
    except VerifyError as exc:
        return {**table, "verified": False, "missing": exc.message}
    return {**table, "verified": True}


def _open(raw: bytes, root: Root) -> None:
    digest = campaign.unsafe_read_campaign(raw).manifest_digest
    campaign.open_campaign(raw, root, digest, host_crypto.verify)
