# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""After a command that may set something off: do what is due at once, so that a first ticket needs no server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from muniment.core.errors import Conflict, IntegrityError, LeaseLost, MunimentError, Refused

if TYPE_CHECKING:
    from muniment.cli.session import Session
    from muniment.core.ticket import Ticket
    from muniment.service.desk import Desk

#: seconds between looks while waiting; what others do is seen by looking
PAUSE = 0.5
#: how often one looks whether another worker is done
OTHERS_LOOKS = 20
#: while a target does not answer
LONGEST_PAUSE = 30.0


def settle(session: Session, desk: Desk, ticket: Ticket) -> tuple[Ticket, MunimentError | None]:
    """Move the ticket on as far as it goes now, and seal. A trouble comes back beside the ticket as it stands."""
    from muniment.service.pursuing import pursue

    trouble: MunimentError | None = None
    with session.working(f"{ticket.terms.target} is asked"):
        try:
            ticket = pursue(desk, ticket.id)
        except IntegrityError:
            raise
        except (LeaseLost, Conflict):  # `muniment serve` was quicker: it is in good hands
            ticket = _left_to_others(desk, ticket)
        except MunimentError as error:
            trouble, ticket = error, reread(desk, ticket)
    return ticket, sealed(desk) or trouble


def _left_to_others(desk: Desk, ticket: Ticket) -> Ticket:
    """Give another worker a moment to end what it does, so that the ticket is shown as it then stands."""
    for _ in range(OTHERS_LOOKS):
        ticket = reread(desk, ticket)
        if ticket.status not in {"approved", "provisioning", "revoking"}:
            break
        time.sleep(PAUSE)
    return ticket


def sealed(desk: Desk) -> MunimentError | None:
    """Seal what was recorded; return what is in the way of it. The entries are durable in any case."""
    from muniment.service.sealing import seal

    try:
        seal(desk)
    except IntegrityError:
        raise
    except MunimentError as error:
        return error
    return None


def reread(desk: Desk, ticket: Ticket) -> Ticket:
    """The ticket as it stands now."""
    return desk.store.read(ticket.id)[1] or ticket


def wait(session: Session, desk: Desk, ticket: Ticket) -> tuple[Ticket, MunimentError | None]:
    """Wait until there is access, or never will be; do what becomes due meanwhile."""
    from muniment.cli.tickets import waiting_for

    pause, told = PAUSE, ""
    while True:
        now = desk.clock.now()
        if ticket.status == "pending" and ticket.lapses_at <= now:
            from muniment.service.attending import attend

            attend(desk, [ticket.id])
        ticket, trouble = settle(session, desk, reread(desk, ticket))
        if ticket.status == "active":
            return ticket, None
        if ticket.ended or ticket.status in {"revoking", "revoked"}:
            return ticket, over(desk, ticket)
        news = trouble.message if trouble else "; ".join(waiting_for(ticket, desk.clock.now()))
        if news != told:
            session.note(f"{ticket.id} is {ticket.status}: {news}")
            told = news
        pause = min(pause * 2, LONGEST_PAUSE) if trouble else PAUSE
        time.sleep(pause)


def over(desk: Desk, ticket: Ticket) -> MunimentError | None:
    """Why a ticket that was just filed, or waited for, gives no access; None while it still may."""
    from muniment.cli.tickets import target_owners

    owners = ", ".join(target_owners(desk, ticket)) or "an operator"
    decided = next((d.approver for d in ticket.decisions if d.decision == "deny"), None)
    match ticket.status:
        case "denied" if decided is None:
            return Refused(
                f"policy does not permit {ticket.id}: {'; '.join(ticket.reasons) or 'no policy permits it'}",
                remedy=f"Ask for what the reasons allow; {owners} can say more.",
                code="refused.by-policy",
            )
        case "denied":
            return Refused(f"{decided} denied {ticket.id}", remedy=f"Ask {decided}.", code="refused.denied")
        case "withdrawn":
            return Refused(f"{ticket.id} was withdrawn", remedy="File it again.", code="refused.withdrawn")
        case "lapsed":
            why = "; ".join(ticket.reasons)
            return Refused(f"{ticket.id} lapsed: {why}", remedy="File it again.", code="refused.lapsed")
        case "revoking" | "revoked" | "closed" | "failed":
            why = ticket.failure.message if ticket.failure else "its access is over"
            code = ticket.failure.code if ticket.failure else "refused.over"
            return Refused(
                f"{ticket.id} gives no access: {why}", remedy=f"File it again, or ask {owners}.", code=code
            )
        case _:
            return None
