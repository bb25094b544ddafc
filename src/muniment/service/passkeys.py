"""Passkeys that sign approvals.

A passkey is one of an approver's keys, beside those of SSH: its public key stands in the directory, where a change takes
two people, so whoever can sign in as somebody cannot sign as them. Its signature is over the same statement, in the same
form (`ledger.sshsig`), and verified by the same code, anywhere. Nothing is stored while one is made: the challenge comes
back sealed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import msgspec

from muniment.core.errors import Refused
from muniment.core.identity import Identity
from muniment.core.instants import parse_instant, wire
from muniment.core.login import Login
from muniment.core.statement import NAMESPACE, approval_statement
from muniment.core.ticket import Ticket
from muniment.ledger.errors import LedgerFault
from muniment.ledger.sshsig import by_passkey, parse, signed_data, site_of
from muniment.service.desk import Caller, Desk
from muniment.service.documents import Document
from muniment.signin.passkeys import ALGORITHM, registered

#: how long the person may take
PATIENCE = timedelta(minutes=5)
#: what SSHSIG calls the purpose: a passkey that was shown is never an approval
LOGIN = "muniment-login"
#: assurance of a login with a passkey that knows who is present
LEVEL = 2
#: no entry begins like this: entries are JSON objects
_SEAL = b"muniment passkey v1\0"


class _Making(msgspec.Struct, frozen=True, kw_only=True):
    """A passkey that is about to be made, or to be shown."""

    challenge: str
    who: str
    until: str


def begin(desk: Desk, caller: Caller, url: str) -> Document:
    """What a page gives to ``navigator.credentials.create``, and what comes back with the answer (``state``)."""
    who = caller.identity
    challenge = _text(desk.random.bytes(32))
    return {
        "state": _sealed(desk, caller, challenge),
        "options": {
            "rp": {"id": site(url), "name": "Muniment"},
            "user": {
                "id": _text(hashlib.sha256(who.id.encode()).digest()), "name": who.id, "displayName": who.name or who.id,
            },
            "challenge": challenge,
            "pubKeyCredParams": [{"type": "public-key", "alg": ALGORITHM}],
            "authenticatorSelection": {
                "residentKey": "required", "requireResidentKey": True, "userVerification": "required",
            },
            "attestation": "none",
            "timeout": int(PATIENCE.total_seconds() * 1000),
        },
    }  # fmt: skip


def finish(desk: Desk, caller: Caller, url: str, state: str, answer: dict[str, Any]) -> Document:
    """The passkey's public key: a line for the person's ``ssh_keys`` in the directory.

    Raises:
        Refused: the answer is to no question of ours, or not what a passkey answers.
    """
    making = _opened(desk, caller, state)
    line = registered(answer, challenge=_raw(making.challenge), site=site(url), origin=url)
    return {"identity": caller.identity.id, "key": line}


def asked(desk: Desk, caller: Caller, ticket: Ticket, url: str) -> Document:
    """What a page gives to ``navigator.credentials.get`` to have the ticket's approval signed as it stands."""
    statement = approval_statement(desk.store.origin, ticket, caller.identity.id, ticket.digest)
    return {
        "digest": ticket.digest,
        "options": {
            "challenge": _text(signed_data(statement, NAMESPACE)), "rpId": site(url), "userVerification": "required",
            "timeout": int(PATIENCE.total_seconds() * 1000),
        },
    }  # fmt: skip


def signature_of(
    desk: Desk, who: Identity, ticket: Ticket, digest: str, *, authenticator: str, client: str, signature: str
) -> str:
    """A passkey's signature of an approval, as SSHSIG.

    Raises:
        Refused: it is by no passkey of theirs, or over something else.
    """
    statement = approval_statement(desk.store.origin, ticket, who.id, digest)
    armour = _armour(who, NAMESPACE, statement, (authenticator, client, signature))
    if armour is not None:
        return armour
    raise Refused(
        f"no passkey of {who.id} signed this approval of {ticket.id}",
        remedy="Read the ticket again and sign what it asks for now; the directory must have the passkey's key.",
        code="refused.signature",
    )


def step_up_begin(desk: Desk, caller: Caller, url: str) -> Document:
    """What a page gives to ``navigator.credentials.get`` to have somebody who signed in show their passkey as well."""
    note = _sealed(desk, caller, _text(desk.random.bytes(32)))
    challenge = signed_data(_shown(note), LOGIN)
    options = {
        "challenge": _text(challenge), "rpId": site(url), "userVerification": "required",
        "timeout": int(PATIENCE.total_seconds() * 1000),
    }  # fmt: skip
    return {"state": note, "options": options}


def step_up_finish(
    desk: Desk, caller: Caller, state: str, *, authenticator: str, client: str, signature: str
) -> Login:
    """The login that a passkey of the caller's makes of the one they have.

    Raises:
        Refused: it is by no passkey that the directory gives them, or answers no question of ours.
    """
    before = caller.login
    if before is None:
        raise _stray()
    _opened(desk, caller, state)
    if _armour(caller.identity, LOGIN, _shown(state), (authenticator, client, signature)) is None:
        raise Refused(
            f"this is no passkey of {caller.identity.id}",
            remedy="Use one whose key the directory has, or sign in at the identity provider: /auth/login?level=2.",
            code="refused.passkey",
        )
    at, level = wire(desk.clock.now()), max(LEVEL, before.level)
    return Login(method="passkey", issuer=before.issuer, subject=before.subject, at=at, level=level)


def site(url: str) -> str:
    """What passkeys made at this URL are for (RP ID)."""
    return urlsplit(url).hostname or ""


def _armour(who: Identity, namespace: str, said: bytes, given: tuple[str, str, str]) -> str | None:
    """The signature as that of whichever passkey of theirs made it; None if none did."""
    authenticator, client, signature = map(_raw, given)
    for line in who.signing_keys:
        if site_of(line) is None:
            continue
        try:
            armour = by_passkey(
                line, namespace, authenticator=authenticator, client=client, signature=signature
            )
            parse(armour).verify(said)
        except LedgerFault:
            continue
        return armour
    return None


def _shown(note: str) -> bytes:
    """What a passkey signs to show that somebody is there."""
    return b"muniment-login/1\n" + note.encode()


def _sealed(desk: Desk, caller: Caller, challenge: str) -> str:
    until = wire(desk.clock.now() + PATIENCE)
    body = msgspec.json.encode(_Making(challenge=challenge, who=caller.identity.id, until=until))
    return f"{_text(body)}.{_text(desk.store.marker.of(_SEAL + body))}"


def _opened(desk: Desk, caller: Caller, state: str) -> _Making:
    try:
        body, mark = (base64.urlsafe_b64decode(part + "==") for part in state.split("."))
    except (ValueError, binascii.Error) as error:
        raise _stray() from error
    if not desk.store.marker.holds(_SEAL + body, mark):
        raise _stray()
    found = msgspec.json.decode(body, type=_Making)
    if parse_instant(found.until) <= desk.clock.now() or found.who != caller.identity.id:
        raise _stray()
    return found


def _raw(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error) as error:
        raise Refused(
            "what the browser returned is not in base64url",
            remedy="Send it as it came.",
            code="refused.passkey",
        ) from error


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _stray() -> Refused:
    return Refused(
        "nobody asked for this passkey, or too long ago", remedy="Begin again.", code="refused.passkey"
    )
