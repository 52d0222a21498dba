"""Debian's nginx in front of a server, by the configuration of docs/nginx.conf."""

import ctypes
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
from pathlib import Path
from urllib.parse import quote

from lifeline import HANG_S, until
from server_world import Built, Device, Keys, Server, cert_pem

CONF = Path(__file__).resolve().parents[2] / "docs" / "nginx.conf"
NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
ME = pwd.getpwuid(os.getuid()).pw_name
FILES = "/fota-artifacts"
BIG = 500_000
"""Bytes of a release that the buffers between this nginx and a client that does not read do not hold."""
PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_us() -> None:
    """Have this process ended when its parent dies: nginx loses our mark (lifeline.py) of its own."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def is_worker(pid: str) -> bool:
    """Tell whether a child of nginx's serves; others look after its cache."""
    try:
        return b"worker process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return False


class Nginx:
    """One nginx at a port of the kernel's choice, in the foreground; `port` is where devices reach it."""

    def __init__(
        self, keys: Keys, folder: Path, front: Path, files: Path, changes: dict[str, str] | None = None
    ) -> None:
        folder.mkdir()
        self.folder, self.log = folder, folder / "error.log"
        # It takes over a socket that listens already, as one does from the nginx that it replaces.
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.port = self._sock.getsockname()[1]
        text = CONF.read_text()
        for old, new in (
            ("user www-data;", f"user {ME};"),
            ("worker_processes auto;", "worker_processes 2;"),
            ("worker_rlimit_nofile 65536;\n", ""),
            ("worker_connections 16384;", "worker_connections 1024;"),
            ("/run/nginx.pid", f"{folder}/nginx.pid"),
            ("/var/log/nginx/error.log", str(self.log)),
            ("unix:/run/fota/front.sock", f"unix:{front}"),
            ("listen 8443 ssl backlog=2048;", f"listen 127.0.0.1:{self.port} ssl backlog=2048 sndbuf=16k;"),
            ("listen [::]:8443 ssl backlog=2048;  # not where the kernel has no IPv6\n", ""),
            ("/etc/nginx/fota/server.crt", f"{keys.folder}/server.crt"),
            ("/etc/nginx/fota/server.pem", f"{keys.folder}/server.pem"),
            ("/etc/nginx/fota/device-ca.crt", f"{keys.folder}/device-ca.crt"),
            ("/var/cache/nginx/fota", f"{folder}/grants"),
            *(changes or {}).items(),
        ):
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        text = text.replace("/srv/fota/artifacts/", f"{files}/")
        temporary = "".join(
            f"    {kind}_temp_path {folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        self.conf = folder / "nginx.conf"
        self.conf.write_text(text.replace("http {\n", "http {\n" + temporary))
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *more: str) -> list[str]:
        assert NGINX
        return [NGINX, "-p", str(self.folder), "-e", str(self.log), "-c", str(self.conf), *more]

    def tested(self) -> subprocess.CompletedProcess[str]:
        """Return what `nginx -t` says; the port is one that nobody listens at then."""
        return subprocess.run(self.command("-t"), capture_output=True, text=True, check=False, timeout=HANG_S)

    def start(self) -> "Nginx":
        fd = self._sock.fileno()
        self.process = subprocess.Popen(
            self.command("-g", "daemon off;"),
            env={**os.environ, "NGINX": f"{fd};"},
            pass_fds=[fd],
            preexec_fn=end_with_us,
            stdin=subprocess.DEVNULL,
        )
        until(lambda: self.workers() and (self.folder / "nginx.pid").exists(), "nginx", self.process)
        return self

    def workers(self) -> set[int]:
        assert self.process
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return {int(pid) for pid in found.split() if is_worker(pid)}

    def reload(self) -> None:
        """Have it read its configuration again; return once there are new workers."""
        assert self.process
        before = self.workers()
        self.process.send_signal(signal.SIGHUP)
        until(lambda: len(self.workers() - before) == 2, "new workers", self.process)

    def stop(self) -> list[str]:
        """End it; return what it logged that should not have been."""
        assert self.process
        self.process.terminate()
        self.process.wait(HANG_S)
        self._sock.close()
        # Of a certificate that could not be verified, 1.22 finds OpenSSL's word once more, and says so.
        bad = [line for line in self.log.read_text().splitlines() if "[emerg]" in line or "[alert]" in line]
        return [line for line in bad if "ignoring stale global SSL error" not in line]


class Fronted:
    """A server, and an nginx before it: devices that are told ``server`` speak to nginx."""

    def __init__(
        self, keys: Keys, folder: Path, changes: dict[str, str] | None = None, **settings: object
    ) -> None:
        self.server = Server(keys, folder / "data").init()
        place = folder / "f.sock"
        self.server.configure(**{"front": str(place), "front_user": ME, "front_files": FILES} | settings)
        kept = self.server.data / ("cache" if settings.get("artifacts") else "artifacts")
        self.nginx = Nginx(keys, folder / "nginx", place, kept, changes).start()
        self.server.start()
        self.before_nginx()

    def before_nginx(self) -> None:
        """Have devices of the server speak to nginx; ``direct_port`` is where it listens itself."""
        self.direct_port, self.server.device_port = self.server.device_port, self.nginx.port

    def stop(self) -> str:
        """End both; return what the server said on stderr."""
        bad = self.nginx.stop()
        code, said = self.server.stop()
        assert (code, bad) == (0, []), said
        assert "Traceback" not in said, said
        return said


def given(server: Server, built: Built) -> Device:
    """A device that may fetch a release."""
    device = Device(server)
    device.check_in()
    assert server.api("POST", "rollouts", {"version": built.version, "device": device.id})[0] == 201
    assert device.check_in().wanted == built.manifest_digest
    return device


def ask(place: Path, *fields: str, body: bytes = b"") -> bytes:
    """What a front of our own is answered that sends these header fields; b"": it is not heard."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(HANG_S)
        sock.connect(str(place))
        head = "".join(f"{field}\r\n" for field in ("POST /v1/checkin HTTP/1.1", "host: x", *fields))
        try:
            sock.sendall(f"{head}connection: close\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
            return b"".join(iter(lambda: sock.recv(65536), b""))
        except (BrokenPipeError, ConnectionResetError):
            return b""


def ask_for(front: Fronted, device: Device, path: str) -> bytes:
    """What the server answers a front that asks for a device."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(str(front.nginx.folder.parent / "f.sock"))
        shown = quote(cert_pem(device.cert).decode())
        sock.sendall(
            f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-fota-device-address: 10.0.0.9\r\n"
            f"x-fota-device-certificate: {shown}\r\n\r\n".encode()
        )
        return b"".join(iter(lambda: sock.recv(65536), b""))


def opened(front: Fronted, device: Device) -> ssl.SSLSocket:
    """A connection with nginx that takes little at a time."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    plain.settimeout(HANG_S)
    plain.connect(("127.0.0.1", front.nginx.port))
    return device.context.wrap_socket(plain, server_hostname="127.0.0.1")
