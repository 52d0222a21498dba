"""Signing in by OpenID Connect: what is taken of an identity provider, and whom it makes here.

``oidc.json`` (docs/operations.md):
``{"issuer": URL, "client_id": text, "person": claim ["sub"], "hours": 1 to 24 [8], "rules": [RULE...]}``,
RULE: ``{"claim": name, "value": text, "role": one of `tokens.ROLES`, ? "groups": [name...]}``; the first that
an ID token meets counts. What is made is a token as any other (`tokens.py`), which ends after those hours.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fota_server.tokens import ROLES
from fota_wire.errors import FotaError, InputError, TransportError
from fota_wire.files import read_input
from fota_wire.host_fetch import fetch, require_url
from fota_wire.host_json import read_json

log = logging.getLogger("fota.server")

ALGORITHMS = ("ES256", "ES384", "EdDSA", "PS256", "RS256")
"""What an ID token may be signed by: public keys only, none of SHA-1."""
MAX_TOKEN = 16384
FRESH_S = 900  # from the sign-in to here
LEEWAY_S = 60
KEYS_FOR_S, KEYS_AGAIN_S = 3600, 30
_SETTINGS = {"issuer", "client_id", "person", "hours", "rules"}
_RULE = {"claim", "value", "role", "groups"}


class NotSignedIn(FotaError):
    """The ID token is not good: not of this provider, for another client, too old, or used before."""


class NoRole(FotaError):
    """Who signed in has no role here."""


class ProviderAway(FotaError):
    """The identity provider's keys cannot be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Whose claim is ``value``, or lists it, gets the role, for these groups or all."""

    claim: str
    value: str
    role: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What ``oidc.json`` says."""

    issuer: str
    client_id: str
    person: str
    hours: int
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """Whom an ID token makes; ``login``: the SHA-256, in hex, of what of it is signed, so that it makes
    somebody once: the signature itself can be written in other ways.
    """

    person: str
    role: str
    groups: tuple[str, ...]
    login: str


def read_settings(path: Path) -> Settings:
    """Return what the file says.

    Raises:
        InputError: it is not there, or not what it should be; named.
    """
    values = read_json(read_input(path, 65536), str(path))
    if not isinstance(values, dict) or not _SETTINGS >= values.keys() >= {"issuer", "client_id", "rules"}:
        raise InputError(f"{path}: has issuer, client_id, rules, and if wanted person and hours, no more")
    require_url(str(values["issuer"]), f"{path}: issuer")
    hours = values.get("hours", 8)
    if type(hours) is not int or not 1 <= hours <= 24:
        raise InputError(f"{path}: hours is 1 to 24")
    texts = (values["issuer"], values["client_id"], values.get("person", "sub"))
    if not all(isinstance(text, str) and 0 < len(text) <= 256 for text in texts):
        raise InputError(f"{path}: issuer, client_id and person are texts")
    if not isinstance(values["rules"], list) or not values["rules"]:
        raise InputError(f"{path}: rules is a list, and without one nobody could sign in")
    rules = tuple(_read_rule(path, number, rule) for number, rule in enumerate(values["rules"], 1))
    return Settings(issuer=texts[0], client_id=texts[1], person=texts[2], hours=hours, rules=rules)


def _read_rule(path: Path, number: int, rule: object) -> Rule:
    where = f"{path}: rule {number}"
    if not isinstance(rule, dict) or not _RULE >= rule.keys() >= {"claim", "value", "role"}:
        raise InputError(f"{where} has claim, value, role, and if wanted groups, no more")
    groups = rule.get("groups", [])
    if not isinstance(groups, list) or not all(isinstance(text, str) for text in (*groups, *_words(rule))):
        raise InputError(f"{where}: claim, value and role are texts, groups a list of texts")
    if rule["role"] not in ROLES:
        raise InputError(f"{where}: role is one of {', '.join(ROLES)}")
    if "groups" in rule and not groups:
        raise InputError(f"{where}: groups names none: leave it out for the whole fleet")
    return Rule(claim=rule["claim"], value=rule["value"], role=rule["role"], groups=tuple(groups))


def _words(rule: Mapping[str, Any]) -> tuple[object, object, object]:
    return rule["claim"], rule["value"], rule["role"]


def entitle(claims: Mapping[str, Any], settings: Settings, login: str) -> SignedIn:
    """Return whom verified claims make.

    Raises:
        NotSignedIn: they do not say who it is. NoRole: no rule is met.
    """
    person = claims.get(settings.person)
    if not isinstance(person, str) or not 1 <= len(person) <= 64 or not person.isprintable():
        raise NotSignedIn(f"the ID token names nobody: {settings.person} is no text of up to 64", "person")
    if settings.person == "email" and claims.get("email_verified") is not True:
        raise NotSignedIn("the identity provider does not vouch for this address (email_verified)", "person")
    for rule in settings.rules:
        has = claims.get(rule.claim)
        if has == rule.value or (isinstance(has, list) and rule.value in has):
            return SignedIn(person=person.strip(), role=rule.role, groups=rule.groups, login=login)
    raise NoRole(
        f"{person} is known, and has no role on this server: no rule of its oidc.json is met", "role"
    )


class Provider:
    """The identity provider: its keys, fetched when they are first needed, and verified tokens. Blocking."""

    def __init__(self, settings: Settings) -> None:
        import jwt

        self.settings = settings
        self._jwt = jwt
        self._keys: Any = None
        self._fetched_at = -1e9
        self._turn = threading.Lock()

    def sign_in(self, raw: str) -> SignedIn:
        """Return whom the ID token makes.

        Raises:
            NotSignedIn, NoRole: nobody. ProviderAway: it cannot be said.
        """
        jwt, settings = self._jwt, self.settings
        if not 0 < len(raw) <= MAX_TOKEN or not raw.isascii():
            raise NotSignedIn("that is no ID token", "id-token")
        try:
            header = jwt.get_unverified_header(raw)
            key = self._key(str(header.get("kid", "")), header.get("alg"))
            claims = jwt.decode(
                raw,
                key,
                algorithms=list(ALGORITHMS),
                audience=settings.client_id,
                issuer=settings.issuer,
                leeway=LEEWAY_S,
                options={"require": ["iss", "aud", "sub", "exp", "iat"]},
            )
        except jwt.PyJWTError as exc:
            raise NotSignedIn(f"the ID token is not good: {str(exc)[:120]}", "id-token") from exc
        if claims.get("azp", settings.client_id) != settings.client_id:
            raise NotSignedIn("the ID token was made for another client (azp)", "id-token")
        if time.time() - claims["iat"] > FRESH_S + LEEWAY_S:
            raise NotSignedIn(f"the ID token is older than {FRESH_S} s: sign in again", "id-token")
        return entitle(claims, settings, hashlib.sha256(raw.rpartition(".")[0].encode()).hexdigest())

    def _key(self, kid: str, algorithm: object) -> Any:  # noqa: ANN401 - the library's own type
        """Return the public key of that id. A new id may be a new key, so the keys are fetched again, but
        seldom: anybody can make up ids.
        """
        with self._turn:
            age = time.monotonic() - self._fetched_at
            found = self._find(kid)
            if age > KEYS_FOR_S or (found is None and age > KEYS_AGAIN_S):
                self._fetch()
                found = self._find(kid)
        if found is None:
            raise self._jwt.InvalidKeyError("no key of this provider has signed it")
        if algorithm not in ALGORITHMS or found.algorithm_name not in (algorithm, None):
            raise self._jwt.InvalidAlgorithmError("its key is not for that algorithm")
        return found.key

    def _find(self, kid: str) -> Any:  # noqa: ANN401 - see above
        keys = self._keys.keys if self._keys else []
        fit = [key for key in keys if (key.key_id or "") == kid and key.public_key_use in (None, "sig")]
        return fit[0] if len(fit) == 1 else None

    def _fetch(self) -> None:
        self._fetched_at = time.monotonic()
        issuer = self.settings.issuer
        try:
            self._keys = self._jwt.PyJWKSet.from_dict(_keys_of(issuer))
        except (InputError, TransportError, self._jwt.PyJWTError) as exc:
            log.warning("identity provider: %s", exc)
            if self._keys is None:
                self._fetched_at = -1e9
                raise ProviderAway(f"the identity provider's keys cannot be had: {exc}", "provider") from exc


def _keys_of(issuer: str) -> dict[str, Any]:
    _, about = fetch(issuer.rstrip("/") + "/.well-known/openid-configuration")
    if about.get("issuer") != issuer:
        raise TransportError(f"{issuer} calls itself {str(about.get('issuer'))[:80]!a}")
    return fetch(str(about.get("jwks_uri")))[1]
