"""How a server stands at the moment when somebody asks for its metrics: read then, not counted along.

What the database is asked goes by indexes, and no more often than every `REUSE_S`, however many ask: open
rollouts and their devices, not the fleet. Every server of a database says the same of it.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from cryptography import x509
from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection, Table, func, select

from fota_server import hand_out, schema
from fota_server.certificates import TlsFiles
from fota_server.database import Database
from fota_server.decide import RolloutState, TargetState
from fota_server.door import Door
from fota_server.metrics import REGISTRY

REUSE_S = 5.0
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ENDED = [state for state in RolloutState if state not in (RolloutState.PLANNING, RolloutState.RUNNING)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the database says. ``rollouts`` by `RolloutState` and "paused"; ``targets`` by `TargetState`."""

    devices: int
    retired: int
    rollouts: Mapping[str, int]
    targets: Mapping[str, int]
    halted: bool
    trials: int | None
    on_trial: int
    dead_letters: int


def read_facts(connection: Connection) -> Facts:
    """Return how the fleet stands."""
    rollouts, targets = schema.rollouts.c, schema.targets.c
    by_state: dict[str, int] = dict.fromkeys((*RolloutState, "paused"), 0)
    query = select(rollouts.state, rollouts.paused, func.count()).group_by(rollouts.state, rollouts.paused)
    for state, paused, count in connection.execute(query):
        by_state["paused" if paused and state == RolloutState.RUNNING else state] += count
    going = select(rollouts.id).where(rollouts.state.not_in(_ENDED))
    of_devices = select(targets.state, func.count()).where(targets.rollout_id.in_(going))
    found: dict[str, int] = dict(connection.execute(of_devices.group_by(targets.state)).tuples().all())
    limits = hand_out.limits(connection)
    return Facts(
        devices=_count(connection, schema.devices),
        retired=_count(connection, schema.retirements),
        rollouts=by_state,
        targets={state: found.get(state, 0) for state in TargetState},
        halted=limits["halted"] is not None,
        trials=limits["trials"],
        on_trial=limits["on_trial"],
        dead_letters=_count(connection, schema.dead_letters),
    )


def _count(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


class Standing:
    """What can be asked: the database, who is at the doors, who waits, the certificates, the disk."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        tls_files: Callable[[], TlsFiles],
        waiting: Callable[[], int],
        workers: Callable[[], Awaitable[list[str]]],
    ) -> None:
        self._workers = workers
        self._database = database
        self._folder = folder
        self._tls_files = tls_files
        self._waiting = waiting
        self.doors: dict[str, Door] = {}  # by plane, once there are listeners
        self._facts: tuple[float, Facts] | None = None
        self._reading = asyncio.Lock()

    async def page(self) -> bytes:
        """Return all metrics, in Prometheus' text format 0.0.4.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        async with self._reading:
            if self._facts is None or monotonic() - self._facts[0] > REUSE_S:
                self._facts = monotonic(), await self._database.read(read_facts)
        free = await asyncio.to_thread(lambda: shutil.disk_usage(self._folder).free)
        here = [*REGISTRY.collect(), *of_process(self._waiting(), self.doors)]
        elsewhere = [list(text_string_to_metric_families(text)) for text in await self._workers()]
        families = [*_summed([here, *elsewhere]), *self._of_server(free), *_of_fleet(self._facts[1])]
        return generate_latest(_Listed(families))

    def _of_server(self, free: int) -> Iterator[Metric]:
        yield _gauge("fota_disk_free_bytes", "Bytes free where artifacts are stored.", free)
        ends = GaugeMetricFamily(
            "fota_certificate_not_after_seconds",
            "When the first certificate of its kind ends, seconds since 1970.",
            labels=["certificate"],
        )
        files = self._tls_files()
        for name, certificates in (("server", files.server_chain), ("device_ca", files.device_cas)):
            ends.add_metric([name], min(_end(item) for item in certificates))
        yield ends


def of_process(waiting: int, doors: Mapping[str, Door]) -> Iterator[Metric]:
    """Give what each process that serves devices has of its own."""
    yield _gauge("fota_checkins_waiting", "Check-ins that wait for the next transaction.", waiting)
    open_ = GaugeMetricFamily("fota_open_connections", "Connections by plane.", labels=["plane"])
    new = GaugeMetricFamily(
        "fota_newcomers", "Of them, of clients that are not known yet or are over.", labels=["plane"]
    )
    room = GaugeMetricFamily("fota_connection_room", "Connections that a plane takes.", labels=["plane"])
    for plane, door in doors.items():
        open_.add_metric([plane], len(door.inside))
        new.add_metric([plane], door.newcomers)
        room.add_metric([plane], door.room.connections)
    yield from (open_, new, room)


def counted_here(waiting: int, doors: Mapping[str, Door]) -> str:
    """Return what a worker has counted and has now, for `Standing.page` of the main process."""
    return generate_latest(_Listed([*REGISTRY.collect(), *of_process(waiting, doors)])).decode()


def _summed(processes: list[list[Metric]]) -> list[Metric]:
    """Return the families of all processes as of one: each sample is the sum of theirs."""
    found: dict[str, Metric] = {}
    values: dict[tuple[str, str, tuple[tuple[str, str], ...]], float] = {}
    for family in (family for families in processes for family in families):
        found.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        for sample in family.samples:
            key = family.name, sample.name, tuple(sample.labels.items())
            values[key] = values.get(key, 0.0) + sample.value
    for (family_name, name, labels), value in values.items():
        found[family_name].add_sample(name, dict(labels), value)
    return list(found.values())


class _Listed:
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _end(certificate: x509.Certificate) -> float:
    return certificate.not_valid_after_utc.timestamp()


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _of_fleet(facts: Facts) -> Iterator[Metric]:
    yield _gauge("fota_devices", "Devices that the server knows.", facts.devices)
    yield _gauge("fota_devices_retired", "Of them, retired for good.", facts.retired)
    rollouts = GaugeMetricFamily("fota_rollouts", "Rollouts and rollbacks by state.", labels=["state"])
    for state, count in facts.rollouts.items():
        rollouts.add_metric([state], count)
    yield rollouts
    targets = GaugeMetricFamily(
        "fota_rollout_devices", "Devices of rollouts that go on, by target state.", labels=["state"]
    )
    for state, count in facts.targets.items():
        targets.add_metric([state], count)
    yield targets
    yield _gauge("fota_halted", "1: everything is stopped (fota rollout halt).", facts.halted)
    yield _gauge("fota_devices_on_trial", "Devices given a release, without a verdict.", facts.on_trial)
    yield _gauge("fota_webhook_dead_letters", "What receivers refused for good.", facts.dead_letters)
    if facts.trials is not None:  # no budget has no number
        yield _gauge("fota_trial_budget", "Devices that may be on trial at once.", facts.trials)
