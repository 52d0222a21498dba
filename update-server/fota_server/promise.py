"""A plan's digest: a chain over the order's head and its devices in the order of their ids. Pure.

Each link is a device with the release that it gets and its rank. Waves follow from ranks, so whoever has the
same digest gives the same devices the same release in the same waves and order. The plan that is shown and
the planner that carries it out make the same chain, each a page at a time.
"""

import hashlib
import json
from collections.abc import Iterable

from fota_server.plan import Order

BROKEN = (
    "the plan does not hold any more: devices, groups or releases have changed since it was made;"
    " make a new one with 'fota rollout plan'"
)


def head(order: Order) -> str:
    """Return what the chain of an order begins with: the hash of all that it says of itself."""
    policy = order.policy.to_json() if order.policy else None
    said = {"kind": order.kind, "scope": str(order.scope), "policy": policy, "seed": order.seed}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def link(chain: str, devices: Iterable[tuple[str, str, int]]) -> str:
    """Return the chain behind these devices: id, manifest digest of the release (hex), rank."""
    for device_id, manifest_digest, place in devices:
        chain = hashlib.sha256(f"{chain} {device_id} {manifest_digest} {place}".encode()).hexdigest()
    return chain
