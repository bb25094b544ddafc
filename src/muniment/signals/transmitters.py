"""Transmitters of signals: their keys, and fetching from those that do not push (RFC 8936)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
from joserfc.jwk import KeySet

from muniment.core.errors import Unavailable
from muniment.outbound import Http
from muniment.signals.tokens import BadToken, keys_of

#: seconds for which keys are used without asking again
KEPT = 3600.0
#: seconds between questions because of a key id that nobody knows
AGAIN = 60.0
#: tokens asked for at once
MOST = 100


class RemoteKeys:
    """A transmitter's public keys at a URL. Asked for again after an hour, or when a key is new."""

    def __init__(self, http: Http, url: str, algorithms: tuple[str, ...]) -> None:
        """Nothing is asked before a token comes."""
        self._http, self._url, self._algorithms = http, url, algorithms
        self._lock = threading.Lock()
        self._known: KeySet | None = None
        self._asked = 0.0  # on the monotonic clock

    def __call__(self, kid: str) -> KeySet:
        """The keys. Raises `Unavailable`: they are not known, and cannot be asked for now."""
        with self._lock:
            age = time.monotonic() - self._asked
            there = self._known is not None and any(key.kid == kid for key in self._known.keys)
            if self._known is None or age > KEPT or (not there and age > AGAIN):
                answer = self._http.get(self._url, {"Accept": "application/json"})
                if answer.status != 200:
                    raise Unavailable(
                        f"{self._url} answered {answer.status}", remedy="Check [[signals.transmitters]] jwks."
                    )
                self._known, self._asked = keys_of(answer.body, self._algorithms), time.monotonic()
            return self._known


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
        except msgspec.MsgspecError as error:
            raise Unavailable(
                f"{self._url} answered something else than tokens", remedy="Check the URL."
            ) from error
        return said.sets, said.more_available
