"""For reconciliation: the lines of the newest inventories of each target."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "inventory_part",
        sa.Column("inventory", sa.Text, primary_key=True),
        sa.Column("part", sa.Integer, primary_key=True),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("inventory_part_target", "inventory_part", ["target"])


def downgrade() -> None:
    raise NotImplementedError("evidence is never migrated backwards; restore a backup")
