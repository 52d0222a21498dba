"""What a server needs to run: a data folder with ``config.json``, written by ``init`` or replaced by options.

DIR/config.json  files and settings        DIR/fota.db         the database
DIR/keys/        copies made by ``init``   DIR/artifacts/      image files by digest
DIR/lock         held while running        DIR/operator.token  first token, mode 0600
DIR/server.json  URLs while running     DIR/cache/          of artifacts in a bucket
DIR/turn         held by whichever of several processes writes
"""

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fota_wire.errors import InputError, StorageError
from fota_wire.files import read_input, write_atomic
from fota_wire.host_json import read_json
from fota_wire.host_values import UsageError, shown

FILES = ("tls_cert", "tls_key", "device_ca", "root", "assign_key")
"""The files that a server cannot do without, by their names in config.json."""

MAX_CONNECTIONS = 500_000
"""As many as a configuration may ask for; the open files of the process may allow less."""

MAX_WORKERS = 64

EVERYWHERE = frozenset(("0.0.0.0", "::"))  # noqa: S104 - compared, not listened on
_NAME = re.compile(r"(?=.*[A-Za-z][A-Za-z0-9-]*$)[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")

_TENANT = re.compile(r"[A-Za-z0-9_-]{1,40}")

_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_ENDPOINT = re.compile(
    r"https://[A-Za-z0-9.-]+(:\d{1,5})?|http://(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?"
)
_LOCATION = re.compile(r"(/[A-Za-z0-9_-]+)+")
_REGION = re.compile(r"[a-z0-9-]{0,40}")

SECRETS = ("tls_key", "assign_key", "log_key", "receipt_key")
"""Those of them that are private keys."""

# What ``fota keys example`` and a factory's own folder call them.
KEY_FOLDER = {
    "tls_cert": ("server.crt",),
    "tls_key": ("server.pem", "server.key"),
    "device_ca": ("device-ca.crt",),
    "root": ("root.cbor",),
    "assign_key": ("assign.pem", "assign.key"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Settings of one server. Ports: 0 takes a free one. ``interval_s``: mean time between check-ins.
    ``assign_key``: or the socket of the process that holds it.
    ``image_keys``: public keys that images are checked by for as long as ROOT names none.

    Connections that the device plane takes at a time, in all (``device_connections``), from clients that are
    not known yet (``newcomers``), of them from one address (``newcomers_per_address``): 0 is what the open
    files of this process allow. ``connections_per_device``: of one client certificate; the oldest goes.

    ``artifacts``: ``s3://BUCKET/PREFIX`` in place of the folder; its credentials are never in here.
    ``artifacts_cache``: MiB of this machine's disk for those in use.

    ``front``: UNIX socket at which an nginx of this machine is heard that ends the devices' TLS, if it is
    ``front_user``'s; empty: nobody is. ``front_files``: what it calls the artifacts; empty: it has none.
    """

    data: Path
    tls_cert: Path
    tls_key: Path
    device_ca: Path
    root: Path
    assign_key: Path
    image_keys: tuple[Path, ...] = ()
    host: str = "0.0.0.0"  # noqa: S104 - devices come from outside; the operator plane does not listen there
    port: int = 8443
    operator_host: str = "127.0.0.1"
    operator_port: int = 8444
    admission: str = "auto"
    interval_s: int = 300
    max_artifact: int = 16 << 20
    database_url: str | None = None
    artifacts: str = ""
    artifacts_endpoint: str = ""
    artifacts_region: str = ""
    artifacts_cache: int = 1024
    allow_example_keys: bool = False
    device_connections: int = 0
    newcomers: int = 0
    newcomers_per_address: int = 0
    connections_per_device: int = 8
    keep_changes_days: int = 30  # what streams and webhooks tell (changes.py)
    log: str = "text"  # or "json"
    log_public: bool = False  # the release log is served without a token, by the operator plane
    receipt_key: str = ""  # PEM file or store of the LOG key that ROOT names (receipts.py); empty: none
    oidc: str = ""  # file of whom an identity provider's word makes (oidc.py); empty: nobody
    workers: int = 1  # processes that serve devices on one port
    ddi_tenant: str = ""  # what hawkBit's clients call it; empty: their API is not served
    front: str = ""
    front_user: str = ""
    front_files: str = ""

    @property
    def files(self) -> dict[str, Path]:
        """The files, by their names in config.json."""
        return {name: getattr(self, name) for name in FILES}


def load_config(data: Path, options: Mapping[str, Any]) -> ServerConfig:
    """Return the settings of ``DIR/config.json``, if there is one, with ``options`` that are not None on top.

    Raises:
        InputError: the file is damaged, or a necessary file is named neither there nor in the options.
    """
    values = _read(data / "config.json") if (data / "config.json").exists() else {}
    values |= {name: value for name, value in options.items() if value not in (None, ())}
    missing = [name for name in FILES if name not in values]
    if missing:
        wanted = ", ".join("--" + name.replace("_", "-") for name in missing)
        raise InputError(
            f"{data} is not set up: pass {wanted}, or run 'fota server init --data {data}' first"
        )
    for name in FILES:
        values[name] = data / values[name]  # an absolute path, or one given as an option, stays what it is
    values["image_keys"] = tuple(data / path for path in values.get("image_keys", ()))
    if options.get("port") == 0 and options.get("operator_port") is None:
        values["operator_port"] = 0
    try:
        config = ServerConfig(data=data, **values)
    except TypeError as exc:
        raise InputError(f"{data / 'config.json'}: {exc}") from exc
    if config.admission not in ("auto", "known") or config.interval_s < 1:
        raise InputError("admission is auto or known, and the interval at least 1 s")
    if config.log not in ("text", "json"):
        raise InputError(f"{data / 'config.json'}: log is text or json")
    if config.ddi_tenant and not _TENANT.fullmatch(config.ddi_tenant):
        raise InputError("ddi_tenant has 1 to 40 letters, digits, - and _: DEFAULT is hawkBit's own")
    _check_limits(config)
    _check_front(config)
    _check_artifacts(config)
    _check_addresses(config)
    return config


def _check_front(config: ServerConfig) -> None:
    place = config.data / "config.json"
    if bool(config.front) != bool(config.front_user):
        raise InputError(f"{place}: front is a socket and front_user who may use it: name both, or neither")
    if config.front_files and not (config.front and _LOCATION.fullmatch(config.front_files)):
        raise InputError(
            f"{place}: front_files is a location of a front's, like /fota-artifacts: and only with front"
        )


def _check_artifacts(config: ServerConfig) -> None:
    place = config.data / "config.json"
    if config.artifacts and not _BUCKET.fullmatch(config.artifacts):
        raise InputError(
            f"{place}: artifacts is s3://BUCKET or s3://BUCKET/PREFIX, a bucket's name 3 to 63 small letters,"
            " digits, '.', '-'; credentials come from the environment"
        )
    if config.artifacts_endpoint and not _ENDPOINT.fullmatch(config.artifacts_endpoint):
        raise InputError(
            f"{place}: artifacts_endpoint is https://HOST or https://HOST:PORT; http:// on this machine only"
        )
    if not _REGION.fullmatch(config.artifacts_region):
        raise InputError(f"{place}: artifacts_region has up to 40 small letters, digits and -")
    if not config.artifacts and (config.artifacts_endpoint or config.artifacts_region):
        raise InputError(f"{place}: artifacts_endpoint and artifacts_region are of a bucket: name it, too")


def _check_addresses(config: ServerConfig) -> None:
    """Return if both planes can listen at once, as far as their names say.

    Raises:
        InputError: an address is none, or both planes want one port of one address.
    """
    for option, host in (("--host", config.host), ("--operator-host", config.operator_host)):
        if not _NAME.fullmatch(host):
            try:
                ipaddress.ip_address(host)
            except ValueError as exc:
                raise InputError(f"{option}: {shown(host)} is no address, like 0.0.0.0, nor a name") from exc
    hosts = {config.host, config.operator_host}
    if config.port == config.operator_port != 0 and (len(hosts) == 1 or not hosts.isdisjoint(EVERYWHERE)):
        raise InputError(
            f"--port and --operator-port are both {config.port}: each plane has a port of its own"
        )


def _check_limits(config: ServerConfig) -> None:
    for name, low, high in (
        ("device_connections", 0, MAX_CONNECTIONS),
        ("newcomers", 0, config.device_connections or MAX_CONNECTIONS),
        ("newcomers_per_address", 0, config.newcomers or config.device_connections or MAX_CONNECTIONS),
        ("connections_per_device", 1, 1024),
        ("keep_changes_days", 1, 3650),
        ("workers", 1, MAX_WORKERS),
        ("artifacts_cache", 1, 1 << 30),
    ):
        value = getattr(config, name)
        if not low <= value <= high:
            place = config.data / "config.json"
            raise InputError(f"{place}: {name} is {value}; it has to be {low} to {high}")


def settings_of(config: ServerConfig) -> dict[str, Any]:
    """Return ``config`` as JSON has it, for a process of ours."""
    values = asdict(config) | {"image_keys": list(map(str, config.image_keys))}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def config_of(settings: Mapping[str, Any]) -> ServerConfig:
    """Return what `settings_of` was made of."""
    types: dict[str, object] = {field.name: field.type for field in fields(ServerConfig)}
    values: dict[str, Any] = {
        name: Path(value) if types[name] is Path else value for name, value in settings.items()
    }
    values["image_keys"] = tuple(map(Path, settings["image_keys"]))
    return ServerConfig(**values)


def database_url(data: Path) -> str | None:
    """Return the database that ``DIR/config.json`` names, or None: the SQLite file of the folder."""
    path = data / "config.json"
    return _read(path).get("database_url") if path.exists() else None


def _read(path: Path) -> dict[str, Any]:
    values = read_json(read_input(path, 65536), str(path))
    types: dict[str, object] = {field.name: field.type for field in fields(ServerConfig)}
    if not isinstance(values, dict):
        raise InputError(f"{path}: not an object")
    if has_password(str(values.get("database_url"))) and path.stat().st_mode & 0o077:
        raise InputError(
            f"{path} holds the password of the database, and others on this machine can read it:"
            " chmod 600 it, or leave the password out and name a file of it by PGPASSFILE"
        )
    for name, value in values.items():
        expected = types[name] if types.get(name) in (int, bool) else list if name == "image_keys" else str
        wrong = name not in types or name == "data" or type(value) is not expected
        if wrong or (isinstance(value, list) and not all(isinstance(item, str) for item in value)):
            raise InputError(f"{path}: {name} is not a setting, or has the wrong type")
    return values


def has_password(url: str) -> bool:
    """Tell whether the URL of a database has a password in it."""
    try:
        parts = urlsplit(url)
        return bool(parts.password) or "password" in parse_qs(parts.query, keep_blank_values=True)
    except ValueError:
        return False


def find_sources(keys: Path | None, given: Mapping[str, Path]) -> dict[str, Path]:
    """Return all `FILES` by their names: as they are ``given``, else of the folder ``keys``.

    Raises:
        UsageError: one is named by nobody. InputError: ``keys`` is no folder, or lacks it.
    """
    if keys is not None and not keys.is_dir():
        raise InputError(f"--keys {keys}: no such folder")
    sources = (_find_in_folder(keys) if keys else {}) | dict(given)
    missing = {name: "--" + name.replace("_", "-") for name in FILES if name not in sources}
    if missing and keys is None:
        raise UsageError(f"name the folder of all files by --keys, or {', '.join(missing.values())}")
    if missing:
        wanted = ", ".join(f"{KEY_FOLDER[name][0]} ({option})" for name, option in missing.items())
        raise InputError(f"--keys {keys}: there is no {wanted}")
    return sources


def _find_in_folder(keys: Path) -> dict[str, Path]:
    found = {}
    for name, candidates in KEY_FOLDER.items():
        for candidate in candidates:
            if (keys / candidate).is_file():
                found[name] = keys / candidate
                break
    return found


def init_data(
    data: Path,
    sources: Mapping[str, Path],
    settings: Mapping[str, Any],
    image_keys: Sequence[Path] = (),
    secrets: Mapping[Path, bytes] | None = None,
) -> None:
    """Copy the key files into ``DIR/keys`` (private ones mode 0600) and write ``DIR/config.json``, the last.

    ``secrets``: what else is written into DIR, mode 0600.

    Raises:
        InputError: set up already, or a source cannot be read.
        StorageError: the disk refused; nothing is left behind.
    """
    if (data / "config.json").exists():
        raise InputError(f"{data} is set up already: edit {data / 'config.json'}, or choose another folder")
    folder = data / "keys"
    values: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    _check_addresses(ServerConfig(data=data, **dict[str, Any](sources), **values))
    files: dict[Path, tuple[bytes, int]] = {}
    for name in FILES:
        if sources[name].is_socket():  # the key is held by the process behind it
            values[name] = str(sources[name].absolute())
            continue
        secret = name in SECRETS
        target = folder / f"{name.replace('_', '-')}{sources[name].suffix}"
        files[target] = read_input(sources[name], 65536), 0o600 if secret else 0o644
        values[name] = str(target.relative_to(data))
    for number, path in enumerate(image_keys, 1):
        files[folder / f"image-key-{number}.pem"] = read_input(path, 65536), 0o644
        values.setdefault("image_keys", []).append(f"keys/image-key-{number}.pem")
    files |= {data / path: (content, 0o600) for path, content in (secrets or {}).items()}
    files[data / "config.json"] = json.dumps(values, indent=2, sort_keys=True).encode() + b"\n", 0o600
    new = [place for place in (*files, folder, data) if not place.exists()]
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        for target, (content, mode) in files.items():
            write_atomic(target, content, mode)
    except (OSError, StorageError) as exc:
        for place in new:
            with suppress(OSError):
                place.unlink() if place in files else place.rmdir()
        why = f"cannot use {data}: {exc.strerror}" if isinstance(exc, OSError) else str(exc)
        raise StorageError(why) from exc
