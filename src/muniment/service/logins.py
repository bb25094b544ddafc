"""Whose an account of the identity provider is: issuer and subject, and never a mail address, which may change hands.

At the first login a claim says which identity it is. From then on the account is linked to it, in the ledger, one to
one: a person with two accounts would be two people here, and could approve for themself (I2).
"""

from __future__ import annotations

from muniment.core.errors import Conflict, Invalid, NotFound, Refused
from muniment.core.events import Event, LoginLinked, LoginUnlinked
from muniment.core.identity import Identity, IdentityId, parse_identity
from muniment.evidence.rules import LOGINS
from muniment.ports import Actor, Append, SignedIn, Stream
from muniment.service.desk import ATTEMPTS, Caller, Desk, operators_only
from muniment.service.documents import Document

Account = tuple[str, str]


def identity_of(desk: Desk, signed: SignedIn) -> Identity:
    """Who signed in.

    Raises:
        Refused: nobody that the directory has as active, or somebody whose account is another one.
    """
    login = signed.login
    account: Account = (login.issuer, login.subject)
    for _ in range(ATTEMPTS):
        stream, linked = _linked(desk)
        if (known := linked.get(account)) is not None:
            return _active(desk, known)
        found = _active(desk, _named(signed))
        if other := next((a for a, who in linked.items() if _canonical(desk, who) == found.id), None):
            raise Refused(
                f"{found.id} has signed in with another account of {other[0]} before",
                remedy=f"If both are the same person's, an operator runs `muniment admin unlink-login {found.id}`.",
                code="refused.login-linked",
            )
        event = LoginLinked(issuer=login.issuer, subject=login.subject, identity=found.id)
        if _append(desk, stream, Actor(id=found.id, via="api"), event):
            return found
    raise Conflict("others sign in for the first time right now", remedy="Sign in again.")


def linked(desk: Desk, issuer: str, subject: str) -> IdentityId | None:
    """Who has signed in with an account; None for one that nobody has."""
    return _linked(desk)[1].get((issuer, subject))


def unlink(desk: Desk, caller: Caller, identity: str) -> Document:
    """The identity's account is nobody's any more; the next that a claim maps to it is linked in its place."""
    operators_only(caller)
    who = _canonical(desk, parse_identity(identity))
    for _ in range(ATTEMPTS):
        stream, linked = _linked(desk)
        found = next((a for a, each in linked.items() if _canonical(desk, each) == who), None)
        if found is None:
            raise NotFound(f"{who} has not signed in", remedy="Check the spelling.")
        event = LoginUnlinked(issuer=found[0], subject=found[1], identity=linked[found])
        if _append(desk, stream, caller.actor, event):
            return {"identity": who, "issuer": found[0], "subject": found[1], "linked": False}
    raise Conflict("others sign in for the first time right now", remedy="Try again.")


def _linked(desk: Desk) -> tuple[Stream, dict[Account, IdentityId]]:
    stream, _ = desk.store.read(LOGINS)
    found: dict[Account, IdentityId] = {}
    for recorded in desk.store.entries(LOGINS):
        match recorded.event:
            case LoginLinked(issuer=issuer, subject=subject, identity=identity):
                found[issuer, subject] = identity
            case LoginUnlinked(issuer=issuer, subject=subject):
                found.pop((issuer, subject), None)
            case _:
                pass
    return stream, found


def _append(desk: Desk, stream: Stream, actor: Actor, event: Event) -> bool:
    """False where somebody else was faster."""
    try:
        desk.store.append(Append(stream=stream, actor=actor, events=(event,), at=desk.clock.now()))
    except Conflict:
        return False
    return True


def _named(signed: SignedIn) -> IdentityId:
    if signed.name is None:
        raise Refused(
            "the identity provider does not say who you are here: the claim that would is not there",
            remedy="Whoever runs the identity provider adds the claim of [signin] claim to what it says of you.",
            code="refused.login-unnamed",
        )
    try:
        return parse_identity(f"human:{signed.name}")
    except Invalid as error:
        raise Refused(
            f"the identity provider calls you {signed.name!r:.120}, which cannot be anybody's name here",
            remedy=error.remedy,
            code="refused.unknown-identity",
        ) from error


def _active(desk: Desk, identity: IdentityId) -> Identity:
    found = desk.directory.get(identity)
    if found is None:
        raise Refused(
            f"{identity} is not registered here",
            remedy="Whoever keeps the identities of Muniment ([identities] file) can add you; then sign in again.",
            code="refused.unknown-identity",
        )
    if not found.active:
        raise Refused(
            f"{found.id} is deactivated", remedy="An operator can see to it.", code="refused.inactive"
        )
    return found


def _canonical(desk: Desk, identity: IdentityId) -> IdentityId:
    found = desk.directory.get(identity)
    return found.id if found else identity
