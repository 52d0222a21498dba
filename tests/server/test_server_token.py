"""The ASSIGN key in a token behind PKCS#11: SoftHSM2, held by `fota server signer`."""

import subprocess
import sys
from pathlib import Path

import pytest
from fleet_world import Fleet, in_fleet
from hsm import PIN, Hsm, of_process
from lifeline import HANG_S
from server_world import Device, Keys, Server, key_pem
from test_server_shared import check_in
from test_server_signer import Signer, place, signer_says  # noqa: F401 - a fixture

from fota_server.crypto import AssignSigner
from fota_wire.host_keys import SigningKey
from fota_wire.host_pkcs11 import Token

LABEL = "assign"


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Hsm:
    """Its token has the ASSIGN key of ``keys``."""
    made = of_process()
    plain = tmp_path_factory.mktemp("plain") / "assign.pem"
    plain.write_bytes(key_pem(keys.assign))
    subprocess.run(
        ["softhsm2-util", "--import", str(plain), "--token", "fota", "--label", LABEL, "--id", "01",
         "--pin", PIN],
        check=True, capture_output=True,
    )  # fmt: skip
    made.pin_file.chmod(0o600)
    return made


def uri(hsm: Hsm, token: str = "fota", label: str = LABEL, pin_file: Path | None = None) -> str:
    file = pin_file or hsm.pin_file
    return f"pkcs11:token={token};object={label};type=private?module-path={hsm.module}&pin-source={file}"


def test_token_is_asked_once_for_all_that_wait(keys: Keys, tmp_path: Path, hsm: Hsm) -> None:
    """So one that makes 50 signatures a second answers 12,800 check-ins of 256 that wait at a time."""
    token, asked = Token(str(hsm.module), "fota", PIN), []

    def sign(digest: bytes) -> bytes:
        asked.append(digest)
        return token.sign(LABEL, digest)

    async def work(fleet: Fleet) -> None:
        signer = AssignSigner(SigningKey("a token", token.public_key(LABEL), sign))
        await check_in(fleet, signer, [True] * 256)
        assert len(asked) == 1

    in_fleet(tmp_path / "fota.db", keys, 1, work)


def test_server_is_signed_for_by_a_token_that_comes_and_goes(
    keys: Keys,
    tmp_path: Path,
    hsm: Hsm,
    place: Path,  # noqa: F811
) -> None:
    signer = Signer(place, uri(hsm))  # type: ignore[arg-type]
    assert signer.ready_line.startswith("fota-signer ready: key "), signer.stop()[1]
    server = Server(keys, tmp_path / "data").init("--assign-key", str(place)).start()
    device = Device(server)
    assert device.check_in().wanted is None
    assert signer.stop()[0] == 0
    signer.start()
    assert device.check_in().response.report_status == "accepted"
    assert (server.stop()[0], signer.stop()) == (0, (0, ""))


def test_pin_that_is_refused_is_never_tried_again(hsm: Hsm) -> None:
    """In a process of its own: a token asks for no PIN while anybody in the process is logged in."""
    program = f"""
from fota_wire import host_pkcs11
from fota_wire.errors import DeviceError
token, tried, before = host_pkcs11.Token({str(hsm.module)!r}, "fota", {PIN!r}), [], host_pkcs11._open
def look(*place):
    tried.append(place[2])
    return before(*place)
host_pkcs11._open = look
token._place = (*token._place[:2], "000000")
token.session.close()
for _ in range(3):
    try:
        token.sign({LABEL!r}, bytes(32))
    except DeviceError as exc:
        print(exc, tried)
host_pkcs11._open = before
host_pkcs11.Token({str(hsm.module)!r}, "fota", {PIN!r})  # the token has heard the right one last
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=HANG_S)
    assert done.stdout == "PKCS#11: token fota refuses the PIN ['000000']\n" * 3, done.stderr


@pytest.mark.parametrize(
    ("changed", "code", "word"),
    [
        ({"token": "other"}, 6, "no token other"),
        ({"label": "other"}, 6, "no such key"),
    ],
)
def test_token_that_cannot_sign_is_one_line(
    hsm: Hsm, tmp_path: Path, changed: dict[str, str], code: int, word: str
) -> None:
    said = signer_says("--assign-key", uri(hsm, **changed), "--socket", str(tmp_path / "s"))
    assert (said[0], word in said[1]) == (code, True), said
    assert PIN not in said[1]


def test_pin_comes_from_a_file_or_from_who_is_there(hsm: Hsm, tmp_path: Path) -> None:
    bare = uri(hsm).partition("&")[0]
    code, said = signer_says("--assign-key", bare, "--socket", str(tmp_path / "s"))
    assert (code, "pin-source" in said) == (2, True), said
