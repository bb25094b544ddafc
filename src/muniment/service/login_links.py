"""Signing in without an identity provider: a link that whoever runs Muniment makes, good once and for some minutes.

A link holds an API token whose only scope is ``login``, so who made it, for whom, and that it was used, are entries of
the ledger like those of any token (ADR 37), and of two browsers that open one link together the ledger lets one in.
The token stands behind the ``#``: no server, proxy or log sees it before the page that it opens sends it in a form.
"""

from __future__ import annotations

import hmac
from datetime import timedelta

import structlog

from muniment.core.errors import Conflict, Refused
from muniment.core.events import TokenRevoked
from muniment.core.identity import Identity, is_human
from muniment.core.instants import wire
from muniment.core.login import Login
from muniment.ports import Actor, Append, SignedIn
from muniment.service import tokens
from muniment.service.credentials import hash_of
from muniment.service.desk import Caller, Desk
from muniment.service.documents import Document
from muniment.store.tokens import SqlTokens

#: how long a link is good for
USUAL = timedelta(minutes=10)
#: assurance of somebody who shows a link: nobody knows who was given it
LEVEL = 1
PATH = "/auth/link"

log = structlog.get_logger("muniment.signin")


def make(desk: Desk, maker: Caller | None, identity: str, url: str, lasts: timedelta = USUAL) -> Document:
    """A link for a person. The answer is the only place where it ever stands.

    Args:
        desk: the adapters.
        maker: who makes it; None: whoever runs the store, who did not say.
        identity: who signs in with it.
        url: the server's, as browsers reach it.
        lasts: at most `tokens.LINK_LONGEST`.

    Raises:
        Refused: the identity is not known, not active or no person, or the maker has no say over it.
        Invalid: it would last too long.
    """
    holder = desk.caller(identity, "local").identity
    if not is_human(holder.id):
        raise Refused(
            f"{holder.id} is not a person, and nobody else looks at pages",
            remedy="Make it a token: `muniment token create`.",
            code="refused.not-a-person",
        )
    made = tokens.create(desk, maker, holder.id, lasts=lasts, scopes=(tokens.LINK,))
    return {
        "link": f"{url}{PATH}#{made['token']}",
        "id": made["id"],
        "identity": holder.id,
        "expires_at": made["expires_at"],
    }


def open_link(desk: Desk, token: str) -> tuple[Identity, SignedIn]:
    """Who signs in with a link's token. It is good for nothing from here on.

    Raises:
        Refused: it is none, is over or was used, or its person is not active any more.
    """
    now = desk.clock.now()
    found = tokens.PATTERN.fullmatch(token.strip())
    known = SqlTokens(desk.store).find(found[1]) if found else None
    # compared also where there is no row, so that the two take the same time
    same = hmac.compare_digest(hash_of(found[2] if found else ""), known.row.hash if known else bytes(32))
    if known is None or not same or known.fault is not None or known.mark != "ours":
        raise _stray("the link is none that lets anybody in")
    row = known.row
    if row.scopes != (tokens.LINK,):
        raise _stray("this is a token for programs, and no link")
    if known.revoked_at is not None or row.revoked_at is not None:
        raise _stray("the link was used already, or revoked")
    if row.expires_at <= now:
        raise _stray("the link is over")
    identity = desk.caller(row.identity, "api").identity
    used = TokenRevoked(token=row.id, identity=row.identity)
    after = tokens.ended(row, now)
    actor = Actor(id=identity.id, via="api")
    try:
        desk.store.append(Append(stream=known.stream, actor=actor, events=(used,), at=now, token=after))
    except Conflict as error:
        raise _stray("the link was used already, or revoked") from error
    log.info("signed in", who=identity.id, by="link", token=row.id)
    login = Login(method="link", issuer=desk.store.origin, subject=identity.id, at=wire(now), level=LEVEL)
    return identity, SignedIn(login=login, session=None, name=None, groups=None)


def _stray(why: str) -> Refused:
    return Refused(
        why,
        remedy="Ask whoever runs Muniment for a new one: `muniment login-link`.",
        code="refused.login-link",
    )
