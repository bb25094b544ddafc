"""Inventories of targets, and what they found."""

from __future__ import annotations

from muniment.api import answers, bodies
from muniment.api.routes import Call, Routes
from muniment.service import inventories
from muniment.service.documents import Document

routes = Routes("targets")


@routes.post("/v1/targets/{target}/inventories", answer=answers.Inventory, status=201, work=True, heavy=True)
def take_inventory(call: Call) -> Document:
    """Ask a target for everything that it holds, and put it on record."""
    taken = inventories.take_for(call.desk, call.caller, call.names["target"])
    return inventories.document(taken, kept=True)


@routes.get("/v1/targets/{target}/inventories", query=bodies.Inventories, answer=answers.Inventories)
def list_inventories(call: Call) -> Document:
    """List the inventories of a target, newest first."""
    query: bodies.Inventories = call.query
    every = inventories.listed(call.desk, call.caller, call.names["target"])
    # the id that ended the last page; ids sort by time
    rest = [each for each in every if query.cursor is None or each["inventory"] < query.cursor]
    page = rest[: query.limit]
    return {"items": page, "next": page[-1]["inventory"] if len(rest) > len(page) else None}


@routes.get(
    "/v1/targets/{target}/inventories/{inventory}",
    query=bodies.Items,
    answer=answers.InventoryItems,
    heavy=True,
)
def get_inventory(call: Call) -> Document:
    """Show what an inventory found; ``newest`` names the last one."""
    query: bodies.Items = call.query
    named = call.names["inventory"]
    return inventories.shown(
        call.desk, call.caller, call.names["target"], None if named == "newest" else named,
        account=query.account, privilege=query.privilege, after=int(query.cursor or 0), limit=query.limit,
    )  # fmt: skip
