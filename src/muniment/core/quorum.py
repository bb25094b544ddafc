"""Whether people are enough for stages, when each of them counts once, in one stage (I4)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from msgspec.structs import replace

from muniment.core.identity import IdentityId
from muniment.core.ticket import Decision, Ticket
from muniment.core.verdict import Obligations, Stage


def unfilled(seats: Sequence[Stage], people: Mapping[Stage, Collection[IdentityId]]) -> set[Stage]:
    """Stages with a seat that stays empty when each person takes one seat at most (augmenting paths)."""
    taken: dict[IdentityId, int] = {}

    def seat(at: int, tried: set[IdentityId]) -> bool:
        for person in people[seats[at]]:
            if person not in tried:
                tried.add(person)
                if person not in taken or seat(taken[person], tried):
                    taken[person] = at
                    return True
        return False

    return {seats[at] for at in range(len(seats)) if not seat(at, set())}


def short_now(
    ticket: Ticket, owed: Obligations, entitled: Mapping[IdentityId, Collection[str]]
) -> tuple[str, ...]:
    """Names of the stages that policy asks for now and that the approvals on file do not fill.

    An approval counts in the stage that it was given in, as long as everybody who was asked then is asked now. Where
    others are asked, as after a change of manager or owners, and perhaps under another name for that, it counts if its
    approver could give it now.

    Args:
        ticket: with the approvals, and the stages in which they were given.
        owed: what policy demands now.
        entitled: for each approver on file, the stages of these that they could decide now.
    """
    stages = replace(ticket, obligations=owed).stages
    before, now = {s.name: s for s in ticket.stages}, {s.name for s in stages}

    def counts(decision: Decision, stage: Stage) -> bool:
        given = before.get(decision.stage)
        if given and given.name == stage.name and set(given.approvers).issubset(stage.approvers):
            return True
        replaces = decision.stage not in now and stage.name not in before
        could = stage.name in entitled.get(decision.approver, ())
        return could and (decision.stage == stage.name or replaces)

    seats = [stage for stage in stages for _ in range(ticket.wanted_in(stage))]
    people = {s: [d.approver for d in ticket.decisions if counts(d, s)] for s in stages}
    empty = unfilled(seats, people)
    return tuple(stage.name for stage in stages if stage in empty)
