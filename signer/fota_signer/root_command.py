"""What ``fota root`` does: build, sign, show and check the ROOT document (SPEC 5.2)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from fota_signer import describe
from fota_signer.signing import Door
from fota_wire import cose, host_crypto, host_root
from fota_wire import root as roots
from fota_wire.errors import InputError, VerifyError
from fota_wire.files import check_output, name_of, read_input
from fota_wire.host_ca import SERVER_CA, cas_of
from fota_wire.host_values import UsageError
from fota_wire.root import Root

Item = TypeVar("Item", str, bytes)
THRESHOLD = 2
"""Of ROOT and RELEASE, where nothing else is said."""


def new_root(options: Mapping[str, Any]) -> tuple[bytes, Root | None]:
    """Return a ROOT of the options of ``fota root new``, signed by the keys under ``signing``; and the one
    before.

    Raises:
        InputError: a key file is not usable, a digest is not hex, or devices would refuse the document.
        VerifyError: a published example key, private or public, which was not allowed; or a document that
            nobody could live with.
    """
    previous = read_previous(options["previous"])
    raw = roots.build_root(
        _version(options["root_version"], previous),
        _roles(options, previous),
        _or_before(options["min_sequence"], previous.min_sequence if previous else 0),
        _or_before(options["min_security_counter"], previous.min_secver if previous else 0),
        _revoked(options, previous),
        _or_before(options["key_epoch"], previous.epoch if previous else 0),
        _retired(options, previous),
        _image_keys(options, previous),
        servers=_servers(options, previous),
        server_cas=_server_cas(options, previous),
    )
    require_livable(raw, previous, options["device_floor"], development=options["development"])
    check_output(options["output"], options["force"])  # before a password is asked for
    doors = [Door(key, options["password_file"], options["allow_example_keys"]) for key in options["signing"]]
    return sign_root(raw, previous, doors), previous


def read_previous(path: Path | None) -> Root | None:
    """Return the ROOT that is in force, vouched for by whoever names it; None for no file.

    Raises:
        InputError, VerifyError: it is none, or short of signatures.
    """
    if path is None:
        return None
    try:
        return roots.open_genesis(read_input(path, roots.MAX_ROOT), host_crypto.verify)
    except (InputError, VerifyError) as exc:
        raise type(exc)(f"{name_of(path)}: --previous: {exc}", exc.code) from exc


def require_livable(
    raw: bytes, previous: Root | None, device_floor: int | None = None, *, development: bool = False
) -> None:
    """Return if a ROOT is one to sign; ``device_floor``: that every device in the field has at least.

    Raises:
        VerifyError: it is not; says why, all of it; code ``root-policy``.
    """
    root = roots.unsafe_read_root(raw)
    faults = host_root.root_faults(root)
    if not development:
        faults += host_root.shared_keys(root)
    if previous is None and root.version > 1:
        faults.append(f"version {root.version} follows another ROOT: name that with --previous")
    if previous is not None:
        faults += host_root.succession_faults(root, previous)
    if previous is not None or root.version == 1:
        before = previous.min_secver if previous else 0
        floor = before if device_floor is None else device_floor
        faults += [f"{fault} (--device-floor)" for fault in host_root.reach_faults(root, floor)]
    if faults:
        raise VerifyError("; ".join(faults), "root-policy")


def require_signatures_hold(raw: bytes, previous: Root | None) -> None:
    """Return if no ROOT key of this document or the one before signed it wrongly, be they many, few or none.

    Raises:
        VerifyError: one did; code ``signature``.
    """
    with _but_wrong_signatures():
        roots.open_genesis(raw, host_crypto.verify)
    with _but_wrong_signatures():
        if previous is not None:
            roots.step(previous, raw, host_crypto.verify)


@contextmanager
def _but_wrong_signatures() -> Iterator[None]:
    try:
        yield
    except VerifyError as exc:
        if exc.code == "signature":
            raise


def sign_root(
    raw: bytes,
    previous: Root | None,
    doors: Iterable[Door],
    before: Callable[[], None] = lambda: None,
) -> bytes:
    """Return the ROOT with one more signature per key; ``before`` a password is asked for, show it.

    Raises:
        InputError: a key file is not usable, or not of a ROOT key of this document or the one before.
        VerifyError: signed by it already, or an example key.
    """
    root = roots.unsafe_read_root(raw)
    known = [kid for named in (root, previous) if named for kid in named.role_keys(roots.ROOT)]
    for door in doors:
        key = door.open("root", before)
        if key.kid not in known:
            raise InputError(f"{key.name}: not one of the ROOT keys of this document, or the one before")
        raw = roots.FORM.add_signature(raw, key.kid, key.sign)
    return raw


def summary(path: Path, raw: bytes, previous: Root | None = None) -> dict[str, Any]:
    """Return the fields of a ROOT; ``verified``: signed as devices want it that hold ``previous``, or,
    without it, as those do that begin with this one; ``missing``: what they would say; ``changes`` since
    ``previous``.
    """
    table = describe.describe(path, raw)
    if table["kind"] != "root":
        raise InputError(f"{name_of(path)}: not a ROOT")
    if previous is not None:
        table["changes"] = describe.differences(describe.root_table(previous), table)
    try:
        _require_taken(raw, previous)
    except VerifyError as exc:
        return {**table, "verified": False, "missing": exc.message}
    return {**table, "verified": True}


def _require_taken(raw: bytes, previous: Root | None) -> None:
    """Return if devices take a ROOT. Raises VerifyError."""
    if previous is not None:
        roots.step(previous, raw, host_crypto.verify)
    elif roots.open_genesis(raw, host_crypto.verify).version > 1:
        raise VerifyError("it follows another ROOT: name that with --previous", "root-version")


def _or_before(value: int | None, before: int) -> int:
    return before if value is None else value


def _version(given: int | None, previous: Root | None) -> int:
    return _or_before(given, previous.version + 1 if previous else 1)


def _roles(options: Mapping[str, Any], previous: Root | None) -> dict[int, tuple[int, list[bytes]]]:
    roles = {role: _role(role, options, previous) for role in (roots.ROOT, roots.RELEASE, roots.ASSIGN)}
    for role, drop in ((roots.CAMPAIGN, "drop_campaigns"), (roots.LOG, "drop_log")):
        name = roots.ROLE_NAMES[role]
        named = options[f"{name}_key"] or options[f"{name}_threshold"]
        if options[drop] and named:
            raise UsageError(
                f"--{drop.replace('_', '-')}, and keys or threshold of role {name}: one or the other"
            )
        if named or (previous and previous.threshold(role) and not options[drop]):
            roles[role] = _role(role, options, previous)
    return roles


def _role(role: int, options: Mapping[str, Any], previous: Root | None) -> tuple[int, list[bytes]]:
    """Return threshold and keys of a role: as the options say, else as before."""
    name = roots.ROLE_NAMES[role]
    keys = _public(options[f"{name}_key"], name, options["allow_example_keys"])
    if not keys and previous is not None:
        keys = list(previous.role_keys(role).values())
    if not keys:
        raise UsageError(f"no key of role {name}: name them with --{name}-key, or --previous")
    if role == roots.ASSIGN:
        return 1, keys
    before = (previous and previous.threshold(role)) or (1 if role == roots.LOG else THRESHOLD)
    threshold = _or_before(options[f"{name}_threshold"], before)
    if threshold > len(keys):
        there = (
            f"there is 1 key of role {name}" if len(keys) == 1 else f"there are {len(keys)} of role {name}"
        )
        raise InputError(f"--{name}-threshold: {threshold} have to sign, and {there}")
    return threshold, keys


def _revoked(options: Mapping[str, Any], previous: Root | None) -> tuple[bytes, ...]:
    kept = previous.revoked if previous and not options["forget_revoked"] else []
    return tuple(dict.fromkeys([*kept, *(_digest(text) for text in options["revoke"])]))


def _retired(options: Mapping[str, Any], previous: Root | None) -> tuple[bytes, ...]:
    given = _public(options["retire_image_key"], "image", options["allow_example_keys"])
    kept = previous.retired if previous else []
    return tuple(dict.fromkeys([*kept, *(cose.key_hash(xy) for xy in given)]))


def _image_keys(options: Mapping[str, Any], previous: Root | None) -> tuple[bytes, ...]:
    """Return the IMAGE keys given, else those named before without the retired ones."""
    given = _public(options["image_key"], "image", options["allow_example_keys"])
    retired = _retired(options, previous)
    if any(cose.key_hash(xy) in retired for xy in given):
        raise InputError("one key under --image-key, and retired: devices know it, or not")
    before = previous.image_keys if previous else {}
    return tuple(given or (xy for key_hash, xy in before.items() if key_hash not in retired))


def _servers(options: Mapping[str, Any], previous: Root | None) -> tuple[str, ...]:
    return _kept(
        options["server_url"], previous.servers if previous else [], options["drop_server"], "address"
    )


def _server_cas(options: Mapping[str, Any], previous: Root | None) -> tuple[bytes, ...]:
    given = [ca for path in options["server_ca"] for ca in cas_of(path, SERVER_CA)]
    dropped = [ca for path in options["drop_server_ca"] for ca in cas_of(path)]
    return _kept(given, previous.server_cas if previous else [], dropped, "CA")


def _kept(given: Sequence[Item], before: list[Item], dropped: Sequence[Item], what: str) -> tuple[Item, ...]:
    """Return what is given, and behind it what was there before and is not dropped."""
    if any(item not in before for item in dropped):
        raise InputError(f"--previous names no such {what} of a server to drop")
    items = list(given)
    items += [item for item in before if item not in dropped and item not in items]
    return tuple(items)


def _public(paths: Iterable[Path], role: str, allow_example_keys: bool) -> list[bytes]:
    found = [(path, host_crypto.load_public_key(path, role)) for path in paths]
    for path, xy in found:
        host_crypto.refuse_example_key(xy, allow_example_keys, name_of(path))
    return [xy for _, xy in found]


def _digest(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise InputError(f"{text!r} is not a manifest digest (64 hex digits)")
    return raw
