"""Transmitters of signals: their keys, and fetching from those that do not push (RFC 8936)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import msgspec
from joserfc.jwk import KeySet

from muniment.core.errors import Unavailable
from muniment.outbound import Http
from muniment.published import Published, fetch
from muniment.signals.tokens import LARGEST, BadToken, keys_of

#: tokens asked for at once, and bytes of an answer with so many of the longest
MOST = 100
LARGEST_ANSWER = MOST * LARGEST + (1 << 16)


class RemoteKeys:
    """A transmitter's public keys at a URL. When they are read again, `published` says."""

    def __init__(self, http: Http, url: str, issuer: str) -> None:
        """Nothing is asked before a token comes."""
        self._keys = Published(lambda _: keys_of(fetch(http, url), issuer), issuer)

    def __call__(self, kid: str, now: datetime) -> KeySet:
        """The keys, read again if that one is new.

        Raises:
            Unavailable: they are not known, and cannot be asked for now.
            Misconfigured: what is there is no set of keys, and none are known.
        """
        known = self._keys.current(now)
        there = any(key.kid == kid for key in known.keys)
        return known if there else self._keys.current(now, soon=True)


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    sets: dict[str, str] = {}
    more_available: bool = False


class Polled:
    """A transmitter that tokens are fetched from."""

    def __init__(self, http: Http, url: str, token: Callable[[], str | None]) -> None:
        """``token`` resolves the bearer token anew for each question."""
        self._http, self._url, self._token = http, url, token

    def fetch(self, done: Sequence[str], refused: Mapping[str, BadToken]) -> tuple[dict[str, str], bool]:
        """Say what became of the last ones, and get more: tokens by their jti, and whether there are still more."""
        body = {
            "maxEvents": MOST, "returnImmediately": True, "ack": list(done),
            "setErrs": {jti: {"err": e.err, "description": e.message} for jti, e in refused.items()},
        }  # fmt: skip
        token = self._token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = self._http.post(
            self._url, msgspec.json.encode(body), content_type="application/json", headers=headers
        )
        if answer.status != 200:
            raise Unavailable(
                f"{self._url} answered {answer.status}", remedy="Check [[signals.transmitters]] poll."
            )
        try:
            said = msgspec.json.decode(answer.body, type=_Answer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Unavailable(
                f"{self._url} answered something else than tokens", remedy="Check the URL."
            ) from error
        return said.sets, said.more_available
