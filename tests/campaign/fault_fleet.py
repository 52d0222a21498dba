"""Devices in this process that speak to real servers, and a witness of what they were told.

They come through fronts' sockets, as nginx brings them (ADR 72), or by TLS, to any of the servers: each has a
certificate and a key of its own, signs its reports and verifies its ASSIGNMENTs. The witness knows the plan,
what devices were told and what they have said, and of the server what it answers operators.
"""

import asyncio
import secrets
import ssl
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from server_world import Built, Keys, cert_pem, client_context, key_pem, make_cert, new_key

from fota_wire import assignment, checkin, cose, host_crypto, report
from fota_wire import root as roots


class Cut(Exception):
    """No answer: the server is gone, or says that it cannot."""


@dataclass
class Front:
    """A server's socket for fronts, and the connections to it that are kept."""

    place: Path
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    def beside(self) -> "Front":
        """Return the same with connections of its own."""
        return Front(self.place)

    async def line(self, _device: "FaultDevice") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection for one request."""
        return self.idle.pop() if self.idle else await asyncio.open_unix_connection(str(self.place))

    def who(self, device: "FaultDevice") -> bytes:
        """Return the header that says whose request it is."""
        return (
            b"x-fota-device-address: 10.0.0.9\r\nx-fota-device-certificate: " + device.certificate + b"\r\n"
        )

    async def ask(self, device: "FaultDevice", body: bytes) -> bytes:
        """Return the answer to a check-in.

        Raises:
            Cut: there is none, or it is not 200.
        """
        head = (
            f"POST /v1/checkin HTTP/1.1\r\nhost: x\r\n"
            f"content-type: {checkin.CONTENT_TYPE}\r\ncontent-length: {len(body)}\r\n"
        ).encode()
        try:
            reader, writer = line = await self.line(device)
        except OSError as exc:
            raise Cut(str(exc)) from exc
        good = False
        try:
            writer.write(head + self.who(device) + b"\r\n" + body)
            said = await reader.readuntil(b"\r\n\r\n")
            size = int(said.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            answer = await reader.readexactly(size)
            good = said.startswith(b"HTTP/1.1 200 ")
        except (OSError, asyncio.IncompleteReadError, IndexError) as exc:
            raise Cut(str(exc)) from exc
        finally:
            if not good:
                writer.close()
        if not good:
            raise Cut(f"{said[:40]!r} {checkin.parse_error(answer)}")
        self.keep(line)
        return answer

    def keep(self, line: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        """A connection has done its work, and is as good as new."""
        self.idle.append(line)

    def forget(self) -> None:
        """Its server is another one now."""
        while self.idle:
            self.idle.pop()[1].close()


@dataclass
class Direct(Front):
    """The devices' own port of a server, by TLS: a new connection each time, to any of its processes."""

    port: int = 0

    def beside(self) -> Front:
        """It keeps none anyway."""
        return self

    async def line(self, device: "FaultDevice") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection of the device's own."""
        context = client_context(device.keys.server_ca, device.pem, ssl.TLSVersion.TLSv1_3)
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname="localhost")

    def who(self, device: "FaultDevice") -> bytes:
        """Its certificate has said it."""
        return b""

    def keep(self, line: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        """The next one is somebody else's."""
        line[1].close()


class FaultDevice:
    """A device: what it runs, what it was told, what it has said."""

    def __init__(self, keys: Keys, number: int, fate: str, old: Built) -> None:
        self.id = f"0123{number:014x}"
        self.keys, self.key = keys, new_key()
        certificate = make_cert(self.id, self.key, (keys.device_ca, keys.device_ca_key))
        self.certificate = quote(cert_pem(certificate).decode()).encode()
        self.pem = keys.folder / f"{self.id}.pem"
        self.pem.write_bytes(cert_pem(certificate) + key_pem(self.key))
        self.fate = fate
        self.root = roots.open_genesis(keys.genesis, host_crypto.verify)
        self.nonce: bytes | None = None
        self.running, self.state = old, "confirmed"
        self.installed: bytes | None = None
        self.events: list[tuple[str, str]] = []
        self.wanted: bytes | None = None  # what it was told last
        self.heard = False  # the last report was taken
        self.went_back = False
        self.given = False  # it was told the new release
        self.saying: str | None = (
            None  # how the new release ended, in a report under way or without an answer
        )
        self.verdict: str | None = None  # as the server has acknowledged it

    def report(self) -> bytes:
        return report.build(
            nonce=self.nonce,
            device_id=bytes.fromhex(self.id),
            slot="A",
            image_hash=self.running.image.image_hash,
            version=self.running.version,
            sec_cnt=self.running.image.sec_cnt,
            floor=1,
            root_version=self.root.version,
            state=self.state,
            installed=self.installed,
            events=self.events,
            reset_cause=4,
            kid=cose.kid_of(host_crypto.public_xy(self.key)),
            sign=host_crypto.signer(self.key),
        )

    async def check_in(self, front: Front, new: Built) -> None:
        """Ask once, and take what comes; the witness looks at it afterwards.

        Raises:
            Cut: there was no answer.
            VerifyError: the answer is nobody's that may give orders.
        """
        nonce = secrets.token_bytes(16)
        ended = self.ended(new)
        raw = self.report() if self.nonce else None
        request = checkin.Request(nonce, self.root.version, None, raw)
        request.shares = True
        if raw and ended:
            self.saying = ended
        response = checkin.parse_response(await front.ask(self, checkin.encode_request(request)))
        self.nonce = response.nonce
        signed = assignment.open_assignment(
            response.assignment, self.root, nonce, bytes.fromhex(self.id), host_crypto.verify
        )
        self.wanted = signed.manifest_digest
        self.heard = response.report_status == "accepted"
        if self.heard:
            self.events = []
            if ended:
                self.verdict = ended

    def ended(self, new: Built) -> str | None:
        """Return how the new release ended here, or None: it is not over."""
        if not self.given:
            return None
        if self.running is new and self.state == "confirmed":
            return "confirmed"
        return "reverted" if self.went_back else None

    def advance(self, new: Built, old: Built) -> None:
        """Take the next step with the new release."""
        if self.verdict or self.ended(new):
            return
        if self.installed is None:
            self.installed = new.manifest_digest
        elif self.running is not new:
            self.running, self.state = new, "trial"
        elif self.fate == "bad":
            self.running, self.state, self.events = old, "confirmed", [("reverted", "AP1 watchdog")]
            self.went_back = True
        else:
            self.state = "confirmed"


class FaultWitness:
    """Knows the plan and what was told; `found` is what was not as promised."""

    def __init__(self, wave_of: dict[str, int], sizes: dict[int, int], budget: int) -> None:
        self.wave_of, self.sizes, self.budget = wave_of, sizes, budget
        self.found: list[str] = []
        self.halted = False  # everybody says so
        self.may_halt = False  # somebody may have halted all, for a moment or longer
        self.on_trial: set[str] = set()
        self.most = 0
        self.given: set[str] = set()

    def told(self, device: FaultDevice, new: Built) -> None:
        """A device has a signed answer."""
        if device.wanted == new.manifest_digest:
            if not device.given:
                device.given = True
                self.given.add(device.id)
                if self.halted:
                    self.found.append(f"{device.id} was given it while all is halted")
                if device.id not in self.wave_of:
                    self.found.append(f"{device.id} was given it, and no wave has it")
            if device.saying is None:
                self.on_trial.add(device.id)
        elif (
            device.given and device.saying is None and (device.wanted or (device.heard and not self.may_halt))
        ):
            # None without a report that was taken is no order, nor while all is halted (SPEC 5.5); else it
            # takes the order back.
            then = device.wanted.hex() if device.wanted else "nothing"
            self.found.append(f"{device.id}, {device.state}, was told to take it, and then {then}")
        self.count()

    def says(self, device: FaultDevice) -> None:
        """A device says how it ended: from now on the server may know."""
        self.on_trial.discard(device.id)

    def count(self) -> None:
        self.most = max(self.most, len(self.on_trial))
        if len(self.on_trial) > self.budget:
            self.found.append(f"{len(self.on_trial)} devices on trial, {self.budget} may be")

    def looks(self, waves: list[dict[str, Any]]) -> None:
        """See that waves count each device once, and that nobody was given it before its wave."""
        for wave in waves:
            counted = sum(
                wave[word] for word in ("pending", "on_trial", "confirmed", "said", "failed", "closed")
            )
            if counted != wave["devices"] or wave["devices"] != self.sizes[wave["number"]]:
                self.found.append(f"wave {wave} counts {counted}, and has {self.sizes[wave['number']]}")
        shut = {wave["number"] for wave in waves if wave["phase"] == "waiting"}
        for one in self.given:
            if self.wave_of.get(one) in shut:
                self.found.append(f"{one} was given it before wave {self.wave_of[one]} opened")

    def compares(
        self, devices: list[FaultDevice], targets: dict[str, str], waves: list[dict[str, Any]]
    ) -> None:
        """At the end: what devices were told that the server knows, it knows; of each device once."""
        per_wave: dict[int, Counter[str]] = {wave: Counter() for wave in self.sizes}
        for device in devices:
            if device.verdict is None:
                self.found.append(f"{device.id} came to no end: {device.state}, given {device.given}")
            elif targets.get(device.id) != device.verdict:
                self.found.append(
                    f"{device.id} was acknowledged {device.verdict}, is {targets.get(device.id)}"
                )
            per_wave[self.wave_of[device.id]][str(device.verdict)] += 1
        for wave in waves:
            mine = per_wave[wave["number"]]
            if (wave["confirmed"], wave["failed"]) != (mine["confirmed"], mine["reverted"]):
                self.found.append(f"wave {wave['number']} counts {wave}, devices {mine}")
