"""Whom signals disabled, and lifting that, which takes two people."""

from __future__ import annotations

from muniment.api import answers, bodies
from muniment.api.routes import Call, Routes
from muniment.service import lifting
from muniment.service.documents import Document

routes = Routes("signals")


@routes.get("/v1/disablements", answer=answers.Disablements)
def list_disablements(call: Call) -> Document:
    """List whom signals disabled. For operators, auditors, and those who may agree to lift it."""
    return {"items": lifting.listed(call.desk, call.caller), "next": None}


@routes.post("/v1/disablements/lift", body=bodies.Lift, answer=answers.Disablement)
def lift_disablement(call: Call) -> Document:
    """Propose that a disablement is lifted, or agree to what another operator proposed; then it is over at once."""
    asked: bodies.Lift = call.body
    return lifting.lift(call.desk, call.caller, asked.identity, asked.reason)
