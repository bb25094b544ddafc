"""What was said about a device: yes, no, or that it has its token. Rows live for minutes, so the table is made anew."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.drop_table("device")
    op.create_table(
        "device",
        sa.Column("hash", sa.LargeBinary, primary_key=True),
        sa.Column("identity", sa.Text, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("until", sa.Text, nullable=False),
        sa.Column("mark", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    raise NotImplementedError("evidence is never migrated backwards; restore a backup")
