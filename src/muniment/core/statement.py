"""What an approver signs with a key of their own: one line that says all that the approval means, and where it counts.

Log, ticket and digest are in it, so a signature made for one ticket, or in one log, is worthless in another. ``since``
is when the ticket last began to wait for approvals, so one that was voided does not come back by itself.
"""

from __future__ import annotations

import msgspec

from muniment.core.identity import IdentityId
from muniment.core.ticket import Ticket

#: what SSHSIG calls the purpose: a signature for mail or git is never an approval
NAMESPACE = "muniment-approval"
KIND = "muniment-approval/1"


def approval_statement(log: str, ticket: Ticket, approver: IdentityId, digest: str) -> bytes:
    """The canonical JSON (RFC 8785) that an approver's signature is over.

    Args:
        log: origin of the ledger that the approval is recorded in.
        ticket: the ticket as it stands.
        approver: who approves, by their canonical id.
        digest: of the terms that they were shown.
    """
    said = {
        "approver": approver, "decision": "approve", "digest": digest, "kind": KIND, "log": log,
        "since": ticket.reopened_at or ticket.filed_at, "ticket": ticket.id,
    }  # fmt: skip
    return _encode(said)


_encode = msgspec.json.Encoder(order="sorted").encode
