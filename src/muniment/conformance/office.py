"""An office with one target: people, a policy, a store and a clock of its own, and a connector to work through."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from msgspec.structs import replace

from muniment.conformance.harness import ConformanceFailure, Harness, require
from muniment.core.errors import MunimentError, TargetUnavailable
from muniment.core.scope import Privilege, Scope, scope
from muniment.core.ticket import Ticket
from muniment.directory.file import FileDirectory
from muniment.ledger.keys import signer_from_seed
from muniment.policy import starter
from muniment.policy.cedar import CedarPolicy
from muniment.ports import CatalogueEntry, CheckReport, Connector, Observation, Order, Outcome, Target
from muniment.service.deciding import approve, give_back
from muniment.service.desk import CONTROLLER, Caller, Desk
from muniment.service.filing import Ask, file_request
from muniment.service.giving import give
from muniment.service.registry import record_registry
from muniment.service.taking import take_back
from muniment.store.opening import open_store
from muniment.store.sequencer import SqlLedger
from muniment.store.views import SqlViews

HOUR = timedelta(hours=1)
LEASE_OVER = timedelta(seconds=61)  # after this long a lease that nobody gave back is anybody's

_ORIGIN = "ledger.example.com/conformance"
_PEOPLE = """\
[identities."human:ann@example.com"]
groups = ["engineers"]
[identities."human:bea@example.com"]
groups = ["engineers"]
[identities."human:dee@example.com"]
groups = ["owners"]
[identities."human:eve@example.com"]
groups = ["owners"]
"""


class HandClock:
    """`ports.Clock` that a check moves."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        """The instant it was set to."""
        return self.at


class Random:
    """`ports.Random` from the operating system."""

    bytes = staticmethod(os.urandom)


class Liar:
    """The connector of a target that says "done" and did nothing, or more than it was asked; or whose answers get lost."""

    def __init__(self, real: Connector) -> None:
        self._real, self.capabilities = real, real.capabilities
        self.gives: Callable[[Order], Order | None] = lambda order: order
        self.takes = True
        self.loses = 0  # so many answers

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        """Honestly."""
        self._real.validate(account, scope, key)

    def check(self) -> CheckReport:
        """Honestly."""
        return self._real.check()

    def observe(self, accounts: Collection[str] | None) -> Observation:
        """Honestly: reading back is how a lie is found."""
        return self._real.observe(accounts)

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """What ``gives`` makes of each order."""
        wanted = {order.ticket: self.gives(order) for order in orders}
        real = [order for order in wanted.values() if order is not None]
        outcomes = {o.ticket: o for o in self._real.provision(real, confirm)}
        self._answer()
        return [
            outcomes.get(o.ticket) or Outcome(ticket=o.ticket, result="done", credential=b"none")
            for o in orders
        ]

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """Nothing, unless it ``takes``."""
        if self.takes:
            outcomes = self._real.revoke(orders, confirm)
            self._answer()
            return outcomes
        confirm()
        return [Outcome(ticket=order.ticket, result="done") for order in orders]

    def _answer(self) -> None:
        if self.loses:
            self.loses -= 1
            raise TargetUnavailable("the answer was lost")


class Office:
    """A desk and its controllers' work, one pass at a time."""

    def __init__(self, h: Harness, folder: Path) -> None:
        self.h, self.liar = h, Liar(h.connector)
        self.clock = HandClock(h.now())
        (folder / "people.toml").write_text(_PEOPLE)
        store = open_store(f"sqlite:///{folder}/store.db", _ORIGIN, bytes(range(32)), self.clock)
        target = Target(
            id="target", kind="conformance", environment="test", owners=("group:owners",), connector=self.liar,
            catalogue=tuple(CatalogueEntry(privilege=each) for each in h.privileges),
            accounts=dict(zip(("human:ann@example.com", "human:bea@example.com"), h.accounts, strict=True)),
        )  # fmt: skip
        self.desk = Desk(
            store=store, views=SqlViews(store.engine), policy=_policy(), random=Random(),
            ledger=SqlLedger(store.engine, _ORIGIN, store.marker, store.clock),
            signers=(signer_from_seed(_ORIGIN, bytes(32)),),
            directory=FileDirectory(folder / "people.toml"), targets={target.id: target},
        )  # fmt: skip
        self.passes = 0
        self.troubles: list[MunimentError] = []
        record_registry(self.desk, CONTROLLER)

    def approved(self, *privileges: Privilege, who: str = "ann") -> str:
        """A ticket of an hour for these privileges, or the first, that two owners approved."""
        wanted = scope(privileges or self.h.privileges[:1])
        key = self.h.public_key(self.h.accounts[("ann", "bea").index(who)])
        ask = Ask(
            target="target", scope=wanted, justification="to see what happens", duration=HOUR, public_key=key
        )
        ticket = file_request(self.desk, self._caller(who), ask).id
        for owner in ("dee", "eve"):
            approve(self.desk, self._caller(owner), ticket, digest=None)
        return ticket

    def active(self, *privileges: Privilege, who: str = "ann") -> str:
        """A ticket whose access has begun."""
        ticket = self.approved(*privileges, who=who)
        self.settle()
        self.must(ticket, "active")
        return ticket

    def give_back(self, ticket: str) -> None:
        """The beneficiary is done."""
        give_back(self.desk, self.desk.caller(self.ticket(ticket).terms.beneficiary, "test"), ticket)

    def step(self) -> bool:
        """One pass over everything that is due; whether anything moved."""
        moved = False
        due = self.desk.store.due(self.clock.now(), 100)
        self.passes += 1
        for work, actions in ((take_back, {"revoke", "expire"}), (give, {"provision"})):
            tickets = [item.ticket for item in due if item.action in actions]
            if tickets:
                progress = work(self.desk, "target", tickets, f"pass-{self.passes}")
                self.troubles += progress.again.values()
                moved = moved or bool(progress.moved)
        return moved

    def settle(self) -> None:
        """Pass until nothing moves any more."""
        for _ in range(12):
            if not self.step():
                return
        raise ConformanceFailure(f"tickets move without end: {self.troubles}")

    def later(self, length: timedelta) -> None:
        """Let the office's time pass; the target's own clock goes on as it does."""
        self.clock.at += length

    def ticket(self, ticket: str) -> Ticket:
        """As the store has it."""
        found = self.desk.store.read(ticket)[1]
        if found is None:
            raise AssertionError("unreachable: the ticket was filed")
        return found

    def must(self, ticket: str, *statuses: str) -> Ticket:
        """Fail unless the ticket has one of these statuses."""
        found = self.ticket(ticket)
        said = [str(error) for error in self.troubles] + ([found.failure.message] if found.failure else [])
        require(
            found.status in statuses, f"the ticket is {found.status}, not {' or '.join(statuses)}: {said}"
        )
        return found

    def findings(self, ticket: str) -> set[str]:
        """Types of what a person must look at."""
        return {finding.type for finding in self.ticket(ticket).findings}

    def _caller(self, name: str) -> Caller:
        return self.desk.caller(f"human:{name}@example.com", "test")


@contextmanager
def office(h: Harness) -> Iterator[Office]:
    """One for the length of a check."""
    with tempfile.TemporaryDirectory(prefix="muniment-conformance-") as folder:
        made = Office(h, Path(folder))
        try:
            yield made
        finally:
            made.desk.store.engine.dispose()


@cache
def _policy() -> CedarPolicy:
    return CedarPolicy(starter.files())


def more(h: Harness) -> Callable[[Order], Order]:
    """Both privileges, whatever was asked."""
    return lambda order: replace(order, scope=scope(h.privileges))
