"""Recertification campaigns: people say which standing access is still needed, and what is not is taken away."""

from __future__ import annotations

import msgspec

from muniment.api import answers, bodies
from muniment.api.routes import Call, Plain, Routes
from muniment.core.campaign import Campaign
from muniment.core.campaign_items import Selection
from muniment.core.identity import parse_identity
from muniment.core.instants import parse_duration, parse_instant, wire
from muniment.service import campaign_documents as documents
from muniment.service import certifying
from muniment.service.certifying import Opening, Where
from muniment.service.documents import Document

routes = Routes("campaigns")


@routes.post(
    "/v1/campaigns", body=bodies.NewCampaign, answer=answers.Campaign, status=201, work=True, heavy=True
)
def open_campaign(call: Call) -> Document:
    """Open a campaign over what stands: the list of items is fixed by this."""
    return _document(call, certifying.open_(call.desk, call.caller, _opening(call.body)))


@routes.post(
    "/v1/campaigns/preview", body=bodies.NewCampaign, answer=answers.CampaignPreview, scope="read", heavy=True
)
def preview_campaign(call: Call) -> Document:
    """Say what a campaign would be about, and who would be asked. Records nothing."""
    selected = certifying.preview(call.desk, call.caller, _opening(call.body))
    return documents.preview_document(selected)


@routes.get("/v1/campaigns", query=bodies.Campaigns, answer=answers.Campaigns)
def list_campaigns(call: Call) -> Document:
    """List the campaigns that the caller may see, by their names."""
    query: bodies.Campaigns = call.query
    found, more = documents.listed(
        call.desk, call.caller, query.status, after=query.cursor or "", limit=query.limit
    )
    return {"items": found, "next": more}


@routes.get("/v1/campaigns/{campaign}", answer=answers.Campaign)
def get_campaign(call: Call) -> Document:
    """Show a campaign: what was asked, how far it is, how reviewers decided."""
    return _document(call, _visible(call))


@routes.get("/v1/campaigns/{campaign}/items", query=bodies.CampaignItems, answer=answers.CampaignItems)
def list_campaign_items(call: Call) -> Document:
    """List its items: to reviewers, those that they are asked about."""
    query: bodies.CampaignItems = call.query
    found, more = documents.items(
        call.desk, call.caller, _visible(call), _where(query), mine=query.mine, after=int(query.cursor or 0),
        limit=query.limit,
    )  # fmt: skip
    return {"items": found, "next": None if more is None else str(more)}


@routes.post(
    "/v1/campaigns/{campaign}/decisions", body=bodies.CampaignDecision, answer=answers.CampaignDecided
)
def decide_campaign(call: Call) -> Document:
    """Say what is to become of items, with the reason. The last word on an item counts, until it is signed off."""
    said: bodies.CampaignDecision = call.body
    made = certifying.decide(
        call.desk, call.caller, call.names["campaign"], _where(said.where), decision=said.decision,
        reason=said.reason,
    )  # fmt: skip
    return _decided(call, made)


@routes.post("/v1/campaigns/{campaign}/reassign", body=bodies.CampaignMove, answer=answers.CampaignDecided)
def reassign_campaign(call: Call) -> Document:
    """Have others asked about items."""
    said: bodies.CampaignMove = call.body
    made = certifying.reassign(
        call.desk, call.caller, call.names["campaign"], _where(said.where), to=said.to, reason=said.reason
    )
    return _decided(call, made)


@routes.post("/v1/campaigns/{campaign}/explain", body=bodies.CampaignExplanation, answer=answers.Campaign)
def explain_campaign(call: Call) -> Document:
    """Say what became of items that were not kept and that nobody can see to be gone."""
    said: bodies.CampaignExplanation = call.body
    name = call.names["campaign"]
    return _document(call, certifying.explain(call.desk, call.caller, name, said.items, said.reason))


@routes.post("/v1/campaigns/{campaign}/close", body=bodies.Comment, answer=answers.Campaign)
def close_campaign(call: Call) -> Document:
    """Sign off what was decided, as somebody who had no part in it. Controllers take away what was revoked, then it closes."""
    said: bodies.Comment = call.body
    return _document(call, certifying.sign_off(call.desk, call.caller, call.names["campaign"], said.comment))


@routes.post("/v1/campaigns/{campaign}/cancel", body=bodies.Reason, answer=answers.Campaign)
def cancel_campaign(call: Call) -> Document:
    """Give a campaign up before it is signed off. Nothing that was decided in it counts."""
    why: bodies.Reason = call.body
    return _document(call, certifying.cancel(call.desk, call.caller, call.names["campaign"], why.reason))


@routes.get("/v1/campaigns/{campaign}/evidence", answer="application/zip", work=True, heavy=True)
def export_campaign(call: Call) -> Plain:
    """Get one file with all items and decisions, and proofs that the ledger has them."""
    name = call.names["campaign"]
    raw = documents.evidence(call.desk, call.caller, name)
    headers = {"Content-Disposition": f'attachment; filename="campaign-{name}.zip"'}
    return Plain(body=raw, media_type="application/zip", headers=headers)


def _visible(call: Call) -> Campaign:
    return certifying.visible(call.desk, call.caller, call.names["campaign"])[1]


def _document(call: Call, campaign: Campaign) -> Document:
    return documents.document(call.desk, call.caller, campaign)


def _decided(call: Call, made: certifying.Decided) -> Document:
    return {
        "campaign": _document(call, made.campaign), "decided": made.decided, "left": documents.as_ranges(made.left)
    }  # fmt: skip


def _opening(asked: bodies.NewCampaign) -> Opening:
    chosen = asked.selection
    due = wire(parse_instant(chosen.due_before, "due_before")) if chosen.due_before else None
    selection = msgspec.convert(msgspec.structs.asdict(chosen) | {"due_before": due}, Selection)
    return Opening(
        name=asked.name, reason=asked.reason, selection=selection, rules=asked.reviewers,
        length=parse_duration(asked.duration), unanswered=asked.unanswered, escalate_to=asked.escalate_to,
        valid_for=parse_duration(asked.valid_for), sample=asked.sample,
        alone=None if asked.singly_from == "none" else asked.singly_from,
    )  # fmt: skip


def _where(query: bodies.CampaignWhere) -> Where:
    given = {field: getattr(query, field) for field in Where.__struct_fields__}
    identity = parse_identity(query.identity) if query.identity is not None else None
    return Where(**(given | {"identity": identity}))
