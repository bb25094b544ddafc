"""For identities that come in and events that go out: what is kept for a provider, and what is on its way."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "provisioned",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("revision", _ID, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("changed_at", sa.Text, nullable=False),
        sa.Column("removed_at", sa.Text),
        sa.Column("mark", sa.LargeBinary, nullable=False),
    )
    op.create_index("provisioned_name", "provisioned", ["kind", "name"])
    op.create_index("provisioned_revision", "provisioned", ["revision"])
    head = op.create_table(
        "provisioned_head",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("revision", _ID, nullable=False),
    )
    op.bulk_insert(head, [{"id": 1, "revision": 0}])
    op.create_table(
        "delivery",
        sa.Column("sink", sa.Text, primary_key=True),
        sa.Column("idx", _ID, primary_key=True, autoincrement=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", sa.Text),
        sa.Column("error", sa.Text, nullable=False),
    )
    op.create_index("delivery_due", "delivery", ["sink", "due_at"])
    op.create_table(
        "feed",
        sa.Column("sink", sa.Text, primary_key=True),
        sa.Column("next", _ID, nullable=False),
        sa.Column("closed", sa.Text),
    )


def downgrade() -> None:
    raise NotImplementedError("evidence is never migrated backwards; restore a backup")
