"""What entries are found by, how long tickets took, and filters that people keep.

Of what is there already, both are made from what is on record: entries by their leaves, tickets by their folded state.
"""

from datetime import datetime

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

#: rows read and written together
CHUNK = 2000


def upgrade() -> None:
    op.create_table(
        "fact",
        sa.Column("idx", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("target", sa.Text),
    )
    op.create_table(
        "saved_filter",
        sa.Column("identity", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("query", sa.Text, nullable=False),
    )
    op.add_column("ticket", sa.Column("kind", sa.Text))
    op.add_column("ticket", sa.Column("decided_after", sa.Integer))
    op.add_column("ticket", sa.Column("gone_after", sa.Integer))
    connection = op.get_bind()
    _tickets(connection)
    _facts(connection)
    with op.batch_alter_table("ticket") as batch:
        batch.alter_column("kind", existing_type=sa.Text, nullable=False)
    op.create_index("ticket_times", "ticket", ["id", "kind", "decided_after", "gone_after"])
    op.create_index("fact_at", "fact", ["at", "idx"])
    for name in ("kind", "actor", "target"):
        op.create_index(f"fact_{name}", "fact", [name, "at", "idx"])


def _tickets(connection: sa.Connection) -> None:
    last = ""
    while True:
        rows = connection.execute(
            sa.text("SELECT id, state FROM ticket WHERE id > :last ORDER BY id LIMIT :most"),
            {"last": last, "most": CHUNK},
        ).all()
        if not rows:
            return
        values = [{"id": ticket} | _times(msgspec.json.decode(bytes(state))) for ticket, state in rows]
        connection.execute(
            sa.text("UPDATE ticket SET kind = :kind, decided_after = :decided, gone_after = :gone WHERE id = :id"),
            values,
        )
        last = rows[-1].id


def _times(ticket: dict) -> dict:  # type: ignore[type-arg]
    kind, ordered = ticket["terms"].get("kind", "standard"), ticket.get("revocation") or {}
    answered = ticket.get("ended_at") if ticket["status"] == "denied" else ticket.get("approved_at")
    decided = None if answered is None or kind == "break_glass" else _between(ticket["filed_at"], answered)
    gone, seen = None, ordered.get("observed_gone_at")
    if seen is not None:
        over = min(ordered["ordered_at"], ticket.get("expires_at") or ordered["ordered_at"])
        gone = _between(over, seen)
    return {"kind": kind, "decided": decided, "gone": gone}


def _between(start: str, end: str) -> int:
    return max(0, int((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()))


def _facts(connection: sa.Connection) -> None:
    start = 0
    while True:
        rows = connection.execute(
            sa.text(
                "SELECT l.idx, e.body, t.target FROM leaf l JOIN event e ON e.id = l.event_id"
                " LEFT JOIN ticket t ON t.id = e.stream WHERE l.idx >= :start ORDER BY l.idx LIMIT :most"
            ),
            {"start": start, "most": CHUNK},
        ).all()
        if not rows:
            return
        values = []
        for index, body, target in rows:
            entry = msgspec.json.decode(bytes(body))
            own = entry["data"].get("target")
            about = target or (own if isinstance(own, str) else None)
            values.append(
                {"idx": index, "at": entry["at"], "kind": entry["type"], "actor": entry["actor"]["id"], "target": about}
            )  # fmt: skip
        connection.execute(
            sa.text("INSERT INTO fact (idx, at, kind, actor, target) VALUES (:idx, :at, :kind, :actor, :target)"),
            values,
        )
        start = rows[-1].idx + 1


def downgrade() -> None:
    raise NotImplementedError("evidence is never migrated backwards; restore a backup")
