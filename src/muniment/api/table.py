"""Everything that can be called, in one table."""

from __future__ import annotations

from itertools import chain
from typing import Any

from litestar.response import ServerSentEvent

from muniment.api import (
    access,
    access_requests,
    campaigns,
    deliveries,
    devices,
    disablements,
    estate,
    findings,
    governing,
    health,
    inventories,
    ledger,
    passkeys,
    scim,
    signals,
    signin,
    tickets,
    usage,
)
from muniment.api.routes import Call, Route, Routes
from muniment.core.errors import Busy

#: streams open at once
MAX_STREAMS = 256

root = Routes("operation")


@root.get("/v1/stream", answer="text/event-stream", quick=True)
def stream(call: Call) -> ServerSentEvent:
    """Follow what happens, as server-sent events in the ledger's order. Goes on after ``Last-Event-ID``."""
    office = call.office
    if office.streams >= MAX_STREAMS:
        raise Busy("too many streams are open", remedy="Ask again later.")
    return ServerSentEvent(office.follow(call), headers={"X-Accel-Buffering": "no"})


@root.get("/openapi.json", answer=dict[str, Any], scope=None, quick=True)
def describe_api(call: Call) -> dict[str, Any]:
    """Get the OpenAPI 3.1 document."""
    described: dict[str, Any] = call.office.described
    return described


#: everything that can be called
TABLE: tuple[Route, ...] = tuple(chain(
    tickets.routes, governing.routes, estate.routes, inventories.routes, findings.routes, campaigns.routes, usage.routes, ledger.routes, access.routes, access_requests.routes, scim.routes,
    signals.routes, disablements.routes, deliveries.routes, signin.routes, devices.routes, passkeys.routes, root, health.routes,
))  # fmt: skip
