"""The server's own keys in stores, ASSIGN behind `fota server signer` and the LOG key in its `receipt_key`;
by AWS KMS (moto) and by another program. PKCS#11: test_server_token.py.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ecdsa import NIST256p
from ecdsa import SigningKey as Witness
from kms import SECRET, Kms, served
from server_world import Device, Keys, Refused, Server, build_release
from test_server_signer import Signer, place  # noqa: F401 - a fixture

from fota_signer.keys import PublicKey, label_line
from fota_wire import cose, host_crypto, receipt, suit
from fota_wire import root as roots
from fota_wire.host_keys import place_of

TOOL = """
import pathlib, sys
from ecdsa import NIST256p, SigningKey
from ecdsa.util import sigencode_der
digest = sys.stdin.buffer.read()
key = SigningKey.from_string((pathlib.Path(__file__).parent / "scalar").read_bytes(), NIST256p)
sys.stdout.buffer.write(key.sign_digest(digest, sigencode=sigencode_der))
"""


@pytest.fixture(scope="module")
def kms() -> Iterator[Kms]:
    with served() as made, pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment.items():
            patch.setenv(name, value)
        yield made


class Stored:
    """A key of a ``role`` in a store: its URI, x||y, and whether it signs for now."""

    def __init__(self, store: str, role: str, folder: Path, kms: Kms) -> None:
        self.kms, self.tool = kms, folder / f"{role}-tool.py"
        if store == "awskms":
            self.uri, self.xy = place_of("awskms:///").make(f"{role}/{folder.name}", None)  # type: ignore
            return
        secret = Witness.generate(NIST256p)
        (folder / "scalar").write_bytes(secret.to_string())
        self.xy = secret.verifying_key.to_string()
        public = PublicKey(xy=self.xy)
        (folder / "hsm.pub").write_bytes(label_line(public, f"{role}/hsm") + public.pem())
        self.uri = f"exec:{sys.executable} {self.tool}?public={folder / 'hsm.pub'}"
        self.works(True)

    def works(self, does: bool) -> None:
        self.kms.mode = "" if does else (400, "AccessDeniedException")
        self.tool.write_text(TOOL if does else "raise SystemExit(1)")


@pytest.fixture(params=["awskms", "exec"])
def store(request: pytest.FixtureRequest, kms: Kms) -> str:
    kms.mode = ""
    return str(request.param)


def root_document(keys: Keys, version: int, assign: bytes, log: bytes | None = None) -> bytes:
    xy = host_crypto.public_xy
    roles = {
        roots.ROOT: (2, [xy(key) for key in keys.root]),
        roots.RELEASE: (2, [xy(key) for key in keys.release]),
        roots.ASSIGN: (1, [assign]),
    }
    if log:
        roles[roots.LOG] = (1, [log])
    raw = roots.build_root(version, roles)
    for key in keys.root[:2]:
        raw = roots.FORM.add_signature(raw, cose.kid_of(xy(key)), host_crypto.signer(key))
    return raw


def test_assign_key_in_a_store_answers_and_what_it_refuses_costs_one_answer(
    tmp_path: Path,
    kms: Kms,
    store: str,
    place: Path,  # noqa: F811
) -> None:
    keys, stored = Keys(tmp_path / "keys"), Stored(store, "assign", tmp_path, kms)
    keys.genesis = root_document(keys, 1, stored.xy)
    (keys.folder / "root.cbor").write_bytes(keys.genesis)
    signer = Signer(place, stored.uri)  # type: ignore[arg-type]
    assert signer.ready_line.startswith(f"fota-signer ready: key {cose.kid_of(stored.xy).hex()}")
    server = Server(keys, tmp_path / "data").init("--assign-key", str(place)).start()
    device = Device(server)
    assert device.check_in().wanted is None
    stored.works(False)
    with pytest.raises(Refused) as caught:
        device.check_in()
    assert caught.value.args[0] == 503
    stored.works(True)
    device.close()
    device.check_in()  # with the nonce of before: the answer that could not be signed had another
    assert device.check_in().response.report_status == "accepted"
    assert server.stop()[0] == 0
    code, said = signer.stop()
    assert (code, SECRET in said, "Traceback" in said) == (0, False, False), said


def test_log_key_in_a_store_proves_releases_and_what_it_refuses_is_not_published(
    tmp_path: Path, kms: Kms, store: str
) -> None:
    keys, stored = Keys(tmp_path / "keys"), Stored(store, "log", tmp_path, kms)
    server = Server(keys, tmp_path / "data").init()
    server.configure(receipt_key=stored.uri)
    server.start()
    assert (
        server.api(
            "POST", "roots", raw=root_document(keys, 2, host_crypto.public_xy(keys.assign), stored.xy)
        )[0]
        == 201
    )
    first, second = (build_release(keys, f"1.{number}.0", number, number) for number in (1, 2))
    assert server.publish(first)[0] == 201
    stored.works(False)
    status, answer = server.publish(second)
    assert (status >= 400, SECRET in str(answer)) == (True, False), answer
    assert (
        len(server.rows("SELECT id FROM releases"))
        == len(server.rows("SELECT id FROM log_heads WHERE size > 0"))
        == 1
    )
    stored.works(True)
    assert server.publish(second)[0] == 201
    device = Device(server)
    device.receipts = True
    device.check_in()
    server.api("POST", "rollouts", {"version": "1.2.0", "device": device.id})
    envelope = next(raw for raw in (device.check_in().response.manifest for _ in range(3)) if raw)
    raw = suit.parse_envelope(envelope).receipt
    receipt.require_logged(raw, second.manifest_digest, device.root, host_crypto.verify)
    code, said = server.stop()
    assert (code, SECRET in said, "Traceback" in said) == (0, False, False), said
