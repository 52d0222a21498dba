"""Provisioning: from blank to a locked, paired device, by packets; and what is refused before any lock."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from lifeline import HANG_S

from fota_vdev.atecc608 import Atecc608
from fota_vdev.machine import Machine
from fota_vdev.provision import provision
from fota_vdev.wires.host import ChipHost
from fota_wire import image as wire_image
from fota_wire import root as roots
from fota_wire import settings
from fota_wire.cose import key_hash, kid_of
from fota_wire.errors import FotaError
from fota_wire.host_crypto import public_xy, signer, verify

CLASS_ID, VENDOR_ID = bytes(range(16)), bytes(range(16, 32))


def new_key():
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def signed_image(key, class_id=CLASS_ID, sign=None):
    payload = (0x2001_0000).to_bytes(4, "little") + (0x0800_4301).to_bytes(4, "little") + bytes(1024)
    protected = wire_image.build_protected(1, class_id)
    signed = wire_image.build_header(len(payload), len(protected), (1, 0, 0, 0)) + payload + protected
    digest = hashlib.sha256(signed).digest()
    return signed + wire_image.build_unprotected(
        digest, key_hash(public_xy(key)), (sign or signer(key))(digest)
    )


@pytest.fixture
def factory(tmp_path, assemble_elf):
    """Everything that provision() takes, all of it good."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import NameOID

    ca_key, root_a, root_b = new_key(), new_key(), new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "factory")])
    now = datetime.now(UTC)
    ca = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(ca_key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    (tmp_path / "ca.crt").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "ca.pem").write_bytes(
        ca_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return {
        "bootloader_elf": assemble_elf("  b .\n"),
        "image": signed_image(root_a),
        "class_id": CLASS_ID,
        "vendor_id": VENDOR_ID,
        "root_a_xy": public_xy(root_a),
        "root_b_xy": public_xy(root_b),
        "genesis_root": b"\x80",
        "server_ca_der": b"ca",
        "server_url": "https://updates.example:8443",
        "device_ca_key": tmp_path / "ca.pem",
        "device_ca_cert": tmp_path / "ca.crt",
    }, SimpleKeys(ca=ca, root_a=root_a)


class SimpleKeys:
    def __init__(self, **keys):
        self.__dict__.update(keys)


@pytest.fixture
def blank():
    return Machine(element=Atecc608(seed=4), seed=4)


def test_provisioned_device_is_locked_paired_and_certified(blank, factory):
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    inputs, keys = factory
    report = provision(blank, **inputs, tries=5, watchdog_s=7)
    serial = blank.element.serial
    assert report.device_id == serial.hex()
    certificate = x509.load_der_x509_certificate(report.certificate_der)
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == serial.hex()
    certificate.verify_directly_issued_by(keys.ca)
    assert public_xy(certificate.public_key()) == report.identity_key

    page = settings.unpack(blank.flash.read_phys(1, 0x3800, 256))
    assert (page.serial, page.class_id, page.tries, page.watchdog_s) == (serial, CLASS_ID, 5, 7)
    assert page.root_a == key_hash(inputs["root_a_xy"])
    store = settings.unpack_trust_store(blank.flash.read_phys(1, 0x2000, 0x1800))
    assert store.device_cert == report.certificate_der
    assert store.server_url == inputs["server_url"]
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
    assert nvm.public_key(15) == inputs["root_a_xy"]
    assert nvm.public_key(14) == inputs["root_b_xy"]
    assert blank.element.unmodelled == []


def test_identity_key_signs_and_no_secret_is_in_the_report(blank, factory):
    inputs, _ = factory
    report = provision(blank, **inputs)
    blank.power_on()
    host = ChipHost(blank.i2c, blank.sleep_us)
    digest = hashlib.sha256(b"x").digest()
    assert verify(report.identity_key, digest, host.sign(0, digest))
    text = repr(report) + str(report.as_dict())
    page = settings.unpack(blank.flash.read_phys(1, 0x3800, 256))
    for secret in (page.io_key, page.mac_key, blank.element.nvm.private_key(0)):
        assert secret.hex() not in text
        assert repr(secret) not in text


def test_two_devices_share_no_secret(factory):
    inputs, _ = factory
    pages = []
    for seed in (1, 2):
        machine = Machine(element=Atecc608(seed=seed))
        provision(machine, **inputs)
        pages.append(settings.unpack(machine.flash.read_phys(1, 0x3800, 256)))
    assert pages[0].io_key != pages[1].io_key
    assert pages[0].mac_key != pages[1].mac_key
    assert pages[0].serial != pages[1].serial


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param({"image": b"nonsense" * 100}, "image", id="not-an-image"),
        pytest.param({"class_id": bytes(16)}, "another device class", id="wrong-class"),
        pytest.param({"root_a_xy": public_xy(new_key())}, "neither firmware root", id="wrong-root"),
        pytest.param({"server_url": "x" * 300}, "URL", id="url-too-long"),
        pytest.param({"genesis_root": b"x" * 5000}, "ROOT", id="root-too-long"),
        pytest.param({"tries": 16}, "tries", id="too-many-tries"),
    ],
)
def test_wrong_input_is_refused_before_the_element_is_locked(blank, factory, change, text):
    inputs, _ = factory
    with pytest.raises(FotaError, match=text):
        provision(blank, **(inputs | change))
    assert not blank.element.nvm.config_locked
    assert blank.flash.read_phys(1, 0, 16) == b"\xff" * 16


def test_image_with_a_bad_signature_is_refused(blank, factory):
    inputs, keys = factory
    forger = SimpleKeys(sign=signer(new_key()))
    mixed = signed_image(keys.root_a, sign=forger.sign)
    with pytest.raises(FotaError, match="bad signature"):
        provision(blank, **(inputs | {"image": mixed}))
    assert not blank.element.nvm.config_locked


def test_ca_key_of_another_ca_is_refused(blank, factory, tmp_path):
    from cryptography.hazmat.primitives import serialization

    inputs, _ = factory
    (tmp_path / "other.pem").write_bytes(
        new_key().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(FotaError, match="not the key of the certificate"):
        provision(blank, **(inputs | {"device_ca_key": tmp_path / "other.pem"}))
    assert not blank.element.nvm.config_locked


def test_bootloader_linked_elsewhere_or_no_elf_is_refused(blank, factory, tmp_path):
    inputs, _ = factory
    (tmp_path / "x.elf").write_bytes(b"hello")
    with pytest.raises(FotaError, match="not an ELF"):
        provision(blank, **(inputs | {"bootloader_elf": tmp_path / "x.elf"}))
    assert not blank.element.nvm.config_locked


def test_second_provisioning_is_refused_by_the_chip(blank, factory):
    inputs, _ = factory
    provision(blank, **inputs)
    flash = blank.flash.state()
    with pytest.raises(FotaError, match="refused"):
        provision(blank, **inputs)
    assert blank.flash.state() == flash


def test_command_line_provisions_and_the_device_reports_what_it_is(factory, tmp_path):
    import json
    import subprocess
    import sys
    import uuid

    from cryptography.hazmat.primitives import serialization

    inputs, keys = factory
    device = tmp_path / "d.vdev"

    def vdev(*args, code=0):
        program = "from fota_cli.main import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", program, "vdev", *map(str, args)],
            capture_output=True,
            text=True,
            timeout=HANG_S,
        )
        assert done.returncode == code, done.stderr
        return done

    def pem(key):
        return key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    root_b = new_key()
    owners = [public_xy(key) for key in (keys.root_a, root_b, new_key())]
    genesis = roots.build_root(1, {role: (1, [xy]) for role, xy in enumerate(owners)}, 0, 0, ())
    genesis = roots.add_signature(genesis, kid_of(owners[0]), signer(keys.root_a))
    files = {"a.pem": pem(keys.root_a), "b.pem": pem(root_b), "image": inputs["image"], "root": genesis}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    common = [
        *("--bootloader", inputs["bootloader_elf"], "--image", tmp_path / "image"),
        *(
            "--vendor-id",
            uuid.UUID(bytes=VENDOR_ID),
            "--image-key-a",
            tmp_path / "a.pem",
            "--image-key-b",
            tmp_path / "b.pem",
        ),
        *("--root", tmp_path / "root", "--server-ca", tmp_path / "ca.crt"),
        *("--server-url", "https://x", "--ca-key", tmp_path / "ca.pem"),
        *("--ca-cert", tmp_path / "ca.crt", "--certificate-out", tmp_path / "device.crt"),
    ]
    vdev("create", device)
    blank = device.read_bytes()
    vdev("provision", device, *common, "--class", "nonsense", code=3)
    vdev("provision", device, *common, "--class", uuid.UUID(int=1), code=3)
    assert device.read_bytes() == blank
    told = json.loads(
        vdev("provision", device, *common, "--class", uuid.UUID(bytes=CLASS_ID), "--json").stdout
    )
    view = json.loads(vdev("status", device, "--json").stdout)
    assert view["element"]["serial"] == told["device_id"]
    assert view["element"]["data_locked"] is True
    assert view["slot_a"]["image"] == told["image_version"] == "1.0.0"
    assert (tmp_path / "device.crt").read_text() == told["certificate"]
    there = vdev("provision", device, *common, "--class", uuid.UUID(bytes=CLASS_ID), code=3)
    assert "device.crt exists" in there.stderr
    (tmp_path / "device.crt").unlink()
    again = vdev("provision", device, *common, "--class", uuid.UUID(bytes=CLASS_ID), code=6)
    assert "refused" in again.stderr
