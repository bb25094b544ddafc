"""What every use case has at hand, and the one write path: load, decide, append."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, TypeVar

import msgspec

from muniment.core import commands as c
from muniment.core.drift import SLA
from muniment.core.errors import Conflict, Invalid, Misconfigured, NotFound, Refused
from muniment.core.events import Event, KeyAnnounced, KeyRetired, Severity, encode_data
from muniment.core.filing import named_references
from muniment.core.identity import SYSTEM, Identity, IdentityId, is_human, parse_identity
from muniment.core.instants import wire
from muniment.core.lifecycle import decide
from muniment.core.login import Login
from muniment.core.terms import Terms
from muniment.core.text import Disclosure, clean_text, disclose
from muniment.core.ticket import ID, Recorded, Ticket, evolve
from muniment.core.verdict import Authority, Verdict
from muniment.core.visibility import SEES_ALL, keys_of, sees
from muniment.ledger.note import Signer, Verifier
from muniment.ledger.trust import NONE, Group, TrustPolicy
from muniment.ledger.trust import Witness as Seen
from muniment.ports import (
    Actor,
    Append,
    Claim,
    Clock,
    Credential,
    Directory,
    Lease,
    Notifier,
    Once,
    Policy,
    Random,
    References,
    Stream,
    Subject,
    Target,
    TimestampAuthority,
    Witness,
)
from muniment.service.attention import Attention
from muniment.service.authority import Delegations, Standing, delegated
from muniment.service.campaigns import Campaigns
from muniment.service.in_force import Governed
from muniment.service.noticing import notices
from muniment.service.trends import Trends
from muniment.store.events import SqlStore
from muniment.store.sequencer import SqlLedger
from muniment.store.tile_directory import TileDirectory
from muniment.store.views import SqlViews
from muniment.tracing import span

#: how often a command is decided again because another writer was first
ATTEMPTS = 8
#: no organisation is deeper than this
MOST_MANAGERS = 32
CONTROLLER = Actor(id=SYSTEM, via="controller")
#: the stream of the ledger's own keys
KEYS = "keys"

T = TypeVar("T")


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, as the directory knows them, and by which way in they came."""

    identity: Identity
    via: str
    once: Once | None = None  # the client's own name for this one command
    login: Login | None = None  # how they signed in, if they did

    @property
    def actor(self) -> Actor:
        """As the ledger records it."""
        return Actor(id=self.identity.id, via=self.via)


@dataclass(frozen=True, kw_only=True)
class Desk:
    """The adapters, built once in `main`. Safe for use by several threads."""

    store: SqlStore
    views: SqlViews
    ledger: SqlLedger
    policy: Policy
    directory: Directory
    targets: Mapping[str, Target]
    random: Random
    #: the log's keys, the one in force first; none where another node signs
    signers: tuple[Signer, ...] = ()
    #: the log's public keys, where the keys themselves are elsewhere
    public: tuple[Verifier, ...] = ()
    #: opens a key of the log by its reference
    open_signer: Callable[[str], Signer] | None = None
    #: where the ledger is published as files
    tiles: TileDirectory | None = None
    #: who is asked to cosign each checkpoint, and how many of them make a quorum; 0: none is awaited
    witnesses: tuple[Witness, ...] = ()
    quorum: int = 0
    attention: Attention = field(default_factory=Attention)
    #: where references are looked up; None: none of them is known to be open
    references: References | None = None
    #: changes take two people; None: a single-person trial
    governed: Governed | None = None
    #: the text of the baseline in force
    baseline: Callable[[], str] = str
    #: how soon somebody must have seen to a finding of drift
    sla: Mapping[Severity, timedelta] = field(default_factory=lambda: SLA)
    #: who stamps checkpoints with the time
    authority: TimestampAuthority | None = None
    #: ways to tell people
    notifiers: tuple[Notifier, ...] = ()
    #: told of every ticket that changed, after it is durable: controllers wake up by it
    changed: list[Callable[[Ticket], None]] = field(default_factory=list)

    @cached_property
    def delegations(self) -> Delegations:
        """Who decides for whom, by the store's entries."""
        return Delegations(self.store)

    @cached_property
    def campaigns(self) -> Campaigns:
        """Campaigns of recertification, by the store's entries."""
        return Campaigns(self.store)

    @cached_property
    def trends(self) -> Trends:
        """How it goes over time."""
        return Trends(self)

    @property
    def clock(self) -> Clock:
        """The store's clock."""
        return self.store.clock

    @property
    def trust(self) -> TrustPolicy:
        """The trust file as the operator proposes it. The auditor's own copy counts."""
        names = tuple(witness.name for witness in self.witnesses)
        group = Group(name="witnesses", threshold=self.quorum or len(names), members=names)
        return TrustPolicy(
            log=self.verifiers,
            witnesses=tuple(Seen(name=w.name, verifier=w.verifier, url=w.url) for w in self.witnesses),
            groups=(group,) if names else (),
            quorum=group.name if self.quorum else NONE,
        )

    @property
    def verifiers(self) -> tuple[Verifier, ...]:
        """The log's public keys: those of this process, or that it was told of, then every other that ever signed, as the ledger says."""
        own = [signer.verifier for signer in self.signers] or list(self.public)
        vkeys = dict.fromkeys(verifier.vkey for verifier in own)
        for recorded in self.store.entries(KEYS):
            match recorded.event:
                case KeyAnnounced(vkey=vkey, beside=others) | KeyRetired(vkey=vkey, remaining=others):
                    vkeys |= dict.fromkeys((*others, vkey))
                case _:
                    pass
        return (*own, *map(Verifier.from_vkey, list(vkeys)[len(own) :]))

    # ── who and what ──

    def caller(self, identity: str, via: str) -> Caller:
        """Find who asks. Raises `Refused` for somebody the directory does not know, or knows as deactivated."""
        found = self.directory.get(parse_identity(identity))
        if found is None:
            raise Refused(
                f"{identity:.80} is not in the directory",
                remedy="Add it to the identities file, or check the spelling.",
                code="refused.unknown-identity",
            )
        if not found.active:
            raise Refused(
                f"{found.id} is deactivated", remedy="An operator can see to it.", code="refused.inactive"
            )
        return Caller(identity=found, via=via)

    def target(self, target: str) -> Target:
        """Find a target that a ticket names; its configuration is needed as long as the ticket lives (I23)."""
        if target not in self.targets:
            raise Misconfigured(
                f"the target {target:.80} is not in the configuration",
                remedy="Put it back: tickets on it are open.",
                code="config.target-missing",
            )
        return self.targets[target]

    def subject(self, identity: IdentityId) -> Subject:
        """An identity with its owners; one that left the directory counts as deactivated, without rights."""
        found = self.directory.get(identity) or Identity(id=identity, active=False, roles=())
        owners = tuple(owner for each in found.owners if (owner := self.directory.get(each)))
        above = {person.id: self._managers(person) for person in (found, *owners) if person.manager}
        return Subject(identity=found, owners=owners, managers=above)

    def _on_incident(self, ticket: Ticket) -> tuple[IdentityId, ...]:
        """Whoever broke glass for the same incident, answers for whom did, or was named as a responder; with aliases."""
        if ticket.terms.kind != "break_glass" or ticket.terms.incident is None:
            return ()
        found: set[IdentityId] = set()
        for other in (ticket, *self.views.on_incident(ticket.terms.incident)):
            terms = other.terms
            found |= {terms.requester, terms.beneficiary, *other.accountable, *(terms.responders or ())}
        known = (self.directory.get(each) for each in sorted(found))
        return tuple(sorted(found.union(*((k.id, *k.aliases) for k in known if k))))

    def _managers(self, person: Identity) -> tuple[IdentityId, ...]:
        """Everybody above, nearest first. A chain that a directory would not end is cut."""
        found: dict[IdentityId, None] = {}
        above = person.manager
        while above is not None and above not in found and len(found) < MOST_MANAGERS:
            found[above] = None
            manager = self.directory.get(above)
            above = manager.manager if manager else None
        return tuple(found)

    def superiors(self, person: Identity) -> tuple[IdentityId, ...]:
        """Everybody above a person, under every name they have."""
        above = self._managers(person)
        known = (found for name in above if (found := self.directory.get(name)))
        return (*above, *(alias for manager in known for alias in manager.aliases))

    def accountable_of(self, ticket: Ticket) -> tuple[IdentityId, ...]:
        """Owners now, at any level, of the requester and the beneficiary."""
        return accountable(self.subject(ticket.terms.requester), self.subject(ticket.terms.beneficiary))

    def owns(self, target: Target, identity: Identity) -> bool:
        """Whether somebody is an owner of the target."""
        return identity.id in target.owners or any(
            f"group:{group}" in target.owners for group in identity.groups
        )

    def open_references(self, terms: Terms, verdict: Verdict) -> tuple[str, ...]:
        """Of the kinds of reference that must be open, those that are. Raises `Unavailable` when nobody can say."""
        wanted = (verdict.obligations.references_open if verdict.obligations else None) or ()
        if not wanted or self.references is None:
            return ()
        named = named_references(terms)
        return tuple(k for k in wanted if k in named and self.references.is_open(k, named[k]))

    # ── the one write path ──

    def facts(self, ticket: Ticket, caller: Caller | None, standing: Standing | None = None) -> c.Facts:
        """What the core is told about the world now; with the delegations on record, also what the caller may decide."""
        requester, beneficiary = self.subject(ticket.terms.requester), self.subject(ticket.terms.beneficiary)
        facts = c.Facts(
            accountable=accountable(requester, beneficiary),
            active=all(map(answered_for, (requester, beneficiary))),
            stale=self.directory.stale,
        )
        if caller is None:
            return facts
        target = self.target(ticket.terms.target)
        who = caller.identity
        authority: Authority | None = None
        others: tuple[Authority, ...] = ()
        if standing is not None:
            # as they came: groups that their session leaves out count for nothing
            subject = msgspec.structs.replace(self.subject(who.id), identity=who)
            authority = self.policy.judge_approver(ticket, subject, requester, beneficiary, target)
            others = delegated(self, ticket, who, requester, beneficiary, target, standing)
        return msgspec.structs.replace(
            facts,
            actor=who,
            login=caller.login,
            steward="operator" in who.roles or self.owns(target, who),
            auditor="auditor" in who.roles,
            authority=authority,
            delegated=others,
            superiors=self.superiors(who)
            if others or ticket.review or ticket.terms.kind == "break_glass"
            else (),
            above={
                a.approver: self.superiors(holder)
                for a in others
                if (holder := self.directory.get(a.approver))
            },
            on_incident=self._on_incident(ticket),
        )

    def act(
        self,
        ticket_id: str,
        caller: Caller,
        make: Callable[[Ticket], tuple[c.Command, tuple[Disclosure, ...]]],
        *,
        with_authority: bool = False,
        besides: Callable[[Ticket, c.Facts], c.Facts] = lambda _, facts: facts,
    ) -> Ticket:
        """Decide a person's command on a ticket and record it; decide again when another writer was first.

        What memory holds of the ticket, and of delegations, is as good to begin with: appending compares versions, where
        it is recorded. A refusal is said only of what was just read.

        Args:
            ticket_id: which ticket.
            caller: who commands.
            make: the command, and the texts that it commits to, for the ticket as it stands.
            with_authority: ask policy what the caller may decide here.
            besides: adds to the facts what only this command needs to know.
        """

        def attempt(
            stream: Stream, ticket: Ticket | None, *, recalled: bool = False
        ) -> tuple[Ticket, tuple[Event, ...]]:
            if ticket is None or not self.may_see(ticket, caller):
                raise no_such_ticket(ticket_id)
            command, texts = make(ticket)
            note("muniment.command", type(command).__name__)
            now = self.clock.now()
            standing = None
            if with_authority:
                standing = self.delegations.recall() if recalled else self.delegations.now()
            facts = besides(ticket, self.facts(ticket, caller, standing))
            events = decide(ticket, command, facts, now)
            after = fold(ticket, events, caller.actor, now)
            said = b"".join(map(encode_data, events))  # a text that no entry commits to could never be erased
            kept = tuple(text for text in texts if text.commitment.encode() in said)
            self.store.append(
                Append(
                    stream=stream, actor=caller.actor, events=events, at=now, ticket=after, texts=kept,
                    once=self.once(caller, stream), premise=standing.premise if standing else None,
                )
            )  # fmt: skip
            return after, events

        def act() -> tuple[Ticket, tuple[Event, ...]]:
            if (known := self.store.recall(ticket_id)) is not None:
                with suppress(Conflict, Refused, Invalid, NotFound):
                    return attempt(*known, recalled=True)
            for _ in range(ATTEMPTS - 1):
                with suppress(Conflict):
                    return attempt(*self.store.read(ticket_id))
            return attempt(*self.store.read(ticket_id))

        with span("command", {"muniment.ticket": ticket_id}) as note:
            after, events = act()
        self.tell(after, events)
        return after

    def once(self, caller: Caller, stream: Stream) -> Once | None:
        """The client's name for a command on this stream, with what its answer will say of the ledger."""
        if caller.once is None:
            return None
        waiting = self.views.unsealed([stream.id]) if stream.version else {}
        return msgspec.structs.replace(caller.once, sealed=stream.version - waiting.get(stream.id, 0))

    def appending(
        self,
        ticket: Ticket,
        commands: tuple[c.Command, ...],
        facts: c.Facts,
        stream: Stream,
        *,
        claim: Claim | None = None,
        fence: Lease | None = None,
        credential: Credential | None = None,
    ) -> Append:
        """A controller's commands, decided one after the other and ready to append with others.

        With a ``fence``, recording also gives the lease back. There may be nothing new to record.
        """
        now = self.clock.now()
        after = ticket
        events: tuple[Event, ...] = ()
        for command in commands:
            more = decide(after, command, facts, now)
            after, events = fold(after, more, CONTROLLER, now), (*events, *more)
        return Append(
            stream=stream, actor=CONTROLLER, events=events, at=now, ticket=after, claim=claim, fence=fence,
            release=fence is not None, credential=credential,
        )  # fmt: skip

    def tell(self, ticket: Ticket, events: tuple[Event, ...] = ()) -> None:
        """Say that a ticket changed, and to people what they may want to know of it."""
        for listener in self.changed:
            listener(ticket)
        if not self.notifiers:
            return
        target = self.targets.get(ticket.terms.target)
        for notice in notices(ticket, events, target.owners if target else ()):
            for notifier in self.notifiers:
                notifier.send(notice)

    # ── who may see ──

    def may_see(self, ticket: Ticket, caller: Caller) -> bool:
        """The requester, the beneficiary and who answers for them; approvers; owners, operators and auditors (I33)."""
        if SEES_ALL & set(caller.identity.roles):
            return True
        keys = self.keys(caller.identity)
        return sees(ticket, keys) or sees(ticket, keys, self.keys_received(caller.identity))

    def keys(self, identity: Identity) -> frozenset[str]:
        """What somebody can see tickets by."""
        return keys_of(
            identity, (target.id for target in self.targets.values() if self.owns(target, identity))
        )

    def keys_received(self, identity: Identity, standing: Standing | None = None) -> frozenset[str]:
        """By what those are approvers who handed their authority to somebody; it opens stages, and nothing else."""
        standing = standing or self.delegations.now()
        others = (self.directory.get(d.by) for d in standing.received(identity, self.clock.now()))
        return frozenset[str]().union(*(keys_of(other, ()) for other in others if other and other.active))

    # ── texts ──

    def commit_text(self, text: str, what: str) -> Disclosure:
        """Check free text and commit to it."""
        return disclose(clean_text(text, what), self.random.bytes(32))


def fold(
    ticket: Ticket | None, events: tuple[Event, ...], actor: Actor, now: datetime, stream: str = ""
) -> Ticket:
    """The state after these events."""
    after = ticket
    for event in events:
        version = after.version if after else 0
        recorded = Recorded(seq=version, at=wire(now), actor=actor.id, via=actor.via, event=event)
        after = evolve(after, recorded, after.id if after else stream)
    if after is None:
        raise ValueError("no events")
    return after


def accountable(*subjects: Subject) -> tuple[IdentityId, ...]:
    """Owners, at any level, of these subjects; each once, sorted. Aliases of an owner are the owner."""
    found = {name for s in subjects for o in s.owners for name in (o.id, *o.aliases)}
    return tuple(sorted(found | {owner for s in subjects for owner in s.identity.owners}))


def answered_for(subject: Subject) -> bool:
    """Active, and whoever is not a person with an active person who answers for it, directly or through others."""
    if not subject.identity.active:
        return False
    return is_human(subject.identity.id) or any(o.active and is_human(o.id) for o in subject.owners)


def in_stage(approvers: tuple[str, ...], identity: Identity) -> bool:
    """Whether somebody is among a stage's approvers, by group or by name."""
    return identity.id in approvers or any(f"group:{group}" in approvers for group in identity.groups)


def operators_only(caller: Caller) -> None:
    """Raise `Refused` for everybody else."""
    if "operator" not in caller.identity.roles:
        raise Refused(
            f"{caller.identity.id} is not an operator",
            remedy="An operator can.",
            code="refused.not-an-operator",
        )


def no_such_ticket(ticket_id: str) -> NotFound:
    """The same answer for a ticket that is not there and one that the asker may not see."""
    return NotFound(
        f"there is no ticket {ticket_id!r:.60}", remedy="`muniment list` shows the ones you can see."
    )


def ticket_id(text: str) -> str:
    """What may be the id of a ticket; nothing else reaches the store. Raises `NotFound`, as for one that is not there."""
    if not re.fullmatch(ID, text):
        raise no_such_ticket(text)
    return text


def append_beside(desk: Desk, stream: str, actor: Actor, event: Event, now: datetime, **more: Any) -> bool:
    """Append an event to a registry stream in which others' stand as well, whoever is first; ``more`` of the `Append`.

    False: others are at it all the time.
    """
    for _ in range(ATTEMPTS):
        known = desk.views.registered_of([stream]).get(stream)
        state = known[0] if known else Stream(id=stream, version=0, head=None)
        try:
            desk.store.append(Append(stream=state, actor=actor, events=(event,), at=now, **more))
        except Conflict:
            continue
        return True
    return False
