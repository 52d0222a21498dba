-- What the first server on PostgreSQL makes: schema 7. Never changed; migrations start from here.
CREATE TABLE meta (
  key TEXT COLLATE "C" NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (key)
);
CREATE TABLE roots (
  version BIGINT NOT NULL,
  raw BYTEA NOT NULL,
  added_at BIGINT NOT NULL,
  PRIMARY KEY (version)
);
CREATE TABLE releases (
  id BIGSERIAL NOT NULL,
  version TEXT COLLATE "C" NOT NULL,
  vendor_id TEXT COLLATE "C" NOT NULL,
  class_id TEXT COLLATE "C" NOT NULL,
  sequence BIGINT NOT NULL,
  manifest_digest TEXT COLLATE "C" NOT NULL,
  file_digest TEXT COLLATE "C" NOT NULL,
  file_size BIGINT NOT NULL,
  image_hash TEXT COLLATE "C" NOT NULL,
  sec_cnt BIGINT NOT NULL,
  envelope BYTEA NOT NULL,
  published_at BIGINT NOT NULL,
  published_by TEXT COLLATE "C" NOT NULL,
  withdrawn_at BIGINT,
  withdrawn_by TEXT COLLATE "C",
  PRIMARY KEY (id),
  UNIQUE (manifest_digest)
);
CREATE INDEX releases_version ON releases (class_id, version);
CREATE INDEX releases_image ON releases (image_hash);
CREATE TABLE devices (
  id TEXT COLLATE "C" NOT NULL,
  public_key BYTEA,
  admitted_by TEXT COLLATE "C" NOT NULL,
  revoked BOOLEAN NOT NULL,
  first_seen BIGINT,
  last_seen BIGINT,
  report_nonce BYTEA,
  root_version BIGINT,
  target_id BIGINT,
  confirmed_hash TEXT COLLATE "C",
  report_at BIGINT,
  installed_digest TEXT COLLATE "C",
  settled_digest TEXT COLLATE "C",
  running_hash TEXT COLLATE "C",
  running_version TEXT COLLATE "C",
  running_slot TEXT COLLATE "C",
  state TEXT COLLATE "C",
  sec_cnt BIGINT,
  floor BIGINT,
  reset_cause BIGINT,
  refused_report TEXT,
  PRIMARY KEY (id)
);
CREATE INDEX devices_running ON devices (running_hash);
CREATE INDEX devices_target ON devices (target_id);
CREATE TABLE refusals (
  id BIGSERIAL NOT NULL,
  who TEXT COLLATE "C" NOT NULL,
  code TEXT COLLATE "C" NOT NULL,
  address TEXT COLLATE "C" NOT NULL,
  detail TEXT COLLATE "C" NOT NULL,
  proved BOOLEAN NOT NULL,
  first_at BIGINT NOT NULL,
  last_at BIGINT NOT NULL,
  count BIGINT NOT NULL,
  PRIMARY KEY (id),
  UNIQUE (who, code, address)
);
CREATE TABLE groups (
  name TEXT COLLATE "C" NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (name)
);
CREATE TABLE rollouts (
  id BIGSERIAL NOT NULL,
  kind TEXT COLLATE "C" NOT NULL,
  scope TEXT COLLATE "C" NOT NULL,
  release_id BIGINT,
  state TEXT COLLATE "C" DEFAULT 'running' NOT NULL,
  planned_to TEXT COLLATE "C",
  paused BOOLEAN NOT NULL,
  created_at BIGINT NOT NULL,
  created_by TEXT COLLATE "C" NOT NULL,
  ended_at BIGINT,
  policy TEXT,
  seed TEXT COLLATE "C",
  digest TEXT COLLATE "C",
  chain TEXT COLLATE "C",
  open_rank BIGINT,
  held TEXT,
  PRIMARY KEY (id)
);
CREATE INDEX rollouts_state ON rollouts (state);
CREATE TABLE tokens (
  id TEXT COLLATE "C" NOT NULL,
  name TEXT COLLATE "C" NOT NULL,
  secret_hash TEXT COLLATE "C" NOT NULL,
  role TEXT COLLATE "C" NOT NULL,
  created_at BIGINT NOT NULL,
  revoked_at BIGINT,
  expires_at BIGINT,
  PRIMARY KEY (id),
  UNIQUE (name)
);
CREATE TABLE audit (
  id BIGSERIAL NOT NULL,
  at BIGINT NOT NULL,
  actor TEXT COLLATE "C" NOT NULL,
  action TEXT COLLATE "C" NOT NULL,
  subject TEXT COLLATE "C" NOT NULL,
  detail TEXT NOT NULL,
  hash TEXT COLLATE "C",
  PRIMARY KEY (id)
);
CREATE OR REPLACE FUNCTION fota_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION fota_append_only();
CREATE OR REPLACE FUNCTION fota_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION fota_append_only();
CREATE OR REPLACE FUNCTION fota_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$;
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION fota_append_only();
CREATE TABLE release_keys (
  release_id BIGINT NOT NULL,
  key_hash TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (release_id),
  FOREIGN KEY(release_id) REFERENCES releases (id)
);
CREATE TABLE release_chips (
  release_id BIGINT NOT NULL,
  chip TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (release_id),
  FOREIGN KEY(release_id) REFERENCES releases (id)
);
CREATE TABLE retirements (
  device_id TEXT COLLATE "C" NOT NULL,
  at BIGINT NOT NULL,
  by TEXT COLLATE "C" NOT NULL,
  reason TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (device_id),
  FOREIGN KEY(device_id) REFERENCES devices (id)
);
CREATE OR REPLACE FUNCTION fota_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$;
CREATE TRIGGER retirements_no_update BEFORE UPDATE ON retirements
FOR EACH STATEMENT EXECUTE FUNCTION fota_append_only();
CREATE OR REPLACE FUNCTION fota_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$;
CREATE TRIGGER retirements_no_delete BEFORE DELETE ON retirements
FOR EACH STATEMENT EXECUTE FUNCTION fota_append_only();
CREATE OR REPLACE FUNCTION fota_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$;
CREATE TRIGGER retirements_no_truncate BEFORE TRUNCATE ON retirements
FOR EACH STATEMENT EXECUTE FUNCTION fota_append_only();
CREATE TABLE device_keys (
  device_id TEXT COLLATE "C" NOT NULL,
  wanted INTEGER,
  "order" BYTEA,
  order_key BYTEA,
  ordered_at BIGINT,
  certificate BYTEA,
  current_key BYTEA,
  current_since BIGINT,
  not_after BIGINT,
  PRIMARY KEY (device_id),
  FOREIGN KEY(device_id) REFERENCES devices (id)
);
CREATE TABLE attestations (
  device_id TEXT COLLATE "C" NOT NULL,
  at BIGINT NOT NULL,
  counter BIGINT NOT NULL,
  PRIMARY KEY (device_id),
  FOREIGN KEY(device_id) REFERENCES devices (id)
);
CREATE TABLE confirmations (
  id BIGSERIAL NOT NULL,
  device_id TEXT COLLATE "C" NOT NULL,
  image_hash TEXT COLLATE "C" NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (id),
  FOREIGN KEY(device_id) REFERENCES devices (id)
);
CREATE INDEX confirmations_device ON confirmations (device_id, id);
CREATE TABLE events (
  id BIGSERIAL NOT NULL,
  device_id TEXT COLLATE "C" NOT NULL,
  at BIGINT NOT NULL,
  code TEXT COLLATE "C" NOT NULL,
  detail TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (id),
  FOREIGN KEY(device_id) REFERENCES devices (id)
);
CREATE INDEX events_device ON events (device_id, id);
CREATE TABLE telemetry (
  device_id TEXT COLLATE "C" NOT NULL,
  topic TEXT COLLATE "C" NOT NULL,
  at BIGINT NOT NULL,
  received_at BIGINT NOT NULL,
  value TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (device_id, topic),
  FOREIGN KEY(device_id) REFERENCES devices (id)
);
CREATE TABLE members (
  group_name TEXT COLLATE "C" NOT NULL,
  device_id TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (group_name, device_id),
  FOREIGN KEY(group_name) REFERENCES groups (name),
  FOREIGN KEY(device_id) REFERENCES devices (id)
);
CREATE INDEX members_device ON members (device_id);
CREATE TABLE left_out (
  rollout_id BIGINT NOT NULL,
  device_id TEXT COLLATE "C" NOT NULL,
  reason TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (rollout_id, device_id),
  FOREIGN KEY(rollout_id) REFERENCES rollouts (id),
  FOREIGN KEY(device_id) REFERENCES devices (id)
);
CREATE INDEX left_out_reason ON left_out (rollout_id, reason);
CREATE TABLE waves (
  rollout_id BIGINT NOT NULL,
  number INTEGER NOT NULL,
  size TEXT COLLATE "C" NOT NULL,
  devices INTEGER NOT NULL,
  last_rank BIGINT NOT NULL,
  phase TEXT COLLATE "C" NOT NULL,
  since BIGINT NOT NULL,
  forgiven INTEGER NOT NULL,
  PRIMARY KEY (rollout_id, number),
  FOREIGN KEY(rollout_id) REFERENCES rollouts (id)
);
CREATE TABLE spent (
  rollout_id BIGINT NOT NULL,
  minute BIGINT NOT NULL,
  devices INTEGER NOT NULL,
  day BIGINT NOT NULL,
  size BIGINT NOT NULL,
  PRIMARY KEY (rollout_id),
  FOREIGN KEY(rollout_id) REFERENCES rollouts (id)
);
CREATE TABLE targets (
  id BIGSERIAL NOT NULL,
  rollout_id BIGINT NOT NULL,
  device_id TEXT COLLATE "C" NOT NULL,
  release_id BIGINT NOT NULL,
  state TEXT COLLATE "C" NOT NULL,
  reason TEXT,
  updated_at BIGINT NOT NULL,
  rank BIGINT,
  given_at BIGINT,
  PRIMARY KEY (id),
  UNIQUE (rollout_id, device_id),
  FOREIGN KEY(rollout_id) REFERENCES rollouts (id),
  FOREIGN KEY(device_id) REFERENCES devices (id),
  FOREIGN KEY(release_id) REFERENCES releases (id)
);
CREATE INDEX targets_release ON targets (release_id, state);
CREATE INDEX targets_device ON targets (device_id, id);
CREATE INDEX targets_rank ON targets (rollout_id, rank, state);
CREATE INDEX targets_count ON targets (rollout_id, state, release_id);
CREATE INDEX targets_on_trial ON targets (id) WHERE state IN ('offered', 'installed', 'trial');
INSERT INTO meta VALUES ('schema', '7');
