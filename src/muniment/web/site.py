"""All pages, for whoever serves them."""

from __future__ import annotations

from itertools import chain

from muniment.api.routes import Route
from muniment.web import asking, assets, home, lists, tickets

ROUTES: tuple[Route, ...] = tuple(
    chain(home.routes, asking.routes, tickets.routes, lists.routes, assets.routes)
)
