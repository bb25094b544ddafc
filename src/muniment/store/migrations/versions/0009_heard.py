"""Messages from outside that count once: logout tokens of an identity provider."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "heard",
        sa.Column("sender", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("until", sa.Text, nullable=False),
    )
    op.create_index("heard_until", "heard", ["until"])


def downgrade() -> None:
    raise NotImplementedError("evidence is never migrated backwards; restore a backup")
