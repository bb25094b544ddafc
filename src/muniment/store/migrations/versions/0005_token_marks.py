"""Tokens carry a mark, as entries do: a row that foreign SQL wrote lets nobody in (I11).

The rows that are there get none: nobody can tell by now who wrote them. Whoever holds such a token is told to have a
new one made.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("token", sa.Column("mark", sa.LargeBinary))


def downgrade() -> None:
    raise NotImplementedError("evidence is never migrated backwards; restore a backup")
