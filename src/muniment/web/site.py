"""All pages, for whoever serves them."""

from __future__ import annotations

from itertools import chain

from muniment.api.routes import Route
from muniment.web import (
    asking,
    assets,
    audit,
    certifying,
    entering,
    home,
    ledger,
    lists,
    narrowing,
    people,
    policy,
    tickets,
)

ROUTES: tuple[Route, ...] = tuple(
    chain(
        home.routes,
        entering.routes,
        asking.routes,
        tickets.routes,
        lists.routes,
        certifying.routes,
        people.routes,
        audit.routes,
        policy.routes,
        ledger.routes,
        narrowing.routes,
        assets.routes,
    )
)
