"""`fota vdev provision`: the factory on an emulated chip; what is refused leaves the device as it was."""

import hashlib
import json
import subprocess
import sys
import uuid

import pytest
from chip_host import ChipHost
from emulated_factory import example_certificate, example_device, genesis
from lifeline import HANG_S

from fota_signer.examples import example_files, example_key
from fota_vdev.atecc608 import Atecc608
from fota_vdev.machine import Machine
from fota_wire import image as wire_image
from fota_wire import settings
from fota_wire.cose import key_hash
from fota_wire.errors import DeviceError, FotaError
from fota_wire.host_crypto import public_xy, signer, verify

CLASS_ID, VENDOR_ID = bytes(range(16)), bytes(range(16, 32))
ROOT_A = example_key("image-a")


def signed_image(sign=None):
    payload = (0x2001_0000).to_bytes(4, "little") + (0x0800_4301).to_bytes(4, "little") + bytes(1024)
    protected = wire_image.build_protected(1, CLASS_ID)
    signed = wire_image.build_header(len(payload), len(protected), (1, 0, 0, 0)) + payload + protected
    digest = hashlib.sha256(signed).digest()
    names = key_hash(public_xy(ROOT_A))
    return signed + wire_image.build_unprotected(digest, names, (sign or signer(ROOT_A))(digest))


@pytest.fixture
def bootloader(assemble_elf):
    return assemble_elf("  b .\n")


@pytest.fixture
def inputs(bootloader):
    return {"bootloader": bootloader, "image": signed_image(), "class_id": CLASS_ID, "vendor_id": VENDOR_ID}


@pytest.fixture
def blank():
    return Machine(element=Atecc608(seed=4), seed=4)


def test_provisioned_device_is_locked_paired_and_certified(blank, inputs):
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    report = example_device(blank, **inputs, tries=5, watchdog_s=7)
    serial = blank.element.serial
    assert report.device_id == serial.hex()
    certificate = x509.load_der_x509_certificate(report.certificate)
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == serial.hex()
    certificate.verify_directly_issued_by(example_certificate("device-ca"))
    assert public_xy(certificate.public_key()) == report.identity

    page = settings.unpack(blank.flash.read_phys(1, 0x3800, 256))
    assert (page.serial, page.class_id, page.tries, page.watchdog_s) == (serial, CLASS_ID, 5, 7)
    assert page.root_a == key_hash(public_xy(ROOT_A))
    store = settings.unpack_trust_store(blank.flash.read_phys(1, 0x2000, 0x1800))
    assert (store.device_cert, store.genesis_root) == (report.certificate, genesis())
    assert blank.flash.read_phys(1, 0x4000, len(inputs["image"])) == inputs["image"]
    assert all(blank.flash.protected(1, page) for page in range(8))
    assert not blank.flash.protected(1, 8)
    assert not blank.powered
    assert blank.flash.counters.total_erases == 0

    nvm = blank.element.nvm
    assert nvm.config_locked
    assert nvm.data_locked
    assert [slot for slot in range(16) if nvm.slot_locked(slot)] == [0, 1, 4, 6, 14, 15]
    assert nvm.io_key == page.io_key
    assert bytes(nvm.slots[4][:32]) == page.mac_key
    assert nvm.public_key(15) == public_xy(ROOT_A)
    assert nvm.public_key(14) == public_xy(example_key("image-b"))
    assert blank.element.unmodelled == []


def test_identity_key_signs_and_no_secret_is_in_the_report(blank, inputs):
    report = example_device(blank, **inputs)
    blank.power_on()
    host = ChipHost(blank.i2c, blank.sleep_us)
    digest = hashlib.sha256(b"x").digest()
    assert verify(report.identity, digest, host.sign(0, digest))
    page = settings.unpack(blank.flash.read_phys(1, 0x3800, 256))
    for secret in (page.io_key, page.mac_key, blank.element.nvm.private_key(0)):
        assert secret.hex() not in str(report.as_dict())


def test_two_devices_share_no_secret(inputs):
    pages = []
    for seed in (1, 2):
        machine = Machine(element=Atecc608(seed=seed))
        example_device(machine, **inputs)
        pages.append(settings.unpack(machine.flash.read_phys(1, 0x3800, 256)))
    assert pages[0].io_key != pages[1].io_key
    assert pages[0].mac_key != pages[1].mac_key
    assert pages[0].serial != pages[1].serial


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param({"image": b"nonsense" * 100}, "image", id="not-an-image"),
        pytest.param({"class_id": bytes(16)}, "class", id="wrong-class"),
        pytest.param({"root_a_xy": public_xy(example_key("assign"))}, "key", id="wrong-root"),
        pytest.param({"server_url": "x" * 300}, "URL", id="url-too-long"),
        pytest.param({"genesis_root": b"x" * 5000}, "ROOT", id="root-too-long"),
        pytest.param({"genesis_root": b"\xa0"}, "ROOT", id="no-root"),
        pytest.param({"server_ca_der": b"ca"}, "server's CA", id="no-server-ca"),
        pytest.param({"tries": 16}, "tries", id="too-many-tries"),
        pytest.param({"image": signed_image(signer(example_key("assign")))}, "signature", id="forged-image"),
    ],
)
def test_what_the_device_could_not_live_with_reaches_no_flash(blank, inputs, change, text):
    with pytest.raises(FotaError, match=text):
        example_device(blank, **(inputs | change))
    assert blank.flash.read_phys(1, 0, 16) == b"\xff" * 16
    assert blank.flash.read_phys(1, 0x3800, 16) == b"\xff" * 16


def test_second_provisioning_is_refused(blank, inputs):
    example_device(blank, **inputs)
    flash = blank.flash.state()
    with pytest.raises(DeviceError, match="provisioned already"):
        example_device(blank, **inputs)
    assert blank.flash.state() == flash


def fota(*args, code=0):
    program = "from fota_cli.entry import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, args)], capture_output=True, text=True, timeout=HANG_S
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def command(tmp_path, bootloader):
    """The command line of a device that can be provisioned, but for its file."""
    for name, data in example_files().items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o600)
    (tmp_path / "image").write_bytes(signed_image())
    (tmp_path / "root").write_bytes(genesis())
    files = {"--image": "image", "--image-key-a": "image-a.pub.pem", "--image-key-b": "image-b.pub.pem",
             "--root": "root", "--server-ca": "server-ca.crt", "--ca-key": "device-ca.pem",
             "--ca-cert": "device-ca.crt", "--certificate-out": "device.crt"}  # fmt: skip
    options = [part for option, name in files.items() for part in (option, tmp_path / name)]
    return [*options, "--bootloader", bootloader, "--vendor-id", uuid.UUID(bytes=VENDOR_ID), "--server-url",
            "https://x", "--allow-example-keys"]  # fmt: skip


def test_command_line_provisions_and_the_device_reports_what_it_is(command, tmp_path):
    device = tmp_path / "d.vdev"
    fota("vdev", "create", device)
    blank = device.read_bytes()
    fota("vdev", "provision", device, *command, "--class", "nonsense", code=3)
    fota("vdev", "provision", device, *command, "--class", uuid.UUID(int=1), code=3)
    fota("vdev", "provision", device, *command[:-1], code=1)
    (tmp_path / "image").write_bytes(signed_image(signer(example_key("assign"))))
    assert "signature" in fota("vdev", "provision", device, *command, code=1).stderr
    (tmp_path / "image").write_bytes(signed_image())
    other = [tmp_path / "assign.pem" if str(part).endswith("device-ca.pem") else part for part in command]
    fota("vdev", "provision", device, *other, code=3)
    assert device.read_bytes() == blank
    assert not (tmp_path / "device.crt").exists()
    told = json.loads(fota("vdev", "provision", device, *command, "--json").stdout)
    view = json.loads(fota("vdev", "status", device, "--json").stdout)
    assert view["element"]["serial"] == told["device_id"]
    assert view["element"]["data_locked"] is True
    assert view["slot_a"]["image"] == told["image_version"] == "1.0.0"
    assert (tmp_path / "device.crt").read_text() == told["certificate"]
    assert "device.crt exists" in fota("vdev", "provision", device, *command, code=3).stderr
    (tmp_path / "device.crt").unlink()
    done = device.read_bytes()
    assert "provisioned already" in fota("vdev", "provision", device, *command, code=6).stderr
    assert device.read_bytes() == done


def test_virtual_device_is_loaded_with_the_hex_of_a_board(command, tmp_path, bootloader):
    """`vdev provision` leaves in flash what `provision device`, `hex` and `load` leave there."""
    first, second = tmp_path / "first.vdev", tmp_path / "second.vdev"
    for device in (first, second):
        fota("vdev", "create", device, "--seed", 5)
    fota("vdev", "provision", first, *command)
    keys = ["--image-key-a", tmp_path / "image-a.pub.pem", "--image-key-b", tmp_path / "image-b.pub.pem"]
    ca = ["--ca-key", tmp_path / "device-ca.pem", "--ca-cert", tmp_path / "device-ca.crt"]
    fota("provision", "device", second, *keys, *ca, "--work", tmp_path, "--allow-example-keys")
    (record,) = tmp_path.glob("*.json")
    left = [part for n, part in enumerate(command) if n not in range(10, 16)]
    fota("provision", "hex", record, *left, "-o", tmp_path / "x.hex")
    fota("provision", "load", second, tmp_path / "x.hex")
    with Machine.load(first) as one, Machine.load(second) as two:
        assert one.flash.options == two.flash.options
        for begin, end in (
            (0, 0x2000),
            (0x4000, 0x5000),
        ):  # between them: keys, a certificate
            assert one.flash.read_phys(1, begin, end - begin) == two.flash.read_phys(1, begin, end - begin)
        stores = [settings.unpack_trust_store(m.flash.read_phys(1, 0x2000, 0x1800)) for m in (one, two)]
        pages = [settings.unpack(m.flash.read_phys(1, 0x3800, 256)) for m in (one, two)]
    assert stores[0].server_url == stores[1].server_url == "https://x"
    assert pages[0].serial == pages[1].serial
    assert pages[0].io_key != pages[1].io_key
