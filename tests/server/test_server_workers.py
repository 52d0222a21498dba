"""Several processes serve devices on one port: together they are one server (ADR 71)."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import BOTH
from lifeline import until
from server_world import Built, Device, Keys, Refused, Server, fota
from test_server_certificates import replace_server_certificate, serial_at

DATABASES = BOTH
WORKERS = 3


@pytest.fixture(scope="module")
def own(
    keys: Keys, releases: dict[str, Built], tmp_path_factory: pytest.TempPathFactory, database_kind: str
) -> Iterator[Server]:
    server = Server(keys, tmp_path_factory.mktemp("workers") / "data").init()
    server.options = ["--workers", str(WORKERS), "--log", "text"]
    server.start()
    server.publish(releases["1.1.0"])
    yield server
    code, stderr = server.stop()
    assert (code, "Traceback" in stderr) == (0, False), stderr


def workers_of(server: Server) -> list[int]:
    assert server.process
    path = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return [int(pid) for pid in path.read_text().split() if b"fota_server.worker" in command_of(pid)]


def command_of(pid: str | int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def connections_of(pid: int) -> int:
    """Return how many sockets a process has open."""
    return sum(str(fd.readlink()).startswith("socket:") for fd in Path(f"/proc/{pid}/fd").iterdir())


def counted(server: Server, name: str) -> float:
    text = server.api("GET", "metrics")[1]
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith(name + " ")))


def test_connections_go_to_every_process(own: Server) -> None:
    assert own.process
    pids = [own.process.pid, *workers_of(own)]
    assert len(pids) == WORKERS
    before = {pid: connections_of(pid) for pid in pids}
    open_ = []

    def all_have_one() -> bool:
        open_.append(Device(own))
        open_[-1].check_in()
        return all(connections_of(pid) > before[pid] for pid in pids)

    until(all_have_one)


def test_metrics_are_those_of_all_together(own: Server) -> None:
    name = 'fota_checkins_total{outcome="quiet"}'
    before, devices = counted(own, name), [Device(own) for _ in range(8)]
    for device in devices:
        device.check_in()
        device.check_in(with_report=False)
    assert counted(own, name) == before + 16
    assert counted(own, 'fota_open_connections{plane="device"}') >= 8


def test_budget_holds_over_all_processes(own: Server) -> None:
    devices = [Device(own) for _ in range(12)]
    own.api("POST", "groups", {"name": "all"})
    for device in devices:
        device.check_in()
    own.api("POST", "groups/all/devices", {"devices": [device.id for device in devices]})
    on_trial = own.api("GET", "limits")[1]["on_trial"]
    assert own.api("POST", "limits", {"trials": on_trial + 5})[0] == 200
    own.api("POST", "rollouts", {"version": "1.1.0", "group": "all"})
    given: list[str] = []

    def ask(device: Device) -> None:
        for _ in range(3):
            if device.check_in().wanted is not None:
                given.append(device.id)

    threads = [threading.Thread(target=ask, args=(device,)) for device in devices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(given)) == 5
    assert own.api("GET", "limits")[1]["on_trial"] == on_trial + 5
    assert own.api("POST", "limits", {"trials": None})[0] == 200


def test_retired_device_is_cut_off_wherever_it_is_connected(own: Server) -> None:
    devices = [Device(own) for _ in range(6)]
    for device in devices:
        device.check_in()
    for device in devices:
        assert own.api("POST", f"devices/{device.id}/retire", {})[0] == 200

    def is_over(device: Device) -> bool:
        assert device.connection
        return bool(device.connection.sock) and device.connection.sock.recv(4096) == b""

    for device in devices:
        until(lambda one=device: is_over(one))  # type: ignore[misc]
        device.close()
        with pytest.raises((OSError, Refused)):
            device.check_in()


def test_hang_up_signal_gives_every_process_the_new_certificate(own: Server) -> None:
    assert own.process
    old = serial_at(own.device_port)
    replace_server_certificate(own)
    own.process.send_signal(signal.SIGHUP)
    until(lambda: serial_at(own.operator_port) != old)
    new = serial_at(own.operator_port)
    until(lambda: {serial_at(own.device_port) for _ in range(4 * WORKERS)} == {new})


def test_worker_that_dies_is_replaced_and_what_it_had_acknowledged_is_there(
    keys: Keys, tmp_path: Path, releases: dict[str, Built]
) -> None:
    server = Server(keys, tmp_path / "data").init()
    server.options = ["--workers", "2"]
    server.start()
    try:
        server.publish(releases["1.1.0"])
        devices = [Device(server) for _ in range(8)]
        for device in devices:
            device.check_in()
            device.take(releases["1.1.0"], state="confirmed")
            assert device.check_in().response.report_status == "accepted"
        (old,) = workers_of(server)
        os.kill(old, signal.SIGKILL)
        until(lambda: workers_of(server) not in ([], [old]))
        for device in devices:
            assert server.api("GET", f"devices/{device.id}")[1]["running"]["version"] == "1.1.0"
            device.close()
            device.check_in()
    finally:
        code, stderr = server.stop()
    assert code == 0
    assert stderr.count("a worker ended (-9): another is started in its place") == 1
    assert "Traceback" not in stderr


@pytest.mark.sqlite
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_the_main_one(keys: Keys, tmp_path: Path, how: signal.Signals) -> None:
    server = Server(keys, tmp_path / "data").init()
    server.options = ["--workers", "2"]
    server.start()
    Device(server).check_in()
    pids = workers_of(server)
    assert len(pids) == 1
    server.stop(how)
    until(lambda: not any(b"fota_server.worker" in command_of(pid) for pid in pids))
    server.start()
    Device(server).check_in()
    assert server.stop()[0] == 0


@pytest.mark.sqlite
def test_worker_that_cannot_begin_ends_the_start_with_its_reason(keys: Keys, tmp_path: Path) -> None:
    server = Server(keys, tmp_path / "data").init()
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "sitecustomize.py").write_text(
        "import sys\nif 'fota_server.worker' in sys.orig_argv:\n"
        "    import resource\n    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
    )
    server.configure(device_connections=1000)
    command = ["server", "run", "--data", str(server.data), "--port", "0", "--workers", "2"]
    ended = fota(*command, env={"PYTHONPATH": str(tmp_path / "python")})
    assert ended.returncode == 5
    assert "raise LimitNOFILE" in ended.stderr
    assert ended.stderr.splitlines()[-1].endswith("its line above says why")
    assert "Traceback" not in ended.stderr
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False)
    assert left.stdout == ""
