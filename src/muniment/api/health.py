"""For whoever runs it: alive, ready, and the numbers."""

from __future__ import annotations

from muniment.api import answers
from muniment.api.routes import Call, Plain, Routes
from muniment.core.errors import StoreUnavailable
from muniment.core.identity import Role
from muniment.service.documents import Document

routes = Routes("operation")
WATCHERS: frozenset[Role] = frozenset({"auditor", "operator"})


@routes.get("/healthz", answer=answers.Health, scope=None, quick=True)
def healthz(call: Call) -> Document:
    """Say that the process is alive. It asks nothing of anybody."""
    del call
    return {"status": "ok"}


@routes.get("/readyz", answer=answers.Ready, scope=None)
def readyz(call: Call) -> Document:
    """Say whether requests can be served: the store answers, and the ledger may be added to."""
    call.desk.store.ping()
    if call.desk.store.halted is not None:
        raise StoreUnavailable(
            "nothing is recorded any more: the store is not what was published from it",
            remedy="See `muniment ledger verify` on the node.",
        )
    return {"status": "ok", "store": "ok", "ledger": "ok"}


@routes.get("/metrics", answer="text/plain", scope="metrics", roles=WATCHERS)
def metrics(call: Call) -> Plain:
    """Get the numbers, in Prometheus's text format."""
    body, media_type = call.office.numbers.render()
    return Plain(body=body, media_type=media_type)
