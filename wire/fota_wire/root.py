"""ROOT (SPEC 5.2): the chained, threshold-signed document that names all other keys, floors and revocations.

``[payload bstr, + bstr COSE_Sign1 (payload nil)]``, external_aad "fota/root/1".
"""

from fota_wire import cbor, check, cose, der
from fota_wire.address import MAX_ADDRESS, parse_address
from fota_wire.errors import FormatError, VerifyError
from fota_wire.signed import Form

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TypeVar

    from fota_wire.seams import Verify

    Item = TypeVar("Item", str, "bytes | memoryview")

ROOT, RELEASE, ASSIGN, CAMPAIGN, LOG = 0, 1, 2, 3, 4
ROLE_NAMES = {ROOT: "root", RELEASE: "release", ASSIGN: "assign", CAMPAIGN: "campaign", LOG: "log"}
MAX_ROOT = 4096
MAX_KEYS = 16
MAX_REVOKED = 64
MAX_EPOCH = 1
MAX_RETIRED = 4
MAX_IMAGE_KEYS = 4
MAX_SERVERS = 4
MAX_SERVER_CAS = 4
MAX_CA = 1024
FORM = Form("ROOT", b"fota/root/1", MAX_ROOT)


class Root:
    """What a ROOT says. Only :func:`open_genesis` and :func:`step` return a verified one.

    ``version`` >= 1; ``min_sequence`` of manifests, ``min_secver`` of images; ``epoch`` 1 retires firmware
    root A; ``retired`` [KEYHASH] of image keys whose releases a server offers no more; ``image_keys``
    {KEYHASH: x||y} that devices know images by, {} where it does not say; ``servers`` [address] where the
    update server is and ``server_cas`` [certificate, DER] of the CAs that its certificate may come from, each
    [] where the trust store's own holds. All is checked; with ``brief`` only what its successor is held
    against is kept.
    ``known``: CAs that somebody has already; where they are the same, they are not copied.
    """

    def __init__(
        self, pairs: "Iterable[tuple[object, object]]", brief: bool = False, known: "Sequence[bytes]" = ()
    ) -> None:
        # one field after the other, and of each what is short: a small heap has no room for all at once
        self._keys: list[bytes] = []
        self._revoked: list[bytearray] = []
        self._image_keys: list[bytes] = []
        self.retired: list[bytes] = []
        self.servers: list[str] = []
        self.server_cas: list[bytes] = []
        self.epoch = found = 0
        for field, value in pairs:
            if type(field) is not int or not 1 <= field <= 12:
                raise FormatError(f"ROOT has an unknown field {field}", "field-unknown")
            found |= 1 << field
            if field < 7:
                self._take(field, value, brief)
            else:
                self._take_optional(field, value, brief, known)
        for field in range(1, 7):
            if not found >> field & 1:
                raise FormatError(f"ROOT has no field {field}", "field-missing")

    def _take(self, field: int, value: object, brief: bool) -> None:
        if field == 1 and value != 1:
            raise FormatError("ROOT: format is not 1", "root-format")
        if field == 2:
            self.version = check.uint(value, "ROOT version")
            if self.version < 1:
                raise FormatError("ROOT version is 0", "root-version")
        elif field == 3:
            self._keys = _keys(value)
        elif field == 4:
            self._roles = _roles(value, self._keys)
            if brief:
                self._keys = list(self.role_keys(ROOT).values())
                self._roles = {ROOT: (self.threshold(ROOT), bytes(range(len(self._keys))))}
        elif field == 5:
            self.min_sequence = check.uint(value, "ROOT minimum manifest sequence")
        elif field == 6:
            self.min_secver = check.uint(value, "ROOT minimum security counter", 0xFFFFFFFF)

    def _take_optional(self, field: int, value: object, brief: bool, known: "Sequence[bytes]") -> None:
        if field == 7:
            self._revoked = [eight for eight in _revoked(value) if not brief]
        elif field == 8:
            self.epoch = check.uint(value, "ROOT key epoch", MAX_EPOCH)
        elif field == 9:
            retired = check.array(value, "ROOT retired image keys", 0, MAX_RETIRED)
            self.retired = [check.bstr(key_hash, "retired image key", 32) for key_hash in retired]
        elif field == 10:
            self._image_keys = [xy for xy in _image_keys(value) if not brief]
        elif field == 11:
            self.servers = _servers(value)
        else:
            self.server_cas = [_known(ca, known) for ca in _server_cas(value) if not brief]

    @property
    def keys(self) -> "dict[bytes, bytes]":
        """{kid: x||y} of all keys but the IMAGE keys."""
        return {cose.kid_of(xy): xy for xy in self._keys}

    @property
    def roles(self) -> "dict[int, tuple[int, list[bytes]]]":
        """{role: (threshold, [kid])}."""
        return {role: (threshold, list(self.role_keys(role))) for role, (threshold, _) in self._roles.items()}

    @property
    def image_keys(self) -> "dict[bytes, bytes]":
        """{KEYHASH: x||y} of the IMAGE keys."""
        return {cose.key_hash(xy): xy for xy in self._image_keys}

    @property
    def revoked(self) -> "list[bytes]":
        """The revoked manifest digests."""
        return [bytes(some[at : at + 32]) for some in self._revoked for at in range(0, len(some), 32)]

    def revokes(self, manifest_digest: bytes) -> bool:
        """Tell whether it is among those."""
        return any(
            some[at : at + 32] == manifest_digest for some in self._revoked for at in range(0, len(some), 32)
        )

    def role_keys(self, role: int) -> "dict[bytes, bytes]":
        """Return {kid: x||y} of a role, {} of one that it does not name."""
        places = self._roles.get(role, (0, b""))[1]
        return {cose.kid_of(self._keys[place]): self._keys[place] for place in places}

    def threshold(self, role: int) -> int:
        """Return how many distinct keys of a role have to sign; 0: it names no such role."""
        return self._roles.get(role, (0, b""))[0]


def build_root(
    version: int,
    roles: "dict[int, tuple[int, list[bytes]]]",
    min_sequence: int = 0,
    min_secver: int = 0,
    revoked: "tuple[bytes, ...]" = (),
    epoch: int = 0,
    retired: "tuple[bytes, ...]" = (),
    image_keys: "tuple[bytes, ...]" = (),
    servers: "tuple[str, ...]" = (),
    server_cas: "tuple[bytes, ...]" = (),
) -> bytes:
    """Return an unsigned ROOT; ``roles`` is {role: (threshold, [x||y])}, the rest as in :class:`Root`.

    Raises:
        FormatError: what devices would refuse, e.g. a threshold above the number of keys.
    """
    keys: dict[bytes, bytes] = {}
    named: dict[int, object] = {}
    for role, (threshold, publics) in roles.items():
        kids = [cose.kid_of(xy) for xy in publics]
        for kid, xy in zip(kids, publics):  # noqa: B905  MicroPython's zip has no strict
            keys[kid] = xy
        named[role] = [threshold, kids]
    payload: dict[int, object] = {1: 1, 2: version, 3: keys, 4: named, 5: min_sequence, 6: min_secver}
    if revoked:
        payload[7] = list(revoked)
    if epoch:
        payload[8] = epoch
    if retired:
        payload[9] = list(retired)
    if image_keys:
        payload[10] = list(image_keys)
    if servers:
        payload[11] = list(servers)
    if server_cas:
        payload[12] = list(server_cas)
    raw = cbor.encode([cbor.encode(payload)])
    unsafe_read_root(raw)
    return raw


def open_genesis(raw: "bytes | memoryview", verify: "Verify") -> Root:
    """Return the ROOT that a device starts from: signed by its own threshold. The caller vouches for its
    origin.

    Raises:
        FormatError: malformed. VerifyError: ``duplicate-signer``, ``signature``, ``threshold``.
    """
    root = unsafe_read_root(raw)
    _check(root, raw, verify)
    return root


def step(root: Root, raw: "bytes | memoryview", verify: "Verify") -> Root:
    """Return the successor of ``root``: as :func:`require_step`, which says what is raised."""
    require_step(root, raw, verify)
    return unsafe_read_root(raw)


def require_step(root: Root, raw: "bytes | memoryview", verify: "Verify") -> None:
    """Return if ``raw`` is the successor of ``root``: exactly one version higher, signed by the thresholds of
    both. Where there is no room for two ROOTs side by side, the old one may go now, and the new one be read.

    Raises:
        FormatError: malformed.
        VerifyError: as :func:`open_genesis`, and ``root-version``, ``root-floor`` (a minimum may not go
        down).
    """
    _check(root, raw, verify)  # (1) the old keys vouch for it, before it is looked into
    new = _read(raw, True)
    _check(new, raw, verify)  # (2) the new keys are in use
    require_succession(root, new)  # (3) and it takes nothing back


def require_succession(root: Root, new: Root) -> None:
    """Return if ``new`` may follow ``root``, signatures apart: they are not looked at.

    Raises:
        VerifyError: ``root-version``, or ``root-floor``: it lowers what was said for ever.
    """
    if new.version != root.version + 1:
        raise VerifyError(f"ROOT {new.version} does not follow ROOT {root.version}", "root-version")
    for old, now, what in (
        (root.min_sequence, new.min_sequence, "minimum sequence"),
        (root.min_secver, new.min_secver, "minimum security counter"),
        (root.epoch, new.epoch, "key epoch"),
    ):
        if now < old:
            raise VerifyError(f"ROOT {new.version} lowers the {what}, {old} to {now}", "root-floor")
    for key_hash in root.retired:
        if key_hash not in new.retired:
            raise VerifyError(
                f"ROOT {new.version} takes back that image key {key_hash.hex()[:16]} is retired", "root-floor"
            )


def unsafe_read_root(raw: "bytes | memoryview", known: "Sequence[bytes]" = ()) -> Root:
    """Return what a ROOT claims, **no signature checked**: to show it, or to decide whether to sign it.
    ``known``: CAs that are in memory already (`Root`).
    """
    return _read(raw, False, known)


def unsafe_read_servers(raw: "bytes | memoryview") -> "tuple[int, list[str], list[bytes | memoryview]]":
    """Return version, ``servers`` and ``server_cas`` of a ROOT, **no signature checked**; of a view, views:
    where memory is short there is no room for the rest of it.
    """
    version = 0
    servers: list[str] = []
    cas: list[bytes | memoryview] = []
    for field, value in cbor.pairs(FORM.parse(raw)[0]):
        if field == 2:
            version = check.uint(value, "ROOT version")
        elif field == 11:
            servers = _servers(value)
        elif field == 12:
            cas = _server_cas(value)
    return version, servers, cas


def _read(raw: "bytes | memoryview", brief: bool, known: "Sequence[bytes]" = ()) -> Root:
    return Root(cbor.pairs(FORM.parse(raw)[0]), brief, known)


def _revoked(value: object) -> "Iterator[bytearray]":
    """Yield the digests, eight in one: alone each takes half as much again, longer ones may find no room."""
    found = check.array(value, "ROOT revocations", 0, MAX_REVOKED)
    for first in range(0, len(found), 8):
        some = found[first : first + 8]
        eight = bytearray(32 * len(some))
        for number, one in enumerate(some):
            eight[32 * number : 32 * number + 32] = check.bstr(one, "revoked manifest digest", 32)
        yield eight


def _image_keys(value: object) -> "list[bytes]":
    found = check.array(value, "ROOT image keys", 1, MAX_IMAGE_KEYS)
    keys = [check.bstr(xy, "ROOT image key", 64) for xy in found]
    for xy in keys:
        if keys.count(xy) != 1:
            raise FormatError("ROOT names an image key twice", "root-image-keys")
    return keys


def _servers(value: object) -> "list[str]":
    servers = []
    for item in check.array(value, "ROOT servers", 1, MAX_SERVERS):
        address = check.tstr(item, "server address", MAX_ADDRESS)
        parse_address(address)
        servers.append(address)
    return _distinct(servers, "a server")


def _server_cas(value: object) -> "list[bytes | memoryview]":
    cas = []
    for item in check.array(value, "ROOT server CAs", 1, MAX_SERVER_CAS):
        certificate = check.blob(item, "server CA certificate", MAX_CA)
        der.require_sequence(certificate, "server CA certificate")
        cas.append(certificate)
    return _distinct(cas, "a server CA")


def _known(ca: "bytes | memoryview", known: "Sequence[bytes]") -> bytes:
    for one in known:
        if one == ca:
            return one
    return bytes(ca)


def _distinct(items: "list[Item]", what: str) -> "list[Item]":
    for item in items:
        if items.count(item) != 1:
            raise FormatError(f"ROOT names {what} twice", "root-servers")
    return items


def _check(root: Root, raw: "bytes | memoryview", verify: "Verify") -> None:
    FORM.require(raw, root.role_keys(ROOT), root.threshold(ROOT), verify)


def _keys(value: object) -> "list[bytes]":
    if not isinstance(value, dict) or not 1 <= len(value) <= MAX_KEYS:
        raise FormatError(f"ROOT keys are not a map of 1 to {MAX_KEYS}", "root-keys")
    keys = []
    for kid, xy in value.items():
        key = check.bstr(xy, "public key", 64)
        if cose.kid_of(key) != kid:
            raise FormatError("ROOT names a key by an id that is not its own", "root-keys")
        keys.append(key)
    return keys


def _roles(value: object, keys: "list[bytes]") -> "dict[int, tuple[int, bytes]]":
    """Return {role: (threshold, places of its keys in ``keys``)}."""
    table = check.fields(value, "ROOT roles", (ROOT, RELEASE, ASSIGN), (CAMPAIGN, LOG))
    roles = {}
    known = [cose.kid_of(xy) for xy in keys]
    for role, name in ROLE_NAMES.items():
        if role not in table:
            continue
        entry = check.array(table[role], f"role {name}", 2, 2)
        places: list[int] = []
        for value in check.array(entry[1], f"keys of {name}", 1, MAX_KEYS):
            kid = check.bstr(value, "key id", 8)
            if kid not in known or known.index(kid) in places:
                raise FormatError(f"role {name} names an unknown key, or one twice", "root-roles")
            places.append(known.index(kid))
        threshold = check.uint(entry[0], f"threshold of {name}", len(places))
        if threshold < 1:
            raise FormatError(f"threshold of {name} is 0", "root-roles")
        roles[role] = (threshold, bytes(places))
    if roles[ASSIGN][0] != 1:
        raise FormatError("threshold of assign is not 1: an ASSIGNMENT has one signature", "root-roles")
    return roles
