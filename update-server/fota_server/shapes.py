"""Shapes of what operators send and get, as JSON Schema. No object has other fields than are named here:
tests/server hold every answer to its shape, so one that grows a field without a word here is found.
"""

from collections.abc import Mapping
from typing import Any

from fota_server.decide import RolloutState, TargetState
from fota_server.operation import Schema

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
FLAG: Schema = {"type": "boolean"}
ANYTHING: Schema = {}
MOMENT: Schema = {"type": "integer", "description": "seconds since 1970"}
BYTES: Schema = {"type": "integer", "description": "bytes"}
SECONDS: Schema = {"type": "integer", "description": "seconds"}
SHARE: Schema = {"type": "string", "description": "per cent, as 2.5%"}
DIGEST: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256, hex"}
DEVICE_ID: Schema = {"type": "string", "pattern": "^[0-9a-f]{18}$"}


def maybe(shape: Schema) -> Schema:
    """Return the shape of it, or null."""
    if "type" in shape and "pattern" not in shape and isinstance(shape["type"], str):
        return {**shape, "type": [shape["type"], "null"]}
    return {"anyOf": [shape, {"type": "null"}]}


def many(shape: Schema) -> Schema:
    """Return the shape of a list of it."""
    return {"type": "array", "items": shape}


def named(shape: Schema) -> Schema:
    """Return the shape of an object whose fields have any names and values of this shape."""
    return {"type": "object", "additionalProperties": shape}


def record(fields: Mapping[str, Schema], *optional: str) -> Schema:
    """Return the shape of an object of these fields; those ``optional`` may be left out."""
    return {
        "type": "object",
        "properties": dict(fields),
        "required": [name for name in fields if name not in optional],
        "additionalProperties": False,
    }


def page_of(name: str, shape: Schema, key: Schema = TEXT, **more: Schema) -> Schema:
    """Return the shape of a page of a list; ``next``: the ``after`` of the one that follows."""
    return record({name: many(shape), **more, "next": maybe(key)})


def one_of(*words: str) -> Schema:
    """Return the shape of a text that is one of these."""
    return {"type": "string", "enum": [str(word) for word in words]}


ERROR = record({"error": record({"code": TEXT, "message": TEXT})})

_CAMPAIGN_WAVES = many(record({"not_before": NUMBER, "not_after": NUMBER, "share": NUMBER, "group": TEXT}))
_RELEASE: dict[str, Any] = {
    "id": NUMBER,
    "version": TEXT,
    "vendor_id": TEXT,
    "class_id": TEXT,
    "sequence": NUMBER,
    "manifest_digest": DIGEST,
    "file_digest": DIGEST,
    "file_size": BYTES,
    "image_hash": DIGEST,
    "sec_cnt": NUMBER,
    "published_at": MOMENT,
    "published_by": TEXT,
    "withdrawn_at": maybe(MOMENT),
    "withdrawn_by": maybe(TEXT),
    "pruned_at": maybe(MOMENT),
    "chip": maybe(TEXT),
    "barred": maybe(TEXT),
    "receipt": maybe(TEXT),
    "hardware": many(TEXT),
    "campaign": maybe(_CAMPAIGN_WAVES),
}
RELEASE = record(_RELEASE)
PUBLISHED = record(
    {
        **_RELEASE,
        "created": FLAG,
        "image_signature": one_of("verified", "unchecked"),
        "warnings": many(TEXT),
    }
)
CAMPAIGN = record(
    {
        "version": TEXT,
        "manifest_digest": DIGEST,
        "waves": _CAMPAIGN_WAVES,
    }
)
SBOM = record({"version": TEXT, "manifest_digest": DIGEST, "sbom": DIGEST, "components": NUMBER})
_HOLDING = record(
    {
        "id": NUMBER,
        "version": TEXT,
        "class_id": TEXT,
        "manifest_digest": DIGEST,
        "withdrawn_at": maybe(MOMENT),
        "components": many(TEXT),
        "devices": NUMBER,
    }
)
_UNKNOWN = record({"releases": NUMBER, "devices": NUMBER})
HOLDING = page_of("releases", _HOLDING, NUMBER, unknown=maybe(_UNKNOWN))
REHEARSAL = record({"version": TEXT, "manifest_digest": DIGEST, "verified": FLAG})
ARTIFACT = record({"digest": DIGEST, "created": FLAG})
ROOT = record(
    {
        "version": NUMBER,
        "min_sequence": NUMBER,
        "min_secver": NUMBER,
        "revoked": many(TEXT),
        "servers": many(TEXT),
        "server_cas": many(TEXT),
    }
)
NEXT_ROOT = record({"version": NUMBER, "lost": many(TEXT)})

_RUNNING = record(
    {
        "version": maybe(TEXT),
        "release": maybe(TEXT),
        "image_hash": DIGEST,
        "slot": maybe(TEXT),
        "state": maybe(TEXT),
        "sec_cnt": maybe(NUMBER),
    }
)
_WANTED = record(
    {
        "version": TEXT,
        "rollout": NUMBER,
        "state": one_of(*TargetState),
        "reason": maybe(TEXT),
        "paused": FLAG,
    }
)
_ATTRIBUTE = record({"value": TEXT, "by": one_of("operator", "device"), "said": TEXT}, "said")
REFUSAL = record(
    {
        "id": NUMBER,
        "who": TEXT,
        "code": TEXT,
        "address": TEXT,
        "detail": TEXT,
        "proved": FLAG,
        "first_at": MOMENT,
        "last_at": MOMENT,
        "count": NUMBER,
    }
)
_DEVICE: dict[str, Any] = {
    "id": TEXT,
    "groups": many(TEXT),
    "status": TEXT,
    "installed": maybe(record({"version": maybe(TEXT), "manifest_digest": DIGEST})),
    "running": maybe(_RUNNING),
    "confirmed": maybe(_RUNNING),
    "wanted": maybe(_WANTED),
    "floor": maybe(NUMBER),
    "attested": maybe(record({"at": MOMENT, "floor": NUMBER})),
    "root_version": maybe(NUMBER),
    "reset_cause": maybe(NUMBER),
    "first_seen": maybe(MOMENT),
    "last_seen": maybe(MOMENT),
    "report_at": maybe(MOMENT),
    "refused_report": maybe(TEXT),
    "admitted_by": TEXT,
    "revoked": FLAG,
    "retired_at": maybe(MOMENT),
    "key": record(
        {
            "in_use": one_of("factory", "rotated"),
            "since": maybe(MOMENT),
            "not_after": maybe(MOMENT),
            "wanted": {"enum": ["renew", "rotate", None]},
            "order": maybe(ANYTHING),
        }
    ),
    "attributes": named(_ATTRIBUTE),
}
LISTED_DEVICE = record(_DEVICE)
_TWIN: dict[str, Any] = {
    **_DEVICE,
    "ddi": maybe(
        record(
            {
                "controller": TEXT,
                "by": TEXT,
                "attributes": named(TEXT),
                "said": maybe(record({"version": TEXT, "at": MOMENT})),
            }
        )
    ),
    "retired": maybe(record({"at": MOMENT, "by": TEXT, "reason": TEXT})),
    "events": many(record({"at": MOMENT, "code": TEXT, "detail": TEXT})),
    "telemetry": many(record({"topic": TEXT, "at": MOMENT, "received_at": MOMENT, "value": ANYTHING})),
    "refusals": many(REFUSAL),
    "history": many(record({"at": MOMENT, "image_hash": DIGEST, "version": maybe(TEXT)})),
}
DEVICE = record(_TWIN)
ENROLLED = record({**_TWIN, "token": maybe(TEXT)})
ATTRIBUTE_NAME = record({"name": TEXT, "devices": NUMBER, "tags": NUMBER})
WORDS: Schema = named({"type": ["string", "null"], "description": '"": a tag; null: not any more'})
IMPORTED: Schema = {
    "anyOf": [
        record({"changed": NUMBER, "admitted": NUMBER}),
        record({"refused": many(record({"row": NUMBER, "message": TEXT}))}),
    ]
}
ORDER_FOR_CA = record({"device": TEXT, "order": TEXT, "at": MOMENT})
TOKEN = record({"token": maybe(TEXT)})
DEVICE_TOKEN = record({"id": TEXT, "token": TEXT})
DDI_FILE = record({"version": TEXT, "name": TEXT, "digest": DIGEST, "sha1": TEXT, "md5": TEXT, "size": BYTES})

GROUP = record(
    {"name": TEXT, "created_at": MOMENT, "devices": NUMBER, "filter": maybe(TEXT), "filling": FLAG}
)
_FOUND = record({"filter": TEXT, "devices": NUMBER, "first": many(TEXT)})
MADE_GROUP: Schema = {"anyOf": [record({"name": TEXT, "created": FLAG}), _FOUND]}
FILTERED: Schema = {"anyOf": [record({"name": TEXT, "filter": maybe(TEXT)}), _FOUND]}
PUT_IN = record({"name": TEXT, "added": NUMBER, "rollouts": many(NUMBER)})
TAKEN_OUT = record({"name": TEXT, "removed": NUMBER})
GROUP_KEYS = record({"name": TEXT, "wanted": NUMBER, "shut_out": NUMBER})
DELETED_GROUP = record({"name": TEXT, "devices": NUMBER})

POLICY: Schema = {"type": "object", "description": "wave_policy.py, docs/operations.md: Rollouts in waves"}
_LEFT_OUT = many(record({"reason": TEXT, "devices": NUMBER, "first": TEXT}))
_WAITING = many(record({"version": TEXT, "devices": NUMBER, "reason": TEXT}))
_PROGRESS = record({str(state): NUMBER for state in TargetState})
_ROLLOUT: dict[str, Any] = {
    "id": NUMBER,
    "kind": one_of("update", "rollback"),
    "scope": TEXT,
    "versions": many(TEXT),
    "state": one_of(*RolloutState),
    "status": TEXT,
    "paused": FLAG,
    "held": maybe(TEXT),
    "approval": maybe(NUMBER),
    "progress": _PROGRESS,
    "total": NUMBER,
    "created_at": MOMENT,
    "created_by": TEXT,
    "ended_at": maybe(MOMENT),
}
LISTED_ROLLOUT = record(_ROLLOUT)
_ARM = record({"cases": NUMBER, "devices": NUMBER, "interval": many({"type": "number"})})
_QUESTION = record(
    {"question": TEXT, "updated": _ARM, "held_back": _ARM, "p": {"type": "number"}, "word": TEXT}
)
_COMPARISON = record({"final": FLAG, "silence_s": SECONDS, "questions": many(_QUESTION)})
_TERMS = record(
    {
        "confirmed": SHARE,
        "errors": SHARE,
        "silence_s": maybe(SECONDS),
        "soak_s": SECONDS,
        "approval": FLAG,
    }
)
_WAVE = record(
    {
        "number": NUMBER,
        "size": TEXT,
        "devices": NUMBER,
        "phase": TEXT,
        "since": maybe(MOMENT),
        **dict.fromkeys(("pending", "on_trial", "silent", "confirmed", "said", "failed", "closed"), NUMBER),
        "forgiven": NUMBER,
        "terms": _TERMS,
    }
)
ROLLOUT = record(
    {
        **_ROLLOUT,
        "policy": POLICY,
        "digest": maybe(DIGEST),
        "waves": many(_WAVE),
        "left_out": _LEFT_OUT,
        "not_covered": NUMBER,
        "lab": _WAITING,
        "comparison": maybe(_COMPARISON),
    },
    *("policy", "digest", "waves", "comparison"),
)
_MOVE = record({"version": TEXT, "runs": maybe(TEXT), "devices": NUMBER, "first": TEXT})
_PREVIEW: dict[str, Any] = {
    "kind": one_of("update", "rollback"),
    "scope": TEXT,
    "total": NUMBER,
    "moves": many(_MOVE),
    "left_out": _LEFT_OUT,
    "lab": _WAITING,
    "second_person": {"type": ["string", "null"], "description": "why it takes one; null: it does not"},
}
PREVIEW = record(_PREVIEW)
_PLANNED_WAVE = record(
    {
        "number": NUMBER,
        "size": TEXT,
        "devices": NUMBER,
        "last_rank": NUMBER,
        "bytes": BYTES,
        "longest_s": maybe(SECONDS),
        "terms": _TERMS,
    }
)
_PLAN = record(
    {
        **_PREVIEW,
        "policy": POLICY,
        "seed": TEXT,
        "digest": DIGEST,
        "waves": many(_PLANNED_WAVE),
        "held_back": NUMBER,
        "bytes": BYTES,
        "longest_s": maybe(SECONDS),
    }
)
ORDERED: Schema = {"anyOf": [ROLLOUT, PREVIEW, _PLAN]}
TARGET = record(
    {
        "device_id": TEXT,
        "state": one_of(*TargetState),
        "reason": maybe(TEXT),
        "updated_at": MOMENT,
        "version": TEXT,
    }
)
LEFT_OUT = record({"device_id": TEXT, "reason": TEXT})
PREVIEWED = record(
    {
        "device_id": TEXT,
        "runs": maybe(TEXT),
        "version": maybe(TEXT),
        "manifest_digest": maybe(TEXT),
        "reason": maybe(TEXT),
        "rank": maybe(NUMBER),
        "wave": NUMBER,
    },
    *("rank", "wave"),
)
LIMITS = record(
    {
        "halted": maybe(record({"at": MOMENT, "by": TEXT, "reason": TEXT})),
        "trials": maybe(NUMBER),
        "on_trial": NUMBER,
        "counter_step": NUMBER,
    }
)

_RULES: dict[str, Any] = {
    "share": maybe(SHARE),
    "hours": NUMBER,
    "releases_back": maybe(NUMBER),
    "unhalt": FLAG,
    "expires_s": SECONDS,
}
SECOND = record(_RULES, *_RULES)
POLICIES = record(
    {
        "lab": maybe(record({"group": TEXT, "devices": NUMBER, "in_force": NUMBER})),
        "approval": maybe(record(_RULES)),
        "rehearsal": maybe(many(TEXT)),
    },
)
APPROVAL = record(
    {
        "id": NUMBER,
        "kind": one_of("order", "take-back", "unhalt", "lab", "approval", "rehearsal"),
        "subject": TEXT,
        "reason": TEXT,
        "body": {"type": "object"},
        "asked_at": MOMENT,
        "asked_by": TEXT,
        "person": TEXT,
        "expires_at": MOMENT,
        "state": one_of("pending", "given", "denied", "expired"),
        "decided_at": maybe(MOMENT),
        "decided_by": maybe(TEXT),
        "note": maybe(TEXT),
        "rollout": maybe(NUMBER),
    }
)

EVENT = record(
    {"id": NUMBER, "at": MOMENT, "kind": TEXT, "subject": TEXT, "detail": {"type": "object"}},
)

_WEBHOOK: dict[str, Any] = {
    "name": TEXT,
    "url": TEXT,
    "kinds": many(TEXT),
    "created_at": MOMENT,
    "created_by": TEXT,
    "behind": {
        "type": "integer",
        "description": "changes that it has not been told of, whether for it or not",
    },
    "attempts": NUMBER,
    "stopped": FLAG,
    "failing": maybe(TEXT),
    "dead": NUMBER,
}
WEBHOOKS = record({"webhooks": many(record(_WEBHOOK))})
ADDED_WEBHOOK = record({**_WEBHOOK, "secret": TEXT})
REMOVED_WEBHOOK = record({"name": TEXT})
LETTER = record(
    {"id": NUMBER, "event": {"type": "object"}, "error": TEXT, "at": MOMENT, "due": FLAG},
)
REDELIVERED = record({"name": TEXT, "letters": NUMBER})

LIVE = record({"status": TEXT})
READY = record({"status": TEXT, "warnings": many(TEXT)})
PROVIDER = record({"issuer": TEXT, "client_id": TEXT})
SIGNED_IN = record(
    {"token": TEXT, "person": TEXT, "role": TEXT, "expires_at": MOMENT, "groups": maybe(many(TEXT))}
)
_ENTRY = record(
    {
        "id": NUMBER,
        "at": MOMENT,
        "actor": TEXT,
        "action": TEXT,
        "subject": TEXT,
        "detail": {"type": "object"},
        "hash": maybe(TEXT),
    }
)
AUDIT: Schema = {
    "anyOf": [
        page_of("audit", _ENTRY, NUMBER, total=NUMBER),
        page_of("lines", record({"line": TEXT}), NUMBER),
    ]
}
