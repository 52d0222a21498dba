"""The signed image of a release, by its policy: made of the sources here, or held against them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from fota_signer import manifests, sign_command
from fota_signer.release_named import Named
from fota_signer.release_rules import Ruled
from fota_signer.signing import Door
from fota_wire.errors import InputError, VerifyError
from fota_wire.host_keys import SigningKey, held
from fota_wire.host_values import UsageError
from fota_wire.image import Image


class Made(NamedTuple):
    """A signed image: the ``data`` of its file, what is in it (``image``), x||y of the IMAGE key, and
    ``notes`` of what was filled or left out.
    """

    data: bytes
    image: Image
    public: bytes
    notes: list[str]


def sign(named: Named, rules: Ruled, door: Door) -> Made:
    """Return the image of the sources here, signed by the IMAGE key that ``door`` leads to.

    Raises:
        VerifyError: a build that the policy refuses, or one that no bootloader would boot.
        FotaError, Prepared: as `Door`.
    """
    payload, make, notes = _payload(named)
    return _made(named, rules, door.open("image"), payload, make, notes)


def held_against_sources(named: Named, rules: Ruled, known: manifests.Known, data: bytes, name: str) -> Made:
    """Return the image in ``data`` if the sources here come to it, to the byte: but for its signature, which
    has to be by an IMAGE key of ``known``.

    Raises:
        FormatError: no image. InputError: no IMAGE key is known.
        VerifyError: devices would refuse it, the policy does, or the sources come to another one; code
            ``sources``.
    """
    if not known.keys:
        raise InputError("no IMAGE key is known: signed.image, if ROOT names none")
    image = manifests.check_image(data, known)
    other = VerifyError(f"{name} is not what the sources here come to, or was built otherwise", "sources")

    def signed_before(digest: bytes) -> bytes:
        if held(public, digest, image.signature) is None:
            raise other
        return image.signature

    public = known.keys[image.key_hash]
    payload, make, notes = _payload(named)
    made = _made(named, rules, SigningKey(name, public, signed_before), payload, make, notes)
    if made.data != data:
        raise other
    return made


def _made(
    named: Named,
    rules: Ruled,
    key: SigningKey,
    payload: bytes,
    make: Callable[..., tuple[bytes, Image]],
    notes: list[str],
) -> Made:
    named.require_own(key.public, "keys.image")
    data, image = make(
        payload,
        key=key,
        version=rules.version,
        sec_cnt=rules.security_counter,
        device_class=named.policy.who,
    )
    return Made(data, image, key.public, notes)


def _payload(named: Named) -> tuple[bytes, Callable[..., tuple[bytes, Any]], list[str]]:
    """Return what is to be signed, the function of `images` that does it, and notes.

    Raises:
        VerifyError: it has a text in it that the policy refuses; code ``text``.
    """
    policy, notes = named.policy, list[str]()

    def number(value: int | None) -> str | None:
        return None if value is None else str(value)

    options = sign_command.SignOptions(
        source=named.path(policy.firmware),
        output=named.folder,
        key=Path(),
        version="",
        security_counter=0,
        linked_for=number(policy.linked_for),
        header_size=number(policy.header_size),
        leave_out=policy.leave_out,
        program=policy.program,
        chip=policy.chip,
    )
    try:
        payload, make = sign_command.prepared(options, notes)
    except UsageError as exc:  # what two words of a line would be are two keys of the policy
        raise InputError(str(exc)) from exc
    for text in policy.texts:
        if text.encode() in payload:
            raise VerifyError(
                f"{policy.firmware} has the text {text!r} in it: it is a build that is no release"
                " (refuse.texts)",
                "text",
            )
    return payload, make, notes
