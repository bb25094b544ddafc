"""Checkpoints: what they grew to, whether they are out, and what witnesses and time-stamp authorities said."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("checkpoint", sa.Column("frontier", sa.LargeBinary))
    op.add_column("checkpoint", sa.Column("published", sa.Text))
    op.create_table(
        "cosignature",
        sa.Column("size", ID, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("time", ID, primary_key=True, autoincrement=False),
        sa.Column("line", sa.Text, nullable=False),
    )
    op.create_table(
        "stamp",
        sa.Column("size", ID, primary_key=True, autoincrement=False),
        sa.Column("authority", sa.Text, primary_key=True),
        sa.Column("at", sa.Text, primary_key=True),
        sa.Column("token", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    raise NotImplementedError("evidence is never migrated backwards; restore a backup")
