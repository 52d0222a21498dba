"""The way out: proxies of factories, names that nobody resolves, and words that say what went wrong."""

import base64
import ipaddress
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from lifeline import HANG_S
from test_agent_tls import DER, Element, Pki, Server, get

from fota_agent.transport import proxy, tls_cpython
from fota_agent.transport.http import HttpTransport
from fota_wire.errors import InputError, TransportError

SECRET = "swordfish"


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def server(pki):
    made = Server(pki)
    yield made
    made.close()


class Connect:
    """A proxy as factories have it: CONNECT and nothing else; ``answer`` instead of doing it."""

    def __init__(self, answer=None, wanted="") -> None:
        self.answer, self.wanted, self.heads = answer, wanted, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(client,), daemon=True).start()

    def _one(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1000)
        self.heads.append(head.decode())
        if self.answer is not None:
            client.sendall(self.answer)
            client.close()
            return
        if self.wanted and f"Proxy-Authorization: {self.wanted}\r\n" not in head.decode():
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            client.close()
            return
        host, _, port = head.split()[1].decode().rpartition(":")
        server = socket.create_connection((host.strip("[]"), int(port)))
        client.sendall(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
        for one, other in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    @staticmethod
    def _pump(one, other):
        try:
            while data := one.recv(4096):
                other.sendall(data)
        except OSError:
            pass
        other.close()

    def close(self):
        self.listener.close()


@pytest.fixture
def gate():
    made = []

    def make(*args, **kwargs):
        made.append(Connect(*args, **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.close()


GIVEN_UP_S = 0.2
"""What a transport bears here where nobody ever answers."""


def hurry(sock, writing, ms):
    """Wait a hundredth of ``ms``: with `hurried`, for a peer that says nothing."""
    tls_cpython.wait_for(sock, writing, max(1, ms // 100))


SILENT_S = 5
"""What is borne from a silent peer, on the clock below."""


def hurried():
    """A clock on which a second is a hundred."""
    return time.monotonic_ns() // 10_000


def transport(pki, port, setting=None, timeout_s=HANG_S, now_ms=tls_cpython.monotonic_ms):
    element = Element(pki.device_key)
    key = tls_cpython.ElementKey(element.public, element.sign)
    context = tls_cpython.client_context([pki.ca.public_bytes(DER)], pki.device.public_bytes(DER), key)
    connect = tls_cpython.connector("localhost", port, context, key, timeout_s, None, setting, now_ms, hurry)
    return HttpTransport(connect, f"localhost:{port}", lambda: time.monotonic_ns() // 1_000_000)


@pytest.mark.parametrize("how", ["setting", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_agent_goes_through_a_proxy_and_tls_is_with_the_server(pki, server, gate, monkeypatch, how):
    credentials = f"user:{SECRET}"
    through = gate(wanted="Basic " + base64.b64encode(credentials.encode()).decode())
    url = f"http://{credentials}@127.0.0.1:{through.port}"
    if how != "setting":
        monkeypatch.setenv(how, url)
    client = transport(pki, server.port, url if how == "setting" else None)
    assert get(client) == (200, b"0123456789abcdef01")
    assert through.heads[0].startswith(f"CONNECT localhost:{server.port} HTTP/1.1\r\nHost: localhost:")
    client.close()


@pytest.mark.parametrize(
    "no", ["localhost", "example.com, localhost", "*", ".localhost,localhost:1,localhost"]
)
def test_no_proxy_is_heeded_and_an_empty_setting_means_none(pki, server, gate, monkeypatch, no):
    through = gate()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{through.port}")
    monkeypatch.setenv("NO_PROXY", no)
    client = transport(pki, server.port)
    assert get(client)[0] == 200
    client.close()
    monkeypatch.delenv("NO_PROXY")
    client = transport(pki, server.port, "")
    assert get(client)[0] == 200
    client.close()
    assert through.heads == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "wants other credentials"),
        (
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno!",
            r"refuses the way to localhost:\d+",
        ),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "502"),
        (b"", "no usable answer"),
        (b"SSH-2.0\r\n\r\n", "no usable answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000, "no usable answer"),
    ],
)
def test_proxy_that_lets_nobody_through_is_one_line_without_the_password(pki, server, gate, answer, words):
    through = gate(answer)
    url = f"http://user:{SECRET}@127.0.0.1:{through.port}"
    with pytest.raises(TransportError, match=words) as caught:
        get(transport(pki, server.port, url))
    assert f"proxy 127.0.0.1:{through.port}" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert server.connections == 0, "no way around it"


@pytest.mark.parametrize(
    "url", ["https://p", "socks5://p:1", "http://", "http://p:x", "http://p/path", "http://p:99999"]
)
def test_proxy_that_is_none_is_refused_without_its_password(url):
    with pytest.raises(InputError, match=r"a proxy is http://") as caught:
        proxy.parse(url.replace("//", f"//user:{SECRET}@"), "HTTPS_PROXY")
    assert SECRET not in str(caught.value)


def test_name_that_nobody_resolves_is_given_up_in_time(pki, server, monkeypatch):
    """A resolver that is not there takes half a minute, and no socket's time-out counts for it."""
    leave = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: leave.wait(HANG_S) and [])
    with pytest.raises(TransportError, match="its name was not resolved in time"):
        get(transport(pki, server.port, timeout_s=GIVEN_UP_S))
    leave.set()


STUCK = """
import signal, socket, sys, threading
from fota_agent.transport import proxy
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
real = socket.getaddrinfo
def stuck(*args, **more):
    print("asking", flush=True)
    threading.Event().wait()
socket.getaddrinfo = stuck
proxy.open_socket("update.example.com", 443, 1e6, None)
"""


def test_ctrl_c_ends_a_look_up_at_once():
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "asking\n"
    time.sleep(0.2)
    process.send_signal(2)
    _, said = process.communicate(timeout=HANG_S)  # the look-up never ends
    assert "KeyboardInterrupt" in said


# -- words ---------------------------------------------------------------------------------------------------


def plain(text):
    """Tell whether a message has no number of an error in it, and no name of a source file."""
    return not any(part in text for part in ("_ssl", ".c:", "Errno", "SSL:", "TLSV1", "SSLV3", "0x"))


def test_server_of_another_fleet_is_said_in_words(pki, tmp_path_factory, server):
    other = Pki(tmp_path_factory.mktemp("other"))
    element = Element(other.device_key)
    key = tls_cpython.ElementKey(element.public, element.sign)
    context = tls_cpython.client_context([pki.ca.public_bytes(DER)], other.device.public_bytes(DER), key)
    connect = tls_cpython.connector("localhost", server.port, context, key, HANG_S)
    client = HttpTransport(connect, "localhost", lambda: time.monotonic_ns() // 1_000_000)
    said = set()
    for _ in range(20):  # an alert can be lost to the reset that follows it; then it is "hung up"
        with pytest.raises(TransportError) as caught:
            get(client)
        said.add(str(caught.value))
        assert plain(str(caught.value))
        if "of this device's key or of its CA" in str(caught.value):
            return
    raise AssertionError(f"two CAs of one name: {said}")


@pytest.mark.parametrize("kind", ["refused", "plain-http", "hangs-up", "silent"])
def test_what_is_wrong_with_the_other_side_is_said_in_words(pki, kind):
    listener, over = socket.create_server(("127.0.0.1", 0)), threading.Event()
    port = listener.getsockname()[1]
    if kind == "refused":
        listener.close()

    def serve():
        sock, _ = listener.accept()
        if kind == "plain-http":
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            time.sleep(0.2)
        if kind == "silent":
            over.wait(HANG_S)
        sock.close()

    if kind != "refused":
        threading.Thread(target=serve, daemon=True).start()
    with pytest.raises(TransportError) as caught:
        get(transport(pki, port, **{"now_ms": hurried, "timeout_s": SILENT_S} if kind == "silent" else {}))
    over.set()
    words = {
        "refused": "refused",
        "plain-http": "does not speak TLS",
        "hangs-up": "",
        "silent": "no answer in time",
    }
    assert words[kind] in str(caught.value)
    assert plain(str(caught.value)), str(caught.value)
    listener.close()


@pytest.mark.parametrize("reason", ["TLSV1_ALERT_INTERNAL_ERROR", "NO_CIPHERS_AVAILABLE", None])
def test_reason_that_has_no_words_of_its_own_is_still_no_code(reason):
    error = ssl.SSLError(1, "[SSL: X] x (_ssl.c:989)")
    error.reason = reason
    assert plain(tls_cpython.explain(error))


def test_link_local_address_keeps_its_interface(pki):
    """As the name of a server in the same factory hall resolves to, by mDNS say."""
    listing = Path("/proc/net/if_inet6")
    rows = [line.split() for line in listing.read_text().splitlines()] if listing.exists() else []
    local = next((row for row in rows if row[3] == "20"), None)
    if local is None:
        pytest.skip("no interface with a link-local address")
    address = f"{ipaddress.IPv6Address(bytes.fromhex(local[0]))}%{local[5]}"
    place = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0][4]
    with socket.socket(socket.AF_INET6) as listener:
        listener.bind(place)
        listener.listen()
        port = listener.getsockname()[1]
        with proxy.open_socket(address, port, HANG_S, None) as sock:
            assert sock.getpeername()[1] == port


def test_environment_is_left_alone():
    assert not {"HTTPS_PROXY", "https_proxy"} & set(os.environ), "or these tests say nothing"
