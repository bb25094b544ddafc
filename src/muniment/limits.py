"""One target's gate: how much is asked of it at once, and what happens while it does not answer (I20).

A call waits for one of ``at_once`` places, and for its share of ``per_second``. After ``failures`` calls in a row
without an answer the target is *held*:

    answers ──failures in a row──> held ──the pause is over──> one attempt ──no answer──> held, for up to twice as long
       ^                                                             │
       └──────────────────────── an answer, to whomever ─────────────┘

While it is held, calls are refused at once with what was its answer, so that nobody waits for a time-out to hear the
same, and a ticket says why it waits. The attempt is whatever comes next, for which controllers see to it that taking
away goes first: an end is tried at that beat without end (I14). Whether a target answers is each process's
own experience: nothing here comes from the store, where somebody could write that a target is to be left alone (I11).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from muniment.core.errors import MunimentError, TargetUnavailable
from muniment.settings.limits import LimitSettings

#: the pause before the first attempt; each next one is up to twice as long
FIRST_PAUSE = 1.0
#: how long a call waits for its turn
PATIENCE = 5.0
#: how long an attempt that hangs keeps others from trying
ATTEMPT_SECONDS = 60.0
#: of the pace that is allowed, what is not urgent leaves so much
RESERVE = 0.5

Reach = Literal["answers", "held", "unknown"]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """How a target is seen by one process."""

    reach: Reach = "unknown"  # unknown: nobody has asked it yet
    since: datetime | None = None  # UTC, when it was held
    again_at: datetime | None = None  # UTC, when it is tried next
    code: str = ""
    why: str = ""  # what it said, or that it did not answer: a sentence


class Call:
    """One call, as far as it is known."""

    #: why an answer is none: what the target was asked may or may not have happened
    silence: str | None = None


class Gate:
    """One target's. Safe for use by several threads. Seconds are of a clock that nobody sets."""

    def __init__(
        self,
        limits: LimitSettings = LimitSettings(),  # noqa: B008  frozen
        *,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float] = random.random,
    ) -> None:
        """``clock`` only says to people when it was; ``chance`` (0 to 1) parts targets that failed together."""
        self.limits = limits
        self._longest = limits.pause.total_seconds()
        self._monotonic, self._clock, self._chance = monotonic, clock, chance
        self._turn = threading.Condition()
        self._busy = 0
        self._left, self._counted = float(limits.per_second or 0), monotonic()
        self._failures = 0  # in a row
        self._held = 0  # pauses in a row; 0: it is not held
        self._until = self._attempt_until = 0.0
        self._state = State()

    # ── for whoever works through what is due ──

    @property
    def batch(self) -> int:
        """Tickets in one call: no more than the pace allows in a few seconds."""
        limits = self.limits
        return limits.batch if limits.per_second is None else min(limits.batch, limits.per_second * 4)

    @property
    def passes(self) -> int:
        """Passes that take away at once. They leave one of the places that others may have: reading back proves their work."""
        return max(1, self.limits.at_once - 2)

    def pause(self, *, urgent: bool) -> float:
        """Seconds until the pace allows another pass; 0: now."""
        with self._turn:
            return self._short_of(self._monotonic(), urgent=urgent)

    @property
    def held(self) -> bool:
        """Whether the target did not answer lately."""
        with self._turn:
            return self._held > 0

    @property
    def refuses(self) -> bool:
        """Whether a call would be refused now. If not, and the target is held, it would be the attempt."""
        with self._turn:
            return self._refuses(self._monotonic())

    @property
    def state(self) -> State:
        """For people."""
        with self._turn:
            return self._state

    # ── around each call ──

    @contextmanager
    def call(
        self, cost: int = 1, *, urgent: bool = False, asked: bool = False, proves: bool = True
    ) -> Iterator[Call]:
        """One call. What it raises, or what is noted of it, says whether the target answers.

        Args:
            cost: changes or readings that it is.
            urgent: it takes access away.
            asked: somebody wants to know whether it answers, also while it is held.
            proves: to have ended well, it must have heard from the target.

        Raises:
            TargetUnavailable: it is held, or busy; or the call itself raised it.
        """
        call, attempt = Call(), self._enter(cost, urgent=urgent, asked=asked)
        try:
            yield call
        except TargetUnavailable as error:
            if error.code != "target.busy":  # an answer, about one account and not about the others
                self._failed(error.code, error.message)
            raise
        except MunimentError:  # a lost lease, a name that cannot be: no word about the target
            raise
        except Exception as error:
            self._failed("internal", f"unexpected: {type(error).__name__}")
            raise
        else:
            if call.silence is None and proves:
                self._answered()
            elif call.silence is not None:
                self._failed("target.unavailable", call.silence)
        finally:
            with self._turn:
                self._busy -= 1
                if attempt:
                    self._attempt_until = 0.0
                self._turn.notify_all()

    def _enter(self, cost: int, *, urgent: bool, asked: bool) -> bool:
        """Wait for a place; say whether this is the attempt at a target that is held."""
        with self._turn:
            most = self.limits.at_once if urgent else max(1, self.limits.at_once - 1)
            give_up = self._monotonic() + PATIENCE
            while True:
                now = self._monotonic()
                if self._refuses(now) and not asked:
                    raise TargetUnavailable(
                        self._state.why, remedy="It is tried again within a minute.", code=self._state.code
                    )
                wait = self._short_of(now, urgent=urgent)
                if self._busy < most and not wait:
                    break
                if now >= give_up:
                    raise TargetUnavailable(
                        "as much is asked of the target as its limits allow",
                        remedy="It is tried again. If that goes on, look at [targets.ID.limits].",
                        code="target.busy",
                    )
                self._turn.wait(min(wait or PATIENCE, give_up - now))
            self._busy += 1
            self._left -= cost
            attempt = self._held > 0 and not asked
            if attempt:
                self._attempt_until = now + ATTEMPT_SECONDS
            return attempt

    def _refuses(self, now: float) -> bool:
        return self._held > 0 and now < max(self._until, self._attempt_until)

    def _short_of(self, now: float, *, urgent: bool) -> float:
        """Seconds until the pace allows another call. What is not urgent leaves some of it to what is."""
        pace = self.limits.per_second
        if pace is None:
            return 0.0
        self._left = min(float(pace), self._left + (now - self._counted) * pace)
        self._counted = now
        needed = 1.0 if urgent else max(1.0, pace * RESERVE)
        return max(0.0, (needed - self._left) / pace)

    def _answered(self) -> None:
        with self._turn:
            if self._held or self._failures or self._state.reach == "unknown":
                self._held = self._failures = 0
                self._state = State(reach="answers")

    def _failed(self, code: str, why: str) -> None:
        with self._turn:
            self._failures += 1
            if self._failures < self.limits.failures and not self._held:
                return
            now = self._monotonic()
            if self._held and now < self._until:
                return  # it set out before, and says nothing new
            pause = min(self._longest, FIRST_PAUSE * (1 << min(self._held, 10)))
            pause *= 0.5 + 0.5 * self._chance()
            self._held += 1
            self._until = now + pause
            at = self._clock()
            self._state = State(
                reach="held", since=self._state.since or at, again_at=at + timedelta(seconds=pause), code=code, why=why
            )  # fmt: skip


def gated(connector: Any, gate: Gate) -> Any:
    """`ports.Connector` whose calls go through a gate. It can whatever else the connector can."""
    more = {name: _through(name, **how) for name, how in _MORE.items() if hasattr(connector, name)}
    return type("GatedConnector", (_Gated,), more)(connector, gate)


class _Gated:
    def __init__(self, connector: Any, gate: Gate) -> None:
        self._connector, self.gate = connector, gate
        self.capabilities = connector.capabilities
        self.validate = connector.validate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connector, name)

    def check(self) -> Any:
        with self.gate.call(asked=True) as call:
            report = self._connector.check()
            if not report.reachable:
                call.silence = next(iter(report.problems), "it does not answer")
            return report

    def observe(self, accounts: Collection[str] | None) -> Any:
        with self.gate.call():
            return self._connector.observe(accounts)

    def provision(self, orders: Sequence[Any], confirm: Callable[[], None]) -> Any:
        with self.gate.call(len(orders)) as call:
            return _heard(self._connector.provision(orders, confirm), call)

    def revoke(self, orders: Sequence[Any], confirm: Callable[[], None]) -> Any:
        with self.gate.call(len(orders), urgent=True) as call:
            return _heard(self._connector.revoke(orders, confirm), call)


def _heard(outcomes: Sequence[Any], call: Call) -> Sequence[Any]:
    """Of no order is known what became of it: that is silence."""
    if outcomes and all((o.result, o.code) == ("unknown", TargetUnavailable.code) for o in outcomes):
        call.silence = outcomes[0].message
    return outcomes


#: what only some connectors can. Some know what they are asked, and need not ask the target
_MORE: dict[str, dict[str, Any]] = {
    "brings": {"proves": False},
    "nested": {},
    "changes": {},
    "warm": {"cost": 0, "urgent": True, "proves": False},
}


def _through(name: str, **how: Any) -> Callable[..., Any]:
    def through(self: _Gated, *given: Any) -> Any:
        with self.gate.call(**how):
            return getattr(self._connector, name)(*given)

    return through
