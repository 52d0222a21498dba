"""The whole agent on the virtual device's flash and element: updates, cuts, rollback, reports."""

import contextlib
import random
from itertools import pairwise

import pytest

from fota_agent.agent import Agent
from fota_agent.boards.atecc608 import Atecc608, with_crc
from fota_agent.transport.download import MIN_RATE, UNIT, WINDOW_MS, Pace
from fota_wire import checkin, host_crypto, journal, layout, settings, status
from fota_wire.chips import stm32l476
from fota_wire.errors import DeviceError, TransportError

PAGE = stm32l476.PAGE_SIZE
SLOT_PAGES = range(stm32l476.SLOT_OFFSET // PAGE, stm32l476.BANK_SIZE // PAGE)


def slot_work(device):
    """Return (page erases, double words) inside the slots so far."""
    operations = [op for op in device.machine.flash.log if op.offset >= stm32l476.SLOT_OFFSET]
    return len([op for op in operations if op.kind == "erase"]), len(operations)


def test_element_answers_serial_random_key_and_signature(device, world):
    element = Atecc608(device.machine.i2c, device.machine.sleep_us)
    assert element.serial_number() == device.element.serial
    assert element.public_key() == world.device.xy
    first, second = element.random(), element.random()
    assert len(first) == len(second) == 32
    assert first != second
    digest = bytes(range(32))
    assert host_crypto.verify(world.device.xy, digest, element.sign(digest))
    assert device.element.status == "asleep"
    assert device.element.unmodelled == []


def test_element_refuses_a_slot_that_may_not_sign(device):
    with pytest.raises(DeviceError) as caught:
        Atecc608(device.machine.i2c, device.machine.sleep_us).sign(bytes(32), slot=9)
    assert caught.value.code == status.CE5


def test_absent_element_is_told_after_a_bounded_time(device):
    started = device.machine.time_us
    with pytest.raises(DeviceError) as caught:
        Atecc608(device.machine.i2c, device.machine.sleep_us, address=0x35).random()
    assert caught.value.code == status.CE1
    assert device.machine.time_us - started < 2_000_000


def test_failed_self_test_of_the_element_is_told(device):
    device.element.post_failure = True
    with pytest.raises(DeviceError) as caught:
        Atecc608(device.machine.i2c, device.machine.sleep_us).random()
    assert caught.value.code == status.CE6


class Damage:
    """Flips a bit in long answers: the first ``times`` of them."""

    def __init__(self, times) -> None:
        self.times = times

    def on_write(self, address, data):
        return data

    def on_read(self, address, data):
        if len(data) < 30 or self.times == 0:
            return data
        self.times -= 1
        return data[:5] + bytes([data[5] ^ 1]) + data[6:]


@pytest.mark.parametrize(("times", "good"), [(1, True), (2, True), (9, False)])
def test_damaged_answers_are_read_again_and_then_given_up(device, times, good):
    device.machine.i2c_tamper = Damage(times)
    element = Atecc608(device.machine.i2c, device.machine.sleep_us)
    if good:
        assert len(element.random()) == 32
        return
    with pytest.raises(DeviceError) as caught:
        element.random()
    assert caught.value.code == status.CE2


def test_element_busy_with_a_command_from_before_a_reset_is_waited_for(device):
    bus = device.machine.i2c
    with pytest.raises(OSError, match="acknowledges"):
        bus.writeto(0, b"")
    device.machine.sleep_us(1500)
    bus.writeto(0x60, b"\x03" + with_crc(bytes.fromhex("0740040000")))
    assert len(Atecc608(bus, device.machine.sleep_us).random()) == 32


def test_element_that_is_awake_already_is_brought_back_into_step(device):
    bus = device.machine.i2c
    with pytest.raises(OSError, match="acknowledges"):
        bus.writeto(0, b"")
    device.machine.sleep_us(1500)
    bus.writeto(0x60, b"\x03\x07\x1b")
    assert len(Atecc608(bus, device.machine.sleep_us).random()) == 32


def test_board_with_another_element_does_not_start(device):
    paired = settings.unpack(device.machine.flash.read_phys(1, stm32l476.SETTINGS_OFFSET, settings.SIZE))
    paired.serial = bytes(9)
    device.machine.flash.write_phys(1, stm32l476.SETTINGS_OFFSET, settings.pack(paired))
    with pytest.raises(DeviceError, match="not the one of this board"):
        device.board()


def test_each_checkin_draws_a_fresh_nonce_from_the_element(device, world):
    device.network.wanted = world.v1
    agent = device.run()
    for _ in range(3):
        device.now += 1000
        agent.check_in()
        while agent.step() == 0:
            pass
    nonces = device.network.nonces
    assert len(nonces) == len(set(nonces)) >= 5
    drawn = [name for name, _, _ in device.element.commands if name == "Random"]
    assert len(drawn) >= len(nonces)


@pytest.mark.parametrize(
    ("status", "exit_code"), [pytest.param(401, 1), pytest.param(403, 1), pytest.param(500, 4)]
)
def test_device_that_is_not_wanted_is_refused_and_the_server_not_unreachable(device, status, exit_code):
    device.network.refuse_checkin = (status, {})
    agent = device.run(seconds=1)
    assert agent.engine.error.exit_code == exit_code
    assert str(agent.engine.error) == f"server answers {status}: busy: try later"


def test_server_that_is_busy_is_left_alone_as_long_as_it_says(device):
    network = device.network
    network.refuse_checkin = (503, {"retry-after": "600"})
    agent = device.run(seconds=1)
    assert device.now == 600_000
    assert len(network.requests) == 1
    assert device.hooks.lines == ["server answers 503: busy: try later"]
    network.refuse_checkin = None
    network.wanted = device.world.v1
    assert device.run(agent).engine.settled


def test_board_with_spoilt_factory_data_does_not_start(device):
    device.machine.flash.write_phys(1, stm32l476.SETTINGS_OFFSET + 30, b"\x00")
    with pytest.raises(DeviceError) as caught:
        device.board()
    assert caught.value.code == status.SE1


def test_update_installs_requests_tries_confirms_and_reports(device, world):
    network = device.network
    network.wanted = world.v2
    agent = device.run()
    assert agent.rebooting
    assert device.slot(2, len(world.v2.image)) == world.v2.image
    assert device.slot(1, len(world.v1.image)) == world.v1.image
    record = device.journal()
    assert (record.confirmed, record.candidate, record.state) == (
        layout.SLOT_A,
        layout.SLOT_B,
        journal.STAGED,
    )
    padded = world.v2.image + b"\xff" * (-len(world.v2.image) % 8)
    words = [padded[at : at + 8] for at in range(0, len(padded), 8)]
    assert slot_work(device) == (0, len(words) - words.count(b"\xff" * 8))

    trial = journal.Record(record.sequence + 1, layout.SLOT_A, layout.SLOT_B, journal.TRIAL, 2)
    device.machine.flash.write_phys(2, 16, journal.pack(trial))
    device.boot(world.v2, layout.SLOT_B, trial=True, candidate=layout.SLOT_B, state=journal.TRIAL)
    agent = device.run()
    assert agent.engine.settled
    record = device.journal()
    assert (record.confirmed, record.candidate, record.state) == (
        layout.SLOT_B,
        layout.SLOT_NONE,
        journal.NONE,
    )
    states = [(report.slot, report.version, report.state) for report in network.reports]
    assert states == [("B", "1.1.0", "trial"), ("B", "1.1.0", "confirmed")]
    assert network.reports[-1].installed == world.v2.manifest_digest

    work = slot_work(device)
    network.wanted = world.v1
    device.boot(world.v2, layout.SLOT_B)
    agent = device.run()
    assert agent.rebooting
    assert slot_work(device) == work  # rollback without an erase or a write in any slot
    assert (device.journal().candidate, device.journal().state) == (layout.SLOT_A, journal.STAGED)
    assert [path for _, path, _ in network.requests if "payload" in path] == [
        "/v1/payload/" + world.v2.digest.hex()
    ]


def test_nothing_wanted_costs_one_round_trip_and_no_flash_once_reported(device, world):
    device.network.wanted = world.v1
    agent = device.run()
    assert agent.engine.settled
    operations, requests = device.machine.flash.operations, len(device.network.requests)
    device.now += agent.step()
    while len(device.network.requests) == requests:
        device.now += agent.step()
    while agent.step() == 0:
        pass
    assert len(device.network.requests) == requests + 1
    assert device.machine.flash.operations == operations
    assert device.network.payload_bytes < 10_000


def first_byte(headers):
    return int(headers.get("Range", "bytes=0-")[6:].partition("-")[0])


def test_network_cuts_cost_nothing_that_arrived(device, world):
    generator = random.Random(11)
    release = world.release_of((1, 3, 0), 4, 4, size=60_000)
    device.network.releases.append(release)
    device.network.wanted = release
    cuts = [generator.randrange(0, 9000) for _ in range(14)]
    device.network.cuts = list(cuts)
    device.network.order["valid_for"] = 10_000_000
    agent = device.run(seconds=10_000_000)
    assert agent.rebooting
    assert device.slot(2, len(release.image)) == release.image
    payload = [headers for _, path, headers in device.network.requests if "payload" in path]
    starts = [first_byte(headers) for headers in payload]
    assert all(earlier <= later for earlier, later in pairwise(starts))
    assert device.network.payload_bytes <= len(release.image) + len(cuts) * (UNIT - 1) + 2000  # and check-ins
    assert slot_work(device)[0] == 0


def test_power_cuts_keep_the_old_image_and_cost_at_most_one_page_again(device, world):
    generator = random.Random(5)
    release = world.release_of((1, 3, 0), 4, 4, size=40_000)
    network = device.network
    network.releases.append(release)
    network.wanted = release
    cuts = 0
    for attempt in range(60):
        device.machine.cut_power_at(flash_op=generator.randrange(1, 900), torn=attempt)
        agent = device.run()
        assert device.slot(1, len(world.v1.image)) == world.v1.image
        if agent.rebooting and device.machine.powered:
            break
        cuts += 1
        device.boot(world.v1)
    assert cuts > 3
    assert device.slot(2, len(release.image)) == release.image
    assert (device.journal().candidate, device.journal().state) == (layout.SLOT_B, journal.STAGED)
    starts = [
        first_byte(headers)
        for _, path, headers in network.requests
        if "payload" in path and headers.get("Range")
    ]
    assert starts == sorted(starts)  # what was complete stays complete


def test_store_keeps_old_or_new_at_every_power_cut(device):
    board = device.board()
    board.save_store([b"old" * 900])
    probe = device.machine.flash.operations
    board.save_store([b"new" * 900])
    total = device.machine.flash.operations - probe
    board.save_store([b"old" * 900])
    for operation in range(1, total + 1, 7):
        for torn in (None, operation):
            assert board.load_store() == b"old" * 900
            device.machine.cut_power_at(flash_op=operation, torn=torn)
            with pytest.raises(DeviceError):
                board.save_store([b"new" * 900])
            device.boot(device.world.v1)
            board = device.board()
            assert board.load_store() in (b"old" * 900, b"new" * 900)
            board.save_store([b"old" * 900])


def test_journal_is_old_or_new_at_every_power_cut_even_when_its_page_turns_over(device):
    for number in range(1, 128):
        record = journal.Record(number, layout.SLOT_A, layout.SLOT_NONE, journal.NONE)
        device.machine.flash.write_phys(2, (number - 1) * 16, journal.pack(record))
    for cells in (127, 128):
        record = journal.Record(cells, layout.SLOT_A, layout.SLOT_NONE, journal.NONE)
        device.machine.flash.write_phys(2, (cells - 1) * 16, journal.pack(record))
        page = device.machine.flash.read_phys(2, 0, PAGE)
        for operation in (1, 2, 3):
            for torn in (None, 1, 2, 3):
                device.machine.flash.write_phys(2, 0, page)
                device.machine.flash.write_phys(2, PAGE, bytes(PAGE))
                board = device.board()
                device.machine.cut_power_at(flash_op=operation, torn=torn)
                with contextlib.suppress(DeviceError):
                    board.request()
                device.boot(device.world.v1)
                left = device.journal()
                assert (left.sequence, left.state) in [(cells, journal.NONE), (cells + 1, journal.STAGED)]
                device.board().request()
                assert device.journal().state == journal.STAGED


def test_trial_that_fails_its_health_check_is_rejected_and_reset(device, world):
    trial = journal.Record(5, layout.SLOT_A, layout.SLOT_B, journal.TRIAL, 2)
    device.machine.flash.write_phys(2, 0, journal.pack(trial))
    device.boot(world.v2, layout.SLOT_B, trial=True, candidate=layout.SLOT_B, state=journal.TRIAL)
    device.machine.mem32[stm32l476.HEALTH_ADDRESS] = layout.HEALTH_BAD
    agent = device.run()
    assert agent.rebooting
    record = device.journal()
    assert (record.candidate, record.state, record.tries) == (layout.SLOT_B, journal.TRIAL, 0)
    assert record.reason == status.AP1
    assert device.network.requests == []


def test_request_during_a_trial_is_refused_by_the_board(device, world):
    trial = journal.Record(5, layout.SLOT_A, layout.SLOT_B, journal.TRIAL, 2)
    device.machine.flash.write_phys(2, 0, journal.pack(trial))
    device.boot(world.v2, layout.SLOT_B, trial=True)
    with pytest.raises(Exception, match="trial is running"):
        device.board().request()
    assert device.journal() == trial


def refuse_download(device, word):
    device.network.wanted = device.world.v2
    agent = device.run(seconds=20)
    assert not agent.rebooting
    assert device.journal().sequence == 0
    assert any(word in line for line in device.hooks.lines), device.hooks.lines
    return agent


def test_endless_data_is_refused_before_its_first_byte(device):
    device.network.change_payload = lambda status, headers, body: (status, headers, body + bytes(1))
    refuse_download(device, "bytes offered")
    assert slot_work(device) == (0, 0)


def test_truncated_offer_is_refused(device):
    device.network.change_payload = lambda status, headers, body: (status, headers, body[:-1])
    refuse_download(device, "bytes offered")


def test_flipped_byte_in_the_payload_is_never_requested(device):
    device.network.change_payload = lambda status, headers, body: (
        status,
        headers,
        body[:9000] + bytes([body[9000] ^ 1]) + body[9001:],
    )
    agent = refuse_download(device, "not the image of the manifest")
    assert agent.engine.state.installed is None
    assert agent.engine.state.writing is None


@pytest.mark.parametrize(("rate", "good"), [(MIN_RATE - 1, False), (MIN_RATE, True), (MIN_RATE + 1, True)])
def test_slow_retrieval_ends_at_the_minimum_rate(rate, good):
    clock = [0]
    pace = Pace(lambda: clock[0], 10_000_000)

    def transfer():
        for _ in range(600):
            clock[0] += 1000
            pace.count(rate)

    if good:
        transfer()
        return
    with pytest.raises(TransportError, match="slow retrieval: below"):
        transfer()
    assert clock[0] == WINDOW_MS


def test_slow_retrieval_ends_at_the_total_deadline():
    clock = [0]
    pace = Pace(lambda: clock[0], MIN_RATE * 100)
    clock[0] = 219_000
    pace.count(10_000_000)
    clock[0] = 221_000
    with pytest.raises(TransportError, match="slow retrieval: not done"):
        pace.count(10_000_000)


def test_slow_download_is_given_up_and_nothing_requested(device):
    def slowly():
        device.now += 16_000

    def only_payload(method, path):
        device.network.on_read = slowly if "payload" in path else lambda: None

    device.network.on_request = only_payload
    device.network.order["valid_for"] = 100_000
    device.network.wanted = device.world.v2
    agent = device.agent()
    while "slow retrieval" not in "".join(device.hooks.lines) and device.now < 10_000_000:
        device.now += agent.step()
    assert device.now < 2_000_000
    assert not agent.rebooting
    assert device.journal().sequence == 0


def test_server_that_answers_errors_is_left_alone_as_long_as_it_says(device):
    network = device.network
    network.wanted = device.world.v2
    network.change_payload = lambda status, headers, body: (503, {}, b"")
    agent = device.run(seconds=20)
    assert not agent.rebooting
    assert "payload: server answers 503" in device.hooks.lines


def test_board_with_little_room_says_so_in_each_check_in(device):
    bodies, board = [], device.board()
    board.longest_answer = checkin.LEAST_ANSWER
    answer = device.network.checkin
    device.network.checkin = lambda body: bodies.append(body) or answer(body)
    device.run(Agent(board, device.network, device.hooks))
    assert {checkin.parse_request(body).longest_answer for body in bodies} == {checkin.LEAST_ANSWER}
