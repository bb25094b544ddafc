"""One thread a sink: look what came, send what is due. Several nodes may: leases keep them apart.

And one thread a transmitter whose signals are fetched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import structlog

from muniment.controllers.loops import Loops
from muniment.core.errors import MunimentError
from muniment.ports import Claim
from muniment.service.desk import Desk
from muniment.service.sending import Sink, look, send
from muniment.service.signals import Signals
from muniment.signals.tokens import BadToken
from muniment.signals.transmitters import Polled
from muniment.store.delivering import SqlDeliveries

#: entries come into the tree on the same beat
BEAT = 1.0
#: seconds between questions to a transmitter that has nothing, and after one that did not answer
FETCH, AWAY = 5.0, 30.0
LEASE_SECONDS = 120

log = structlog.get_logger("muniment.controllers")


class Feeds(Loops):
    """Looks after all sinks."""

    def __init__(self, desk: Desk, sinks: Sequence[Sink], node: str) -> None:
        """``node`` names this process in leases."""
        self._desk, self._node = desk, node
        self._deliveries = SqlDeliveries(desk.store.engine)
        super().__init__({f"sink {sink.name}": partial(self._run, sink) for sink in sinks})

    def _run(self, sink: Sink) -> None:
        while not self._stopping.is_set():
            more = False
            try:
                more = look(self._desk, self._deliveries, sink)
                more = send(self._desk, self._deliveries, sink, self._node) > 0 or more
            except MunimentError as error:
                log.warning("a sink has to wait", sink=sink.name, error=error.message, code=error.code)
            except Exception:
                log.exception("a sink failed unexpectedly", sink=sink.name)
                self._stopping.wait(AWAY)
            if not more:
                self._stopping.wait(BEAT)


class Fetching(Loops):
    """Fetches signals (RFC 8936). One is acknowledged once it is on record: what was lost in between comes again."""

    def __init__(self, signals: Signals, polled: Mapping[str, Polled], desk: Desk, node: str) -> None:
        """``polled`` by issuer; ``node`` names this process in leases."""
        self._signals, self._desk, self._node = signals, desk, node
        super().__init__(
            {f"fetch {issuer}": partial(self._run, issuer, each) for issuer, each in polled.items()}
        )

    def _run(self, issuer: str, polled: Polled) -> None:
        done: list[str] = []
        refused: dict[str, BadToken] = {}
        while not self._stopping.is_set():
            more = False
            pause = FETCH
            try:
                key = f"fetch {issuer}"
                claim = Claim(key=key, holder=self._node, seconds=LEASE_SECONDS)
                lease = self._desk.store.claim([claim]).get(key)
                if lease is not None:
                    try:
                        more = fetch(self._signals, polled, done, refused)
                    finally:
                        self._desk.store.release([lease])
            except MunimentError as error:
                pause = AWAY
                log.warning("signals cannot be fetched", issuer=issuer, error=error.message, code=error.code)
            except Exception:
                pause = AWAY
                log.exception("fetching signals failed unexpectedly", issuer=issuer)
            if not more:
                self._stopping.wait(pause)


def fetch(signals: Signals, polled: Polled, done: list[str], refused: dict[str, BadToken]) -> bool:
    """Fetch once: say what became of the last ones, put the new ones on record. Returns whether there are more."""
    sets, more = polled.fetch(done, refused)
    done.clear()
    refused.clear()
    for jti, token in sets.items():
        try:
            signals.receive(token.encode(), "poll")
        except BadToken as error:
            refused[jti] = error
        else:
            done.append(jti)
    return bool(sets) or more
