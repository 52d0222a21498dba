"""sslyze, which was not written here, looks at all three who speak TLS: both planes, and nginx before one."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from fronts import Fronted
from lifeline import HANG_S
from server_world import Keys, Server

SSLYZE = Path(__file__).parents[2] / "build/sslyze/bin/sslyze"
OLD = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1")
FOR_SMALL_DEVICES = {"TLS_ECDHE_ECDSA_WITH_AES_128_CCM", "TLS_ECDHE_ECDSA_WITH_AES_256_CCM"}


def seen(port: int, folder: Path) -> dict[str, Any]:
    if not SSLYZE.exists():
        pytest.skip("no sslyze: make oracles")
    out = folder / "sslyze.json"
    done = subprocess.run(
        [str(SSLYZE), "--mozilla_config", "disable", "--sni", "localhost", "--json_out", str(out),
         "--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3", "--reneg", "--compression",
         "--heartbleed", "--openssl_ccs", "--robot", "--fallback", "--ems", "--early_data", "--certinfo",
         f"127.0.0.1:{port}"],
        capture_output=True, text=True, timeout=HANG_S,
    )  # fmt: skip
    assert out.exists(), done.stdout + done.stderr
    (server,) = json.loads(out.read_text())["server_scan_results"]
    assert server["scan_status"] == "COMPLETED", server
    return {
        name: one["result"] for name, one in server["scan_result"].items() if one["status"] == "COMPLETED"
    }


def names(found: dict[str, Any], version: str) -> set[str]:
    accepted = found[f"{version}_cipher_suites"]["accepted_cipher_suites"]
    return {one["cipher_suite"]["name"] for one in accepted}


def require_good(found: dict[str, Any], keys: Keys, small: set[str]) -> None:
    assert {version: names(found, version) for version in OLD} == {version: set() for version in OLD}
    assert names(found, "tls_1_2") == small | {
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    }
    assert names(found, "tls_1_3") == {
        *("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"),
    }
    assert not found["session_renegotiation"]["is_vulnerable_to_client_renegotiation_dos"]
    assert found["session_renegotiation"]["supports_secure_renegotiation"]
    assert not found["tls_compression"]["supports_compression"]
    assert not found["heartbleed"]["is_vulnerable_to_heartbleed"]
    assert not found["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"]
    assert found["robot"]["robot_result"].startswith("NOT_VULNERABLE")
    assert found["tls_fallback_scsv"]["supports_fallback_scsv"]
    assert found["tls_extended_master_secret"]["supports_ems_extension"]
    assert not found["tls_1_3_early_data"]["supports_early_data"]
    (deployed,) = found["certificate_info"]["certificate_deployments"]
    shown = [
        x509.load_pem_x509_certificate(one["as_pem"].encode())
        for one in deployed["received_certificate_chain"]
    ]
    own = x509.load_pem_x509_certificate((keys.folder / "server.crt").read_bytes())
    assert [one.fingerprint(SHA256()) for one in shown] == [own.fingerprint(SHA256())]


def test_sslyze_finds_nothing_weak_on_the_operators_plane(server: Server, tmp_path: Path) -> None:
    require_good(seen(server.operator_port, tmp_path), server.keys, set())


def test_sslyze_finds_nothing_weak_on_the_device_plane(server: Server, tmp_path: Path) -> None:
    require_good(seen(server.device_port, tmp_path), server.keys, FOR_SMALL_DEVICES)


def test_sslyze_finds_nothing_weak_on_nginx_before_it(fronted: Fronted, tmp_path: Path) -> None:
    require_good(seen(fronted.nginx.port, tmp_path), fronted.server.keys, FOR_SMALL_DEVICES)
