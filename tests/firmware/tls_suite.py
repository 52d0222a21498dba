"""For MicroPython (unix): the agent's TLS against a server, the key in another process.

micropython tls_suite.py REPO PORT HOST FOLDER [CLOCK PASSED], two times in s since 1970; asks for each
signature on standard output, takes it from standard input, and prints how the request ended.
"""

import select
import socket
import sys

sys.path[:0] = [sys.argv[1] + "/" + part for part in ("agent", "wire")]

from fota_agent.transport.tls_micropython import transport_for  # noqa: E402
from fota_wire import der  # noqa: E402
from fota_wire.errors import DeviceError, FotaError  # noqa: E402


def read(name):
    with open(sys.argv[4] + "/" + name, "rb") as file:  # noqa: PTH123
        return file.read()


class Element:
    def sign(self, digest):
        print("sign", digest.hex())
        answer = sys.stdin.readline().strip()
        if answer == "refuse":
            raise DeviceError("the element does not sign")
        return bytes.fromhex(answer)


class Board:
    element = Element()
    server_cas = tuple(der.split(read("ca.der")))
    certificate = read("device.der")
    server_url = f"https://{sys.argv[3]}:{sys.argv[2]}"

    def ticks_ms(self):
        import time

        return time.ticks_ms()


def open_socket(_host, port):
    sock = socket.socket()
    sock.connect(socket.getaddrinfo("127.0.0.1", port)[0][-1])
    opened.append(sock)
    return sock


def wait(ms):
    poll = select.poll()
    poll.register(opened[-1], select.POLLIN)
    poll.poll(ms)


opened = []
clock, passed = [int(text) for text in sys.argv[5:7]] or (0, 0)
transport = transport_for(Board(), open_socket, wait, passed=lambda: passed, clock=lambda: clock)
try:
    for _ in range(2):  # the second one on the same connection
        status, _, reader = transport.request("GET", "/", {})
        print("answer", status, reader.read(100).decode())
except FotaError as exc:
    print("error", type(exc).__name__, exc)
transport.close()
print("connections", len(opened))
