"""A bucket for tests: moto's server of S3's protocol, and a front before it that fails on command."""

import http.client
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lifeline import HANG_S

from fota_server.artifacts import FolderStore
from fota_server.bucket import BucketStore

ACCESS, SECRET = "AKIAFOTATESTS", "a-secret-that-nobody-may-ever-read"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
_SIGNED = {
    "authorization": f"AWS4-HMAC-SHA256 Credential={ACCESS}/20260101/us-east-1/s3/aws4_request,"
    " SignedHeaders=host, Signature=0"
}


class Moto:
    """moto's server as a process of its own, on a free port, or the one that it had before."""

    def __init__(self, port: int = 0) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from moto.server import main; main()",
                "-H",
                "127.0.0.1",
                "-p",
                str(port),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr
        found = None
        while not found:
            line = self.process.stderr.readline()
            assert line, "moto's server ended"
            found = re.search(r"Running on http://127\.0\.0\.1:(\d+)", line)
        self.port = int(found[1])
        self._drain = threading.Thread(target=self._read, daemon=True)
        self._drain.start()

    def _read(self) -> None:
        assert self.process.stderr
        for _ in self.process.stderr:
            pass

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG_S)
        try:
            connection.request(method, path, body, _SIGNED)
            response = connection.getresponse()
            said = response.read()
            assert response.status < 300 or response.status == 404, said
            return said if response.status < 300 else b""
        finally:
            connection.close()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        assert self.process.stderr
        self._drain.join()
        self.process.stderr.close()


@dataclass
class Bucket:
    """A bucket of its own behind a front. ``mode`` is what the front does: "" passes on; 403, 500; "cut"
    breaks an object off in its middle; "other" alters it; "gone" hangs up; "stuck" waits for ``go_on``
    before it reads a body, "stuck PUT" in such requests alone.
    """

    moto: Moto
    name: str = field(default_factory=lambda: "fleet-" + secrets.token_hex(6))
    mode: Any = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)
    stuck: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def settings(self) -> dict[str, str]:
        """What config.json says of it."""
        return {
            "artifacts": f"s3://{self.name}/of/ours",
            "artifacts_endpoint": f"http://127.0.0.1:{self.port}",
            "artifacts_region": "us-east-1",
        }

    def store(self, folder: Path, max_size: int = 16 << 20, cache_size: int = 64 << 20) -> BucketStore:
        """A home in it, as a server has it, with its cache in a folder."""
        place = self.settings
        store = BucketStore(
            place["artifacts"],
            FolderStore(folder, max_size),
            cache_size,
            endpoint=place["artifacts_endpoint"],
            region=place["artifacts_region"],
        )
        store.prepare()
        return store

    def _path(self, digest: str) -> str:
        return f"/{self.name}/of/ours/{digest[:2]}/{digest}"

    def object(self, digest: str) -> bytes:
        return self.moto.request("GET", self._path(digest))

    def overwrite(self, digest: str, content: bytes) -> None:
        self.moto.request("PUT", self._path(digest), content)

    def delete(self, digest: str) -> None:
        self.moto.request("DELETE", self._path(digest))

    def names(self) -> list[str]:
        listing = self.moto.request("GET", f"/{self.name}?list-type=2").decode()
        return re.findall(r"<Key>([^<]*)</Key>", listing)

    def unfinished(self) -> list[str]:
        """Uploads in parts that nobody has ended."""
        return re.findall(r"<UploadId>", self.moto.request("GET", f"/{self.name}?uploads").decode())


class _Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bucket: Bucket

    def _pass(self) -> None:
        bucket = self.bucket
        bucket.asked.append((self.command, self.path))
        size = int(self.headers.get("content-length", 0))
        if bucket.mode in ("stuck", "stuck " + self.command):
            bucket.stuck.set()
            bucket.go_on.wait()
        body = self.rfile.read(size)
        if len(body) < size:  # S3 stores none of a request that did not come whole
            self.close_connection = True
            return
        if bucket.mode == "gone":
            self.close_connection = True
            return
        if isinstance(bucket.mode, int):
            self._say(
                bucket.mode, {}, b"<Error><Code>Chosen</Code><Key>" + ACCESS.encode() + b"</Key></Error>"
            )
            return
        connection = http.client.HTTPConnection("127.0.0.1", bucket.moto.port, timeout=HANG_S)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            answer = response.read()
            given = {
                name: value
                for name, value in response.getheaders()
                if name.lower() not in ("connection", "transfer-encoding", "date", "server")
            }
        finally:
            connection.close()
        if self.command == "GET" and bucket.mode == "other":
            answer = bytes([answer[0] ^ 1]) + answer[1:]
        cut = len(answer) // 2 if self.command == "GET" and bucket.mode == "cut" else None
        self._say(response.status, given, answer, cut)

    def _say(self, status: int, headers: dict[str, str], body: bytes, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD" and status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        self.close_connection = self.close_connection or cut is not None

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@contextmanager
def fronted(moto: Moto) -> Iterator[Bucket]:
    """Give a new bucket behind a front of its own."""
    bucket = Bucket(moto)
    moto.request("PUT", f"/{bucket.name}")
    handler = type("Front", (_Front,), {"bucket": bucket})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as front:
        front.daemon_threads = True
        front.handle_error = lambda *_: None  # type: ignore[method-assign,assignment] # a client that died
        bucket.port = front.server_port
        thread = threading.Thread(target=front.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield bucket
        finally:
            bucket.go_on.set()
            front.shutdown()
            thread.join()
