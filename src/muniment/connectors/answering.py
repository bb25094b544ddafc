"""What several connectors answer in the same way."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Literal

from muniment import delivery
from muniment.core.errors import Invalid, TargetUnavailable
from muniment.core.instants import wire
from muniment.core.scope import Scope
from muniment.ports import CheckReport, Connector, Order, Outcome


def no(order: Order, code: str, message: str) -> Outcome:
    """The target's no to one order; ``code`` without "target."."""
    return Outcome(ticket=order.ticket, result="rejected", code=f"target.{code}", message=message)


def unknown(order: Order, code: str, message: str, *, ended: int = 0) -> Outcome:
    """One order may or may not have taken effect; ``code`` without "target.". ``ended`` sessions are over by now."""
    return Outcome(
        ticket=order.ticket, result="unknown", code=f"target.{code}", message=message, sessions_ended=ended
    )


def later(order: Order) -> Outcome:
    """What was done for others counts, so that a long batch gets to its end at last."""
    return unknown(order, "unavailable", "there was no time left for it in this call")


def sealed(
    order: Order,
    kind: Literal["login", "token"],
    env: dict[str, str],
    ends: datetime | None = None,
    *,
    files: dict[str, str] | None = None,
    wrapped: tuple[str, ...] = (),
) -> bytes:
    """What the beneficiary alone can open; it ends with the order if it does not before. Raises `Invalid`."""
    issued = delivery.Issued(
        kind=kind, env=env, files=files or {}, wrapped=wrapped, expires_at=wire(ends or order.expires_at)
    )
    return delivery.seal(issued, order.public_key or "")


def fault(connector: Connector, account: str, scope: Scope, key: str | None = None) -> str | None:
    """Why the connector's target cannot have such names, or such a key; None if it can."""
    try:
        connector.validate(account, scope, key)
    except Invalid as error:
        return error.message
    return None


def unreachable(error: TargetUnavailable) -> CheckReport:
    """Of a target that did not answer."""
    problem = f"{error.message}. {error.remedy}".strip()
    return CheckReport(reachable=False, details=(), problems=(problem,))


def last_look(confirm: Callable[[], None]) -> float:
    """The last moment to find out that the work is another's; the seconds it took, which are not the target's."""
    started = time.monotonic()
    confirm()
    return time.monotonic() - started
