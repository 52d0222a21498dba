"""The core on the host, against independent twins: hashlib, fota_wire, tables."""

import ctypes
import hashlib
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import core_structs
import pytest
from core_structs import Image, Layout, Record

OK = 0x5A3C96E1
A, B, NONE = 0x5A, 0xA5, 0xC3
STATE_NONE, STAGED, TRIAL, REJECTED, REVERTED = 0x0F, 0x33, 0x3C, 0x55, 0x66
IM4, IM6, PO1, PO3, PO4, CE1, FL3 = (
    0x494D0004,
    0x494D0006,
    0x504F0001,
    0x504F0003,
    0x504F0004,
    0x43450001,
    0x464C0003,
)


# --- SHA-256 ---


class Sha256(ctypes.Structure):
    _fields_ = [("state", ctypes.c_uint32 * 8), ("length", ctypes.c_uint32), ("block", ctypes.c_uint8 * 64)]


def sha256(core: ctypes.CDLL, *parts: bytes) -> bytes:
    ctx, out = Sha256(), ctypes.create_string_buffer(32)
    core.fota_sha256_init(ctypes.byref(ctx))
    for part in parts:
        core.fota_sha256_update(ctypes.byref(ctx), part, len(part))
    core.fota_sha256_final(ctypes.byref(ctx), out)
    return out.raw


def test_sha256_of_every_length_equals_hashlib(core: ctypes.CDLL) -> None:
    data = random.Random(1).randbytes(300)
    for n in range(301):
        assert sha256(core, data[:n]) == hashlib.sha256(data[:n]).digest(), n


def test_sha256_split_anywhere_is_the_same(core: ctypes.CDLL) -> None:
    data = random.Random(2).randbytes(200)
    expected = hashlib.sha256(data).digest()
    for i in range(201):
        assert sha256(core, data[:i], data[i:]) == expected
        assert sha256(core, data[:i], b"", data[i : i + 7], data[i + 7 :]) == expected


# --- codes, CRC, compare ---


def test_status_codes_are_those_of_python(core: ctypes.CDLL) -> None:
    from fota_wire import status

    class Entry(ctypes.Structure):
        _fields_ = [("code", ctypes.c_uint32), ("name", ctypes.c_char_p)]

    entries = (Entry * 64).in_dll(core, "fota_host_statuses")
    found = {}
    for entry in entries:
        if not entry.code:
            break
        assert entry.code not in found
        found[entry.code] = entry.name.decode()
    assert found.pop(OK) == "ok"
    python = {code: row[1] for code, row in status.STATUS.items() if code != OK}
    assert found == python
    assert all((code ^ OK).bit_count() >= 7 for code in found)


def test_crc32_equals_zlib(core: ctypes.CDLL) -> None:
    core.fota_crc32.restype = ctypes.c_uint32
    for n in range(40):
        data = random.Random(n).randbytes(n)
        assert core.fota_crc32(data, n) == zlib.crc32(data)


def test_compare_tells_any_flipped_bit(core: ctypes.CDLL) -> None:
    core.fota_compare.restype = ctypes.c_uint32
    a = random.Random(3).randbytes(32)
    assert core.fota_compare(a, bytes(a), 32) == OK
    for bit in range(256):
        b = bytearray(a)
        b[bit // 8] ^= 1 << bit % 8
        assert core.fota_compare(a, bytes(b), 32) != OK


# --- DER ---

R = bytes(range(1, 33))
S = bytes(range(64, 96))
HIGH = b"\x80" + bytes(31)


def integer(body: bytes) -> bytes:
    return bytes([2, len(body)]) + body


def sequence(body: bytes) -> bytes:
    return bytes([0x30, len(body)]) + body


ORDER = bytes.fromhex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551")
BELOW = ORDER[:-1] + b"\x50"
GOOD = sequence(integer(R) + integer(S))


@pytest.mark.parametrize(
    ("der", "raw"),
    [
        pytest.param(GOOD, R + S, id="32+32"),
        pytest.param(sequence(integer(b"\0" + HIGH) + integer(S)), HIGH + S, id="sign-byte"),
        pytest.param(sequence(integer(b"\0" + HIGH) * 2), HIGH * 2, id="72-bytes"),
        pytest.param(sequence(integer(b"\1") + integer(S)), bytes(31) + b"\1" + S, id="short-r"),
        pytest.param(sequence(integer(b"\0") + integer(S)), None, id="zero-r"),
        pytest.param(sequence(integer(R) + integer(b"\0")), None, id="zero-s"),
        pytest.param(sequence(integer(b"\0" + ORDER) + integer(S)), None, id="r-is-the-order"),
        pytest.param(sequence(integer(S) + integer(b"\0" + ORDER)), None, id="s-is-the-order"),
        pytest.param(sequence(integer(b"\0" + BELOW) + integer(S)), BELOW + S, id="r-is-the-order-less-one"),
        pytest.param(b"", None, id="empty"),
        pytest.param(b"\x30", None, id="one-byte"),
        pytest.param(GOOD[:-1], None, id="truncated"),
        pytest.param(GOOD + b"\0", None, id="trailing-byte"),
        pytest.param(sequence(integer(R) + integer(S) + b"\0"), None, id="trailing-in-sequence"),
        pytest.param(sequence(integer(R)), None, id="one-integer"),
        pytest.param(sequence(integer(R) + integer(S) + integer(S)), None, id="three-integers"),
        pytest.param(b"\x31" + GOOD[1:], None, id="set-instead"),
        pytest.param(b"\x30\x81" + GOOD[1:], None, id="long-length"),
        pytest.param(b"\x30\x80" + GOOD[2:] + b"\0\0", None, id="indefinite"),
        pytest.param(sequence(integer(b"\0" + R) + integer(S)), None, id="not-minimal"),
        pytest.param(sequence(integer(HIGH) + integer(S)), None, id="negative-r"),
        pytest.param(sequence(integer(R) + integer(HIGH)), None, id="negative-s"),
        pytest.param(sequence(integer(b"\x01" + R) + integer(S)), None, id="33-bytes"),
        pytest.param(sequence(integer(b"") + integer(S)), None, id="empty-integer"),
        pytest.param(sequence(b"\x03" + integer(R)[1:] + integer(S)), None, id="bit-string"),
    ],
)
def test_der_signature_is_strict(core: ctypes.CDLL, der: bytes, raw: bytes | None) -> None:
    core.fota_der_signature.restype = ctypes.c_uint32
    exact = ctypes.create_string_buffer(der, max(len(der), 1))  # nothing readable is behind it
    out = ctypes.create_string_buffer(64)
    verdict = core.fota_der_signature(exact, len(der), out)
    assert verdict == (OK if raw is not None else 0x494D000B)
    if raw is not None:
        assert out.raw == raw


# --- image ---

SLOT_SIZE = 496 * 1024


def parse(core: ctypes.CDLL, data: bytes, slot_size: int = SLOT_SIZE) -> tuple[int, Image]:
    core.fota_image_parse.restype = ctypes.c_uint32
    slot = ctypes.create_string_buffer((data + b"\xff" * slot_size)[:slot_size], slot_size)
    layout, image = Layout((0, 0), slot_size, 0x08004000, 0x20000000, 0x20017F00), Image()
    image.keep = slot
    return core.fota_image_parse(slot, ctypes.byref(layout), ctypes.byref(image)), image


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("<HH", kind, len(value)) + value


def area(magic: int, body: bytes) -> bytes:
    return struct.pack("<HH", magic, 4 + len(body)) + body


PAYLOAD = struct.pack("<II", 0x20017F00, 0x08004209) + bytes(56)
COUNTER, CLASS = tlv(0x50, struct.pack("<I", 7)), tlv(0x75, bytes(range(16)))
HASH, KEY, SIG = tlv(0x10, bytes(32)), tlv(0x01, bytes(32)), tlv(0x22, GOOD)


def image_file(
    protected: bytes = COUNTER + CLASS,
    unprotected: bytes = HASH + KEY + SIG,
    payload: bytes = PAYLOAD,
    **header: int,
) -> bytes:
    h = {"magic": 0x96F3B83D, "load": 0x08004000, "hdr": 0x200, "prot": 4 + len(protected)}
    h |= {"size": len(payload), "flags": 0x100, "pad": 0} | header
    head = struct.pack(
        "<IIHHIIBBHII",
        h["magic"],
        h["load"],
        h["hdr"],
        h["prot"],
        h["size"],
        h["flags"],
        1,
        2,
        3,
        4,
        h["pad"],
    )
    return head.ljust(0x200, b"\0") + payload + area(0x6908, protected) + area(0x6907, unprotected)


def test_image_fields_are_found(core: ctypes.CDLL) -> None:
    data = image_file()
    verdict, image = parse(core, data)
    assert verdict == OK
    assert image.hashed_size == 0x200 + len(PAYLOAD) + 4 + len(COUNTER + CLASS)
    assert ctypes.string_at(image.sec_cnt, 4) == struct.pack("<I", 7)
    assert ctypes.string_at(image.class_id, 16) == bytes(range(16))
    assert bytes(image.rs) == R + S


def bad(number: int) -> int:
    return 0x494D0000 + number


OTHER = tlv(0x74, bytes(16))


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        pytest.param(image_file(flags=0, load=0), OK, id="not-rom-fixed"),
        pytest.param(image_file(protected=OTHER + COUNTER + CLASS), OK, id="other-protected-entry"),
        pytest.param(image_file(unprotected=KEY + SIG + HASH), OK, id="hash-last"),
        pytest.param(b"", bad(1), id="erased-slot"),
        pytest.param(image_file(magic=0x96F3B83C), bad(1), id="magic"),
        pytest.param(image_file(flags=0x10), bad(2), id="non-bootable"),
        pytest.param(image_file(flags=0x20), bad(2), id="ram-load"),
        pytest.param(image_file(flags=0x104), bad(2), id="encrypted"),
        pytest.param(image_file(load=0x08084000), bad(2), id="linked-elsewhere"),
        pytest.param(image_file(hdr=0x20), bad(2), id="header-size"),
        pytest.param(image_file(pad=1), bad(2), id="pad"),
        pytest.param(image_file(size=0), bad(3), id="empty-payload"),
        pytest.param(image_file(size=0xFFFFFFFF), bad(3), id="size-wraps"),
        pytest.param(image_file(size=SLOT_SIZE - 0x200), bad(3), id="no-room-for-tlvs"),
        pytest.param(image_file(size=SLOT_SIZE - 0x200 + 1), bad(3), id="larger-than-slot"),
        pytest.param(image_file(prot=0), bad(4), id="protected-size-0"),
        pytest.param(image_file(prot=33), bad(4), id="protected-size-differs"),
        pytest.param(image_file(protected=CLASS), bad(4), id="no-counter"),
        pytest.param(image_file(protected=COUNTER), bad(4), id="no-class"),
        pytest.param(image_file(protected=COUNTER + COUNTER + CLASS), bad(4), id="two-counters"),
        pytest.param(image_file(protected=COUNTER + CLASS + CLASS), bad(4), id="two-classes"),
        pytest.param(image_file(protected=tlv(0x50, bytes(8)) + CLASS), bad(4), id="long-counter"),
        pytest.param(image_file(protected=tlv(0x50, struct.pack("<I", 1)) + CLASS), OK, id="least-counter"),
        pytest.param(image_file(protected=tlv(0x50, struct.pack("<I", 262143)) + CLASS), OK, id="most"),
        pytest.param(image_file(protected=tlv(0x50, bytes(4)) + CLASS), bad(4), id="counter-0"),
        pytest.param(image_file(protected=tlv(0x50, struct.pack("<I", 262144)) + CLASS), bad(4), id="262144"),
        pytest.param(image_file(protected=COUNTER + CLASS[:-1]), bad(4), id="entry-over-the-end"),
        pytest.param(image_file(protected=COUNTER + CLASS + b"\0\0"), bad(4), id="half-an-entry"),
        pytest.param(image_file(unprotected=KEY + SIG), bad(4), id="no-hash"),
        pytest.param(image_file(unprotected=HASH + SIG), bad(4), id="no-key-hash"),
        pytest.param(image_file(unprotected=HASH + KEY), bad(4), id="no-signature"),
        pytest.param(image_file(unprotected=HASH + SIG + KEY), bad(4), id="key-after-signature"),
        pytest.param(image_file(unprotected=HASH + KEY + SIG + SIG), bad(4), id="two-signatures"),
        pytest.param(image_file(unprotected=HASH + KEY + KEY + SIG), bad(4), id="two-keys"),
        pytest.param(image_file(unprotected=HASH + HASH + KEY + SIG), bad(4), id="two-hashes"),
        pytest.param(image_file(unprotected=HASH + KEY + SIG + COUNTER), bad(5), id="unsigned-counter"),
        pytest.param(image_file(unprotected=HASH + KEY + SIG + tlv(0x20, b"")), bad(5), id="rsa"),
        pytest.param(image_file(unprotected=HASH + tlv(0x0101, bytes(32)) + SIG), bad(5), id="16-bit-type"),
        pytest.param(image_file(unprotected=HASH + KEY + tlv(0x22, GOOD + b"\0")), bad(11), id="der"),
        pytest.param(image_file(unprotected=HASH + KEY + tlv(0x22, b"")), bad(11), id="empty-signature"),
    ],
)
def test_image_is_parsed_strictly(core: ctypes.CDLL, data: bytes, verdict: int) -> None:
    assert hex(parse(core, data)[0]) == hex(verdict)


@pytest.mark.parametrize(
    ("stack", "entry", "good"),
    [
        (0x20017F00, 0x08004201, True),
        (0x20000008, 0x08004201 + 62, True),
        (0x20017F08, 0x08004201, False),
        (0x20000000, 0x08004201, False),
        (0x20000004, 0x08004201, False),
        (0x20017F00, 0x08004200, False),
        (0x20017F00, 0x080041FF, False),
        (0x20017F00, 0x08004201 + 64, False),
        (0x20017F00, 0x08084201, False),
    ],
)
def test_vectors_lie_inside_ram_and_image(core: ctypes.CDLL, stack: int, entry: int, good: bool) -> None:
    payload = struct.pack("<II", stack, entry) + bytes(56)
    assert parse(core, image_file(payload=payload))[0] == (OK if good else bad(12))


def test_truncated_at_every_tlv_byte_is_refused(core: ctypes.CDLL) -> None:
    data = image_file()
    for size in range(0x200 + len(PAYLOAD), len(data)):
        assert parse(core, data[:size], slot_size=size)[0] in (bad(3), bad(4), bad(11)), size


def test_bootloader_does_not_mind_that_an_image_names_its_chip(
    core: ctypes.CDLL, signed: Callable[..., bytes]
) -> None:
    from fota_wire.host_chips import STM32
    from fota_wire.image import parse_image

    data = signed("1.1.0", chip=STM32["stm32l476"])
    verdict, image = parse(core, data)
    assert (verdict, parse_image(data).chip) == (OK, "stm32l476")
    assert ctypes.string_at(image.hash, 32) == parse_image(data).image_hash


def test_c_and_python_parsers_agree_on_mutants(core: ctypes.CDLL, signed: Callable[..., bytes]) -> None:
    """Every byte of header and TLV areas changed: both accept it, or both refuse."""
    from fota_wire.errors import FotaError
    from fota_wire.image import parse_image

    data = signed("1.1.0")
    size, protected = struct.unpack_from("<I", data, 12)[0], struct.unpack_from("<H", data, 10)[0]
    end = 0x200 + size + protected
    dice = random.Random(4)
    for at in [*range(32), *range(0x200 + size, len(data))]:
        mutant = bytearray(data)
        mutant[at] ^= 1 << dice.randrange(8)
        verdict, image = parse(core, bytes(mutant))
        digest = hashlib.sha256(mutant[:end]).digest()
        c_accepts = verdict == OK and image.hashed_size == end and ctypes.string_at(image.hash, 32) == digest
        try:
            parse_image(bytes(mutant))
            python_accepts = True
        except FotaError:
            python_accepts = False
        assert c_accepts == python_accepts, (at, hex(verdict))


# --- policy ---


NOT_YET = 0


def next_step(core: ctypes.CDLL, *situation: Any, writable: bool = True) -> Any:
    """What policy wants, as (action, ...) with only what that action carries."""
    confirmed, candidate, state, tries, reason, seen = situation
    record = Record(1, confirmed, candidate, state, tries, reason, 0)
    return core_structs.next_step(core, record, seen, writable=writable)


FIRST_A, FIRST_B = (A, NONE, STATE_NONE, 0, 0), (B, NONE, STATE_NONE, 0, 0)


@pytest.mark.parametrize(
    ("record", "seen", "expected"),
    [
        # first boot
        ((NONE, NONE, STATE_NONE, 0, 0), (NOT_YET, NOT_YET), ("verify", A)),
        ((NONE, NONE, STATE_NONE, 0, 0), (OK, NOT_YET), ("boot", A, False, FIRST_A)),
        ((NONE, NONE, STATE_NONE, 0, 0), (IM6, NOT_YET), ("verify", B)),
        ((NONE, NONE, STATE_NONE, 0, 0), (IM6, OK), ("boot", B, False, FIRST_B)),
        ((NONE, NONE, STATE_NONE, 0, 0), (IM6, PO1), ("halt", PO3)),
        # confirmed
        ((A, NONE, STATE_NONE, 0, 0), (NOT_YET, NOT_YET), ("verify", A)),
        ((A, NONE, STATE_NONE, 0, 0), (OK, NOT_YET), ("boot", A, False, None)),
        ((A, NONE, STATE_NONE, 0, 0), (IM6, NOT_YET), ("verify", B)),
        ((A, NONE, STATE_NONE, 0, 0), (FL3, OK), ("boot", B, False, None)),
        ((A, NONE, STATE_NONE, 0, 0), (IM6, IM6), ("halt", PO3)),
        ((B, NONE, STATE_NONE, 0, 0), (NOT_YET, NOT_YET), ("verify", B)),
        ((B, NONE, STATE_NONE, 0, 0), (NOT_YET, PO1), ("verify", A)),
        # staged
        ((A, B, STAGED, 0, 0), (NOT_YET, NOT_YET), ("verify", B)),
        ((A, B, STAGED, 0, 0), (NOT_YET, OK), ("boot", B, True, (A, B, TRIAL, 2, 0))),
        ((A, B, STAGED, 0, 0), (NOT_YET, IM6), ("write", A, B, REJECTED, 0, IM6)),
        ((A, B, STAGED, 0, 0), (NOT_YET, CE1), ("halt", CE1)),
        ((B, A, STAGED, 0, 0), (OK, NOT_YET), ("boot", A, True, (B, A, TRIAL, 2, 0))),
        # trial
        ((A, B, TRIAL, 2, 0), (NOT_YET, NOT_YET), ("verify", B)),
        ((A, B, TRIAL, 2, 0), (NOT_YET, OK), ("boot", B, True, (A, B, TRIAL, 1, 0))),
        ((A, B, TRIAL, 1, 0), (NOT_YET, OK), ("boot", B, True, (A, B, TRIAL, 0, 0))),
        ((A, B, TRIAL, 2, 0), (NOT_YET, IM6), ("write", A, B, REVERTED, 0, IM6)),
        ((A, B, TRIAL, 2, 0), (NOT_YET, CE1), ("halt", CE1)),
        ((A, B, TRIAL, 0, 0), (NOT_YET, NOT_YET), ("write", A, B, REVERTED, 0, PO4)),
        ((A, B, TRIAL, 0, 0x41500001), (NOT_YET, NOT_YET), ("write", A, B, REVERTED, 0, 0x41500001)),
        # given up: the confirmed slot, and the other one only if that is refused
        ((A, B, REJECTED, 0, IM6), (NOT_YET, IM6), ("verify", A)),
        ((A, B, REJECTED, 0, IM6), (OK, IM6), ("boot", A, False, None)),
        ((A, B, REJECTED, 0, IM6), (IM6, IM6), ("halt", PO3)),
        ((A, B, REVERTED, 0, PO4), (NOT_YET, NOT_YET), ("verify", A)),
        ((A, B, REVERTED, 0, PO4), (IM6, NOT_YET), ("verify", B)),
        ((A, B, REVERTED, 0, PO4), (IM6, OK), ("boot", B, False, None)),
        # a fault that is not the image's
        ((A, NONE, STATE_NONE, 0, 0), (CE1, NOT_YET), ("halt", CE1)),
        ((A, NONE, STATE_NONE, 0, 0), (0x524E0001, NOT_YET), ("halt", 0x524E0001)),
        # candidate without a slot: nothing pending
        ((A, NONE, STAGED, 0, 0), (NOT_YET, NOT_YET), ("verify", A)),
    ],
)
def test_policy_state_and_event_give_the_next_step(
    core: ctypes.CDLL, record: Any, seen: Any, expected: Any
) -> None:
    assert next_step(core, *record, seen) == expected


@pytest.mark.parametrize("state", [STAGED, TRIAL])
def test_policy_passes_candidate_over_when_journal_fails(core: ctypes.CDLL, state: int) -> None:
    assert next_step(core, A, B, state, 1, 0, (NOT_YET, NOT_YET), writable=False) == ("verify", A)
    assert next_step(core, A, B, state, 1, 0, (OK, NOT_YET), writable=False) == ("boot", A, False, None)
    assert next_step(core, NONE, NONE, STATE_NONE, 0, 0, (OK, 0), writable=False) == ("boot", A, False, None)


def test_policy_boots_only_what_was_verified_in_any_view(core: ctypes.CDLL) -> None:
    """Over all states and verdicts: a slot boots only with FOTA_OK, and an element fault always halts."""
    verdicts = (NOT_YET, OK, IM6, PO1, FL3, CE1)
    for confirmed in (A, B, NONE):
        for candidate in (A, B, NONE):
            for state in (STATE_NONE, STAGED, TRIAL, REJECTED, REVERTED):
                for tries in (0, 1, 15) if state == TRIAL else (0,):
                    for a in verdicts:
                        for b in verdicts:
                            step = next_step(core, confirmed, candidate, state, tries, 0, (a, b))
                            if step[0] == "boot":
                                assert {A: a, B: b}[step[1]] == OK
                                assert CE1 not in (a, b)
                            if step[0] == "verify":
                                assert {A: a, B: b}[step[1]] == NOT_YET
