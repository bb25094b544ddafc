"""What the service layer asks of the world, as interfaces. Each page says enough to implement it.

Adapters live in `store`, `policy`, `connectors` and `directory`; only `main` names a concrete one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import msgspec

from muniment.core.campaign import Campaign
from muniment.core.drift import Drift
from muniment.core.due import Action
from muniment.core.errors import MunimentError
from muniment.core.events import Event
from muniment.core.identity import Identity, IdentityId
from muniment.core.inventory import Nested
from muniment.core.login import Login
from muniment.core.scope import Holding, Privilege, Scope
from muniment.core.terms import Terms
from muniment.core.text import Disclosure
from muniment.core.ticket import Ticket
from muniment.core.use import Interval, Use
from muniment.core.verdict import Authority, Verdict
from muniment.ledger.note import Verifier
from muniment.limits import Gate

# ── Time and chance ──────────────────────────────────────────────────────────


class Clock(Protocol):
    """The store's clock: it never runs backwards, also not over a restart (I13)."""

    def now(self) -> datetime:
        """The instant, in UTC. At least every instant this store has ever acted on."""


class Random(Protocol):
    """Chance, passed in so that a run can be repeated."""

    def bytes(self, count: int) -> bytes:
        """``count`` unpredictable bytes."""


# ── Targets ──────────────────────────────────────────────────────────────────


#: what a grant is on a target: an entitlement of an account or workload that is there, or a credential to collect
GrantKind: TypeAlias = Literal[
    "entitlement", "certificate", "token", "api_key", "login", "workload_entitlement"
]


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a kind of target can and cannot do. Shown by `muniment check`; policy obligations rest on it."""

    native_expiry: bool  # the target ends each grant by itself, at the instant it is told
    #: after revoke no session that was opened with the grant has it: it ended, or the target asks at each request
    ends_sessions: bool
    issues_credential: bool  # provisioning yields something the beneficiary must collect
    needs_public_key: bool  # the request must carry the beneficiary's public key
    lists_everything: bool  # observe(None) sees every holding on the target, ours or not
    effective_scope: bool = False  # it is `Bringing`: it says what a privilege brings with it
    usage_log: bool = False  # the target's own log names account or ticket at each use
    grant: GrantKind = "entitlement"  # what kind of thing is given
    separate: bool = False  # each ticket's grant is a thing of its own, and ``Holding.ticket`` says whose
    change_feed: bool = False  # it is `Watching`: it says whether anything changed


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One ticket's access on one account: what to make the target hold, or no longer hold.

    The same order serves both directions, so that nothing needed to revoke can get lost (I23).
    """

    ticket: str
    account: str
    scope: Scope
    expires_at: datetime  # UTC; the target ends it then by itself, where it can
    public_key: str | None = None  # OpenSSH one-line form
    handle: Mapping[str, str] = {}  # what provisioning returned; empty if a crash lost it


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one order went, as far as the target said. Only `Connector.observe` tells the truth."""

    ticket: str
    result: Literal["done", "rejected", "unknown"]  # unknown: it may or may not have taken effect
    code: str = ""  # stable, for rejected and unknown: "target.no-such-account", "target.unavailable"
    message: str = ""  # one sentence, without secrets
    handle: dict[str, str] = {}  # what the target calls the grant; keys [a-z0-9_]+
    native_expiry: datetime | None = None
    sessions_ended: int = 0
    credential: bytes | None = None  # handed to the beneficiary once; never logged or recorded


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What a target holds, as it says itself.

    ``complete`` is False when some of it could not be read: absence from such a reading proves nothing.
    """

    holdings: tuple[Holding, ...]
    complete: bool = True

    def of(self, account: str, ticket: str | None = None) -> Scope:
        """What one account holds, sorted, each once; without what the target says was given for another ticket."""
        from muniment.core.scope import scope  # noqa: PLC0415

        mine = (h for h in self.holdings if h.account == account)
        return scope(h.what for h in mine if None in {ticket, h.ticket} or h.ticket == ticket)


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a target can be reached and what the connector may do there. For `muniment check`."""

    reachable: bool
    details: tuple[str, ...]  # sentences: version, what works
    problems: tuple[str, ...] = ()  # sentences: what will not work, and what to do about it
    least_privilege: str = ""  # commands that set up our account there with no more rights than it needs


class Connector(Protocol):
    """One target system, seen as the set of privileges it has given out.

    Orders state an end, not a step: provisioning what is held, and revoking what is not, succeed. A call may
    take effect although it raises or answers "unknown"; the caller reads back. Implementations are safe for use
    by several threads and keep no state of their own beside the target. Orders in one call are independent: one that
    the target rejects fails no other. They are on different (account, privilege) pairs, but for grants that are
    ``separate``.

    ``confirm`` is called once, after the connector has the target's attention and as late as it can be before
    the target changes; it raises `LeaseLost` when another worker holds the work, and then nothing is changed (I19).

    Raises, from every method but `validate`: `TargetUnavailable` if no answer came within the configured time-out,
    or the target refused our credentials.
    """

    capabilities: Capabilities

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        """Raise `Invalid` for a name that this target could not hold exactly as written, or a key it cannot use. Pure."""

    def check(self) -> CheckReport:
        """Reach the target and say what works. Never raises `TargetUnavailable`: unreachable is an answer here."""

    def observe(self, accounts: Collection[str] | None) -> Observation:
        """Read what these accounts hold now (None: everybody), ours or not. Changes nothing."""

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """Make the target hold each order's scope for its account. One outcome an order, in the same order."""

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """Make the target no longer hold each order's scope, and end sessions opened with it where it can."""


@runtime_checkable
class Bringing(Protocol):
    """A connector on whose target a privilege can bring others, such as the groups that a group is in."""

    def brings(self, wanted: Scope) -> Scope:
        """What else whoever holds these has by that, as the target is now; without these themselves.

        Raises `TargetUnavailable`.
        """


@runtime_checkable
class Nesting(Protocol):
    """A connector on whose target privileges are in privileges, and that can list all of it."""

    def nested(self) -> Collection[Nested]:
        """Every privilege that brings another one, directly, as the target is now.

        Raises `TargetUnavailable`.
        """


@runtime_checkable
class Warming(Protocol):
    """A connector whose first calls take longer than the next, as connections are made and statements planned."""

    def warm(self, calls: int) -> None:
        """Have at hand what so many calls of `Connector.revoke` at once will use. Changes nothing.

        Raises `TargetUnavailable`.
        """


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What a target's own record of changes says."""

    cookie: str  # from where to go on; the target's own, and of no meaning to us
    changed: bool  # whether anybody but us may have changed who holds what; also where that cannot be known


@runtime_checkable
class Watching(Protocol):
    """A connector on whose target one can ask what changed, which costs less than asking for everything."""

    def changes(self, since: str | None) -> Changes:
        """What changed since the answer with this cookie; None: since we do not know when. Changes nothing.

        Raises `TargetUnavailable`.
        """


class CatalogueEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One privilege that may be asked for."""

    privilege: Privilege
    description: str = ""
    risk: Literal["low", "medium", "high", "critical"] = "medium"
    bounded: bool = False  # reaches one narrow thing and cannot widen itself: what a light path may give
    owners: tuple[str, ...] = ()  # "group:NAME" or an identity id, besides the target's


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A registered system: its catalogue, its owners, and the connector that reaches it."""

    id: str
    kind: str  # of connector: "postgresql", "openssh"
    environment: str
    owners: tuple[str, ...]  # "group:NAME" or an identity id
    catalogue: tuple[CatalogueEntry, ...]
    connector: Any  # a Connector; msgspec does not check protocols
    accounts: Mapping[IdentityId, str] = {}
    account_template: str = "{local_part}"
    longest: timedelta | None = None  # the catalogue's own limit on any grant here (I12)
    settings: Mapping[str, Any] = {}  # the connector's own, as they were written; secrets are references
    ours: bool = True  # False: this process has no credentials there, and leaves its tickets to others (I32)
    gate: Gate = msgspec.field(default_factory=Gate)  # that every call of the connector goes through
    usage: Mapping[str, Any] = {}  # which logs tell of its use (`settings.usage`), as it was written


# ── Policy and directory ─────────────────────────────────────────────────────


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What policy may know of an identity: itself and those accountable for it."""

    identity: Identity
    owners: tuple[Identity, ...] = ()
    #: everybody above each person among these, nearest first; people without a manager are left out
    managers: Mapping[IdentityId, tuple[IdentityId, ...]] = {}


class Policy(Protocol):
    """The policy set in force. Deterministic: the same question gets the same verdict, with all it rested on.

    Fails closed: any error, missing attribute or unknown answer is a denial with its reason (I7).
    """

    @property
    def digest(self) -> str:
        """``sha256:…`` over all files."""

    def files(self) -> Mapping[str, str]:
        """Name and full text of each file, as recorded by PolicyAdopted."""

    def judge_request(
        self, terms: Terms, requester: Subject, beneficiary: Subject, target: Target
    ) -> Verdict:
        """May these terms be asked for, and what does that oblige to? Every privilege is judged by itself (I8)."""

    def judge_approver(
        self, ticket: Ticket, approver: Subject, requester: Subject, beneficiary: Subject, target: Target
    ) -> Authority:
        """Which stages of the ticket is this person in, and may they decide it?"""

    def forbids(  # noqa: PLR0917  as `judge_approver`, and which stages
        self,
        ticket: Ticket,
        delegate: Subject,
        requester: Subject,
        beneficiary: Subject,
        target: Target,
        stages: tuple[str, ...],
    ) -> tuple[str, ...]:
        """Why a policy forbids this person to decide these stages, for whomever; empty if none does."""


class Directory(Protocol):
    """Who there is. Aliases resolve to one canonical identity."""

    @property
    def version(self) -> str:
        """Changes whenever anything in the directory does."""

    def reload_if_changed(self) -> bool:
        """Take up what changed at its source; return whether anything did. What cannot be used changes nothing.

        Raises:
            Misconfigured: the source cannot be used as it is now; said once for each such state.
        """

    @property
    def stale(self) -> str:
        """Why what is said here may be out of date, in a sentence; empty while the source can be used."""

    def get(self, identity: IdentityId) -> Identity | None:
        """The identity with this id or alias, or None."""

    def members(self, group: str) -> tuple[Identity, ...]:
        """Active identities in the group, nested groups included, sorted by id."""

    def everybody(self) -> Iterable[Identity]:
        """All identities, active or not, sorted by id."""


class Provisioned(msgspec.Struct, frozen=True, kw_only=True):
    """One person, group or agent as somebody outside keeps it here."""

    id: str  # ours, opaque
    kind: str  # "User", "Group", "Agent"
    name: str  # folded
    revision: int  # of all of them: what changed last has the highest
    body: bytes  # JSON, as the provider's protocol has it
    created_at: datetime
    changed_at: datetime
    removed_at: datetime | None = None


# ── Who calls ────────────────────────────────────────────────────────────────

#: what a credential may be narrowed to. ``check`` also widens: whoever enforces access asks about anybody. ``scim``
#: and ``signals`` are nobody's by role: a token is made for them. ``login`` opens one session, once, and nothing else
Scoped: TypeAlias = Literal["read", "write", "check", "ledger", "metrics", "scim", "signals", "login"]


class Authenticated(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls, and what their credential is good for."""

    identity: IdentityId
    scopes: frozenset[Scoped] = frozenset()  # empty: all that the identity may
    login: Login | None = None  # how they signed in, if this is a session
    without: frozenset[str] = (
        frozenset()
    )  # groups that do not count in this session: the provider did not confirm them


class Authenticator(Protocol):
    """One way to say who one is: an API token here; sign-in, passkeys and workloads' tokens beside it."""

    def authenticate(self, credential: str, now: datetime) -> Authenticated | None:
        """Who presents this bearer credential; None if it is not of this kind.

        Raises:
            Unauthenticated: it is of this kind, and not good: unknown, over, revoked, forged.
        """


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    """What an identity provider says of somebody who signed in there just now."""

    login: Login
    session: str | None  # the provider's own name for the session (``sid``)
    name: str | None  # what the configured claim says; None: it says nothing
    groups: tuple[str, ...] | None  # what the configured claim lists; None: none is configured


class SignedOut(msgspec.Struct, frozen=True, kw_only=True):
    """What an identity provider says of somebody who signed out there, or was. One of the two is there."""

    issuer: str
    subject: str | None
    session: str | None
    id: str  # of the message: it counts once
    until: datetime  # after which it would be too old, so that nobody need remember it


class IdentityProvider(Protocol):
    """Somebody outside who knows people and lets them prove who they are. Safe for use by several threads.

    Raises, from every method but `leave`: `Unavailable` when it does not answer, `Misconfigured` when it is not what
    the configuration says, `Unauthenticated` for words that are not its own, `Refused` when it says no.
    """

    issuer: str

    def begin(
        self,
        *,
        state: str,
        nonce: str,
        verifier: str,
        level: int | None,
        within: timedelta | None,
        now: datetime,
    ) -> str:
        """Where to send somebody who wants to sign in.

        Args:
            state: comes back with the answer.
            nonce: comes back in what it signs.
            verifier: PKCE's secret, which only `finish` tells.
            level: least assurance of the login; None: any.
            within: how long ago they may have been there; None: as long as a session may last. Given, they are asked.
            now: the instant.
        """

    def finish(
        self, answer: Mapping[str, str], *, verifier: str, nonce: str, within: timedelta | None, now: datetime
    ) -> SignedIn:
        """Who came back with this answer."""

    def signed_out(self, token: str, now: datetime) -> SignedOut:
        """Whose session is over, by a logout token."""

    def leave(self, back: str, now: datetime) -> str | None:
        """Where to send somebody who wants to sign out there as well; None if it has no such place. Never raises."""


# ── Notices ──────────────────────────────────────────────────────────────────


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody may want to know now. What it says is in the ledger, whether it arrives or not."""

    kind: str  # "filed", "reminded", "escalated", …
    ticket: str
    at: str  # wire instant
    to: tuple[str, ...]  # "group:NAME" or an identity id
    text: str  # one sentence, without what the ticket keeps confidential


class Notifier(Protocol):
    """A way to tell people. Called after what it tells of is durable; a crash between the two loses the notice."""

    def send(self, notice: Notice) -> None:
        """Send it, or lose it. Never raises, and returns soon."""


# ── References ───────────────────────────────────────────────────────────────


class References(Protocol):
    """Where changes, incidents and cases are kept. Only looked at, never written to."""

    def is_open(self, kind: str, ident: str) -> bool:
        """Whether such a reference exists and is open now: work under it may begin.

        Raises:
            Unavailable: it cannot be said now. Nothing is filed or given meanwhile.
        """


# ── Witnesses ────────────────────────────────────────────────────────────────


class Cosigned(msgspec.Struct, frozen=True, kw_only=True):
    """A witness's answer: it has seen this checkpoint grow from the one that it saw before."""

    key_id: str  # 8 hex digits, of the key it signed with
    time: int  # POSIX seconds, by its clock
    line: str  # the signature line as it stands in a note


class Objection(msgspec.Struct, frozen=True, kw_only=True):
    """A witness's answer: what it was shown does not fit what it has seen. Its word alone; the note is evidence."""

    message: str  # what it says it has seen
    note: str | None  # the checkpoint of ours that it has, as it hands it out; not verified


class Witness(Protocol):
    """Somebody outside who is shown every checkpoint. Source: c2sp.org/tlog-witness.

    Raises, from `cosign` and `latest`: `WitnessUnavailable` when no answer came in time, and `WitnessRefused` for one
    that does not count: nothing is a cosignature here before its signature verified.
    """

    @property
    def name(self) -> str:
        """The key name it signs under."""

    @property
    def verifier(self) -> Verifier:
        """Its public key."""

    @property
    def url(self) -> str:
        """Where it is asked."""

    def cosign(self, note: str, seen: int, proof: Callable[[int], list[bytes]]) -> Cosigned | Objection:
        """Show it a checkpoint.

        Args:
            note: the signed checkpoint.
            seen: how many entries it is thought to have seen; it says so itself if it is another number.
            proof: from an older size, the consistency proof to this checkpoint.
        """

    def latest(self, origin: str) -> str | None:
        """The newest checkpoint of the ledger ``origin`` that it has cosigned; None if there is none. Not verified."""


# ── Time-stamps ──────────────────────────────────────────────────────────────


class TimeStamp(msgspec.Struct, frozen=True, kw_only=True):
    """An RFC 3161 time-stamp that was verified."""

    authority: str  # subject of the certificate that signed it
    time: int  # POSIX seconds
    token: bytes  # the DER response, as answered


class TimestampAuthority(Protocol):
    """Says when a text was there. Source: RFC 3161.

    Raises, from `stamp`: `StampUnavailable` when no answer came in time, and `StampRefused` for one that is no stamp of
    this text by a certificate that one believes.
    """

    @property
    def roots(self) -> bytes:
        """PEM of the certificates that its own must lead to."""

    def stamp(self, text: str) -> TimeStamp:
        """Have a text stamped."""


# ── Store ────────────────────────────────────────────────────────────────────


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who caused an event, and by which way in: "local", "api", "controller"."""

    id: str
    via: str


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """A stream as read: enough to append to it."""

    id: str
    version: int  # number of entries; the next has this seq
    head: str | None  # leaf hash of the last entry, "sha256:…"


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A wish for exclusive work, granted in the same transaction as the intent it goes with."""

    key: str
    holder: str  # unique to one pass of one worker
    seconds: int  # after which anybody may take it over


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Work that is ours for a while, under a number that only ever rises. Efficiency only: the fence is the safety."""

    key: str
    fence: int


class Once(msgspec.Struct, frozen=True, kw_only=True):
    """A client's own name for what it asks: however often it asks, it happens once (I30)."""

    who: IdentityId
    key: str
    request: str  # SHA-256 of what was asked, in hex: the same name for something else is refused
    sealed: int = 0  # how many of the ticket's entries were in the tree just before


class Premise(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision rests on beside its own stream: all streams whose names begin alike, as far as they were read."""

    family: str  # how their names begin, up to the colon: "delegation:"
    entries: int  # how many they had, together


class TokenRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of an API token. Its secret is nowhere."""

    id: str
    hash: bytes  # SHA-256 of the secret part
    identity: IdentityId
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    marked: bool = True  # False: it is older than marks, and nobody knows whose it is


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a log of which nothing could be made."""

    place: str
    digest: str  # SHA-256, hex
    why: str


class UseSource(msgspec.Struct, frozen=True, kw_only=True):
    """How far a log was read."""

    target: str
    source: str
    format: str
    covered: tuple[Interval, ...] = ()
    position: Mapping[str, Any] | None = None  # `usage.tailing.Position`; None: it is sent
    read_at: str = ""  # when it was last read to its end
    lines: int = 0  # of all batches, as are the next
    unparsable: int = 0
    ahead: int = 0
    unseen: int = 0  # how often lines were missing


class UseBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a batch of lines."""

    batch: str
    source: UseSource  # as it stands after it
    uses: tuple[Use, ...] = ()
    back: tuple[str, ...] = ()  # lines of earlier batches that did not come to be
    rejected: tuple[Rejected, ...] = ()


class Append(msgspec.Struct, frozen=True, kw_only=True):
    """Events to add to one stream, with everything that is true exactly if they are recorded.

    All of it happens in one transaction: the events, the read model, the texts and credential kept beside the
    ledger, the claim of new work, and the release of finished work.
    """

    stream: Stream
    actor: Actor
    events: tuple[Event, ...]
    at: datetime
    ticket: Ticket | None = None  # for tickets: the state after these events, which the read model will show
    drift: Drift | None = None  # for findings of drift, the same
    campaign: Campaign | None = None  # for campaigns, the same
    used: UseBatch | None = None  # for batches of a target's log, what is kept of them
    texts: tuple[Disclosure, ...] = ()
    erased: tuple[str, ...] = ()  # commitments whose text and salt are deleted
    credential: Credential | None = None
    token: TokenRow | None = None  # an API token as it is from here on
    claim: Claim | None = None  # taken with the events, or neither
    fence: Lease | None = None  # must still be ours (I19)
    release: bool = False  # give ``fence`` back
    once: Once | None = None  # fails with `Repeated` if this was done before
    premise: Premise | None = None  # fails with `Conflict` if more was recorded there since


class Appended(msgspec.Struct, frozen=True, kw_only=True):
    """What was recorded: the stream as it stands now, and the lease that was claimed."""

    stream: Stream
    lease: Lease | None = None


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """What a target issued, kept outside the ledger until it is collected, once, or useless."""

    body: bytes
    until: datetime


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket that a controller must act on at ``at``."""

    ticket: str
    target: str
    account: str
    action: Action
    at: datetime


class EventStore(Protocol):
    """Events, and the read models made of them. The only place with transactions.

    Durability: what `append` returned for survives the loss of the machine's power. Concurrency: any number of
    threads and processes; two appends at the same version of a stream cannot both succeed. Errors: `Conflict` for a
    version that is no longer current, `LeaseLost` for a claim or fence, `StoreUnavailable` when it cannot read or
    write.
    """

    clock: Clock

    def read(self, stream: str) -> tuple[Stream, Ticket | None]:
        """Fold a ticket from its entries, checking their chain and marks. A missing stream has version 0.

        Raises `IntegrityError` when an entry was not written by us or the chain does not hold (I11).
        """

    def recall(self, stream: str) -> tuple[Stream, Ticket] | None:
        """A ticket as memory holds it, checked when it was read; perhaps behind, which an append finds out."""

    def read_many(self, streams: Collection[str]) -> dict[str, tuple[Stream, Ticket]]:
        """As `read`, in one query. Missing ones are left out."""

    def append(self, append: Append) -> Appended:
        """Record durably, or not at all."""

    def append_many(self, appends: Sequence[Append]) -> list[Appended | MunimentError]:
        """As `append`, in one commit with whatever else waits; each succeeds or fails by itself."""

    def claim(self, claims: Sequence[Claim]) -> dict[str, Lease]:
        """Take leases for work whose intent is on file already. Those held by others are left out."""

    def leased(self, keys: Collection[str]) -> set[str]:
        """Which of these anybody has leased now."""

    def release(self, leases: Sequence[Lease]) -> None:
        """Give leases back early. One that was lost is ignored."""

    def due(self, until: datetime, limit: int, after: Due | None = None) -> list[Due]:
        """Tickets that a controller must act on by ``until``, earliest first; those behind ``after``."""

    def sharing(self, accounts: Collection[tuple[str, str]]) -> dict[tuple[str, str], list[Ticket]]:
        """Live tickets (`ticket.LIVE`) on each (target, account)."""
