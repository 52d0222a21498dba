"""The ledger of a line: one row per chip in SQLite, CSV on demand. No secret goes in."""

import csv
import io
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from fota_signer.factory import ca
from fota_signer.factory.line import Job, Report, provision_chip
from fota_signer.factory.packets import Transport
from fota_signer.factory.recognise import ChipFacts
from fota_signer.factory.steps import Tell
from fota_wire.errors import FotaError, VerifyError
from fota_wire.files import require_folder
from fota_wire.host_sqlite import of_sqlite

COLUMNS = (
    "serial",
    "public_key",
    "attestation_key",
    "certificate",
    "started",
    "finished",
    "result",
    "detail",
)
OK, STARTED, FAILED = "ok", "started", "failed"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS device (
  serial TEXT PRIMARY KEY, public_key TEXT UNIQUE, attestation_key TEXT UNIQUE, certificate TEXT,
  started TEXT NOT NULL, finished TEXT, result TEXT NOT NULL, detail TEXT NOT NULL DEFAULT ''
) STRICT
"""


class Ledger:
    """An open ledger file; made if there is none. A row is on disk when the call that wrote it returns.

    Raises from every method: StorageError (exit code 5) if the file cannot be read or written, InputError if
    it is no database.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        require_folder(path.parent)
        is_new = not path.exists()
        try:
            self._open()
        except FotaError:
            if is_new:  # a full disk, say, leaves an empty file
                for end in ("", "-wal", "-shm", "-journal"):
                    path.with_name(path.name + end).unlink(missing_ok=True)
            raise

    def _open(self) -> None:
        path = self.path
        with self._told():
            self._db = sqlite3.connect(path, timeout=10, isolation_level=None)
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.execute(_SCHEMA)
                self._db.execute(f"SELECT {', '.join(COLUMNS)} FROM device LIMIT 0")  # noqa: S608
                self._db.execute("BEGIN IMMEDIATE")  # not writable has to show before a chip is touched
                self._db.execute("ROLLBACK")
            except sqlite3.Error:
                self._db.close()
                raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            told = of_sqlite(exc, self.path, f"ledger {self.path}")
            raise type(told)(f"{told}; nothing is lost, put it right and run again", told.code) from exc

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def find(self, serial: bytes) -> dict[str, str | None] | None:
        """Return the row of a chip, or None."""
        with self._told():
            row = self._db.execute("SELECT * FROM device WHERE serial = ?", (serial.hex(),)).fetchone()
        return dict(zip(COLUMNS, row, strict=True)) if row else None

    def begin(self, facts: ChipFacts) -> None:
        """Note that a chip is being provisioned.

        Raises:
            VerifyError: an open chip with the serial number of a finished one; code ``duplicate``.
        """
        row = self.find(facts.serial)
        if row is not None and row["result"] == OK:
            if not facts.data_locked:
                raise VerifyError(
                    f"step ledger: serial number {facts.serial.hex()} was seen before, on {row['finished']}, "
                    "and this chip is not that one: it is open",
                    "duplicate",
                )
            return
        with self._told():
            self._db.execute(
                "INSERT INTO device (serial, started, result) VALUES (?, ?, ?) "
                "ON CONFLICT (serial) DO UPDATE SET result = excluded.result, detail = ''",
                (facts.serial.hex(), _now(), STARTED),
            )

    def finish(self, report: Report) -> None:
        """Note a provisioned chip.

        Raises:
            VerifyError: the serial number has another key already, or the key another serial number.
        """
        public, attestation = report.identity.hex(), report.attestation.hex()
        row = self.find(report.facts.serial)
        if row is not None and row["result"] == OK:
            if row["public_key"] != public:
                raise VerifyError(
                    f"step ledger: serial number {report.device_id} was seen with another key",
                    "duplicate",
                )
            return
        values = (public, attestation, ca.pem(report.certificate), _now(), OK, report.device_id)
        with self._told():
            try:
                self._db.execute(
                    "UPDATE device SET public_key = ?, attestation_key = ?, certificate = ?, finished = ?, "
                    "result = ?, detail = '' WHERE serial = ?",
                    values,
                )
            except sqlite3.IntegrityError as exc:
                raise VerifyError(
                    f"step ledger: the key of {report.device_id} is another device's too", "duplicate"
                ) from exc

    def fail(self, serial: bytes, reason: str) -> None:
        """Note why a chip is not provisioned; a finished row stays as it is."""
        with self._told():
            self._db.execute(
                "UPDATE device SET result = ?, detail = ?, finished = ? WHERE serial = ? AND result <> ?",
                (FAILED, reason, _now(), serial.hex(), OK),
            )

    def counts(self) -> dict[str, int]:
        """Return how many rows have which result."""
        with self._told():
            return dict(self._db.execute("SELECT result, count(*) FROM device GROUP BY result").fetchall())

    def as_csv(self) -> str:
        """Return all rows as CSV, a header line first, by serial number."""
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(COLUMNS)
        with self._told():
            writer.writerows(self._db.execute("SELECT * FROM device ORDER BY serial"))
        return out.getvalue()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def provision_noted(
    transport: Transport, job: Job, ledger: Ledger | None, tell: Tell = lambda name, did: None
) -> Report:
    """Provision one chip and note in the ledger how it went.

    Raises:
        DeviceError, VerifyError, StorageError: as `provision_chip` and `Ledger`; a new run goes on.
    """
    begun: list[bytes] = []

    def gate(facts: ChipFacts) -> None:
        if ledger is not None:
            ledger.begin(facts)
            begun.append(facts.serial)

    try:
        report = provision_chip(transport, job, gate=gate, tell=tell)
    except FotaError as exc:
        if ledger is not None and begun:
            ledger.fail(begun[0], str(exc))
        raise
    if ledger is not None:
        ledger.finish(report)
    return report
