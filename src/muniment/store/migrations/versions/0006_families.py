"""Delegations are found among the entries by an index of their own: how many there are is asked with every approval."""

from alembic import op
from sqlalchemy import text

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_index(
        "event_delegation",
        "event",
        ["stream", "seq"],
        sqlite_where=text("stream >= 'delegation:' AND stream < 'delegation;'"),
        postgresql_where=text("starts_with(stream, 'delegation:')"),
    )


def downgrade() -> None:
    raise NotImplementedError("evidence is never migrated backwards; restore a backup")
