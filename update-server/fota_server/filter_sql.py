"""A filter as a condition over ``devices``, on both databases; it means what `filters.matches` does."""

from typing import assert_never

from sqlalchemy import ColumnElement, and_, exists, func, not_, or_

from fota_server import schema
from fota_server.filters import OF_THE_DEVICE, All, Any, Filter, Not, Test

_devices, _attributes = schema.devices, schema.attributes
_OWN = dict(zip(OF_THE_DEVICE, (_devices.c.id, _devices.c.running_version), strict=True))

VALUE = func.coalesce(_attributes.c.given, _attributes.c.said)
"""The value of an attribute: an operator's word stands before the device's own."""


def condition(found: Filter) -> ColumnElement[bool]:
    """Return a condition that is true or false for each row of ``devices``, never null."""
    match found:
        case Not(part):
            return not_(condition(part))
        case All(parts):
            return and_(*(condition(part) for part in parts))
        case Any(parts):
            return or_(*(condition(part) for part in parts))
        case Test():
            return _test(found)
        case _:
            assert_never(found)


def _test(test: Test) -> ColumnElement[bool]:
    own = _OWN.get(test.name)
    if own is not None:
        return and_(own.is_not(None), *_among(own, test))
    mine = _attributes.c.device_id == _devices.c.id
    return exists().where(mine, _attributes.c.name == test.name, *_among(VALUE, test))


def _among(value: ColumnElement[str], test: Test) -> tuple[ColumnElement[bool], ...]:
    if test.values is None:
        return ()
    if test.prefix:  # not LIKE: that knows no capitals on SQLite
        return (func.substr(value, 1, len(test.values[0])) == test.values[0],)
    return (value.in_(test.values),)
