"""A connector that fails on demand, in front of a real one. With no fault arranged it passes the conformance suite."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from msgspec.structs import replace

from muniment.core.errors import TargetUnavailable
from muniment.core.scope import Scope
from muniment.ports import CheckReport, Connector, Observation, Order, Outcome

Method = Literal["observe", "provision", "revoke"]


def nothing() -> None:
    """No fault here."""


@dataclass(kw_only=True)
class Fault:
    """What goes wrong in the next ``times`` calls. Make it with one of the functions below."""

    before: Callable[[], None] = nothing  # may raise or hang: then the target is untouched
    skip: bool = False  # the target is not touched, and the answer is "done"
    after: Callable[[], None] = nothing  # may raise or hang: the target has changed
    result: Literal["done", "rejected", "unknown"] | None = None  # said in place of the truth
    code: str = ""
    times: int = 1


def raising(error: Exception) -> Callable[[], None]:
    def raise_it() -> None:
        raise error

    return raise_it


def unavailable_before(times: int = 1) -> Fault:
    """No answer, and nothing happened."""
    return Fault(before=raising(TargetUnavailable("the target did not answer")), times=times)


def unavailable_after(times: int = 1) -> Fault:
    """No answer, but it did happen."""
    return Fault(after=raising(TargetUnavailable("the target did not answer")), times=times)


def lying(times: int = 1) -> Fault:
    """Says "done" and did nothing."""
    return Fault(skip=True, times=times)


def giving_more(give: Callable[[], object], times: int = 1) -> Fault:
    """Does what was asked, and what ``give`` does to the real target."""
    return Fault(after=lambda: void(give()), times=times)


def hanging(release: threading.Event, *, after: bool = False, times: int = 1) -> Fault:
    """No answer until ``release`` is set: before the target is touched, or after."""
    wait = lambda: void(release.wait())  # noqa: E731
    return Fault(after=wait, times=times) if after else Fault(before=wait, times=times)


def unsure(*, happened: bool, times: int = 1) -> Fault:
    """Answers "unknown"."""
    return Fault(skip=not happened, result="unknown", code="target.unavailable", times=times)


def rejecting(code: str = "target.rejected", times: int = 1) -> Fault:
    """Answers "rejected", and did nothing."""
    return Fault(skip=True, result="rejected", code=code, times=times)


def void(_: object) -> None:
    """Forget a value."""


class FaultyConnector:
    """See `muniment.ports.Connector`."""

    def __init__(self, real: Connector) -> None:
        self.real = real
        self.capabilities = real.capabilities
        self.calls: list[tuple[Method, tuple[str, ...]]] = []  # with the tickets, or accounts, of each call
        self._faults: dict[Method, list[Fault]] = {"observe": [], "provision": [], "revoke": []}
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        """What else the connector can do, it does without faults."""
        return getattr(self.__dict__["real"], name)

    def arrange(self, method: Method, *faults: Fault) -> None:
        """These faults, one after the other, then none."""
        with self._lock:
            self._faults[method] += faults

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        self.real.validate(account, scope, key)

    def check(self) -> CheckReport:
        return self.real.check()

    def observe(self, accounts: Collection[str] | None) -> Observation:
        fault = self._next("observe", tuple(accounts or ()))
        fault.before()
        seen = Observation(holdings=()) if fault.skip else self.real.observe(accounts)
        fault.after()
        return seen

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        return self._change("provision", self.real.provision, orders, confirm)

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        return self._change("revoke", self.real.revoke, orders, confirm)

    def _change(
        self,
        method: Method,
        call: Callable[[Sequence[Order], Callable[[], None]], list[Outcome]],
        orders: Sequence[Order],
        confirm: Callable[[], None],
    ) -> list[Outcome]:
        fault = self._next(method, tuple(o.ticket for o in orders))
        fault.before()
        if fault.skip:
            confirm()
            outcomes = [Outcome(ticket=o.ticket, result="done") for o in orders]
        else:
            outcomes = call(orders, confirm)
        fault.after()
        if fault.result is None:
            return outcomes
        sentence = f"the target answered {fault.result}"
        return [replace(o, result=fault.result, code=fault.code, message=sentence) for o in outcomes]

    def _next(self, method: Method, what: tuple[str, ...]) -> Fault:
        with self._lock:
            self.calls.append((method, what))
            waiting = self._faults[method]
            if not waiting:
                return Fault()
            waiting[0].times -= 1
            return waiting[0] if waiting[0].times > 0 else waiting.pop(0)
