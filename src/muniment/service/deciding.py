"""What people do to a ticket after it is filed: decide, withdraw, return, revoke, review, waive, resolve."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from msgspec.structs import replace

from muniment.core import commands as c
from muniment.core.approving import stale
from muniment.core.scope import Scope
from muniment.core.text import Disclosure
from muniment.core.ticket import Ticket
from muniment.service.desk import Caller, Desk
from muniment.service.filing import with_target
from muniment.service.signing import put_keys_on_record, signer_of


def approve(
    desk: Desk,
    caller: Caller,
    ticket: str,
    *,
    digest: str | None,
    comment: str | None = None,
    signature: str | None = None,
) -> Ticket:
    """Say yes to the terms with this digest; None means the terms as they stand now, for a caller who just saw them.

    ``signature``: SSHSIG by a key of the caller's own, over what `signing.statement` says.
    """
    text = desk.commit_text(comment, "the comment") if comment else None
    if signature is not None:
        put_keys_on_record(desk, caller)

    def make(t: Ticket) -> tuple[c.Command, tuple[Disclosure, ...]]:
        said = c.Approve(
            digest=digest or t.digest, comment=text.commitment if text else None, signature=signature
        )
        return said, (text,) if text else ()

    def verified(t: Ticket, facts: c.Facts) -> c.Facts:
        if signature is None:
            return facts
        key = signer_of(desk.store.origin, t, caller.identity, digest or t.digest, signature)
        return replace(facts, signed_by=key)

    return desk.act(ticket, caller, make, with_authority=True, besides=verified)


def deny(desk: Desk, caller: Caller, ticket: str, *, comment: str, digest: str | None = None) -> Ticket:
    """Say no, and why; with a ``digest``, to the terms that have it."""
    text = desk.commit_text(comment, "the comment")

    def make(t: Ticket) -> tuple[c.Command, tuple[Disclosure, ...]]:
        if digest is not None and digest != t.digest:
            raise stale(t)
        return c.Deny(comment=text.commitment), (text,)

    return desk.act(ticket, caller, make, with_authority=True)


def counter(
    desk: Desk,
    caller: Caller,
    ticket: str,
    *,
    digest: str | None,
    duration: timedelta | None = None,
    scope: Scope | None = None,
    comment: str,
) -> Ticket:
    """Offer to agree to less: a shorter time, part of the scope, or both. None: as it was asked."""
    text = desk.commit_text(comment, "the comment")
    seconds = None if duration is None else int(duration.total_seconds())

    def make(t: Ticket) -> tuple[c.Command, tuple[Disclosure, ...]]:
        said = c.Counter(digest=digest or t.digest, duration=seconds, scope=scope, comment=text.commitment)
        return said, (text,)

    return desk.act(ticket, caller, make, with_authority=True)


def accept(desk: Desk, caller: Caller, ticket: str, *, offer: str | None) -> Ticket:
    """Take the offer with this digest; None means the one that stands now, for a caller who just saw it."""

    def judged(t: Ticket, facts: c.Facts) -> c.Facts:
        if not t.offer:
            return facts
        target = desk.target(t.terms.target)
        requester, beneficiary = desk.subject(t.terms.requester), desk.subject(t.terms.beneficiary)
        verdict = desk.policy.judge_request(t.offer.terms, requester, beneficiary, target)
        opened = desk.open_references(t.offer.terms, verdict)
        return with_target(
            replace(facts, verdict=verdict, open_references=opened), target, t.offer.terms.scope
        )

    def make(t: Ticket) -> tuple[c.Command, tuple[Disclosure, ...]]:
        return c.Accept(offer=offer or (t.offer.digest if t.offer else "")), ()

    return desk.act(ticket, caller, make, besides=judged)


def withdraw(desk: Desk, caller: Caller, ticket: str) -> Ticket:
    """Take one's request back."""
    return _act(desk, caller, ticket, c.Withdraw())


def give_back(desk: Desk, caller: Caller, ticket: str) -> Ticket:
    """Return access that is no longer needed."""
    return _act(desk, caller, ticket, c.Return())


def revoke(desk: Desk, caller: Caller, ticket: str, *, reason: str) -> Ticket:
    """End somebody's access."""
    text = desk.commit_text(reason, "the reason")
    return _act(desk, caller, ticket, c.Revoke(reason=text.commitment), text)


def review(
    desk: Desk, caller: Caller, ticket: str, *, outcome: Literal["appropriate", "inappropriate"], comment: str
) -> Ticket:
    """Say how the access was used."""
    text = desk.commit_text(comment, "the comment")
    return _act(
        desk, caller, ticket, c.Review(outcome=outcome, comment=text.commitment), text, with_authority=True
    )


def waive(desk: Desk, caller: Caller, ticket: str, *, check: str, reason: str) -> Ticket:
    """Answer for a closure check that cannot hold."""
    text = desk.commit_text(reason, "the reason")
    return _act(desk, caller, ticket, c.Waive(check=check, reason=text.commitment), text, with_authority=True)


def resolve(desk: Desk, caller: Caller, ticket: str, *, finding: str, reason: str) -> Ticket:
    """Say that a finding was dealt with."""
    text = desk.commit_text(reason, "the reason")
    return _act(
        desk, caller, ticket, c.Resolve(finding=finding, reason=text.commitment), text, with_authority=True
    )


def _act(
    desk: Desk,
    caller: Caller,
    ticket: str,
    command: c.Command,
    *texts: Disclosure,
    with_authority: bool = False,
) -> Ticket:
    return desk.act(ticket, caller, lambda _: (command, texts), with_authority=with_authority)
