"""API tokens: who holds one, acts as its identity until it is over. A token is shown once, when it is made.

Who made each, for whom and for what, and who revoked it, is in the ledger, in the stream ``token:ID``: the row and the
entry are written in one transaction, and a token is good only with both.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import msgspec

from muniment.core.errors import Conflict, Invalid, NotFound, Refused, Unauthenticated
from muniment.core.events import TokenMade, TokenRevoked
from muniment.core.identity import SYSTEM, Identity
from muniment.core.instants import wire
from muniment.ports import Actor, Append, Authenticated, Scoped, Stream, TokenRow
from muniment.service.credentials import Credentials, new_credential
from muniment.service.desk import ATTEMPTS, Caller, Desk
from muniment.service.documents import Document
from muniment.store.token_rows import TOKEN
from muniment.store.tokens import KnownToken, SqlTokens

#: of a token that opens one session (`service.login_links`), and how long it lasts at most
LINK: Scoped = "login"
LINK_LONGEST = timedelta(hours=1)
#: of all others
SCOPES: tuple[Scoped, ...] = tuple(s for s in msgspec.inspect.type_info(Scoped).values if s != LINK)  # type: ignore[attr-defined]
LONGEST = timedelta(days=366)
#: whoever runs the store, and does not say who they are: nobody without its files and keys can
OPERATING = Actor(id=SYSTEM, via="local")

PATTERN = re.compile(r"mnt_([0-9a-f]{16})_([0-9a-f]{64})", re.ASCII)


def create(
    desk: Desk, maker: Caller | None, identity: str, *, lasts: timedelta, scopes: tuple[str, ...] = ()
) -> Document:
    """Make a token for an identity. The answer is the only place where it ever stands.

    Args:
        desk: the adapters.
        maker: who makes it; None: whoever runs the store, who did not say.
        identity: as whom its holder acts.
        lasts: at most `LONGEST`; of one that opens a session, `LINK_LONGEST`.
        scopes: what alone it is good for; none: all that the identity may.

    Raises:
        Refused: the identity is not known or not active, or the maker has no say over it.
        Invalid: it would last too long, or a scope is not known.
    """
    holder = desk.caller(identity, "local").identity
    _require_say(maker, holder)
    if scopes == (LINK,):
        longest, words = LINK_LONGEST, "at most an hour"
    else:
        longest, words = LONGEST, f"at most {LONGEST.days} days"
        if unknown := set(scopes) - set(SCOPES):
            known = ", ".join(SCOPES)
            raise Invalid(f"there is no scope {unknown.pop()!r:.40}", remedy=f"Scopes are {known}.")
    if not timedelta(0) < lasts <= longest:
        raise Invalid("the token would last too long", remedy=f"Ask for {words}.")
    token_id, hashed, whole = new_credential("mnt", desk.random)
    now = desk.clock.now()
    row = TokenRow(
        id=token_id, hash=hashed, identity=holder.id, scopes=tuple(sorted(set(scopes))), created_at=now,
        expires_at=now + lasts,
    )  # fmt: skip
    made = TokenMade(token=row.id, identity=row.identity, scopes=row.scopes, expires_at=wire(row.expires_at))
    desk.store.append(
        Append(
            stream=Stream(id=f"{TOKEN}{token_id}", version=0, head=None), actor=_actor(maker), events=(made,), at=now,
            token=row,
        )
    )  # fmt: skip
    return {
        "token": whole, "id": token_id, "identity": holder.id, "scopes": list(row.scopes),
        "expires_at": wire(row.expires_at),
    }  # fmt: skip


def revoke(desk: Desk, caller: Caller | None, token: str) -> Document:
    """End a token, named by its id or in full. Done again, it is done.

    While nothing may be recorded it ends all the same (I28); revoked again later, it is recorded.

    Raises:
        NotFound: there is no such token.
        Refused: the caller has no say over it.
    """
    token_id = found[1] if (found := PATTERN.fullmatch(token)) else token
    tokens = SqlTokens(desk.store)
    for _ in range(ATTEMPTS):
        known = tokens.find(token_id) if re.fullmatch("[0-9a-f]{16}", token_id) else None
        if known is None:
            raise NotFound(
                "there is no such token", remedy="Name it by the id that `token create` gave, or in full."
            )
        if caller is not None:
            _require_say(caller, _holder(desk, known))
        if (recorded := _end(desk, caller, tokens, known)) is not None:
            return {"id": token_id, "revoked": True} | ({} if recorded else {"recorded": False})
    raise Conflict(f"{token_id} is revoked by others right now", remedy="Try again.")


def _end(desk: Desk, caller: Caller | None, tokens: SqlTokens, known: KnownToken) -> bool | None:
    """End it; whether that is in the ledger. None where somebody else was faster."""
    now = desk.clock.now()
    if known.revoked_at is not None:  # whatever its row says by now
        return tokens.end(known.row.id, known.revoked_at)
    if known.mark in {"none", "foreign"} or desk.store.halted is not None:
        tokens.end(known.row.id, now)  # whose it was, its row does not say in truth
        return False
    event = TokenRevoked(token=known.row.id, identity=known.row.identity)
    row = ended(known.row, now)
    try:
        desk.store.append(
            Append(stream=known.stream, actor=_actor(caller), events=(event,), at=now, token=row)
        )
    except Conflict:
        return None
    return True


def ended(row: TokenRow, now: datetime) -> TokenRow:
    """A token's row once it is over."""
    return msgspec.structs.replace(row, revoked_at=row.revoked_at or now)


def _actor(caller: Caller | None) -> Actor:
    return OPERATING if caller is None else caller.actor


def _holder(desk: Desk, known: KnownToken) -> Identity:
    """As the directory knows them; one that left it has no owners."""
    return desk.directory.get(known.row.identity) or Identity(id=known.row.identity, active=False, roles=())


def _require_say(caller: Caller | None, holder: Identity) -> None:
    """Operators have a say over every token; everybody over their own, and over those of machines they answer for."""
    if caller is None or "operator" in caller.identity.roles:
        return
    mine = {caller.identity.id, *caller.identity.aliases}
    if not mine & {holder.id, *holder.owners}:
        raise Refused(
            f"{caller.identity.id} has no say over tokens of {holder.id}",
            remedy=f"{holder.id} can, an operator, or, for a machine, who answers for it.",
            code="refused.token",
        )


class TokenAuthenticator:
    """`ports.Authenticator` for API tokens. Time is looked at on every call."""

    def __init__(self, tokens: SqlTokens) -> None:
        """``tokens`` is where their hashes are."""
        self._tokens = tokens
        self._credentials = Credentials("mnt", lambda token, _: tokens.get(token), _unknown)
        self.remembered, self.familiar = self._credentials.remembered, self._credentials.familiar

    def authenticate(self, credential: str, now: datetime) -> Authenticated | None:
        """See `ports.Authenticator`."""
        row = self._credentials.find(credential, now)
        if row is None:
            return None
        if not row.marked:
            raise Unauthenticated(
                "the token was made before Muniment marked tokens as its own, so nobody can tell whose it is",
                remedy=_AGAIN,
                code="unauthenticated.unmarked",
            )
        if row.revoked_at is not None:
            raise Unauthenticated("the token was revoked", remedy=_AGAIN, code="unauthenticated.revoked")
        if row.expires_at <= now:
            raise Unauthenticated("the token is over", remedy=_AGAIN, code="unauthenticated.expired")
        return Authenticated(identity=row.identity, scopes=frozenset(row.scopes))  # type: ignore[arg-type]


_AGAIN = "Ask whoever runs Muniment for a token: `muniment token create`."


def _unknown() -> Unauthenticated:
    return Unauthenticated("the token is not known", remedy=_AGAIN)
