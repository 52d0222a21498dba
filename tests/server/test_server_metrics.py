"""What Prometheus sees: true, bounded, for viewers of the whole fleet, and as docs/metrics.md has it."""

import re
import secrets
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from databases import BOTH
from lifeline import HANG_S, until
from prometheus_client.parser import text_string_to_metric_families
from server_world import Built, Device, Keys, Refused, Server
from test_server_request_ids import ask
from test_server_roles import make_token

from fota_server import metrics, standing
from fota_server.decide import RolloutState, TargetState

DATABASES = BOTH
DOCS = Path(__file__).parents[2] / "docs"
Key = tuple[str, tuple[tuple[str, str], ...]]


@pytest.fixture
def own(keys: Keys, releases: dict[str, Built], tmp_path: Path, database_kind: str) -> Iterator[Server]:
    server = Server(keys, tmp_path / "data").init().start()
    assert server.publish(releases["1.1.0"])[0] == 201
    yield server
    assert server.stop()[0] == 0


def page(server: Server) -> str:
    answer = ask(server, "GET", "metrics")
    assert answer.headers["content-type"] == standing.CONTENT_TYPE
    return answer.text


def samples(text: str) -> dict[Key, float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(server: Server, name: str, **labels: str) -> float:
    return samples(page(server))[name, tuple(sorted(labels.items()))]


def fresh(server: Server, name: str, wanted: float, **labels: str) -> None:
    """Wait until what is read of the database every few seconds says so."""
    until(lambda: value(server, name, **labels) == wanted, f"{name} {labels} to be {wanted}", server.process)


@pytest.mark.sqlite
def test_what_happened_is_counted(own: Server, releases: dict[str, Built]) -> None:
    before = samples(page(own))
    assert before["fota_checkins_total", (("outcome", "accepted"),)] == 0, "there from the start"
    device = Device(own)
    device.check_in()
    device.check_in()
    with pytest.raises(Refused):
        Device(own, device.id).check_in()
    device.check_in(raw_report=b"\xff")
    device.check_in()
    device.server_nonce = secrets.token_bytes(16)  # not the one that it was given: its report is refused
    device.check_in()
    expired = Device(own, start_days=-5, days=-0.01)
    with pytest.raises(ssl.SSLError):
        expired.request("POST", "/v1/checkin", b"")
    assert own.api("POST", "rollouts", {"version": "1.1.0", "device": device.id})[0] == 201
    device.check_in()
    payload = f"/v1/payload/{releases['1.1.0'].digest}"
    assert device.request("GET", payload, headers={"range": "bytes=0-4095"})[0] == 206
    assert own.api("GET", "devices", token="x")[0] == 401
    found = samples(page(own))
    changed = {key: found[key] - before.get(key, 0) for key in found if "_total" in key[0]}
    assert changed["fota_checkins_total", (("outcome", "quiet"),)] == 1
    assert changed["fota_checkins_total", (("outcome", "forbidden"),)] == 1
    assert changed["fota_checkins_total", (("outcome", "accepted"),)] == 3
    assert changed["fota_checkins_total", (("outcome", "report-refused"),)] == 2
    assert changed["fota_refusals_total", (("code", "key"), ("plane", "device"))] == 1
    assert changed["fota_refusals_total", (("code", "certificate-expired"), ("plane", "device"))] == 1
    assert changed["fota_refusals_total", (("code", "token"), ("plane", "operator"))] == 1
    assert changed["fota_tls_handshakes_total", (("plane", "device"), ("result", "failed"))] == 1
    assert changed["fota_tls_handshakes_total", (("plane", "device"), ("result", "done"))] >= 2
    assert changed["fota_payload_bytes_total", ()] == 4096
    assert found["fota_checkin_batch_size_sum", ()] == 6, "who is refused has no part in a transaction"
    assert found["fota_database_write_seconds_count", ()] > before["fota_database_write_seconds_count", ()]


def test_how_it_stands_is_read_then(own: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(own)
    device.check_in()
    assert own.api("POST", "rollouts", {"version": "1.1.0", "device": device.id})[0] == 201
    assert own.api("POST", "limits", {"trials": 7})[0] == 200
    assert value(own, "fota_open_connections", plane="device") == 1
    assert value(own, "fota_connection_room", plane="device") >= 1
    assert value(own, "fota_newcomers", plane="device") == 0
    assert value(own, "fota_devices") == 1
    found = samples(page(own))
    assert found["fota_rollouts", (("state", "running"),)] == 1
    assert found["fota_rollout_devices", (("state", "pending"),)] == 1
    assert found["fota_trial_budget", ()] == 7
    assert found["fota_halted", ()] == 0
    ends = own.keys.device_ca.not_valid_after_utc.timestamp()
    assert found["fota_certificate_not_after_seconds", (("certificate", "device_ca"),)] == ends
    free = shutil.disk_usage(own.data).free
    assert abs(found["fota_disk_free_bytes", ()] - free) < 1 << 30
    assert own.api("POST", "halt", {"reason": "x"})[0] == 200
    assert own.api("POST", "rollouts/1/pause")[0] == 200
    fresh(own, "fota_halted", 1)
    assert value(own, "fota_rollouts", state="paused") == 1
    assert value(own, "fota_rollouts", state="running") == 0


@pytest.mark.sqlite
def test_nobody_but_a_viewer_of_the_whole_fleet_sees_it(own: Server) -> None:
    assert own.api("GET", "metrics", token="")[0] == 401
    assert own.api("GET", "metrics", token=make_token(own, "ci", "--role", "publisher"))[0] == 403
    assert own.api("POST", "groups", {"name": "some"})[0] == 201
    scoped = make_token(own, "eve", "--role", "admin", "--group", "some")
    assert own.api("GET", "metrics", token=scoped)[1]["error"]["code"] == "scope"
    device = Device(own)
    for path in ("/metrics", "/api/v1/metrics", "/v1/metrics"):
        assert device.request("GET", path)[0] == 404
        device.close()
    viewer = make_token(own, "prometheus", "--role", "viewer")
    assert ask(own, "GET", "metrics", authorization=f"Bearer {viewer}").status == 200


@pytest.mark.sqlite
def test_series_are_bounded_and_name_nobody(server: Server) -> None:
    device = Device(server)
    device.check_in()
    with pytest.raises(Refused):
        Device(server, device.id).check_in()
    with socket.create_connection(("127.0.0.1", server.device_port), timeout=HANG_S) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while plain.recv(1000):
            pass
    text = page(server)
    assert device.id not in text
    assert "127.0.0.1" not in text
    assert len(samples(text)) < 200
    for number in range(3 * metrics.MAX_CODES):
        metrics.count_refusal("operator", f"made-up-{number}")
    series = {
        s.labels["code"] for f in metrics.REFUSALS.collect() for s in f.samples if s.name[-5:] == "total"
    }
    assert "other" in series
    assert len(series) <= metrics.MAX_CODES + 2


def table() -> dict[str, str]:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    return dict(rows)


def families(server: Server) -> dict[str, Any]:
    found = {}
    for family in text_string_to_metric_families(page(server)):
        found[family.name + ("_total" if family.type == "counter" else "")] = family
    return found


@pytest.mark.sqlite
def test_page_of_the_docs_has_every_metric_and_its_labels(server: Server) -> None:
    found, said = families(server), table()
    assert set(said) - {"fota_trial_budget"} == set(found), "there is no budget"
    for name, family in found.items():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels == set(re.findall(r"`(\w+)`", said[name])), name
        assert family.documentation
    values = {name: {w.strip() for w in text.partition(": ")[2].split(",")} for name, text in said.items()}
    assert values["fota_checkins_total"] == set(metrics.CHECKIN_OUTCOMES)
    assert values["fota_rollouts"] == {*RolloutState, "paused"}
    states = {sample.labels["state"] for sample in found["fota_rollout_devices"].samples}
    assert states == set(TargetState)


@pytest.mark.sqlite
def test_alerts_ask_for_what_there_is(server: Server) -> None:
    found = families(server)
    rules = [
        rule
        for group in yaml.safe_load((DOCS / "fota-alerts.yml").read_text())["groups"]
        for rule in group["rules"]
    ]
    assert len(rules) >= 3
    for rule in rules:
        asked = re.findall(r"fota_\w+", rule["expr"])
        assert asked
        assert set(asked) <= set(found), rule["alert"]
        for label, text in re.findall(r"(\w+)=~?\"([^\"]+)\"", rule["expr"]):
            known = {s.labels.get(label) for name in asked for s in found[name].samples}
            assert set(text.split("|")) <= known, rule["alert"]
    (job,) = yaml.safe_load((DOCS / "prometheus.yml").read_text())["scrape_configs"]
    assert (job["scheme"], job["metrics_path"]) == ("https", "/api/v1/metrics")


@pytest.mark.sqlite
def test_promtool_takes_metrics_and_alerts(server: Server) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool: make oracles")
    run = {"capture_output": True, "text": True, "check": False, "timeout": HANG_S}
    checked = subprocess.run([promtool, "check", "metrics"], input=page(server), **run)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    ruled = subprocess.run([promtool, "check", "rules", str(DOCS / "fota-alerts.yml")], **run)
    assert ruled.returncode == 0, ruled.stdout + ruled.stderr
