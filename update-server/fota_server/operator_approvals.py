"""The operator plane's handlers of policies for the whole fleet, and of what takes a second person."""

from typing import Any, NoReturn

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import JSONResponse

from fota_server import hand_out, lab, orders, rehearsals, scopes, second
from fota_server.database import Database
from fota_server.operator_input import limit_of, number_of, query_text, read_json, text_of
from fota_server.orders import InWaves
from fota_server.plan import Order, Scope
from fota_server.planner import Planner
from fota_server.second_policy import Weight, parse_second
from fota_server.tokens import ADMINISTER, Operator
from fota_server.trust import TrustChain
from fota_server.wave_policy import parse_policy
from fota_wire.errors import InputError, VerifyError
from fota_wire.root import Root

MAX_APPROVALS = 100
ORDER, TAKE_BACK, UNHALT, LAB, APPROVAL = "order", "take-back", "unhalt", "lab", "approval"
REHEARSAL = "rehearsal"


async def ask(
    database: Database, operator: Operator, kind: str, subject: str, reason: str, body: dict[str, Any]
) -> NoReturn:
    """Store a request for what takes a second person, and say so.

    Raises:
        VerifyError: always; nothing was done.
    """
    asked = await database.write(second.ask, operator, kind, subject, reason, body)
    number = asked["id"]
    told = f"{reason}; request {number} waits for somebody else: 'fota approval give {number}'"
    raise VerifyError(told, "approval-pending")


async def require_one_is_enough(
    database: Database, operator: Operator, order: Order, version: str | None, root: Root
) -> Weight | None:
    """Return what an order weighs; if it takes a second person, it is asked for and refused."""
    weight = await database.read(second.weigh, order, root)
    reason = await database.read(second.why, order, weight)
    if reason is None:
        return weight
    await database.read(orders.require_effect, order, root)
    if order.scope.rollout is not None:
        kind = TAKE_BACK
        body: dict[str, Any] = {"rollout": order.scope.rollout}
    else:
        kind, body = ORDER, await database.read(orders.promised, order, root)
        body |= {"kind": order.kind, "version": version}
    return await ask(database, operator, kind, str(order.scope), reason, body)


class ApprovalHandlers:
    """What they need: the database, the ROOT in force, and who carries orders out."""

    def __init__(self, database: Database, trust: TrustChain, planner: Planner) -> None:
        self._database = database
        self._trust = trust
        self._planner = planner

    # Policies

    async def show_policies(self, _request: Request, _operator: Operator) -> JSONResponse:
        """GET policies: what has to hold for every order, whoever gives it."""
        return JSONResponse(await self._database.read(_policies))

    async def set_lab(self, request: Request, operator: Operator) -> JSONResponse:
        """POST policies/lab {"group": name or null, ? "devices"}: who confirms each release first."""
        body = await read_json(request)
        if "group" not in body:
            raise InputError("group is missing; null: no lab", "json")
        group, devices = text_of(body, "group"), body.get("devices")
        if devices is not None and (not isinstance(devices, int) or isinstance(devices, bool)):
            raise InputError("devices has to be a number, or null", "json")
        return await self._set_policy(operator, LAB, {"group": group, "devices": devices})

    async def set_approval(self, request: Request, operator: Operator) -> JSONResponse:
        """POST policies/approval {"policy": second_policy's form, or null}: what takes a second person."""
        body = await read_json(request)
        if "policy" not in body:
            raise InputError("policy is missing; null: none", "json")
        if body["policy"] is not None:
            body["policy"] = parse_second(body["policy"]).to_json()
        return await self._set_policy(operator, APPROVAL, body)

    async def set_rehearsal(self, request: Request, operator: Operator) -> JSONResponse:
        """POST policies/rehearsal {"keys": x||y in hex, or null}: who attests releases before an order."""
        body = await read_json(request)
        if "keys" not in body:
            raise InputError("keys is missing; null: nobody has to", "json")
        keys = rehearsals.parse_keys(body["keys"])
        return await self._set_policy(operator, REHEARSAL, {"keys": keys})

    async def _set_policy(self, operator: Operator, kind: str, body: dict[str, Any]) -> JSONResponse:
        """Set it; while a policy wants two persons, changing one does, too: it would bind nobody else."""

        def work(connection: Connection) -> bool:
            if second.find(connection) is not None:
                return False
            _apply(connection, kind, body, operator.name)
            return True

        if not await self._database.write(work):
            reason = "what holds for every order is changed by two while two are wanted"
            await ask(self._database, operator, kind, "all", reason, body)
        return JSONResponse(await self._database.read(_policies))

    # Requests

    async def list_approvals(self, request: Request, operator: Operator) -> JSONResponse:
        """GET approvals?state=pending&after&limit: newest first; those of the token's groups."""
        limit, state = limit_of(request, MAX_APPROVALS), query_text(request, "state")
        if state not in (None, second.PENDING):
            raise InputError("state has to be pending, or is left out", "query")
        before = number_of(request, "after", 1 << 62, default=1 << 62)
        states = () if state is None else (state,)

        def work(connection: Connection) -> tuple[list[dict[str, Any]], int | None]:
            rows = second.listed(connection, before, limit, states)
            mine = [row for row in rows if scopes.is_inside(connection, operator, _scope(row))]
            return mine, rows[-1]["id"] if len(rows) == limit else None

        rows, following = await self._database.read(work)
        return JSONResponse({"approvals": rows, "next": following})

    async def show_approval(self, request: Request, operator: Operator) -> JSONResponse:
        """GET approvals/{id}."""
        return JSONResponse(await self._asked(request, operator))

    async def _asked(self, request: Request, operator: Operator) -> dict[str, Any]:
        def work(connection: Connection) -> dict[str, Any]:
            found = second.show(connection, request.path_params["id"])
            scopes.require_inside(connection, operator, _scope(found))
            return found

        return await self._database.read(work)

    async def give_approval(self, request: Request, operator: Operator) -> JSONResponse:
        """POST approvals/{id}/give: it is done now, as it was asked for; by somebody else than who asked."""
        asked = await self._asked(request, operator)
        number, kind, body, asker = (asked[name] for name in ("id", "kind", "body", "asked_by"))
        if kind in (LAB, APPROVAL, REHEARSAL) and not operator.may(ADMINISTER):
            raise VerifyError(f"request {number}: a policy is an admin's to give", "role")
        await self._database.read(second.require_decidable, number, operator)
        root = self._trust.current
        order = await self._order_of(asked) if kind == ORDER else None

        def carry_out(connection: Connection) -> int | None:
            if order is not None:
                return int(
                    orders.place_now(connection, order, body["version"], root, asker, None, True)["id"]
                )
            if kind == TAKE_BACK:
                return orders.take_back(connection, body["rollout"], asker, None, True)
            _apply(connection, kind, body, asker)
            return None

        await self._database.write(second.give, number, operator, carry_out)
        self._planner.wake()
        return JSONResponse(await self._database.read(second.show, number))

    async def _order_of(self, asked: dict[str, Any]) -> Order:
        """Return the order that was asked for, if it still does no more than was asked for."""
        body, root = asked["body"], self._trust.current
        waves = None
        if body["policy"] is not None:
            waves = InWaves(policy=parse_policy(body["policy"]), seed=body["seed"], digest=body["digest"])
        scope = Scope.parse(asked["subject"])
        order = await self._database.read(orders.order_for, body["kind"], body["version"], scope, waves)
        await self._database.read(orders.require_effect, order, root)
        reaches = (await self._database.read(orders.promised, order, root))["total"]
        if reaches > body["total"]:
            told = f"it would reach {reaches} device(s) now, and {body['total']} were asked for: ask again"
            raise VerifyError(f"request {asked['id']}: {told}", "plan")
        return order

    async def deny_approval(self, request: Request, operator: Operator) -> JSONResponse:
        """POST approvals/{id}/deny {? "reason"}: it is not done; who asked takes it back so."""
        asked = await self._asked(request, operator)
        reason = text_of(await read_json(request), "reason") or "no reason given"
        await self._database.write(second.deny, asked["id"], operator, reason)
        return JSONResponse(await self._database.read(second.show, asked["id"]))


def _scope(asked: dict[str, Any]) -> Scope | None:
    """Return whose devices a request is about; None: the fleet's."""
    return Scope.parse(asked["subject"]) if asked["kind"] in (ORDER, TAKE_BACK) else None


def _policies(connection: Connection) -> dict[str, Any]:
    found = second.find(connection)
    return {
        "lab": lab.shown(connection),
        "approval": found.to_json() if found else None,
        "rehearsal": rehearsals.shown(connection),
    }


def _apply(connection: Connection, kind: str, body: dict[str, Any], actor: str) -> None:
    if kind == UNHALT:
        hand_out.unhalt(connection, actor)
    elif kind == LAB:
        lab.set_lab(connection, body["group"], body["devices"], actor)
    elif kind == REHEARSAL:
        rehearsals.set_keys(connection, body["keys"], actor)
    else:
        policy = body["policy"]
        second.set_second(connection, None if policy is None else parse_second(policy), actor)
