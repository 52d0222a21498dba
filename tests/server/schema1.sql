-- What the first released server makes: schema 1. Never changed; migrations start from here.
CREATE TABLE meta ("key" VARCHAR(32) NOT NULL, value TEXT NOT NULL, PRIMARY KEY ("key"));
CREATE TABLE roots (version INTEGER NOT NULL, raw BLOB NOT NULL, added_at BIGINT NOT NULL, PRIMARY KEY
    (version));
CREATE TABLE releases (id INTEGER NOT NULL, version VARCHAR(40) NOT NULL, vendor_id VARCHAR(32) NOT NULL,
    class_id VARCHAR(32) NOT NULL, sequence BIGINT NOT NULL, manifest_digest VARCHAR(64) NOT NULL, file_digest
    VARCHAR(64) NOT NULL, file_size BIGINT NOT NULL, image_hash VARCHAR(64) NOT NULL, sec_cnt INTEGER NOT
    NULL, envelope BLOB NOT NULL, published_at BIGINT NOT NULL, published_by VARCHAR(64) NOT NULL, PRIMARY KEY
    (id), UNIQUE (manifest_digest));
CREATE INDEX releases_image ON releases (image_hash);
CREATE INDEX releases_version ON releases (class_id, version);
CREATE TABLE devices (id VARCHAR(18) NOT NULL, public_key BLOB, admitted_by VARCHAR(64) NOT NULL, revoked
    BOOLEAN NOT NULL, first_seen BIGINT, last_seen BIGINT, report_nonce BLOB, root_version INTEGER, target_id
    BIGINT, confirmed_hash VARCHAR(64), report_at BIGINT, installed_digest VARCHAR(64), running_hash
    VARCHAR(64), running_version VARCHAR(256), running_slot VARCHAR(1), state VARCHAR(16), sec_cnt BIGINT,
    floor BIGINT, reset_cause BIGINT, refused_report TEXT, PRIMARY KEY (id));
CREATE INDEX devices_target ON devices (target_id);
CREATE INDEX devices_running ON devices (running_hash);
CREATE TABLE groups (name VARCHAR(64) NOT NULL, created_at BIGINT NOT NULL, PRIMARY KEY (name));
CREATE TABLE rollouts (id INTEGER NOT NULL, kind VARCHAR(16) NOT NULL, scope VARCHAR(80) NOT NULL, paused
    BOOLEAN NOT NULL, created_at BIGINT NOT NULL, created_by VARCHAR(64) NOT NULL, PRIMARY KEY (id));
CREATE TABLE tokens (id VARCHAR(16) NOT NULL, name VARCHAR(64) NOT NULL, secret_hash VARCHAR(64) NOT NULL,
    role VARCHAR(16) NOT NULL, created_at BIGINT NOT NULL, revoked_at BIGINT, PRIMARY KEY (id), UNIQUE
    (name));
CREATE TABLE audit (id INTEGER NOT NULL, at BIGINT NOT NULL, actor VARCHAR(64) NOT NULL, action VARCHAR(40)
    NOT NULL, subject VARCHAR(128) NOT NULL, detail TEXT NOT NULL, PRIMARY KEY (id));
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE TABLE release_keys (release_id BIGINT NOT NULL, key_hash VARCHAR(64) NOT NULL, PRIMARY KEY
    (release_id), FOREIGN KEY(release_id) REFERENCES releases (id));
CREATE TABLE retirements (device_id VARCHAR(18) NOT NULL, at BIGINT NOT NULL, "by" VARCHAR(64) NOT NULL,
    reason VARCHAR(256) NOT NULL, PRIMARY KEY (device_id), FOREIGN KEY(device_id) REFERENCES devices (id));
CREATE TRIGGER retirements_no_update BEFORE UPDATE ON retirements BEGIN SELECT RAISE(ABORT, 'retirements is
    append-only'); END;
CREATE TRIGGER retirements_no_delete BEFORE DELETE ON retirements BEGIN SELECT RAISE(ABORT, 'retirements is
    append-only'); END;
CREATE TABLE device_keys (device_id VARCHAR(18) NOT NULL, wanted INTEGER, "order" BLOB, order_key BLOB,
    ordered_at BIGINT, certificate BLOB, current_key BLOB, current_since BIGINT, not_after BIGINT, PRIMARY KEY
    (device_id), FOREIGN KEY(device_id) REFERENCES devices (id));
CREATE TABLE attestations (device_id VARCHAR(18) NOT NULL, at BIGINT NOT NULL, counter BIGINT NOT NULL,
    PRIMARY KEY (device_id), FOREIGN KEY(device_id) REFERENCES devices (id));
CREATE TABLE confirmations (id INTEGER NOT NULL, device_id VARCHAR(18) NOT NULL, image_hash VARCHAR(64) NOT
    NULL, at BIGINT NOT NULL, PRIMARY KEY (id), FOREIGN KEY(device_id) REFERENCES devices (id));
CREATE INDEX confirmations_device ON confirmations (device_id, id);
CREATE TABLE events (id INTEGER NOT NULL, device_id VARCHAR(18) NOT NULL, at BIGINT NOT NULL, code
    VARCHAR(256) NOT NULL, detail VARCHAR(256) NOT NULL, PRIMARY KEY (id), FOREIGN KEY(device_id) REFERENCES
    devices (id));
CREATE INDEX events_device ON events (device_id, id);
CREATE TABLE telemetry (device_id VARCHAR(18) NOT NULL, topic VARCHAR(32) NOT NULL, at BIGINT NOT NULL,
    received_at BIGINT NOT NULL, value VARCHAR(256) NOT NULL, PRIMARY KEY (device_id, topic), FOREIGN
    KEY(device_id) REFERENCES devices (id));
CREATE TABLE members (group_name VARCHAR(64) NOT NULL, device_id VARCHAR(18) NOT NULL, PRIMARY KEY
    (group_name, device_id), FOREIGN KEY(group_name) REFERENCES groups (name), FOREIGN KEY(device_id)
    REFERENCES devices (id));
CREATE INDEX members_device ON members (device_id);
CREATE TABLE targets (id INTEGER NOT NULL, rollout_id BIGINT NOT NULL, device_id VARCHAR(18) NOT NULL,
    release_id BIGINT NOT NULL, state VARCHAR(16) NOT NULL, reason TEXT, updated_at BIGINT NOT NULL, PRIMARY
    KEY (id), UNIQUE (rollout_id, device_id), FOREIGN KEY(rollout_id) REFERENCES rollouts (id), FOREIGN
    KEY(device_id) REFERENCES devices (id), FOREIGN KEY(release_id) REFERENCES releases (id));
CREATE INDEX targets_progress ON targets (rollout_id, state);
CREATE INDEX targets_device ON targets (device_id, id);
INSERT INTO meta VALUES ('schema', '1');
