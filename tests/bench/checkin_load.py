"""Check-ins per second: mutual TLS kept alive, each with a signed report and a signed assignment back.

    python tests/bench/checkin_load.py [--devices 64] [--seconds 5] [--json]

Server and load generator share the machine; each device checks in again as soon as it has its answer.
"""

import argparse
import asyncio
import json
import secrets
import ssl
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))

from server_world import ALL_DEVICES, Built, Device, Keys, Server, build_release

from fota_wire import checkin


class Load:
    """One device on one connection, as cheap as it can be made: the server is to be measured, not this."""

    def __init__(self, device: Device, built: Built) -> None:
        self.device, self.built = device, built
        self.held = built.manifest_digest
        self.times: list[float] = []

    async def connect(self) -> None:
        port = self.device.server.device_port
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=self.device.context, server_hostname="127.0.0.1"
        )

    async def run(self, until: float) -> None:
        while time.perf_counter() < until:
            begun = time.perf_counter()
            response = await self.check_in()
            if response.report_status != "accepted":
                raise SystemExit(f"report {response.report_status}")
            self.times.append(time.perf_counter() - begun)
        self.writer.close()

    async def check_in(self) -> checkin.Response:
        device = self.device
        raw = device.report() if device.server_nonce else None
        request = checkin.Request(secrets.token_bytes(16), 1, self.held, raw)
        request.shares = True  # as the agent
        body = checkin.encode_request(request)
        head = b"POST /v1/checkin HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.writer.write(head + body)
        answer = await self.reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise SystemExit(answer.decode())
        length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        response = checkin.parse_response(await self.reader.readexactly(length))
        device.server_nonce = response.nonce
        return response


async def measure(loads: list[Load], seconds: float) -> dict[str, float]:
    begun = time.perf_counter()
    await asyncio.gather(*(load.connect() for load in loads))
    handshakes_s = time.perf_counter() - begun
    await asyncio.gather(*(load.check_in() for load in loads))
    begun = time.perf_counter()
    await asyncio.gather(*(load.run(begun + seconds) for load in loads))
    elapsed = time.perf_counter() - begun
    times = sorted(value for load in loads for value in load.times)
    return {
        "devices": len(loads),
        "handshakes_per_s": round(len(loads) / handshakes_s),
        "checkins_per_s": round(len(times) / elapsed),
        "median_ms": round(times[len(times) // 2] * 1000, 1),
        "p99_ms": round(times[len(times) * 99 // 100] * 1000, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        keys = Keys(Path(folder) / "keys")
        server = Server(keys, Path(folder) / "data").init().start()
        try:
            built = build_release(keys, "1.1.0", 2, 2)
            server.publish(built)
            devices = [Device(server, tls=ssl.TLSVersion.TLSv1_3) for _ in range(args.devices)]
            server.api("POST", "groups", {"name": "all"})
            for device in devices:
                server.api("POST", f"devices/{device.id}/admit")
            server.api("POST", "groups/all/devices", {"devices": [device.id for device in devices]})
            server.api("POST", "rollouts", {"version": "1.1.0", "group": "all"})
            result = asyncio.run(measure([Load(device, built) for device in devices], args.seconds))
        finally:
            ALL_DEVICES.clear()
            server.stop()
    if args.json:
        print(json.dumps(result))
    else:
        print("\n".join(f"{name:<18} {value:g}" for name, value in result.items()))


if __name__ == "__main__":
    main()
