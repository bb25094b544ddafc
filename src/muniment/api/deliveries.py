"""Events on their way to others, for operators."""

from __future__ import annotations

from typing import Any

from muniment.api import answers, bodies
from muniment.api.routes import Call, Routes
from muniment.core.identity import Role
from muniment.core.instants import parse_instant
from muniment.service import sending
from muniment.service.documents import Document

routes = Routes("operation")
OPERATORS: frozenset[Role] = frozenset({"operator"})


@routes.get("/v1/deliveries", answer=answers.Deliveries, roles=OPERATORS)
def list_deliveries(call: Call) -> Document:
    """Say how far each sink is, and how much was given up."""
    return sending.document(sending.states(call.desk, call.office.outward.sinks))


@routes.post("/v1/deliveries/replay", body=bodies.Replay, answer=answers.Replayed, roles=OPERATORS)
def replay_deliveries(call: Call) -> Document:
    """Send again what was given up, or everything of a time. A sink that was closed goes on."""
    asked: Any = call.body
    return sending.replay(
        call.desk,
        sending.named(call.office.outward.sinks, asked.sink),
        since=parse_instant(asked.since, "since") if asked.since is not None else None,
        upto=parse_instant(asked.until, "until") if asked.until is not None else None,
    )
