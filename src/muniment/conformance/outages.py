"""Outages: a target that does not answer is said not to answer, in time, and nothing is believed of it (I20)."""

from __future__ import annotations

import time

from muniment.conformance.harness import (
    Check,
    ConformanceFailure,
    Harness,
    NotApplicable,
    Outage,
    no_secret,
    order_for,
    provision,
    require,
    revoke,
    same,
    yes,
)
from muniment.core.errors import TargetUnavailable

CHECKS: list[Check] = []


@CHECKS.append
def a_stopped_target_is_said_to_be_so(h: Harness) -> None:
    _unavailable(h, "stopped")


@CHECKS.append
def a_silent_target_is_said_to_be_so_in_time(h: Harness) -> None:
    _unavailable(h, "silent")


@CHECKS.append
def a_slow_target_is_given_up_in_time(h: Harness) -> None:
    """Whether a call took effect nobody knows then. Afterwards the target is asked, and an order states an end."""
    _unavailable(h, "slow")


def _unavailable(h: Harness, kind: Outage) -> None:
    given = provision(h, order_for(h, 0))
    order = order_for(h, 1)
    cut = h.outage(kind)
    if cut is None:
        raise NotApplicable(f"the target cannot be made {kind}")
    connector = h.impatient()
    with cut:
        for call in (
            lambda: connector.observe([order.account]),
            lambda: connector.provision([order], yes),
            lambda: connector.revoke(given, yes),
        ):
            started = time.monotonic()
            try:
                call()
            except TargetUnavailable as error:
                no_secret(h, f"{error.message} {error.remedy} {error!r} {error.__cause__!r}")
            else:
                raise ConformanceFailure(f"a target that is {kind} did not raise TargetUnavailable")
            took = time.monotonic() - started
            require(took < h.timeout.total_seconds() + 1, f"TargetUnavailable came after {took:.1f} s")
        report = connector.check()
        require(not report.reachable and bool(report.problems), "check finds nothing wrong")
        no_secret(h, " ".join((*report.details, *report.problems)))
    revoke(h, *given, order)
    same(h.holds(h.accounts[0]), (), "the target, when it was back")
    same(h.holds(h.accounts[1]), (), "the target, when it was back")
