"""What waits for the ledger is named by its event's id, so that the oldest of it is found without a look at the rest.

By stream and number, PostgreSQL could choose to walk through every event ever recorded to find the few that wait.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.rename_table("outbox", "outbox_before")
    op.create_table("outbox", sa.Column("event_id", _ID, primary_key=True, autoincrement=False))
    op.execute(
        "INSERT INTO outbox (event_id) SELECT event.id FROM event JOIN outbox_before"
        " ON outbox_before.stream = event.stream AND outbox_before.seq = event.seq"
    )
    op.drop_table("outbox_before")


def downgrade() -> None:
    raise NotImplementedError("evidence is never migrated backwards; restore a backup")
