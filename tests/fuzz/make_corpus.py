"""Write the seeds of the fuzz targets' corpus: ``make_corpus.py``. The rest of it was found by fuzzing."""

import base64
import struct
from pathlib import Path

from smp.image_management import ImageStatesReadRequest, ImageUploadWriteRequest
from smp.os_management import EchoWriteRequest, MCUMgrParametersReadRequest, ResetWriteRequest
from smp.packet import encode

from fota_signer.examples import example_key
from fota_signer.identity import DeviceClass
from fota_signer.images import sign_payload
from fota_wire import journal, status
from fota_wire.image import parse_image
from fota_wire.layout import SLOT_A, SLOT_B, SLOT_NONE

CORPUS = Path(__file__).parent / "corpus"
CLASS_ID, VENDOR_ID = bytes(range(16)), bytes(range(16, 32))


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
    out["frame/noise"] = (
        b"\x06\x09" + base64.b64encode(b"\x00\x03abc") + b"\nfota-boot: halt\r\n\x04\x14AAAA\n"
    )
    return out


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
