"""Targets that do not answer: what waits for them, who tries next, and how fast they are otherwise.

What a held target was to take back or give is tried at the gate's beat, a batch at a time and taking away first. All of
it goes on at once when the target answers. Meanwhile each ticket comes back now and then on its own account, is refused
at the gate, and says so: it is overdue when it is.

What is seen here is written down for people in other processes.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from muniment.core.due import Action
from muniment.core.errors import MunimentError
from muniment.limits import Gate, State
from muniment.service.desk import Desk
from muniment.store.reach import FRESH, Seen, SqlReach

BEAT = 0.5
#: seconds after which a ticket looks again for itself; twice that is when it is overdue
LOOK_AGAIN = 30.5
#: beats that the pace is measured over
MEASURED = 240
#: how often a pace is written down
SELDOM = timedelta(seconds=5)

log = structlog.get_logger("muniment.controllers")


class Gates:
    """Those of all targets of this process."""

    def __init__(
        self, desk: Desk, node: str, put: Callable[[str, Action, str], None], busy: Callable[[str], bool]
    ) -> None:
        """``put`` hands a ticket of a target to its worker; ``busy`` says whether that one has more to take away."""
        self._desk, self._node, self._put, self._busy = desk, node, put, busy
        self._reach = SqlReach(desk.store.engine)
        self._lock = threading.Lock()
        self._held: dict[str, dict[str, Action]] = defaultdict(dict)  # by target: tickets that wait for it
        self._done: dict[str, int] = defaultdict(int)  # taken away since the last beat
        self._paces: dict[str, deque[tuple[int, float]]] = defaultdict(lambda: deque(maxlen=MEASURED))
        self._was_busy: set[str] = set()
        self._written: dict[str, Seen] = {}
        self._write_at: datetime | None = None
        self._beaten = time.monotonic()

    def of(self, target: str) -> Gate:
        """A target's; one of its own for a target that is not there."""
        known = self._desk.targets.get(target)
        return known.gate if known else Gate()

    def hold(self, target: str, action: Action, ticket: str) -> bool:
        """Whether the target is held, and so the ticket's next turn comes from here."""
        if not self.of(target).held:
            return False
        with self._lock:
            self._held[target][ticket] = action
        return True

    def done(self, target: str) -> None:
        """Access was taken away there."""
        with self._lock:
            self._done[target] += 1

    def beat(self) -> None:
        """Let go on what may; measure, and write down what is new."""
        with self._lock:
            held = [target for target, waiting in self._held.items() if waiting]
        for target in held:
            self._let_go(target)
        self._measure()
        self._write()

    def run(self, stopping: threading.Event) -> None:
        """Until it is told to stop."""
        while not stopping.wait(BEAT):
            try:
                self.beat()
            except MunimentError as error:
                log.warning("what is seen of targets cannot be written", error=error.message, code=error.code)
            except Exception:
                log.exception("looking after held targets failed unexpectedly")
        try:
            gone = {target: Seen(per_second=seen.per_second) for target, seen in self._written.items()}
            self._reach.write(self._node, gone, self._desk.clock.now())
        except MunimentError:  # whoever asks finds that it was written too long ago
            return

    def _let_go(self, target: str) -> None:
        gate = self.of(target)
        if gate.refuses:
            return
        with self._lock:
            waiting = self._held[target]
            # those whose turn is longest ago first, which sorting keeps
            ready = sorted(waiting, key=lambda ticket: waiting[ticket] == "provision")
            ready = ready[: gate.batch] if gate.held else ready
            actions = [(waiting.pop(ticket), ticket) for ticket in ready]
        for action, ticket in actions:
            self._put(target, action, ticket)

    def _measure(self) -> None:
        """The pace is what was taken away from one beat to the next, if there was more to do all the while."""
        now = time.monotonic()
        seconds, self._beaten = now - self._beaten, now
        with self._lock:
            done, self._done = self._done, defaultdict(int)
        busy = {t for t in self._desk.targets if self._busy(t) and not self.of(t).held}
        for target in busy & self._was_busy:
            self._paces[target].append((done[target], seconds))
        self._was_busy = busy

    def _pace(self, target: str) -> float | None:
        measured = self._paces[target]
        seconds = sum(each for _, each in measured)
        return round(sum(done for done, _ in measured) / seconds, 1) if seconds else None

    def _write(self) -> None:
        """What changed: who answers at once, how fast they are now and then; and everything once a minute."""
        now = self._desk.clock.now()
        seen = {t: Seen(state=self.of(t).state, per_second=self._pace(t)) for t in self._desk.targets}
        news = {t: each for t, each in seen.items() if each != self._written.get(t, Seen())}
        since = now - self._write_at if self._write_at else FRESH
        if since < SELDOM:
            news = {t: each for t, each in news.items() if each.state != self._written.get(t, Seen()).state}
        if since >= FRESH:
            news |= {t: each for t, each in seen.items() if each != Seen()}
        for target, each in news.items():
            if each.state.reach != self._written.get(target, Seen()).state.reach:
                self._say(target, each.state)
        if news:
            self._reach.write(self._node, news, now)
            self._written |= news
            self._write_at = now

    def _say(self, target: str, state: State) -> None:
        if state.reach == "held":
            log.warning("a target does not answer", target=target, error=state.why, code=state.code)
        elif self._written.get(target, Seen()).state.reach == "held":
            log.info("a target answers again", target=target)
