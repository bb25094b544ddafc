"""Whose authority somebody may use on a ticket: their own, and what others handed to them; and whether it still holds."""

from __future__ import annotations

from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from muniment.core.delegation import Delegation, require_delegate
from muniment.core.errors import Refused
from muniment.core.events import DelegationGiven, decode_data
from muniment.core.identity import Identity, IdentityId
from muniment.core.separation import excluded
from muniment.core.ticket import Decision, Ticket
from muniment.core.verdict import Authority, Obligations
from muniment.ports import Premise, Subject, Target

if TYPE_CHECKING:
    from muniment.service.desk import Desk
    from muniment.store.events import SqlStore

#: every delegation has a stream of its own
STREAM = "delegation:"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Delegations that were not ended, as far as their entries were read."""

    premise: Premise
    given: tuple[Delegation, ...]

    def covering(self, now: datetime) -> tuple[Delegation, ...]:
        """Those whose period includes now."""
        return tuple(delegation for delegation in self.given if delegation.covers(now))

    def received(self, who: Identity, now: datetime) -> tuple[Delegation, ...]:
        """Those that let this person decide for others now."""
        return tuple(d for d in self.covering(now) if d.to in (who.id, *who.aliases))


class Delegations:
    """The delegations on record, in memory. Only entries count, whose marks are checked (I11). Safe for several threads."""

    def __init__(self, store: SqlStore) -> None:
        """Nothing is read before it is asked for."""
        self._store = store
        self._lock = Lock()
        self._known: Standing | None = None
        self._streams: dict[
            str, tuple[int, Delegation | None]
        ] = {}  # how many entries, and what holds by them

    def recall(self) -> Standing:
        """As memory holds them; perhaps behind, which an append that has them as its premise finds out."""
        return self._known or self.now()

    def now(self) -> Standing:
        """As they are on record now: they are counted, and read where there are more."""
        entries = self._store.count(STREAM)
        with self._lock:
            if self._known is None or self._known.premise.entries != entries:
                self._known = self._read()
            return self._known

    def _read(self) -> Standing:
        there = self._store.family(STREAM)
        new = [stream for stream, entries in there.items() if self._streams.get(stream, (0,))[0] != entries]
        for stream, (state, last) in self._store.last(new).items():
            event = decode_data(last.type, last.data)
            self._streams[stream] = (
                state.version, event.delegation if isinstance(event, DelegationGiven) else None
            )  # fmt: skip
        self._streams = {stream: self._streams[stream] for stream in there if stream in self._streams}
        return Standing(
            # what came between the two questions is counted as read: it was
            premise=Premise(family=STREAM, entries=sum(entries for entries, _ in self._streams.values())),
            given=tuple(given for _, given in self._streams.values() if given),
        )


def in_force(desk: Desk, now: datetime) -> tuple[Delegation, ...]:
    """Delegations that were not ended and whose period includes now, as the primary has them."""
    return desk.delegations.now().covering(now)


def delegated(  # noqa: PLR0917  as `Policy.judge_approver`, and whose delegations
    desk: Desk,
    ticket: Ticket,
    who: Identity,
    requester: Subject,
    beneficiary: Subject,
    target: Target,
    standing: Standing,
) -> tuple[Authority, ...]:
    """What others could decide on a ticket and have handed to ``who``. Not what was handed to those others."""
    found = []
    for each in standing.received(who, desk.clock.now()):
        holder = desk.directory.get(each.by)
        if holder is None or not holder.active:
            continue
        theirs = desk.policy.judge_approver(ticket, desk.subject(holder.id), requester, beneficiary, target)
        if not theirs.stages:
            continue
        # what policy forbids somebody to decide, they decide for nobody else either
        why = desk.policy.forbids(ticket, desk.subject(who.id), requester, beneficiary, target, theirs.stages)
        verdict = replace(theirs.verdict, permitted=False, reasons=why) if why else theirs.verdict
        found.append(replace(theirs, delegation=each, verdict=verdict))
    return tuple(found)


def stands(  # noqa: PLR0917  as `Policy.judge_approver`
    desk: Desk, ticket: Ticket, decision: Decision, requester: Subject, beneficiary: Subject, target: Target
) -> bool:
    """Whether a decision on file is by somebody who could make it now (I4)."""
    return decision.stage in entitled(
        desk, ticket, decision, requester, beneficiary, target, ticket.obligations
    )


def entitled(  # noqa: PLR0917  as `stands`, and of which stages
    desk: Desk,
    ticket: Ticket,
    decision: Decision,
    requester: Subject,
    beneficiary: Subject,
    target: Target,
    owed: Obligations | None,
) -> tuple[str, ...]:
    """Stages of these obligations in which a decision on file could be made now: as consent, or as what it is."""
    approver = desk.directory.get(decision.approver)
    if approver is None or not approver.active:
        return ()
    holder = approver
    if decision.on_behalf:
        given = desk.directory.get(decision.on_behalf.by)
        if (
            given is None
            or not given.active
            or not _still_delegated(desk, ticket, decision.on_behalf, approver)
        ):
            return ()
        holder = given
    consent = any(s.consent is True and s.name == decision.stage for s in ticket.stages)
    parties = _stakeholders(desk, ticket, requester, beneficiary, consent=consent)
    if not names_of(desk, decision).isdisjoint(parties):
        return ()
    asked = replace(ticket, obligations=owed)
    authority = desk.policy.judge_approver(asked, desk.subject(holder.id), requester, beneficiary, target)
    if not authority.verdict.permitted:
        return ()
    if decision.on_behalf and desk.policy.forbids(
        asked, desk.subject(approver.id), requester, beneficiary, target, authority.stages
    ):
        return ()
    alike = {s.name for s in asked.stages if (s.consent is True) is consent}
    return tuple(stage for stage in authority.stages if stage in alike)


def names_of(desk: Desk, decision: Decision) -> frozenset[IdentityId]:
    """Every name, now, of the people whose vote a decision is."""
    known = (desk.directory.get(voter) for voter in decision.voters)
    return frozenset(decision.voters).union(*((who.id, *who.aliases) for who in known if who))


def _stakeholders(
    desk: Desk, ticket: Ticket, requester: Subject, beneficiary: Subject, *, consent: bool
) -> frozenset[IdentityId]:
    """Whose ticket it is now, by every name (I2): no policy has a say in that."""
    parties = frozenset(
        name for s in (requester, beneficiary) for name in (s.identity.id, *s.identity.aliases)
    )
    parties |= {ticket.terms.requester, ticket.terms.beneficiary}
    return parties if consent else parties | excluded(ticket, desk.accountable_of(ticket))


def _still_delegated(desk: Desk, ticket: Ticket, delegation: Delegation, approver: Identity) -> bool:
    now = desk.clock.now()
    own = excluded(ticket, desk.accountable_of(ticket))
    try:
        require_delegate(delegation, approver, own, desk.superiors(approver), now)
    except Refused:
        return False
    return delegation in in_force(desk, now)
