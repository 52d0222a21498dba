"""Devices whose agents would refuse a ROOT, for a role that they do not know: asked before it is there."""

from sqlalchemy import ColumnElement, Connection, and_, func, select

from fota_server import schema


def mute(connection: Connection, silent: ColumnElement[bool], role: str, most: int) -> list[str]:
    """Return what is said of devices in the field that have not told that they take a ROOT with keys of
    ``role``; ``silent``: which those are. The first ``most`` are named.
    """
    devices, out, ddi = schema.devices, schema.retirements, schema.ddi_devices
    gone = select(out.c.device_id).where(out.c.device_id == devices.c.id).exists()
    foreign = select(ddi.c.device_id).where(ddi.c.device_id == devices.c.id).exists()
    of_before = and_(silent, ~devices.c.revoked, ~gone, ~foreign)
    number = connection.execute(select(func.count()).select_from(devices).where(of_before)).scalar_one()
    if not number:
        return []
    first = select(devices.c.id).where(of_before).order_by(devices.c.id).limit(most)
    names = ", ".join(connection.execute(first).scalars())
    return [
        f"{number} devices have not said that they take a ROOT with {role} keys, and would refuse it and"
        f" all after it ({names}): update their agents first"
    ]
