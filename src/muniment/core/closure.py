"""Closure checks: named yes/no tests that must hold, or be waived by a second person, before a ticket closes.

Each check is a function of the ticket's state alone, so an auditor computes the same answers from the ledger.
"""

from __future__ import annotations

from collections.abc import Callable

from muniment.core.events import CheckResult
from muniment.core.instants import parse_instant
from muniment.core.scope import covers
from muniment.core.separation import biased
from muniment.core.ticket import Ticket


def _approved_before_provisioned(t: Ticket) -> bool:
    """Approval was recorded, and not after provisioning started; for break-glass, every approval is there now."""
    return (
        t.approved_at is not None
        and t.starts_at is not None
        and parse_instant(t.approved_at) <= parse_instant(t.starts_at)
        # of a broken glass, approvals come afterwards, and the ticket stays open until they are there
        and not any(map(t.short_of, t.stages))
    )


def _nobody_alone(t: Ticket) -> bool:
    """No approval came from somebody with a stake in it, and no person counts twice."""
    people = [who for d in t.decisions for who in d.voters]
    return not any(biased(t, d) for d in t.decisions) and len(set(people)) == len(people)


def _approvals_bind_terms(t: Ticket) -> bool:
    """Every approval was given to exactly these terms."""
    return all(d.digest == t.digest for d in t.decisions)


def _scope_not_exceeded(t: Ticket) -> bool:
    """What was granted lies within what was approved, or the grant failed and was taken back."""
    within = t.granted is None or covers(t.approved, t.granted)
    return within or t.failure is not None


def _time_bound(t: Ticket) -> bool:
    """There was an end, and no later than the request and policy allow."""
    if t.starts_at is None or t.expires_at is None:
        return False
    lasted = (parse_instant(t.expires_at) - parse_instant(t.starts_at)).total_seconds()
    return lasted <= t.terms.duration and (t.obligations is None or t.terms.duration <= t.obligations.longest)


def _gone(t: Ticket) -> bool:
    """The target was seen without it."""
    return t.revocation is not None and t.revocation.observed_gone_at is not None


def _reviewed(t: Ticket) -> bool:
    """The review that is owed was done. A grant of which the target is known to have given nothing owes none."""
    if t.review is not None:
        return t.review.outcome is not None
    return t.review_excused or t.obligations is None or t.obligations.review_within is None


def _findings_resolved(t: Ticket) -> bool:
    """Nothing is left for a person to look at."""
    return all(f.resolved_at for f in t.findings)


CHECKS: dict[str, Callable[[Ticket], bool]] = {
    "approved_before_provisioned": _approved_before_provisioned,
    "nobody_alone": _nobody_alone,
    "approvals_bind_terms": _approvals_bind_terms,
    "scope_not_exceeded": _scope_not_exceeded,
    "time_bound": _time_bound,
    "gone": _gone,
    "reviewed": _reviewed,
    "findings_resolved": _findings_resolved,
}
#: these state what must never be false; a ticket that fails one is evidence of a fault, and stays open
NEVER_WAIVED = frozenset({"approved_before_provisioned", "nobody_alone", "approvals_bind_terms"})

#: nor these once the glass was broken: its review is what stands in for approvals beforehand (I10)
NEVER_WAIVED_GLASS = frozenset({"reviewed", "findings_resolved"})


def never_waived(ticket: Ticket) -> frozenset[str]:
    """The checks of a ticket that nobody's word replaces."""
    return NEVER_WAIVED | NEVER_WAIVED_GLASS if ticket.terms.kind == "break_glass" else NEVER_WAIVED


def run_checks(ticket: Ticket) -> tuple[CheckResult, ...]:
    """All checks, in a fixed order."""
    return tuple(
        CheckResult(check=name, holds=holds(ticket), waived=ticket.waived(name))
        for name, holds in CHECKS.items()
    )


def closable(checks: tuple[CheckResult, ...]) -> bool:
    """Whether every check holds or was waived."""
    return all(c.holds or c.waived for c in checks)
