"""The documents that scripts, the API and the pages read: exactly the shapes of the public contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from muniment.core.closure import run_checks
from muniment.core.events import TextErased
from muniment.core.instants import iso_duration, shortened, wire
from muniment.core.login import Login
from muniment.core.ticket import Recorded, Ticket, Use
from muniment.core.use import RightSize
from muniment.core.verdict import Stage
from muniment.evidence.rules import ERASURE
from muniment.ports import Target
from muniment.service.approvers import missing
from muniment.service.desk import Desk
from muniment.service.filing import Preview
from muniment.service.past_use import late_uses, whole_use

Document = dict[str, Any]
#: what stands where a text was erased, which the ledger says, and where it is not there for no recorded reason
ERASED, MISSING = "(erased)", "(missing)"
#: of a stage, in lists: one ticket by itself says more
_NOBODY = "nobody could decide it when that was last looked up"


def ticket_documents(desk: Desk, tickets: Sequence[Ticket]) -> list[Document]:
    """Ticket documents, with the texts that their commitments stand for, in a few queries however many."""
    unsealed, texts = desk.views.beside(
        [t.id for t in tickets], [c for t in tickets for c in _commitments(t)]
    )
    return _documents(desk, tickets, [t.version - unsealed.get(t.id, 0) for t in tickets], texts)


def _documents(
    desk: Desk, tickets: Sequence[Ticket], sealed: Sequence[int], texts: dict[str, str]
) -> list[Document]:
    # to be told from what is missing, which nothing explains
    erased = erasures(desk, [t.id for t in tickets if any(c not in texts for c in _commitments(t))])
    texts |= {commitment: ERASED for found in erased.values() for commitment in found}
    late = late_uses(desk, [t.id for t in tickets if t.ended])
    reasons = desk.views.texts(r.event.reason for r in _all(erased) if isinstance(r.event, TextErased))
    return [
        _ticket(t, texts, of_it)
        | {"used": use_document(whole_use(t, late[t.id][1] if t.id in late else None))}
        | {"erased": [erasure_document(r, reasons) for r in erased.get(t.id, {}).values()]}
        for t, of_it in zip(tickets, sealed, strict=True)
    ]


def ticket_document(desk: Desk, ticket: Ticket) -> Document:
    """One ticket document; of a stage that nobody can satisfy now it says so, as it was just looked up."""
    document = ticket_documents(desk, [ticket])[0]
    if ticket.status == "pending":
        said = missing(desk, ticket)
        for stage in document["stages"]:
            stage["missing"] = said.get(stage["name"])
    return document


def ticket_document_at(desk: Desk, ticket: Ticket, sealed: int) -> Document:
    """One ticket document as it was when ``sealed`` of its entries were in the tree."""
    return _documents(desk, [ticket], [sealed], desk.views.texts(_commitments(ticket)))[0]


def erasures(desk: Desk, tickets: Iterable[str]) -> dict[str, dict[str, Recorded]]:
    """What is on record as erased, by ticket and commitment."""
    found: dict[str, dict[str, Recorded]] = {}
    for ticket in tickets:
        found[ticket] = {}
        for recorded in desk.store.entries(ERASURE + ticket):
            if isinstance(recorded.event, TextErased):
                found[ticket].setdefault(recorded.event.commitment, recorded)
    return found


def erasure_document(recorded: Recorded, reasons: Mapping[str, str]) -> Document:
    """Which text of a ticket was erased, by whom, when and why."""
    event = recorded.event
    entry, reason = (event.seq, event.reason) if isinstance(event, TextErased) else (None, "")
    return {"entry": entry, "at": shortened(recorded.at), "by": recorded.actor, "reason": reasons.get(reason)}


def _all(erased: Mapping[str, Mapping[str, Recorded]]) -> Iterable[Recorded]:
    return (recorded for found in erased.values() for recorded in found.values())


def preview_document(preview: Preview) -> Document:
    """What a request would come to."""
    return {
        "permitted": preview.permitted,
        "reasons": list(preview.reasons),
        "stages": [stage_document(s) for s in preview.stages],
        "possible_approvers": list(preview.possible_approvers),
        "effective_scope": msgspec.to_builtins(preview.effective_scope),
        "longest_duration": iso_duration(preview.longest_duration) if preview.longest_duration else None,
        "right_size": right_size_document(preview.right_size),
    }


def right_size_document(found: RightSize | None) -> Document | None:
    """What would have served before, by what was used."""
    if found is None:
        return None
    return {
        "tickets": found.tickets, "scope": msgspec.to_builtins(found.scope), "unused": msgspec.to_builtins(found.narrower),
        "duration": iso_duration(timedelta(seconds=found.duration)), "sentence": found.sentence,
    }  # fmt: skip


def stage_document(stage: Stage) -> Document:
    """One group of people of whom some must approve."""
    return {
        "name": stage.name,
        "needed": stage.needed,
        "approvers": list(stage.approvers),
        "after": list(stage.after or ()),
        "consent": stage.consent is True,
    }


def target_document(target: Target) -> Document:
    """A target and its catalogue, without its credentials."""
    capabilities = target.connector.capabilities
    return {
        "id": target.id,
        "connector": target.kind,
        "environment": target.environment,
        "owners": list(target.owners),
        "privileges": [
            {
                **msgspec.to_builtins(e.privilege),
                "description": e.description,
                "risk": e.risk,
                "bounded": e.bounded,
                "owners": list(e.owners),
            }
            for e in target.catalogue
        ],
        "capabilities": msgspec.to_builtins(capabilities),
    }


def event_document(recorded: Recorded) -> Document:
    """One event of a ticket, as it happened."""
    return {
        "seq": recorded.seq, "at": shortened(recorded.at), "actor": recorded.actor, "via": recorded.via,
        "type": recorded.event.kind, "data": msgspec.to_builtins(recorded.event),
    }  # fmt: skip


def _comparison(t: Ticket) -> Document | None:
    """What was seen beside what was approved; what is too much to list is counted."""
    if t.comparison is None:
        return None
    unlisted = {"unlisted": t.whole.count - len(t.granted or ())} if t.whole else {}
    return {**msgspec.to_builtins(t.comparison), **unlisted}


def _ticket(t: Ticket, texts: Mapping[str, str], sealed: int) -> Document:
    terms = t.terms
    return {
        "id": t.id,
        "status": t.status,
        "kind": terms.kind,
        "requester": terms.requester,
        "beneficiary": terms.beneficiary,
        "target": terms.target,
        "account": terms.account,
        "requested": msgspec.to_builtins(terms.scope),
        "approved": msgspec.to_builtins(t.approved),
        "granted": msgspec.to_builtins(t.granted or ()),
        "justification": texts.get(terms.justification, MISSING),
        "references": {**terms.references, **({"incident": terms.incident} if terms.incident else {})},
        "window": {
            "starts_at": shortened(t.starts_at or terms.starts_at),
            "duration": iso_duration(timedelta(seconds=terms.duration)),
            "expires_at": _instant(t.expiry),
        },
        "filed_at": shortened(t.filed_at),
        "updated_at": shortened(t.updated_at),
        "lapses_at": _instant(t.lapses_at) if t.status == "pending" else None,
        "digest": t.digest,
        "policy": {
            "digest": t.policies,
            "permitted": t.permitted,
            "determining": list(t.determining),
            "reasons": list(t.reasons),
            "obligations": _obligations(t),
        },
        "stages": [
            {
                **stage_document(s), "satisfied": not t.short_of(s), "open": s in t.open_stages(),
                "missing": _NOBODY if s.name in (t.missing or ()) else None,
            }
            for s in t.stages
        ],
        "decisions": [
            {
                "approver": d.approver, "decision": d.decision, "stage": d.stage, "at": shortened(d.at),
                "authority": list(d.authority), "digest": d.digest, "signature": d.signature,
                "comment": texts.get(d.comment, MISSING) if d.comment else None,
                "on_behalf_of": d.on_behalf.by if d.on_behalf else None,
                "delegation": d.on_behalf.id if d.on_behalf else None,
                "login": _login(d.login) if d.login else None,
            }
            for d in t.decisions
        ],
        "offer": _offer(t, texts),
        "reminded_at": shortened(t.reminded_at or None),
        "escalated_at": shortened(t.escalated_at or None),
        "extends": terms.extends or None,
        "responders": list(terms.responders or ()),
        "bundle": list(terms.bundle or ()),
        "comparison": _comparison(t),
        "native_expiry": shortened(t.native_expiry),
        "handle": dict(t.handle),
        "failure": msgspec.to_builtins(t.failure) if t.failure else None,
        "revocation": _revocation(t, texts),
        "review": _review(t, texts),
        "closure": {
            "at": shortened(t.ended_at),
            "checks": [{"check": c.check, "holds": c.holds, "waived": c.waived} for c in t.checks],
        }
        if t.ended_at
        else None,
        "open_checks": [c.check for c in run_checks(t) if not (c.holds or c.waived)]
        if t.status == "revoked"
        else [],
        "findings": [finding_document(t, f.id) for f in t.findings],
        "ledger": {"events": t.version, "sealed": sealed},
    }  # fmt: skip


def finding_document(ticket: Ticket, finding: str) -> Document:
    """One finding; its id outside the ticket is ``TICKET:NUMBER``."""
    found = next(f for f in ticket.findings if f.id == finding)
    return {
        "id": f"{ticket.id}:{found.id}", "ticket": ticket.id, "target": ticket.terms.target, "type": found.type,
        "severity": found.severity, "message": found.message, "scope": msgspec.to_builtins(found.scope),
        "raised_at": shortened(found.raised_at), "resolved_at": shortened(found.resolved_at), "resolved_by": found.resolved_by,
    }  # fmt: skip


def _login(login: Login) -> Document:
    return {
        "method": login.method, "issuer": login.issuer, "subject": login.subject, "at": shortened(login.at),
        "level": login.level, "acr": login.acr,
    }  # fmt: skip


def _offer(t: Ticket, texts: Mapping[str, str]) -> Document | None:
    if not t.offer or t.status != "pending":
        return None
    offered = t.offer.terms
    return {
        "by": t.offer.by, "stage": t.offer.stage, "digest": t.offer.digest, "at": shortened(t.offer.at),
        "scope": msgspec.to_builtins(offered.scope), "duration": iso_duration(timedelta(seconds=offered.duration)),
        "comment": texts.get(t.offer.comment, ERASED),
    }  # fmt: skip


def use_document(use: Use | None) -> Document | None:
    """All use of a ticket's access that is on record."""
    if use is None:
        return None
    return {
        "events": use.events, "first_at": shortened(use.first_at), "last_at": shortened(use.last_at),
        "privileges": msgspec.to_builtins(use.privileges),
    }  # fmt: skip


def _obligations(t: Ticket) -> Document:
    if t.obligations is None:
        return {}
    o = t.obligations
    return {
        "max_duration": iso_duration(timedelta(seconds=o.longest)),
        "lapse_after": iso_duration(timedelta(seconds=o.lapse_after)),
        "review_within": iso_duration(timedelta(seconds=o.review_within))
        if o.review_within is not None
        else None,
        "native_expiry": o.native_expiry,
        "references": list(o.references),
        "references_open": list(o.references_open or ()),
        "witnessed": o.witnessed is True,
        "scope_bounded": o.scope_bounded is True,
        "sessions_cut": o.sessions_cut is True,
        "signed": o.signed is True,
        "assurance": o.assurance or None,
        "notify": list(o.notify or ()),
        "remind_after": _period(o.remind_after),
        "escalate_after": _period(o.escalate_after),
        "escalate_to": list(o.escalate_to or ()),
    }


def _period(seconds: int | msgspec.UnsetType) -> str | None:
    return iso_duration(timedelta(seconds=seconds)) if seconds else None


def _revocation(t: Ticket, texts: Mapping[str, str]) -> Document | None:
    r = t.revocation
    if r is None:
        return None
    return {
        "cause": r.cause, "by": r.by, "reason": texts.get(r.reason, MISSING) if r.reason else None,
        "ordered_at": shortened(r.ordered_at), "observed_gone_at": shortened(r.observed_gone_at), "failure": r.failure,
        "sessions_ended": r.sessions_ended, "attested_by": r.attested_by,
        "kept": [{**msgspec.to_builtins(k.privilege), "ticket": k.ticket} for k in r.kept],
    }  # fmt: skip


def _review(t: Ticket, texts: Mapping[str, str]) -> Document | None:
    r = t.review
    if r is None:
        return None
    comment = texts.get(r.comment, MISSING) if r.comment else None
    return {
        "due_at": shortened(r.due_at), "reviewer": r.reviewer, "outcome": r.outcome, "comment": comment, "at": shortened(r.at)
    }  # fmt: skip


def _commitments(t: Ticket) -> Iterable[str]:
    found = [t.terms.justification, *(d.comment for d in t.decisions)]
    found += [t.offer.comment if t.offer else None]
    found += [t.revocation.reason if t.revocation else None, t.review.comment if t.review else None]
    return [c for c in found if c]


def _instant(instant: datetime | None) -> str | None:
    return shortened(wire(instant)) if instant else None
