"""V4 of API tokens: each is made once, for whom and by whom is known, and is over for good once it was revoked.

Whether its maker had a say over it, other streams know: what is seen here is held against them in `registries`.
"""

from __future__ import annotations

from collections.abc import Iterator

from muniment.core.errors import Invalid
from muniment.core.events import Event, TokenMade, TokenRevoked
from muniment.core.identity import SYSTEM, parse_identity
from muniment.core.instants import parse_instant
from muniment.ledger.entry import Entry

#: how the streams of tokens begin, whose id follows
TOKEN = "token:"  # noqa: S105  no secret


class Tokens:
    """The tokens of the streams that it is fed."""

    def __init__(self) -> None:
        """None was made."""
        self._known: dict[str, str | None] = {}  # by id: as whom its holder acts; None: revoked

    def take(self, event: Event, entry: Entry) -> str | None:
        """An event of any registry; return what is wrong with it."""
        if not isinstance(event, TokenMade | TokenRevoked):
            return None
        fault = next(self._faults(event, entry), None)
        if fault is None:
            self._known[event.token] = event.identity if isinstance(event, TokenMade) else None
        return fault

    def _faults(self, event: TokenMade | TokenRevoked, entry: Entry) -> Iterator[str]:
        if entry.ticket != f"{TOKEN}{event.token}":
            yield "it is about another token than its stream"
        known = self._known.get(event.token, "")
        if known is None:
            yield "the token was revoked before"
        try:
            parse_identity(event.identity)
        except Invalid as error:
            yield f"nobody can act by it: {error.message}"
        if isinstance(event, TokenMade):
            yield from self._unmakable(event, entry)
        elif (
            known and known != event.identity
        ):  # of one that is older than such entries, nobody has said whose it is
            yield f"it names {event.identity}, and the token was made for {known}"

    def _unmakable(self, event: TokenMade, entry: Entry) -> Iterator[str]:
        if event.token in self._known:
            yield "the token was made before"
        if event.scopes != tuple(sorted(set(event.scopes))):
            yield "its scopes are not in order, each once"
        if parse_instant(event.expires_at) <= parse_instant(entry.at):
            yield "it was over before it was made"
        if entry.actor.id == SYSTEM and entry.actor.via != "local":
            yield f"{SYSTEM} makes tokens for whoever runs the store, and there alone"
