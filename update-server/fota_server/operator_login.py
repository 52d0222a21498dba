"""The operator plane's handlers of signing in: an ID token of the identity provider for a token of ours."""

import threading

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import JSONResponse

from fota_server import tokens
from fota_server.database import Database, now
from fota_server.oidc import NotSignedIn, Provider, ProviderAway, SignedIn
from fota_server.operator_input import read_json
from fota_server.own_thread import in_own_thread
from fota_server.tokens import Operator
from fota_wire.errors import InputError

HOUR = 3600
LOGINS_AT_ONCE = 16
"""That wait for the identity provider: each has a thread of its own."""


class LoginHandlers:
    """What they need: database, and the identity provider; None: nobody signs in here."""

    def __init__(self, database: Database, provider: Provider | None) -> None:
        self._database = database
        self._provider = provider
        self._places = threading.Semaphore(LOGINS_AT_ONCE)

    async def how_to_sign_in(self, _request: Request, _operator: Operator) -> JSONResponse:
        """GET login: whom to ask for an ID token, and as which client."""
        settings = self._known().settings
        return JSONResponse({"issuer": settings.issuer, "client_id": settings.client_id})

    async def sign_in(self, request: Request, _operator: Operator) -> JSONResponse:
        """POST login {id_token}: a token of ours, shown this once. An ID token makes one, once."""
        provider = self._known()
        raw = (await read_json(request))["id_token"]
        if not isinstance(raw, str):
            raise InputError("id_token is a text", "id-token")
        who = await self._ask(provider, raw)
        ends = now() + provider.settings.hours * HOUR
        secret = await self._database.write(_make, who, ends)
        request.scope["extensions"]["fota.known"]["say"]()
        told = {"token": secret, "person": who.person, "role": who.role, "expires_at": ends}
        return JSONResponse(told | {"groups": sorted(who.groups) or None}, 201)

    async def _ask(self, provider: Provider, raw: str) -> SignedIn:
        """Anybody may ask, and the provider may let us wait."""
        if not self._places.acquire(blocking=False):
            raise ProviderAway(
                f"{LOGINS_AT_ONCE} sign-ins wait for the identity provider already: try again later",
                "provider",
            )

        def ask() -> SignedIn:
            try:
                return provider.sign_in(raw)
            finally:  # of the thread, whoever still waits for it
                self._places.release()

        return await in_own_thread("login", ask)

    def _known(self) -> Provider:
        if self._provider is None:
            raise InputError("nobody signs in here: this server has no oidc.json", "unknown-provider")
        return self._provider


def _make(connection: Connection, who: SignedIn, ends: int) -> str:
    if tokens.signed_in_before(connection, who.login):
        raise NotSignedIn("this ID token has been used: sign in again", "id-token")
    tokens.forget_logins(connection)
    name = f"{who.person[:52]} {who.login[:8]}"
    return tokens.create_token(
        connection, name, who.role, who.person, expires_at=ends, groups=who.groups, person=who.person,
        login=who.login,
    )  # fmt: skip
