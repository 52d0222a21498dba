"""The quick writer of answers says byte for byte what the general encoders of `fota_wire` say."""

from hypothesis import given
from hypothesis import strategies as st
from server_world import new_key

from fota_server import answers
from fota_server.crypto import AssignSigner
from fota_wire import assignment, checkin

SIGNER = AssignSigner(new_key())
EDGES = st.sampled_from([0, 23, 24, 0xFF, 0x100, 0xFFFF, 0x10000, 0xFFFFFFFF, 1 << 32, (1 << 64) - 1])
NUMBER = st.integers(0, (1 << 64) - 1) | EDGES


def exactly(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


@given(exactly(16), exactly(9), NUMBER, NUMBER, st.none() | exactly(32), NUMBER, NUMBER, NUMBER)
def test_an_assignment_is_what_wire_would_have_built(
    nonce: bytes,
    device: bytes,
    time: int,
    sequence: int,
    digest: bytes | None,
    root: int,
    no: int,
    valid: int,
) -> None:
    built = assignment.build(
        nonce=nonce,
        device_id=device,
        time=time,
        sequence=sequence,
        manifest_digest=digest,
        root_version=root,
        campaign=no,
        valid_for=valid,
        kid=SIGNER.kid,
        sign=SIGNER.sign,
    )
    payload = answers.payload(nonce, device, time, sequence, digest, root, no, valid)
    assert SIGNER.alone(payload) == built


@given(st.lists(st.binary(max_size=120), min_size=2, max_size=256))
def test_shared_assignments_are_what_wire_would_have_built(payloads: list[bytes]) -> None:
    """Signatures of one key over the same are the same (RFC 6979), or this would say nothing of them."""
    assert SIGNER.sign_all(payloads, [True] * len(payloads)) == assignment.share(
        payloads, SIGNER.kid, SIGNER.sign
    )


BLOB = st.binary(max_size=600)


@given(
    BLOB,
    st.lists(BLOB, max_size=4),
    st.none() | BLOB,
    NUMBER,
    exactly(16),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=256),
    st.booleans(),
    st.integers(0, 2),
    st.lists(st.integers(0, 30), max_size=16),
)
def test_an_answer_is_what_wire_would_have_encoded(
    signed: bytes,
    steps: list[bytes],
    manifest: bytes | None,
    interval: int,
    nonce: bytes,
    status: str,
    held: bool,
    key_order: int,
    refused: list[int],
) -> None:
    wanted = checkin.Response(signed, steps, manifest, interval, nonce, status)
    wanted.key_order, wanted.refused_values = key_order, refused
    written = answers.response(
        signed,
        steps,
        manifest,
        interval,
        nonce,
        status,
        held=held,
        key_order=key_order,
        refused_values=refused,
    )
    assert written == checkin.encode_response(wanted, manifest_held=held)
