"""V4 of disablements that signals made and people lifted: one person proposed it, another agreed (I9).

The stream of each identity says who did what in which order. Whether the two are one person under another name, whether
an operator proposed it, and whether it took two by then, other streams know: `faults` holds them against each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from muniment.core.events import DisablementLifted, Event, IdentityRecorded, LiftProposed, SettingsAdopted
from muniment.core.identity import is_human
from muniment.core.instants import parse_instant
from muniment.evidence.registries import HEARD_AFTER, Place, Say, believed, together
from muniment.ledger.entry import Entry

#: how the streams begin that say who lifted what was said of an identity, which follows
LIFT = "lift:"


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody proposed to lift a disablement, or agreed to it."""

    place: Place
    at: str
    by: str
    agrees_with: str | None = None  # whoever proposed it; null: this is the proposal, or there was none
    alone: bool = False  # it is over, and nobody else had agreed


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """From some place in the log on, other names of somebody."""

    index: int
    at: str
    names: tuple[str, ...]


class Lifted(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen in one part of the log; plain data, to be sent from one process to another."""

    acts: tuple[Act, ...] = ()
    names: dict[str, tuple[Names, ...]] = {}
    two: int | None = None  # the first place from which on it takes two people to change what holds


class Lifts:
    """The disablements of the streams that it is fed."""

    def __init__(self) -> None:
        """Nobody proposed anything."""
        self._proposed: dict[str, tuple[LiftProposed, str]] = {}  # and by whom, by whom it is about
        self._acts: list[Act] = []
        self._names: dict[str, list[Names]] = {}
        self._two: int | None = None

    def seen(self) -> Lifted:
        """What was seen so far."""
        names = {who: tuple(each) for who, each in self._names.items()}
        return Lifted(acts=tuple(self._acts), names=names, two=self._two)

    def take(self, event: Event, place: Place, entry: Entry) -> str | None:
        """An event of any registry; return what is wrong with it."""
        match event:
            case IdentityRecorded() if event.identity.aliases:
                names = Names(index=place.index, at=entry.at, names=event.identity.aliases)
                self._names.setdefault(event.identity.id, []).append(names)
            case SettingsAdopted() if self._two is None:
                self._two = place.index
            case LiftProposed() | DisablementLifted():
                if fault := next(self._faults(event, entry), None):
                    return fault
                self._remember(event, place, entry)
        return None

    def _faults(self, event: LiftProposed | DisablementLifted, entry: Entry) -> Iterator[str]:
        actor, who = entry.actor.id, event.identity
        if entry.ticket != f"{LIFT}{who}":
            yield "it is about somebody else than its stream"
        if not event.issuers or event.issuers != tuple(sorted(set(event.issuers))):
            yield "its issuers are not in order, each once"
        if not is_human(actor) or actor == who:
            yield f"{actor} has no say in whether {who} is disabled"
        if isinstance(event, LiftProposed) or event.proposed_by is msgspec.UNSET:
            return
        proposal, proposer = self._proposed.get(who, (None, ""))
        if proposal is None:
            yield "two people are said to have agreed to it, and nobody proposed it before"
        elif event.proposed_by != proposer:
            yield f"{proposer} proposed it, and not {event.proposed_by}"
        elif actor == proposer:
            yield f"{proposer} proposed it and agreed to it: it takes two people"
        elif event.issuers != proposal.issuers:
            yield "it lifts something else than was proposed"

    def _remember(self, event: LiftProposed | DisablementLifted, place: Place, entry: Entry) -> None:
        act = Act(place=place, at=entry.at, by=entry.actor.id)
        if isinstance(event, LiftProposed):
            self._proposed[event.identity] = event, entry.actor.id
        else:
            self._proposed.pop(event.identity, None)
            proposer = None if event.proposed_by is msgspec.UNSET else event.proposed_by
            act = msgspec.structs.replace(act, agrees_with=proposer, alone=proposer is None)
        self._acts.append(act)


def faults(parts: Sequence[Lifted], says: Mapping[str, Sequence[Say]]) -> Iterator[Place]:
    """Acts that no second person stands behind, and proposals of somebody who was no operator on record."""
    names = together(part.names for part in parts)
    two = min((part.two for part in parts if part.two is not None), default=None)
    for act in (act for part in parts for act in part.acts):
        if fault := _unfounded(act, names, says, two):
            yield msgspec.structs.replace(act.place, fault=fault)


def _unfounded(
    act: Act, names: Mapping[str, Sequence[Names]], says: Mapping[str, Sequence[Say]], two: int | None
) -> str | None:
    if act.alone:
        alone = two is not None and two < act.place.index
        return f"{act.by} lifted it alone, where it takes two people" if alone else None
    if act.agrees_with is None:
        known = believed(act.place.index, act.at, says.get(act.by, ()))
        return None if any(say.operator for say in known) else f"{act.by} proposed it, and was no operator"
    mine, theirs = (_names(act, who, names.get(who, ())) for who in (act.by, act.agrees_with))
    if not mine.isdisjoint(theirs):
        return f"{act.agrees_with} proposed it and agreed to it as {act.by}: it takes two people"
    return None


def _names(act: Act, who: str, known: Iterable[Names]) -> set[str]:
    """Every name of somebody that had been on record for long enough for every node to have heard of it."""
    heard = (
        each.names
        for each in known
        if each.index < act.place.index and parse_instant(each.at) + HEARD_AFTER <= parse_instant(act.at)
    )
    return {who}.union(*heard)
