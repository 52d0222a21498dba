"""The power fails while a CAMPAIGN is in force: the device never takes what lies outside of it, and is never
lost. The server is a liar's, who has the ASSIGN key and names what people have not signed for this device;
the agent is cut at flash operations of its store and of an update, before them and in their middle.

`make test` cuts at one operation in `STRIDE`, `make campaign` (``EVERY=1``) at each.
"""

import os
from contextlib import suppress

import pytest

from fota_vdev.snapshot import Snapshots
from fota_wire import checkin, journal
from fota_wire.errors import DeviceError

from .conftest import Device, Key
from .test_agent_campaign import ALL, TIME, document, root_with

STRIDE = 1 if os.environ.get("EVERY") else 37
TORN = (None, 1)
LONG_S = 600  # of the device's time: some check-ins, with their back-off


class Liar:
    """Speaks for the server: ROOT 2 has CAMPAIGN keys; what ``document`` says goes with the release."""

    def __init__(self, world) -> None:
        self.world, self.keys = world, [Key() for _ in range(3)]
        self.root = root_with(world, self.keys, version=2)
        self.outside = document(world, self.keys[:2], (0, TIME * 2, ALL, "another"))
        self.inside = document(world, self.keys[:2], (0, TIME * 2, ALL, ""))
        self.document = self.outside

    def tell(self, network, body):
        plain = checkin.parse_response(network.plainly(body))
        if checkin.parse_request(body).root_version < 2:
            plain.roots = [self.root]
        plain.campaign = self.document
        return checkin.encode_response(plain, plain.manifest is None)


@pytest.fixture
def told_lies(world):
    """A device of a fleet that goes over to CAMPAIGNs, before it has heard of that."""
    device = Device(world)
    device.liar = Liar(world)
    network = device.network
    network.plainly, network.checkin = network.checkin, lambda body: device.liar.tell(network, body)
    network.wanted, network.order = world.v2, {"root_version": 2}
    return device


def elsewhere(device):
    """What must not change: the other slot, and what the bootloader is told."""
    return device.slot(2, 2 * len(device.world.v2.image)), device.journal()


def live(device):
    """One life of the agent; it ends with a reset, without power, or `LONG_S` later."""
    agent = device.agent()
    with suppress(DeviceError):  # no power, where it did not expect that
        device.run(agent, LONG_S)
    return agent


def cuts(device, begin, stride):
    """Have the power fail at one operation in ``stride`` of what follows ``begin``, before it and within it;
    yield what to say of each, the device switched on again.
    """
    live(device)
    operations = device.machine.flash.operations
    for operation in range(1, operations + 1, stride):
        for torn in TORN:
            begin()
            device.machine.cut_power_at(flash_op=operation, torn=torn)
            live(device)
            assert not device.machine.powered
            device.boot(device.world.v1)
            yield f"cut at operation {operation} of {operations}, torn {torn}"


def assert_repaired(device, why):
    """Whom people have signed for gets it."""
    device.liar.document = device.liar.inside
    device.boot(device.world.v1)
    assert live(device).rebooting, why
    assert device.journal().state == journal.STAGED, why
    assert device.slot(2, len(device.world.v2.image)) == device.world.v2.image, why


def test_cut_at_an_operation_of_the_store_takes_nothing_outside_and_loses_no_device(told_lies):
    device = told_lies
    start, before = Snapshots(device.machine), elsewhere(device)
    blank = start.take()

    def begin():
        start.restore(blank)
        device.liar.document = device.liar.outside
        device.boot(device.world.v1)

    for why in cuts(device, begin, STRIDE):
        agent = live(device)
        assert elsewhere(device) == before, why
        assert (agent.engine.root.version, agent.engine.state.installed) == (2, None), why
        assert "in no wave" in agent.engine.outcome, why
        assert_repaired(device, why)


def test_cut_at_an_operation_of_an_update_that_is_then_out_of_scope_finishes_nothing(told_lies):
    device = told_lies
    live(device)  # it has ROOT 2
    start, before = Snapshots(device.machine), device.journal()
    at_rest = start.take()

    def begin():
        start.restore(at_rest)
        device.liar.document = device.liar.inside
        device.boot(device.world.v1)

    begin()
    for why in cuts(device, begin, 13 * STRIDE):
        if device.journal() != before:
            continue  # it was asked for while that was allowed
        device.liar.document = device.liar.outside
        slot = elsewhere(device)
        agent = live(device)
        assert elsewhere(device) == slot, why
        assert (agent.engine.root.version, agent.engine.state.pending) == (2, None), why
        assert "in no wave" in agent.engine.outcome, why
        assert_repaired(device, why)
