"""Who could decide a request, as the directory and policy stand now; and who could help where nobody can.

A stage that nobody can satisfy is said when the request is filed and whenever it is shown, not found out when it lapses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from muniment.core.identity import Identity, IdentityId, is_human
from muniment.core.quorum import unfilled
from muniment.core.separation import excluded
from muniment.core.ticket import Ticket
from muniment.core.verdict import Stage
from muniment.ports import Target
from muniment.service.desk import Desk, accountable


def able(desk: Desk, ticket: Ticket, stage: Stage, *, enough: int | None = None) -> tuple[IdentityId, ...]:
    """People who could decide this stage now, whatever the order of stages: in it, without a stake, let by policy.

    Args:
        desk: the adapters.
        ticket: a request, or what would be one.
        stage: one of its stages.
        enough: stop looking at so many.
    """
    target = desk.targets.get(ticket.terms.target)
    if target is None:
        return ()
    requester, beneficiary = desk.subject(ticket.terms.requester), desk.subject(ticket.terms.beneficiary)
    barred = {ticket.terms.requester, ticket.terms.beneficiary}
    if stage.consent is not True:
        barred |= excluded(ticket, accountable(requester, beneficiary))
    voted = {voter for d in ticket.decisions for voter in d.voters}
    found: list[IdentityId] = []
    for person in _members(desk, stage):
        if not (barred | voted).isdisjoint((person.id, *person.aliases)):
            continue
        may = desk.policy.judge_approver(ticket, desk.subject(person.id), requester, beneficiary, target)
        if may.verdict.permitted and stage.name in may.stages:
            found.append(person.id)
        if enough is not None and len(found) >= enough:
            break
    return tuple(found)


def everybody(desk: Desk, ticket: Ticket) -> dict[Stage, tuple[IdentityId, ...]]:
    """All who could decide each stage."""
    return {stage: able(desk, ticket, stage) for stage in ticket.stages}


def missing(
    desk: Desk, ticket: Ticket, known: Mapping[Stage, tuple[IdentityId, ...]] | None = None
) -> dict[str, str]:
    """Stages that cannot be satisfied, each with a sentence that says why and who could see to it.

    A person counts in one stage only, so stages that share their people are looked at together. ``known``: `everybody`,
    where that was asked already.
    """
    short = {stage: n for stage in ticket.stages if (n := ticket.short_of(stage))}
    wanted = sum(short.values())
    people = {
        stage: known[stage][:wanted] if known else able(desk, ticket, stage, enough=wanted) for stage in short
    }
    seats = [stage for stage, n in short.items() for _ in range(n)]
    empty = unfilled(seats, people)
    return {
        stage.name: _sentence(desk, ticket, stage, people[stage], short[stage])
        for stage in short
        if stage in empty
    }


def _members(desk: Desk, stage: Stage) -> Iterator[Identity]:
    """Active people named by a stage, each once."""
    seen: set[IdentityId] = set()
    for approver in stage.approvers:
        if approver.startswith("group:"):
            members = desk.directory.members(approver.removeprefix("group:"))
        else:
            one = desk.directory.get(approver)
            members = (one,) if one else ()
        for member in members:
            if member.id not in seen and member.active and is_human(member.id):
                seen.add(member.id)
                yield member


def _sentence(desk: Desk, ticket: Ticket, stage: Stage, people: tuple[IdentityId, ...], short: int) -> str:
    named = ", ".join(stage.approvers)
    if not people and not any(True for _ in _members(desk, stage)):
        why = f"nobody active is in {named}"
    elif not people:
        why = f"of {named} everybody has a stake in it, has decided already, or is kept from it by policy"
    else:
        why = f"only {len(people)} of {named} could, and a person counts once"
    who = _helpers(desk.targets.get(ticket.terms.target))
    return f"stage {stage.name} needs {short} more and cannot get them: {why}; {who} can see to it"


def _helpers(target: Target | None) -> str:
    owners = ", ".join(target.owners) if target else ""
    return f"an owner of {target.id} ({owners}) or an operator" if target and owners else "an operator"
