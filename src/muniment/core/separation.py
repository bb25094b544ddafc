"""Separation of duties (I2, I4, I6). No policy reaches these rules: they are code, and tests hold them.

- Only a person decides: no agent, service account or workload, whatever a policy permits.
- Nobody decides for himself: not the requester, not the beneficiary, not anybody accountable, at any level, for a
  non-human requester or beneficiary, as the directory knew it at filing or knows it now, under any alias.
- One person, one vote, one stage. A vote on behalf of somebody is the vote of both.
- Owners of a machine agree to what it gets where policy wants that: in a stage of their own, beside others' approval.
"""

from __future__ import annotations

from collections.abc import Iterable

from muniment.core.errors import Refused
from muniment.core.identity import Identity, IdentityId, is_human
from muniment.core.ticket import Decision, Ticket

#: what decides whether access is given
DECISIONS = frozenset({"approve", "deny", "counter"})


def excluded(ticket: Ticket, accountable_now: Iterable[IdentityId] = ()) -> frozenset[IdentityId]:
    """Everybody who may not decide on this ticket because it is, in effect, their own."""
    terms = ticket.terms
    return frozenset({terms.requester, terms.beneficiary, *ticket.accountable, *accountable_now})


def biased(ticket: Ticket, decision: Decision) -> bool:
    """Whether a decision on file is that of somebody with a stake; owners may agree, in a stage for just that."""
    consent = any(s.consent is True and s.name == decision.stage for s in ticket.stages)
    own = {ticket.terms.requester, ticket.terms.beneficiary} if consent else excluded(ticket)
    return not own.isdisjoint(decision.voters)


def require_independent(
    ticket: Ticket, actor: Identity, accountable_now: Iterable[IdentityId], act: str
) -> None:
    """Raise `Refused` unless ``actor`` is an active person with no stake in the ticket.

    Args:
        ticket: what is decided on.
        actor: who decides, as the directory knows them now.
        accountable_now: owners, at any level, of the requester and the beneficiary now.
        act: the verb, for the sentence: "approve", "review".
    """
    require_person(actor, act)
    own = excluded(ticket, accountable_now).intersection((actor.id, *actor.aliases))
    if own:
        relation = _relation(ticket, own)
        raise Refused(
            f"{actor.id} is {relation} of {ticket.id} and cannot {act} it",
            remedy=f"Somebody with no stake in it can: {_others(ticket)}.",
            code="refused.self-approval" if act in DECISIONS else f"refused.self-{act}",
        )


def require_current_directory(stale: str, act: str) -> None:
    """Raise `Refused` while nobody can say who is who: what rests on a person's authority waits, and ending does not."""
    if stale:
        raise Refused(
            f"the directory may be out of date, and nobody can {act} meanwhile: {stale}",
            remedy="Mend it, then try again. Denying, revoking and break-glass go on.",
            code="refused.stale-directory",
        )


def require_person(actor: Identity, act: str) -> None:
    """Raise `Refused` unless ``actor`` is an active person (I6)."""
    if not actor.active:
        raise Refused(
            f"{actor.id} is deactivated", remedy=f"An active person must {act} it.", code="refused.inactive"
        )
    if not is_human(actor.id):
        raise Refused(
            f"{actor.id} is not a person, and only people {act}",
            remedy=f"Ask a person to {act} it.",
            code="refused.not-a-person",
        )


def require_one_vote(ticket: Ticket, actor: Identity) -> None:
    """Raise `Refused` if this person has a decision on file already, in any stage, under any alias."""
    names = {actor.id, *actor.aliases}
    if any(not names.isdisjoint(d.voters) for d in ticket.decisions):
        raise Refused(
            f"{actor.id} has decided on {ticket.id} already",
            remedy="Each person counts once; another approver is needed.",
            code="refused.already-decided",
        )


def _others(ticket: Ticket) -> str:
    named = dict.fromkeys(approver for stage in ticket.stages for approver in stage.approvers)
    return (
        "one of " + ", ".join(named)
        if named
        else f"an owner of {ticket.terms.target}, an operator or an auditor"
    )


def _relation(ticket: Ticket, own: frozenset[IdentityId]) -> str:
    if ticket.terms.requester in own:
        return "the requester"
    if ticket.terms.beneficiary in own:
        return "the beneficiary"
    return "accountable for the beneficiary or requester"
