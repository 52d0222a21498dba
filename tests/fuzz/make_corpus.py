"""Write the seeds of the fuzz targets' corpus: ``make_corpus.py``. The rest of it was found by fuzzing."""

import base64
import struct
from pathlib import Path

from smp.image_management import ImageStatesReadRequest, ImageUploadWriteRequest
from smp.os_management import EchoWriteRequest, MCUMgrParametersReadRequest, ResetWriteRequest
from smp.packet import encode

from fota_signer import esp_pack
from fota_signer.examples import example_key
from fota_signer.identity import DeviceClass
from fota_signer.images import sign_application, sign_payload
from fota_wire import esp_image, esp_otadata, esp_partitions, journal, status
from fota_wire.chips import esp32c3
from fota_wire.esp_signature import BLOCK
from fota_wire.image import parse_image
from fota_wire.layout import SLOT_A, SLOT_B, SLOT_NONE

CORPUS = Path(__file__).parent / "corpus"
CLASS_ID, VENDOR_ID = bytes(range(16)), bytes(range(16, 32))
BLOCK_USED = 165  # bytes of a signature block that are not zeros


def image() -> bytes:
    """Return a whole signed image with the smallest payload that can be one: two vectors."""
    payload = struct.pack("<II", 0x2001_0000, 0x0800_4201) + bytes(8)
    return sign_payload(
        payload,
        key=example_key("image-a"),
        version=(1, 2, 3, 4),
        sec_cnt=1,
        device_class=DeviceClass(vendor_id=VENDOR_ID, class_id=CLASS_ID),
    )


def records() -> list[bytes]:
    """Return the records of one update that fails its self-test, in the order of their writing."""
    states = [
        (SLOT_A, SLOT_NONE, journal.NONE),
        (SLOT_A, SLOT_B, journal.STAGED),
        (SLOT_A, SLOT_B, journal.TRIAL, 2),
        (SLOT_A, SLOT_B, journal.TRIAL, 0, status.AP1),
        (SLOT_A, SLOT_B, journal.REVERTED, 0, status.AP1),
    ]
    return [journal.pack(journal.Record(n, *state)) for n, state in enumerate(states, 1)]


def requests() -> dict[str, bytes]:
    """Return requests as smpclient's library encodes them."""
    return {
        "echo": EchoWriteRequest(d="hello", sequence=1).BYTES,
        "reset": ResetWriteRequest(sequence=2).BYTES,
        "parameters": MCUMgrParametersReadRequest(sequence=3).BYTES,
        "images": ImageStatesReadRequest(sequence=4).BYTES,
        "upload": ImageUploadWriteRequest(
            off=0, data=bytes(20), len=40, sha=bytes(32), image=0, upgrade=False, sequence=5
        ).BYTES,
        "upload-more": ImageUploadWriteRequest(off=20, data=bytes(20), sequence=6).BYTES,
    }


def seeds() -> dict[str, bytes]:
    """Return target/name -> input."""
    raw, cells, asked = image(), records(), requests()
    wanted = bytes([SLOT_A, SLOT_B, journal.STAGED, 0, 0, 0, 0, 0])
    blank = b"\xff" * 16
    out = {
        "image/signed": raw[:32] + raw[512:],
        "der/signature": der(parse_image(raw).signature),
        "der/small": bytes.fromhex("3006020101020101"),
        "journal/blank": bytes([3, 0, 0, 0]) + wanted,
        "journal/turn-over": bytes([3, 0, 0, 0]) + wanted + b"".join(cells[:4]),
        "journal/torn": bytes([3, 2, 0, 2]) + wanted + cells[0] + cells[1] + blank * 2 + cells[2],
    }
    for name, message in asked.items():
        out[f"cbor/{name}"] = message[8:]
        out[f"frame/{name}"] = b"".join(encode(message))
    session = b"".join(bytes([len(m)]) + m for m in asked.values())
    out["smp/session"] = bytes([SLOT_A]) + session
    file = raw[:200]
    chunks = [file[i : i + 64] for i in range(0, len(file), 64)]
    upload = b""
    for i, chunk in enumerate(chunks):
        more = {"len": len(file)} if i == 0 else {}
        message = ImageUploadWriteRequest(off=64 * i, data=chunk, sequence=i, **more).BYTES
        upload += bytes([len(message)]) + message
    out["smp/upload"] = bytes([SLOT_B]) + upload
    out |= hostile(raw)
    for target, inputs in (("espressif", applications()), ("partitions", tables()), ("otadata", messages())):
        out |= {f"{target}/{name}": data for name, data in inputs.items()}
    out["frame/noise"] = (
        b"\x06\x09" + base64.b64encode(b"\x00\x03abc") + b"\nfota-boot: halt\r\n\x04\x14AAAA\n"
    )
    return out


def application() -> bytes:
    """Return a signed image in Espressif's form: a segment for each kind of memory, all of them small."""
    descriptor = esp_image.DESCRIPTOR_MAGIC + bytes(176) + bytes([16]) + bytes(75)
    at = esp_image.HEADER_SIZE + 2 * esp_image.SEGMENT_HEADER_SIZE + len(descriptor)
    parts = [
        (esp32c3.DROM[0] + esp_image.DESCRIPTOR_AT, descriptor),
        (esp32c3.IROM[0] + at, bytes(8)),
        (esp32c3.IRAM[0], bytes(8)),
        (esp32c3.DRAM[0] + 0x8000, bytes(4)),
        (esp32c3.RTC_RAM[0], bytes(4)),
        (0, bytes(4)),
    ]
    return sign_application(
        esp_pack.build(esp_pack.Head(esp32c3.IRAM[0], esp32c3.CHIP_ID), parts),
        key=example_key("image-a"),
        version=(1, 2, 3, 4),
        sec_cnt=1,
        device_class=DeviceClass(vendor_id=VENDOR_ID, class_id=CLASS_ID),
    )


def slot(size: int, front: bytes, *blocks: bytes) -> bytes:
    """Return an input of the target ``espressif``."""
    return (
        struct.pack("<HH", size, len(front)) + front + b"".join([b"\1" + one[:BLOCK_USED] for one in blocks])
    )


def applications() -> dict[str, bytes]:
    """Return inputs of the target ``espressif``."""
    raw = application()
    front = raw[: esp_image.parse(raw).end - 48]  # checksum and hash are not the bootloader's to look at
    block = raw[4096 : 4096 + BLOCK]
    other = block[:37] + bytes([block[37] ^ 1]) + block[38:]
    count_too_many = front[:1] + bytes([front[1] + 1]) + front[2:]
    at = esp_image.parse(raw).segments[1].offset - 4  # length of the second segment
    return {
        "signed": slot(8192, front, block),
        "beside-another": slot(8192, front, other, block),
        "twice": slot(8192, front, block, block),
        "not-signed": slot(8192, front),
        "slot-too-small": slot(8191, front, block),
        "slot-ends-in-a-head": slot(len(front) - 66, front),
        "one-segment-more": slot(8192, count_too_many, block),
        "long-segment": slot(8192, front[:at] + b"\xf8\xff\xff\xff" + front[at + 4 :], block),
        "long-last-segment": slot(len(front) - 4, front, block),
    }


def tables() -> dict[str, bytes]:
    """Return inputs of the target ``partitions``, whose MD5 is another function."""
    parts = esp_partitions.default_table(esp32c3)  # type: ignore[arg-type]  # a module is a row
    records = b"".join([part.pack() for part in parts])
    folded = bytes(16)
    for i in range(0, len(records), 16):
        folded = bytes(a ^ b for a, b in zip(folded, records[i : i + 16], strict=True))
    settings = b"\xff" * esp32c3.PLACES_OFFSET + struct.pack(
        "<5I",
        *esp_partitions.places(parts, esp32c3).copy(),  # type: ignore[arg-type]
    )
    past_end = esp_partitions.Partition("x", 1, 2, esp32c3.FLASH_SIZE, 0x1000).pack()
    wraps = esp_partitions.Partition("x", 1, 2, 0x3FF000, 0xFFFFF000).pack()
    full = b"".join(
        esp_partitions.Partition("x", 0x41, n, 0x9000 + 0x1000 * n, 0x1000).pack() for n in range(128)
    )
    return {
        "default": b"\4" + records,
        "with-sum": b"\4" + records + esp_partitions.MD5_MAGIC + folded,
        "small-flash": b"\2" + records,
        "past-the-end": b"\4" + records + past_end,
        "wraps": b"\4" + records + wraps,
        "twice": b"\4" + records + records[:32],
        "full": b"\4" + full,
        "settings": b"\4" + settings,
    }


def messages() -> dict[str, bytes]:
    """Return inputs of the target ``otadata``: bytes of a journal's state, and two sectors."""
    o = esp_otadata
    confirmed, asked = (SLOT_A, SLOT_NONE, journal.NONE, 0, 0), (SLOT_A, SLOT_B, journal.STAGED, 0, 1)
    trial, spent = (SLOT_A, SLOT_B, journal.TRIAL, 2, 1), (SLOT_A, SLOT_B, journal.TRIAL, 0, 1)
    states = {
        "blank": ((SLOT_NONE, SLOT_NONE, journal.NONE, 0, 0), 0, (o.MAX_SEQUENCE + 1, o.UNDEFINED) * 2),
        "request": (confirmed, 3, (1, o.VALID, 2, o.NEW)),
        "runs-already": (confirmed, 3, (3, o.NEW, 2, o.VALID)),
        "noted": (asked, 3, (1, o.VALID, 2, o.NEW)),
        "pending": (trial, 3, (1, o.VALID, 2, o.NEW)),
        "torn": (trial, 1, (1, o.VALID, 2, o.NEW)),
        "confirms": (trial, 3, (1, o.VALID, 2, o.VALID)),
        "gives-up": (trial, 3, (1, o.VALID, 2, o.INVALID)),
        "spent": (spent, 3, (1, o.VALID, 2, o.PENDING_VERIFY)),
        "last-sequence": (trial, 3, (o.MAX_SEQUENCE, o.VALID, 0, o.NEW)),
        "refused": ((SLOT_A, SLOT_B, journal.REJECTED, 0, 0), 3, (1, o.NEW, 2, o.NEW)),
    }
    return {
        name: bytes([right, *state]) + struct.pack("<III", *row[:2], 0) + struct.pack("<III", *row[2:], 0)
        for name, (state, right, row) in states.items()
    }


def hostile(raw: bytes) -> dict[str, bytes]:
    """Return inputs that lie about a length."""
    more = ImageUploadWriteRequest(off=0, len=4, data=bytes(8), sequence=1).BYTES
    cut = raw[:32] + raw[512:-60]
    return {
        "image/cut": cut,
        "image/long-tlv": cut[:-2] + b"\xff\x00",
        "der/long-integer": bytes.fromhex("30080202010102020102"),
        "der/integer-past-end": bytes.fromhex("3006020101020901"),
        "cbor/long-string": bytes.fromhex("a16464617461581801"),
        "cbor/long-key": bytes.fromhex("a17818"),
        "smp/more-than-announced": bytes([SLOT_A, len(more)]) + more,
        "frame/too-long": b"".join(encode(EchoWriteRequest(d="x" * 1100, sequence=1).BYTES)),
    }


def der(signature: bytes) -> bytes:
    """Return raw r || s as DER."""
    parts = b""
    for half in (signature[:32], signature[32:]):
        number = half.lstrip(b"\0") or b"\0"
        number = b"\0" * (number[0] >> 7) + number
        parts += bytes([2, len(number)]) + number
    return bytes([0x30, len(parts)]) + parts


def main() -> None:
    """Write the seeds."""
    for name, data in seeds().items():
        path = CORPUS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    main()
