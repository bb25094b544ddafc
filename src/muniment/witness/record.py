"""What a witness has seen of each ledger. The one thing that it must never forget.

A witness that lost this file, or got back an old copy of it, would cosign a second history: it must not go on under
its key. So the file is made once, by `create`, names the keys it belongs to, and is never made anew by serving.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from muniment.core.errors import Misconfigured, StoreUnavailable
from muniment.ledger.errors import LedgerFault
from muniment.ledger.note import Verifier

#: seconds to wait for another thread or process that writes
BUSY = 10.0

_SCHEMA = """
CREATE TABLE cosigner (vkey TEXT PRIMARY KEY) STRICT;
CREATE TABLE log (vkey TEXT PRIMARY KEY, origin TEXT NOT NULL) STRICT;
CREATE TABLE seen (
  origin TEXT PRIMARY KEY,
  size INTEGER NOT NULL,
  root BLOB NOT NULL,
  time INTEGER NOT NULL,  -- of the cosignature, POSIX seconds
  note TEXT NOT NULL      -- with the log's lines that were verified, and with ours
) STRICT;
PRAGMA user_version = 1;
"""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The newest checkpoint of a ledger that was cosigned."""

    size: int
    root: bytes
    time: int  # POSIX seconds
    note: str


class Record:
    """The file of one witness. Safe for use by several threads and processes.

    Raises, from every method: `StoreUnavailable` when it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        """Open a file that `create` made.

        Raises:
            Misconfigured: there is none, or it is another file.
        """
        self._path = path
        if not path.is_file():
            raise Misconfigured(
                f"there is no witness at {path}",
                remedy="`muniment witness init` makes a new one. One whose file was lost needs a new key and name.",
                code="witness.no-record",
            )
        try:
            with self._reading() as connection:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
        except StoreUnavailable as error:
            if isinstance(error.__cause__, sqlite3.OperationalError):
                raise
            version = None  # "file is not a database"
        if version != 1:
            raise Misconfigured(
                f"{path} is not the file of a witness",
                remedy="Name the one that `muniment witness init` made.",
            )

    def cosigners(self) -> list[Verifier]:
        """The keys that it signs with."""
        with self._reading() as connection:
            rows = connection.execute("SELECT vkey FROM cosigner ORDER BY rowid").fetchall()
        return [self._key(vkey) for (vkey,) in rows]

    def keys_of(self, origin: str) -> list[Verifier]:
        """The keys that sign the ledger ``origin``; none if it is not known."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT vkey FROM log WHERE origin = ? ORDER BY rowid", (origin,)
            ).fetchall()
        return [self._key(vkey) for (vkey,) in rows]

    def logs(self) -> dict[str, list[Verifier]]:
        """Every known ledger, with its keys."""
        with self._reading() as connection:
            rows = connection.execute("SELECT origin, vkey FROM log ORDER BY origin, rowid").fetchall()
        found: dict[str, list[Verifier]] = {}
        for origin, vkey in rows:
            found.setdefault(origin, []).append(self._key(vkey))
        return found

    def add_log(self, key: Verifier) -> bool:
        """Cosign from now on what this key signs; return whether that is new."""
        with self.moving() as connection:
            row = (key.vkey, key.name)
            return connection.execute("INSERT OR IGNORE INTO log VALUES (?, ?)", row).rowcount == 1

    def remove_log_key(self, key: Verifier) -> bool:
        """No longer believe this key; what was seen of its ledger stays. Return whether it was known."""
        with self.moving() as connection:
            return connection.execute("DELETE FROM log WHERE vkey = ?", (key.vkey,)).rowcount == 1

    def seen(self, origin: str) -> Seen | None:
        """The newest checkpoint that was cosigned, or None."""
        with self._reading() as connection:
            return latest(connection, origin)

    @contextmanager
    def moving(self) -> Iterator[sqlite3.Connection]:
        """One write transaction. Nobody else writes meanwhile, and what it changed is durable when it ends."""
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._open() as connection:
            yield connection

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            # mode=rw: a file that went away is not made anew
            connection = sqlite3.connect(
                f"{self._path.resolve().as_uri()}?mode=rw", uri=True, timeout=BUSY, isolation_level=None
            )
            try:
                connection.execute("PRAGMA synchronous = FULL")
                yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _key(self, vkey: str) -> Verifier:
        try:
            return Verifier.from_vkey(vkey)
        except LedgerFault as fault:
            raise self._unusable(fault) from fault

    def _unusable(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(
            f"the witness's file {self._path} cannot be used: {error!s:.200}",
            remedy="Check its owner, mode and free space. If it is damaged, the witness needs a new key and name.",
        )


def latest(connection: sqlite3.Connection, origin: str) -> Seen | None:
    """The newest checkpoint that was cosigned, within a transaction."""
    row = connection.execute("SELECT size, root, time, note FROM seen WHERE origin = ?", (origin,)).fetchone()
    return None if row is None else Seen(size=row[0], root=row[1], time=row[2], note=row[3])


def move(connection: sqlite3.Connection, origin: str, before: Seen | None, after: Seen) -> bool:
    """From ``before`` to ``after``, or not at all: the compare-and-set, whatever locks did."""
    row = {"origin": origin, "size": after.size, "root": after.root, "time": after.time, "note": after.note}
    if before is None:
        query = "INSERT OR IGNORE INTO seen VALUES (:origin, :size, :root, :time, :note)"
    else:
        row |= {"old_size": before.size, "old_root": before.root}
        query = (
            "UPDATE seen SET size = :size, root = :root, time = :time, note = :note"
            " WHERE origin = :origin AND size = :old_size AND root = :old_root"
        )
    return connection.execute(query, row).rowcount == 1


def create(path: Path, cosigners: Sequence[Verifier]) -> Record:
    """Make the file of a new witness, for its owner alone.

    Raises:
        Misconfigured: there is a file already.
        StoreUnavailable: it cannot be written.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError as error:
        raise Misconfigured(
            f"{path} is there already",
            remedy="A witness's file is made once. Name another for another witness.",
        ) from error
    except OSError as error:
        raise StoreUnavailable(
            f"{path} cannot be written: {error.strerror}", remedy="Check the folder's owner and mode."
        ) from error
    try:
        connection = sqlite3.connect(path)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)
            connection.executemany("INSERT INTO cosigner VALUES (?)", [(each.vkey,) for each in cosigners])
            connection.commit()
        finally:
            connection.close()
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Record(path)
