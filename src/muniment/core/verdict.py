"""What policy said, as values: a verdict always carries its reasons, and everything needed to replay it (I34)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

import msgspec

from muniment.core.delegation import Delegation
from muniment.core.identity import IdentityId

#: a request that nobody decides ends by itself
DEFAULT_LAPSE = timedelta(days=1)
#: break-glass is reviewed even where a policy forgot to say so (I10)
DEFAULT_BREAK_GLASS_REVIEW = timedelta(days=2)


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One group of people of whom some must approve. Each person counts once, in one stage (I4).

    Fields that can be unset are absent from entries where nothing demands them, as in entries of the first release.
    """

    name: str
    needed: int
    approvers: tuple[str, ...]  # "group:NAME" or an identity id
    #: names of the stages that must be satisfied before this one is open
    after: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    #: the owners of a non-human beneficiary agree to it: needed, and never enough, for they are no others (I2)
    consent: Literal[True] | msgspec.UnsetType = msgspec.UNSET


class Obligations(msgspec.Struct, frozen=True, kw_only=True):
    """What a permit demands in return. Merged over all deciding policies; the strictest wins."""

    stages: tuple[Stage, ...] = ()
    longest: int  # seconds: no ticket under this verdict lasts longer
    lapse_after: int = int(DEFAULT_LAPSE.total_seconds())  # seconds until an undecided request lapses
    review_within: int | None = None  # seconds from the end of access; null: no review is owed
    native_expiry: bool = False  # the target itself must end the access
    references: tuple[str, ...] = ()  # kinds of reference that must be given
    # What follows is unset, and so absent from entries, where nothing demands it: entries of the first release have
    # no such fields.
    #: a quorum of witnesses must have seen the approvals before access is given
    witnessed: Literal[True] | msgspec.UnsetType = msgspec.UNSET
    #: every privilege is one that the catalogue calls bounded: it reaches one narrow thing and cannot widen itself
    scope_bounded: Literal[True] | msgspec.UnsetType = msgspec.UNSET
    #: kinds of reference that must be given, exist and be open, when filing and again when access is given
    references_open: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    #: the target ends sessions that were opened with the access when the access ends
    sessions_cut: Literal[True] | msgspec.UnsetType = msgspec.UNSET
    #: each approval carries the approver's own signature over the exact terms
    signed: Literal[True] | msgspec.UnsetType = msgspec.UNSET
    #: least assurance of the approver's login, 1 to 3, as NIST SP 800-63B counts; a login's `acr` says which it has
    assurance: int | msgspec.UnsetType = msgspec.UNSET
    #: who is told that this was asked for and decided: "group:NAME" or an identity id, sorted
    notify: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    #: seconds until approvers who have not decided are reminded
    remind_after: int | msgspec.UnsetType = msgspec.UNSET
    #: seconds until ``escalate_to`` are asked as well; both or neither
    escalate_after: int | msgspec.UnsetType = msgspec.UNSET
    escalate_to: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


def obliged(obligations: Obligations, *, break_glass: bool) -> Obligations:
    """What policy demands, and what break-glass demands whatever policy says (I10)."""
    if break_glass and obligations.review_within is None:
        within = int(DEFAULT_BREAK_GLASS_REVIEW.total_seconds())
        return msgspec.structs.replace(obligations, review_within=within)
    return obligations


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """One question put to the policy engine, and its answer."""

    principal: str
    action: str
    resource: str
    context: dict[str, Any]
    allowed: bool
    determining: tuple[str, ...]  # ids of the policies that decided, sorted
    errors: tuple[str, ...] = ()  # any error is a denial


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The policy set's answer to one command, with the exact slice of entities it saw."""

    permitted: bool
    policies: str  # digest of the policy set
    determining: tuple[str, ...]
    reasons: tuple[str, ...]  # sentences for people; why not, and what would be permitted
    evaluations: tuple[Evaluation, ...]
    entities: tuple[dict[str, Any], ...]
    obligations: Obligations | None = None  # of a permitted request


class Authority(msgspec.Struct, frozen=True, kw_only=True):
    """That one person may decide one stage, and on what this rests."""

    approver: IdentityId
    stages: tuple[str, ...]  # names of the stages this person is in, in the ticket's order
    verdict: Verdict
    #: under which somebody else may use it
    delegation: Delegation | msgspec.UnsetType = msgspec.UNSET
