"""Numbers for whoever watches: Prometheus metrics, and whether taking away keeps up.

What the store must be asked for is asked once a second at most, however many ask for it.
"""

from __future__ import annotations

import threading
from datetime import timedelta

import structlog
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from muniment.api.load import Load
from muniment.api.routes import Route
from muniment.core.errors import MunimentError
from muniment.service.desk import Desk
from muniment.service.holding import Holdings
from muniment.service.owing import owed

#: access that is over and that nobody has begun to take away for so long: new work waits (I14 allows 5 s)
PATIENCE = timedelta(seconds=2)
WATCH_SECONDS = 1.0

log = structlog.get_logger("muniment.api")


class Numbers:
    """All metrics of one process."""

    def __init__(self, desk: Desk, load: Load, holdings: Holdings) -> None:
        """A registry of its own, so that several can live in one process."""
        self._desk, self._load, self._holdings = desk, load, holdings
        self._lock = threading.Lock()
        r = self._registry = CollectorRegistry()
        self._requests = Counter(
            "muniment_http_requests", "Requests answered", ("method", "route", "status"), registry=r
        )
        self._seconds = Histogram(
            "muniment_http_request_seconds", "Time to the answer", ("method", "route"), registry=r
        )
        self._counters: dict[tuple[Route, int], tuple[Counter, Histogram]] = {}
        self._shed = Gauge("muniment_http_shed", "Requests refused for load since the start", registry=r)
        self._under_way = Gauge("muniment_http_under_way", "Requests under way", registry=r)
        self._debt = Gauge(
            "muniment_revocation_debt",
            "Tickets whose access is over and not seen gone",
            ("target",),
            registry=r,
        )
        self._lag = Gauge(
            "muniment_revocation_lag_seconds", "How long the oldest of them is over", ("target",), registry=r
        )
        self._ahead = Gauge(
            "muniment_revocation_due_next_hour", "Grants that end within an hour", ("target",), registry=r
        )
        self._pace = Gauge(
            "muniment_revocation_per_second",
            "Tickets that access is taken away for, while there are more; missing: not measured",
            ("target",),
            registry=r,
        )
        self._forecast = Gauge(
            "muniment_revocation_forecast_seconds",
            "Until what is overdue is worked off; missing: that cannot be said",
            ("target",),
            registry=r,
        )
        self._held = Gauge(
            "muniment_target_held",
            "1 while a target does not answer, and is tried now and then",
            ("target",),
            registry=r,
        )
        self._unsealed = Gauge(
            "muniment_ledger_oldest_unsealed_seconds", "Age of the oldest entry not in the tree", registry=r
        )
        self._tickets = Gauge("muniment_tickets", "Tickets that have not ended", ("status",), registry=r)
        self._pending = Gauge(
            "muniment_approvals_oldest_pending_seconds", "Age of the oldest undecided ticket", registry=r
        )
        self._findings = Gauge("muniment_findings_open", "Findings nobody has resolved", registry=r)
        self._grants = Gauge(
            "muniment_grants_indexed", "Active tickets that checks are answered from", registry=r
        )
        self._behind = Gauge(
            "muniment_revocation_behind", "1 while new work is refused because taking away lags", registry=r
        )

    def answered(self, route: Route, status: int, seconds: float) -> None:
        """Count a request. Which counters those are is looked up once for each route and status."""
        found = self._counters.get((route, status))
        if found is None:
            found = self._counters[route, status] = (
                self._requests.labels(route.method, route.path, status),
                self._seconds.labels(route.method, route.path),
            )
        found[0].inc()
        found[1].observe(seconds)

    def render(self) -> tuple[bytes, str]:
        """Everything, as it is now."""
        now = self._desk.clock.now()
        figures = self._desk.views.figures()
        with self._lock:
            for gauge in (self._debt, self._lag, self._ahead, self._pace, self._forecast, self._held):
                gauge.clear()
            for target, each in owed(self._desk).items():
                self._debt.labels(target).set(each.overdue)
                self._lag.labels(target).set(each.oldest)
                self._ahead.labels(target).set(each.ahead)
                self._held.labels(target).set(each.held)
                if each.seen.per_second is not None:
                    self._pace.labels(target).set(each.seen.per_second)
                if each.seconds is not None:
                    self._forecast.labels(target).set(each.seconds)
            self._tickets.clear()
            for status, count in figures.open.items():
                self._tickets.labels(status).set(count)
            self._pending.set((now - figures.oldest_pending).total_seconds() if figures.oldest_pending else 0)
            self._findings.set(figures.findings)
            oldest = self._desk.views.oldest_unsealed()
            self._unsealed.set((now - oldest).total_seconds() if oldest else 0)
            self._grants.set(len(self._holdings))
            self._shed.set(self._load.shed)
            self._under_way.set(self._load.under_way)
            self._behind.set(self._load.behind)
            return generate_latest(self._registry), CONTENT_TYPE_LATEST


class Watch:
    """Looks every second whether taking away keeps up, and tells the load."""

    def __init__(self, desk: Desk, load: Load) -> None:
        """Not yet looking; `start` begins."""
        self._desk, self._load = desk, load
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="muniment-watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def look(self) -> None:
        """Is there access that is over, and that nobody has begun to take away?"""
        overdue = self._desk.views.not_begun(self._desk.clock.now() - PATIENCE)
        if overdue != self._load.behind:
            log.warning("taking away is behind" if overdue else "taking away keeps up again")
        self._load.behind = overdue

    def _run(self) -> None:
        while not self._stopping.wait(WATCH_SECONDS):
            try:
                self.look()
            except MunimentError as error:  # requests find out by themselves
                log.warning("the store cannot be watched", error=error.message, code=error.code)
