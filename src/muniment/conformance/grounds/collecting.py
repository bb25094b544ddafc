"""A connector whose credentials are kept, as the beneficiaries would collect them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from muniment.ports import Order, Outcome


class Collecting:
    """The connector itself, but for ``collected``: the newest credential of each account."""

    def __init__(self, real: Any) -> None:
        self._real, self.collected = real, dict[str, bytes]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """Its own."""
        outcomes: list[Outcome] = self._real.provision(orders, confirm)
        for order, outcome in zip(orders, outcomes, strict=True):
            if outcome.credential is not None:
                self.collected[order.account] = outcome.credential
        return outcomes
