"""How much is taken on: per caller, at once, and while access that is over has not been taken away (I40).

Shedding is an answer at once, 429, instead of a queue: what is shed can be asked again with its key. Routes that take
access away are never shed, and have threads that nobody else can hold. Tokens that nobody has seen before are looked up
in a few threads of their own, so that guesses, however many, hold up nothing but each other. Whoever is not known is
counted by address, and all of them together. All of this is touched by the event loop alone.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from muniment.api.routes import Route
from muniment.core.errors import Busy

#: callers whose rate is remembered, and addresses
CALLERS = 10_000
#: addresses that may do together, at their full rate, what nobody need be known for
STRANGERS = 5
#: threads that only urgent routes get
RESERVED = 8
#: and at most for all that is not urgent, however many requests are under way: each may hold a connection to the store
ORDINARY = 20
#: threads that look up tokens not seen before, and how many look-ups are taken on together
LOOKING, LOOKUPS = 4, 64
#: heavy requests under way together
HEAVY = 2


class Load:
    """What is under way."""

    def __init__(self, *, rate: int, at_once: int) -> None:
        """``rate``: requests a second of one caller, in the long run. ``at_once``: requests under way together."""
        self._rate, self._at_once = float(rate), at_once
        self._callers, self._peers, self._everybody = (
            _Buckets(self._rate, CALLERS), _Buckets(self._rate, CALLERS), _Buckets(self._rate * STRANGERS, 1)
        )  # fmt: skip
        self.under_way = 0
        self._heavy = self._lookups = 0
        self.shed = 0
        #: set while taking away is behind: `numbers.Watch`
        self.behind = False

    @property
    def threads(self) -> int:
        """How many are needed for what is not urgent."""
        return min(self._at_once, ORDINARY)

    @contextmanager
    def look_up(self) -> Iterator[None]:
        """One look for a token that was not seen before, or `Busy`."""
        if self._lookups >= LOOKUPS:
            self.shed += 1
            raise Busy(
                "too many unknown tokens are looked up", remedy="Ask again in a second, with the same key."
            )
        self._lookups += 1
        try:
            yield
        finally:
            self._lookups -= 1

    @contextmanager
    def one(self, route: Route) -> Iterator[None]:
        """One request, or `Busy`."""
        if not route.urgent and not route.quick:
            if self.under_way >= self._at_once:
                self.shed += 1
                raise Busy(
                    "too many requests are under way", remedy="Ask again in a second, with the same key."
                )
            if route.work and self.behind:
                self.shed += 1
                raise Busy(
                    "access that is over is not taken away in time, so no new work is taken",
                    remedy="Ask again later, with the same key. An operator should see that the controllers run.",
                    code="busy.revocation",
                )
            if route.heavy and self._heavy >= HEAVY:
                self.shed += 1
                raise Busy("others ask for as much already", remedy="Ask again in some seconds.")
        self.under_way += 1
        self._heavy += route.heavy
        try:
            yield
        finally:
            self.under_way -= 1
            self._heavy -= route.heavy

    def count(self, caller: str, route: Route) -> None:
        """Another request of a caller, or `Busy`."""
        if not route.urgent and not route.quick and not self._callers.take(caller):
            raise self._too_often("you ask too often")

    def count_stranger(self, peer: str, route: Route) -> None:
        """Another request from an address, by nobody who is known, or `Busy`.

        What one address is refused takes nothing from the others.
        """
        if route.urgent or route.quick:
            return
        if not self._peers.take(peer):
            raise self._too_often("your address asks too often")
        if not self._everybody.take(""):
            raise self._too_often("too many ask who are not signed in")

    def _too_often(self, why: str) -> Busy:
        self.shed += 1
        return Busy(why, remedy="Ask again in a second, with the same key.", code="busy.rate")


class _Buckets:
    """What each of many has left; those who came last are remembered."""

    def __init__(self, rate: float, most: int) -> None:
        self._rate, self._most = rate, most
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when that was

    def take(self, whose: str) -> bool:
        """Whether there was one left, for two seconds' worth at most."""
        now, burst = time.monotonic(), self._rate * 2
        left, then = self._left.pop(whose, (burst, now))
        left = min(burst, left + (now - then) * self._rate)
        if len(self._left) >= self._most:
            self._left.popitem(last=False)
        self._left[whose] = (max(left - 1, 0.0), now)
        return left >= 1
