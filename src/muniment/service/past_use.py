"""How the access of tickets was used: with what was read after they had ended, and with what the logs cover."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from muniment.core.events import LateUseObserved
from muniment.core.instants import wire
from muniment.core.scope import Scope, scope
from muniment.core.ticket import Ticket, Use
from muniment.core.use import Interval, Judged, RightSize, covers_all, right_size, window_of
from muniment.ports import Stream
from muniment.service.desk import Caller, Desk
from muniment.store.uses import SqlUses
from muniment.store.views import Filter

#: use of what a ticket gave that was read after it had ended, in a stream beside the ticket's
LATE = "use:"
#: earlier tickets that say what would have served
PAST = 10


def late_uses(desk: Desk, tickets: Iterable[str]) -> dict[str, tuple[Stream, LateUseObserved]]:
    """What was read of the use of tickets after they had ended."""
    found = desk.views.registered_of([LATE + ticket for ticket in tickets])
    return {
        name.removeprefix(LATE): (stream, event)
        for name, (stream, event) in found.items()
        if isinstance(event, LateUseObserved)
    }


def whole_use(ticket: Ticket, late: LateUseObserved | None) -> Use | None:
    """All use of a ticket that is on record."""
    if late is None:
        return ticket.use
    after = Use(events=late.events, first_at=late.first_at, last_at=late.last_at, privileges=late.privileges)
    if ticket.use is None:
        return after
    return Use(
        events=ticket.use.events + after.events, first_at=min(ticket.use.first_at, after.first_at),
        last_at=max(ticket.use.last_at, after.last_at), privileges=scope((*ticket.use.privileges, *after.privileges)),
    )  # fmt: skip


def judged(desk: Desk, tickets: Sequence[Ticket]) -> list[Judged]:
    """How each of these was used; those that never gave anything are left out."""
    uses = SqlUses(desk.store.engine)
    covered: dict[str, list[Sequence[Interval]]] = {}
    late = late_uses(desk, [ticket.id for ticket in tickets if ticket.ended])
    counted = uses.counted([ticket.id for ticket in tickets])
    found = []
    for ticket in tickets:
        window, target = window_of(ticket), ticket.terms.target
        if window is None:
            continue
        if target not in covered:
            covered[target] = _logs(desk, uses, target)
        use = whole_use(ticket, late[ticket.id][1] if ticket.id in late else None)
        begins, ends = map(wire, window)
        over = ticket.status not in {"provisioning", "active"}
        on_file = counted.get(ticket.id)
        found.append(
            Judged(
                ticket=ticket.id, beneficiary=ticket.terms.beneficiary, account=ticket.terms.account,
                granted=ticket.granted or ticket.approved, starts_at=begins, ends_at=ends,
                covered=over and covers_all(covered[target], begins, ends),
                events=use.events if use else 0, first_at=use.first_at if use else None, last_at=use.last_at if use else None,
                used=use.privileges if use else (), unnamed=on_file.unnamed if on_file else 0,
            )
        )  # fmt: skip
    return found


def _logs(desk: Desk, uses: SqlUses, target: str) -> list[Sequence[Interval]]:
    """What each log of a target covers; one that is configured and was never read covers nothing."""
    known = {source.source: source.covered for source in uses.sources(target)}
    configured = desk.targets[target].usage.get("logs", ()) if target in desk.targets else ()
    return [*known.values(), *(() for log in configured if (log.get("name") or log["format"]) not in known)]


def past(desk: Desk, caller: Caller, target: str, beneficiary: str, *, but: str = "") -> list[Judged]:
    """How somebody used what they had there before, newest first; of what the caller may see (I33)."""
    wanted = Filter(
        statuses=("revoking", "revoked", "closed"), target=target, beneficiary=beneficiary, limit=PAST + 1
    )
    found = [t for t in desk.views.tickets(wanted) if t.id != but and desk.may_see(t, caller)]
    return judged(desk, found[:PAST])


def would_serve(  # noqa: PLR0917  as they are had
    desk: Desk, caller: Caller, target: str, beneficiary: str, wanted: Scope, duration: timedelta
) -> RightSize | None:
    """What would have served before, if that is less than what is asked for now."""
    return right_size(past(desk, caller, target, beneficiary), wanted, duration)
