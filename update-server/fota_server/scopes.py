"""Tokens for some groups: what their holders may look at and do. The one home of it, and closed by itself.

A token without groups is for the whole fleet. One with groups reaches only what `MEANS` names: a request for
one device, one group or one rollout is looked at here before its handler runs; lists show what is inside.
Everything else, and whatever is new, is the fleet's: putting devices into a group is, too, or whoever has a
group would have every device.
"""

from sqlalchemy import Connection, select
from starlette.requests import Request

from fota_server import schema
from fota_server.operator_input import device_of, name_of, query_text
from fota_server.plan import Scope
from fota_server.tokens import Operator
from fota_wire.errors import FotaError

ALWAYS, DEVICE, GROUP, ROLLOUT, NAMED, ITSELF = "always", "device", "group", "rollout", "named", "itself"
"""By what a request is judged: nothing; its path's device, group or rollout; the device or group that its
query names; its handler, by `require` or by what it lists.
"""
MEANS = {
    **dict.fromkeys(("list_releases", "show_release", "list_roots", "show_limits", "show_policies"), ALWAYS),
    **dict.fromkeys(("openapi", "log_checkpoint", "log_tile"), ALWAYS),
    **dict.fromkeys(("show_device", "describe", "revoke_device", "admit_device", "retire_device"), DEVICE),
    **dict.fromkeys(("want_key", "certificate"), DEVICE),
    **dict.fromkeys(("remove_from_group", "want_group_key"), GROUP),
    **dict.fromkeys(("show_rollout", "list_targets", "list_left_out", "preview_back", "take_back"), ROLLOUT),
    **dict.fromkeys(("pause_rollout", "resume_rollout", "cancel_rollout", "approve_rollout"), ROLLOUT),
    **dict.fromkeys(("list_devices", "preview_devices"), NAMED),
    **dict.fromkeys(("start_rollout", "start_rollback", "list_groups", "list_rollouts"), ITSELF),
    **dict.fromkeys(("list_events", "stream"), ITSELF),
    **dict.fromkeys(("list_approvals", "show_approval", "give_approval", "deny_approval"), ITSELF),
}
"""By the names of handlers."""


class OutOfScope(FotaError):
    """The token is for other devices than these."""


def meant(request: Request, handler: str, operator: Operator) -> Scope | None:
    """Return what of the fleet a request is about, to be judged by `require`; None: nothing is to be judged.

    Raises:
        OutOfScope: it is about the whole fleet, and the token is not.
    """
    kind = MEANS.get(handler)
    if operator.groups is None or kind in (ALWAYS, ITSELF):
        return None
    if kind == DEVICE:
        return Scope(device=device_of(request), group=None)
    if kind == GROUP:
        return Scope(device=None, group=name_of(request, "name"))
    if kind == ROLLOUT:
        return Scope(device=None, group=None, rollout=request.path_params["id"])
    if kind == NAMED:
        device, group = query_text(request, "device"), query_text(request, "group")
        if (device is None) != (group is None):
            return Scope(device=device.lower() if device else None, group=group)
        raise _out(operator, "name one with --group")
    raise _out(operator, "this is about the whole fleet")


def require(connection: Connection, operator: Operator, scope: Scope) -> None:
    """Return if a token is for these devices.

    Raises:
        OutOfScope: it is not; whether they exist is not told.
    """
    if operator.groups is None or _is_inside(connection, operator.groups, scope):
        return
    if scope.since is not None:
        raise _out(operator, "this is about the whole fleet")
    raise _out(operator, f"{scope} is not in {'its groups' if len(operator.groups) > 1 else 'its group'}")


def is_inside(connection: Connection, operator: Operator, scope: Scope | None) -> bool:
    """Tell whether a token is for these devices; None: for the whole fleet."""
    return operator.groups is None or (scope is not None and _is_inside(connection, operator.groups, scope))


def require_inside(connection: Connection, operator: Operator, scope: Scope | None) -> None:
    """As `require`, of what may be about the whole fleet."""
    if scope is not None:
        require(connection, operator, scope)
    elif operator.groups is not None:
        raise _out(operator, "this is about the whole fleet")


def _is_inside(connection: Connection, groups: frozenset[str], scope: Scope) -> bool:
    if scope.since is not None:
        return False
    if scope.group is not None:
        return scope.group in groups
    if scope.rollout is not None:
        query = select(schema.rollouts.c.scope).where(schema.rollouts.c.id == scope.rollout)
        text = connection.execute(query).scalar_one_or_none()
        of = Scope.parse(text) if text else None
        # A rollback of a rollout is of an older one's devices; numbers only fall, so this ends.
        older = of is not None and (of.rollout is None or of.rollout < scope.rollout)
        return of is not None and older and _is_inside(connection, groups, of)
    members = schema.members
    inside = select(members.c.device_id).where(
        members.c.device_id == scope.device, members.c.group_name.in_(groups)
    )
    return connection.execute(inside.limit(1)).first() is not None


def _out(operator: Operator, why: str) -> OutOfScope:
    names = ", ".join(sorted(operator.groups or ()))
    return OutOfScope(f"token {operator.name} is for group {names}: {why}", "scope")
