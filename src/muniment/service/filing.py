"""File a ticket, or preview what would come of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from muniment.core import commands as c
from muniment.core.budget import also
from muniment.core.errors import Invalid, Refused
from muniment.core.filing import MAX_BUNDLE
from muniment.core.glass import MAX_RESPONDERS, UNNAMED
from muniment.core.identity import IdentityId, kind_of, parse_identity
from muniment.core.instants import LONGEST, parse_instant, wire
from muniment.core.lifecycle import decide
from muniment.core.scope import Privilege, Scope, parse_scope, scope
from muniment.core.terms import RequestKind, Terms, parse_references
from muniment.core.text import clean_name
from muniment.core.ticket import Ticket
from muniment.core.use import RightSize
from muniment.core.verdict import Stage, Verdict
from muniment.ports import Append, Appended, Bringing, Stream, Target
from muniment.service.approvers import everybody, missing
from muniment.service.budgeting import one_at_a_time, spent
from muniment.service.desk import Caller, Desk, accountable, answered_for, fold
from muniment.service.ids import new_id
from muniment.service.past_use import would_serve
from muniment.store.views import PAGE, Filter
from muniment.tracing import span


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody types into a request: not yet checked."""

    target: str
    scope: tuple[Privilege, ...]
    justification: str
    duration: timedelta
    beneficiary: str | None = None  # default: the caller
    starts_at: datetime | None = None
    references: Mapping[str, str] = {}
    break_glass: bool = False
    incident: str | None = None
    public_key: str | None = None
    extends: str | None = None  # the ticket that this one carries on; it then starts at that one's end
    responders: tuple[str, ...] = ()  # who else works on the incident


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What policy would say, who could approve, what the beneficiary would hold. Nothing was recorded."""

    permitted: bool
    reasons: tuple[str, ...]
    stages: tuple[Stage, ...]
    possible_approvers: tuple[IdentityId, ...]
    effective_scope: Scope
    longest_duration: timedelta | None
    right_size: RightSize | None = None  # what would have served before, if that is less


def file_request(desk: Desk, caller: Caller, ask: Ask) -> Ticket:
    """File a ticket. Policy's denial is recorded too, and the ticket that comes back is then denied.

    Raises:
        Invalid: the ask cannot be meant; nothing was recorded.
        Refused: something the requester can mend at once (too long, a reference missing); nothing was recorded.
    """
    return _file(desk, caller, [ask])[0]


def file_bundle(desk: Desk, caller: Caller, asks: Sequence[Ask]) -> tuple[Ticket, ...]:
    """File several tickets together. Each is judged, decided and ended by itself (I8); each names all of them.

    Raises:
        Invalid, Refused: one of them, which the message numbers, as in `file_request`; nothing was recorded of any.
    """
    if not 2 <= len(asks) <= MAX_BUNDLE:
        raise Invalid(f"a bundle is 2 to {MAX_BUNDLE} tickets", remedy="File one with `muniment request`.")
    return _file(desk, caller, asks)


def _file(desk: Desk, caller: Caller, asks: Sequence[Ask]) -> tuple[Ticket, ...]:
    now = desk.clock.now()
    names = tuple(new_id("req", now, desk.random.bytes(10)) for _ in asks)
    bundle = names if len(names) > 1 else msgspec.UNSET
    texts = [desk.commit_text(ask.justification, "the reason") for ask in asks]
    wanted: list[tuple[Target, Terms]] = []
    appends: list[Append] = []
    for number, (ask, text) in enumerate(zip(asks, texts, strict=True), 1):
        with _numbered(number, asks):
            target, terms = _terms(desk, caller, ask, text.commitment)
            wanted.append((target, replace(terms, bundle=bundle)))
    with (
        span("command", {"muniment.command": "Submit"}),
        one_at_a_time(desk, *(terms for _, terms in wanted)),
    ):
        for number, (target, terms) in enumerate(wanted, 1):
            with _numbered(number, asks):
                verdict, facts = _judge(desk, caller, terms, target)
                earlier = [each for _, each in wanted[: number - 1]]
                facts = replace(
                    facts, verdict=verdict, extended=_extended(desk, caller, terms),
                    spent=tuple(also(each, earlier, now) for each in facts.spent),
                )  # fmt: skip
                name = names[number - 1]
                events = decide(None, c.Submit(ticket=name, terms=terms), facts, now)
            stream = Stream(id=name, version=0, head=None)
            append = Append(
                stream=stream, actor=caller.actor, events=events, at=now, texts=(texts[number - 1],),
                ticket=fold(None, events, caller.actor, now, name),
                once=None if bundle else desk.once(caller, stream),
            )  # fmt: skip
            appends.append(append)
        results = desk.store.append_many(appends) if bundle else [desk.store.append(appends[0])]
    tickets = []
    for append, result in zip(appends, results, strict=True):
        if not isinstance(result, Appended):
            raise result
        if append.ticket is not None:
            desk.tell(append.ticket, append.events)
            tickets.append(append.ticket)
    return tuple(tickets)


@contextmanager
def _numbered(number: int, asks: Sequence[Ask]) -> Iterator[None]:
    """Say which ticket of a bundle is meant."""
    try:
        yield
    except (Invalid, Refused) as error:
        if len(asks) == 1:
            raise
        wrong = type(error)(f"ticket {number}: {error.message}", remedy=error.remedy, code=error.code)
        raise wrong from error


def _extended(desk: Desk, caller: Caller, terms: Terms) -> Ticket | None:
    """What is to go on; None where the caller may not see it, which is the same as if it were not there (I33)."""
    before = desk.store.read(terms.extends)[1] if terms.extends else None
    return before if before and desk.may_see(before, caller) else None


def preview(desk: Desk, caller: Caller, ask: Ask) -> Preview:
    """Say what would come of an ask."""
    target, terms = _terms(desk, caller, ask, "sha256:" + "0" * 64)
    verdict, facts = _judge(desk, caller, terms, target)
    stages = verdict.obligations.stages if verdict.obligations else ()
    asked = _as_if_filed(terms, verdict, facts, desk.clock.now())
    people = everybody(desk, asked)
    permitted, reasons = verdict.permitted, (*verdict.reasons, *missing(desk, asked, people).values())
    try:
        submit = c.Submit(ticket=terms.bundle[0] if terms.bundle else asked.id, terms=terms)
        facts = replace(facts, verdict=verdict, extended=_extended(desk, caller, terms))
        decide(None, submit, facts, desk.clock.now())
    except Refused as refused:  # what the core would refuse, although policy permits it
        permitted, reasons = False, (*reasons, f"{refused.message}. {refused.remedy}".strip())
    return Preview(
        permitted=permitted,
        reasons=reasons,
        stages=stages,
        possible_approvers=tuple(sorted(set().union(*people.values()))),
        effective_scope=_together(desk, caller, terms),
        longest_duration=timedelta(seconds=verdict.obligations.longest) if verdict.obligations else None,
        right_size=would_serve(desk, caller, target.id, terms.beneficiary, terms.scope, terms.length),
    )


def _together(desk: Desk, caller: Caller, terms: Terms) -> Scope:
    """What the account would hold by tickets: this one, and those live on it that the caller may see (I33).

    With all that these privileges bring, where the target has such a thing: who is asked should know.
    """
    place = (terms.target, terms.account)
    live = [t for t in desk.store.sharing({place}).get(place, []) if desk.may_see(t, caller)]
    held = scope((*terms.scope, *(p for ticket in live for p in ticket.approved)))
    connector = desk.target(terms.target).connector
    return scope((*held, *connector.brings(held))) if isinstance(connector, Bringing) else held


def account_of(target: Target, beneficiary: IdentityId) -> str:
    """The beneficiary's name on the target: from the target's own table, else by its template."""
    if beneficiary in target.accounts:
        return target.accounts[beneficiary]
    name = beneficiary.partition(":")[2]
    local = name.rsplit("/", 1)[-1] if kind_of(beneficiary) == "workload" else name.partition("@")[0]
    return target.account_template.replace("{local_part}", local).replace("{name}", name)


def _terms(desk: Desk, caller: Caller, ask: Ask, justification: str) -> tuple[Target, Terms]:
    target = desk.targets.get(ask.target)
    if target is None:
        known = ", ".join(sorted(desk.targets)) or "none is configured"
        raise Invalid(
            f"there is no target {ask.target!r:.80}",
            remedy=f"The targets: {known}.",
            code="invalid.unknown-target",
        )
    wanted = parse_scope(ask.scope)
    catalogue = [entry.privilege for entry in target.catalogue]
    for item in wanted:
        if item not in catalogue:
            known = ", ".join(map(str, catalogue)) or "none"
            raise Invalid(
                f"{target.id} has no privilege {str(item)!r:.100} to ask for",
                remedy=f"It has: {known}.",
                code="invalid.unknown-privilege",
            )
    beneficiary = _beneficiary(desk, caller, ask.beneficiary)
    account = account_of(target, beneficiary)
    clean_name(account, "the account")
    key = _public_key(ask.public_key)
    target.connector.validate(account, wanted, key)
    seconds = ask.duration.total_seconds()
    if not 0 < seconds <= LONGEST.total_seconds() or seconds != int(seconds):
        raise Invalid("the duration is out of range", remedy=f"Ask for 1 second to {LONGEST.days} days.")
    if target.connector.capabilities.needs_public_key and not ask.public_key:
        raise Invalid(
            f"{target.id} needs the beneficiary's public key, for what it issues",
            remedy="Add --public-key FILE, like ~/.ssh/id_ed25519.pub.",
            code="invalid.public-key",
        )
    if ask.public_key is not None and not target.connector.capabilities.needs_public_key:
        raise Invalid(
            f"{target.id} has no use for a public key",
            remedy="Leave --public-key out.",
            code="invalid.public-key",
        )
    if ask.incident is not None and not ask.break_glass:
        raise Invalid(
            "an incident goes with break-glass", remedy="Add --break-glass, or use --reference incident=ID."
        )
    kind: RequestKind = "break_glass" if ask.break_glass else "standard"
    return target, Terms(
        kind=kind, requester=caller.identity.id, beneficiary=beneficiary, target=target.id, account=account, scope=wanted,
        justification=justification, references=parse_references(ask.references),
        incident=clean_name(ask.incident, "the incident") if ask.incident is not None else None,
        starts_at=wire(ask.starts_at) if ask.starts_at else None, duration=int(seconds),
        public_key=key, extends=ask.extends or msgspec.UNSET, responders=_responders(desk, ask.responders),
    )  # fmt: skip


def _responders(desk: Desk, asked: tuple[str, ...]) -> tuple[IdentityId, ...] | msgspec.UnsetType:
    if len(asked) > MAX_RESPONDERS:
        raise Invalid(
            f"more than {MAX_RESPONDERS} responders", remedy="Name those who could review it otherwise."
        )
    return tuple(sorted({_known(desk, each) for each in asked})) or msgspec.UNSET


def _overdue_reviews(desk: Desk, caller: Caller, terms: Terms) -> tuple[str, ...]:
    """Glass that requester or beneficiary broke, and whose review should be done by now; named to who may see it."""
    if terms.kind != "break_glass":
        return ()
    now = desk.clock.now()
    found = set()
    for who in {terms.requester, terms.beneficiary}:
        for t in desk.views.tickets(Filter(statuses=("revoked",), involving=who, limit=PAGE)):
            owed = t.review if t.terms.kind == "break_glass" else None
            if owed and owed.outcome is None and parse_instant(owed.due_at) <= now:
                found.add(t.id if desk.may_see(t, caller) else UNNAMED)
    return tuple(sorted(found))


def _beneficiary(desk: Desk, caller: Caller, asked: str | None) -> IdentityId:
    return caller.identity.id if asked is None else _known(desk, asked)


def _known(desk: Desk, asked: str) -> IdentityId:
    found = desk.directory.get(parse_identity(asked))
    if found is None:
        raise Invalid(
            f"{asked:.80} is not in the directory",
            remedy="Check the spelling, or have it added.",
            code="invalid.unknown-identity",
        )
    return found.id


def _public_key(text: str | None) -> str | None:
    """One line, type and key only: the comment is the user's own text and has no place in a certificate."""
    if text is None:
        return None
    words = text.split()
    if len(words) == 1 and words[0].startswith("age1") and len(words[0]) < 4096:
        return clean_name(words[0], "the public key", limit=4096)  # age's own form
    if len(text.strip().splitlines()) != 1 or len(words) < 2 or len(text) > 16384:
        raise Invalid(
            "the public key is not an OpenSSH public key",
            remedy="Give the .pub file, one line.",
            code="invalid.public-key",
        )
    return f"{clean_name(words[0], 'the key type')} {clean_name(words[1], 'the public key', limit=16384)}"


def _judge(desk: Desk, caller: Caller, terms: Terms, target: Target) -> tuple[Verdict, c.Facts]:
    requester, beneficiary = desk.subject(terms.requester), desk.subject(terms.beneficiary)
    verdict = desk.policy.judge_request(terms, requester, beneficiary, target)
    facts = c.Facts(
        actor=caller.identity,
        overdue_reviews=_overdue_reviews(desk, caller, terms),
        spent=spent(desk, (requester.identity, beneficiary.identity), desk.clock.now()),
        accountable=accountable(requester, beneficiary),
        active=answered_for(requester) and answered_for(beneficiary),
        open_references=desk.open_references(terms, verdict),
    )
    return verdict, with_target(facts, target, terms.scope)


def with_target(facts: c.Facts, target: Target, wanted: Scope) -> c.Facts:
    """Add what the core is told of the target: what it can do, and what its catalogue says of the scope."""
    can = target.connector.capabilities
    bounded = {entry.privilege for entry in target.catalogue if entry.bounded}
    return msgspec.structs.replace(
        facts,
        native_expiry=can.native_expiry,
        ends_sessions=can.ends_sessions,
        scope_bounded=bounded.issuperset(wanted),
    )


def _as_if_filed(terms: Terms, verdict: Verdict, facts: c.Facts, now: datetime) -> Ticket:
    """The ticket that these terms would be, to look at who could decide it."""
    return Ticket(
        id="req_preview", status="pending", version=0, filed_at=wire(now), updated_at=wire(now), terms=terms, digest="",
        accountable=facts.accountable, permitted=verdict.permitted, obligations=verdict.obligations,
    )  # fmt: skip
