"""PostgreSQL keeps samples of a column as statistics, on the disk: not of free texts and their salts."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for column in ("salt", "value"):
            op.execute(f'ALTER TABLE "text" ALTER COLUMN {column} SET STATISTICS 0')


def downgrade() -> None:
    raise NotImplementedError("evidence is never migrated backwards; restore a backup")
