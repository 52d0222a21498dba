"""For MicroPython and CPython: what of the agent's suites needs no pytest. Prints ``ok`` or what failed.

micropython tests/agent/micropython_suite.py REPO CASES.json
"""

import json
import sys

sys.path[:0] = [sys.argv[1] + "/" + part for part in ("agent", "wire", "tests/agent")]

import lies

from fota_agent.engine import haste, telemetry
from fota_agent.engine.clock import Clock
from fota_agent.engine.state import State, decode
from fota_agent.schedule import Schedule, parse_window
from fota_agent.transport.folder import Folder
from fota_wire import assignment, p256
from fota_wire import root as roots
from fota_wire.errors import FotaError

DEVICE = bytes.fromhex("0123aabbccddeeff01")
known = {}


def verify(*case):
    """Verify; the same signature only once, the interpreter being slow."""
    if case not in known:
        known[case] = p256.verify(*case)
    return known[case]


def signatures(cases):
    for public, digest, signature, good in cases:
        if p256.verify(*[bytes.fromhex(text) for text in (public, digest, signature)]) is not good:
            return "p256: " + signature
    return ""


def refuses(function, *args):
    try:
        function(*args)
    except FotaError:
        return True
    return False


def publishing():
    state = State()
    for number in range(100):
        name, text = telemetry.encode("n", {"value": number})
        telemetry.add(state, (name, number, text))
    copy = decode(b"".join([bytes(part) for part in state.parts(6000)]))
    if copy.telemetry != state.telemetry or len(copy.telemetry) != telemetry.MAX_VALUES:
        return "telemetry does not survive"
    sent = telemetry.batch(state)
    telemetry.add(state, ("late", 0, "1"))
    telemetry.delivered(state, sent)
    if [topic for topic, _, _ in state.telemetry][-1] != "late" or len(state.telemetry) != 9:
        return "telemetry is not delivered: " + str(len(state.telemetry))
    taken = [topic for topic in ("", "a b", "t" * 33) if not refuses(telemetry.encode, topic, 1)]
    return "topics taken: " + str(taken) if taken else ""


def limits():
    state = State()
    limit = haste.Haste(state)
    limit.start(0)
    for _ in range(haste.BURST):
        limit.count()
    if limit.allows(1000) or not limit.allows(haste.CALM_MS):
        return "haste"
    clock = Clock(state)
    clock.learn(0, 1795000000, 1800000000)
    if clock.time(5000) != 1795000005 or state.time != 1795000000:
        return "clock"
    return ""


def schedules():
    class Wanted:
        manifest_digest = bytes(32)

    night = Schedule(windows=(parse_window("22:00-02:00"),))
    if not night.may_install(Wanted, 23 * 3600) or night.may_install(Wanted, 12 * 3600):
        return "window"
    ask = Schedule("notify")
    if ask.may_download(Wanted):
        return "no consent"
    ask.approve(bytes(32))
    return "" if ask.may_download(Wanted) else "consent"


def orders(cases, genesis):
    root = roots.unsafe_read_root(bytes.fromhex(genesis))
    for case in cases:
        raw = memoryview(bytes.fromhex(case["hex"]))
        try:
            assignment.open_assignment(raw, root, bytes(range(16)), DEVICE, verify)
            code = None
        except FotaError as exc:
            code = exc.code
        if code != case["error"]:
            return case["name"] + ": " + str(code)
    return ""


def cards(path):
    if not refuses(Folder("/nowhere").envelope):
        return "no card"
    card = Folder(path)
    status, headers, reader = card.request("GET", "/v1/payload/x", {"Range": "bytes=3-"})
    buffer = bytearray(10)
    count = reader.readinto(memoryview(buffer))
    if (status, headers, bytes(buffer[:count])) != (206, {"content-range": "bytes 3-5/6"}, b"def"):
        return "card"
    return ""


def main():
    with open(sys.argv[2]) as file:  # noqa: PTH123  MicroPython has no pathlib
        table = json.load(file)
    from fota_agent import Agent, board

    steps = [
        ("import", lambda: "" if callable(board.detect) and callable(Agent) else "import"),
        ("signatures", lambda: signatures(table["signatures"])),
        ("publishing", publishing),
        ("limits", limits),
        ("schedules", schedules),
        ("orders", lambda: orders(table["orders"], table["genesis"])),
        ("cards", lambda: cards(table["card"])),
        ("lies", lambda: "; ".join([str(item) for item in lies.run(table["lies"], verify)])),
    ]
    for name, step in steps:
        complaint = step()
        if complaint:
            print(name + ": " + complaint)
            return
    print("ok", sys.implementation.name, len(table["lies"]["cases"]), len(table["signatures"]))


main()
