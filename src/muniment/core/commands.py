"""Everything one may ask of a ticket, frozen; and the facts that the core is told.

People's commands carry what a person chose. Controllers' commands carry what was seen in the target. Neither
carries scope into an approval (I5): an approver can only say yes or no to the terms as they stand.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from muniment.core.budget import Spent
from muniment.core.events import Cause, Kept
from muniment.core.identity import Identity, IdentityId
from muniment.core.login import Login
from muniment.core.scope import Scope
from muniment.core.terms import Terms
from muniment.core.ticket import Ticket
from muniment.core.verdict import Authority, Verdict


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all commands."""


# People's


class Submit(Command, frozen=True, kw_only=True):
    """File a ticket."""

    ticket: str
    terms: Terms


class Approve(Command, frozen=True, kw_only=True):
    """Say yes to exactly the terms with this digest."""

    digest: str
    comment: str | None = None  # commitment
    signature: str | None = None  # SSHSIG over `statement.approval_statement`


class Deny(Command, frozen=True, kw_only=True):
    """Say no. One is enough."""

    comment: str  # commitment


class Counter(Command, frozen=True, kw_only=True):
    """Offer to agree to less than was asked. Null: as it was asked."""

    digest: str  # of the terms that were shown
    duration: int | None = None
    scope: Scope | None = None
    comment: str  # commitment


class Accept(Command, frozen=True, kw_only=True):
    """Take exactly the offer with this digest."""

    offer: str


class Withdraw(Command, frozen=True, kw_only=True):
    """Take one's own request back before access begins."""


class Return(Command, frozen=True, kw_only=True):
    """Give access back before it ends by itself."""


class Revoke(Command, frozen=True, kw_only=True):
    """End somebody's access, or stop it before it begins."""

    reason: str  # commitment


class Review(Command, frozen=True, kw_only=True):
    """Say how the access was used."""

    outcome: Literal["appropriate", "inappropriate"]
    comment: str  # commitment


class Waive(Command, frozen=True, kw_only=True):
    """Take it upon oneself that a closure check need not hold."""

    check: str
    reason: str  # commitment


class Resolve(Command, frozen=True, kw_only=True):
    """Say that a finding was dealt with."""

    finding: str
    reason: str  # commitment


# Controllers'


class Lapse(Command, frozen=True, kw_only=True):
    """Nobody decided in time."""


class Remind(Command, frozen=True, kw_only=True):
    """Nobody decided for a while."""

    approvers: tuple[IdentityId, ...]  # who could


class Escalate(Command, frozen=True, kw_only=True):
    """Nobody decided for long."""


class NoteMissing(Command, frozen=True, kw_only=True):
    """Who could decide was looked up: these stages have nobody left."""

    stages: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


class StartProvisioning(Command, frozen=True, kw_only=True):
    """The target was read; begin, unless the account holds it already or the authority is gone."""

    held: Scope  # everything the account holds on the target now
    ticketed: Scope  # what other live tickets give to the account


class RecordGrant(Command, frozen=True, kw_only=True):
    """What the target was seen to hold for this ticket after provisioning."""

    granted: Scope
    native_expiry: str | None = None
    handle: dict[str, str] = {}


class FailProvisioning(Command, frozen=True, kw_only=True):
    """The target cannot be made to hold it."""

    code: str
    message: str


class End(Command, frozen=True, kw_only=True):
    """The access is over for a reason that needs no person: time, a leaver, a signal."""

    cause: Cause


class Offboard(Command, frozen=True, kw_only=True):
    """People with a part in it may be gone: end what rests on them."""

    gone: tuple[IdentityId, ...]  # deactivated, without an owner, or no longer in the directory; aliases too
    reason: str = "deactivated"  # why approvals of theirs are void


class RecordRevocation(Command, frozen=True, kw_only=True):
    """The target was seen without it."""

    kept: tuple[Kept, ...] = ()
    sessions_ended: int = 0


class NoteLateReview(Command, frozen=True, kw_only=True):
    """The review that is owed may be overdue."""


class FailRevocation(Command, frozen=True, kw_only=True):
    """An attempt to take it away did not succeed, or the target could not be read."""

    code: str
    message: str


class RecordUse(Command, frozen=True, kw_only=True):
    """A batch of the target's log lines belongs to this ticket."""

    source: str
    digest: str
    events: int
    first_at: str
    last_at: str
    privileges: Scope


PeoplesCommand: TypeAlias = (
    Submit | Approve | Deny | Counter | Accept | Withdraw | Return | Revoke | Review | Waive | Resolve
)
ControllersCommand: TypeAlias = (
    Lapse
    | Remind
    | Escalate
    | NoteMissing
    | StartProvisioning
    | RecordGrant
    | FailProvisioning
    | End
    | Offboard
    | RecordRevocation
    | FailRevocation
    | NoteLateReview
    | RecordUse
)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the core is told about the world at the moment of the command. All of it was read just now."""

    actor: Identity | None = None  # null: a controller
    accountable: tuple[IdentityId, ...] = ()  # owners now, at any level, of requester and beneficiary
    steward: bool = False  # the actor is an operator or an owner of the target
    auditor: bool = False  # the actor has the auditor's role
    verdict: Verdict | None = None  # policy on the request (Submit, StartProvisioning)
    authority: Authority | None = None  # the actor's own (Approve, Deny, Review)
    delegated: tuple[Authority, ...] = ()  # of others, who handed theirs to the actor
    superiors: tuple[IdentityId, ...] = ()  # everybody above the actor
    above: dict[
        IdentityId, tuple[IdentityId, ...]
    ] = {}  # everybody above each who handed authority to the actor
    extended: Ticket | None = None  # what the request extends, as it stands now
    standing_approvers: tuple[IdentityId, ...] = ()  # approvers on file whose authority holds now
    # stages of the verdict that each of these could decide now; empty where it asks for the stages on file
    entitled: dict[IdentityId, tuple[str, ...]] = {}
    active: bool = True  # requester, beneficiary and an owner are active
    stale: str = ""  # why the directory may be out of date, in a sentence; empty while it is current
    on_incident: tuple[IdentityId, ...] = ()  # whoever broke glass for the same incident, and whom they named
    overdue_reviews: tuple[
        str, ...
    ] = ()  # glass of requester or beneficiary whose review is overdue: tickets, or `glass.UNNAMED` (Submit)
    spent: tuple[
        Spent, ...
    ] = ()  # budgets of requester and beneficiary, as far as they are not persons (Submit)
    signed_by: str | None = None  # the actor's own key that the command's signature verified with (Approve)
    login: Login | None = None  # how the actor signed in; null: with a token, or locally
    native_expiry: bool = False  # the target can end this access by itself
    ends_sessions: bool = False  # the target ends sessions together with the access
    scope_bounded: bool = False  # the catalogue calls every privilege in the scope bounded
    open_references: tuple[str, ...] = ()  # kinds of the references that were looked up and found open
