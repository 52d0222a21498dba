"""A factory with throw-away keys, and virtual chips to provision: for tests of the factory's core."""

from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_der_x509_certificate, load_pem_x509_certificate

from fota_signer.factory.ca import DeviceCa, new_ca
from fota_signer.factory.i2c import I2cTransport
from fota_signer.factory.line import Job
from fota_signer.factory.record import load_record
from fota_vdev.atecc608 import Atecc608
from fota_vdev.machine import Machine
from fota_wire import element
from fota_wire.host_crypto import public_xy


@dataclass(frozen=True)
class Chip:
    """A virtual board; `bus` switches it on, however it went off."""

    machine: Machine

    @property
    def bus(self):
        self.machine.power_on()
        return I2cTransport(self.machine.i2c, self.machine.sleep_us)

    @property
    def nvm(self):
        return self.machine.element.nvm


def blank(seed=1):
    return Chip(Machine(element=Atecc608(seed=seed), seed=seed))


def new_root():
    return public_xy(ec.generate_private_key(ec.SECP256R1()))


def new_device_ca(name="factory"):
    key, certificate = new_ca(name, 3650, b"pw")
    return DeviceCa(key=load_pem_private_key(key, b"pw"), certificate=load_pem_x509_certificate(certificate))


def new_job(work: Path, **changes) -> Job:
    job = Job(root_a_xy=new_root(), root_b_xy=new_root(), ca=new_device_ca(), work=work, floor=9)
    return replace(job, **changes)


def require_finished(chip, job, report):
    """The chip holds everything, locked, and the record is its."""
    nvm, record = chip.nvm, load_record(report.record.path)
    assert nvm.config_locked
    assert nvm.data_locked
    assert [slot for slot in range(16) if nvm.slot_locked(slot)] == sorted(element.LOCKED_SLOTS)
    zone = nvm.read_config()
    assert zone[20:52] == element.wanted_config(bytes(128))[20:52]
    assert zone[96:] == element.wanted_config(bytes(128))[96:]
    assert (zone[70:72], zone[90:92]) == (b"\x03\xf7", b"\x02\x60")
    assert chip.machine.element.counters == (8 * job.floor, 0)
    assert nvm.public_key(15) == job.root_a_xy
    assert nvm.public_key(14) == job.root_b_xy
    assert bytes(nvm.slots[4][:32]) == record.mac_key
    assert nvm.io_key == record.io_key
    certificate = load_der_x509_certificate(record.certificate)
    certificate.verify_directly_issued_by(job.ca.certificate)
    assert public_xy(certificate.public_key()) == report.identity == record.identity
    assert len({report.identity, report.attestation}) == 2
    assert chip.machine.element.unmodelled == []
