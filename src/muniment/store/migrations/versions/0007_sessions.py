"""Sessions of people who signed in with an identity provider, and devices that they let in."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "session",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("identity", sa.Text, nullable=False),
        sa.Column("login", sa.Text, nullable=False),
        sa.Column("issuer", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("sid", sa.Text),
        sa.Column("without", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("seen_at", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Text, nullable=False),
        sa.Column("ended_at", sa.Text),
        sa.Column("mark", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "device",
        sa.Column("hash", sa.LargeBinary, primary_key=True),
        sa.Column("identity", sa.Text, nullable=False),
        sa.Column("until", sa.Text, nullable=False),
        sa.Column("mark", sa.LargeBinary, nullable=False),
    )
    op.create_index("session_subject", "session", ["issuer", "subject"])
    op.create_index("session_sid", "session", ["issuer", "sid"])
    op.create_index("session_expires", "session", ["expires_at"])


def downgrade() -> None:
    raise NotImplementedError("evidence is never migrated backwards; restore a backup")
