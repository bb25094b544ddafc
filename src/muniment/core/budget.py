"""How much a machine or agent may ask for and hold (I38). Counted from what is on file; what was refused counts not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from muniment.core.errors import Refused
from muniment.core.identity import Budget, Identity, IdentityId
from muniment.core.instants import parse_instant, spoken, wire
from muniment.core.terms import Terms

#: of whoever is not a person and has none of its own, or leaves one of its numbers out
DEFAULT_REQUESTS_PER_HOUR = 60
DEFAULT_CONCURRENT_GRANTS = 20
DEFAULT_LONGEST = 8 * 3600
HOUR = timedelta(hours=1)


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What one of them asked for and holds, as the read model says now."""

    identity: IdentityId
    budget: Budget  # every number is there
    filed: tuple[str, ...]  # when its own requests of the last hour were filed, oldest first
    held: int  # tickets for it that wait, or give access
    ends: tuple[str, ...]  # when those end whose end is known, earliest first


def budget_of(identity: Identity) -> Budget:
    """Its own numbers, and the default for those that it lacks."""
    own = Budget() if isinstance(identity.budget, msgspec.UnsetType) else identity.budget

    def chosen(number: int | None, default: int) -> int:
        return default if number is None else number

    return Budget(
        requests_per_hour=chosen(own.requests_per_hour, DEFAULT_REQUESTS_PER_HOUR),
        concurrent_grants=chosen(own.concurrent_grants, DEFAULT_CONCURRENT_GRANTS),
        longest=chosen(own.longest, DEFAULT_LONGEST),
    )


def also(spent: Spent, filed: Sequence[Terms], now: datetime) -> Spent:
    """With what is filed in the same moment, before this one."""
    mine = [t for t in filed if t.requester == spent.identity]
    held = sum(1 for t in filed if t.beneficiary == spent.identity)
    return replace(spent, filed=(*spent.filed, *(wire(now) for _ in mine)), held=spent.held + held)


def require_within(spent: Spent, terms: Terms, now: datetime) -> None:
    """Raise `Refused` if these terms are more than the budget leaves, saying when there is room again."""
    who, budget = spent.identity, spent.budget
    if budget.longest is None or terms.duration > budget.longest:
        longest = spoken(timedelta(seconds=budget.longest or 0))
        raise Refused(
            f"{who} has a budget: no access of more than {longest}",
            remedy=f"Ask for {longest} or less.",
            code="refused.budget-duration",
        )
    recent = [at for at in map(parse_instant, spent.filed) if at > now - HOUR]
    limit = budget.requests_per_hour or 0
    if who == terms.requester and len(recent) >= limit:
        free = f"at {recent[len(recent) - limit] + HOUR:%H:%M:%S} UTC" if limit else "never"
        raise Refused(
            f"{who} has a budget: {limit} requests an hour, and it has used them",
            remedy=f"There is room again {free}. Whoever answers for it can have the budget changed.",
            code="refused.budget-requests",
        )
    limit = budget.concurrent_grants or 0
    if who == terms.beneficiary and spent.held >= limit:
        ends = [at for at in map(parse_instant, spent.ends) if at > now]
        free = (
            f"at {ends[0]:%Y-%m-%d %H:%M:%S} UTC at the latest" if limit and ends else "once one of them ends"
        )
        raise Refused(
            f"{who} has a budget: {limit} tickets at once, and {spent.held} wait or give access",
            remedy=f"There is room again {free}; return or withdraw what is not needed.",
            code="refused.budget-grants",
        )
