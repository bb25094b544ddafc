"""What happened to a ticket, as sentences: one entry for each event, from ask to closure. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import TypeAlias

import msgspec

from muniment.core import events as e
from muniment.core.instants import parse_instant, spoken
from muniment.core.scope import Scope
from muniment.core.terms import Terms
from muniment.core.ticket import Recorded
from muniment.service.documents import ERASED
from muniment.web import words
from muniment.web.when import exact

NameOf: TypeAlias = Callable[[str], str]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the story."""

    seq: int
    at: str
    actor: str
    via: str
    kind: str  # of the event: "request-submitted/1"
    look: str  # a class of the style sheet: ask, rule, yes, no, give, take, see, warn, end
    title: str
    facts: tuple[str, ...] = ()
    quote: str | None = None  # what a person wrote
    erased: bool = False


def timeline(recorded: Iterable[Recorded], texts: Mapping[str, str], name_of: NameOf) -> list[Entry]:
    """The story, oldest first. An event that this version does not know is named as the ledger names it."""
    return [_entry(each, texts, name_of) for each in recorded]


def title(event: e.Event, actor: str, name_of: NameOf) -> str:
    """One event in a few words."""
    said = _said(event, actor, name_of)[1]
    return words.event(event.kind) if said == event.kind else said


def listed(scope: Scope) -> str:
    """Privileges in one line."""
    return ", ".join(map(str, scope)) or "nothing"


def _entry(recorded: Recorded, texts: Mapping[str, str], name_of: NameOf) -> Entry:
    event, actor = recorded.event, name_of(recorded.actor)
    look, title, facts, commitment = _said(event, actor, name_of)
    quote = None if commitment is None else texts.get(commitment, ERASED)
    return Entry(
        seq=recorded.seq, at=recorded.at, actor=recorded.actor, via=recorded.via, kind=event.kind, look=look, title=title,
        facts=tuple(f for f in facts if f), quote=quote, erased=commitment is not None and commitment not in texts,
    )  # fmt: skip


_Said: TypeAlias = tuple[str, str, tuple[str, ...], str | None]


def _said(event: e.Event, actor: str, name_of: NameOf) -> _Said:  # noqa: C901, PLR0911, PLR0912  one case an event: the table of what is said
    match event:
        case e.RequestSubmitted(terms=terms):
            breaks = terms.kind == "break_glass"
            title = f"{actor} broke the glass" if breaks else f"{actor} asked for {listed(terms.scope)}"
            return "ask", title, _terms(terms, name_of, breaks=breaks), terms.justification
        case e.PolicyDecided(permitted=True):
            return "rule", "Policy lets it go on", (_rested(event.determining), _stages(event)), None
        case e.PolicyDecided():
            return "no", "Policy says no", event.reasons, None
        case e.ApprovalRecorded(decision="approve"):
            facts = (
                _stage(event.stage),
                _on_behalf(event, name_of),
                _rested(event.authority),
                _signed(event),
            )
            return "yes", f"{actor} approved", facts, event.comment
        case e.ApprovalRecorded():
            return "no", f"{actor} said no", (_stage(event.stage), _rested(event.authority)), event.comment
        case e.CounterOffered(terms=terms):
            offered = f"{listed(terms.scope)} for {spoken(terms.length)}"
            return "ask", f"{actor} offered less: {offered}", (_stage(event.stage),), event.comment
        case e.CounterAccepted(terms=terms):
            void = f"Void: what {_people(event.voided, name_of)} had approved before" if event.voided else ""
            offered = f"{listed(terms.scope)} for {spoken(terms.length)}"
            return "ask", f"{actor} accepted the offer: {offered}", (void,), None
        case e.RequestApproved():
            return (
                "yes",
                "Everybody who had to agree has agreed",
                (f"{listed(event.scope)} for {_seconds(event.duration)}",),
                None,
            )
        case e.ApprovalsVoided():
            return (
                "warn",
                f"What {_people(event.approvers, name_of)} approved no longer counts",
                (event.reason,),
                None,
            )
        case e.RequestDenied():
            return "no", "Denied by policy" if event.by == "policy" else "Denied", event.reasons, None
        case e.RequestWithdrawn():
            return "end", f"{actor} took the request back", (), None
        case e.RequestLapsed():
            return "end", "The request lapsed", (event.reason,), None
        case e.ApproversReminded():
            return "see", f"{_people(event.approvers, name_of)} were reminded", (), None
        case e.RequestEscalated():
            return (
                "warn",
                f"Others may decide as well: {', '.join(event.to)}",
                ("Nobody had decided for long",),
                None,
            )
        case e.ApproversMissing():
            title = (
                "Nobody is left who could decide"
                if event.stages
                else "There is somebody again who can decide"
            )
            return "warn" if event.stages else "see", title, event.reasons, None
        case e.AccountRead():
            return (
                "see",
                "Part of what the account held before was read",
                (words.count(len(event.held), "privilege"),),
                None,
            )
        case e.ProvisioningStarted():
            held = (
                f"The account held {listed(event.held)} before"
                if event.held
                else "The account held nothing of it before"
            )
            return (
                "give",
                "Muniment begins to give it",
                (f"Until {exact(parse_instant(event.expires_at))}", held),
                None,
            )
        case e.GrantObserved():
            return _granted(event)
        case e.ProvisioningFailed():
            return "no", "It could not be given", (event.message, f"Code: {event.code}"), None
        case e.UseObserved():
            return (
                "see",
                f"Used: {words.count(event.events, 'line')} of {event.source}",
                (listed(event.privileges),),
                None,
            )
        case e.RevocationOrdered():
            by = actor if event.cause in {"returned", "revoked"} else "Muniment"
            title = f"{by} gave it back" if event.cause == "returned" else f"{by} ended it"
            because = (
                ""
                if event.cause in {"returned", "revoked"}
                else f"Because {words.CAUSE.get(event.cause, event.cause)}"
            )
            return "take", title, (because,), event.reason
        case e.RevocationFailed():
            return (
                "warn",
                "It could not be taken away yet; Muniment goes on trying",
                (event.message, f"Code: {event.code}"),
                None,
            )
        case e.RevocationObserved():
            return _gone(event)
        case e.ReviewOpened():
            return "see", "A review is owed", (f"By {exact(parse_instant(event.due_at))}",), None
        case e.ReviewRecorded():
            good = event.outcome == "appropriate"
            return "yes" if good else "warn", f"{actor} reviewed it: {event.outcome}", (), event.comment
        case e.FindingRaised():
            return (
                "warn",
                event.message,
                (f"Finding {event.finding} · {event.type} · {event.severity}",),
                None,
            )
        case e.FindingResolved():
            seen = "Muniment saw for itself that it is over" if event.reason is None else ""
            return "yes", f"Finding {event.finding} is dealt with", (seen,), event.reason
        case e.CheckWaived():
            return (
                "warn",
                f"{actor} answers for a check that does not hold: {words.check(event.check)}",
                (),
                event.reason,
            )
        case e.RequestClosed():
            waived = [words.check(c.check) for c in event.checks if c.waived]
            looked = words.count(len(event.checks), "check") + " looked at"
            named = f"Waived: {', '.join(waived)}" if waived else ""
            return "end", "Closed" if event.outcome == "closed" else "Closed as failed", (looked, named), None
        case _:
            return "see", event.kind, (), None


def _granted(event: e.GrantObserved) -> _Said:
    missing, excess = event.comparison.missing, event.comparison.excess
    native = (
        f"The target itself ends it: {exact(parse_instant(event.native_expiry))}"
        if event.native_expiry
        else ""
    )
    if not missing and not excess:
        return "give", "Seen on the target: exactly what was approved", (listed(event.granted), native), None
    facts = (
        f"Missing: {listed(missing)}" if missing else "",
        f"More than approved: {listed(excess)}" if excess else "",
        native,
    )
    return "warn", "Seen on the target: not what was approved", facts, None


def _gone(event: e.RevocationObserved) -> _Said:
    ended = f"{words.count(event.sessions_ended, 'session')} ended" if event.sessions_ended else ""
    kept = [f"{k.privilege} stays, by {k.ticket}" for k in event.kept]
    return "take", "Seen on the target: it is gone", (listed(event.gone), ended, *kept), None


def _terms(terms: Terms, name_of: NameOf, *, breaks: bool) -> tuple[str, ...]:
    other = f"For {name_of(terms.beneficiary)}" if terms.beneficiary != terms.requester else ""
    references = [f"{kind} {value}" for kind, value in terms.references.items()]
    return (
        listed(terms.scope) if breaks else "",
        other,
        f"On {terms.target}, as {terms.account}, for {spoken(terms.length)}",
        f"From {exact(parse_instant(terms.starts_at))}" if terms.starts_at else "",
        f"Incident {terms.incident}" if terms.incident else "",
        ", ".join(references),
    )


def _rested(policies: tuple[str, ...]) -> str:
    return f"By {', '.join(policies)}" if policies else ""


def _stages(event: e.PolicyDecided) -> str:
    stages = event.obligations.stages if event.obligations else ()
    return (
        "Nobody else has to agree"
        if not stages
        else "Asks for " + ", ".join(f"{s.needed} of {s.name}" for s in stages)
    )


def _stage(stage: str) -> str:
    return f"For {stage}" if stage else ""


def _on_behalf(event: e.ApprovalRecorded, name_of: NameOf) -> str:
    return f"On behalf of {name_of(event.on_behalf.by)}" if event.on_behalf else ""


def _signed(event: e.ApprovalRecorded) -> str:
    return "Signed with a key of their own" if event.signature else ""


def _people(people: tuple[str, ...], name_of: NameOf) -> str:
    said = [name_of(each) for each in people]
    return " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said) or "nobody"


def _seconds(seconds: int) -> str:
    return spoken(timedelta(seconds=seconds))
