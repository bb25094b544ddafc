"""Every fact we record. Frozen, versioned, past tense.

The wire name is ``kind`` (``request-submitted/1``); a new shape is ``/2`` and a new class, and the old one stays
readable for ever: `tests/golden` holds the bytes of every kind ever released. Who acted and when are in the
entry's envelope (`ledger.entry`), not here. Instants are wire strings, durations whole seconds, and there are no
floats. Free text is a commitment; the text itself lies beside the ledger and can be erased.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeAlias

import msgspec

from muniment.core.campaign_items import Selection
from muniment.core.delegation import Delegation
from muniment.core.identity import Identity, IdentityId
from muniment.core.inventory import Item
from muniment.core.login import Login
from muniment.core.scope import Comparison, Privilege, Scope
from muniment.core.terms import Terms
from muniment.core.verdict import Evaluation, Obligations

Cause: TypeAlias = Literal[
    "expired", "returned", "revoked", "excess", "offboarded", "signal", "campaign", "failed"
]
Severity: TypeAlias = Literal["critical", "high", "medium", "low"]
#: what may be wrong with an entitlement: nobody is behind the account; somebody is, and nothing explains it; its time is
#: over; it is not there before its time is over; somebody else gave or took it since; who holds it or answers for it is
#: gone; the account is several people's. And with its use: at another time than a ticket gave it, without any, or by a
#: person, under the account of a machine
DriftType: TypeAlias = Literal[
    "orphan", "excess", "overdue", "vanished", "altered", "owner-gone", "duplicate-identity",
    "used-outside", "used-ungranted", "used-by-person",
]  # fmt: skip


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all events."""

    kind: ClassVar[str]


class RequestSubmitted(Event, frozen=True, kw_only=True):
    """Somebody filed a ticket."""

    kind = "request-submitted/1"

    terms: Terms
    digest: str  # over the ticket id and the terms
    accountable: tuple[IdentityId, ...]  # owners, at any level, of a non-human requester or beneficiary


class PolicyDecided(Event, frozen=True, kw_only=True):
    """Policy judged the request as filed."""

    kind = "policy-decided/1"

    permitted: bool
    policies: str
    determining: tuple[str, ...]
    reasons: tuple[str, ...]
    obligations: Obligations | None
    evaluations: tuple[Evaluation, ...]
    entities: tuple[dict[str, Any], ...]  # exactly what the engine saw


class ApprovalRecorded(Event, frozen=True, kw_only=True):
    """One person decided, having been shown exactly these terms."""

    kind = "approval-recorded/1"

    approver: IdentityId
    decision: Literal["approve", "deny"]
    stage: str
    digest: str  # of the terms that were shown
    policies: str  # the policy set that gave the authority
    authority: tuple[str, ...]  # ids of the policies it rested on
    evaluations: tuple[Evaluation, ...]
    entities: tuple[dict[str, Any], ...]
    comment: str | None  # commitment
    signature: str | None  # the approver's own, over the terms
    #: set where the authority is somebody else's, who handed it on; the questions to policy are about them
    on_behalf: Delegation | msgspec.UnsetType = msgspec.UNSET
    login: Login | msgspec.UnsetType = msgspec.UNSET  # how they signed in; absent: with a token, or locally


class CounterOffered(Event, frozen=True, kw_only=True):
    """An approver would agree to less. Nothing changes before the requester accepts it (I5)."""

    kind = "counter-offered/1"

    approver: IdentityId
    stage: str
    digest: str  # of the terms that were shown
    offer: str  # the digest of the offered terms
    terms: Terms
    policies: str  # the policy set that gave the authority
    authority: tuple[str, ...]  # ids of the policies it rested on
    evaluations: tuple[Evaluation, ...]
    entities: tuple[dict[str, Any], ...]
    comment: str  # commitment
    on_behalf: Delegation | msgspec.UnsetType = msgspec.UNSET


class CounterAccepted(Event, frozen=True, kw_only=True):
    """The requester took the offer: these are the terms from here on, and no earlier approval holds (I3).

    Policy judges them in the same commit.
    """

    kind = "counter-accepted/1"

    digest: str  # of the new terms
    terms: Terms
    voided: tuple[IdentityId, ...]  # who had approved the old ones


class ApproversReminded(Event, frozen=True, kw_only=True):
    """Those who could decide were told that it waits for them."""

    kind = "approvers-reminded/1"

    stages: tuple[str, ...]
    approvers: tuple[IdentityId, ...]


class RequestEscalated(Event, frozen=True, kw_only=True):
    """Nobody decided for long: others may decide as well, from here on."""

    kind = "request-escalated/1"

    stages: tuple[str, ...]  # that were open
    to: tuple[str, ...]  # "group:NAME" or an identity id


class ApproversMissing(Event, frozen=True, kw_only=True):
    """Stages that, as the directory stands, nobody can satisfy; none: there is somebody again."""

    kind = "approvers-missing/1"

    stages: tuple[str, ...]
    reasons: tuple[str, ...]  # sentences: what is missing, and who could see to it


class RequestApproved(Event, frozen=True, kw_only=True):
    """Every stage has its people. Counted from the approvals; recorded so that readers need not count."""

    kind = "request-approved/1"

    approvers: tuple[IdentityId, ...]
    scope: Scope
    duration: int


class ApprovalsVoided(Event, frozen=True, kw_only=True):
    """Before provisioning, some approvals no longer held: they are gone, and the request waits for others (I4)."""

    kind = "approvals-voided/1"

    approvers: tuple[IdentityId, ...]
    reason: str


class RequestDenied(Event, frozen=True, kw_only=True):
    """Policy or an approver said no. The end."""

    kind = "request-denied/1"

    by: str  # an identity, or "policy"
    reasons: tuple[str, ...]
    # Policy's answers at the last look before access was given (I34). Unset where PolicyDecided or ApprovalRecorded has
    # what the denial rests on, where policy had not to be asked, and in entries of the first releases.
    policies: str | msgspec.UnsetType = msgspec.UNSET
    evaluations: tuple[Evaluation, ...] | msgspec.UnsetType = msgspec.UNSET
    entities: tuple[dict[str, Any], ...] | msgspec.UnsetType = msgspec.UNSET


class RequestWithdrawn(Event, frozen=True, kw_only=True):
    """The requester or beneficiary no longer wants it. The end."""

    kind = "request-withdrawn/1"


class RequestLapsed(Event, frozen=True, kw_only=True):
    """Nobody decided in time, or the window was over before access could begin. The end."""

    kind = "request-lapsed/1"

    reason: str


class AccountRead(Event, frozen=True, kw_only=True):
    """Part of what the account held on the target before anything was given, where one entry cannot hold all of it.

    Its parts follow each other; then, in the same commit, comes ProvisioningStarted.
    """

    kind = "account-read/1"

    held: Scope


class ProvisioningStarted(Event, frozen=True, kw_only=True):
    """Intent, durable before the target is touched (I1). The window is fixed from here on."""

    kind = "provisioning-started/1"

    starts_at: str
    expires_at: str
    held: Scope  # what the account held on the target just before, after what AccountRead says; not ours to remove
    policies: str  # the policy set under which the authority was judged again
    approvers: tuple[IdentityId, ...]  # whose approvals still stood
    evaluations: tuple[Evaluation, ...]
    entities: tuple[dict[str, Any], ...]  # exactly what the engine saw


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """All of a scope of which an entry lists a part."""

    count: int  # privileges
    digest: str  # SHA-256 of its canonical JSON


class GrantObserved(Event, frozen=True, kw_only=True):
    """What the target was seen to hold after provisioning, beside what was approved."""

    kind = "grant-observed/1"

    granted: Scope
    comparison: Comparison
    native_expiry: str | None  # when the target itself ends it, where it can
    handle: dict[str, str]  # what the target calls this grant: certificate serial, lease id
    #: set where the target gave more than an entry holds: ``granted`` lists what was approved, and part of the excess
    whole: Whole | msgspec.UnsetType = msgspec.UNSET


class ProvisioningFailed(Event, frozen=True, kw_only=True):
    """The target could not be made to hold what was approved; whatever was given is taken back."""

    kind = "provisioning-failed/1"

    code: str
    message: str


class UseObserved(Event, frozen=True, kw_only=True):
    """A batch of the target's own log lines, paired with this ticket."""

    kind = "use-observed/1"

    source: str
    digest: str  # of the ingested lines
    events: int
    first_at: str
    last_at: str
    privileges: Scope


class RevocationOrdered(Event, frozen=True, kw_only=True):
    """The access is to end, now."""

    kind = "revocation-ordered/1"

    cause: Cause
    reason: str | None  # commitment


class RevocationFailed(Event, frozen=True, kw_only=True):
    """An attempt to take the access away did not succeed. Attempts go on without end (I14)."""

    kind = "revocation-failed/1"

    code: str
    message: str


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A privilege that stays because another live ticket holds it too (I21)."""

    privilege: Privilege
    ticket: str


class RevocationObserved(Event, frozen=True, kw_only=True):
    """The target was read and no longer holds it, but for what another ticket keeps."""

    kind = "revocation-observed/1"

    gone: Scope  # of a grant that was listed in part, that part: the rest went with it
    kept: tuple[Kept, ...]
    sessions_ended: int


class ReviewOpened(Event, frozen=True, kw_only=True):
    """Somebody other than the beneficiary owes a look at how the access was used."""

    kind = "review-opened/1"

    due_at: str


class ReviewRecorded(Event, frozen=True, kw_only=True):
    """That look was taken."""

    kind = "review-recorded/1"

    reviewer: IdentityId
    outcome: Literal["appropriate", "inappropriate"]
    comment: str  # commitment


class FindingRaised(Event, frozen=True, kw_only=True):
    """Something a person must look at."""

    kind = "finding-raised/1"

    finding: str  # id within the ticket: "1", "2", …
    type: str  # excess, orphan, overdue, …
    severity: Severity
    message: str
    scope: Scope


class FindingResolved(Event, frozen=True, kw_only=True):
    """A finding was dealt with."""

    kind = "finding-resolved/1"

    finding: str
    reason: str | None  # commitment; null when the controller saw for itself that it is over


class CheckWaived(Event, frozen=True, kw_only=True):
    """A second person takes it upon themselves that a closure check need not hold."""

    kind = "check-waived/1"

    check: str
    reason: str  # commitment


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """One closure check: whether it holds, and who waived it if it does not."""

    check: str
    holds: bool
    waived: IdentityId | None = None


class RequestClosed(Event, frozen=True, kw_only=True):
    """The last event of every ticket that was provisioned."""

    kind = "request-closed/1"

    outcome: Literal["closed", "failed"]
    checks: tuple[CheckResult, ...]


class IdentityRecorded(Event, frozen=True, kw_only=True):
    """The directory's view of an identity, when it first appeared or changed."""

    kind = "identity-recorded/1"

    identity: Identity


class IdentityDeactivated(Event, frozen=True, kw_only=True):
    """An identity is disabled or gone from the directory."""

    kind = "identity-deactivated/1"

    identity: IdentityId


class SignalReceived(Event, frozen=True, kw_only=True):
    """Somebody outside said something about an identity: a session ended, a risk rose, an account is disabled."""

    kind = "signal-received/1"

    issuer: str
    jti: str  # the issuer's name for it; it is heeded once
    type: str  # a URI
    subject: IdentityId | None  # whom it is about here; null: nobody whom we know
    claims: dict[str, str]  # what it rests on: current_level, change_type, …
    digest: str  # SHA-256 of the token as it came, so that whoever kept it can show it


class TargetRegistered(Event, frozen=True, kw_only=True):
    """A target and its catalogue as configured, when it first appeared or changed."""

    kind = "target-registered/1"

    target: str
    connector: str
    environment: str
    owners: tuple[str, ...]
    privileges: tuple[dict[str, Any], ...]


class TargetRetired(Event, frozen=True, kw_only=True):
    """A target left the configuration, with no live grant on it."""

    kind = "target-retired/1"

    target: str


class InventoryTaken(Event, frozen=True, kw_only=True):
    """A target was asked for everything that it holds. Counts and a digest; the lines themselves lie beside the ledger.

    What a reading that is not complete does not show may be there all the same: nothing is ever called gone by it.
    """

    kind = "inventory-taken/1"

    inventory: str  # id
    target: str
    began_at: str  # just before the target was asked
    complete: bool
    holdings: int  # lines: entitlements, and privileges that bring others
    accounts: int  # that hold something by themselves
    nested: int  # of the lines, those that say which privilege brings which
    digest: str  # SHA-256 of the lines (`core.inventory`)


class ReconciliationMade(Event, frozen=True, kw_only=True):
    """An inventory was compared with tickets, baseline and exceptions: every holding is in one of four classes."""

    kind = "reconciliation-made/1"

    target: str
    inventory: str
    complete: bool  # as the inventory: nothing is called missing or over by one that is not
    ticketed: int
    excepted: int
    baseline: int
    unexplained: int
    raised: int  # findings, by this run
    resolved: int
    open: int  # findings of the target after it, those accepted for the time being among them


class DriftRaised(Event, frozen=True, kw_only=True):
    """A target holds what it should not, or does not hold what it should. Again in the same stream, if it comes back."""

    kind = "drift-raised/1"

    finding: str  # id: the same for the same trouble with the same entitlement
    target: str
    type: DriftType
    severity: Severity
    item: Item  # the line of the inventory that proves it; of what vanished, the line that it does not have
    reference: str | None  # the ticket, or the line of the baseline, that it is held against
    inventory: str
    message: str
    due_at: str
    #: of use: the line of the log that proves it (`core.use`), and ``inventory`` is the batch that it was read in
    line: str | msgspec.UnsetType = msgspec.UNSET


class DriftAssigned(Event, frozen=True, kw_only=True):
    """Somebody is to see to it."""

    kind = "drift-assigned/1"

    finding: str
    to: IdentityId


class DriftExplained(Event, frozen=True, kw_only=True):
    """Somebody said how it came to be. It stays open."""

    kind = "drift-explained/1"

    finding: str
    explanation: str  # commitment


class DriftAccepted(Event, frozen=True, kw_only=True):
    """A second person lets it be for a time; found again after that, it is raised again."""

    kind = "drift-accepted/1"

    finding: str
    until: str
    reason: str  # commitment


class DriftRemovalOrdered(Event, frozen=True, kw_only=True):
    """Somebody responsible has it taken away: intent, durable before the target is touched. Tried again until it is gone."""

    kind = "drift-removal-ordered/1"

    finding: str
    reason: str  # commitment


class DriftResolved(Event, frozen=True, kw_only=True):
    """A complete inventory shows that it is over."""

    kind = "drift-resolved/1"

    finding: str
    #: covered: a ticket, the baseline or an exception explains it now; past: of use, it was accepted until a date, and
    #: was not seen again by then
    outcome: Literal["gone", "covered", "past"]
    inventory: str


class CampaignSource(msgspec.Struct, frozen=True, kw_only=True):
    """The inventory of a target that a campaign's list was made of."""

    target: str
    inventory: str
    digest: str


class CampaignOpened(Event, frozen=True, kw_only=True):
    """People are asked which standing access is still needed. The list is fixed by this; it lies beside the ledger."""

    kind = "campaign-opened/1"

    campaign: str
    selection: Selection
    rules: tuple[
        str, ...
    ]  # who is asked: "owner", "manager", "target-owner", an identity or "group:NAME"; the first that can
    due_at: str
    unanswered: Literal["revoke", "escalate"]  # what becomes of items that nobody decided by then
    escalate_to: (
        str  # who is asked where no rule names anybody, and then: an identity, "group:NAME", "role:NAME"
    )
    valid_for: int  # seconds for which what is kept need not be looked at again
    items: int
    singly: int  # that many at the beginning of the list are kept one by one
    digest: str  # SHA-256 of the lines (`core.campaign_items`)
    sources: tuple[CampaignSource, ...]
    left_out: tuple[str, ...]  # targets that cannot list what they hold
    reason: str  # commitment


class CampaignItemsDecided(Event, frozen=True, kw_only=True):
    """A reviewer said what is to become of items; or nobody did, and they are revoked. The last word on an item counts."""

    kind = "campaign-items-decided/1"

    campaign: str
    items: str  # ranges of places in the list, from 0: "0-99,105"
    count: int
    decision: Literal["keep", "revoke", "change"]
    reason: str | None  # commitment; null: nobody answered


class CampaignReassigned(Event, frozen=True, kw_only=True):
    """Others are asked about items."""

    kind = "campaign-reassigned/1"

    campaign: str
    items: str
    to: str  # an identity, "group:NAME", "role:NAME"
    reason: str | None  # commitment; null: nobody answered in time


class CampaignReminded(Event, frozen=True, kw_only=True):
    """Whoever it waits for was told so."""

    kind = "campaign-reminded/1"

    campaign: str
    people: tuple[str, ...]  # identities, "group:NAME", "role:NAME"


class CampaignSignedOff(Event, frozen=True, kw_only=True):
    """Somebody who decided nothing in it stands for the result. What is revoked is taken away from here on."""

    kind = "campaign-signed-off/1"

    campaign: str
    results: str  # SHA-256 of one letter an item: k, r, c
    comment: str  # commitment


class CampaignItemsSettled(Event, frozen=True, kw_only=True):
    """What was revoked or to be changed is seen to be so, or somebody says what became of it."""

    kind = "campaign-items-settled/1"

    campaign: str
    items: str
    outcome: Literal[
        "gone", "covered", "explained"
    ]  # covered: a ticket or another declaration explains it now
    inventory: str | None  # that shows it; null where the directory does, or a person says so
    reason: str | None  # commitment; null where it was seen


class CampaignClosed(Event, frozen=True, kw_only=True):
    """Everything that was decided is so."""

    kind = "campaign-closed/1"

    campaign: str
    kept: int
    revoked: int
    changed: int
    valid_until: str  # what was kept need not be looked at before


class CampaignCancelled(Event, frozen=True, kw_only=True):
    """It is given up before it was signed off: nothing that was decided in it counts."""

    kind = "campaign-cancelled/1"

    campaign: str
    reason: str  # commitment


class ReadPart(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes of a log that a batch was read from."""

    file: str  # its name
    begins: int  # byte
    ends: int
    digest: str  # SHA-256 of these bytes, "sha256:…"


class UsageIngested(Event, frozen=True, kw_only=True):
    """A batch of lines of a target's own log. Counts and a digest; what is kept of the lines lies beside the ledger."""

    kind = "usage-ingested/1"

    batch: str  # id
    target: str
    source: str  # which log of the target
    format: str
    lines: int  # the sum of the next six
    uses: int  # lines that tell of use and were not known
    refused: int  # lines that say that something did not come to be
    other: int  # sound lines that tell of no use
    duplicates: int  # known from another batch, or there twice
    unparsable: int
    ahead: int  # of a time that is not yet: the log's clock is wrong, and nothing is made of them
    digest: str  # SHA-256 over what is kept of lines that were not known (`core.use`)
    #: the period that this log was read for by now without a gap; null: no line has a time
    covers_from: str | None
    covers_to: str | None
    part: ReadPart | None  # null: they were sent, and not read from a file


class LateUseObserved(Event, frozen=True, kw_only=True):
    """Use of what a ticket gave that was read after the ticket had ended: all of it so far, in a stream beside the ticket's."""

    kind = "late-use-observed/1"

    ticket: str
    digest: str  # of the lines, as in UseObserved
    events: int
    first_at: str
    last_at: str
    privileges: Scope


class DelegationGiven(Event, frozen=True, kw_only=True):
    """An approver handed their authority to somebody for a period."""

    kind = "delegation-given/1"

    delegation: Delegation
    reason: str  # commitment


class DelegationEnded(Event, frozen=True, kw_only=True):
    """It ended before its time."""

    kind = "delegation-ended/1"

    delegation: str


class PolicyTextRecorded(Event, frozen=True, kw_only=True):
    """Part of a file of a policy set, so that an old decision can be replayed without our repository.

    An entry holds 32 KiB at most, and a file may be longer: its parts follow each other, then PolicyAdopted.
    """

    kind = "policy-text-recorded/1"

    name: str
    sha256: str  # hex, of the whole file
    part: int  # from 0
    parts: int
    text: str


class PolicyFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a policy set; its text was recorded before."""

    name: str
    sha256: str


class PolicyAdopted(Event, frozen=True, kw_only=True):
    """A policy set in force from here on."""

    kind = "policy-adopted/1"

    digest: str
    files: tuple[PolicyFile, ...]  # sorted by name; the schema is one of them
    # Unset where nobody else had to agree: the first set of a ledger, and every set of a single-person trial.
    change: str | msgspec.UnsetType = msgspec.UNSET  # the proposal that a second person agreed to
    proposed_by: IdentityId | msgspec.UnsetType = msgspec.UNSET  # who adopted it is the entry's actor


class ChangeProposed(Event, frozen=True, kw_only=True):
    """Somebody wants other policies, targets or approver groups in force. Nothing changes before a second person agrees.

    Every text was recorded before, in full, as parts of files.
    """

    kind = "change-proposed/1"

    change: str  # id
    base: str | None  # digest of the policy set in force, which it is meant to replace
    policy: str  # digest of the set; the base, where only settings change
    files: tuple[PolicyFile, ...]  # of that set
    settings: tuple[PolicyFile, ...]  # targets.json, groups.json
    reason: str  # commitment


class ChangeRefused(Event, frozen=True, kw_only=True):
    """A proposal was taken back, or somebody said no."""

    kind = "change-refused/1"

    change: str
    reason: str  # commitment


class SettingsAdopted(Event, frozen=True, kw_only=True):
    """Targets with their catalogues, and approver groups with their members, in force from here on."""

    kind = "settings-adopted/1"

    settings: tuple[PolicyFile, ...]
    change: str | msgspec.UnsetType = msgspec.UNSET  # as in PolicyAdopted
    proposed_by: IdentityId | msgspec.UnsetType = msgspec.UNSET


class LoginLinked(Event, frozen=True, kw_only=True):
    """Somebody signed in for the first time: this account of the identity provider is theirs from here on, and no other."""

    kind = "login-linked/1"

    issuer: str
    subject: str  # as the issuer names the account; never used again for another one
    identity: IdentityId


class LoginUnlinked(Event, frozen=True, kw_only=True):
    """The account is nobody's any more. The next one that is mapped to the identity is linked in its place."""

    kind = "login-unlinked/1"

    issuer: str
    subject: str
    identity: IdentityId


class TokenMade(Event, frozen=True, kw_only=True):
    """Somebody may call the API as an identity, by an API token. Nothing of its secret is here, nor its hash.

    Who made it is the entry's actor: an operator, the identity itself, who answers for it, or whoever runs the store.
    """

    kind = "token-made/1"

    token: str  # its id, 16 hex digits, by which it is revoked; the stream is called after it
    identity: IdentityId  # as whom its holder acts
    scopes: tuple[str, ...]  # what it is good for, sorted; none: all that the identity may
    expires_at: str


class TokenRevoked(Event, frozen=True, kw_only=True):
    """A token is good for nothing any more. It is the first of its stream where the token is older than such entries."""

    kind = "token-revoked/1"

    token: str
    identity: IdentityId


class LiftProposed(Event, frozen=True, kw_only=True):
    """Somebody wants the disablement that signals made to be over. Nothing changes before a second person agrees."""

    kind = "lift-proposed/1"

    identity: IdentityId
    issuers: tuple[str, ...]  # whose signals disabled them, sorted
    reason: str  # commitment


class DisablementLifted(Event, frozen=True, kw_only=True):
    """The disablement that signals made is over. Nothing that it ended is given again by this."""

    kind = "lift-agreed/1"

    identity: IdentityId
    issuers: tuple[str, ...]  # as above
    # Unset in a single-person trial, where nobody else had to agree
    proposed_by: IdentityId | msgspec.UnsetType = msgspec.UNSET


class TextErased(Event, frozen=True, kw_only=True):
    """A free text of a ticket was deleted beside the ledger, with its salt. The entry that commits to it stays as it is."""

    kind = "text-erased/1"

    ticket: str
    seq: int  # of the entry of the ticket that commits to it
    commitment: str
    reason: str  # why, as a commitment


class KeyAnnounced(Event, frozen=True, kw_only=True):
    """A key that will sign this ledger. Those that sign it already have signed this, before the new one signs anything."""

    kind = "key-announced/1"

    vkey: str
    beside: tuple[str, ...]  # vkeys of those that sign already


class KeyRetired(Event, frozen=True, kw_only=True):
    """A key that signs no checkpoint which covers this. One that only it has signed, and that does, is a forgery."""

    kind = "key-retired/1"

    vkey: str
    remaining: tuple[str, ...]  # vkeys of those that go on signing


TICKET_EVENTS: tuple[type[Event], ...] = (
    RequestSubmitted, PolicyDecided, ApprovalRecorded, CounterOffered, CounterAccepted, ApproversReminded,
    RequestEscalated, ApproversMissing, RequestApproved, ApprovalsVoided, RequestDenied,
    RequestWithdrawn, RequestLapsed, AccountRead, ProvisioningStarted, GrantObserved, ProvisioningFailed, UseObserved,
    RevocationOrdered, RevocationFailed, RevocationObserved, ReviewOpened, ReviewRecorded, FindingRaised,
    FindingResolved, CheckWaived, RequestClosed,
)  # fmt: skip
REGISTRY_EVENTS: tuple[type[Event], ...] = (
    IdentityRecorded, IdentityDeactivated, SignalReceived, TargetRegistered, TargetRetired, InventoryTaken,
    ReconciliationMade, DriftRaised, DriftAssigned, DriftExplained, DriftAccepted, DriftRemovalOrdered, DriftResolved,
    UsageIngested, LateUseObserved, CampaignOpened, CampaignItemsDecided, CampaignReassigned, CampaignReminded, CampaignSignedOff, CampaignItemsSettled,
    CampaignClosed, CampaignCancelled, DelegationGiven, DelegationEnded,
    PolicyTextRecorded, PolicyAdopted, ChangeProposed, ChangeRefused, SettingsAdopted, LoginLinked, LoginUnlinked,
    TokenMade, TokenRevoked,
    LiftProposed, DisablementLifted,
)  # fmt: skip

#: of the ledger itself: what was erased beside it, and by which keys it is signed
LEDGER_EVENTS: tuple[type[Event], ...] = (TextErased, KeyAnnounced, KeyRetired)

KINDS: dict[str, type[Event]] = {
    event.kind: event for event in (*TICKET_EVENTS, *REGISTRY_EVENTS, *LEDGER_EVENTS)
}

_encode = msgspec.json.Encoder(order="sorted").encode
_decoders = {kind: msgspec.json.Decoder(event) for kind, event in KINDS.items()}


def encode_data(event: Event) -> bytes:
    """The canonical JSON of the event's fields (RFC 8785, for our profile; `tests/ledger` proves it)."""
    return _encode(event)


def decode_data(kind: str, data: bytes | msgspec.Raw) -> Event:
    """Read an event back. Fields that a later version added are ignored, so old programs read new events.

    Raises:
        KeyError: a kind this version does not know.
        msgspec.ValidationError: the bytes are not such an event.
    """
    return _decoders[kind].decode(data)
