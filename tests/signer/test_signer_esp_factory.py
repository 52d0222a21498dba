"""The flash of a new ESP32-C3: made, read with the device's own eyes, and put together by esptool."""

import hashlib
import io
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import esp_world
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from esp_idf_defs.partitions import PartitionTable
from intelhex import IntelHex

sys.path.insert(0, str(Path(__file__).parent))

from ca_world import make_ca
from elf_world import Elf
from esp_refused import REFUSED, image_of
from factory_world import blank, new_job

from fota_agent.transport.http import split_url
from fota_signer import esp_pack
from fota_signer.factory import esp_flash
from fota_signer.factory.flash import Firmware, chip_of_hex, factory_hex, load_hex
from fota_signer.factory.inspection import Chip, require_livable
from fota_signer.factory.line import provision_chip
from fota_signer.factory.record import load_record
from fota_signer.identity import device_class
from fota_signer.images import sign_application
from fota_wire import cose, esp_partitions, esp_signature, host_crypto, image, settings, status
from fota_wire import root as roots
from fota_wire.chips import esp32c3
from fota_wire.errors import InputError, VerifyError
from fota_wire.host_ca import certificate_der

CLASS = device_class(class_uuid=None, domain="example.com", model="demo")
FLOOR = 9
A, B, STRANGER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
OWNERS = [ec.generate_private_key(ec.SECP256R1()) for _ in range(5)]
BOOTLOADER = esp_pack.build(
    esp_pack.Head(0x403D8000, 5), [(0x3FCD8000, bytes(2000)), (0x403D8000, bytes(range(1, 201)) * 40)]
)
TABLE = esp_flash.table_image(None, esp32c3)
PLACES = esp_flash.places(TABLE, esp32c3)


def genesis():
    xy = [host_crypto.public_xy(key) for key in OWNERS]
    raw = roots.build_root(1, {0: (2, xy[:2]), 1: (2, xy[2:4]), 2: (1, xy[4:])})
    for key in OWNERS[:2]:
        raw = roots.FORM.add_signature(raw, cose.kid_of(host_crypto.public_xy(key)), host_crypto.signer(key))
    return raw


def signed(key=A, sec_cnt=FLOOR):
    return sign_application(
        esp_world.application(), key=key, version=(1, 0, 0, 0), sec_cnt=sec_cnt, device_class=CLASS
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(job, record) of an element that went through the factory."""
    xy = {"root_a_xy": host_crypto.public_xy(A), "root_b_xy": host_crypto.public_xy(B)}
    job = new_job(tmp_path_factory.mktemp("work"), floor=FLOOR, **xy)
    return job, load_record(provision_chip(blank(seed=5).bus, job).record.path)


@pytest.fixture
def chip(made):
    job, record = made
    return Chip(
        serial=record.serial,
        root_a_xy=job.root_a_xy,
        root_b_xy=job.root_b_xy,
        identity=record.identity,
        floor=FLOOR,
        read_url=split_url,
        device_ca=job.ca.certificate,
        row=esp32c3,
    )


@pytest.fixture(scope="module")
def firmware(made):
    return Firmware(
        bootloader=BOOTLOADER,
        image=signed(),
        class_id=CLASS.class_id,
        vendor_id=CLASS.vendor_id,
        root_a_xy=made[0].root_a_xy,
        root_b_xy=made[0].root_b_xy,
        genesis_root=genesis(),
        server_ca_der=certificate_der(make_ca()[0]),
        server_url="https://updates.example:8443",
        chip=esp32c3,
        table=TABLE,
    )


def flash_of(text):
    out = bytearray(b"\xff" * esp32c3.FLASH_SIZE)
    for offset, data in load_hex(text, "d.hex"):
        out[offset : offset + len(data)] = data
    return out


def test_flash_holds_everything_at_its_place(firmware, made):
    flash = flash_of(factory_hex(firmware, made[1]))
    assert flash[: len(BOOTLOADER)] == BOOTLOADER
    page = settings.unpack(bytes(flash[0x7000:0x7100]))
    assert (page.class_id, page.places) == (CLASS.class_id, (0x10000, 0x20000, 0x1F0000, 0x210000, 0x1F0000))
    assert flash[0x8000:0x8C00] == TABLE
    store = settings.unpack_trust_store(bytes(flash[0x12000:0x14000]))
    assert (store.chip, store.class_id) == ("esp32c3", CLASS.class_id)
    assert not flash[0x10000:0x12000].strip(b"\xff")
    assert not flash[0xD000:0xF000].strip(b"\xff")
    assert image.parse_image(bytes(flash[0x20000:0x210000]), in_flash=True).sec_cnt == FLOOR
    assert not flash[0x210000:].strip(b"\xff")


def test_hex_says_its_chip_and_erases_what_the_bootloader_writes(firmware, made):
    parts = load_hex(factory_hex(firmware, made[1]), "d.hex")
    assert chip_of_hex(parts) == "esp32c3"
    written = {at for offset, data in parts for at in range(offset // 4096, -(-(offset + len(data)) // 4096))}
    assert {0xD, 0xE, *range(0x10, 0x18)} <= written


def test_flash_that_a_device_can_live_with_is_taken(firmware, chip, made):
    assert require_livable(factory_hex(firmware, made[1]), "d.hex", chip).sec_cnt == FLOOR


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image": signed(STRANGER)}, "the first image: IM8 image-key"),
        ({"image": signed(sec_cnt=FLOOR - 1)}, "the first image: PO1 rollback"),
        ({"image": signed()[:-5000]}, "the first image: "),
        ({"bootloader": BOOTLOADER[:-1] + b"\0"}, "the bootloader: IM6 image-hash"),
        ({"bootloader": esp_world.application()[:0x6000]}, "the bootloader: IM3 image-size"),
        ({"bootloader": b"\xe9" + bytes(100)}, "the bootloader: IM2 image-header"),
        ({"bootloader": bytes(100)}, "the bootloader: IM1 image-magic"),
    ],
)
def test_flash_that_a_device_could_not_live_with_is_refused(firmware, chip, made, changes, says):
    with pytest.raises(VerifyError, match=says):
        require_livable(factory_hex(replace(firmware, **changes), made[1]), "d.hex", chip)


def overwritten(text, offset, data):
    file = IntelHex(io.StringIO(text))
    file.puts(offset, data)
    out = io.StringIO()
    file.write_hex_file(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("offset", "data", "says"),
    [
        (0x7000 + 172, b"\1", "the settings page: settings: missing or damaged"),
        (0x8000, b"\0", "PT1 partition-table"),
        (0x8000 + 32 * 6 + 16, b"\0", "does not match its MD5"),
        (0xD000, b"\0", "OTA data is not blank"),
        (0x11000, b"\0", "the boot journal is not blank"),
        (0x12004, b"\0", "the trust store: "),
        (0x20400, bytes(4), "the first image: IM6 image-hash"),
        (0x400000, b"\0", "is not in the flash of esp32c3"),
    ],
)
def test_flash_with_a_byte_wrong_is_refused_by_name(firmware, chip, made, offset, data, says):
    with pytest.raises(VerifyError, match=says):
        require_livable(overwritten(factory_hex(firmware, made[1]), offset, data), "d.hex", chip)


def test_places_that_are_not_those_of_the_table_are_refused(firmware, chip, made):
    other = esp_partitions.default_table(esp32c3)
    other[5].offset, other[5].size = 0x220000, 0x1E0000
    text = overwritten(factory_hex(firmware, made[1]), 0x8000, esp_partitions.build(other))
    with pytest.raises(VerifyError, match="holds other places than the partition table"):
        require_livable(text, "d.hex", chip)


def test_image_larger_than_its_partition_is_refused(firmware, made):
    other = esp_partitions.default_table(esp32c3)
    other[4].size = 0x10000
    with pytest.raises(InputError, match=r"bytes, partition 'ota_0' 65536"):
        factory_hex(replace(firmware, table=esp_partitions.build(other)), made[1])


def test_bootloader_given_is_looked_at():
    made = esp_flash.bootloader_image(BOOTLOADER, "b.bin", esp32c3)
    assert made == BOOTLOADER
    large = esp_pack.build(esp_pack.Head(0x403D8000, 5), [(0x403D8000, bytes(0x7000))])
    for data, says in (
        (esp_world.application(), "it is an application"),
        (large, "its room 28672"),
        (esp_pack.build(esp_pack.Head(0x40080000, 0), [(0x40080000, bytes(64))]), "IM13|ESP32, which is not"),
        (b"text", "magic is missing"),
    ):
        with pytest.raises(InputError, match=f"b.bin: no bootloader for chip esp32c3: .*({says})"):
            esp_flash.bootloader_image(data, "b.bin", esp32c3)


def test_bootloader_signed_for_the_chips_own_secure_boot_is_taken_if_the_signature_is_about_it():
    padded = BOOTLOADER + b"\xff" * (-len(BOOTLOADER) % 4096)
    key = esp_world.example_key("image-a")

    def with_digest(digest):
        signature = host_crypto.signer(key)(digest)
        block = esp_signature.build_block(host_crypto.public_xy(key), signature, digest)
        return padded + esp_signature.build_sector([block])

    good = with_digest(hashlib.sha256(padded).digest())
    assert esp_flash.bootloader_image(good, "b.bin", esp32c3) == good
    with pytest.raises(InputError, match="does not match the digest in its signature sector"):
        esp_flash.bootloader_image(with_digest(bytes(32)), "b.bin", esp32c3)
    gap = bytearray(good)
    gap[len(BOOTLOADER)] = 0
    with pytest.raises(InputError, match="are not blank"):
        esp_flash.bootloader_image(bytes(gap), "b.bin", esp32c3)


def test_table_given_is_looked_at():
    lacks = esp_partitions.build(esp_partitions.default_table(esp32c3)[:3])
    with pytest.raises(VerifyError, match=r"p\.bin: partition table: it has 0 slots"):
        esp_flash.table_image(lacks, esp32c3, "p.bin")


@pytest.fixture
def files(tmp_path, made, firmware):
    """What a factory line has on its disk."""
    for name, key in (("a.pub", A), ("b.pub", B)):
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / name).write_bytes(pem)
    contents = {"root.cbor": firmware.genesis_root, "bootloader.bin": BOOTLOADER, "app.img": firmware.image}
    contents["server-ca.crt"] = make_ca()[0].public_bytes(Encoding.PEM)
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    record = replace(made[1], path=tmp_path / "record.json").save()
    words = ["provision", "hex", record.path, "--bootloader", "bootloader.bin", "--image", "app.img"]
    words += ["--image-key-a", "a.pub", "--image-key-b", "b.pub", "--root", "root.cbor"]
    words += ["--server-ca", "server-ca.crt", "--server-url", "https://updates.example:8443"]
    return [*words, "--vendor-domain", "example.com", "--model", "demo", "-o", "device.hex"]


def test_command_writes_the_hex_and_esptool_makes_the_flash_of_it(fota, files, firmware, tmp_path):
    done = fota(*files, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["chip"] == "esp32c3"
    (command,) = told["programmers"]["esptool"]
    words = shlex.split(command)
    assert (words[0], words[3], words[-1]) == ("esptool", "write-flash", "device.hex")
    merge = ("--chip", "esp32c3", "merge-bin", "--output", tmp_path / "flash.bin")
    esp_world.tool("esptool", *merge, "0x0", tmp_path / "device.hex")
    flash = (tmp_path / "flash.bin").read_bytes()
    assert flash == flash_of((tmp_path / "device.hex").read_text())[: len(flash)]
    assert flash[0x20000 : 0x20000 + len(firmware.image)] == firmware.image
    (tmp_path / "boot.bin").write_bytes(flash[:0x7000])
    assert "ESP32-C3" in esp_world.tool("esptool", "image-info", tmp_path / "boot.bin")
    names = [part.name for part in PartitionTable.from_binary(flash[0x8000:0x8C00])]
    assert names == ["nvs", "otadata", "phy_init", "fota", "ota_0", "ota_1"]


def test_command_esptool_knows_its_words(fota, files):
    """No chip is there to be written: esptool has to find nothing wrong but that."""
    (command,) = json.loads(fota(*files, "--json").stdout)["programmers"]["esptool"]
    words = shlex.split(command)
    with pytest.raises(AssertionError) as caught:
        esp_world.tool("esptool", "--port", "/dev/null", *words[1:])
    assert "Error: " not in str(caught.value)
    assert "No such option" not in str(caught.value)
    assert "ould not" in str(caught.value)


def test_command_takes_the_products_own_table(fota, refused, files, tmp_path):
    own = esp_partitions.default_table(esp32c3)
    own[3].offset, own[4].offset, own[4].size = 0x3F8000, 0x10000, 0x1E0000
    own[5].offset, own[5].size = 0x1F0000, 0x200000
    (tmp_path / "own.bin").write_bytes(esp_partitions.build(own))
    assert fota(*files, "--partitions", "own.bin").returncode == 0
    flash = flash_of((tmp_path / "device.hex").read_text())
    assert settings.unpack(bytes(flash[0x7000:0x7100])).places == (
        0x3F8000,
        0x10000,
        0x1E0000,
        0x1F0000,
        0x200000,
    )
    says = "app.img is an Espressif image, expected a partition table"
    refused(3, *files[:-1], "other.hex", "--partitions", "app.img", says=says)


def test_command_takes_the_products_own_table_as_csv(fota, files, tmp_path):
    own = esp_partitions.default_table(esp32c3)
    rows = [f"{one.label},{one.kind},{one.subtype},,{one.size}" for one in own]
    (tmp_path / "own.csv").write_text("# name, type, subtype, offset, size\n" + "\n".join(rows))
    assert fota(*files, "--partitions", "own.csv").returncode == 0
    flash = flash_of((tmp_path / "device.hex").read_text())
    assert bytes(flash[0x8000:0x8C00]) == esp_partitions.build(own)


def test_command_refuses_the_image_or_the_options_of_another_chip(refused, files):
    refused(1, *files, "--chip", "stm32u585", says="image is for chip esp32c3, not stm32u585")


def test_command_finds_a_wrong_vendor_by_the_class(fota, refused, files):
    words = files[: files.index("--vendor-domain")]
    out = ["-o", "device.hex", "--rehearse"]
    wrong = "another --vendor-domain or --model"
    refused(3, *words, "--vendor-domain", "exmaple.com", "--model", "demo", *out, says=wrong)
    refused(3, *words, "--vendor-domain", "example.com", "--model", "demos", *out, says=wrong)
    refused(3, *words, "--vendor-id", "1" * 32, "--model", "demo", *out, says=wrong)
    refused(2, *words, "--vendor-domain", "example.com", *out, says="app.img names no vendor: say --model")
    refused(2, *words, *out, says="app.img names no vendor: say --vendor-domain NAME --model NAME")
    vendor = CLASS.vendor_id.hex()
    assert fota(*words, "--vendor-id", vendor, "--model", "demo", *out[:2]).returncode == 0


def test_hex_of_this_chip_and_parts_of_others_come_to_no_device(fota, refused, files, tmp_path):
    assert fota(*files).returncode == 0
    for chip in ("stm32l476", "stm32u585"):
        device = tmp_path / f"{chip}.vdev"
        assert fota("vdev", "create", device, "--chip", chip).returncode == 0
        says = f"is for chip esp32c3, and the virtual device is of {chip}"
        refused(3, "provision", "load", device, "device.hex", says=says)
    (tmp_path / "stm32.elf").write_bytes(Elf().build())
    rest = [*files[5:-1], "other.hex"]
    refused(
        3,
        *files[:3],
        "--bootloader",
        "stm32.elf",
        *rest,
        says="stm32.elf: is an application, linked for 0x08004200, and not the bootloader of chip esp32c3",
    )
    for chip_id, name in ((0, "ESP32"), (9, "ESP32-S3"), (13, "ESP32-C6")):
        other = esp_pack.build(esp_pack.Head(0x40380000, chip_id), [(0x40380000, bytes(64))])
        (tmp_path / "other.bin").write_bytes(other)
        says = f"image is for {name}, which is not booted"
        refused(3, *files[:3], "--bootloader", "other.bin", *rest, says=says)


@pytest.mark.parametrize("name", [name for name, row in REFUSED.items() if row[1] is not None])
def test_image_with_one_thing_wrong_comes_to_no_device(refused, files, tmp_path, name):
    (tmp_path / "bad.img").write_bytes(image_of(name))
    at = files.index("--image")
    words = [*files[: at + 1], "bad.img", *files[at + 2 :]]
    refused(1, *words, says=f"bad.img: {status.label(REFUSED[name][1])}: ")
