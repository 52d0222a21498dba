"""update-server/requirements.txt: what the server needs, in versions that were tried, each by its hash."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from pathlib import Path

import pytest
from lifeline import HANG_S
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PINS = ROOT / "update-server/requirements.txt"
PIP_AUDIT = ROOT / "build/audit/bin/pip-audit"
EXTRAS = ("server", "postgresql", "s3", "oidc")


def pinned(path: Path) -> dict[str, str]:
    lines = re.findall(r"^([\w.-]+)==(\S+)", path.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in lines}


def needed() -> set[str]:
    """All that the server's extras bring, found by what is installed here."""
    found: set[str] = set()
    open_ = [("fota", extra) for extra in ("", *EXTRAS)]
    while open_:
        name, extra = open_.pop()
        for text in distribution(name).requires or ():
            one = Requirement(text)
            if one.marker is None or one.marker.evaluate({"extra": extra}):
                own = canonicalize_name(one.name)
                if own not in found:
                    open_ += [(own, part) for part in ("", *one.extras)]
                found.add(own)
    return found


def test_it_pins_what_the_server_needs_as_it_was_tried() -> None:
    mine, ours = pinned(PINS), pinned(ROOT / "constraints.txt")
    assert set(mine) == needed()
    assert {name: version for name, version in mine.items() if ours[name] != version} == {}


def test_each_has_hashes_and_the_file_names_no_place() -> None:
    text = PINS.read_text()
    blocks = re.findall(r"^\w.*(?:\n .*)*", text, re.MULTILINE)
    assert len(blocks) == len(pinned(PINS))
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in blocks)
    assert not re.search(r"^--|https?:", text, re.MULTILINE)


def test_pip_installs_by_it_and_takes_no_other_file(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    words = [*pip, "--target", tmp_path / "site", "-r", PINS]
    done = subprocess.run(words, capture_output=True, text=True, timeout=HANG_S)
    if "No matching distribution" in done.stderr or "Connection" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/starlette/__init__.py").exists()
    one = re.search(r"^click==(?:.*\\\n)*.*\n", PINS.read_text(), re.MULTILINE)
    assert one
    bent = tmp_path / "bent.txt"
    bent.write_text(re.sub(r"sha256:.{8}", "sha256:00000000", one[0]))
    done = subprocess.run(
        [*pip, "--target", tmp_path / "other", "-r", bent], capture_output=True, text=True, timeout=HANG_S
    )
    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / "other").exists()


class Osv(BaseHTTPRequestHandler):
    """Answers as OSV does: it knows one thing, of click as it is pinned."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        known = {"id": "GHSA-0000-0000-0000", "affected": [{"package": {"name": "click", "ecosystem": "PyPI"},
                 "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}]}],
                 "details": "made up", "modified": "2026-01-01T00:00:00Z"}  # fmt: skip
        body = json.dumps(
            {"vulns": [known]} if asked["package"]["name"] == self.server.guilty else {}
        ).encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def osv() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Osv)
    server.guilty = ""  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def audit(url: str) -> tuple[int, str]:
    if not PIP_AUDIT.exists():
        pytest.skip("no pip-audit: make oracles")
    command = [sys.executable, ROOT / "tests/supply/audit.py", PIP_AUDIT, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)
    return done.returncode, done.stdout


def test_audit_tells_what_is_known_and_when_it_could_not_ask(osv: ThreadingHTTPServer) -> None:
    url = f"http://127.0.0.1:{osv.server_port}/v1/query"
    count = len(pinned(PINS))
    assert audit(url) == (0, f"audit: {count} requirements looked up, 0 known vulnerabilities\n")
    osv.guilty = "click"  # type: ignore[attr-defined]
    code, said = audit(url)
    assert (code, said.count("\n")) == (1, 2)
    assert re.match(r"audit: click \S+: GHSA-0000-0000-0000, mended in 99.0\n", said)
    code, said = audit("http://127.0.0.1:1/v1/query")
    assert code == 0
    assert said.startswith("audit: NOT CHECKED")
