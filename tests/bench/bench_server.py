"""What a check-in costs the server: its processor time beside that of a trivial application, by one client.

    python tests/bench/bench_server.py [--devices 32] [--rounds 3] [--fleet 100000] [--many 1000000]
        [--simulated 100000]

Both serve TLS 1.3 with client certificates on connections that are kept alive, each in a process of its own,
and are asked the same by the same client, which signs a report for each request: a client that did less would
ask in larger bursts, and either would cost less. A round measures one after the other, and the median of the
ratios counts; on SQLite, then on PostgreSQL, whose own processes are not counted. Each round has devices of
its own, as one that asks more than 120 times at once is slowed down. The machine may be loaded: processor
time is compared, not the clock. Writes build/reports/server.json; what ends in ``_x`` is such a ratio.
``rate_share`` and ``p99_ms`` go by the clock, and so have the machine's load in them: requests a second of
two processes (``--workers 2``), of those of the trivial application, which is one; and how long a check-in
with a report takes from when it was due, when half as many are due as one process has just served.
"""

import argparse
import asyncio
import json
import secrets
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))

import bench_front
import bench_growth
import bench_orders
import bench_simulated
import databases
from checkin_load import Load
from server_world import ALL_DEVICES, Device, Keys, Server, build_release

from fota_wire import checkin

REPORT = Path(__file__).resolve().parents[2] / "build" / "reports" / "server.json"
BY_DATABASE = ("checkin_report_x", "rate_share")
"""Rows that each database has; the others are SQLite's, and those of another stand beside them."""
EACH = 100  # check-ins of one device, below what it is slowed down at
IDLE = 6  # connections of one device, below the 8 that it may have
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
    """Return the processor time of a process: of all threads that it has, and of its children's."""
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    tasks = [task for one in pids for task in Path(f"/proc/{one}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def rss_kib(pid: int) -> int:
    """Return the memory that a process has in use."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])


class Plain(Load):
    """The same request over the same connection, to an application that looks at none of it."""

    async def check_in(self) -> None:  # type: ignore[override]
        self.device.server_nonce = self.device.server_nonce or bytes(16)
        request = checkin.Request(secrets.token_bytes(16), 1, self.held, self.device.report())
        request.shares = True
        body = checkin.encode_request(request)
        self.writer.write(
            b"POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        await self.reader.readuntil(b"\r\n\r\n")
        await self.reader.readexactly(300)


class Quiet(Load):
    """A check-in without a report: the device has nothing new to say."""

    async def check_in(self) -> checkin.Response:
        self.device.server_nonce = None
        return await super().check_in()


@dataclass(frozen=True)
class Cost:
    """Of one request: microseconds of the server's and of our processor time; requests a second."""

    server_us: float
    client_us: float
    per_s: float


async def drive(loads: list[Load], each: int, pid: int) -> Cost:
    """Return what a request costs when every load asks again as soon as it has its answer."""
    await asyncio.gather(*(load.connect() for load in loads))

    async def one(load: Load, count: int) -> None:
        for _ in range(count):
            await load.check_in()

    await asyncio.gather(*(one(load, 3) for load in loads))
    mine, its, begun = time.process_time(), cpu_s(pid), time.perf_counter()
    await asyncio.gather(*(one(load, each) for load in loads))
    number, took = each * len(loads), time.perf_counter() - begun
    spent = cpu_s(pid) - its, time.process_time() - mine
    for load in loads:
        load.writer.close()
    return Cost(spent[0] / number * 1e6, spent[1] / number * 1e6, number / took)


async def half_load(loads: list[Load], per_s: float, each: int) -> float:
    """Return the 99th percentile of the milliseconds from when a check-in is due to its answer."""
    await asyncio.gather(*(load.connect() for load in loads))
    await asyncio.gather(*(load.check_in() for load in loads))
    apart_s, begun, took = len(loads) / (per_s / 2), time.perf_counter(), []

    async def one(load: Load, offset: float) -> None:
        for count in range(each):
            due = begun + offset + count * apart_s
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await load.check_in()
            took.append(time.perf_counter() - due)

    await asyncio.gather(*(one(load, place * apart_s / len(loads)) for place, load in enumerate(loads)))
    for load in loads:
        load.writer.close()
    return sorted(took)[len(took) * 99 // 100] * 1000


async def idle_kib(loads: list[Load], pid: int) -> float:
    """Return the server's memory for one connection that has checked in once and is kept."""
    before = rss_kib(pid)
    for load in loads:
        await load.connect()
        await load.check_in()
    found = (rss_kib(pid) - before) / len(loads)
    for load in loads:
        load.writer.close()
    return found


class Bench:
    """A server whose devices run what is wanted of them, and a trivial application with the same keys."""

    def __init__(self, keys: Keys, data: Path, workers: int = 1) -> None:
        command = [sys.executable, "-c", TRIVIAL, str(keys.folder)]
        self.trivial = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.trivial.stdout
        self.trivial_port = int(self.trivial.stdout.readline())
        self.server = Server(keys, data).init()
        self.server.options = ["--workers", str(workers)]
        self.server.start()
        assert self.server.process
        self.pid = self.server.process.pid
        self.built = build_release(keys, "1.1.0", 2, 2)
        self.server.publish(self.built)
        self.server.api("POST", "groups", {"name": "all"})

    def devices(self, number: int) -> list[Device]:
        """Return new devices that are assigned the release."""
        made = [Device(self.server, tls=ssl.TLSVersion.TLSv1_3) for _ in range(number)]
        for device in made:
            self.server.api("POST", f"devices/{device.id}/admit")
        self.server.api("POST", "groups/all/devices", {"devices": [device.id for device in made]})
        self.server.api("POST", "rollouts", {"version": "1.1.0", "group": "all"})
        return made

    def run(self, kind: type[Load], devices: list[Device], each: int = EACH) -> Cost:
        """Return what a request of this kind costs the server, or of `Plain` the trivial application."""
        at, pid = self.server.device_port, self.pid
        if kind is Plain:
            self.server.device_port, pid = self.trivial_port, self.trivial.pid
        try:
            return asyncio.run(drive([kind(device, self.built) for device in devices], each, pid))
        finally:
            self.server.device_port = at

    def stop(self) -> None:
        ALL_DEVICES.clear()
        self.server.stop()
        self.trivial.terminate()
        self.trivial.wait()


def measure(keys: Keys, data: Path, devices: int, rounds: int) -> dict[str, float]:
    """Return the medians of the ratios, and of the times of which they are, in microseconds."""
    bench = Bench(keys, data)
    seen: dict[str, list[float]] = {}
    try:
        for _ in range(rounds):
            fleet = bench.devices(devices)
            base = bench.run(Plain, fleet)
            for device in fleet:
                device.server_nonce = None
            report = bench.run(Load, fleet)
            quiet = bench.run(Quiet, bench.devices(devices))
            alone = bench.run(Load, bench.devices(1))
            row = {
                "checkin_report_x": report.server_us / base.server_us,
                "checkin_quiet_x": quiet.server_us / base.server_us,
                "checkin_alone_ms": alone.server_us / 1000,
                "p99_ms": asyncio.run(
                    half_load(
                        [Load(device, bench.built) for device in bench.devices(devices)],
                        report.per_s,
                        EACH,
                    )
                ),
                "checkin_us": report.server_us,
                "trivial_us": base.server_us,
                "client_us": report.client_us,
            }
            for name, value in row.items():
                seen.setdefault(name, []).append(value)
        kept = [Load(device, bench.built) for device in bench.devices(devices) for _ in range(IDLE)]
        memory = {"idle_kib": asyncio.run(idle_kib(kept, bench.pid)), "rss_mb": rss_kib(bench.pid) / 1024}
    finally:
        bench.stop()
    return {name: statistics.median(values) for name, values in seen.items()} | memory


def share(keys: Keys, data: Path, devices: int, rounds: int) -> float:
    """Return the check-ins a second of two processes, of the trivial application's requests."""
    bench = Bench(keys, data, workers=2)
    seen = []
    try:
        for _ in range(rounds):
            fleet = bench.devices(devices)
            base = bench.run(Plain, fleet)
            for device in fleet:
                device.server_nonce = None
            seen.append(bench.run(Load, fleet).per_s / base.per_s)
    finally:
        bench.stop()
    return statistics.median(seen)


def orders(fleet: int) -> dict[str, float]:
    """Return how long an order to ``fleet`` devices takes to its answer, and a check-in meanwhile longer."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Keys(Path(folder) / "keys")
        found = asyncio.run(bench_orders.measure(Path(folder) / "fota.db", keys, fleet, "update", "1.2.0"))
    delay = (found["longest_checkin_ms"] - found["longest_checkin_quiet_ms"]) / 1000  # type: ignore[operator]
    return {"order_100k_s": float(str(found["answered_s"])), "checkin_delay_s": round(max(0.0, delay), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--devices", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fleet", type=int, default=100_000, help="devices of the order; 0: no order")
    parser.add_argument("--many", type=int, default=1_000_000, help="devices of growth_1m_x; 0: not measured")
    parser.add_argument("--simulated", type=int, default=100_000, help="devices in virtual time; 0: none")
    parser.add_argument("--no-front", dest="front", action="store_false", help="nothing beside nginx")
    args = parser.parse_args()
    found: dict[str, object] = {}
    of: dict[str, dict[str, float]] = {}
    for kind in databases.BOTH:
        databases.kind = kind
        if kind == databases.POSTGRESQL and (why := databases.why_no_postgresql()):
            print(f"left out: {why}", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as folder:
            keys = Keys(Path(folder) / "keys")
            row = measure(keys, Path(folder) / "data", args.devices, args.rounds)
            row["rate_share"] = share(keys, Path(folder) / "two", args.devices, args.rounds)
        of[kind] = {name: round(value, 2) for name, value in row.items()}
        print(kind, json.dumps(of[kind]), flush=True)
    for name, value in of[databases.SQLITE].items():
        found[name] = {kind: row[name] for kind, row in of.items()} if name in BY_DATABASE else value
    found["beside"] = {kind: row for kind, row in of.items() if kind != databases.SQLITE}
    databases.end_postgres()
    databases.kind = databases.SQLITE
    if args.fleet:
        found |= orders(args.fleet)
    if args.simulated:
        found |= bench_simulated.row(args.simulated)
    if args.front:
        found |= bench_front.measure(rounds=args.rounds)
    if args.many:
        found |= {"growth_1m_x": bench_growth.measure(args.many)["growth_1m_x"]}
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
