"""A request before people decide on it: submit, withdraw. What they decide is in `approving`."""

from __future__ import annotations

from datetime import datetime, timedelta

from muniment.core import commands as c
from muniment.core import events as e
from muniment.core.budget import require_within
from muniment.core.errors import Invalid, Refused
from muniment.core.extending import require_extension
from muniment.core.glass import require_glass
from muniment.core.identity import Identity, is_human
from muniment.core.instants import LONGEST, spoken
from muniment.core.terms import Terms, terms_digest
from muniment.core.ticket import Ticket
from muniment.core.verdict import Obligations, Verdict, obliged

#: the kind of reference that break-glass always names
INCIDENT = "incident"
#: a start this far in the past is a slow client, not a mistake
PAST_TOLERANCE = timedelta(minutes=1)
#: tickets that are filed together
MAX_BUNDLE = 20


def submit(command: c.Submit, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """File a ticket, with policy's verdict on it. A denial by policy is on record too."""
    terms, verdict = command.terms, facts.verdict
    _require_sound(terms, now)
    if facts.actor is None or facts.actor.id != terms.requester or verdict is None:
        raise Refused("a request is filed by its requester, with policy's verdict", code="refused.actor")
    if not facts.active:
        raise Refused(
            f"{terms.beneficiary} or whoever answers for it is deactivated",
            remedy="An operator can see who owns it with `muniment whoami`; an active owner is needed.",
            code="refused.inactive",
        )
    for identity in (terms.requester, terms.beneficiary):
        if not is_human(identity) and not facts.accountable:
            raise Refused(
                f"{identity} has no accountable owner",
                remedy="Give it an owner in the directory.",
                code="refused.no-owner",
            )
    if terms.extends:
        require_extension(terms, facts.extended, now)
    if terms.bundle:
        _require_bundle(command.ticket, terms.bundle)
    _require_budgets(terms, facts, now)
    require_glass(terms, facts)
    digest = terms_digest(command.ticket, terms)
    filed = e.RequestSubmitted(terms=terms, digest=digest, accountable=facts.accountable)
    return filed, *judged(terms, verdict, facts)


def judged(terms: Terms, verdict: Verdict, facts: c.Facts) -> tuple[e.Event, ...]:
    """Policy's verdict on terms that are put before it, and what follows from it at once.

    Raises:
        Refused: something the requester can mend at once.
    """
    obligations = verdict.obligations and obliged(
        verdict.obligations, break_glass=terms.kind == "break_glass"
    )
    decided = e.PolicyDecided(
        permitted=verdict.permitted, policies=verdict.policies, determining=verdict.determining,
        reasons=verdict.reasons, obligations=obligations, evaluations=verdict.evaluations, entities=verdict.entities,
    )  # fmt: skip
    if not verdict.permitted or obligations is None:
        return decided, e.RequestDenied(by="policy", reasons=verdict.reasons)
    _require_obligations(terms, obligations, facts)
    if obligations.stages and terms.kind != "break_glass":  # whose approvals come afterwards
        return (decided,)
    return decided, e.RequestApproved(approvers=(), scope=terms.scope, duration=terms.duration)


def withdraw(ticket: Ticket, command: c.Withdraw, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """End one's own request before access begins."""
    del command, now
    require_own(ticket, facts, "withdraw")
    return (e.RequestWithdrawn(),)


def require_own(ticket: Ticket, facts: c.Facts, act: str) -> Identity:
    """Raise `Refused` unless the actor is the requester, the beneficiary, or accountable for them now."""
    actor = facts.actor
    own = {ticket.terms.requester, ticket.terms.beneficiary, *facts.accountable}
    if actor is None or not own.intersection((actor.id, *actor.aliases)):
        who = ticket.terms.requester
        raise Refused(
            f"only {who}, the beneficiary or its owner can {act} {ticket.id}",
            remedy=f"Ask {who}; an operator or an owner of {ticket.terms.target} can revoke it.",
            code="refused.not-yours",
        )
    return actor


def _require_budgets(terms: Terms, facts: c.Facts, now: datetime) -> None:
    """Whoever is not a person asks and holds within a budget; one that is not known is used up."""
    spent = {each.identity: each for each in facts.spent}
    for identity in dict.fromkeys((terms.requester, terms.beneficiary)):
        if is_human(identity):
            continue
        if identity not in spent:
            raise Refused(
                f"the budget of {identity} is not known", remedy="Try again.", code="refused.budget"
            )
        require_within(spent[identity], terms, now)


def _require_sound(terms: Terms, now: datetime) -> None:
    if not 0 < terms.duration <= LONGEST.total_seconds():
        raise Invalid("the duration is out of range", remedy=f"Ask for at most {LONGEST.days} days.")
    if not terms.scope:
        raise Invalid("the scope is empty", remedy="Name at least one privilege.")
    if terms.start and terms.start < now - PAST_TOLERANCE:
        raise Invalid(
            "the start lies in the past", remedy="Leave the start out to begin once it is approved."
        )
    if terms.start and terms.start > now + LONGEST:
        raise Invalid(
            f"the start lies more than {LONGEST.days} days ahead", remedy="File it nearer to the time."
        )


def _require_bundle(ticket: str, bundle: tuple[str, ...]) -> None:
    """Every ticket of a bundle names all of them, itself among them, each once."""
    if ticket not in bundle or len(set(bundle)) != len(bundle) or not 2 <= len(bundle) <= MAX_BUNDLE:
        raise Invalid(f"a bundle is 2 to {MAX_BUNDLE} tickets", remedy="File them with `muniment bundle`.")


def _require_obligations(terms: Terms, obligations: Obligations, facts: c.Facts) -> None:
    """Refuse what the requester can mend at once, before anything is filed."""
    if terms.duration > obligations.longest:
        longest = spoken(timedelta(seconds=obligations.longest))
        raise Refused(
            f"policy allows at most {longest} here",
            remedy=f"Ask for {longest} or less.",
            code="refused.too-long",
        )
    missed = unmet(terms, obligations, facts)
    if missed:
        raise missed


def named_references(terms: Terms) -> dict[str, str]:
    """Every reference of the terms, the incident of break-glass among them."""
    return {**terms.references, **({INCIDENT: terms.incident} if terms.incident else {})}


def unmet(terms: Terms, obligations: Obligations, facts: c.Facts) -> Refused | None:
    """The first demand that terms and target do not meet, whoever approves. Asked when filing and before giving (I9)."""
    absent = [kind for kind in obligations.references if kind not in terms.references]
    if absent:
        return Refused(
            f"policy demands a reference here: {', '.join(absent)}",
            remedy=f"Add --reference {absent[0]}=ID.",
            code="refused.reference-required",
        )
    shut = [kind for kind in obligations.references_open or () if kind not in facts.open_references]
    if shut:
        named = named_references(terms).get(shut[0])
        return Refused(
            f"policy demands an open {shut[0]} here, and {named} is not known to be one"
            if named
            else f"policy demands an open {shut[0]} here",
            remedy=f"Name one with {'--incident ID' if shut[0] == INCIDENT else f'--reference {shut[0]}=ID'}, and see that it is open.",
            code="refused.reference-not-open",
        )
    if obligations.native_expiry and not facts.native_expiry:
        return Refused(
            f"policy demands that {terms.target} itself ends the access, which it cannot",
            remedy="Choose a target whose access expires by itself, or ask an operator for another policy.",
            code="refused.native-expiry",
        )
    if obligations.sessions_cut is True and not facts.ends_sessions:
        return Refused(
            f"policy demands that sessions end with the access, and {terms.target} cannot end them",
            remedy="Choose a target that ends sessions, or ask an operator for another policy.",
            code="refused.sessions-cut",
        )
    if obligations.scope_bounded is True and not facts.scope_bounded:
        return Refused(
            "policy allows only what the catalogue calls bounded here, and not all of the scope is",
            remedy=f"`muniment targets` shows what is bounded on {terms.target}; ask for less.",
            code="refused.scope-bounded",
        )
    return None
