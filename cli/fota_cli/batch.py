"""A batch of virtual boards: a rehearsal of a factory line, with its ledger."""

import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fota_cli import net
from fota_cli.station import on_machine, virtual
from fota_wire.errors import FotaError, StorageError

if TYPE_CHECKING:
    from fota_signer.factory.ledger import Ledger
    from fota_signer.factory.line import Job

BAR = 30


@dataclass(slots=True, kw_only=True)
class Tally:
    """How a batch went so far."""

    total: int
    ok: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        """Boards dealt with."""
        return self.ok + self.skipped + len(self.failed)

    def line(self) -> str:
        """Return bar, counts, rate and the time left, on one line."""
        seconds = time.monotonic() - self.began
        rate = self.done / seconds if seconds else 0.0
        left = (self.total - self.done) / rate if rate else 0.0
        full = BAR * self.done // self.total
        return (
            f"[{'#' * full}{'-' * (BAR - full)}] {self.done}/{self.total} "
            f"{len(self.failed)} failed, {rate:.1f}/s, ETA {left:.0f} s"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the result for JSON."""
        seconds = time.monotonic() - self.began
        return {
            "count": self.total,
            "ok": self.ok,
            "skipped": self.skipped,
            "failed": len(self.failed),
            "seconds": round(seconds, 3),
            "seconds_per_board": round(seconds / max(self.ok, 1), 4),
            "first_failures": self.failed[:5],
        }


class Progress:
    """Tells a tally on stderr: one live line on a terminal, else a line per tenth."""

    def __init__(self, tally: Tally) -> None:
        self._tally, self._live, self._tenth = tally, net.live(), 0

    def show(self) -> None:
        """Tell it, if there is news."""
        tenth = 10 * self._tally.done // self._tally.total
        if self._live:
            click.echo(f"\r\x1b[K{self._tally.line()}", err=True, nl=self._tally.done == self._tally.total)
        elif tenth != self._tenth:
            self._tenth = tenth
            click.echo(self._tally.line(), err=True)


def run_batch(
    count: int, job: "Job", ledger: "Ledger", *, seed: int | None, resume: bool, devices: Path | None
) -> Tally:
    """Make and provision ``count`` virtual boards; a board that fails is noted, and the next one comes.

    Without ``devices`` a board is thrown away once it is in the ledger, its pairing keys with it.

    Raises:
        StorageError: ledger or records cannot be written: what is noted stays.
    """
    tally = Tally(total=count)
    progress = Progress(tally)
    for number in range(count):
        try:
            board_seed = secrets.randbits(63) if seed is None else seed + number
            if _board(board_seed, job, ledger, resume=resume, devices=devices):
                tally.ok += 1
            else:
                tally.skipped += 1
        except StorageError:
            raise
        except FotaError as exc:
            tally.failed.append(f"board {number}: {exc}")
        progress.show()
    return tally


def _board(seed: int, job: "Job", ledger: "Ledger", *, resume: bool, devices: Path | None) -> bool:
    """Provision one board; False if it was finished before."""
    from fota_signer.factory.ledger import OK, provision_noted

    machine_class, element_class = virtual()
    element = element_class(seed=seed)
    row = ledger.find(element.serial)
    if resume and row is not None and row["result"] == OK:
        return False
    machine = machine_class(element=element, seed=seed)
    report = provision_noted(on_machine(machine), job, ledger)
    machine.power_off()
    if devices is not None:
        machine.save(devices / f"{report.device_id}.vdev")
    else:
        report.record.path.unlink()
    return True
