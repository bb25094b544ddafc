"""PostgreSQL finds delegations among the entries, and the registry by prefix, by an index of its own.

SQLite does both by the indexes that it has, for its order is that of the bytes.
"""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE INDEX event_delegation ON event (stream, seq) WHERE starts_with(stream, 'delegation:')"
        )
        op.execute('CREATE INDEX registry_prefix ON registry (stream COLLATE "C")')


def downgrade() -> None:
    raise NotImplementedError("evidence is never migrated backwards; restore a backup")
