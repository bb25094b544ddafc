"""Targets, what they hold, and who the caller is."""

from __future__ import annotations

import msgspec

from muniment.api import answers
from muniment.api.routes import Call, Routes
from muniment.service import looking
from muniment.service.documents import Document
from muniment.service.owing import target_documents

routes = Routes("targets")


@routes.get("/v1/targets", answer=answers.Targets)
def list_targets(call: Call) -> Document:
    """List targets, the privileges that can be asked for, and whether they answer; what is overdue, to whoever may see."""
    return {"items": target_documents(call.desk, call.caller), "next": None}


@routes.get("/v1/targets/{target}/holdings", answer=answers.Holdings)
def list_holdings(call: Call) -> Document:
    """Ask a target what it holds now, and say which ticket explains each holding."""
    return {"items": looking.holdings(call.desk, call.caller, call.names["target"]), "next": None}


@routes.get("/v1/whoami", answer=answers.Whoami)
def whoami(call: Call) -> Document:
    """Say who the caller is here: roles, groups, owners."""
    who = call.caller.identity
    return {**msgspec.to_builtins(who), "kind": who.kind, "via": call.caller.via}
