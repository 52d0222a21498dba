"""The launcher: what the bootloader is to a chip (ADR 0014). It verifies one of two slots and runs it.

Each start of the program is a boot: the journal names the slot, the whole image is verified, the record of a
trial is written before anything runs, the boot report is left in ``run/``. The verified bytes themselves are
run, from sealed memory, so nothing can be swapped in between. SIGHUP is a reset, SIGTERM ends both.

Bookkeeping stops no product: what cannot be written (a disk that is full, read-only or gone) is said, and the
confirmed program runs. Who waits, waits in the kernel: nothing here wakes up to look around.
"""

import ctypes
import errno
import fcntl
import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from fota_agent.boards.linux import policy, storage
from fota_agent.boards.linux.gateway import Gateway
from fota_wire import bootreport, image, journal, layout, status
from fota_wire.errors import DeviceError, FormatError, FotaError, StorageError, VerifyError
from fota_wire.files import open_lock
from fota_wire.host_crypto import verify
from fota_wire.version import format_version

CALM_S = 60.0
LOOK_S = 60.0  # between two looks: at a trial, and at a boot report that could not be written
LONGEST_PAUSE_S = 60.0
WATCHED = (signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
PR_SET_PDEATHSIG = 1
NOT_STARTED = 126  # as a shell has it
NO_ROOM = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)  # says nothing of a program
MOMENT_S = 0.5  # between two tries while there is no room
TAIL = 1024  # room for the unprotected area

Say = Callable[[str], None]


class Boot(NamedTuple):
    """What one boot came to."""

    slot: int
    trial: bool
    program: image.Image
    payload: bytes
    report: bytes


class Launcher:
    """Runs the program of one gateway; use as a context manager. ``stop_s``: seconds that it has to stop
    before it is killed, None = as the settings have it.

    Raises:
        StorageError: another launcher runs already.
    """

    def __init__(self, gateway: Gateway, arguments: list[str], say: Say, stop_s: int | None = None) -> None:
        self._gateway = gateway
        self._arguments = arguments
        self._say = say
        self._stop_s = stop_s or gateway.stop_s
        self._journal = storage.JournalFile(gateway.folder / "journal")
        self._stopping = False
        self._unwritten: bytes | None = None
        self._told: journal.Record | None = None
        self._lock = self._take_lock()

    def _take_lock(self) -> int:
        """Return the descriptor that holds the lock: of the folder, where no file can be written."""
        gateway = self._gateway
        try:
            try:
                gateway.run.mkdir(exist_ok=True)
                fd = open_lock(gateway.lock_path)
            except (OSError, StorageError) as exc:
                told = f"{gateway.run}: {exc.strerror}" if isinstance(exc, OSError) else str(exc)
                self._say(f"launch: {told}: no agent beside the program until that can be written")
                fd = _open_to_lock(gateway)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(OSError):
                os.pwrite(fd, b"%-15d\n" % os.getpid(), 0)  # in place, as all that a boot depends on
        except BlockingIOError as exc:
            raise StorageError(f"{gateway.folder}: a launcher is running already") from exc
        except OSError as exc:
            raise StorageError(f"{gateway.folder}: {exc.strerror}") from exc
        return fd

    def __enter__(self) -> "Launcher":
        """Return itself."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Release the lock; the boot report ends with the launcher."""
        self._write_report(None)
        os.close(self._lock)

    def run(self) -> int:
        """Boot again and again, until told to stop or the confirmed program ends with 0; return exit code 0.

        Raises:
            DeviceError: nothing bootable, or a fault of this machine.
        """
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        pause = 0.0
        try:
            while True:
                boot = self.boot()
                started = time.monotonic()
                code, reset = self._run_once(boot, mask)
                if self._stopping:
                    return 0
                if code == 0 and not reset and not self._in_trial(boot):
                    return 0
                if not reset:
                    self._say(f"launch: the program ended with {code}")
                calm = reset or time.monotonic() - started > CALM_S
                pause = 0.0 if calm else min(LONGEST_PAUSE_S, max(0.5, pause * 2))
                if pause and self._wait(pause) in (signal.SIGTERM, signal.SIGINT):
                    return 0
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    # -- one boot ----------------------------------------------------------------------------------------

    def boot(self) -> Boot:
        """Choose and verify a slot, write what has to be written, leave the boot report.

        Raises:
            DeviceError: PO3, nothing bootable; JO1, FL3 and others, a fault of this machine.
        """
        gateway, writable = self._gateway, True
        self._write_report(None)
        with suppress(OSError):
            gateway.health_path.unlink(missing_ok=True)
        floor = storage.read_floor(gateway.folder / "floor")
        verdicts: dict[int, int] = {}
        found: dict[int, tuple[image.Image, bytes]] = {}
        while True:
            state = self._read_journal()
            step = policy.next_step(state, verdicts, gateway.tries, writable)
            if step.action == policy.VERIFY:
                verdicts[step.slot] = self._look_at(step.slot, floor, found)
            elif step.action == policy.HALT:
                raise DeviceError(f"nothing to run: {status.label(step.status)}", step.status)
            elif not self._append(step.record, state):
                writable = False
            elif step.action == policy.BOOT:
                return self._hand_over(step, step.record or state, floor, verdicts, found[step.slot])

    def _read_journal(self) -> journal.Record:
        """Return the state, and say how a trial ended since the last look, whoever wrote it.
        A journal that cannot be read holds no record, as SPEC 3 has it.
        """
        try:
            state, before = self._journal.state(), self._told
        except DeviceError as exc:
            self._say(f"launch: {exc}")
            return journal.EMPTY
        self._told = state
        if before is not None and before.sequence != state.sequence:
            if state.state in (journal.REJECTED, journal.REVERTED):
                how, why = journal.STATE_NAMES[state.state], status.label(state.reason)
                self._say(f"launch: slot {layout.SLOT_NAMES[state.candidate]} is {how}: {why}")
            elif state.confirmed not in (before.confirmed, layout.SLOT_NONE):
                self._say(f"launch: slot {layout.SLOT_NAMES[state.confirmed]} is confirmed")
        return state

    def _append(self, record: "journal.Record | None", state: journal.Record) -> bool:
        """Write ``record``; False, said, if that is not possible: SPEC 3, the candidate is passed over."""
        try:
            self._journal.append(record, state)
        except DeviceError as exc:
            self._say(f"launch: {exc}: no update before that is mended")
            return False
        return True

    def _write_report(self, report: bytes | None) -> None:
        """Leave the boot report, None = none: said if that fails, and tried again while the program runs."""
        try:
            if report is None:
                storage.blank(self._gateway.report_path)
            else:
                self._gateway.run.mkdir(exist_ok=True)
                storage.overwrite(self._gateway.report_path, report)
            self._unwritten = None
        except (StorageError, OSError) as exc:
            if self._unwritten is None and report is not None:
                self._say(f"launch: no boot report, so no agent beside the program: {exc}")
            self._unwritten = report

    def _look_at(self, slot: int, floor: int, found: dict[int, tuple[image.Image, bytes]]) -> int:
        try:
            found[slot] = check_slot(self._gateway, slot, floor)
        except FotaError as exc:
            self._say(f"launch: slot {layout.SLOT_NAMES[slot]} is refused: {exc}")
            return exc.code if isinstance(exc.code, int) else status.FL3
        return status.OK

    def _hand_over(
        self,
        step: policy.Step,
        record: journal.Record,
        floor: int,
        verdicts: dict[int, int],
        found: tuple[image.Image, bytes],
    ) -> Boot:
        program, payload = found
        if step.slot == record.confirmed and program.sec_cnt > floor:
            floor = self._raise_floor(floor, program.sec_cnt)
        report = bootreport.BootReport()
        report.running, report.confirmed, report.candidate = step.slot, record.confirmed, record.candidate
        report.state, report.tries, report.reason = record.state, record.tries, record.reason
        report.trial, report.sequence = step.trial, record.sequence
        report.version, report.sec_cnt, report.floor = program.version, program.sec_cnt, floor
        report.image_hash = program.image_hash
        report.status_a = verdicts.get(layout.SLOT_A, 0)
        report.status_b = verdicts.get(layout.SLOT_B, 0)
        packed = bootreport.pack(report)
        self._write_report(packed)
        how = f"trial, tries left {record.tries}" if step.trial else "confirmed"
        self._say(f"launch: slot {layout.SLOT_NAMES[step.slot]} {format_version(program.version)}, {how}")
        return Boot(step.slot, step.trial, program, payload, packed)

    def _raise_floor(self, floor: int, wanted: int) -> int:
        """Return the floor from now on; a disk that is full keeps no confirmed program from running."""
        try:
            storage.raise_floor(self._gateway.folder / "floor", wanted)
        except StorageError as exc:
            self._say(f"launch: the floor stays at {floor} until the next boot: {exc}")
            return floor
        return wanted

    # -- the running program -----------------------------------------------------------------------------

    def _run_once(self, boot: Boot, mask: set[int | signal.Signals]) -> tuple[int, bool]:
        """Run the program until it ends or has to; return (exit code, whether it was a reset)."""
        child = self._start(boot, mask)
        if child is None:
            return NOT_STARTED, False
        deadline = time.monotonic() + self._gateway.trial_s if boot.trial else None
        while True:
            left = None if deadline is None else min(LOOK_S, max(0.0, deadline - time.monotonic()))
            if self._unwritten is not None and left is None:
                left = LOOK_S
            got = self._wait(left)
            if child.poll() is not None:
                return child.returncode, False
            if got in (signal.SIGTERM, signal.SIGINT):
                self._stopping = True
            if got == signal.SIGCHLD:
                continue
            if got is None:
                if self._unwritten is not None:
                    self._write_report(self._unwritten)
                if deadline is not None and not self._in_trial(boot):
                    deadline = None
                if deadline is None or time.monotonic() < deadline:
                    continue
                self._say("launch: the trial was not confirmed in time")
            end(child, self._stop_s, self._say)
            return child.returncode, True

    def _start(self, boot: Boot, mask: set[int | signal.Signals]) -> "subprocess.Popen[bytes] | None":
        """Start the program; None, said, if that is not possible: a trial has failed then."""
        fd = -1
        try:
            fd = sealed(boot.payload, format_version(boot.program.version))
            return self._spawn_patiently(fd, mask, boot)
        except DeviceError as exc:
            self._say(f"launch: {exc}")
            state = self._read_journal()
            if exc.code == status.AP1 and state.in_trial(boot.slot):
                self._append(journal.reject(state, boot.slot, status.AP1), state)
            return None
        finally:
            if fd >= 0:
                os.close(fd)

    def _spawn_patiently(
        self, fd: int, mask: set[int | signal.Signals], boot: Boot
    ) -> "subprocess.Popen[bytes] | None":
        """Start the program, as soon as there is room for one more; None: told to stop before that.

        Raises:
            DeviceError: AP1, it cannot be started, or in a trial's time not.
        """
        told, deadline = False, time.monotonic() + self._gateway.trial_s if boot.trial else None
        while True:
            try:
                return self._spawn(fd, mask, boot.report)
            except OSError as exc:
                if exc.errno not in NO_ROOM or (deadline is not None and time.monotonic() > deadline):
                    raise DeviceError(f"the program cannot be started: {exc.strerror}", status.AP1) from exc
                if not told:
                    self._say(f"launch: the program cannot be started for now: {exc.strerror}")
                told = True
            if self._wait(MOMENT_S) in (signal.SIGTERM, signal.SIGINT):
                self._stopping = True
                return None

    def _spawn(self, fd: int, mask: set[int | signal.Signals], report: bytes) -> "subprocess.Popen[bytes]":
        libc = ctypes.CDLL(None)
        parent = os.getpid()

        def prepare() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # no second copy beside the next launcher's
            if os.getppid() != parent:
                os._exit(1)

        path = f"/proc/self/fd/{fd}"
        environment = {
            **os.environ,
            "FOTA_GATEWAY": str(self._gateway.folder.resolve()),
            "FOTA_BOOT_REPORT": report.hex(),  # for a program that holds the agent, whatever the disk does
        }
        return subprocess.Popen(
            [path, *self._arguments],
            pass_fds=(fd,),
            env=environment,
            preexec_fn=prepare,
            start_new_session=True,
        )

    def _in_trial(self, boot: Boot) -> bool:
        return boot.trial and self._read_journal().in_trial(boot.slot)

    def _wait(self, seconds: float | None) -> int | None:
        """Wait for one of the signals that concern us; None when time is up."""
        if seconds is None:
            return signal.sigwaitinfo(WATCHED).si_signo
        got = signal.sigtimedwait(WATCHED, seconds)
        return None if got is None else got.si_signo


def check_slot(gateway: Gateway, slot: int, floor: int) -> tuple[image.Image, bytes]:
    """Return the program in ``slot`` and its payload, if this gateway may run it.

    Raises:
        FotaError: with its status code: IM1 to IM11, PO1, PO2, FL3.
    """
    place = gateway.slot(slot)
    _, _, _, protected, size = struct.unpack("<IIHHI", place.read(0, 16))
    length = min(layout.HEADER_SIZE + size + protected + TAIL, gateway.slot_size)
    data = place.read(0, length)
    try:
        program = image.parse_image(data, in_flash=True, programs=True)
    except FormatError as exc:
        raise VerifyError(str(exc), exc.code or status.IM1) from exc
    if program.flags != image.PROGRAM:
        raise VerifyError("firmware of a microcontroller, not a program", status.IM2)
    if program.class_id != gateway.trust.class_id:
        raise VerifyError("made for another device class", status.IM7)
    if program.sec_cnt < floor:
        raise VerifyError(f"security counter {program.sec_cnt} is below the floor {floor}", status.PO1)
    if program.sec_cnt > floor + gateway.max_step:
        raise VerifyError(f"security counter {program.sec_cnt} is too far above {floor}", status.PO2)
    key = gateway.roots.get(program.key_hash)
    if key is None:
        raise VerifyError("signed by a key that is not this gateway's", status.IM8)
    if not verify(key, program.image_hash, program.signature):
        raise VerifyError("its signature is wrong", status.IM10)
    return program, data[layout.HEADER_SIZE : layout.HEADER_SIZE + program.img_size]


def sealed(payload: bytes, name: str) -> int:
    """Return a descriptor of memory that holds ``payload`` and cannot be changed any more. DeviceError."""
    try:
        fd = os.memfd_create(f"fota-{name}", os.MFD_ALLOW_SEALING)
        view = memoryview(payload)
        while view:
            view = view[os.write(fd, view) :]
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    except OSError as exc:
        raise DeviceError(f"no memory for the program: {exc.strerror}") from exc
    return fd


def end(child: "subprocess.Popen[bytes]", stop_s: float, say: Say) -> None:
    """End the program and what it started: SIGTERM, and SIGKILL after ``stop_s`` seconds."""
    try:
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(stop_s)
        except subprocess.TimeoutExpired:
            say(f"launch: the program has not stopped in {stop_s:g} s, and is killed: see --stop-timeout")
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()


def _open_to_lock(gateway: Gateway) -> int:
    """Return a descriptor of what can be locked where no lock can be written: an old one, or the folder."""
    try:
        return os.open(gateway.lock_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return os.open(gateway.folder, os.O_RDONLY | os.O_CLOEXEC)


def running_launcher(gateway: Gateway) -> int | None:
    """Return the process id of the launcher that holds this gateway, or None."""
    try:
        fd = os.open(gateway.lock_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(fd, 32, 0).strip()
        return int(text) if text.isdigit() else None
    except OSError:  # a file system that gives no locks: no launcher got one
        return None
    else:
        return None
    finally:
        os.close(fd)


def running(gateway: Gateway) -> int:
    """Return the process id of the launcher that holds this gateway. DeviceError if none runs."""
    pid = running_launcher(gateway)
    if pid is None:
        raise DeviceError(f"{gateway.folder}: no launcher is running: fota gateway launch")
    return pid


def reset(pid: int) -> None:
    """Have the launcher boot anew. DeviceError if it has ended meanwhile."""
    try:
        os.kill(pid, signal.SIGHUP)
    except ProcessLookupError as exc:
        raise DeviceError("the launcher has ended: fota gateway launch") from exc
