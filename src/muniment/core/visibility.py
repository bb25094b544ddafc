"""Who may see a ticket, as keys: what a ticket's own state says, and what somebody holds. They meet, or it is not there.

A key is an identity, ``group:NAME`` of an approver's stage, or ``target:ID`` for owners of the target. The store keeps
each ticket's keys in an index, so that a list is asked for by them and nothing else is ever looked at (I33).
"""

from __future__ import annotations

from collections.abc import Iterable

from muniment.core.identity import Identity
from muniment.core.ticket import Ticket

#: roles that see every ticket
SEES_ALL = frozenset({"operator", "auditor"})


def viewers(ticket: Ticket) -> frozenset[str]:
    """The requester, the beneficiary and who answers for them; approvers, named or by group; owners of the target."""
    return frozenset(
        {
            ticket.terms.requester,
            ticket.terms.beneficiary,
            *ticket.accountable,
            *(decision.approver for decision in ticket.decisions),
            *(approver for stage in ticket.stages for approver in stage.approvers),
            f"target:{ticket.terms.target}",
        }
    )


def sees(ticket: Ticket, keys: frozenset[str], received: frozenset[str] = frozenset()) -> bool:
    """Whether these keys open a ticket; those of whoever handed on their authority open it by its stages alone."""
    stages = {approver for stage in ticket.stages for approver in stage.approvers}
    return not (keys.isdisjoint(viewers(ticket)) and received.isdisjoint(stages))


def keys_of(identity: Identity, owned: Iterable[str]) -> frozenset[str]:
    """What somebody holds, who owns these targets."""
    return frozenset(
        {
            identity.id,
            *identity.aliases,
            *(f"group:{group}" for group in identity.groups),
            *(f"target:{target}" for target in owned),
        }
    )
