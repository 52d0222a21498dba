"""Runs commands as their entry point does, each in a fork of a process that has imported everything before.

Reads one JSON object a line: {"words", "closed", "stdin", "stdout", "weak", "env", "terminal"};
answers {"code", "out", "err"}. With "terminal" standard output and error are one, in "out".
"""

import ctypes
import gc
import importlib
import json
import os
import pty
import resource
import signal
import sys
import tempfile
from contextlib import suppress

from fota_cli import entry
from fota_cli.main import COMMANDS

PATIENCE_S = 60
DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2
OPEN = {"full": ("/dev/full", os.O_WRONLY), "null": (os.devnull, os.O_RDWR)}


def bow() -> None:
    """Give up root's right to read what its permissions deny."""

    class Head(ctypes.Structure):
        _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))

    libc, head, data = ctypes.CDLL(None), Head(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(ctypes.byref(head), data) == 0
    for half in (0, 1):  # effective, permitted
        data[half] &= ~(1 << DAC_OVERRIDE | 1 << DAC_READ_SEARCH)
    assert libc.capset(ctypes.byref(head), data) == 0


def child(case: dict, out: int, err: int) -> None:
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(PATIENCE_S)
    if case.get("weak"):
        bow()
    stdin = os.open(case.get("stdin") or os.devnull, os.O_RDONLY)
    stdout = out
    if case.get("stdout") == "pipe":
        reader, stdout = os.pipe()
        os.close(reader)
    elif case.get("stdout"):
        stdout = os.open(*OPEN[case["stdout"]])
    for old, new in ((stdin, 0), (stdout, 1), (stdout if case.get("terminal") else err, 2)):
        os.dup2(old, new)
    os.closerange(3, 64)
    streams = {0: sys.stdin, 1: sys.stdout, 2: sys.stderr}
    for fd in case.get("closed", ()):  # as an interpreter finds them that starts so
        os.close(fd)
        streams[fd] = None
    sys.stdin, sys.stdout, sys.stderr = streams.values()
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = streams.values()
    os.environ.update(case.get("env", {}))
    sys.argv = ["fota", *map(os.fsdecode, map(os.fsencode, case["words"]))]
    entry.main()


def run(case: dict) -> dict:
    seen = b""
    master, slave = pty.openpty() if case.get("terminal") else (-1, -1)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                child(case, out.fileno() if slave < 0 else slave, err.fileno())
            except SystemExit as exc:
                code = exc.code or 0
            finally:
                os._exit(code)
        if slave >= 0:
            os.close(slave)
            with suppress(OSError):  # EIO: the child has let go
                while chunk := os.read(master, 4096):
                    seen += chunk
            os.close(master)
        _, status = os.waitpid(pid, 0)
        for file in (out, err):
            file.seek(0)
        texts = [file.read().decode(errors="replace") for file in (out, err)]
    return {
        "code": os.waitstatus_to_exitcode(status),
        "out": texts[0] + seen.decode(errors="replace"),
        "err": texts[1],
    }


def main() -> None:
    for place, _ in COMMANDS.values():
        importlib.import_module(place.partition(":")[0])
    for name in ("cryptography.x509", "fota_vdev.machine", "fota_signer.factory.line", "fota_server.service"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is shared stays shared
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


main()
