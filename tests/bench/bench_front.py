"""What handshakes, payloads and small ranges cost beside nginx alone: by our server, and with nginx in front.

    python tests/bench/bench_front.py [--devices 16] [--rounds 3]

One nginx serves the same file from the same folder by the same TLS 1.3 with client certificates, and nobody
stands behind it; another is the front of docs/nginx.conf. A client in this process asks each the same in
turn: new connections that end after their handshake (``handshake``) or one range (``connection``), and whole
files and ranges of 4 KiB on connections that are kept (``payload``, ``range``). Processor time counts, of
nginx's workers and of the server together; the median of rounds. ``_x``: against nginx alone in that round.
"""

import argparse
import json
import socket
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))

import fronts
from lifeline import HANG_S
from server_world import ALL_DEVICES, Built, Device, Keys, build_release

HANDSHAKES, FILES, RANGES, RANGE = (
    12,
    6,
    150,
    4096,
)  # of one device in a round, below what it is slowed down at
ALONE = """location ^~ /v1/payload/ {{
            alias {files}/;
        }}"""


def cpu_s(*pids: int) -> float:
    """Return the processor time of processes, of all their threads."""
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


class Place:
    """Where a client can ask: a port, and the processes that answer there."""

    def __init__(self, port: int, pids: Callable[[], list[int]]) -> None:
        self.port, self._pids = port, pids

    def cost(self, work: Callable[[int], None]) -> tuple[float, float]:
        """Return the processor time that ``work(port)`` takes there, and here."""
        pids = self._pids()
        its, mine = cpu_s(*pids), time.process_time()
        work(self.port)
        return cpu_s(*pids) - its, time.process_time() - mine


def connected(device: Device, port: int) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=HANG_S)
    return device.context.wrap_socket(plain, server_hostname="127.0.0.1")


def handshakes(devices: list[Device], port: int) -> None:
    """Connect anew, and wait for the other side's end: it has done its part of the handshake then."""
    for device in devices:
        for _ in range(HANDSHAKES):
            with connected(device, port) as tls:
                tls.shutdown(socket.SHUT_WR)
                with suppress(OSError):  # a TLS end, or only TCP's
                    while tls.recv(4096):
                        pass


def answers(device: Device, port: int, head: bytes, size: int, times: int) -> None:
    """Ask ``times`` times on one connection for what has ``size`` bytes."""
    buffer = memoryview(bytearray(1 << 16))
    with connected(device, port) as tls:
        for _ in range(times):
            tls.sendall(head)
            got = tls.recv_into(buffer)
            begin = bytes(buffer[:got])
            while b"\r\n\r\n" not in begin:
                got = tls.recv_into(buffer)
                begin += bytes(buffer[:got])
            if not begin.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 206 ")):
                raise SystemExit(begin.decode(errors="replace"))
            left = size - len(begin.partition(b"\r\n\r\n")[2])
            while left > 0:
                left -= tls.recv_into(buffer)


def rows(front: fronts.Fronted, alone: fronts.Nginx, devices: list[Device], built: Built) -> dict[str, float]:
    """Return one round's ratios, and the microseconds that they are of."""
    server = front.server.process
    assert server
    places = {
        "nginx": Place(alone.port, lambda: list(alone.workers())),
        "front": Place(front.nginx.port, lambda: [*front.nginx.workers(), server.pid]),
        "direct": Place(front.direct_port, lambda: [server.pid]),
    }
    head = f"GET /v1/payload/{built.digest} HTTP/1.1\r\nhost: x\r\n"
    part = f"{head}range: bytes=65536-{65536 + RANGE - 1}\r\n\r\n".encode()
    whole, size = f"{head}\r\n".encode(), len(built.file)

    def files(port: int) -> None:
        for device in devices:
            answers(device, port, whole, size, FILES)

    def ranges(port: int) -> None:
        for device in devices:
            answers(device, port, part, RANGE, RANGES)

    def one_each(port: int) -> None:
        for device in devices:
            for _ in range(HANDSHAKES):
                answers(device, port, part, RANGE, 1)

    work = {
        "handshake": (lambda port: handshakes(devices, port), HANDSHAKES * len(devices)),
        "connection": (one_each, HANDSHAKES * len(devices)),
        "payload": (files, FILES * len(devices)),
        "range": (ranges, RANGES * len(devices)),
    }
    found: dict[str, float] = {}
    for name, (ask, number) in work.items():
        costs = {place: where.cost(ask) for place, where in places.items()}
        for place, (its, mine) in costs.items():
            found[f"{name}_us.{place}"] = its / number * 1e6
            found[f"{name}_client_us.{place}"] = mine / number * 1e6
        for place in ("front", "direct"):
            found[f"{name}_x.{place}"] = costs[place][0] / costs["nginx"][0]
    return found


def measure(number: int = 16, rounds: int = 3) -> dict[str, dict[str, float]]:
    """Return the medians, by row and place; {}: this machine has no nginx."""
    if fronts.NGINX is None:
        print("left out: no nginx; 'make oracles' brings it", file=sys.stderr)
        return {}
    seen: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = Keys(folder / "keys")
        front = fronts.Fronted(keys, folder, {"limit_req zone": "# limit_req zone"})
        kept = front.server.data / "artifacts"
        built = build_release(keys, "1.1.0", 2, 2, size=fronts.BIG)
        front.server.publish(built)
        conf = fronts.CONF.read_text()
        begin = conf.index("location / {")
        asks = conf[begin : conf.index("}", begin) + 1]
        alone = fronts.Nginx(
            keys,
            folder / "alone",
            folder / "none.sock",
            kept,
            {
                asks: ALONE.format(files=kept / built.digest[:2]),
                "ssl_verify_client optional": "ssl_verify_client on",
                "limit_req zone": "# limit_req zone",
            },
        ).start()
        try:
            for _ in range(rounds):
                front.server.device_port = front.nginx.port
                devices = [fronts.given(front.server, built) for _ in range(number)]
                for label, value in rows(front, alone, devices, built).items():
                    seen.setdefault(label, []).append(value)
                while ALL_DEVICES:
                    ALL_DEVICES.pop().close()
        finally:
            alone.stop()
            front.stop()
    found: dict[str, dict[str, float]] = {}
    for label, values in seen.items():
        row, _, place = label.partition(".")
        found.setdefault(row, {})[place] = round(statistics.median(values), 2 if row.endswith("_x") else 0)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--devices", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(json.dumps(measure(args.devices, args.rounds), indent=2))


if __name__ == "__main__":
    main()
