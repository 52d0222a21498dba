"""By which CAs a server is believed: agent on CPython, chip and server say the same of each case."""

import ssl
import sys
from pathlib import Path

import pytest
from test_firmware_tls_unix import make_pki, signing, talk

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))

import chip_world
from test_agent_tls import Server
from trust_cases import CASES, HOST_CASES, IDS, server_context, write_chain

from fota_agent.transport import tls_cpython
from fota_server.root_check import believes
from fota_wire import host_crypto
from fota_wire.errors import TransportError


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return make_pki(tmp_path_factory.mktemp("pki"))


def on_cpython(pki, trusted, host, port):
    key = tls_cpython.ElementKey(host_crypto.public_xy(pki.device_key), host_crypto.signer(pki.device_key))
    certificate = (pki.folder / "device.der").read_bytes()
    context = tls_cpython.client_context([one.der for one in trusted], certificate, key)
    try:
        tls_cpython.connector(host, port, context, key)().close()
    except TransportError:
        return False
    return True


def on_the_chip(pki, trusted, host, server):
    (pki.folder / "ca.der").write_bytes(b"".join(one.der for one in trusted))
    lines, _ = talk(server, pki.folder, signing(pki.device_key), host=host)
    ends = [line for line in lines if line.startswith(("answer 200", "error TransportError"))]
    assert ends, lines
    return ends[0].startswith("answer 200")


@pytest.mark.parametrize(("name", "shown", "trusted", "host", "believed"), CASES, ids=IDS)
def test_agent_chip_and_server_believe_the_same_servers(pki, tmp_path, name, shown, trusted, host, believed):
    pki.chain = write_chain(tmp_path / "chain.pem", shown)
    server = Server(pki, ssl.TLSVersion.TLSv1_3)
    try:
        assert on_cpython(pki, trusted, host, server.port) == believed
        if name not in HOST_CASES:  # what a server is called it asks apart
            assert believes([one.der for one in trusted], server_context(pki.chain)) == believed
        if chip_world.why_not():
            pytest.skip(chip_world.why_not())
        assert on_the_chip(pki, trusted, host, server) == believed
    finally:
        server.close()
