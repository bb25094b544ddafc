"""What every connector must do, as checks that anybody can run against theirs.

1. write a `Harness`: your connector, a real target, and ways to ask that target without the connector
2. run each of `CHECKS` with a fresh harness. With pytest, parametrise over them and turn `NotApplicable` into a
   skip; without it, use `run`

A check raises `ConformanceFailure` with a sentence, or `NotApplicable` if the target has no such thing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

import msgspec
from msgspec.structs import replace

from muniment.core.errors import Invalid, LeaseLost, TargetUnavailable
from muniment.core.scope import Privilege, Scope, scope
from muniment.ports import Connector, Order, Outcome

#: names that two people read differently, or nobody can read: refused before they reach a target
MISLEADING = ("", "nul\0x", "line\nx", "\u202etxt", "zero\u200bwidth", "esc\x1b[2J", "x" * 10_000)
#: names that mean something to some language: held exactly as written, or refused, and nothing else
HOSTILE = (
    'x"; DROP ROLE y; --', "x'; SELECT 1; --", "a" * 64, "*)(uid=*", "$(id)", "`id`", "../x", "x,y", "%s", "{0}",
    "public", "-x", "\u0430dmin", "x\\", "cn=x,dc=y", "*",
)  # fmt: skip


class ConformanceFailure(AssertionError):
    """The connector does not do what `muniment.ports.Connector` asks."""


class NotApplicable(Exception):
    """The target has no such thing, or the harness no way to try it."""


class Live(Protocol):
    """Somebody's open session on the target."""

    def alive(self) -> bool:
        """Whether it still answers."""

    def close(self) -> None:
        """End it, if it has not ended."""


class Harness(Protocol):
    """A target made ready: nobody holds any of ``privileges``. Except for ``connector``, all goes past the connector."""

    connector: Connector
    accounts: tuple[str, str]  # they exist
    privileges: tuple[Privilege, Privilege]  # they exist
    impossible: (
        tuple[str, Scope] | None
    )  # an account and scope that `validate` lets pass and the target refuses
    timeout: timedelta  # the connector's, for one call
    secrets: Sequence[str]  # what may appear in no message

    def now(self) -> datetime:
        """The instant by which orders expire later."""

    def public_key(self, account: str) -> str | None:
        """The key for this account's orders, where the connector needs one."""

    def holds(self, account: str) -> Scope:
        """What the target itself says this account holds."""

    def hold(self, account: str, privilege: Privilege) -> None:
        """Give a privilege past us; `NotApplicable` if only the connector can."""

    def everything(self) -> Any:
        """All that anybody holds, comparable with an earlier answer."""

    def open_session(self, account: str, privilege: Privilege) -> Live | None:
        """Open a session that makes use of the privilege the account holds now."""

    def unreachable(self) -> AbstractContextManager[None] | None:
        """Cut the target off, or make it hang, for the length of a block."""

    def pass_time(self, until: datetime) -> bool:
        """Wait until the target thinks it is then; False if that cannot be arranged."""


Check = Callable[[Harness], None]
#: every check; its name says what must hold
CHECKS: list[Check] = []


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How one check went."""

    check: str
    verdict: Literal["passed", "failed", "not applicable"]
    message: str = ""


def run(harness: Callable[[], AbstractContextManager[Harness]]) -> Iterator[Result]:
    """Run all checks, each on a harness of its own. Whatever a check raises is its failure."""
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        try:
            with harness() as ready:
                check(ready)
        except NotApplicable as reason:
            yield Result(check=name, verdict="not applicable", message=str(reason))
        except Exception as error:  # noqa: BLE001 - it is reported, and the other checks still tell something
            yield Result(check=name, verdict="failed", message=f"{type(error).__name__}: {error}")
        else:
            yield Result(check=name, verdict="passed")


@CHECKS.append
def what_is_provisioned_the_target_itself_shows(h: Harness) -> None:
    order = _order(h, 0, *h.privileges)
    _provision(h, order)
    _same(h.holds(order.account), order.scope, "the target, after provisioning")
    _same(h.connector.observe([order.account]).of(order.account), order.scope, "observe, after provisioning")
    _same(h.holds(h.accounts[1]), (), "the other account")


@CHECKS.append
def provisioning_twice_equals_once(h: Harness) -> None:
    order = _order(h, 0)
    _provision(h, order)
    once = h.everything()
    given = _provision(h, order)
    _same(h.everything(), once, "the target, after provisioning twice")
    _revoke(h, *given)
    _same(h.holds(order.account), (), "the target, after one revocation")


@CHECKS.append
def revoking_twice_equals_once(h: Harness) -> None:
    before = h.everything()
    given = _provision(h, _order(h, 0))
    _revoke(h, *given)
    _revoke(h, *given)
    _same(h.everything(), before, "the target, after revoking twice")


@CHECKS.append
def revoking_needs_nothing_that_a_crash_can_lose(h: Harness) -> None:
    order = _order(h, 0)
    _provision(h, order)
    _revoke(h, order)  # without the handle
    _same(h.holds(order.account), (), "the target")


@CHECKS.append
def revoking_what_was_never_held_succeeds(h: Harness) -> None:
    before = h.everything()
    _revoke(h, _order(h, 0))
    _same(h.everything(), before, "the target")


@CHECKS.append
def an_empty_batch_does_nothing(h: Harness) -> None:
    _require(h.connector.provision([], _yes) == [], "provisioning nothing has an outcome")
    _require(h.connector.revoke([], _yes) == [], "revoking nothing has an outcome")


@CHECKS.append
def only_what_was_added_is_removed(h: Harness) -> None:
    first, second = h.privileges
    h.hold(h.accounts[0], second)
    h.hold(h.accounts[1], first)
    before = h.everything()
    _revoke(h, *_provision(h, _order(h, 0)))
    _same(h.everything(), before, "the target, after a whole life")


@CHECKS.append
def what_others_gave_is_observed(h: Harness) -> None:
    first, second = h.privileges
    given = _provision(h, _order(h, 0))
    h.hold(h.accounts[0], second)
    seen = h.connector.observe([h.accounts[0]])
    _same(seen.of(h.accounts[0]), scope((first, second)), "observe")
    _require(
        {item.account for item in seen.holdings} == {h.accounts[0]}, "observe shows others than asked for"
    )
    _revoke(h, *given)
    _same(h.connector.observe([h.accounts[0]]).of(h.accounts[0]), (second,), "observe, after revoking")


@CHECKS.append
def what_is_given_has_its_kind(h: Harness) -> None:
    can = h.connector.capabilities
    collected = can.grant not in {"entitlement", "workload_entitlement"}
    _require(
        can.issues_credential is collected, f"a grant is a {can.grant}, and issues_credential says otherwise"
    )


@CHECKS.append
def everybody_is_observed(h: Harness) -> None:
    if not h.connector.capabilities.lists_everything:
        raise NotApplicable("the target cannot list everything")
    _provision(h, _order(h, 0), _order(h, 1))
    seen = h.connector.observe(None)
    for account in h.accounts:
        _same(seen.of(account), (h.privileges[0],), f"observe(None), of {account}")
    with suppress(NotApplicable):
        h.hold(h.accounts[1], h.privileges[1])
        _same(
            h.connector.observe(None).of(h.accounts[1]),
            scope(h.privileges),
            "observe(None), of others' grants",
        )


@CHECKS.append
def an_unknown_account_holds_nothing(h: Harness) -> None:
    _same(h.connector.observe(["muniment-nobody"]).holdings, (), "observe, of an account that is not there")
    _same(h.connector.observe([]).holdings, (), "observe, of no account")


@CHECKS.append
def orders_in_a_batch_are_independent(h: Harness) -> None:
    first, second = _provision(h, _order(h, 0), _order(h, 1))
    _revoke(h, second)
    _same(h.holds(first.account), first.scope, "the account that was not revoked")
    _same(h.holds(second.account), (), "the account that was")
    _revoke(h, second, first)
    _same(h.holds(first.account), (), "the target")


@CHECKS.append
def a_rejected_order_harms_no_other(h: Harness) -> None:
    if h.impossible is None:
        raise NotApplicable("the target rejects nothing that is well-formed")
    account, wanted = h.impossible
    bad = replace(_order(h, 0), account=account, scope=wanted)
    good = _order(h, 1), _order(h, 0)
    outcomes = _outcomes((good[0], bad, good[1]), h.connector.provision([good[0], bad, good[1]], _yes))
    _require([o.result for o in outcomes] == ["done", "rejected", "done"], f"outcomes are {outcomes}")
    _require(outcomes[1].code.startswith("target."), "the rejection has no code that begins with target.")
    _require(bool(outcomes[1].message), "the rejection has no message")
    for order in good:
        _same(h.holds(order.account), order.scope, f"the target, of {order.account}")


@CHECKS.append
def a_lost_lease_changes_nothing(h: Harness) -> None:
    def lost() -> None:
        raise LeaseLost("another worker holds the work")

    given = _provision(h, _order(h, 0))
    before = h.everything()
    for call, orders in ((h.connector.provision, [_order(h, 1)]), (h.connector.revoke, given)):
        try:
            call(orders, lost)
        except LeaseLost:
            _same(h.everything(), before, "the target, after a lost lease")
        else:
            raise ConformanceFailure("LeaseLost did not reach the caller")


@CHECKS.append
def confirm_is_called_once_and_before_the_change(h: Harness) -> None:
    seen: list[Scope] = []
    order = _order(h, 0)

    def spy() -> None:
        seen.append(h.holds(order.account))

    [outcome] = h.connector.provision([order], spy)
    _require(seen == [()], f"provision called confirm {len(seen)} times, and it saw {seen}")
    seen.clear()
    h.connector.revoke([replace(order, handle=outcome.handle)], spy)
    _require(seen == [order.scope], f"revoke called confirm {len(seen)} times, and it saw {seen}")


@CHECKS.append
def hostile_names_are_refused_or_kept_as_they_are(h: Harness) -> None:
    for name in (*MISLEADING, *HOSTILE):
        plain = _order(h, 0)
        strange = scope([Privilege(privilege=name)])
        for order in (replace(plain, account=name), replace(_order(h, 0), scope=strange)):
            before, refused = h.everything(), False
            try:
                h.connector.validate(order.account, order.scope)
            except Invalid:
                refused = True
            _require(refused or name not in MISLEADING, f"validate lets {name[:20]!r} pass")
            # what validate refuses must do no harm either, should it come by another way
            [outcome] = _outcomes((order,), h.connector.provision([order], _yes))
            _require(
                not (refused and outcome.result == "done"), f"{name[:20]!r} was refused, then provisioned"
            )
            if outcome.result == "done":
                _same(h.connector.observe([order.account]).of(order.account), order.scope, f"{name[:20]!r}")
            else:
                _same(h.everything(), before, f"the target, after {name[:20]!r} was not provisioned")
            _outcomes((order,), h.connector.revoke([replace(order, handle=outcome.handle)], _yes))
            _same(h.everything(), before, f"the target, after {name[:20]!r} was revoked")


@CHECKS.append
def an_unreachable_target_is_said_to_be_so_in_time(h: Harness) -> None:
    given = _provision(h, _order(h, 0))
    order = _order(h, 1)
    cut = h.unreachable()
    if cut is None:
        raise NotApplicable("the target cannot be cut off")
    with cut:
        for call in (
            lambda: h.connector.observe([order.account]),
            lambda: h.connector.provision([order], _yes),
            lambda: h.connector.revoke(given, _yes),
        ):
            started = time.monotonic()
            try:
                call()
            except TargetUnavailable as error:
                _no_secret(h, f"{error.message} {error.remedy} {error!r} {error.__cause__!r}")
            else:
                raise ConformanceFailure("an unreachable target did not raise TargetUnavailable")
            took = time.monotonic() - started
            _require(took < h.timeout.total_seconds() + 1, f"TargetUnavailable came after {took:.1f} s")
        report = h.connector.check()
        _require(not report.reachable and bool(report.problems), "check finds nothing wrong")
        _no_secret(h, " ".join((*report.details, *report.problems)))
    _revoke(h, *given, order)
    _same(h.holds(h.accounts[0]), (), "the target, when it was back")


@CHECKS.append
def native_expiry_ends_the_access(h: Harness) -> None:
    if not h.connector.capabilities.native_expiry:
        raise NotApplicable("the target ends nothing by itself")
    end = h.now().replace(microsecond=0) + timedelta(seconds=3)
    order = replace(_order(h, 0), expires_at=end)
    [outcome] = h.connector.provision([order], _yes)
    _require(outcome.native_expiry == end, f"it was told {end} and answers {outcome.native_expiry}")
    _same(h.holds(order.account), order.scope, "the target, before the end")
    if not h.pass_time(end + timedelta(seconds=1)):
        raise NotApplicable("the harness cannot wait for the end")
    _same(h.holds(order.account), (), "the target, after the end")
    _same(h.connector.observe([order.account]).of(order.account), (), "observe, after the end")


@CHECKS.append
def revoking_ends_open_sessions(h: Harness) -> None:
    given = _provision(h, _order(h, 0))
    live = h.open_session(h.accounts[0], h.privileges[0])
    if live is None:
        raise NotApplicable("the target has no sessions")
    try:
        if not h.connector.capabilities.ends_sessions:
            raise NotApplicable("the connector does not end sessions, and says so")
        _require(live.alive(), "the session did not live to begin with")
        [outcome] = _revoke(h, *given)
        _require(not live.alive(), "a session opened with the grant outlived the revocation")
        _require(outcome.sessions_ended >= 1, "the ended session was not counted")
    finally:
        live.close()


@CHECKS.append
def threads_do_not_disturb_each_other(h: Harness) -> None:
    def lives(number: int) -> None:
        for _ in range(10):
            given = _provision(h, _order(h, number))
            _same(h.connector.observe([given[0].account]).of(given[0].account), given[0].scope, "observe")
            _revoke(h, *given)
            _same(h.holds(given[0].account), (), "the target")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lives, (0, 1)))


def _order(h: Harness, number: int, *privileges: Privilege) -> Order:
    account = h.accounts[number]
    return Order(
        ticket=f"conformance-{secrets.token_hex(8)}",
        account=account,
        scope=scope(privileges or h.privileges[:1]),
        expires_at=h.now().replace(microsecond=0) + timedelta(hours=1),
        public_key=h.public_key(account),
    )


def _provision(h: Harness, *orders: Order) -> list[Order]:
    """Provision; return the orders as they are kept for revoking."""
    outcomes = _outcomes(orders, h.connector.provision(orders, _yes))
    for outcome in outcomes:
        _require(outcome.result == "done", f"provisioning answered {outcome.result}: {outcome.message}")
    return [replace(order, handle=o.handle) for order, o in zip(orders, outcomes, strict=True)]


def _revoke(h: Harness, *orders: Order) -> list[Outcome]:
    outcomes = _outcomes(orders, h.connector.revoke(orders, _yes))
    for outcome in outcomes:
        _require(outcome.result == "done", f"revoking answered {outcome.result}: {outcome.message}")
    return outcomes


def _outcomes(orders: Sequence[Order], outcomes: list[Outcome]) -> list[Outcome]:
    _same([o.ticket for o in outcomes], [o.ticket for o in orders], "the outcomes' tickets")
    return outcomes


def _no_secret(h: Harness, text: str) -> None:
    _require(not any(secret in text for secret in h.secrets), "a message holds a secret")


def _same(found: Any, expected: Any, what: str) -> None:
    _require(found == expected, f"{what}: expected {expected!r}, found {found!r}")


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise ConformanceFailure(sentence)


def _yes() -> None:
    """The lease is still ours."""
