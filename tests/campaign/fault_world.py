"""Real processes for a run with faults: servers, signer, database, object store; and what is done to them."""

import http.client
import os
import pwd
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import databases
import fault_verdicts as verdicts
from buckets import CREDENTIALS, Bucket, Moto
from fault_fleet import Direct, Front
from lifeline import HANG_S, until
from server_world import FOTA, Built, Keys, Server, build_release, fota
from test_server_migrations import ROWS, old_database
from test_server_signer import Signer

from fota_server import release_log

ME = pwd.getpwuid(os.getuid()).pw_name
JUMP_S = 7200
"""So far the clock of one server goes wrong; more than the rollout's silence."""
DISK = {databases.SQLITE: 192 << 20, databases.POSTGRESQL: 1 << 30}
"""Bytes of the disk that the database is on, where this user may mount one."""
Restore = Callable[[], None]


class Replica(Server):
    """A server whose log goes into a file, and whose clock can be moved if it has one of its own."""

    def __init__(self, keys: Keys, data: Path, *options: str, clock: Path | None = None) -> None:
        super().__init__(keys, data, *options)
        self.clock, self.log = clock, data.parent / f"{data.name}.log"
        self.front: Front

    def start(self, **_popen: Any) -> "Replica":
        """Start it, and wait until it is ready."""
        env = os.environ | CREDENTIALS
        if self.clock:
            env |= {"LD_PRELOAD": str(self.clock.with_suffix(".so")), "FOTA_TEST_CLOCK": str(self.clock)}
        command = [*FOTA, "server", "run", "--data", str(self.data), "--port", "0", "--host", "127.0.0.1"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.options], stdout=subprocess.PIPE, stderr=log, text=True, env=env
            )
        assert self.process.stdout
        assert self.process.stdout.readline(), self.log.read_text()[-2000:]
        self.read_urls()
        if isinstance(self.front, Direct):
            self.front.port = self.device_port
        return self

    def kill(self) -> None:
        """End it as `kill -9` does."""
        assert self.process
        assert self.process.stdout
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def start_again(self) -> None:
        """Start it as systemd does: again, until what it needs is there."""
        self.front.forget()

        def begun() -> bool:
            try:
                self.start()
            except AssertionError:
                return False
            return True

        until(begun, f"{self.data.name} is ready", pause_s=0.2)

    def ask(self, *args: Any, **kwargs: Any) -> tuple[int, Any] | None:
        """As `api`; None: no answer, so nobody knows what came of it."""
        try:
            return self.api(*args, **kwargs)
        except (OSError, http.client.HTTPException):
            return None


class World:
    """All processes of one run. ``faults``: by name; each does something, and returns what makes it good."""

    def __init__(self, folder: Path, kind: str, chance: random.Random) -> None:
        self.folder, self.kind, self.chance = folder, kind, chance
        databases.kind = kind
        self.keys = Keys(folder / "keys")
        self.short = Path(tempfile.mkdtemp(prefix="fota-f-"))  # names of sockets have 107 bytes
        self.signer = Signer(self.short / "s", self.keys.folder / "assign.pem")
        self.published: list[Built] = []
        self.acknowledged: list[str] = []  # groups that operators were told are there
        self.found: list[str] = []
        self.counter = 0
        self.rollout = 0  # the number of the great one
        self.moto: Moto | None = None
        self.clock = self.build_clock()
        self.disk = self.short / "disk"
        self.disk.mkdir(mode=0o755)
        self.short.chmod(0o755)  # PostgreSQL does not run as root
        self.mounted = mount(self.disk, DISK[kind])
        self.ballast = self.disk / "ballast"
        self.servers = self.on_postgresql() if kind == databases.POSTGRESQL else self.on_sqlite()
        mine = {
            "kill_server": self.kill_server,
            "kill_signer": self.kill_signer,
            "opposite_halts": self.opposite_halts,
            "opposite_pauses": self.opposite_pauses,
            "publication": self.interrupted_publication,
            "upload": self.interrupted_upload,
            "backup": self.interrupted_backup,
            "migration": self.interrupted_migration,
            "clock": self.move_clock,
        }
        others: dict[str, Callable[[], Restore]] = (
            {"kill_database": self.kill_database, "failover": self.fail_over, "kill_store": self.kill_store}
            if kind == databases.POSTGRESQL
            else {"kill_worker": self.kill_worker}
        )
        self.faults: dict[str, Callable[[], Restore]] = mine | others
        if self.mounted:
            self.faults["disk_full"] = self.fill_disk

    def begin(self) -> None:
        """Start the servers; operators' tokens are good at each."""
        first, *others = self.servers
        first.start()
        for other in others:
            (other.data / "operator.token").write_text(first.token)
            other.start()

    def build_clock(self) -> Path:
        """Build what moves a process's clock; return the file that says how far."""
        clock = self.folder / "clock"
        clock.write_bytes(bytes(8))
        source = Path(__file__).with_name("clock.c")
        build = ["cc", "-shared", "-fPIC", "-O1", "-o", str(clock.with_suffix(".so")), str(source), "-ldl"]
        subprocess.run(build, check=True)
        return clock

    def on_postgresql(self) -> list[Replica]:
        """Two servers on one bucket and one database, on a disk of its own; one's clock can be moved."""
        databases.postgres(self.disk)
        self.moto = Moto()
        self.bucket = Bucket(self.moto)
        self.bucket.port = self.moto.port
        self.moto.request("PUT", f"/{self.bucket.name}")
        made = []
        for name in ("a", "b"):
            server = Replica(self.keys, self.folder / name, clock=self.clock if name == "b" else None)
            place = self.short / name
            server.front = Front(place)
            server.init("--assign-key", str(self.signer.path), "--interval", "1")
            url = databases.url_of(self.folder / "fota.db")
            server.configure(database_url=url, front=str(place), front_user=ME, **self.bucket.settings)
            if made:
                shutil.copy(made[0].data / release_log.KEY, server.data / release_log.KEY)
            made.append(server)
        return made

    def on_sqlite(self) -> list[Replica]:
        """One server of two processes, on a small disk, with a clock that can be moved."""
        server = Replica(self.keys, self.disk / "data", "--workers", "2", clock=self.clock)
        server.log = self.folder / "data.log"
        server.front = Direct(self.disk)
        server.init("--assign-key", str(self.signer.path), "--interval", "1")
        return [server]

    def close(self) -> None:
        """End all of it."""
        for server in self.servers:
            if server.process and server.process.poll() is None:
                server.process.terminate()
                server.process.wait(HANG_S)
            if server.process and server.process.stdout:
                server.process.stdout.close()
        if self.signer.process.poll() is None:
            self.signer.stop()
        if self.moto:
            self.moto.stop()
        databases.end_postgres()
        if self.mounted:
            unmount(self.disk)
        shutil.rmtree(self.short)

    def any(self) -> Replica:
        return self.chance.choice(self.servers)

    def number(self) -> int:
        self.counter += 1
        return self.counter

    def says(self, what: str) -> None:
        self.found.append(what)

    # -- processes that end ----------------------------------------------------------------------------------

    def kill_server(self) -> Restore:
        victim = self.any()
        victim.kill()
        return victim.start_again

    def kill_worker(self) -> Restore:
        """The main process starts another."""
        main = self.servers[0].process
        assert main
        children = Path(f"/proc/{main.pid}/task/{main.pid}/children").read_text().split()
        for pid in children:
            os.kill(int(pid), signal.SIGKILL)
        return lambda: None

    def kill_signer(self) -> Restore:
        self.signer.stop(signal.SIGKILL)
        return self.signer.start

    def kill_database(self) -> Restore:
        postgres = databases.postgres()
        postgres.stop()
        return postgres.start

    def fail_over(self) -> Restore:
        databases.postgres().fail_over()
        return lambda: None

    def kill_store(self) -> Restore:
        """moto keeps objects in memory: what was acknowledged is put back, as a disk would have it."""
        assert self.moto
        old = self.moto
        old.process.kill()
        old.stop()

        def restore() -> None:
            self.moto = self.bucket.moto = Moto(old.port)
            self.moto.request("PUT", f"/{self.bucket.name}")
            for built in self.published:
                self.bucket.overwrite(built.digest, built.file)

        return restore

    # -- what the machine does -------------------------------------------------------------------------------

    def move_clock(self) -> Restore:
        with self.clock.open("r+b") as file:
            file.write(self.chance.choice([-JUMP_S, JUMP_S]).to_bytes(8, "little", signed=True))

        def restore() -> None:
            with self.clock.open("r+b") as file:
                file.write(bytes(8))

        return restore

    def fill_disk(self) -> Restore:
        """Leave nothing free where the database is; PostgreSQL ends itself when it cannot write its log."""
        with self.ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(1 << 16)):
                    pass
            except OSError:
                pass
        if self.kind == databases.POSTGRESQL and not databases.postgres().use_up_log():
            self.says("PostgreSQL has not noticed that its disk is full")

        def restore() -> None:
            self.ballast.unlink()
            if self.kind == databases.POSTGRESQL:
                databases.postgres().stand_up()

        return restore

    # -- what operators do -----------------------------------------------------------------------------------

    def opposite_halts(self) -> Restore:
        """Two operators, "stop everything" and "go on", at once; what both were answered has to be so."""
        servers = self.any(), self.any()
        halt, unhalt = self.at_once(servers, ("halt", {"reason": "drill"}), ("unhalt", {}))
        seen = {bool(found[1]["halted"]) for one in self.servers if (found := self.shown("limits", one))}
        self.found += verdicts.halts(halt, unhalt, seen)
        return lambda: self.lift("limits", "halted", "unhalt")

    def opposite_pauses(self) -> Restore:
        """The same of the rollout that goes on; the audit trail has the order in which they came."""
        path, (first, *_) = f"rollouts/{self.rollout}", self.servers
        after = first.api("GET", "audit?limit=1")[1]["total"]
        servers = self.any(), self.any()
        pause, resume = self.at_once(servers, (f"{path}/pause", {}), (f"{path}/resume", {}))
        seen = {found[1]["paused"] for one in self.servers if (found := self.shown(path, one))}
        trail = [
            row["action"].removeprefix("rollout.")
            for row in pages(first, f"audit?after={after}", "audit")
            if row["subject"] == str(self.rollout) and row["action"] in ("rollout.pause", "rollout.resume")
        ]
        self.found += verdicts.pauses(pause, resume, seen, trail)
        return lambda: self.lift(path, "paused", f"{path}/resume")

    def at_once(self, servers: Sequence[Replica], *orders: tuple[str, Any]) -> list[int | None]:
        """Give two orders in the same moment to two servers; return their statuses. None: no answer."""
        answers: list[int | None] = [None, None]
        ready = threading.Barrier(2)

        def order(which: int) -> None:
            ready.wait()
            found = servers[which].ask("POST", *orders[which])
            answers[which] = found and found[0]

        threads = [threading.Thread(target=order, args=(which,)) for which in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    def lift(self, path: str, word: str, order: str) -> None:
        """Have what stands still go on, if it does."""

        def lifted() -> bool:
            found = self.shown(path, self.any())
            if found and found[1][word]:
                self.any().ask("POST", order, {})
            return bool(found) and not found[1][word]

        until(lifted, order)

    def shown(self, path: str, server: Replica) -> tuple[int, Any] | None:
        found = server.ask("GET", path)
        return found if found and found[0] == 200 else None

    def make_group(self) -> None:
        """An order of no consequence; what is acknowledged has to be there at the end, once."""
        name = f"g{self.number()}"
        found = self.any().ask("POST", "groups", {"name": name})
        if found and found[0] == 201:
            self.acknowledged.append(name)

    def release(self) -> Built:
        number = self.number()
        return build_release(self.keys, f"2.0.{number}", 2, 100 + number, size=200_000, salt=str(number))

    def publish_whole(self, built: Built) -> None:
        def done() -> bool:
            server = self.any()
            found = server.ask("PUT", f"artifacts/{built.digest}", raw=built.file)
            found = found and found[0] in (200, 201) and server.ask("POST", "releases", raw=built.envelope)
            return bool(found) and found[0] in (200, 201, 409)

        until(done, f"release {built.version}", pause_s=0.2)
        self.published.append(built)

    def interrupted_publication(self) -> Restore:
        """The server is killed while somebody publishes, who does it again."""
        built, victim = self.release(), self.any()

        def publish() -> None:
            victim.ask("PUT", f"artifacts/{built.digest}", raw=built.file)
            victim.ask("POST", "releases", raw=built.envelope)

        thread = threading.Thread(target=publish)
        thread.start()
        time.sleep(self.chance.random() / 10)
        victim.kill()
        thread.join()

        def restore() -> None:
            victim.start_again()
            self.publish_whole(built)

        return restore

    def interrupted_upload(self) -> Restore:
        """Whoever uploads goes away in the middle, and comes again."""
        built, server = self.release(), self.any()
        head = f"PUT /api/v1/artifacts/{built.digest} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "
        head += f"{server.token}\r\ncontent-length: {len(built.file)}\r\n\r\n"
        try:
            with connected(server) as tls:
                tls.sendall(head.encode() + built.file[: self.chance.randrange(len(built.file))])
        except OSError:
            pass
        return lambda: self.publish_whole(built)

    def interrupted_backup(self) -> Restore:
        """A backup that is killed leaves no backup, or a whole one; the next one is whole."""
        target = self.folder / f"backup-{self.number()}"
        command = [*FOTA, "server", "backup", str(target), "--data", str(self.servers[0].data)]
        process = subprocess.Popen(
            command, env=os.environ | CREDENTIALS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(self.chance.random() * 2)
        process.kill()
        process.wait()
        if target.exists() and not (target / "backup.json").exists():
            self.says(f"a backup that was killed left {target} without its list")

        def restore() -> None:
            again = self.folder / f"backup-{self.number()}"

            def whole() -> bool:
                done = fota(
                    "server", "backup", str(again), "--data", str(self.servers[0].data), env=CREDENTIALS
                )
                return done.returncode == 0

            until(whole, "a backup", pause_s=0.2)
            shutil.rmtree(again)
            shutil.rmtree(target, ignore_errors=True)

        return restore

    def interrupted_migration(self) -> Restore:
        """A server that brings a database of the first schema up to date is killed, and goes on."""
        data = self.folder / f"old-{self.number()}"
        log = data.with_suffix(".log")
        old = Server(self.keys, data).init()
        old_database(data / "fota.db", rows=ROWS[:3])  # its audit trail is chained already on PostgreSQL
        (data / "operator.token").write_text("its tokens are in the database already")
        command = [*FOTA, "server", "run", "--data", str(data), "--port", "0", "--host", "127.0.0.1"]

        def begun(process: "subprocess.Popen[bytes]") -> bool:
            return databases.is_open(data / "fota.db") or process.poll() is not None

        for _ in range(2):
            with log.open("ab") as said:
                process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
            until(partial(begun, process), "its database")
            time.sleep(self.chance.random() / 5)
            process.kill()
            if process.wait() != -signal.SIGKILL:
                self.says(f"a migration ended by itself: {log.read_text()[-2000:]}")

        def restore() -> None:
            done = (
                fota("server", "doctor", "--data", str(data)) if old.start() and old.stop()[0] == 0 else None
            )
            if done is None or done.returncode != 0:
                self.says(f"a migration that was killed left {data}: {done and done.stderr}")
            if (found := databases.rows(data / "fota.db", "SELECT id FROM devices")) == []:
                self.says(f"a migration that was killed left {data} without its devices: {found}")
            shutil.rmtree(data)

        return restore

    # -- the end ---------------------------------------------------------------------------------------------

    def looks(self) -> None:
        """See that what operators were told is there, once, and that all is whole."""
        for server in self.servers:
            names = [group["name"] for group in pages(server, "groups", "groups")]
            for name in self.acknowledged:
                if names.count(name) != 1:
                    self.says(f"group {name} was acknowledged, and is there {names.count(name)} times")
            versions = [one["version"] for one in pages(server, "releases", "releases")]
            for built in self.published:
                if versions.count(built.version) != 1:
                    self.says(f"release {built.version} is there {versions.count(built.version)} times")
            done = fota("server", "doctor", "--data", str(server.data), env=CREDENTIALS)
            if done.returncode != 0:
                self.says(f"doctor: {done.stderr}")
            if "Traceback" in server.log.read_text():
                self.says(f"{server.log} has a traceback")


def connected(server: Server) -> Any:
    """A connection with the operator plane."""
    import socket
    import ssl

    context = ssl.create_default_context(cafile=str(server.keys.server_ca))
    plain = socket.create_connection(("127.0.0.1", server.operator_port), timeout=HANG_S)
    return context.wrap_socket(plain, server_hostname="localhost")


def pages(server: Server, path: str, name: str) -> list[dict[str, Any]]:
    """Return a whole list of the operator plane's, page by page."""
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        mark = "&" if "?" in path else "?"
        status, page = server.api("GET", f"{path}{mark}limit=1000{after}")
        assert status == 200, page
        found += page[name]
        if not page.get("next"):
            return found
        after = f"&after={page['next']}"


def mount(folder: Path, size: int) -> bool:
    """Make a disk of ``size`` bytes of a folder; return whether this user may."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    return os.geteuid() == 0 and libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, b"size=%d" % size) == 0


def unmount(folder: Path) -> None:
    import ctypes

    ctypes.CDLL(None).umount2(bytes(folder), 2)
