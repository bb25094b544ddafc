"""Findings of drift, to be listed."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "drift",
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
    )
    op.create_index("drift_status", "drift", ["status", "stream"])
    op.create_index("drift_target", "drift", ["target", "status", "stream"])


def downgrade() -> None:
    raise NotImplementedError("evidence is never migrated backwards; restore a backup")
