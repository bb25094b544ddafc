"""Use of targets: lines of their logs sent here, and what they came to."""

from __future__ import annotations

import msgspec

from muniment.api import answers, bodies
from muniment.api.routes import Call, Routes
from muniment.core.errors import Invalid
from muniment.service import usage
from muniment.service.documents import Document
from muniment.service.ingesting import Sent

routes = Routes("usage")

#: bytes of a batch
LARGEST = 4 << 20

_encode = msgspec.json.Encoder(order="sorted").encode


@routes.post(
    "/v1/usage", body=bodies.Usage, answer=answers.UsageIngested, work=True, heavy=True, largest=LARGEST
)
def send_usage(call: Call) -> Document:
    """Take a batch of use: events, or lines with their format. Sent again, it changes nothing."""
    said: bodies.Usage = call.body
    if bool(said.events) == bool(said.lines) and said.covers is None:
        raise Invalid("there are neither events nor lines, or both", remedy="Send one of them.")
    if (said.format is None) != (not said.lines):
        raise Invalid(
            "lines and their format go together", remedy='Say format, like "sshd", with lines alone.'
        )
    lines = (
        tuple(line.encode("utf-8", "surrogatepass") for line in said.lines)
        if said.lines
        else tuple(
            _encode({k: v for k, v in msgspec.to_builtins(e).items() if v is not None}) for e in said.events
        )
    )
    covers = usage.period(said.covers.begins, said.covers.ends) if said.covers else None
    sent = Sent(
        target=said.target, source=said.source, format=said.format or "events", lines=lines, covers=covers,
        mapping=said.mapping,
    )  # fmt: skip
    return usage.send(call.desk, call.caller, sent)


@routes.get("/v1/usage", query=bodies.UsageReport, answer=answers.UsageReport, heavy=True)
def usage_report(call: Call) -> Document:
    """What logs cover, how tickets were used, and what would have served."""
    query: bodies.UsageReport = call.query
    return usage.report(
        call.desk, call.caller,
        usage.Wanted(
            target=query.target, beneficiary=query.beneficiary, judgements=query.judgement, after=query.cursor,
            limit=query.limit,
        ),
    )  # fmt: skip


@routes.get("/v1/targets/{target}/usage/check", answer=answers.UsageCheck, heavy=True)
def check_usage(call: Call) -> Document:
    """Whether what is kept of lines is what the ledger has the digests of."""
    return usage.check(call.desk, call.caller, call.names["target"])
