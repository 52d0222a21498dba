"""The tables. Digests, hashes and device ids are lower-case hex; times are seconds since 1970, UTC.

What a device *is* stands in ``devices`` and comes from verified reports only; what is *wanted* of it stands
in ``targets``: one row per device and rollout, and ``devices.target_id`` names the one in force. ``audit`` is
append-only. A change here needs a revision in ``migrations/versions``.
"""

from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite

metadata = MetaData()
_SERIAL = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only a column of type INTEGER
_U32 = Integer().with_variant(BigInteger, "postgresql")  # whose INTEGER has 32 bits, one of them the sign

meta = Table(
    "meta",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("value", Text, nullable=False),
)

roots = Table(
    "roots",
    metadata,
    Column("version", _U32, primary_key=True, autoincrement=False),
    Column("raw", LargeBinary, nullable=False),
    Column("added_at", BigInteger, nullable=False),
)

releases = Table(
    "releases",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("version", String(40), nullable=False),
    Column("vendor_id", String(32), nullable=False),
    Column("class_id", String(32), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("manifest_digest", String(64), nullable=False, unique=True),
    Column("file_digest", String(64), nullable=False),
    Column("file_size", BigInteger, nullable=False),
    Column("image_hash", String(64), nullable=False),
    Column("sec_cnt", _U32, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("published_at", BigInteger, nullable=False),
    Column("published_by", String(64), nullable=False),
    Column("withdrawn_at", BigInteger),  # null: devices can be given it
    Column("withdrawn_by", String(64)),
    Column("pruned_at", BigInteger),  # null: its file is kept; of withdrawn ones alone
    Column("receipt", LargeBinary),  # of the log's key for devices (receipts.py); null: there is none
    Index("releases_image", "image_hash"),
    Index("releases_version", "class_id", "version"),
)

release_keys = Table(  # which IMAGE key has signed; no row: published before the server kept this
    "release_keys",
    metadata,
    Column("release_id", BigInteger, ForeignKey("releases.id"), primary_key=True, autoincrement=False),
    Column("key_hash", String(64), nullable=False),
)

release_chips = Table(  # which chip the image names, "": none; no row: not known, as for `release_keys`
    "release_chips",
    metadata,
    Column("release_id", BigInteger, ForeignKey("releases.id"), primary_key=True, autoincrement=False),
    Column("chip", String(32), nullable=False),
)

release_hardware = Table(  # revisions that a release fits (fits.py); no row: all
    "release_hardware",
    metadata,
    Column("release_id", BigInteger, ForeignKey("releases.id"), primary_key=True, autoincrement=False),
    Column("hardware", String(128), primary_key=True),
)

release_sboms = Table(  # of which releases an SBOM was given (components.py); no row: nobody has said
    "release_sboms",
    metadata,
    Column("release_id", BigInteger, ForeignKey("releases.id"), primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False),
    Column("added_at", BigInteger, nullable=False),
    Column("added_by", String(64), nullable=False),
)

release_components = Table(  # what it lists
    "release_components",
    metadata,
    Column("release_id", BigInteger, ForeignKey("releases.id"), primary_key=True, autoincrement=False),
    Column("name", String(256), primary_key=True),  # in small letters
    Column("version", String(128), primary_key=True),  # "": it says none
    Index("release_components_name", "name", "release_id"),
)

campaigns = Table(  # whom a release may reach, signed by people (campaigns.py); no row: nobody has said
    "campaigns",
    metadata,
    Column("release_id", BigInteger, ForeignKey("releases.id"), primary_key=True, autoincrement=False),
    Column("document", LargeBinary, nullable=False),
    Column("added_at", BigInteger, nullable=False),
    Column("added_by", String(64), nullable=False),
)

rehearsals = Table(  # attestations that a release was rehearsed (rehearsals.py); no row: none was handed in
    "rehearsals",
    metadata,
    Column("release_id", BigInteger, ForeignKey("releases.id"), primary_key=True, autoincrement=False),
    Column("document", LargeBinary, nullable=False),
    Column("added_at", BigInteger, nullable=False),
    Column("added_by", String(64), nullable=False),
)

log_leaves = (
    Table(  # the release log (release_log.py): one leaf for each release, in the order of publication
        "log_leaves",
        metadata,
        Column("position", BigInteger, primary_key=True, autoincrement=False),  # from 0
        Column("release_id", BigInteger, ForeignKey("releases.id"), nullable=False, unique=True),
        Column("entry", LargeBinary, nullable=False),  # what is hashed (SPEC 8.1)
    )
)

log_heads = Table(  # its checkpoints, as they were signed
    "log_heads",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
)

devices = Table(
    "devices",
    metadata,
    Column("id", String(18), primary_key=True),
    Column(
        "public_key", LargeBinary
    ),  # x||y of the certificate that it was admitted with; null: not seen yet
    Column("admitted_by", String(64), nullable=False),
    Column("revoked", Boolean, nullable=False, default=False),
    Column("first_seen", BigInteger),
    Column("last_seen", BigInteger),
    Column("report_nonce", LargeBinary),  # the one a next report must carry; forgotten once used
    Column("root_version", _U32),
    Column("target_id", BigInteger),
    Column(
        "confirmed_hash", String(64)
    ),  # the last image that it ran confirmed; ``confirmations`` has the history
    # From the last verified report:
    Column("report_at", BigInteger),
    Column("installed_digest", String(64)),
    Column("settled_digest", String(64)),  # what was installed and no reset starts any more (``decide``)
    Column("running_hash", String(64)),
    Column("running_version", String(256)),
    Column("running_slot", String(1)),
    Column("state", String(16)),
    Column("sec_cnt", BigInteger),
    Column("floor", BigInteger),
    Column("reset_cause", BigInteger),
    # The last report that was refused, and why; cleared by the next accepted one:
    Column("refused_report", Text),
    # Its group of CAMPAIGNs, "": none; null: its agent has not said that it takes them.
    Column("campaign_group", String(32)),
    Column("takes_receipts", Boolean),  # and a ROOT with LOG keys, its agent says
    Index("devices_running", "running_hash"),
    Index("devices_target", "target_id"),
)

retirements = Table(  # the end of a device's life: a row is never changed nor taken away
    "retirements",
    metadata,
    Column("device_id", String(18), ForeignKey("devices.id"), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("by", String(64), nullable=False),
    Column("reason", String(256), nullable=False),
)

device_keys = Table(  # keys and certificates over the air (SPEC 5.6); no row: the factory's key, for ever
    "device_keys",
    metadata,
    Column("device_id", String(18), ForeignKey("devices.id"), primary_key=True),
    Column("wanted", Integer),  # certify.RENEW or ROTATE, until it is done; null: nothing
    Column("order", LargeBinary),  # as the device signed it; null: none waits and none was answered
    Column("order_key", LargeBinary),  # x||y that it is for
    Column("ordered_at", BigInteger),
    Column("certificate", LargeBinary),  # the answer, DER; null: the CA has not signed yet
    Column("current_key", LargeBinary),  # x||y that replaced the factory's, proved by a handshake
    Column("current_since", BigInteger),
    Column("not_after", BigInteger),  # of the certificate that was proved last
)

attestations = Table(  # the last thing that each element said itself (SPEC 5.7)
    "attestations",
    metadata,
    Column("device_id", String(18), ForeignKey("devices.id"), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("counter", BigInteger, nullable=False),  # Counter0
)

refusals = Table(  # who was turned away on the device plane, and how often; bounded by refusals.py
    "refusals",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("who", String(64), nullable=False),  # a device id, or what somebody claimed to be
    Column("code", String(32), nullable=False),
    Column("address", String(45), nullable=False),
    Column("detail", String(256), nullable=False),
    Column("proved", Boolean, nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    UniqueConstraint("who", "code", "address"),
)

confirmations = Table(
    "confirmations",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("device_id", String(18), ForeignKey("devices.id"), nullable=False),
    Column("image_hash", String(64), nullable=False),
    Column("at", BigInteger, nullable=False),
    Index("confirmations_device", "device_id", "id"),
)

events = Table(
    "events",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("device_id", String(18), ForeignKey("devices.id"), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("code", String(256), nullable=False),
    Column("detail", String(256), nullable=False),
    Index("events_device", "device_id", "id"),
)

telemetry = Table(  # the last value of each topic that a device published
    "telemetry",
    metadata,
    Column("device_id", String(18), ForeignKey("devices.id"), primary_key=True),
    Column("topic", String(32), primary_key=True),
    Column(
        "at", BigInteger, nullable=False
    ),  # by the device's word where it knows the time, else when it came
    Column("received_at", BigInteger, nullable=False),
    Column("value", String(256), nullable=False),  # JSON
)

attributes = Table(  # what is known of a device beside its firmware; see attributes.py
    "attributes",
    metadata,
    Column("device_id", String(18), ForeignKey("devices.id"), primary_key=True),
    Column("name", String(27), primary_key=True),
    Column("given", String(128)),  # by an operator; "": a tag; null: not
    Column("said", String(128)),  # by the device itself; one of the two is not null
    Index("attributes_name", "name"),
)

groups = Table(
    "groups",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    Column("filter", Text),  # null: its devices are put in and taken out by hand
    Column("filled_to", String(18)),  # the filter has been asked of devices up to this one; null: of all
)

members = Table(
    "members",
    metadata,
    Column("group_name", String(64), ForeignKey("groups.name"), primary_key=True),
    Column("device_id", String(18), ForeignKey("devices.id"), primary_key=True),
    Index("members_device", "device_id"),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("kind", String(16), nullable=False),  # "update" or "rollback"
    Column("scope", String(80), nullable=False),  # "group:NAME" or "device:ID"
    Column("release_id", BigInteger),  # null: each device has its own
    Column("state", String(16), nullable=False, server_default="running"),  # decide.RolloutState
    Column("planned_to", String(18)),  # devices up to this one have been planned; null: none yet
    Column("paused", Boolean, nullable=False, default=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("ended_at", BigInteger),
    # In waves (wave_policy.py, waves.py); all of these null: at once, to all of its devices.
    Column("policy", Text),  # JSON
    Column("seed", String(64)),
    Column("digest", String(64)),  # of the plan that it was started from; null: of none
    Column("chain", String(64)),  # of what has been planned (forecast.py)
    Column("open_rank", BigInteger),  # devices up to this rank may be given it; -1: none yet
    Column("held", Text),  # why it paused itself; null: it did not
    Index("rollouts_state", "state"),
)

left_out = Table(  # devices of a rollout's scope that it wants nothing of, and why
    "left_out",
    metadata,
    Column("rollout_id", BigInteger, ForeignKey("rollouts.id"), primary_key=True, autoincrement=False),
    Column("device_id", String(18), ForeignKey("devices.id"), primary_key=True),
    Column("reason", String(256), nullable=False),
    Index("left_out_reason", "rollout_id", "reason"),
)

waves = Table(  # of a rollout in waves, once all of its devices are planned
    "waves",
    metadata,
    Column("rollout_id", BigInteger, ForeignKey("rollouts.id"), primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),  # from 1
    Column("size", String(80), nullable=False),  # as wave_policy.Size says it
    Column("devices", Integer, nullable=False),
    Column("last_rank", BigInteger, nullable=False),
    Column("phase", String(16), nullable=False),  # waves.Phase
    Column("since", BigInteger, nullable=False),
)

spent = Table(  # what a rollout with a rate has handed out (allowance.Spent)
    "spent",
    metadata,
    Column("rollout_id", BigInteger, ForeignKey("rollouts.id"), primary_key=True, autoincrement=False),
    Column("minute", BigInteger, nullable=False),
    Column("devices", Integer, nullable=False),
    Column("day", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
)

_FORGIVEN = "forgiven IS NOT NULL"
_TRIAL = "state IN ('offered', 'installed', 'trial')"
ON_TRIAL = f"targets.{_TRIAL}"
"""decide.ON_TRIAL. A query has to say it word for word, or the index that is made of it is not used."""
_OUT = "state IN ('reverted', 'rejected', 'failed', 'superseded', 'cancelled', 'withdrawn', 'gone')"
OUT = f"targets.{_OUT}"
"""decide.GIVEN_UP and CLOSED, in the same way."""

targets = Table(
    "targets",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("rollout_id", BigInteger, ForeignKey("rollouts.id"), nullable=False),
    Column("device_id", String(18), ForeignKey("devices.id"), nullable=False),
    Column("release_id", BigInteger, ForeignKey("releases.id"), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text),
    Column("updated_at", BigInteger, nullable=False),
    Column("rank", BigInteger),  # its place in a rollout in waves
    Column("given_at", BigInteger),  # when the device was first given it, or was first seen to have it
    Column("forgiven", Boolean),  # an operator let it go on with this device in error; null: it is not
    UniqueConstraint("rollout_id", "device_id"),
    Index("targets_rank", "rollout_id", "rank", "state"),
    Index("targets_on_trial", "id", sqlite_where=text(_TRIAL), postgresql_where=text(_TRIAL)),
    Index(
        *("targets_forgiven", "rollout_id", "rank", "state"),
        sqlite_where=text(_FORGIVEN),
        postgresql_where=text(_FORGIVEN),
    ),
    Index(
        *("targets_out", "rollout_id", "rank", "state"),
        sqlite_where=text(_OUT),
        postgresql_where=text(_OUT),
    ),
    Index("targets_count", "rollout_id", "state", "release_id"),
    Index("targets_release", "release_id", "state"),
    Index("targets_device", "device_id", "id"),
)

ddi_devices = Table(  # devices that speak hawkBit's DDI: what they say, no key of theirs proves
    "ddi_devices",
    metadata,
    Column("device_id", String(18), ForeignKey("devices.id"), primary_key=True),
    Column("controller", String(128), nullable=False, unique=True),  # its name in hawkBit's words
    Column("by", String(16), nullable=False),  # how it shows who it is: ddi_devices.WAYS
    Column("token_hash", String(64)),  # SHA-256 of its target token; null: it has none
    Column("enrolled_at", BigInteger, nullable=False),
    Column("enrolled_by", String(64), nullable=False),
    Column("action", BigInteger),  # the target that it was given and has not closed; null: none
    Column("configured", Boolean, nullable=False, default=False),  # it has told its attributes since asked
)

said = Table(  # each release that a DDI device said to have installed; the last one is what it says now
    "said",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("device_id", String(18), ForeignKey("devices.id"), nullable=False),
    Column("release_id", BigInteger, ForeignKey("releases.id"), nullable=False),
    Column("at", BigInteger, nullable=False),
    Index("said_device", "device_id", "id"),
)

ddi_attributes = Table(  # what a DDI device told of itself (configData)
    "ddi_attributes",
    metadata,
    Column("device_id", String(18), ForeignKey("devices.id"), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("value", String(128), nullable=False),
)

ddi_files = Table(  # the one file of a release that DDI devices get; no row yet: its image
    "ddi_files",
    metadata,
    Column("release_id", BigInteger, ForeignKey("releases.id"), primary_key=True, autoincrement=False),
    Column("name", String(128), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha1", String(40), nullable=False),
    Column("md5", String(32), nullable=False),
    Column("attached_by", String(64)),  # null: nobody, it is the image
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("secret_hash", String(64), nullable=False),
    Column("role", String(16), nullable=False),  # one of tokens.ROLES
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Column("expires_at", BigInteger),  # null: never
    Column("groups", Text),  # JSON list of the groups that it is for; null: the whole fleet
    Column("person", String(64)),  # who holds it; null: nobody has said
    Column("login", String(64)),  # SHA-256 of the ID token that it was made by; null: it was made here
)

approvals = Table(  # what took a second person, and who gave it (second.py)
    "approvals",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("subject", String(128), nullable=False),  # as the audit trail says it; of orders: plan.Scope
    Column("reason", Text, nullable=False),  # why it takes two
    Column("body", Text, nullable=False),  # JSON: what was asked for
    Column("asked_at", BigInteger, nullable=False),
    Column("asked_by", String(64), nullable=False),  # the token's name
    Column("person", String(64), nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("decided_at", BigInteger),
    Column("decided_by", String(64)),
    Column("note", String(256)),  # what who denied it said
    Column("rollout", BigInteger),  # what came of it
    Index("approvals_rollout", "rollout"),
    Index("approvals_state", "state", "expires_at"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("action", String(40), nullable=False),
    Column("subject", String(128), nullable=False),
    Column("detail", Text, nullable=False),  # JSON
    Column("hash", String(64)),  # over the hash of the row before and all of this row: see audit.py
)

changes = Table(  # what streams and webhooks tell (changes.py)
    "changes",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("kind", String(40), nullable=False),
    Column("subject", String(128), nullable=False),
    Column("scope", String(80)),  # "group:NAME", "device:ID", "rollout:NUMBER"; null: the whole fleet
    Column("detail", Text, nullable=False),  # JSON
)

webhooks = Table(  # who is told of changes (webhooks.py)
    "webhooks",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("url", String(512), nullable=False),
    Column("secret", LargeBinary, nullable=False),
    Column("ca", Text),  # PEM; null: the system's authorities
    Column("kinds", Text, nullable=False),  # JSON list of beginnings; []: all
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("position", BigInteger, nullable=False),  # told up to this change
    Column("attempts", Integer, nullable=False),  # that failed, since the last that did not
    Column("next_at", BigInteger, nullable=False),  # nothing is sent before
    Column("failing", String(256)),  # why the last attempt failed; null: it did not
)

dead_letters = Table(  # changes that a receiver refused for good
    "dead_letters",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("webhook", String(64), ForeignKey("webhooks.name"), nullable=False),
    Column("change", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Column("error", String(256), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("due", Boolean, nullable=False),  # to be told again
    Index("dead_letters_webhook", "webhook", "id"),
)

_SQLITE_TRIGGER = """
CREATE TRIGGER {table}_no_{name} BEFORE {verb} ON {table}
BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END
"""
_POSTGRESQL_TRIGGER = """
CREATE OR REPLACE FUNCTION fota_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '%% is append-only', TG_TABLE_NAME; END $$;
CREATE TRIGGER {table}_no_{name} BEFORE {verb} ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION fota_append_only()
"""

for _table in (audit, retirements, log_leaves, log_heads):
    for _dialect, _wording, _verbs in (
        ("sqlite", _SQLITE_TRIGGER, ("UPDATE", "DELETE")),
        ("postgresql", _POSTGRESQL_TRIGGER, ("UPDATE", "DELETE", "TRUNCATE")),
    ):
        for _verb in _verbs:
            _text = _wording.format(table=_table.name, name=_verb.lower(), verb=_verb).strip()
            _trigger = DDL(_text).execute_if(dialect=_dialect)  # type: ignore[no-untyped-call]
            event.listen(_table, "after_create", _trigger)


def insert_or(connection: Connection, table: Table) -> Any:  # noqa: ANN401 - Insert of either dialect
    """Return an INSERT that has ``on_conflict_do_update``: both databases have it, each in its own module."""
    module = postgresql if connection.dialect.name == "postgresql" else sqlite
    return module.insert(table)
