"""Processes of ``fota`` that need not load it: each is forked from one that has, and runs the same `main`.

Loading takes a second of each server and a quarter of each command, and the tests begin thousands. A forked
one has arguments, environment, folder and streams of its own. What Python reads before it runs anything (its
own variables) and what has to be done in the child before that (``preexec_fn``) wants `subprocess`.
"""

import array
import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL
PACKAGES = ("fota_wire", "fota_signer", "fota_cli", "fota_server")
BY_NEED = ("alembic.command", "psycopg", "uvicorn.lifespan.off")
"""What the server loads when it starts, and not with its modules."""
NUMBER = 4  # bytes of a length

_lock = threading.Lock()
_mother: "Mother | None" = None


class Mother:
    """Our end of the line to the process that has it all loaded. It ends when we do."""

    def __init__(self) -> None:
        self._line, theirs = socket.socketpair()
        atexit.register(self._line.close)
        with theirs:
            end = theirs.fileno()
            words = [sys.executable, __file__, str(end)]
            subprocess.Popen(words, stdin=DEVNULL, pass_fds=[end]).returncode = 0

    def ask(self, what: dict[str, Any], *fds: int) -> int:
        """Send one question and return the answer: the id of a child, or how one ended."""
        raw = json.dumps(what).encode()
        passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        with _lock:
            self._line.sendmsg([len(raw).to_bytes(NUMBER, "big")], passed)
            self._line.sendall(raw)
            return int.from_bytes(_whole(self._line, NUMBER), "big", signed=True)


class Process:
    """A child of the mother's with the ways of `subprocess.Popen`."""

    def __init__(self, args: list[str], env: dict[str, str] | None, cwd: Any, **streams: Any) -> None:
        global _mother
        if _mother is None:
            _mother = Mother()
        self.args, self.returncode, self.stdin = args, None, None
        self.stdout, self.stderr = None, None
        with contextlib.ExitStack() as stack:
            fds = []
            for number, name in enumerate(("stdin", "stdout", "stderr")):
                to = streams.get(name)
                if to == PIPE:
                    ours, fd = os.pipe()
                    setattr(self, name, os.fdopen(ours, encoding="utf-8"))
                    stack.callback(os.close, fd)
                elif to == DEVNULL:
                    fd = os.open(os.devnull, os.O_RDWR)
                    stack.callback(os.close, fd)
                else:
                    fd = number if to is None else to if isinstance(to, int) else to.fileno()
                fds.append(fd)
            environment = dict(os.environ) if env is None else env
            what = {"args": args, "env": environment, "cwd": str(cwd or Path.cwd())}
            self.pid = _mother.ask(what, *fds)
        self._fd = os.pidfd_open(self.pid)

    def __del__(self) -> None:
        os.close(self._fd)

    def poll(self) -> int | None:
        """Return how it ended, as a code or less a signal; None: it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, and return as `poll` does.

        Raises:
            subprocess.TimeoutExpired: it has not, ``timeout`` seconds later.
        """
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._fd], [], [], timeout)[0]:
            assert _mother
            self.returncode = _mother.ask({"wait": self.pid})
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str | None, str | None]:
        """Return what it said on each of its streams, once it has ended."""
        said: list[str | None] = [None, None]

        def read(number: int, stream: Any) -> None:
            said[number] = stream.read()

        ends = time.monotonic() + (timeout or threading.TIMEOUT_MAX)
        streams = [(number, stream) for number, stream in enumerate((self.stdout, self.stderr)) if stream]
        readers = [threading.Thread(target=read, args=one, daemon=True) for one in streams]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(max(0, ends - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        for _, stream in streams:
            stream.close()
        self.wait(max(0, ends - time.monotonic()) if timeout else None)
        return said[0], said[1]

    def send_signal(self, sig: int) -> None:
        """Send a signal to it, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, sig)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def start(*args: str, env: dict[str, str] | None = None, cwd: Any = None, **streams: Any) -> Process:
    """Run ``fota`` with these arguments; ``streams`` as `subprocess.Popen` takes them."""
    return Process(list(args), env, cwd, **streams)


def run(
    *args: str, env: dict[str, str] | None = None, cwd: Any = None, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``fota`` until it ends, with nothing to read, and return what it said.

    Raises:
        subprocess.TimeoutExpired: it did not within ``timeout`` seconds; it is ended.
    """
    if env is not None and _of_python(env) != _of_python(os.environ):
        words = [sys.executable, "-m", "fota_cli", *args]
        return subprocess.run(
            words,
            capture_output=True,
            stdin=DEVNULL,
            text=True,
            env=env,
            cwd=cwd,
            timeout=timeout,
            check=False,
        )
    process = start(*args, env=env, cwd=cwd, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    try:
        out, err = process.communicate(timeout)
    except BaseException:
        process.kill()
        raise
    return subprocess.CompletedProcess(["fota", *args], process.wait(), out or "", err or "")


def _of_python(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith("PYTHON")}


# The other side


def _whole(line: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        more = line.recv(size - len(got))
        if not more:
            raise EOFError
        got += more
    return got


def _load() -> None:
    for package in PACKAGES:
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
            if ".migrations" not in module.name and not module.name.endswith("__main__"):
                with contextlib.suppress(ImportError):  # of an extra that is not there
                    importlib.import_module(module.name)
    for name in BY_NEED:
        importlib.import_module(name)
    assert threading.active_count() == 1  # a thread would be lost in each child


def _serve(line: socket.socket) -> None:
    """Fork a child for each question, until nobody asks. Returns in each child."""
    while True:
        head, fds, _, _ = socket.recv_fds(line, NUMBER, 3)
        if not head:
            os._exit(0)
        what = json.loads(_whole(line, int.from_bytes(head + _whole(line, NUMBER - len(head)), "big")))
        if "wait" in what:
            answer = os.waitstatus_to_exitcode(os.waitpid(what["wait"], 0)[1])
        else:
            answer = os.fork()
            if not answer:
                line.close()
                return _become(what, fds)
            for fd in fds:
                os.close(fd)
        line.sendall(answer.to_bytes(NUMBER, "big", signed=True))


def _become(what: dict[str, Any], fds: list[int]) -> None:
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    os.environ.clear()
    os.environ.update(what["env"])
    time.tzset()
    os.chdir(what["cwd"])
    sys.argv = ["fota", *what["args"]]
    sys.path[0] = ""
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
    sys.__stderr__ = sys.stderr
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _main(line: socket.socket) -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # at a keyboard it is meant for who asks us
    _load()
    gc.freeze()  # or each child copies what it only counts
    _serve(line)
    sys.exit(importlib.import_module("fota_cli.main").main())


if __name__ == "__main__":
    _main(socket.socket(fileno=int(sys.argv[1])))
