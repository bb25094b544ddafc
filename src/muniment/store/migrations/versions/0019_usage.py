"""Use: what is kept of lines of targets' logs, and how far each was read."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.create_table(
        "use_line",
        sa.Column("target", sa.Text, primary_key=True),
        sa.Column("line", sa.Text, primary_key=True),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("privilege", sa.Text),
        sa.Column("batch", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("verdict", sa.Text),
        sa.Column("ticket", sa.Text),
    )
    pending = sa.text("verdict IS NULL")
    op.create_index("use_line_pending", "use_line", ["target", "line"], sqlite_where=pending, postgresql_where=pending)
    op.create_index("use_line_ticket", "use_line", ["ticket", "verdict"])
    op.create_index("use_line_batch", "use_line", ["batch"])
    op.create_index("use_line_at", "use_line", ["target", "at"])
    op.create_table(
        "use_source",
        sa.Column("target", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("state", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "use_rejected",
        sa.Column("batch", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
    )


def downgrade() -> None:
    raise NotImplementedError("evidence is never migrated backwards; restore a backup")
