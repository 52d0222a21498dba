"""The modem: outbound only, to allowed addresses only; what reset, power cut and snapshot leave of it."""

import socket
import struct
import threading
from contextlib import suppress

import pytest
from lifeline import HANG_S

from fota_vdev.cells.board import MODEM_PLACE
from fota_vdev.chips.esp32c3.board import UART1
from fota_vdev.chips.esp32c3.uart import CLK_CONF, CLKDIV, FIFO, STATUS
from fota_vdev.machine import Machine
from fota_vdev.models import MODELS
from fota_vdev.modem import peripheral as modem
from fota_vdev.modem.network import HostNetwork, Recorder, Replay, Tape
from fota_vdev.parts.bus import UnmodelledError
from fota_wire.errors import DeviceError


class Echo:
    """A server on the loopback that sends back what it gets, in capitals."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            with connection, suppress(ConnectionError):
                while data := connection.recv(100):
                    if data == b"quit":
                        return
                    connection.sendall(data.upper())
            self.ended.set()

    def close(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as last:
            last.sendall(b"quit")
            self.thread.join(HANG_S)
        self.listener.close()


@pytest.fixture
def echo():
    server = Echo()
    yield server
    server.close()


class Driver:
    """What the firmware's modem.c does, from the host; on the external bus."""

    def __init__(self, machine) -> None:
        self.m = machine.mem32

    def get(self, register):
        return self.m[MODEM_PLACE[0] + register]

    def set(self, register, value):
        self.m[MODEM_PLACE[0] + register] = value

    def push(self, data):
        self.set(modem.LENGTH, len(data))
        for at in range(0, len(data), 4):
            self.set(modem.DATA, int.from_bytes(data[at : at + 4], "little"))

    def pull(self, n):
        self.set(modem.LENGTH, n)
        words = [self.get(modem.DATA) for _ in range(0, n, 4)]
        return struct.pack(f"<{len(words)}I", *words)[:n]

    def __getattr__(self, name):
        return self.get(getattr(modem, name))

    def connect(self, host, port):
        self.set(modem.PORT, port)
        self.push(host.encode())
        self.set(modem.COMMAND, modem.CONNECT)

    def send(self, data):
        self.push(data)
        self.set(modem.COMMAND, modem.SEND)

    def wait(self, ms):
        self.set(modem.WAIT, ms)

    def receive(self):
        return self.pull(self.AVAILABLE)


class LineDriver(Driver):
    """The same at the end of UART1 of an ESP32-C3."""

    def put(self, data, divider=43):
        self.m[UART1 + CLK_CONF] = 3 << 20 | 1 << 22  # from the crystal
        self.m[UART1 + CLKDIV] = divider | 6 << 20  # 921,600 baud
        for byte in data:
            self.m[UART1 + FIFO] = byte

    def take(self, n):
        out = bytearray()
        while len(out) < n:
            assert self.m[UART1 + STATUS] & 0x3FF, "the modem says nothing"
            out.append(self.m[UART1 + FIFO])
        assert len(out) == n
        return bytes(out)

    def get(self, register):
        self.put([register])
        return int.from_bytes(self.take(4), "little")

    def set(self, register, value):
        self.put([register | 1, *value.to_bytes(4, "little")])

    def push(self, data):
        self.set(modem.LENGTH, len(data))
        self.put([modem.DATA | 1, *data])

    def pull(self, n):
        self.set(modem.LENGTH, n)
        self.put([modem.DATA])
        return self.take(n)


DRIVERS = {"stm32l476": Driver, "esp32c3": LineDriver}


@pytest.fixture(params=DRIVERS)
def made(request):
    machines = []

    def make(network):
        machine = Machine(seed=1, chip=MODELS[request.param])
        machines.append(machine)
        parts = modem.attach(machine, network)
        machine.power_on()
        return machine, parts, DRIVERS[request.param](machine)

    yield make
    for machine in machines:
        machine.power_off()


def test_what_is_sent_arrives_and_what_comes_is_read(echo, made):
    machine, parts, d = made(HostNetwork())
    assert d.ID == modem.ID_VALUE
    d.connect("localhost", echo.port)
    assert d.STATUS == modem.OPEN
    d.send(b"hello, world")
    d.wait(HANG_S)
    assert d.receive() == b"HELLO, WORLD"
    assert parts.connections == [("localhost", echo.port)]
    machine.power_off()
    assert echo.ended.wait(HANG_S)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_address_that_is_not_allowed_is_refused_before_any_packet(made, host, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *a: pytest.fail("a connection was tried"))
    _, _, d = made(HostNetwork())
    d.connect(host, 443)
    assert d.STATUS == modem.BROKEN


def test_there_is_no_command_to_listen(made):
    machine, parts, _ = made(HostNetwork())
    for command in (0, *range(4, 256)):
        with pytest.raises(UnmodelledError, match="connect, send and close"):
            parts.write(modem.COMMAND, command)
    assert not [name for name in dir(modem) if "listen" in name.lower() or "accept" in name.lower()]
    assert machine.powered


@pytest.mark.parametrize("end", ["reset", "cut"])
def test_reset_and_power_cut_end_the_connection_and_empty_the_buffers(echo, made, end):
    machine, _, d = made(HostNetwork())
    d.connect("127.0.0.1", echo.port)
    d.send(b"x" * 50)
    d.wait(HANG_S)
    if end == "cut":
        machine.power_off()
        machine.power_on()
    else:
        machine.reset("pin")
    assert echo.ended.wait(HANG_S)
    assert (d.STATUS, d.AVAILABLE) == (0, 0)


VIRTUAL_MS = 30_000
"""Of the chip's own clock."""


def test_waiting_without_a_connection_takes_virtual_time_only(made):
    machine, _, d = made(HostNetwork())
    before = machine.time_us
    d.wait(VIRTUAL_MS)
    assert machine.time_us - before == 30_000_000


def test_live_connection_is_broken_after_going_back_to_a_snapshot(echo, made):
    machine, _, d = made(HostNetwork())
    d.connect("127.0.0.1", echo.port)
    then = machine.snapshot()
    machine.restore(then)
    assert d.STATUS == modem.BROKEN


def test_recording_is_replayed_from_any_snapshot(echo, made):
    tape = Tape()
    first, _, d = made(Recorder(HostNetwork(now_s=1_800_000_000), tape))

    def talk(d):
        d.send(b"abc")
        d.wait(HANG_S)
        return d.receive()

    d.connect("localhost", echo.port)
    assert d.TIME == 1_800_000_000
    said = [talk(d), talk(d)]
    first.power_off()
    machine, _, d = made(Replay(tape))
    d.connect("localhost", echo.port)
    assert d.TIME == 1_800_000_000
    assert talk(d) == said[0]
    then = machine.snapshot()
    assert [talk(d)] == said[1:]
    machine.restore(then)
    assert [talk(d)] == said[1:]
    d.send(b"more")
    assert d.STATUS == modem.BROKEN  # the tape is at its end


def test_message_longer_than_the_buffer_ends_the_run(made):
    _, parts, _ = made(HostNetwork())
    parts.write(modem.LENGTH, modem.LONGEST)
    with pytest.raises(UnmodelledError, match="at most"):
        parts.write(modem.LENGTH, modem.LONGEST + 1)


def test_line_of_another_speed_ends_the_run():
    machine = Machine(seed=1, chip=MODELS["esp32c3"])
    modem.attach(machine, HostNetwork())
    machine.power_on()
    with pytest.raises(DeviceError, match="115191 baud; the other end listens at 921600"):
        machine.mem32[UART1 + FIFO] = 0


def test_snapshot_in_the_middle_of_a_request_goes_on_there():
    machine = Machine(seed=1, chip=MODELS["esp32c3"])
    modem.attach(machine, HostNetwork())
    machine.power_on()
    driver = LineDriver(machine)
    driver.put([modem.LENGTH | 1, 3])
    then = machine.snapshot()
    driver.put([0, 0, 0, modem.ID])
    machine.restore(then)
    driver.put([0, 0, 0, modem.ID])
    assert int.from_bytes(driver.take(4), "little") == modem.ID_VALUE
    assert not machine.mem32[UART1 + STATUS] & 0x3FF, "no other request was heard"
