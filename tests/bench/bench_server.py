"""What a check-in costs the server: its processor time beside that of a trivial application, by one client.

    python tests/bench/bench_server.py [--devices 32] [--checkins 3000] [--rounds 3]

Both serve TLS 1.3 with client certificates on connections that are kept alive, each in a process of its own;
a round measures one after the other, and the median of the ratios counts; on SQLite, then on PostgreSQL,
whose own processes are not counted. The machine may be loaded: processor time is compared, not the clock.
Writes build/reports/server.json.
"""

import argparse
import asyncio
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))

import databases
from checkin_load import Load
from server_world import ALL_DEVICES, Device, Keys, Server, build_release

REPORT = Path(__file__).resolve().parents[2] / "build" / "reports" / "server.json"
TICK = os.sysconf("SC_CLK_TCK")
TRIVIAL = """
import asyncio, ssl, sys, uvicorn
async def app(scope, receive, send):
    if scope["type"] == "http":
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"300")]})
        await send({"type": "http.response.body", "body": bytes(300)})
keys = sys.argv[1]
config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off", http="httptools",
    loop="asyncio", ssl_certfile=keys + "/server.crt", ssl_keyfile=keys + "/server.pem",
    ssl_ca_certs=keys + "/device-ca.crt", ssl_cert_reqs=ssl.CERT_REQUIRED)
class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)
Server(config).run()
"""


def cpu_s(pid: int) -> float:
    """Return the processor time of a process and its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


class Plain(Load):
    """The same bytes over the same connection, to an application that looks at none of them."""

    async def check_in(self) -> None:  # type: ignore[override]
        body = bytes(400)
        self.writer.write(b"POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 400\r\n\r\n" + body)
        await self.reader.readuntil(b"\r\n\r\n")
        await self.reader.readexactly(300)


async def drive(loads: list[Load], each: int, pid: int) -> tuple[float, float]:
    """Return microseconds of the server's and of this process's processor time, for one request."""
    await asyncio.gather(*(load.connect() for load in loads))

    async def one(load: Load, count: int) -> None:
        for _ in range(count):
            await load.check_in()

    await asyncio.gather(*(one(load, 3) for load in loads))
    mine, its = cpu_s(os.getpid()), cpu_s(pid)
    await asyncio.gather(*(one(load, each) for load in loads))
    spent = cpu_s(pid) - its, cpu_s(os.getpid()) - mine
    for load in loads:
        load.writer.close()
    number = each * len(loads)
    return spent[0] / number * 1e6, spent[1] / number * 1e6


def checkins(keys: Keys, data: Path, devices: int) -> tuple[Server, list[Load]]:
    """Start a server whose devices run what is wanted of them, and say so in a signed report."""
    server = Server(keys, data).init().start()
    built = build_release(keys, "1.1.0", 2, 2)
    server.publish(built)
    fleet = [Device(server, tls=ssl.TLSVersion.TLSv1_3) for _ in range(devices)]
    server.api("POST", "groups", {"name": "all"})
    for device in fleet:
        server.api("POST", f"devices/{device.id}/admit")
    server.api("POST", "groups/all/devices", {"devices": [device.id for device in fleet]})
    server.api("POST", "rollouts", {"version": "1.1.0", "group": "all"})
    return server, [Load(device, built) for device in fleet]


def measure(keys: Keys, data: Path, devices: int, each: int, rounds: int) -> dict[str, float]:
    """Return the medians of the ratio, and of the times of which it is, in microseconds."""
    command = [sys.executable, "-c", TRIVIAL, str(keys.folder)]
    trivial = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert trivial.stdout
    port = int(trivial.stdout.readline())
    server, loads = checkins(keys, data, devices)
    plain: list[Load] = [Plain(load.device, load.built) for load in loads]
    seen: dict[str, list[float]] = {"x": [], "checkin_us": [], "trivial_us": [], "client_us": []}
    try:
        for _ in range(rounds):
            at, server.device_port = server.device_port, port
            base, _ = asyncio.run(drive(plain, 4 * each, trivial.pid))
            server.device_port = at
            assert server.process
            cost, client = asyncio.run(drive(loads, each, server.process.pid))
            for name, value in zip(seen, (cost / base, cost, base, client), strict=True):
                seen[name].append(value)
    finally:
        ALL_DEVICES.clear()
        server.stop()
        trivial.terminate()
        trivial.wait()
    return {name: statistics.median(values) for name, values in seen.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--devices", type=int, default=32)
    parser.add_argument("--checkins", type=int, default=3000, help="of all devices, in each round")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    each = max(1, args.checkins // args.devices)
    for kind in databases.BOTH:
        databases.kind = kind
        if kind == databases.POSTGRESQL and (why := databases.why_no_postgresql()):
            print(f"left out: {why}", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as folder:
            keys = Keys(Path(folder) / "keys")
            row = measure(keys, Path(folder) / "data", args.devices, each, args.rounds)
        found.setdefault("checkin_report_x", {})[kind] = round(row.pop("x"), 2)
        for name, value in row.items():
            found.setdefault(name, {})[kind] = round(value)
    databases.end_postgres()
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
