"""Recertification campaigns, to be listed, and their items."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0014"


def upgrade() -> None:
    op.create_table(
        "campaign",
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("due_at", sa.Text),
        sa.Column("state", sa.LargeBinary, nullable=False),
    )
    op.create_index("campaign_status", "campaign", ["status", "stream"])
    op.create_index("campaign_due", "campaign", ["due_at", "stream"])
    op.create_table(
        "campaign_part",
        sa.Column("list", sa.Text, primary_key=True),
        sa.Column("part", sa.Integer, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    raise NotImplementedError("evidence is never migrated backwards; restore a backup")
