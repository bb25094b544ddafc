"""Schema changes, in order. Each works on SQLite and PostgreSQL, and is tested from the previous release's data."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, inspect, text

from muniment.core.errors import Misconfigured
from muniment.store.engine import reading, writing

#: the newest revision; a store at another one is migrated, or refused if it comes from a newer program
NEWEST = "0019"
_LOCK = 0x6D756E6D  # PostgreSQL: one migration at a time, on any number of nodes


def revision(engine: Engine) -> str | None:
    """The revision a store is at, or None for an empty database."""
    with reading(engine) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def migrate(engine: Engine) -> bool:
    """Bring a store to the newest revision; return whether anything was done.

    Raises:
        Misconfigured: the store was written by a newer version of this program.
    """
    at = revision(engine)
    if at == NEWEST:
        return False
    if at is not None and at > NEWEST:
        raise Misconfigured(
            f"the store is of a newer Muniment (revision {at}, this one knows {NEWEST})",
            remedy="Install that version.",
        )
    from alembic import command  # noqa: PLC0415  a quarter of a second that only migrations need
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    with writing(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, NEWEST)
    return True
