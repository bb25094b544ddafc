"""What routes answer, as types: for the OpenAPI document, and held against real answers by tests.

`service.documents` makes these; the names of members are the public contract.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypeAlias, TypedDict

from msgspec import Meta

from muniment.core.events import Cause, Severity
from muniment.core.ticket import Status

Instant: TypeAlias = Annotated[
    str, Meta(description="RFC 3339, in UTC", extra_json_schema={"format": "date-time"})
]
Duration: TypeAlias = Annotated[
    str, Meta(description="ISO 8601, like PT2H", extra_json_schema={"format": "duration"})
]


class Privilege(TypedDict):
    privilege: str
    resource: str | None


class Window(TypedDict):
    starts_at: Instant | None
    duration: Duration
    expires_at: Instant | None


class Use(TypedDict):
    events: int
    first_at: Instant
    last_at: Instant
    privileges: list[Privilege]


class PolicyPart(TypedDict):
    digest: str | None
    permitted: bool
    determining: list[str]
    reasons: list[str]
    obligations: dict[str, Any]


class PreviewStage(TypedDict):
    name: str
    needed: int
    approvers: list[str]
    after: list[str]
    consent: bool


class Stage(PreviewStage):
    satisfied: bool
    open: bool
    missing: NotRequired[str | None]  # why nobody can satisfy it now


class Offer(TypedDict):
    by: str
    stage: str
    digest: str
    at: Instant
    scope: list[Privilege]
    duration: Duration
    comment: str


class Login(TypedDict):
    method: Literal["oidc", "passkey"]
    issuer: str
    subject: str
    at: Instant
    level: int
    acr: str | None


class Decision(TypedDict):
    approver: str
    decision: Literal["approve", "deny"]
    stage: str
    at: Instant
    authority: list[str]
    digest: str
    signature: str | None
    on_behalf_of: str | None
    delegation: str | None
    login: Login | None
    comment: str | None


class Comparison(TypedDict):
    missing: list[Privilege]
    excess: list[Privilege]


class Failure(TypedDict):
    code: str
    message: str


class Kept(TypedDict):
    privilege: str
    resource: str | None
    ticket: str


class Revocation(TypedDict):
    cause: Cause
    by: str
    reason: str | None
    ordered_at: Instant
    observed_gone_at: Instant | None
    failure: str | None
    sessions_ended: int
    attested_by: str | None
    kept: list[Kept]


class Review(TypedDict):
    due_at: Instant
    reviewer: str | None
    outcome: Literal["appropriate", "inappropriate"] | None
    comment: str | None
    at: Instant | None


class Check(TypedDict):
    check: str
    holds: bool
    waived: str | None


class Closure(TypedDict):
    at: Instant
    checks: list[Check]


class FindingHolding(TypedDict):
    account: str
    privilege: str
    resource: str | None
    grantor: str | None
    ticket: str | None
    nested: bool


class Finding(TypedDict):
    id: str
    ticket: str | None
    target: str
    type: str
    severity: Severity
    message: str
    scope: list[Privilege]
    raised_at: Instant
    resolved_at: Instant | None
    resolved_by: str | None
    # of drift alone
    status: NotRequired[Literal["open", "explained", "accepted", "resolved"]]
    holding: NotRequired[FindingHolding]
    unexplained: NotRequired[bool]
    reference: NotRequired[str | None]
    inventory: NotRequired[str]
    due_at: NotRequired[Instant]
    past_due: NotRequired[bool]
    line: NotRequired[str | None]  # of use: the line of the log that proves it
    assigned_to: NotRequired[str | None]
    explained_by: NotRequired[str | None]
    explanation: NotRequired[str | None]
    accepted_by: NotRequired[str | None]
    accepted_until: NotRequired[Instant | None]
    acceptance: NotRequired[str | None]
    removal_by: NotRequired[str | None]
    removal: NotRequired[str | None]
    outcome: NotRequired[Literal["gone", "covered"] | None]


class Erased(TypedDict):
    entry: int | None
    at: Instant | None
    by: str
    reason: str | None


class LedgerPart(TypedDict):
    events: int
    sealed: int


class Ticket(TypedDict):
    id: str
    status: Status
    kind: Literal["standard", "break_glass"]
    requester: str
    beneficiary: str
    target: str
    account: str
    requested: list[Privilege]
    approved: list[Privilege]
    granted: list[Privilege]
    used: Use | None
    justification: str
    references: dict[str, str]
    window: Window
    filed_at: Instant
    updated_at: Instant
    lapses_at: Instant | None
    digest: str
    policy: PolicyPart
    stages: list[Stage]
    decisions: list[Decision]
    offer: Offer | None
    reminded_at: Instant | None
    escalated_at: Instant | None
    extends: str | None
    responders: list[str]
    bundle: list[str]
    comparison: Comparison | None
    native_expiry: Instant | None
    handle: dict[str, str]
    failure: Failure | None
    revocation: Revocation | None
    review: Review | None
    closure: Closure | None
    open_checks: list[str]
    findings: list[Finding]
    ledger: LedgerPart
    erased: list[Erased]


class Tickets(TypedDict):
    items: list[Ticket]
    next: str | None


class ReviewRow(TypedDict):
    ticket: str
    kind: Literal["standard", "break_glass"]
    requester: str
    beneficiary: str
    target: str
    account: str
    justification: str
    references: dict[str, str]
    requested: list[Privilege]
    approved: list[Privilege]
    granted: list[Privilege]
    comparison: Comparison | None
    used: Use | None
    window: Window
    revocation: Revocation | None
    findings: list[Finding]
    sessions_ended: int
    due_at: Instant
    reviewer: str | None
    outcome: Literal["appropriate", "inappropriate"] | None
    comment: str | None
    at: Instant | None
    past_due: bool
    yours: bool


class Reviews(TypedDict):
    items: list[ReviewRow]
    next: str | None


class Event(TypedDict):
    seq: int
    at: Instant
    actor: str
    via: str
    type: str
    data: dict[str, Any]


class Events(TypedDict):
    items: list[Event]
    next: None


class RightSize(TypedDict):
    tickets: int
    scope: list[Privilege]
    unused: list[Privilege]
    duration: Duration
    sentence: str


class Preview(TypedDict):
    permitted: bool
    reasons: list[str]
    stages: list[PreviewStage]
    possible_approvers: list[str]
    effective_scope: list[Privilege]
    longest_duration: Duration | None
    right_size: RightSize | None


class UsageBatch(TypedDict):
    batch: str
    target: str
    source: str
    format: str
    lines: int
    uses: int
    refused: int
    other: int
    duplicates: int
    unparsable: int
    ahead: int
    digest: str
    covers_from: Instant | None
    covers_to: Instant | None
    part: dict[str, str | int] | None


class UsageIngested(TypedDict):
    items: list[UsageBatch]
    verdicts: dict[str, int]
    findings: list[str]
    tickets: list[str]


class UsagePeriod(TypedDict):
    begins: Instant
    ends: Instant


class UsageLog(TypedDict):
    source: str
    format: str
    covered: list[UsagePeriod]
    read_at: Instant | None
    lines: int
    unparsable: int
    ahead: int
    gaps: int


class UsageRejected(TypedDict):
    place: str
    digest: str
    why: str


class UsageTarget(TypedDict):
    target: str
    logs: list[UsageLog]
    verdicts: dict[str, int]
    rejected: list[UsageRejected]


class JudgedUse(TypedDict):
    ticket: str
    target: str
    beneficiary: str
    account: str
    judgement: Literal["used", "narrower", "never-used", "not-covered"]
    covered: bool
    granted: list[Privilege]
    used: list[Privilege]
    unused: list[Privilege]
    events: int
    unnamed: int
    first_at: Instant | None
    last_at: Instant | None
    starts_at: Instant
    ends_at: Instant
    needed: Duration | None


class UsageSuggestion(RightSize):
    target: str
    account: str
    beneficiary: str


class UsageReport(TypedDict):
    targets: list[UsageTarget]
    items: list[JudgedUse]
    right_size: list[UsageSuggestion]
    findings: list[Finding]
    next: str | None


class UsageCheck(TypedDict):
    target: str
    ok: bool
    batches: int
    lines: int
    altered: list[str]


class Grant(TypedDict):
    ticket: str
    beneficiary: str
    target: str
    account: str
    privilege: str
    resource: str | None
    status: Status
    expires_at: Instant | None


class Grants(TypedDict):
    items: list[Grant]
    next: str | None


class Findings(TypedDict):
    items: list[Finding]
    next: str | None


class CataloguePart(TypedDict):
    privilege: str
    resource: str | None
    description: str
    risk: Literal["low", "medium", "high", "critical"]
    bounded: bool
    owners: list[str]


class TargetState(TypedDict):
    reach: Literal["answers", "held", "unknown"]
    since: str | None
    again_at: str | None
    why: str | None


class Debt(TypedDict):
    overdue: int
    oldest_seconds: int
    ends_within_hour: int
    per_second: float | None
    worked_off_in_seconds: int | None


class Target(TypedDict):
    id: str
    connector: str
    environment: str
    owners: list[str]
    privileges: list[CataloguePart]
    capabilities: dict[str, bool | str]
    state: TargetState
    debt: Debt | None  # for those who see every ticket


class Targets(TypedDict):
    items: list[Target]
    next: None


Holding = TypedDict(
    "Holding",
    {
        "account": str, "privilege": str, "resource": str | None, "grantor": str | None,
        "class": Literal["ticketed", "excepted", "baseline", "unexplained"], "ticket": str | None,
    },
)  # fmt: skip


class Holdings(TypedDict):
    items: list[Holding]
    next: None


class Inventory(TypedDict):
    inventory: str
    target: str
    began_at: str
    at: str
    by: str
    complete: bool
    holdings: int
    accounts: int
    nested: int
    digest: str
    kept: bool


class Inventories(TypedDict):
    items: list[Inventory]
    next: str | None


class InventoryItem(TypedDict):
    account: str
    privilege: str
    resource: str | None
    grantor: str | None
    ticket: str | None
    nested: bool


class InventoryItems(Inventory):
    items: list[InventoryItem]
    next: str | None


class Inherited(TypedDict):
    ticketed: int
    excepted: int
    baseline: int
    unexplained: int


class Reconciled(TypedDict):
    target: str
    inventory: str
    began_at: str
    complete: bool
    holdings: int
    ticketed: int
    excepted: int
    baseline: int
    unexplained: int
    inherited: Inherited
    raised: int
    resolved: int
    open: int


class Reconciliation(TypedDict):
    targets: list[Reconciled]
    findings: list[Finding]


CampaignStatus = Literal["open", "decided", "removing", "closed", "cancelled"]


class CampaignRow(TypedDict):
    name: str
    status: CampaignStatus
    opened_by: str
    opened_at: Instant
    due_at: Instant
    overdue: bool
    items: int
    undecided: int
    kept: int
    revoked: int
    changed: int
    unsettled: int
    signed_by: str | None
    ended_at: Instant | None


class Campaigns(TypedDict):
    items: list[CampaignRow]
    next: str | None


class CampaignSource(TypedDict):
    target: str
    inventory: str
    digest: str


class CampaignSelection(TypedDict):
    subjects: list[str]
    targets: list[str]
    environments: list[str]
    privileges: list[str]
    classes: list[str]
    identities: list[str]
    groups: list[str]
    due_before: Instant | None


class CampaignPace(TypedDict):
    reviewer: str
    acts: int
    items: int
    kept: int
    largest: int
    seconds: int
    signs: list[Literal["always-keep", "fast"]]


class Campaign(TypedDict):
    name: str
    status: CampaignStatus
    reason: str
    selection: CampaignSelection
    reviewers: list[str]
    opened_by: str
    opened_at: Instant
    due_at: Instant
    overdue: bool
    unanswered: Literal["revoke", "escalate"]
    escalate_to: str
    valid_for: str
    items: int
    singly: int
    digest: str
    sources: list[CampaignSource]
    left_out: list[str]
    undecided: int
    kept: int
    revoked: int
    changed: int
    unsettled: int
    yours: int
    reminded_at: Instant | None
    escalated_at: Instant | None
    signed_by: str | None
    signed_at: Instant | None
    comment: str | None
    results: str | None
    closed_at: Instant | None
    cancelled_at: Instant | None
    valid_until: Instant | None
    pace: list[CampaignPace]


class CampaignAsked(TypedDict):
    reviewer: str
    items: int


class CampaignPreview(TypedDict):
    items: int
    singly: int
    left_out: list[str]
    sources: list[CampaignSource]
    reviewers: list[CampaignAsked]


class CampaignItem(TypedDict):
    number: int
    what: str
    subject: Literal["entitlement", "declaration", "identity", "membership"]
    reviewer: str
    risk: Severity
    target: str | None
    account: str | None
    privilege: str | None
    resource: str | None
    nested: bool
    grantor: str | None
    ticket: str | None
    standing: Literal["baseline", "excepted", "unexplained"] | None
    identity: str | None
    group: str | None
    holders: list[str]
    owners: list[str]
    until: Instant | None
    line: str | None
    singly: bool
    decision: Literal["keep", "revoke", "change"] | None
    decided_by: str | None
    decided_at: Instant | None
    reason: str | None
    outcome: Literal["gone", "covered", "explained"] | None
    settled_by: str | None
    settled_at: Instant | None
    inventory: str | None
    explanation: str | None


class CampaignItems(TypedDict):
    items: list[CampaignItem]
    next: str | None


class CampaignDecided(TypedDict):
    campaign: Campaign
    decided: int
    left: str


class Credential(TypedDict):
    ticket: str
    credential: str


class Whoami(TypedDict):
    id: str
    name: str
    active: bool
    groups: list[str]
    roles: list[str]
    owners: list[str]
    manager: str | None
    aliases: list[str]
    kind: str
    via: str


class Session(TypedDict):
    identity: str
    name: str
    roles: list[str]
    groups: list[str]
    issuer: str
    subject: str
    level: int
    acr: str | None
    signed_in_at: Instant
    fresh: bool
    csrf: str


class Device(TypedDict):
    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


class Token(TypedDict):
    token: str
    id: str
    identity: str
    scopes: list[str]
    expires_at: Instant


class DeviceToken(TypedDict):
    """RFC 6749, section 5.1, with whom the token acts as, and until when."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    scope: NotRequired[str]
    identity: str
    expires_at: Instant


class OAuthError(TypedDict):
    """RFC 6749, section 5.2, and RFC 8628, section 3.5."""

    error: str
    error_description: str


class AuthorizationServer(TypedDict):
    """RFC 8414."""

    issuer: str
    device_authorization_endpoint: str
    token_endpoint: str
    token_endpoint_auth_methods_supported: list[str]
    grant_types_supported: list[str]
    response_types_supported: list[str]
    scopes_supported: list[str]


class Making(TypedDict):
    state: str
    options: dict[str, Any]


class Passkey(TypedDict):
    identity: str
    key: str


class SteppedUp(TypedDict):
    level: int
    csrf: str


class Assertion(TypedDict):
    digest: str
    options: dict[str, Any]


class LoggedOut(TypedDict):
    signed_out: bool
    continue_at: str | None


class Ended(TypedDict):
    ended: int


class Quorum(TypedDict):
    needed: int
    met: bool


class Checkpoint(TypedDict):
    origin: str
    size: int
    root: str
    vkey: str
    vkeys: list[str]
    checkpoint: str
    witnesses: list[dict[str, Any]]
    says: str
    stamps: list[dict[str, Any]]
    unstamped: str | None
    quorum: Quorum


class Health(TypedDict):
    status: Literal["ok"]


class Ready(TypedDict):
    status: Literal["ok"]
    store: str
    ledger: str


class Delegation(TypedDict):
    id: str
    by: str
    to: str
    starts_at: Instant
    ends_at: Instant
    in_force: bool
    ended: bool


class Delegations(TypedDict):
    items: list[Delegation]
    next: None


class ShortChange(TypedDict):
    change: str
    status: Literal["proposed", "adopted", "refused"]
    base: str | None
    digest: str
    proposed_by: str
    proposed_at: Instant
    decided_by: str | None
    decided_at: Instant | None


class Changes(TypedDict):
    items: list[ShortChange]
    next: None


class Change(ShortChange):
    reason: str
    diff: list[str]


class Proposed(TypedDict):
    """A change; in a single-person trial only what holds already, and what that says."""

    status: Literal["proposed", "adopted", "refused"]
    digest: str
    says: NotRequired[str]
    change: NotRequired[str]
    base: NotRequired[str | None]
    proposed_by: NotRequired[str]
    proposed_at: NotRequired[Instant]
    decided_by: NotRequired[str | None]
    decided_at: NotRequired[Instant | None]
    reason: NotRequired[str]
    diff: NotRequired[list[str]]


class PolicyQuestion(TypedDict):
    principal: str
    action: str
    resource: str
    allowed: bool
    determining: list[str]
    errors: list[str]
    context: dict[str, Any]


class PolicyDecision(TypedDict):
    event: str
    at: Instant
    by: str
    policies: str
    same: bool
    questions: list[PolicyQuestion]


class Explained(TypedDict):
    ticket: str
    status: Status
    reasons: list[str]
    same: bool
    decisions: list[PolicyDecision]


class TaskProgress(TypedDict):
    current_step: int
    total_steps: int
    step_name: str


class Task(TypedDict):
    id: str
    status: Literal["pending", "approved", "denied", "expired", "cancelled", "failed"]
    status_endpoint: str
    progress: NotRequired[TaskProgress]
    links: dict[str, str]


class TaskApproval(TypedDict):
    id: str
    approved_until: Instant


class TaskResult(TypedDict):
    mode: Literal["reevaluate"]
    approval: TaskApproval


class AccessTask(TypedDict):
    task: Task
    result: NotRequired[TaskResult]


class ScimError(TypedDict):
    schemas: list[str]
    status: str
    detail: str
    scimType: NotRequired[str]


class SignalError(TypedDict):
    err: str
    description: str


class SignalMetadata(TypedDict):
    spec_version: str
    issuer: str
    jwks_uri: str
    delivery_methods_supported: list[str]
    configuration_endpoint: str
    status_endpoint: str
    verification_endpoint: str
    add_subject_endpoint: str
    remove_subject_endpoint: str
    critical_subject_members: list[str]
    default_subjects: str
    authorization_schemes: list[dict[str, str]]


class KeySet(TypedDict):
    keys: list[dict[str, Any]]


class StreamDelivery(TypedDict):
    method: str
    endpoint_url: str


class SignalStream(TypedDict):
    stream_id: str
    iss: str
    aud: str
    events_supported: list[str]
    events_requested: list[str]
    events_delivered: list[str]
    delivery: StreamDelivery
    description: NotRequired[str]


class SignalStatus(TypedDict):
    stream_id: str
    status: Literal["enabled", "paused", "disabled"]
    reason: NotRequired[str]


class Polled(TypedDict):
    sets: dict[str, str]
    moreAvailable: bool


class Nothing(TypedDict):
    pass


class Sink(TypedDict):
    sink: str
    next: int | None
    waiting: int
    lost: int
    closed: str | None


class Deliveries(TypedDict):
    items: list[Sink]
    next: None


class Replayed(TypedDict):
    sink: str
    replayed: int


class Disablement(TypedDict):
    identity: str
    status: Literal["disabled", "proposed", "lifted"]
    issuers: list[str]
    since: Instant
    proposed_by: str | None
    proposed_at: Instant | None
    reason: str | None


class Disablements(TypedDict):
    items: list[Disablement]
    next: None


class Problem(TypedDict):
    type: str
    title: str
    status: int
    detail: str
    code: str
    remedy: str


# AuthZEN


class DecisionContext(TypedDict, total=False):
    ticket: str
    expires_at: Instant
    reason: str
    error: dict[str, Any]


class Decided(TypedDict):
    decision: bool
    context: DecisionContext


class Evaluations(TypedDict):
    evaluations: list[Decided]


class FoundPage(TypedDict):
    next_token: str
    count: int
    total: int


class Found(TypedDict):
    page: FoundPage
    results: list[dict[str, str]]


class Metadata(TypedDict):
    policy_decision_point: str
    access_evaluation_endpoint: str
    access_evaluations_endpoint: str
    search_subject_endpoint: str
    search_resource_endpoint: str
    search_action_endpoint: str
