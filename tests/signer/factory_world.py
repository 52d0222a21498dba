"""A factory with throw-away keys, and virtual chips to provision: for tests of the factory's core."""

from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from fota_signer.factory.ca import DeviceCa, new_ca
from fota_signer.factory.i2c import I2cTransport
from fota_signer.factory.line import Job
from fota_vdev.atecc608 import Atecc608
from fota_vdev.machine import Machine
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
    key, certificate = new_ca(name, 10, b"pw")
    return DeviceCa(key=load_pem_private_key(key, b"pw"), certificate=load_pem_x509_certificate(certificate))


def new_job(work: Path, **changes) -> Job:
    job = Job(root_a_xy=new_root(), root_b_xy=new_root(), ca=new_device_ca(), work=work, floor=9)
    return replace(job, **changes)
