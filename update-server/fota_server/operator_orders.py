"""The operator plane's handlers of orders: rollouts, rollbacks, and the groups that they are given to."""

from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import JSONResponse

from fota_server import dynamic, groups, hand_out, holdback, orders, reach, rollouts, scopes, second
from fota_server.database import Database, now
from fota_server.decide import RolloutState
from fota_server.filters import MAX_FILTER
from fota_server.operator_approvals import UNHALT, ask, require_one_is_enough
from fota_server.operator_input import (
    after_of,
    device_ids_of,
    flag_of,
    limit_of,
    name_of,
    number_of,
    page,
    query_text,
    read_json,
    scope_of,
    text_of,
    waves_asked,
    waves_of,
)
from fota_server.plan import ROLLBACK, UPDATE, Order
from fota_server.planner import Planner
from fota_server.tokens import Operator
from fota_server.trust import TrustChain
from fota_wire.errors import InputError

MAX_ROLLOUTS = 100
MAX_IDS = 4 << 20
WAVES = ("policy", "seed", "digest")


class OrderHandlers:
    """What they need: the database, the ROOT in force, and who carries orders out."""

    def __init__(self, database: Database, trust: TrustChain, planner: Planner, interval_s: int) -> None:
        self._database = database
        self._trust = trust
        self._planner = planner
        self._interval_s = interval_s + interval_s // 5  # with its spread

    # Groups

    async def list_groups(self, request: Request, operator: Operator) -> JSONResponse:
        """GET groups?after&limit."""
        limit, after = limit_of(request), after_of(request)
        views = await self._database.read(groups.list_groups, after, limit, operator.groups)
        return page("groups", views, limit, "name")

    async def create_group(self, request: Request, operator: Operator) -> JSONResponse:
        """POST groups {"name", ? "filter", ? "dry_run"}; 202: made, and still being filled."""
        body = await read_json(request)
        name, text = text_of(body, "name"), text_of(body, "filter", MAX_FILTER)
        if flag_of(body, "dry_run"):
            return await self._preview_filter(text)
        if name is None:
            raise InputError("name is missing", "json")
        created = await self._database.write(groups.create_group, name, operator.name, text)
        if text is not None:
            self._planner.wake()
        status = (201 if text is None else 202) if created else 200
        return JSONResponse({"name": name, "created": created}, status)

    async def set_filter(self, request: Request, operator: Operator) -> JSONResponse:
        """POST groups/{name}/filter {"filter", ? "dry_run"}; 202: its devices follow."""
        body = await read_json(request)
        name, text = name_of(request, "name"), text_of(body, "filter", MAX_FILTER)
        if flag_of(body, "dry_run"):
            return await self._preview_filter(text)
        await self._database.write(dynamic.set_filter, name, text or "", operator.name)
        self._planner.wake()
        return JSONResponse({"name": name, "filter": text}, 202)

    async def _preview_filter(self, text: str | None) -> JSONResponse:
        if text is None:
            raise InputError("filter is missing", "json")
        return JSONResponse(await self._database.search(dynamic.preview, text))

    async def add_to_group(self, request: Request, operator: Operator) -> JSONResponse:
        """POST groups/{name}/devices {"devices": [...]}: all of them, or none if one is not known."""
        ids = device_ids_of(await read_json(request, MAX_IDS), "devices")
        name = name_of(request, "name")
        return JSONResponse(await groups.add_members(self._database, name, ids, operator.name))

    async def remove_from_group(self, request: Request, operator: Operator) -> JSONResponse:
        """POST groups/{name}/remove {"devices": [...]}: all of them, or none if one is not in it."""
        ids = device_ids_of(await read_json(request, MAX_IDS), "devices")
        name = name_of(request, "name")
        removed = await groups.remove_members(self._database, name, ids, operator.name)
        return JSONResponse({"name": name, "removed": removed})

    async def delete_group(self, request: Request, operator: Operator) -> JSONResponse:
        """DELETE groups/{name}: its devices stay, and what rollouts want of them."""
        name = name_of(request, "name")
        gone = await groups.delete_group(self._database, name, operator.name)
        return JSONResponse({"name": name, "devices": gone})

    # Rollouts and rollbacks

    async def start_rollout(self, request: Request, operator: Operator) -> JSONResponse:
        """POST rollouts {"version", "device" | "group", ? "dry_run"}."""
        return await self._order(request, operator, UPDATE, "version")

    async def start_rollback(self, request: Request, operator: Operator) -> JSONResponse:
        """POST rollbacks {"device" | "group" | "since", ? "to", ? "dry_run"}.

        ``since``: all that any rollout gave something since that time; those that go on are cancelled.
        """
        return await self._order(request, operator, ROLLBACK, "to")

    async def _order(self, request: Request, operator: Operator, kind: str, field: str) -> JSONResponse:
        """201: planned; 202: it has its number, and devices are still being planned."""
        body = await read_json(request)
        version, scope, root = text_of(body, field), scope_of(body, kind), self._trust.current
        await self._database.read(scopes.require, operator, scope)
        waves = waves_of(body)
        if version is None and kind == UPDATE:
            raise InputError(f"{field} is missing", "json")
        order = await self._database.read(orders.order_for, kind, version, scope, waves)
        if flag_of(body, "dry_run"):
            return JSONResponse(await self._database.search(self._preview, order))
        weight = await require_one_is_enough(self._database, operator, order, version, root)
        shown = await orders.place(self._database, order, version, root, operator.name, weight)
        planning = shown["state"] == RolloutState.PLANNING
        if planning or waves or scope.since is not None:  # what it ended is still to be closed
            self._planner.wake()
        return JSONResponse(shown, 202 if planning else 201)

    def _preview(self, connection: Connection, order: Order) -> dict[str, Any]:
        """Return what an order would do, and why it takes a second person, if it does."""
        root = self._trust.current
        if order.policy is None:
            seen = orders.preview(connection, order, root)
        else:
            seen = orders.preview_waves(connection, order, root, self._interval_s)
        return seen | {"second_person": second.why(connection, order, second.weigh(connection, order, root))}

    async def preview_devices(self, request: Request, _operator: Operator) -> JSONResponse:
        """GET preview?kind&version&device|group|since&policy&seed&after&limit: device by device."""
        limit, kind = limit_of(request), query_text(request, "kind")
        if kind not in (UPDATE, ROLLBACK):
            raise InputError(f"kind has to be {UPDATE} or {ROLLBACK}", "query")
        version = query_text(request, "version")
        if version is None and kind == UPDATE:
            raise InputError("version is missing", "query")
        scope, waves = scope_of(dict(request.query_params), kind), waves_asked(request)
        order = await self._database.read(orders.order_for, kind, version, scope, waves)
        rows = await self._database.search(
            orders.preview_devices, order, self._trust.current, after_of(request), limit
        )
        return page("devices", rows, limit, "device_id")

    async def list_rollouts(self, request: Request, operator: Operator) -> JSONResponse:
        """GET rollouts?after&limit, newest first; ``after``: a number, older ones follow."""
        limit = limit_of(request, MAX_ROLLOUTS)
        before = number_of(request, "after", 1 << 62, default=1 << 62)
        views = await self._database.read(rollouts.list_all, before, limit, operator.groups)
        return page("rollouts", views, limit, "id")

    async def show_rollout(self, request: Request, _operator: Operator) -> JSONResponse:
        """GET rollouts/{id}: in numbers, ``comparison`` with what was held back among them."""

        def work(connection: Connection, number: int) -> dict[str, Any]:
            shown = rollouts.show(connection, number)
            return shown | {"comparison": holdback.compared(connection, number, now())}

        return JSONResponse(await self._database.read(work, request.path_params["id"]))

    async def list_targets(self, request: Request, _operator: Operator) -> JSONResponse:
        """GET rollouts/{id}/devices?state&after&limit; ``state``: words with commas between them."""
        limit, after = limit_of(request), after_of(request)
        states = list(filter(None, (query_text(request, "state") or "").split(",")))
        number = request.path_params["id"]
        rows = await self._database.read(rollouts.list_targets, number, states, after, limit)
        return page("devices", rows, limit, "device_id")

    async def list_left_out(self, request: Request, _operator: Operator) -> JSONResponse:
        """GET rollouts/{id}/left-out?after&limit."""
        limit, after = limit_of(request), after_of(request)
        rows = await self._database.read(rollouts.list_left_out, request.path_params["id"], after, limit)
        return page("devices", rows, limit, "device_id")

    async def pause_rollout(self, request: Request, operator: Operator) -> JSONResponse:
        """POST rollouts/{id}/pause."""
        number = request.path_params["id"]
        await self._database.write(rollouts.set_paused, number, True, operator.name)
        return JSONResponse(await self._database.read(rollouts.show, number))

    async def resume_rollout(self, request: Request, operator: Operator) -> JSONResponse:
        """POST rollouts/{id}/resume."""
        number = request.path_params["id"]
        await self._database.write(orders.resume, number, operator.name)
        self._planner.wake()
        return JSONResponse(await self._database.read(rollouts.show, number))

    async def approve_rollout(self, request: Request, operator: Operator) -> JSONResponse:
        """POST rollouts/{id}/approve: the next wave opens."""
        number = request.path_params["id"]
        await self._database.write(rollouts.approve, number, operator.name)
        return JSONResponse(await self._database.read(rollouts.show, number))

    async def preview_back(self, request: Request, _operator: Operator) -> JSONResponse:
        """GET rollouts/{id}/rollback: what a POST would do, in numbers."""
        number = request.path_params["id"]
        order = await self._database.read(orders.way_back, number)
        await self._database.read(orders.preview_back, number, self._trust.current)
        return JSONResponse(await self._database.search(self._preview, order))

    async def take_back(self, request: Request, operator: Operator) -> JSONResponse:
        """POST rollouts/{id}/rollback: cancelled, and each device back to what it had confirmed; 202."""
        number = request.path_params["id"]
        root = self._trust.current
        await self._database.read(orders.preview_back, number, root)
        order = await self._database.read(orders.way_back, number)
        weight = await require_one_is_enough(self._database, operator, order, None, root)
        rollback = await self._database.write(orders.take_back, number, operator.name, weight)
        self._planner.wake()
        return JSONResponse(await self._database.read(rollouts.show, rollback), 202)

    # All of them

    async def show_limits(self, _request: Request, _operator: Operator) -> JSONResponse:
        """GET limits: what holds for all rollouts."""
        return JSONResponse(await self._database.read(hand_out.limits))

    async def set_limits(self, request: Request, operator: Operator) -> JSONResponse:
        """POST limits {"trials", "counter_step"}, numbers or null: how many devices may be on trial at once,
        how far a security counter may be above a device's floor. What is not named stays.
        """
        body = await read_json(request)
        if not body:
            raise InputError("name what to set: trials, counter_step", "json")
        for name, most in body.items():
            if most is not None and (not isinstance(most, int) or isinstance(most, bool)):
                raise InputError(f"{name} has to be a number, or null", "json")

        def work(connection: Connection) -> None:
            if "trials" in body:
                hand_out.set_trials(connection, body["trials"], operator.name)
            if "counter_step" in body:
                reach.set_step(connection, body["counter_step"], operator.name)

        await self._database.write(work)
        return JSONResponse(await self._database.read(hand_out.limits))

    async def halt(self, request: Request, operator: Operator) -> JSONResponse:
        """POST halt {"reason"}: nothing is handed out any more."""
        reason = text_of(await read_json(request), "reason")
        await self._database.write(hand_out.halt, reason or "no reason given", operator.name)
        return JSONResponse(await self._database.read(hand_out.limits))

    async def unhalt(self, _request: Request, operator: Operator) -> JSONResponse:
        """POST unhalt; it may take a second person."""

        def work(connection: Connection) -> bool:
            policy = second.find(connection)
            if policy is not None and policy.unhalt and hand_out.is_halted(connection):
                return False
            hand_out.unhalt(connection, operator.name)
            return True

        if not await self._database.write(work):
            await ask(self._database, operator, UNHALT, "all", "lifting a halt takes a second person", {})
        return JSONResponse(await self._database.read(hand_out.limits))

    async def cancel_rollout(self, request: Request, operator: Operator) -> JSONResponse:
        """POST rollouts/{id}/cancel; 202: targets are still being closed."""
        number = request.path_params["id"]
        await self._database.write(rollouts.cancel, number, operator.name)
        shown = await self._database.read(rollouts.show, number)
        cancelling = shown["state"] == RolloutState.CANCELLING
        if cancelling:
            self._planner.wake()
        return JSONResponse(shown, 202 if cancelling else 200)
