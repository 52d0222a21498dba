"""Runs the engine over the lies of ``tests/vectors/lies.json``: for CPython and MicroPython, without pytest.

import json, lies
print(lies.run(json.load(open("lies.json")), verify))      # [] = all as they have to be
"""

import binascii

from fota_agent.engine.engine import Engine
from fota_agent.engine.state import State, decode
from fota_wire import cbor
from fota_wire.bootreport import BootReport


class Identity:
    """The device of the table."""

    def __init__(self, table):
        self.device_id = binascii.unhexlify(table["device"])
        self.vendor_id = binascii.unhexlify(table["vendor"])
        self.class_id = binascii.unhexlify(table["class"])
        self.genesis_root = binascii.unhexlify(table["genesis"])
        self.max_counter_step = 255
        self.slot_size = 0x7C000


def run(table, verify):
    """Return [(name, what is wrong)] of the cases that did not end as they have to."""
    identity = Identity(table)
    boot = BootReport()
    boot.running = boot.confirmed = 0x5A
    wrong = []
    for case in table["cases"]:
        engine = Engine(identity, boot, State(), verify, half)
        engine.start(0)
        engine.nonce(0, binascii.unhexlify(table["nonce"]))
        answer = cbor.decode(binascii.unhexlify(table["answer"]))
        if case["value"] is None:
            del answer[case["key"]]
        else:
            answer[case["key"]] = cbor.decode(binascii.unhexlify(case["value"]))
        complaint = judge(engine, engine.response(10, cbor.encode(answer)), case)
        if complaint:
            wrong.append((case["name"], complaint))
    return wrong


def judge(engine, action, case):
    """Return what is wrong with the outcome of one case, or an empty text."""
    if (action.kind == "compare-running") != case["pursued"]:
        return "pursued" if action.kind == "compare-running" else "not pursued: " + engine.outcome
    if not 0 <= action.until <= 8 * 86400 * 1000:
        return f"waits until {action.until}"
    if engine.state.pending or engine.state.writing or engine.root.version != 1:
        return "left a mark"
    if decode(b"".join([bytes(part) for part in engine.state.parts(6128)])).events != engine.state.events:
        return "its memory does not read back"
    if case["error"] is None:
        return "" if engine.error is None else "refused: " + str(engine.error)
    if len(engine.state.events) != 1 or engine.state.events[0][0] != "refused":
        return f"gave {len(engine.state.events)} reasons"
    detail = engine.state.events[0][1]
    return "" if case["error"][:40] in detail else "says " + detail


def half(limit):
    """A jitter that tests can count on."""
    return limit // 2
