"""Devices that check in at the same moment share the signature of their ASSIGNMENTs (SPEC 5.3)."""

import asyncio
import secrets
from pathlib import Path

import pytest
from fleet_world import Fleet, device_id, identity_of, in_fleet
from server_world import Keys

from fota_server.catalog import Catalog
from fota_server.checkins import CheckIns, Policy
from fota_server.crypto import AssignSigner
from fota_wire import assignment, host_crypto
from fota_wire.checkin import Request, parse_response
from fota_wire.errors import VerifyError

NOW = 1_700_000_000


class CountingSigner(AssignSigner):
    """Counts how often its key is asked."""

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys.assign)
        self.signed, key = 0, self.sign

        def sign(digest: bytes) -> bytes:
            self.signed += 1
            return key(digest)

        self.sign = sign


async def check_in(fleet: Fleet, signer: AssignSigner, sharing: list[bool]) -> list[bytes]:
    """Return the ASSIGNMENTs of devices that ask at once, each verified as its device does it."""
    checkins = CheckIns(fleet.database, Catalog(), fleet.trust, signer, Policy(), lambda: NOW)
    requests = [Request(secrets.token_bytes(16), 1, None) for _ in sharing]
    for request, shares in zip(requests, sharing, strict=True):
        request.shares = shares
    asked = [checkins.answer(identity_of(device_id(n)), request) for n, request in enumerate(requests)]
    await asyncio.sleep(0)  # all of them wait
    checkins.start()
    answers = [parse_response(body).assignment for body in await asyncio.gather(*asked)]
    await checkins.stop()
    for number, (raw, request) in enumerate(zip(answers, requests, strict=True)):
        root, own = fleet.trust.current, bytes.fromhex(device_id(number))
        assert assignment.open_assignment(raw, root, request.nonce, own, host_crypto.verify).time == NOW
        other = requests[number - 1].nonce
        if other != request.nonce:
            with pytest.raises(VerifyError, match="nonce"):
                assignment.open_assignment(raw, root, other, own, host_crypto.verify)
    return [bytes(raw) for raw in answers]


@pytest.mark.parametrize(
    ("sharing", "signatures"),
    [
        ([True] * 256, 1),
        ([True] * 20 + [False] * 3 + [True] * 4, 4),
        ([False] * 5, 5),
        ([True], 1),
        ([False, True, False], 3),
    ],
)
def test_one_signature_answers_all_that_can_share_it(
    tmp_path: Path, keys: Keys, sharing: list[bool], signatures: int
) -> None:
    async def work(fleet: Fleet) -> None:
        signer = CountingSigner(keys)
        answers = await check_in(fleet, signer, sharing)
        assert signer.signed == signatures
        together = sum(sharing) > 1
        lone = [raw[:1] == b"\xd2" for raw in answers]
        assert lone == [not (shares and together) for shares in sharing], (
            "agents of before get what they know"
        )

    in_fleet(tmp_path / "fota.db", keys, 1, work)
