"""All that can be asked of the operator plane, one row each (`operation.Operation`).

Lists come in pages: ``next`` is the ``after`` of the page that follows. Orders to many answer with a number
at once, 202 while devices are still being planned; with ``dry_run`` they only say what they would do.
"""

from fota_server import shapes as shape
from fota_server.operation import BYTES, Operation, Schema
from fota_server.operator_approvals import ApprovalHandlers
from fota_server.operator_ddi import DdiHandlers
from fota_server.operator_devices import DeviceHandlers
from fota_server.operator_events import EventHandlers
from fota_server.operator_log import LogHandlers
from fota_server.operator_login import LoginHandlers
from fota_server.operator_orders import OrderHandlers
from fota_server.operator_releases import ReleaseHandlers
from fota_server.operator_server import ServerHandlers
from fota_server.operator_webhooks import WebhookHandlers
from fota_server.tokens import ADMINISTER, OPERATE, PUBLISH, SEE, SEE_RELEASES

_TEXT, _NUMBER, _FLAG, _TIME = shape.TEXT, shape.NUMBER, shape.FLAG, shape.MOMENT
_LIMIT: Schema = {"type": "integer", "minimum": 1}
_PAGE: dict[str, Schema] = {"after": _TEXT, "limit": _LIMIT}
_BY_NUMBER: dict[str, Schema] = {"after": _NUMBER, "limit": _LIMIT}
_IDS: dict[str, Schema] = {"devices": shape.many(_TEXT)}
_KIND: dict[str, Schema] = {"kind": shape.one_of("renew", "rotate")}
_ORDER: dict[str, Schema] = {
    "device": _TEXT,
    "group": _TEXT,
    "dry_run": _FLAG,
    "policy": shape.POLICY,
    "seed": _TEXT,
    "digest": _TEXT,
}
_MADE, _PLANNED = (200, 201), (200, 201, 202)
_CERTIFICATE, _CBOR = "application/pkix-cert", "application/cbor"
_O, _R, _D, _S, _H = OrderHandlers, ReleaseHandlers, DeviceHandlers, ServerHandlers, DdiHandlers
_A, _E, _W = ApprovalHandlers, EventHandlers, WebhookHandlers


OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "health/live", None, _S.live, shape.LIVE),
    Operation("GET", "health/ready", None, _S.ready, shape.READY),
    Operation("GET", "login", None, LoginHandlers.how_to_sign_in, shape.PROVIDER),
    Operation(
        "POST",
        "login",
        None,
        LoginHandlers.sign_in,
        shape.SIGNED_IN,
        body={"id_token": _TEXT},
        needed=("id_token",),
        statuses=(201,),
    ),
    Operation("GET", "metrics", SEE, _S.metrics, _TEXT, media="text/plain"),
    Operation("GET", "openapi.json", SEE_RELEASES, _S.openapi, {"type": "object"}),
    Operation(
        "GET", "audit", SEE, _S.list_audit, shape.AUDIT, query={**_BY_NUMBER, "form": shape.one_of("lines")}
    ),
    Operation(
        "GET",
        "events",
        SEE,
        _E.list_events,
        shape.page_of("events", shape.EVENT, _NUMBER),
        query={**_BY_NUMBER, "kind": _TEXT},
    ),
    Operation(
        "GET",
        "events/stream",
        SEE,
        _E.stream,
        shape.TEXT,
        query={"after": _NUMBER, "kind": _TEXT},
        media="text/event-stream",
    ),
    Operation("GET", "webhooks", SEE, _W.list_webhooks, shape.WEBHOOKS),
    Operation(
        "POST",
        "webhooks",
        ADMINISTER,
        _W.add_webhook,
        shape.ADDED_WEBHOOK,
        body={"name": _TEXT, "url": _TEXT, "kinds": shape.many(_TEXT), "ca": _TEXT},
        needed=("name", "url"),
        statuses=(201,),
    ),
    Operation("DELETE", "webhooks/{name}", ADMINISTER, _W.remove_webhook, shape.REMOVED_WEBHOOK),
    Operation(
        "GET",
        "webhooks/{name}/dead",
        SEE,
        _W.list_dead,
        shape.page_of("letters", shape.LETTER, _NUMBER),
        query=_BY_NUMBER,
    ),
    Operation("POST", "webhooks/{name}/redeliver", OPERATE, _W.redeliver, shape.REDELIVERED),
    # Releases
    Operation(
        "PUT", "artifacts/{digest}", PUBLISH, _R.put_artifact, shape.ARTIFACT, raw=BYTES, statuses=_MADE
    ),
    Operation(
        "GET",
        "releases",
        SEE_RELEASES,
        _R.list_releases,
        shape.page_of("releases", shape.RELEASE, _NUMBER),
        query=_BY_NUMBER,
    ),
    Operation(
        "POST",
        "releases",
        PUBLISH,
        _R.publish,
        shape.PUBLISHED,
        raw=_CBOR,
        query={"hardware": shape.many(_TEXT)},
        statuses=_MADE,
    ),
    Operation("GET", "releases/{version}", SEE_RELEASES, _R.show_release, shape.RELEASE),
    Operation(
        "POST",
        "releases/{version}/hardware",
        PUBLISH,
        _R.set_fits,
        shape.RELEASE,
        body={"hardware": shape.many(_TEXT)},
    ),
    Operation(
        "POST",
        "releases/{version}/campaign",
        PUBLISH,
        _R.set_campaign,
        shape.CAMPAIGN,
        raw=_CBOR,
    ),
    Operation(
        "POST",
        "releases/{version}/sbom",
        PUBLISH,
        _R.set_sbom,
        shape.SBOM,
        body={"index": _TEXT, "sbom": _TEXT},
        needed=("index", "sbom"),
    ),
    Operation(
        "GET",
        "components",
        SEE,
        _R.list_holding,
        shape.HOLDING,
        query={**_BY_NUMBER, "component": _TEXT, "below": _TEXT},
    ),
    Operation(
        "POST",
        "releases/{version}/rehearsal",
        PUBLISH,
        _R.hand_in_rehearsal,
        shape.REHEARSAL,
        raw="application/json",
    ),
    Operation("POST", "releases/{version}/withdraw", OPERATE, _R.withdraw, shape.RELEASE),
    Operation("POST", "releases/{version}/restore", OPERATE, _R.restore, shape.RELEASE),
    Operation(
        "GET",
        "log/checkpoint",
        SEE_RELEASES,
        LogHandlers.log_checkpoint,
        _TEXT,
        media="text/plain",
        of_log=True,
    ),
    Operation(
        "GET",
        "log/tile/{level}/{tile:path}",
        SEE_RELEASES,
        LogHandlers.log_tile,
        _TEXT,
        media=BYTES,
        of_log=True,
    ),
    Operation("GET", "roots", SEE_RELEASES, _R.list_roots, shape.ROOT),
    Operation(
        "POST",
        "roots",
        ADMINISTER,
        _R.add_root,
        shape.NEXT_ROOT,
        raw=_CBOR,
        query={"force": _NUMBER},
        statuses=(201,),
    ),
    # Devices
    Operation(
        "GET",
        "devices",
        SEE,
        _D.list_devices,
        shape.page_of("devices", shape.LISTED_DEVICE),
        query={**_PAGE, "group": _TEXT, "filter": _TEXT, "device": _TEXT},
    ),
    Operation(
        "GET",
        "attributes",
        SEE,
        _D.list_attributes,
        shape.page_of("attributes", shape.ATTRIBUTE_NAME),
        query=_PAGE,
    ),
    Operation(
        "POST",
        "devices/import",
        OPERATE,
        _D.take_in,
        shape.IMPORTED,
        body={"devices": shape.many({"type": "object"}), "admit": _FLAG, "dry_run": _FLAG},
    ),
    Operation(
        "POST",
        "devices/{id}/attributes",
        OPERATE,
        _D.describe,
        shape.DEVICE,
        body={"attributes": shape.WORDS},
    ),
    Operation("GET", "devices/{id}", SEE, _D.show_device, shape.DEVICE),
    Operation("POST", "devices/{id}/revoke", OPERATE, _D.revoke_device, shape.DEVICE),
    Operation("POST", "devices/{id}/admit", OPERATE, _D.admit_device, shape.DEVICE),
    Operation(
        "POST", "devices/{id}/retire", ADMINISTER, _D.retire_device, shape.DEVICE, body={"reason": _TEXT}
    ),
    Operation("POST", "devices/{id}/key", OPERATE, _D.want_key, shape.DEVICE, body=_KIND, needed=("kind",)),
    Operation("POST", "devices/{id}/certificate", OPERATE, _D.certificate, shape.DEVICE, raw=_CERTIFICATE),
    Operation(
        "GET", "orders", OPERATE, _D.list_orders, shape.page_of("orders", shape.ORDER_FOR_CA), query=_PAGE
    ),
    Operation(
        "GET",
        "refusals",
        SEE,
        _D.list_refused,
        shape.record({"refusals": shape.many(shape.REFUSAL)}),
        query={"limit": _LIMIT},
    ),
    # Devices that speak hawkBit's DDI
    Operation(
        "POST",
        "ddi",
        OPERATE,
        _H.enrol,
        shape.ENROLLED,
        body={"controller": _TEXT, "by": _TEXT},
        needed=("controller",),
        statuses=(201,),
    ),
    Operation("POST", "ddi/gateway", ADMINISTER, _H.gateway_token, shape.TOKEN, body={"revoke": _FLAG}),
    Operation("POST", "ddi/{id}/token", OPERATE, _H.renew_token, shape.DEVICE_TOKEN),
    Operation(
        "POST",
        "releases/{version}/ddi",
        PUBLISH,
        _H.attach,
        shape.DDI_FILE,
        body={"digest": _TEXT, "name": _TEXT},
        needed=("digest", "name"),
    ),
    # Groups
    Operation("GET", "groups", SEE, _O.list_groups, shape.page_of("groups", shape.GROUP), query=_PAGE),
    Operation(
        "POST",
        "groups",
        OPERATE,
        _O.create_group,
        shape.MADE_GROUP,
        body={"name": _TEXT, "filter": _TEXT, "dry_run": _FLAG},
        statuses=_PLANNED,
    ),
    Operation("DELETE", "groups/{name}", OPERATE, _O.delete_group, shape.DELETED_GROUP),
    Operation(
        "POST",
        "groups/{name}/filter",
        OPERATE,
        _O.set_filter,
        shape.FILTERED,
        body={"filter": _TEXT, "dry_run": _FLAG},
        needed=("filter",),
        statuses=(200, 202),
    ),
    Operation(
        "POST",
        "groups/{name}/devices",
        OPERATE,
        _O.add_to_group,
        shape.PUT_IN,
        body=_IDS,
        needed=("devices",),
    ),
    Operation(
        "POST",
        "groups/{name}/remove",
        OPERATE,
        _O.remove_from_group,
        shape.TAKEN_OUT,
        body=_IDS,
        needed=("devices",),
    ),
    Operation(
        "POST",
        "groups/{name}/key",
        OPERATE,
        _D.want_group_key,
        shape.GROUP_KEYS,
        body=_KIND,
        needed=("kind",),
    ),
    # Rollouts and rollbacks
    Operation(
        "GET",
        "rollouts",
        SEE,
        _O.list_rollouts,
        shape.page_of("rollouts", shape.LISTED_ROLLOUT, _NUMBER),
        query=_BY_NUMBER,
    ),
    Operation(
        "POST",
        "rollouts",
        OPERATE,
        _O.start_rollout,
        shape.ORDERED,
        body={**_ORDER, "version": _TEXT},
        needed=("version",),
        statuses=_PLANNED,
    ),
    Operation("GET", "rollouts/{id:row}", SEE, _O.show_rollout, shape.ROLLOUT),
    Operation(
        "GET",
        "rollouts/{id:row}/devices",
        SEE,
        _O.list_targets,
        shape.page_of("devices", shape.TARGET),
        query={**_PAGE, "state": _TEXT},
    ),
    Operation(
        "GET",
        "rollouts/{id:row}/left-out",
        SEE,
        _O.list_left_out,
        shape.page_of("devices", shape.LEFT_OUT),
        query=_PAGE,
    ),
    Operation("POST", "rollouts/{id:row}/pause", OPERATE, _O.pause_rollout, shape.ROLLOUT),
    Operation("POST", "rollouts/{id:row}/resume", OPERATE, _O.resume_rollout, shape.ROLLOUT),
    Operation(
        "POST", "rollouts/{id:row}/cancel", OPERATE, _O.cancel_rollout, shape.ROLLOUT, statuses=(200, 202)
    ),
    Operation("POST", "rollouts/{id:row}/approve", OPERATE, _O.approve_rollout, shape.ROLLOUT),
    Operation("GET", "rollouts/{id:row}/rollback", SEE, _O.preview_back, shape.PREVIEW),
    Operation("POST", "rollouts/{id:row}/rollback", OPERATE, _O.take_back, shape.ROLLOUT, statuses=(202,)),
    Operation("GET", "limits", SEE, _O.show_limits, shape.LIMITS),
    Operation(
        "POST",
        "limits",
        OPERATE,
        _O.set_limits,
        shape.LIMITS,
        body={"trials": shape.maybe(_NUMBER), "counter_step": shape.maybe(_NUMBER)},
    ),
    Operation("GET", "policies", SEE, _A.show_policies, shape.POLICIES),
    Operation(
        "POST",
        "policies/lab",
        ADMINISTER,
        _A.set_lab,
        shape.POLICIES,
        body={"group": shape.maybe(_TEXT), "devices": shape.maybe(_NUMBER)},
        needed=("group",),
    ),
    Operation(
        "POST",
        "policies/rehearsal",
        ADMINISTER,
        _A.set_rehearsal,
        shape.POLICIES,
        body={"keys": shape.maybe(shape.many(_TEXT))},
        needed=("keys",),
    ),
    Operation(
        "POST",
        "policies/approval",
        ADMINISTER,
        _A.set_approval,
        shape.POLICIES,
        body={"policy": shape.maybe(shape.SECOND)},
        needed=("policy",),
    ),
    # What takes a second person
    Operation(
        "GET",
        "approvals",
        SEE,
        _A.list_approvals,
        shape.page_of("approvals", shape.APPROVAL, _NUMBER),
        query={**_BY_NUMBER, "state": shape.one_of("pending")},
    ),
    Operation("GET", "approvals/{id:row}", SEE, _A.show_approval, shape.APPROVAL),
    Operation("POST", "approvals/{id:row}/give", OPERATE, _A.give_approval, shape.APPROVAL),
    Operation(
        "POST",
        "approvals/{id:row}/deny",
        OPERATE,
        _A.deny_approval,
        shape.APPROVAL,
        body={"reason": shape.maybe(_TEXT)},
    ),
    Operation("POST", "halt", OPERATE, _O.halt, shape.LIMITS, body={"reason": shape.maybe(_TEXT)}),
    Operation("POST", "unhalt", OPERATE, _O.unhalt, shape.LIMITS),
    Operation(
        "POST",
        "rollbacks",
        OPERATE,
        _O.start_rollback,
        shape.ORDERED,
        body={**_ORDER, "to": _TEXT, "since": _TIME},
        statuses=_PLANNED,
    ),
    Operation(
        "GET",
        "preview",
        SEE,
        _O.preview_devices,
        shape.page_of("devices", shape.PREVIEWED),
        query={
            **_PAGE,
            "kind": shape.one_of("update", "rollback"),
            "version": _TEXT,
            "device": _TEXT,
            "group": _TEXT,
            "since": _TIME,
            "policy": {"type": "string", "description": "JSON"},
            "digest": _TEXT,
            "seed": _TEXT,
        },
    ),
)
