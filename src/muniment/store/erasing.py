"""Deleted is not gone: what a database keeps of a text in its files, and how it is removed from there.

SQLite: ``secure_delete`` (`engine`) writes zeros over what is deleted; a copy that an older page left behind goes by
VACUUM, and the write-ahead log by a checkpoint that cuts it. PostgreSQL: the old version of a row lies in the table's
file until the table is written anew, which also leaves out what an old snapshot could still see.

Not in reach from here: backups, replicas' files, PostgreSQL's own write-ahead log until its segments are used again,
and blocks that the file system has freed.
"""

from __future__ import annotations

from sqlalchemy import Engine, text

from muniment.core.errors import MunimentError, StoreUnavailable
from muniment.store.engine import translated, writers_turn, writing

#: how long PostgreSQL waits for those who read the table
_PATIENCE = "10s"
#: an expression that changes nothing, so that the table is written anew; VACUUM FULL keeps what old snapshots see
_REWRITE = "ALTER TABLE \"text\" ALTER COLUMN value TYPE text USING value || ''"


def scrub(engine: Engine) -> None:
    """Remove from the files what was deleted from the table of texts. Safe while others work; may take a while.

    Raises:
        StoreUnavailable: somebody reads all the time, there is no room for a copy, or the table belongs to another
            role. The text is deleted all the same, and this may be done again.
    """
    try:
        if engine.dialect.name == "postgresql":
            with writing(engine) as connection:
                connection.execute(text(f"SET LOCAL lock_timeout = '{_PATIENCE}'"))
                connection.execute(text(_REWRITE))
            return
        with translated(), writers_turn(engine):
            raw = engine.raw_connection()
            try:
                cursor = raw.cursor()
                cursor.execute("VACUUM")
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                row = cursor.fetchone()
                busy = row is None or row[0] != 0
                cursor.close()
            finally:
                raw.close()
    except MunimentError as error:
        raise _left(error.message) from error
    if busy:
        raise _left("somebody reads the store all the time")


def _left(why: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"the text is deleted and shown to nobody, but the store's files may still hold it: {why}",
        remedy="Run the same command again, when less is going on. On PostgreSQL the owner of the table can run:"
        ' VACUUM FULL "text".',
        code="erase.not-scrubbed",
    )
