"""For the API: tokens, commands that came with a key, and lists by who may see a ticket."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

#: tickets whose viewers are written together
CHUNK = 500


def upgrade() -> None:
    op.create_index("ticket_target", "ticket", ["target", "id"])
    op.create_index("ticket_findings", "ticket", ["open_findings", "id"])
    viewer = op.create_table(
        "viewer",
        sa.Column("who", sa.Text, primary_key=True),
        sa.Column("ticket", sa.Text, primary_key=True),
    )
    op.create_table(
        "token",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("identity", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Text, nullable=False),
        sa.Column("revoked_at", sa.Text),
    )
    op.create_index("token_identity", "token", ["identity"])
    op.create_table(
        "answered",
        sa.Column("who", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("ticket", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("sealed", sa.Integer, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
    )
    op.create_index("answered_at", "answered", ["at"])
    fill(op.get_bind(), viewer)


def fill(connection: sa.Connection, viewer: sa.Table) -> None:
    """Tickets that are there already, whose state is read as this revision wrote it."""
    ticket = sa.table("ticket", sa.column("id", sa.Text), sa.column("state", sa.LargeBinary))
    last = ""
    while rows := connection.execute(
        sa.select(ticket.c.id, ticket.c.state).where(ticket.c.id > last).order_by(ticket.c.id).limit(CHUNK)
    ).all():
        connection.execute(
            viewer.insert(),
            [{"who": who, "ticket": id_} for id_, state in rows for who in viewers(json.loads(bytes(state)))],
        )
        last = rows[-1].id


def viewers(state: dict[str, Any]) -> set[str]:
    terms, obligations = state["terms"], state.get("obligations") or {}
    incident = terms.get("incident") if terms["kind"] == "break_glass" else None
    return {
        *([f"incident:{incident.casefold()}"] if incident else ()),
        terms["requester"],
        terms["beneficiary"],
        *state["accountable"],
        *(decision["approver"] for decision in state.get("decisions", ())),
        *(approver for stage in obligations.get("stages", ()) for approver in stage["approvers"]),
        f"target:{terms['target']}",
    }


def downgrade() -> None:
    raise NotImplementedError("evidence is never migrated backwards; restore a backup")
