"""The ledger: how far it is sealed, signed, published and confirmed by others, and how to verify it elsewhere."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from muniment.api.routes import Call, Plain, Routes
from muniment.core.visibility import SEES_ALL
from muniment.service import lookout
from muniment.web.pages import show
from muniment.web.taking import Row, every, file

routes = Routes("pages")

SHOWN, PAGE = 20, 1000


class Wanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which checkpoints."""

    before: Annotated[int, Meta(ge=1, lt=1 << 53)] | None = None


@routes.get("/ledger", query=Wanted, answer="text/html", browser=True, roles=SEES_ALL)
def show_ledger(call: Call) -> Plain:
    """Show where the ledger stands."""
    wanted: Wanted = call.query
    found = lookout.look(call.desk, call.caller, before=wanted.before, limit=SHOWN)
    more = found.checkpoints[-1].size if len(found.checkpoints) == SHOWN else None
    return show(call, "ledger.html", ledger=found, before=wanted.before, more=more, url=call.office.url)


@routes.get("/checkpoints.csv", answer="text/csv", browser=True, work=True, heavy=True, roles=SEES_ALL)
def take_checkpoints(call: Call) -> Plain:
    """Take the list of checkpoints along."""

    def page(before: str | None) -> tuple[list[Row], str | None]:
        found = lookout.checkpoints(
            call.desk, call.caller, before=int(before) if before else None, limit=PAGE
        )
        rows: list[Row] = [(c.size, c.at.isoformat(), "; ".join(c.witnesses), c.stamps) for c in found]
        return rows, str(found[-1].size) if len(found) == PAGE else None

    return file("checkpoints", ("entries", "signed at", "witnesses", "time-stamps"), every(page))
