"""What a check is told of a connector and its target, and how it answers."""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol, TypeAlias

from msgspec.structs import replace

from muniment.core.scope import Privilege, Scope, scope
from muniment.ports import Connector, Order, Outcome

#: stopped: the target is not there. silent: it accepts, and never answers. slow: each answer takes longer than a call may
Outage: TypeAlias = Literal["stopped", "silent", "slow"]


class ConformanceFailure(AssertionError):
    """The connector does not do what `muniment.ports.Connector` asks."""


class NotApplicable(Exception):
    """The target has no such thing, or the harness no way to try it."""


class NotInstalled(Exception):
    """What the ground needs is not on this machine; the message says how to get it."""


class NeedsRoot(NotInstalled):
    """The ground starts for root alone, which no installation changes."""


class NeedsBuilding(NotInstalled):
    """What the ground needs is in no package, and takes long to build. A run of all tests is complete without it."""


class Live(Protocol):
    """Somebody's open session on the target."""

    def alive(self) -> bool:
        """Whether it still answers."""

    def close(self) -> None:
        """End it, if it has not ended."""


class Harness(ABC):
    """A target made ready: nobody holds any of ``privileges``. All goes past the connector.

    Only the first three must be answered. What is left as it is here is `NotApplicable`, and the check that needs it says
    so: answer as much as you can. Names are of this harness alone where the target is shared.
    """

    connector: Connector
    accounts: tuple[str, str]  # they exist
    privileges: tuple[Privilege, Privilege]  # they exist
    #: an account and scope that `validate` lets pass and the target refuses
    impossible: tuple[str, Scope] | None = None
    timeout: timedelta = timedelta(seconds=10)  # for one call, of the connector that waits for an outage
    secrets: Sequence[str] = ()  # what may appear in no message
    #: the target asks at each request what is held: a session loses it at once, and there is none to end or to count
    asked_each_time: bool = False

    @abstractmethod
    def holds(self, account: str) -> Scope:
        """What the target itself says this account holds."""

    @abstractmethod
    def everything(self) -> Any:
        """All that anybody holds, and all else that a connector could change; comparable with an earlier answer."""

    def hold(self, account: str, privilege: Privilege) -> None:
        """Give a privilege past us, as somebody else would."""
        del account, privilege
        raise NotApplicable("nobody gives a privilege here but the connector")

    def take(self, account: str, privilege: Privilege) -> None:
        """Take a privilege away past us, also one that we gave."""
        del account, privilege
        raise NotApplicable("nobody takes a privilege here but the connector")

    def nest(self, inner: Privilege, outer: Privilege) -> None:
        """Arrange that whoever holds ``inner`` has ``outer`` by that."""
        del inner, outer
        raise NotApplicable("no privilege here brings another")

    def delete_account(self, account: str) -> None:
        """Delete the account by hand, with whatever it holds."""
        del account
        raise NotApplicable("an account here is nothing that could be deleted")

    def delete_privilege(self, privilege: Privilege) -> None:
        """Delete the privilege by hand, with all who hold it."""
        del privilege
        raise NotApplicable("a privilege here is nothing that could be deleted")

    def impatient(self) -> Connector:
        """The same connector, giving up after ``timeout``; only what waits for an outage need be so short of time."""
        return self.connector

    def now(self) -> datetime:
        """The instant by which orders expire later."""
        return datetime.now(UTC)

    def public_key(self, account: str) -> str | None:
        """The key for this account's orders, where the connector needs one."""
        del account
        return None

    def open_session(self, account: str, privilege: Privilege) -> Live | None:
        """Open a session that makes use of the privilege the account holds now; None if there are no sessions."""
        del account, privilege
        return None

    def outage(self, kind: Outage) -> AbstractContextManager[None] | None:
        """Take the target away for the length of a block; None if that cannot be arranged."""
        del kind
        return None

    def pass_time(self, until: datetime) -> bool:
        """Wait until the target thinks it is then; False if that cannot be arranged."""
        del until
        return False


def really(harness: Harness, until: datetime) -> bool:
    """`Harness.pass_time` of a target whose clock nobody sets: wait."""
    time.sleep(max(0.0, (until - harness.now()) / timedelta(seconds=1)))
    return True


class Ground(Protocol):
    """A real target that is running, for as long as harnesses are made on it.

    A module registers its own as ``GROUNDS`` under the entry point group ``muniment.connector_grounds``: a mapping of a
    name like "postgresql-18" to a function that returns a context manager of this. It raises `NotInstalled`.
    """

    version: str  # of the target, as it says itself: "PostgreSQL 18.6"

    def harness(self) -> AbstractContextManager[Harness]:
        """Names that nobody used before, and a connector for them."""


Check: TypeAlias = Callable[[Harness], None]


# ── what checks are written with ──


def order_for(h: Harness, number: int, *privileges: Privilege) -> Order:
    """An order of the first privilege, or of these, for one of the two accounts."""
    account = h.accounts[number]
    return Order(
        ticket=f"conformance-{secrets.token_hex(8)}",
        account=account,
        scope=scope(privileges or h.privileges[:1]),
        expires_at=h.now().replace(microsecond=0) + timedelta(hours=1),
        public_key=h.public_key(account),
    )


def provision(h: Harness, *orders: Order) -> list[Order]:
    """Provision; return the orders as they are kept for revoking."""
    outcomes = matching(orders, h.connector.provision(orders, yes))
    for outcome in outcomes:
        require(outcome.result == "done", f"provisioning answered {outcome.result}: {outcome.message}")
    return [replace(order, handle=o.handle) for order, o in zip(orders, outcomes, strict=True)]


def revoke(h: Harness, *orders: Order) -> list[Outcome]:
    """Revoke; all must be done."""
    outcomes = matching(orders, h.connector.revoke(orders, yes))
    for outcome in outcomes:
        require(outcome.result == "done", f"revoking answered {outcome.result}: {outcome.message}")
    return outcomes


def matching(orders: Sequence[Order], outcomes: list[Outcome]) -> list[Outcome]:
    """The outcomes, which must be one an order, in the same order."""
    same([o.ticket for o in outcomes], [o.ticket for o in orders], "the outcomes' tickets")
    return outcomes


def same(found: Any, expected: Any, what: str) -> None:
    """Fail unless they are equal; of two lists only what differs is shown."""
    if found == expected:
        return
    if isinstance(found, list) and isinstance(expected, list):
        found, expected = (
            [each for each in found if each not in expected],
            [each for each in expected if each not in found],
        )
    raise ConformanceFailure(f"{what}: expected {expected!r:.1000}, found {found!r:.1000}")


def require(holds: bool, sentence: str) -> None:
    """Fail with the sentence unless it holds."""
    if not holds:
        raise ConformanceFailure(sentence)


def no_secret(h: Harness, text: str) -> None:
    """Fail if a message holds a secret (I31)."""
    require(not any(secret in text for secret in h.secrets), "a message holds a secret")


def yes() -> None:
    """The lease is still ours."""
