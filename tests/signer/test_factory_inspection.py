"""A factory HEX is read with the device's own eyes: what would never boot or connect is not written."""

import struct
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

sys.path.insert(0, str(Path(__file__).parent))

from ca_world import DAY, NO_CERT_SIGN, make_ca
from factory_world import blank, new_job

from fota_agent.transport.http import split_url
from fota_signer.factory.flash import Firmware, factory_hex
from fota_signer.factory.inspection import Chip, require_livable
from fota_signer.factory.line import provision_chip
from fota_signer.factory.record import load_record
from fota_signer.identity import device_class
from fota_signer.images import sign_payload
from fota_wire import cose, host_crypto, settings
from fota_wire import root as roots
from fota_wire.chips.stm32l476 import FLASH_BASE, SETTINGS_OFFSET, TRUST_STORE_OFFSET, VECTOR_ADDRESS
from fota_wire.errors import VerifyError
from fota_wire.host_ca import certificate_der

CLASS = device_class(class_uuid=None, domain="example.com", model="demo")
OTHER = device_class(class_uuid=None, domain="example.org", model="demo")
BOOTLOADER = struct.pack("<II", 0x20001000, 0x08000101) + bytes(0x400)
FLOOR = 9


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


A, B, STRANGER = new_key(), new_key(), new_key()
OWNERS = [new_key() for _ in range(5)]


def genesis(signers=2, **more):
    xy = [host_crypto.public_xy(key) for key in OWNERS]
    raw = roots.build_root(1, {0: (2, xy[:2]), 1: (2, xy[2:4]), 2: (1, xy[4:])}, **more)
    for key in OWNERS[:signers]:
        raw = roots.FORM.add_signature(raw, cose.kid_of(host_crypto.public_xy(key)), host_crypto.signer(key))
    return raw


def signed(key=A, sec_cnt=FLOOR, whom=CLASS):
    payload = struct.pack("<II", 0x20010000, VECTOR_ADDRESS + 9) + bytes(512)
    return sign_payload(payload, key=key, version=(1, 0, 0, 0), sec_cnt=sec_cnt, device_class=whom)


def server_ca(**changes):
    return certificate_der(make_ca(**changes)[0])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(job, record) of a chip that went through the factory."""
    xy = {"root_a_xy": host_crypto.public_xy(A), "root_b_xy": host_crypto.public_xy(B)}
    job = new_job(tmp_path_factory.mktemp("work"), floor=FLOOR, **xy)
    return job, load_record(provision_chip(blank(seed=3).bus, job).record.path)


@pytest.fixture
def chip(made):
    job, record = made
    return Chip(
        serial=record.serial,
        root_a_xy=job.root_a_xy,
        root_b_xy=job.root_b_xy,
        identity=record.identity,
        floor=int.from_bytes(record.floor, "little"),
        read_url=split_url,
        device_ca=job.ca.certificate,
    )


@pytest.fixture
def firmware(made):
    return Firmware(
        bootloader=BOOTLOADER,
        image=signed(),
        class_id=CLASS.class_id,
        vendor_id=CLASS.vendor_id,
        root_a_xy=made[0].root_a_xy,
        root_b_xy=made[0].root_b_xy,
        genesis_root=genesis(),
        server_ca_der=server_ca(),
        server_url="https://updates.example:8443",
    )


def test_hex_that_a_device_can_live_with_is_taken(firmware, chip, made):
    assert require_livable(factory_hex(firmware, made[1]), "d.hex", chip).sec_cnt == FLOOR


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image": signed(sec_cnt=FLOOR + 256)}, "PO2 counter-step: SEC_CNT 265 is too far above 9"),
        ({"image": signed(sec_cnt=FLOOR - 1)}, "PO1 rollback: SEC_CNT 8 is below the floor 9"),
        ({"image": signed(), "max_step": 4, "genesis_root": genesis(min_secver=14)}, "out of reach"),
        ({"image": signed(key=STRANGER)}, "IM8 image-key"),
        ({"image": signed()[:-1] + b"\x00"}, "the first image: IM1"),
        ({"image": signed()[:900]}, "the first image: IM4"),
        ({"image": b"hello"}, "the first image: IM1 image-magic"),
        ({"image": signed(whom=OTHER)}, "IM7 image-class"),
        ({"vendor_id": OTHER.vendor_id}, "another vendor"),
        ({"genesis_root": genesis(signers=1)}, "the genesis ROOT: 1 of 2 necessary signatures"),
        ({"genesis_root": genesis(signers=0)}, "the genesis ROOT: 0 of 2 necessary signatures"),
        ({"genesis_root": b"\x80"}, "the genesis ROOT: "),
        ({"genesis_root": genesis(min_secver=FLOOR + 256)}, "out of reach for devices with floor 9"),
        ({"genesis_root": genesis(image_keys=(host_crypto.public_xy(STRANGER),))}, "other IMAGE keys"),
        ({"genesis_root": genesis(server_cas=(server_ca(ends=-DAY, starts=-9 * DAY),))}, "has expired on"),
        ({"server_url": "http://updates.example"}, "the server's URL: "),
        ({"server_url": "https://"}, "the server's URL: "),
        *(
            ({"server_url": "https://" + odd}, "the server's URL: ")
            for odd in (
                "updates.example:99999",
                "updates.example:0",
                "updates.example:",
                "user@updates.example",
                "u:p@updates.example",
                "updates.example#x",
                "updates.example?x",
                "updates.example/v1#x",
                "updates.example/a b",
                "updates.example.",
                "b\u00fccher.example",
                "Updates.example",
                " a",
                "[fe80::1%eth0]:8443",
                "::1",
                "1.2.3.256",
            )
        ),
        (
            {"server_ca_der": server_ca(ends=-DAY, starts=-9 * DAY)},
            "the server's CA: CN=a CA: no usable server CA",
        ),
        ({"server_ca_der": server_ca(starts=2 * DAY)}, "is not valid before"),
        ({"server_ca_der": server_ca() + server_ca(ends=-DAY, starts=-9 * DAY)}, "has expired on"),
        ({"server_ca_der": server_ca() + b"0"}, "its certificate: not a certificate in DER"),
        ({"server_ca_der": server_ca(ca=False)}, "CA:TRUE"),
        ({"server_ca_der": server_ca(usage=NO_CERT_SIGN)}, "keyCertSign"),
        ({"server_ca_der": b""}, "the server's CA: its certificate: not a certificate in DER"),
        ({"bootloader": bytes(1024)}, "the bootloader: initial stack pointer 0x00000000"),
        ({"bootloader": struct.pack("<II", 0x20001000, 0x08004201)}, "the bootloader: reset vector"),
    ],
)
def test_hex_that_a_device_could_not_live_with_is_refused(firmware, chip, made, changes, says):
    text = factory_hex(replace(firmware, **changes), made[1])
    with pytest.raises(VerifyError) as refused:
        require_livable(text, "d.hex", chip)
    assert says in str(refused.value)
    assert str(refused.value).startswith("not written, since ")


@pytest.mark.parametrize("step", [FLOOR, FLOOR + 255])
def test_counter_at_the_edge_of_what_the_bootloader_takes_is_written(firmware, chip, made, step):
    require_livable(factory_hex(replace(firmware, image=signed(sec_cnt=step)), made[1]), "d.hex", chip)


def test_every_reason_is_told_at_once(firmware, chip, made):
    bad = replace(firmware, image=signed(sec_cnt=900), genesis_root=genesis(signers=1), server_url="http://x")
    with pytest.raises(VerifyError) as refused:
        require_livable(factory_hex(bad, made[1]), "d.hex", chip)
    for says in ("PO2", "1 of 2 necessary signatures", "https://"):
        assert says in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"serial": bytes(9)}, "another crypto element"),
        ({"root_b_xy": host_crypto.public_xy(STRANGER)}, "other firmware roots than the element holds"),
        ({"identity": host_crypto.public_xy(STRANGER)}, "another device or key"),
        ({"device_ca": make_ca(name="another factory")[0]}, "the device's certificate: "),
    ],
)
def test_hex_of_another_chip_is_refused(firmware, chip, made, changes, says):
    with pytest.raises(VerifyError, match=says):
        require_livable(factory_hex(firmware, made[1]), "d.hex", replace(chip, **changes))


def overwritten(text, offset, data):
    from io import StringIO

    from intelhex import IntelHex

    file = IntelHex(StringIO(text))
    file.puts(FLASH_BASE + offset, data)
    out = StringIO()
    file.write_hex_file(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("offset", "says"),
    [
        (SETTINGS_OFFSET + 100, "the settings page: "),
        (TRUST_STORE_OFFSET + 100, "the trust store: "),
        (0x80000, "the HEX: 0x0808"),
    ],
)
def test_damage_anywhere_is_found(firmware, chip, made, offset, says):
    """0x80000 is the journal's place, which has to be blank."""
    text = overwritten(factory_hex(firmware, made[1]), offset, b"\x00\x01\x02\x03")
    with pytest.raises(VerifyError, match=says):
        require_livable(text, "d.hex", chip)


def test_settings_at_their_limits_are_taken(firmware, chip, made):
    for watchdog_s, tries in ((settings.DEFAULT_WATCHDOG_S, 1), (30, 15)):
        text = factory_hex(replace(firmware, watchdog_s=watchdog_s, tries=tries), made[1])
        require_livable(text, "d.hex", chip)
