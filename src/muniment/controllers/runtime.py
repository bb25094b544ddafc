"""When what is due reaches which worker: a heap of due times with a wake-up, and a sweep as the safety net."""

from __future__ import annotations

import heapq
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from itertools import count

import structlog

from muniment.controllers.gates import LOOK_AGAIN, Gates
from muniment.controllers.taker import AHEAD_SECONDS, PREPARE_SECONDS, Taker
from muniment.controllers.worker import Worker
from muniment.core.due import Action, due
from muniment.core.errors import Conflict, LeaseLost, MunimentError
from muniment.core.ticket import Ticket
from muniment.ports import Due
from muniment.service.attending import attend
from muniment.service.desk import Desk
from muniment.service.fulfilment import Progress
from muniment.service.giving import give
from muniment.service.sealing import seal
from muniment.service.stamping import stamp
from muniment.service.witnessing import ask

#: how far ahead the sweep looks, so that the heap wakes at the instant itself
LOOKAHEAD = timedelta(seconds=10)
SWEEP_SECONDS = 1.0
SWEEP_LIMIT = 5000
#: how often credentials that are over are deleted
TIDY_EVERY = timedelta(minutes=1)
#: how long a client may ask again under the same key
KEYS_KEPT = timedelta(days=7)
#: how long a thread that computes keeps others waiting. Measured (bench/expiry.py): with Python's 5 ms, recording what
#: is over holds up taking away what is due next; p99 of the lag is a third lower with this
SWITCH_SECONDS = 0.0005
#: pauses between attempts double up to this (I14)
LONGEST_PAUSE = 60.0
FIRST_PAUSE = 0.5
#: another worker has it, or was first: look again soon
CONTENDED_PAUSE = 0.1

log = structlog.get_logger("muniment.controllers")


class Controllers:
    """All loops of one process. Several processes may run on one PostgreSQL store: leases and fences keep order."""

    def __init__(
        self,
        desk: Desk,
        *,
        node: str,
        seal_every: timedelta = timedelta(seconds=1),
        heartbeat: timedelta = timedelta(hours=1),
        stamp_every: timedelta = timedelta(hours=1),
    ) -> None:
        """Prepare.

        Args:
            desk: the adapters.
            node: names this process in leases; it must be unique among processes alive at once.
            seal_every: how often what waits is sealed and published.
            heartbeat: how old the newest cosignature of an unchanged ledger may become.
            stamp_every: how often a new checkpoint is stamped with the time.
        """
        self._desk, self._node, self._seal_every = desk, node, seal_every.total_seconds()
        self._heartbeat, self._stamp_every = heartbeat, stamp_every
        self._heap: list[tuple[datetime, int, Due, bool]] = []  # at, order, what, whether only to prepare it
        self._queued: dict[str, tuple[Action, datetime]] = {}  # what the heap or a worker has for each ticket
        self._attempts: dict[str, int] = {}
        self._workers: dict[str, Worker] = {}
        self._gates = Gates(desk, node, self._put, self._busy)
        self._ids = count()
        self._wake = threading.Condition()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the loops."""
        sys.setswitchinterval(SWITCH_SECONDS)
        self._desk.changed.append(self.notice)
        loops: dict[str, Callable[[], None]] = {
            "schedule": self._schedule,
            "sweep": self._sweep,
            "gates": partial(self._gates.run, self._stopping),
            "seal": self._seal,
            "witnesses": self._witness,
            "timestamps": self._stamp,
        }
        for name, loop in loops.items():
            thread = threading.Thread(target=loop, name=f"muniment-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, timeout: float = 30.0) -> bool:
        """Let passes under way end, seal what they recorded; return whether all ended in time."""
        self._stopping.set()
        with self._wake:
            self._wake.notify()
            workers = list(self._workers.values())
        ended = True
        for worker in workers:
            ended = worker.stop(timeout) and ended
        for thread in self._threads:
            thread.join(timeout)
            ended = ended and not thread.is_alive()
        if self.notice in self._desk.changed:
            self._desk.changed.remove(self.notice)
        return ended

    def notice(self, ticket: Ticket) -> None:
        """A ticket changed here: put what it needs next on the heap. Other processes' changes come by the sweep."""
        todo = due(ticket)
        if todo is not None and todo[1] <= self._desk.clock.now() + LOOKAHEAD:
            self._enqueue(
                Due(
                    ticket=ticket.id,
                    target=ticket.terms.target,
                    account=ticket.terms.account,
                    action=todo[0],
                    at=todo[1],
                )
            )

    # ── the heap ──

    def _enqueue(self, item: Due, *, retry: bool = False) -> None:
        known = self._desk.targets.get(item.target)
        if known is not None and not known.ours and _family(item.action) != "attend":
            return  # a process that has its credentials takes it up
        with self._wake:
            queued = self._queued.get(item.ticket)
            if not retry and queued and _family(queued[0]) == _family(item.action) and queued[1] <= item.at:
                return  # that work is on its way already
            self._queued[item.ticket] = (item.action, item.at)
            if item.action == "expire":
                self._push(item.at - timedelta(seconds=PREPARE_SECONDS), item, prepare=True)
                self._push(item.at - timedelta(seconds=AHEAD_SECONDS), item)
            else:
                self._push(item.at, item)
            self._wake.notify()

    def _push(self, at: datetime, item: Due, *, prepare: bool = False) -> None:
        heapq.heappush(self._heap, (at, next(self._ids), item, prepare))

    def _schedule(self) -> None:
        while not self._stopping.is_set():
            with self._wake:
                now = self._desk.clock.now()
                ready = []
                while self._heap and self._heap[0][0] <= now:
                    _, _, item, prepare = heapq.heappop(self._heap)
                    ready.append((item, prepare))
                if not ready:
                    wait = (self._heap[0][0] - now).total_seconds() if self._heap else SWEEP_SECONDS
                    self._wake.wait(min(wait, SWEEP_SECONDS))
                    continue
            for item, prepare in ready:
                worker = self._worker(item.action, item.target)
                if not prepare:
                    worker.put(item.ticket)
                elif isinstance(worker, Taker):
                    worker.prepare(item.ticket)

    def _worker(self, action: Action, target: str) -> Worker:
        family = _family(action)
        key = family if family == "attend" else f"{family} {target}"
        with self._wake:
            if key not in self._workers:
                self._workers[key] = self._new_worker(key, action, target)
            return self._workers[key]

    def _new_worker(self, key: str, action: Action, target: str) -> Worker:
        family, after = _family(action), _After(self, action, target)
        if family == "attend":
            return Worker(key, partial(attend, self._desk), after.again, after.done)
        gate = self._gates.of(target)
        if family == "take":
            return Taker(self._desk, target, self._holder, after.again, after.done, gate=gate)

        def run(batch: list[str]) -> Progress:
            return give(self._desk, target, batch, self._holder())

        pause = partial(gate.pause, urgent=False) if gate.limits.per_second else None
        return Worker(key, run, after.again, after.done, batch=gate.batch, pause=pause)

    def _put(self, target: str, action: Action, ticket: str) -> None:
        self._worker(action, target).put(ticket)

    def _busy(self, target: str) -> bool:
        worker = self._workers.get(f"take {target}")
        return worker is not None and not worker.idle

    def _holder(self) -> str:
        return f"{self._node}-{next(self._ids)}"

    def settled(self, ticket: str, family: str | None, target: str = "") -> None:
        """A pass ended without trouble: what the ticket needs next comes by `notice` or by the sweep."""
        if family == "take":
            self._gates.done(target)
        with self._wake:
            self._attempts.pop(ticket, None)
            queued = self._queued.get(ticket)
            if queued and family in {None, _family(queued[0])}:
                del self._queued[ticket]

    def retry(self, ticket: str, target: str, action: Action, error: MunimentError) -> None:
        """A pass did not move a ticket on: bring it back after a pause that grows, or once its target answers."""
        at, now = None, self._desk.clock.now()
        with suppress(MunimentError):  # the store may be what failed; then the same action is tried again
            state = self._desk.store.read(ticket)[1]
            todo = due(state) if state else None
            if todo is None:
                self.settled(ticket, None)
                return
            action, at = todo
        pause = self._pause(ticket, target, action, error)
        again = now + timedelta(seconds=pause)
        item = Due(ticket=ticket, target=target, account="", action=action, at=max(again, at or again))
        self._enqueue(item, retry=True)

    def _pause(self, ticket: str, target: str, action: Action, error: MunimentError) -> float:
        if isinstance(error, LeaseLost | Conflict):
            return CONTENDED_PAUSE
        if _family(action) != "attend" and self._gates.hold(target, action, ticket):
            return LOOK_AGAIN
        with self._wake:
            attempts = self._attempts[ticket] = self._attempts.get(ticket, 0) + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * (1 << min(attempts - 1, 10)))
        log.warning("tried again later", ticket=ticket, seconds=pause, error=error.message, code=error.code)
        return pause

    # ── the safety net ──

    def _sweep(self) -> None:
        tidy_at = self._desk.clock.now()
        while not self._stopping.is_set():
            try:
                now = self._desk.clock.now()
                for item in self._due(now + LOOKAHEAD):
                    with self._wake:
                        known = item.ticket in self._queued
                    if not known:
                        self._enqueue(item)
                if now >= tidy_at:  # what nobody collected in time is of use to nobody
                    self._desk.views.drop_stale_credentials(now)
                    self._desk.views.forget_answered(now - KEYS_KEPT)
                    tidy_at = now + TIDY_EVERY
            except MunimentError as error:
                log.warning("the store cannot be swept", error=error.message, code=error.code)
            self._stopping.wait(SWEEP_SECONDS)

    def _due(self, until: datetime) -> Iterator[Due]:
        """All of it, in pages: a herd on one target hides nothing of another's that is due a moment later (I20)."""
        page = self._desk.store.due(until, SWEEP_LIMIT)
        yield from page
        while len(page) == SWEEP_LIMIT:
            page = self._desk.store.due(until, SWEEP_LIMIT, after=page[-1])
            yield from page

    def _seal(self) -> None:
        """Seal on a beat; once more at the end, so that a graceful stop leaves nothing unsealed."""
        while True:
            stopping = self._stopping.wait(self._seal_every)
            try:
                if self._desk.signers:
                    seal(self._desk)
            except MunimentError as error:
                log.critical("the ledger cannot be sealed", error=error.message, code=error.code)
            if stopping:
                return

    def _witness(self) -> None:
        """Show what was published to the witnesses. In a thread of its own: one that is slow holds up no sealing."""
        absent: dict[str, MunimentError] = {}
        while not self._stopping.wait(self._seal_every):
            try:
                before, absent = absent, ask(self._desk, at_least_every=self._heartbeat)
            except MunimentError as error:
                log.critical("the ledger cannot be witnessed", error=error.message, code=error.code)
                continue
            for name in absent.keys() - before.keys():
                log.error(
                    "a witness is absent", witness=name, error=absent[name].message, code=absent[name].code
                )
            for name in before.keys() - absent.keys():
                log.info("a witness answers again", witness=name)

    def _stamp(self) -> None:
        """Have a new checkpoint stamped now and then."""
        pause = self._seal_every
        while self._desk.authority is not None and not self._stopping.wait(pause):
            try:
                stamp(self._desk, every=self._stamp_every)
                pause = self._seal_every
            except MunimentError as error:
                pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, pause * 2))
                log.error("no time-stamp", error=error.message, code=error.code, seconds=pause)  # noqa: TRY400  ours: the sentence says it all


class _After:
    """What a worker says after a pass, for the kind of work that it does."""

    def __init__(self, controllers: Controllers, action: Action, target: str) -> None:
        self._controllers, self._action, self._target = controllers, action, target

    def again(self, ticket: str, error: MunimentError) -> None:
        self._controllers.retry(ticket, self._target, self._action, error)

    def done(self, ticket: str) -> None:
        self._controllers.settled(ticket, _family(self._action), self._target)


def _family(action: Action) -> str:
    """Actions that one worker serves: expiring and revoking are the same work, and so is all that waits for people."""
    return {"expire": "take", "revoke": "take", "provision": "give"}.get(action, "attend")
