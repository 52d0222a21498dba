"""A DDI device as the server sees one: HTTP over TLS, a token or a certificate, JSON; it installs nothing."""

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lifeline import HANG_S
from server_world import ALL_DEVICES, Server, client_context

ENROLLED = "enrolled"


class Ddi:
    """A client of DDI that does as it is told by the test."""

    def __init__(
        self,
        server: Server,
        name: str,
        *,
        by: str = "token",
        token: str | None = ENROLLED,
        scheme: str = "TargetToken",
        pem: Path | None = None,
        tenant: str = "DEFAULT",
    ) -> None:
        self.server, self.name, self.scheme, self.tenant = server, name, scheme, tenant
        self.token = token
        if token == ENROLLED:
            status, answer = server.api("POST", "ddi", {"controller": name, "by": by})
            assert status == 201, answer
            self.id, self.token = answer["id"], answer["token"]
        self.context = client_context(server.keys.server_ca, pem)
        self.connection: http.client.HTTPSConnection | None = None
        ALL_DEVICES.append(self)

    def close(self) -> None:
        if self.connection:
            self.connection.close()
        self.connection = None

    def raw(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """A request of ``path``, whole as it is."""
        if self.connection is None:
            self.connection = http.client.HTTPSConnection(
                "localhost", self.server.device_port, context=self.context, timeout=HANG_S
            )
        sent = {"authorization": f"{self.scheme} {self.token}"} if self.token else {}
        self.connection.request(method, path, body, sent | (headers or {}))
        answer = self.connection.getresponse()
        found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        if found[1].get("connection") == "close":
            self.close()
        return found

    def root(self) -> str:
        return f"/{self.tenant}/controller/v1/{self.name}"

    def get(self, path: str = "") -> tuple[int, Any]:
        status, _, body = self.raw("GET", self.root() + path)
        return status, json.loads(body) if body else None

    def follow(self, href: str) -> Any:
        """What a link that the server gave leads to."""
        parts = urlsplit(href)
        assert (parts.scheme, parts.netloc) == ("https", f"localhost:{self.server.device_port}")
        status, _, body = self.raw("GET", parts.path + (f"?{parts.query}" if parts.query else ""))
        assert status == 200, body
        return json.loads(body)

    def poll(self) -> dict[str, Any]:
        status, answer = self.get()
        assert status == 200, answer
        return dict(answer)

    def links(self) -> dict[str, str]:
        return {name: link["href"] for name, link in self.poll()["_links"].items()}

    def action(self) -> int:
        """The number of the action that the device is offered."""
        return int(self.follow(self.links()["deploymentBase"])["id"])

    def tell(
        self,
        action: int | str,
        execution: str = "closed",
        finished: str = "success",
        *details: str,
        kind: str = "deploymentBase",
    ) -> int:
        """The status of the answer to a feedback."""
        said = {"execution": execution, "result": {"finished": finished}, "details": list(details)}
        return self.send(action, json.dumps({"id": str(action), "status": said}).encode(), kind=kind)[0]

    def send(
        self, action: int | str, body: bytes, *, kind: str = "deploymentBase"
    ) -> tuple[int, dict[str, Any]]:
        path = f"{self.root()}/{kind}/{action}/feedback"
        status, _, answer = self.raw("POST", path, body, {"content-type": "application/json"})
        return status, json.loads(answer) if answer else {}

    def configure(self, data: Any, mode: str | None = None) -> int:
        body = {"data": data} | ({"mode": mode} if mode else {})
        return self.raw("PUT", self.root() + "/configData", json.dumps(body).encode())[0]

    def twin(self) -> dict[str, Any]:
        status, answer = self.server.api("GET", f"devices/{self.id}")
        assert status == 200, answer
        return dict(answer)

    def roll_out(self, version: str) -> int:
        status, answer = self.server.api("POST", "rollouts", {"version": version, "device": self.id})
        assert status == 201, answer
        return int(answer["id"])
