"""What clients send, as closed types.

A member that nobody knows is refused, so that nobody is led to believe that it did something (F1, F6: an approval
cannot carry scope).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from muniment.core.campaign import NAME as CAMPAIGN_NAME
from muniment.core.campaign_items import Standing, SubjectKind
from muniment.core.drift import PREFIX
from muniment.core.identity import Kind
from muniment.core.ticket import ID, Status

Identity: TypeAlias = Annotated[
    str, Meta(min_length=3, max_length=280, description="kind:name, like human:ann@example.com")
]
Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=4000)]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255)]
Digest: TypeAlias = Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$")]
Cursor: TypeAlias = Annotated[str, Meta(pattern=f"^{ID}$", description="`next` of the page before")]
#: how a finding of drift is called, as a regular expression
DRIFT = f"{PREFIX}[a-z2-7]{{26}}"
#: how a campaign is called
CAMPAIGN = f"^{CAMPAIGN_NAME}$"
CampaignName: TypeAlias = Annotated[str, Meta(pattern=CAMPAIGN)]
Limit: TypeAlias = Annotated[int, Meta(ge=1, le=1000)]


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all that is sent."""


class Privilege(Body, frozen=True, kw_only=True):
    """What is asked for, in the target's own words."""

    privilege: Name
    resource: Name | None = None


class Request(Body, frozen=True, kw_only=True):
    """A ticket to file, or to preview."""

    target: Name
    scope: Annotated[tuple[Privilege, ...], Meta(min_length=1, max_length=100)]
    justification: Text
    duration: Annotated[
        str, Meta(min_length=2, max_length=40, description="ISO 8601, like PT2H; or 2h, 90m, 1d")
    ]
    beneficiary: Identity | None = None
    starts_at: (
        Annotated[str, Meta(max_length=40, description="RFC 3339; else once it is approved")] | None
    ) = None
    references: Annotated[dict[str, str], Meta(max_length=20)] = {}
    break_glass: bool = False
    incident: Name | None = None
    responders: Annotated[tuple[Identity, ...], Meta(max_length=100)] = ()
    public_key: Annotated[str, Meta(max_length=16384)] | None = None


class Bundle(Body, frozen=True, kw_only=True):
    """Tickets that belong together."""

    requests: Annotated[tuple[Request, ...], Meta(min_length=2, max_length=100)]


class Preview(Request, frozen=True, kw_only=True):
    """As a request; a reason is not needed to look."""

    justification: Annotated[str, Meta(max_length=4000)] = ""


class Asserted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a browser returns for a passkey's signature, in base64url."""

    authenticator_data: Annotated[str, Meta(max_length=2000)]
    client_data: Annotated[str, Meta(max_length=4000)]
    signature: Annotated[str, Meta(max_length=400)]


class Decision(Body, frozen=True, kw_only=True):
    """Yes or no to exactly the terms with this digest."""

    decision: Literal["approve", "deny"]
    digest: Digest
    comment: Text | None = None
    passkey: Asserted | None = None
    signature: Annotated[str, Meta(max_length=16384)] | None = None


class Offer(Body, frozen=True, kw_only=True):
    """What an approver would agree to: a shorter time, part of the scope, or both."""

    digest: Digest
    comment: Text
    duration: Annotated[str, Meta(min_length=2, max_length=40)] | None = None
    scope: Annotated[tuple[Privilege, ...], Meta(min_length=1, max_length=100)] | None = None


class Acceptance(Body, frozen=True, kw_only=True):
    """Yes to exactly the offer with this digest."""

    digest: Digest


class Extension(Body, frozen=True, kw_only=True):
    """How access goes on; what is left out is as it was."""

    duration: Annotated[str, Meta(min_length=2, max_length=40)]
    justification: Text
    scope: Annotated[tuple[Privilege, ...], Meta(max_length=100)] = ()
    references: Annotated[dict[str, str], Meta(max_length=20)] | None = None
    public_key: Annotated[str, Meta(max_length=16384)] | None = None


class Reason(Body, frozen=True, kw_only=True):
    """Why."""

    reason: Text


class Assignment(Body, frozen=True, kw_only=True):
    """Who is to see to a finding."""

    to: Identity


class Explanation(Body, frozen=True, kw_only=True):
    """How something came to be."""

    explanation: Text


class Leave(Body, frozen=True, kw_only=True):
    """Until when a finding is let be, 90 days at most, and why."""

    until: Annotated[str, Meta(max_length=40, description="RFC 3339")]
    reason: Text


class Proposal(Body, frozen=True, kw_only=True):
    """Why a change is proposed; in a single-person trial nobody has to say."""

    reason: Annotated[str, Meta(max_length=4000)] = ""


class Delegation(Body, frozen=True, kw_only=True):
    """To whom, and for how long: one of ``until`` and ``duration``."""

    to: Identity
    reason: Text
    until: Annotated[str, Meta(max_length=40, description="RFC 3339")] | None = None
    duration: Annotated[str, Meta(min_length=2, max_length=40)] | None = None
    starts_at: Annotated[str, Meta(max_length=40, description="RFC 3339; else now")] | None = None


class Review(Body, frozen=True, kw_only=True):
    """How access was used."""

    outcome: Literal["appropriate", "inappropriate"]
    comment: Text


class Waiver(Body, frozen=True, kw_only=True):
    """A closure check that somebody answers for."""

    check: Name
    reason: Text


# Queries


class Page(Body, frozen=True, kw_only=True):
    """Which part of a list, newest first."""

    limit: Limit = 100
    cursor: Cursor | None = None


class Tickets(Page, frozen=True, kw_only=True):
    """Which tickets."""

    status: tuple[Status, ...] = ()
    beneficiary: Identity | None = None
    target: Name | None = None
    awaiting_me: bool = False


class Grants(Page, frozen=True, kw_only=True):
    """Which grants."""

    target: Name | None = None
    beneficiary: Identity | None = None


class UsageEvent(Body, frozen=True, kw_only=True):
    """One use, in our own names."""

    at: Annotated[str, Meta(max_length=40, description="RFC 3339")]
    account: Name
    privilege: Name | None = None
    resource: Name | None = None
    ticket: Name | None = None
    action: Annotated[str, Meta(max_length=255)] | None = None
    object: Annotated[str, Meta(max_length=1000)] | None = None
    id: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=255,
                description="the log's own name of the line; else its bytes are its name",
            ),
        ]
        | None
    ) = None


class UsagePeriod(Body, frozen=True, kw_only=True):
    """A period of which these are all lines that the log has."""

    begins: Annotated[str, Meta(max_length=40, description="RFC 3339")]
    ends: Annotated[str, Meta(max_length=40, description="RFC 3339")]


class Usage(Body, frozen=True, kw_only=True):
    """Use of a target: events, or lines as its log has them with the format they are in."""

    target: Name
    source: Annotated[str, Meta(min_length=1, max_length=100, description="which log of the target")] = (
        "events"
    )
    events: Annotated[tuple[UsageEvent, ...], Meta(max_length=10000)] = ()
    lines: Annotated[tuple[str, ...], Meta(max_length=10000)] = ()
    format: Name | None = None
    mapping: dict[str, Any] | None = None
    covers: UsagePeriod | None = None


class UsageReport(Page, frozen=True, kw_only=True):
    """Which part of the report, newest tickets first."""

    target: Name | None = None
    judgement: tuple[Literal["used", "narrower", "never-used", "not-covered"], ...] = ()
    beneficiary: Identity | None = None


class Inventories(Body, frozen=True, kw_only=True):
    """Which part of a list of inventories, newest first."""

    limit: Limit = 100
    cursor: Annotated[str, Meta(pattern="^inv_[0-9A-HJKMNP-TV-Z]{26}$")] | None = None


class Items(Body, frozen=True, kw_only=True):
    """Which items of an inventory, in its order."""

    limit: Limit = 100
    cursor: Annotated[str, Meta(pattern=r"^[0-9]{1,15}$")] | None = None
    account: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    privilege: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None


class Findings(Body, frozen=True, kw_only=True):
    """Which findings."""

    limit: Limit = 100
    cursor: Annotated[str, Meta(pattern=f"^({ID}|{DRIFT})$")] | None = None
    target: Name | None = None
    resolved: bool = False
    type: tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...] = ()
    severity: tuple[Literal["critical", "high", "medium", "low"], ...] = ()
    status: tuple[Literal["open", "explained", "accepted", "resolved"], ...] = ()
    account: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    assigned_to: Identity | None = None
    past_due: bool = False


class CampaignSelection(Body, frozen=True, kw_only=True):
    """Which standing access a campaign is about. Every member narrows."""

    subjects: tuple[SubjectKind, ...] = ()
    targets: Annotated[tuple[Name, ...], Meta(max_length=200)] = ()
    environments: Annotated[tuple[Name, ...], Meta(max_length=50)] = ()
    privileges: Annotated[tuple[Name, ...], Meta(max_length=200)] = ()
    classes: tuple[Standing, ...] = ()
    identities: tuple[Kind, ...] = ()
    groups: Annotated[tuple[Name, ...], Meta(max_length=200)] = ()
    due_before: Annotated[str, Meta(max_length=40, description="RFC 3339")] | None = None


class NewCampaign(Body, frozen=True, kw_only=True):
    """A campaign to open, or to preview."""

    name: CampaignName
    reason: Text
    selection: CampaignSelection = CampaignSelection()
    reviewers: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=280)], ...],
        Meta(
            max_length=20,
            description="owner, manager, target-owner, a person or group:NAME; the first that can",
        ),
    ] = ("owner", "manager", "target-owner")
    duration: Annotated[str, Meta(min_length=2, max_length=40)] = "P14D"
    unanswered: Literal["revoke", "escalate"] = "escalate"
    escalate_to: Annotated[str, Meta(min_length=1, max_length=280)] = "role:operator"
    valid_for: Annotated[str, Meta(min_length=2, max_length=40)] = "P180D"
    sample: Annotated[int, Meta(ge=0, le=100, description="percent that are kept one by one")] = 5
    singly_from: Literal["critical", "high", "medium", "low", "none"] = "critical"


class Campaigns(Body, frozen=True, kw_only=True):
    """Which campaigns, by their names."""

    limit: Limit = 100
    cursor: CampaignName | None = None
    status: tuple[Literal["open", "decided", "removing", "closed", "cancelled"], ...] = ()


class CampaignWhere(Body, frozen=True, kw_only=True):
    """Which items of a campaign. Every member narrows."""

    items: (
        Annotated[str, Meta(min_length=1, max_length=60_000, description="numbers and ranges: 0-99,105")]
        | None
    ) = None
    subject: SubjectKind | None = None
    target: Name | None = None
    account: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    privilege: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    standing: Standing | None = None
    identity: Identity | None = None
    reviewer: Annotated[str, Meta(min_length=1, max_length=280)] | None = None
    decision: Literal["keep", "revoke", "change", "none"] | None = None
    unsettled: bool = False


class CampaignItems(CampaignWhere, frozen=True, kw_only=True):
    """Items, in their order; ``mine``: that nobody has decided and the caller may."""

    limit: Limit = 100
    cursor: Annotated[str, Meta(pattern=r"^[0-9]{1,7}$")] | None = None
    mine: bool = False


class CampaignDecision(Body, frozen=True, kw_only=True):
    """What is to become of items, all alike and for one reason. By numbers: all or none; else those that the caller may."""

    decision: Literal["keep", "revoke", "change"]
    reason: Text
    where: CampaignWhere = CampaignWhere()


class CampaignMove(Body, frozen=True, kw_only=True):
    """Who is asked instead."""

    to: Annotated[str, Meta(min_length=1, max_length=280)]
    reason: Text
    where: CampaignWhere = CampaignWhere()


class CampaignExplanation(Body, frozen=True, kw_only=True):
    """What became of items that were not kept."""

    items: Annotated[str, Meta(min_length=1, max_length=60_000)]
    reason: Text


class Comment(Body, frozen=True, kw_only=True):
    """What somebody says who stands for something."""

    comment: Text


class Reviews(Body, frozen=True, kw_only=True):
    """Which looks back; ``mine``: that the caller could take."""

    limit: Limit = 100
    cursor: Cursor | None = None
    state: Literal["owed", "overdue", "done"] = "owed"
    target: Name | None = None
    beneficiary: Identity | None = None
    kind: Literal["standard", "break_glass"] | None = None
    outcome: Literal["appropriate", "inappropriate"] | None = None
    mine: bool = False


class Replay(Body, frozen=True, kw_only=True):
    """What to send again: what was given up, or everything of a time."""

    sink: Annotated[str, Meta(min_length=1, max_length=80)]
    since: Annotated[str, Meta(max_length=40, description="RFC 3339")] | None = None
    until: Annotated[str, Meta(max_length=40, description="RFC 3339")] | None = None


# Shared signals


class WhichStream(Body, frozen=True, kw_only=True):
    """One of the caller's streams."""

    stream_id: Annotated[str, Meta(max_length=80)] = ""


_Stream: TypeAlias = Annotated[str, Meta(max_length=80)]
_Event: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255)]


class StreamDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream is got."""

    method: Annotated[str, Meta(max_length=80)]
    endpoint_url: Annotated[str, Meta(max_length=2000)] | None = None
    authorization_header: (
        Annotated[str, Meta(max_length=2000, description="Sent with each token; never shown again")] | None
    ) = None


class NewStream(msgspec.Struct, frozen=True, kw_only=True):
    """A stream as its receiver wants it. SSF 1.0, section 8.1.1; what is not known is ignored, as it demands."""

    events_requested: Annotated[tuple[_Event, ...], Meta(max_length=100)] | None = None
    delivery: StreamDelivery | None = None
    description: Annotated[str, Meta(max_length=255)] | None = None
    iss: Annotated[str, Meta(max_length=2000)] | None = None
    aud: Annotated[str, Meta(max_length=2000)] | None = None
    events_supported: Annotated[tuple[_Event, ...], Meta(max_length=100)] | None = None
    events_delivered: Annotated[tuple[_Event, ...], Meta(max_length=100)] | None = None

    @property
    def wish(self) -> dict[str, Any]:
        """What is said, as JSON has it."""
        found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return found


class ChangedStream(NewStream, frozen=True, kw_only=True):
    """One that is there."""

    stream_id: _Stream


class StreamStatus(msgspec.Struct, frozen=True, kw_only=True):
    """SSF 1.0, section 8.1.2.2."""

    stream_id: _Stream
    status: Literal["enabled", "paused", "disabled"]
    reason: Annotated[str, Meta(max_length=255)] | None = None


class StreamSubject(msgspec.Struct, frozen=True, kw_only=True):
    """SSF 1.0, section 8.1.3."""

    stream_id: _Stream
    subject: dict[str, Any]


class Verification(Body, frozen=True, kw_only=True):
    """What a verification event is to say."""

    stream_id: Annotated[str, Meta(max_length=80)]
    state: Annotated[str, Meta(max_length=255)] | None = None


class SetError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a token was not taken."""

    err: Annotated[str, Meta(max_length=64)]
    description: Annotated[str, Meta(max_length=1000)] | None = None


class Poll(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """RFC 8936: what became of tokens fetched before, and how many to get."""

    max_events: Annotated[int, Meta(ge=0, le=1000)] = 100
    return_immediately: bool = True
    ack: Annotated[tuple[Annotated[str, Meta(max_length=255)], ...], Meta(max_length=200)] = ()
    set_errs: Annotated[dict[str, SetError], Meta(max_length=200)] = {}


# SCIM, whose clients may send more than anybody knows; what names and filters mean is said by the service


class ScimPart(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Which attributes of a resource."""

    attributes: str | None = None
    excluded_attributes: str | None = None


class ScimQuery(ScimPart, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Which resources, and which part of them."""

    filter: Annotated[str, Meta(max_length=4000)] | None = None
    sort_by: Annotated[str, Meta(max_length=255)] | None = None
    sort_order: Literal["ascending", "descending"] = "ascending"
    start_index: int = 1
    count: int = 100


# AuthZEN, which tells everybody to ignore what they do not know


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """Who. ``type`` is the kind of identity, or "user" for a human; ``id`` is what follows the colon."""

    type: Annotated[str, Meta(max_length=64)]
    id: Annotated[str, Meta(max_length=280)]
    properties: dict[str, Any] | None = None


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """``name`` is the privilege."""

    name: Annotated[str, Meta(max_length=255)]
    properties: dict[str, Any] | None = None


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """``type`` is "target"; a privilege that is narrowed to a resource has it as ``properties.resource``."""

    type: Annotated[str, Meta(max_length=64)]
    id: Annotated[str, Meta(max_length=255)]
    properties: dict[str, Any] | None = None


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Does this subject hold this now?"""

    subject: Subject
    action: Action
    resource: Resource
    context: dict[str, Any] | None = None


class Denial(msgspec.Struct, frozen=True, kw_only=True):
    """What an evaluation answered."""

    evaluation_id: Annotated[str, Meta(max_length=80)]
    evaluated_at: Annotated[str, Meta(max_length=40)] | None = None
    expires_at: Annotated[str, Meta(max_length=40)] | None = None
    reason: Annotated[str, Meta(max_length=80)] | None = None


class RequestedAccess(msgspec.Struct, frozen=True, kw_only=True):
    """Until when; ``emergency`` breaks glass, and needs ``context.incident``."""

    requested_until: Annotated[str, Meta(max_length=40, description="RFC 3339")]
    emergency: bool = False


class AccessRequest(Evaluation, frozen=True, kw_only=True):
    """What was denied, and is asked for; ``context.justification`` says why."""

    denial: Denial
    requested_access: RequestedAccess
    client: dict[str, Any] | None = None


class PartOfEvaluation(msgspec.Struct, frozen=True, kw_only=True):
    """One of several; what is left out is taken from above."""

    subject: Subject | None = None
    action: Action | None = None
    resource: Resource | None = None
    context: dict[str, Any] | None = None


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How several are worked through."""

    evaluations_semantic: Literal["execute_all", "deny_on_first_deny", "permit_on_first_permit"] = (
        "execute_all"
    )


class Evaluations(PartOfEvaluation, frozen=True, kw_only=True):
    """Several questions at once."""

    evaluations: Annotated[tuple[PartOfEvaluation, ...], Meta(max_length=1000)] = ()
    options: Options = Options()


class SearchPage(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of the results."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000
    token: Annotated[str, Meta(max_length=64)] = ""


class SearchedSubject(msgspec.Struct, frozen=True, kw_only=True):
    """A subject whose id is wanted."""

    type: Annotated[str, Meta(max_length=64)]
    id: Annotated[str, Meta(max_length=280)] | None = None
    properties: dict[str, Any] | None = None


class SearchedResource(msgspec.Struct, frozen=True, kw_only=True):
    """A resource whose id is wanted."""

    type: Annotated[str, Meta(max_length=64)]
    id: Annotated[str, Meta(max_length=255)] | None = None
    properties: dict[str, Any] | None = None


class SubjectSearch(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds this now?"""

    subject: SearchedSubject
    action: Action
    resource: Resource
    context: dict[str, Any] | None = None
    page: SearchPage = SearchPage()


class ResourceSearch(msgspec.Struct, frozen=True, kw_only=True):
    """On which targets does this subject hold this now?"""

    subject: Subject
    action: Action
    resource: SearchedResource
    context: dict[str, Any] | None = None
    page: SearchPage = SearchPage()


class ActionSearch(msgspec.Struct, frozen=True, kw_only=True):
    """What does this subject hold on this target now?"""

    subject: Subject
    resource: Resource
    context: dict[str, Any] | None = None
    page: SearchPage = SearchPage()


# ── sign-in ──


class Login(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to sign in."""

    level: Annotated[int, Meta(ge=1, le=3)] | None = None
    return_to: Annotated[str, Meta(max_length=500)] | None = None


class Callback(msgspec.Struct, frozen=True, kw_only=True):
    """The identity provider's answer. Providers add members of their own."""

    code: Annotated[str, Meta(max_length=4096)] | None = None
    state: Annotated[str, Meta(max_length=128)] | None = None
    iss: Annotated[str, Meta(max_length=2000)] | None = None
    error: Annotated[str, Meta(max_length=200)] | None = None
    error_description: Annotated[str, Meta(max_length=2000)] | None = None


class LogoutToken(msgspec.Struct, frozen=True, kw_only=True):
    """Who signed out, as the identity provider signs it."""

    logout_token: Annotated[str, Meta(max_length=16384)]


class UserCode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which code a program shows."""

    user_code: Annotated[str, Meta(max_length=32)] | None = None


class Lift(Body, frozen=True, kw_only=True):
    """Whose disablement by signals is to be over, and why."""

    identity: Identity
    reason: Text


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """A code that somebody says yes or no to."""

    user_code: Annotated[str, Meta(max_length=32)]
    csrf: Annotated[str, Meta(max_length=64)] = ""


class DeviceBegun(msgspec.Struct, frozen=True, kw_only=True):
    """A program that wants to be let in. RFC 8628, section 3.1; what is not known is ignored, as RFC 6749 demands."""

    client_id: Annotated[str, Meta(min_length=1, max_length=255)]
    scope: Annotated[str, Meta(max_length=255)] = ""


class DeviceToken(msgspec.Struct, frozen=True, kw_only=True):
    """The device's own code. RFC 8628, section 3.4."""

    grant_type: Annotated[str, Meta(min_length=1, max_length=255)]
    device_code: Annotated[str, Meta(min_length=1, max_length=1000)]
    client_id: Annotated[str, Meta(min_length=1, max_length=255)]


class Passkey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A passkey that was made: what `begin_passkey` gave, and what the browser returned."""

    state: Annotated[str, Meta(max_length=2000)]
    answer: dict[str, Any]


class SteppedUp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A passkey that was shown: what `begin_step_up` gave, and what the browser returned."""

    state: Annotated[str, Meta(max_length=2000)]
    passkey: Asserted
