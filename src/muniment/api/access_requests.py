"""AuthZEN Access Request and Approval Profile, Draft 1: from a denial to a ticket. Experimental, off unless configured.

A denial that could be a request carries an ``evaluation_id`` that binds it to what was asked, and when. Whoever was
denied sends it back with a reason, and follows the task; once that is approved they ask again. An approval's id gives
nothing by itself: what counts is what the target was seen to hold.
"""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta
from typing import Any

import msgspec

from muniment.api import answers, bodies
from muniment.api.dialects import ACCESS_REQUESTS
from muniment.api.routes import Call, Plain, Routes
from muniment.core.errors import Invalid, NotFound, Refused
from muniment.core.identity import parse_identity
from muniment.core.instants import parse_instant
from muniment.core.scope import Privilege
from muniment.service import filing, looking
from muniment.service.desk import Desk
from muniment.service.documents import Document, ticket_document
from muniment.service.filing import Ask

routes = Routes("access")
WHERE = "/access/v1/requests"
#: how long a denial may be answered with a request
DENIAL_LASTS = timedelta(minutes=10)
#: seconds after which an approved request is worth another look
RETRY_AFTER = 2
_ENDS = frozenset({"closed", "revoked", "revoking", "failed", "denied", "withdrawn", "lapsed"})
_STATUSES = {"pending": "pending", "denied": "denied", "lapsed": "expired", "withdrawn": "cancelled"}


@routes.post(
    WHERE,
    body=bodies.AccessRequest,
    answer=answers.AccessTask,
    status=202,
    keyed=True,
    work=True,
    dialect=ACCESS_REQUESTS,
)
def request_access(call: Call) -> Plain:
    """Make a request of a denial (AuthZEN ARAP, draft 1). Experimental."""
    _require_on(call)
    asked: bodies.AccessRequest = call.body
    now = call.desk.clock.now()
    _require_bound(call.desk, asked, now)
    ask = _ask(asked, now)
    document = task_of(call, call.command(lambda caller: filing.file_request(call.desk, caller, ask)))
    where = document["task"]["status_endpoint"]
    status = 202 if document["task"]["status"] == "pending" else 201
    return Plain(
        body=msgspec.json.encode(document),
        media_type="application/json",
        headers={"Location": where},
        status=status,
    )


@routes.get(f"{WHERE}/{{ticket}}", answer=answers.AccessTask, dialect=ACCESS_REQUESTS)
def get_access_task(call: Call) -> Document:
    """Say what became of a request for access. Experimental."""
    _require_on(call)
    return task_of(call, ticket_document(call.desk, looking.show(call.desk, call.caller, call.ticket)))


def denial(call: Call, asked: bodies.Evaluation) -> Document | None:
    """The context of a denial that could be a request; None for one that could not."""
    target = call.desk.targets.get(asked.resource.id) if asked.resource.type == "target" else None
    what = Privilege(privilege=asked.action.name, resource=_narrowed(asked.resource))
    if target is None or all(entry.privilege != what for entry in target.catalogue):
        return None
    now = call.desk.clock.now()
    if (pending := _approved_already(call, asked, now)) is not None:
        return pending
    return {
        "evaluation_id": _bound(call.desk, asked, int(now.timestamp())), "evaluated_at": _wire(now),
        "reason": "approval_required",
        "access_request": {"expires_at": _wire(now + DENIAL_LASTS), "endpoint": f"{call.office.url}{WHERE}"},
    }  # fmt: skip


def _approved_already(call: Call, asked: bodies.Evaluation, now: datetime) -> Document | None:
    """Somebody asks again with an approval: it may be on its way, or over. Looked up in memory alone."""
    approval = (asked.context or {}).get("approval")
    if not isinstance(approval, dict) or not isinstance(approval.get("id"), str):
        return None
    known = call.desk.store.recall(approval["id"])
    if known is None or not call.desk.may_see(known[1], call.caller):
        return {"reason": "approval_unverifiable", "next_action": "none"}
    ticket = known[1]
    if ticket.status in _ENDS or (ticket.expiry is not None and ticket.expiry <= now):
        return None  # it is over: a fresh request may follow
    return {"reason": "grant_pending", "next_action": "retry", "retry_after": RETRY_AFTER}


def task_of(call: Call, ticket: Document) -> Document:
    """A ticket as the draft has it."""
    status, where = _STATUSES.get(ticket["status"], "approved"), f"{call.office.url}{WHERE}/{ticket['id']}"
    stages = ticket["stages"]
    done = sum(bool(stage["satisfied"]) for stage in stages)
    task: Document = {"id": ticket["id"], "status": status, "status_endpoint": where}
    if status == "pending" and stages:
        waiting = next((s for s in stages if not s["satisfied"]), stages[-1])
        task["progress"] = {
            "current_step": min(done + 1, len(stages)),
            "total_steps": len(stages),
            "step_name": waiting["name"],
        }
    task["links"] = {"ticket": f"{call.office.url}/v1/requests/{ticket['id']}"}
    found: Document = {"task": task}
    if status == "approved":
        window = ticket["window"]
        until = window["expires_at"] or _wire(call.desk.clock.now() + _length(window["duration"]))
        found["result"] = {"mode": "reevaluate", "approval": {"id": ticket["id"], "approved_until": until}}
    return found


def _length(text: str) -> timedelta:
    from muniment.core.instants import parse_duration  # noqa: PLC0415

    return parse_duration(text)


def _ask(asked: bodies.AccessRequest, now: datetime) -> Ask:
    until = parse_instant(asked.requested_access.requested_until, "requested_until")
    if until <= now:
        raise Invalid("requested_until is over", remedy="Ask for a time to come.")
    said = asked.context or {}
    reason = said.get("justification")
    if not isinstance(reason, str) or not reason.strip():
        raise Invalid("context.justification is missing", remedy="Say why.")
    references = said.get("references")
    incident, key = said.get("incident"), said.get("public_key")
    kind = "human" if asked.subject.type == "user" else asked.subject.type
    return Ask(
        target=asked.resource.id,
        scope=(Privilege(privilege=asked.action.name, resource=_narrowed(asked.resource)),),
        justification=reason, duration=timedelta(seconds=int((until - now).total_seconds())),
        beneficiary=parse_identity(f"{kind}:{asked.subject.id}"),
        references={str(k): str(v) for k, v in references.items()} if isinstance(references, dict) else {},
        break_glass=asked.requested_access.emergency, incident=incident if isinstance(incident, str) else None,
        public_key=key if isinstance(key, str) else None,
    )  # fmt: skip


def _require_on(call: Call) -> None:
    if not call.office.access_requests:
        raise NotFound(
            "access requests of AuthZEN are not switched on here",
            remedy="Set [experimental] access_requests.",
        )


def _require_bound(desk: Desk, asked: bodies.AccessRequest, now: datetime) -> None:
    """Whether it was we who denied exactly this, and lately."""
    stamp = asked.denial.evaluation_id.partition("-")[0]
    sound = stamp.isascii() and stamp.isdigit() and len(stamp) < 12
    if not sound or not hmac.compare_digest(
        asked.denial.evaluation_id.encode(), _bound(desk, asked, int(stamp)).encode()
    ):
        raise Invalid(
            "the denial is not one of ours, or of something else", remedy="Ask again, and send what came back.",
            code="invalid.denial-binding",
        )  # fmt: skip
    age = now.timestamp() - int(stamp)
    if not -1 <= age <= DENIAL_LASTS.total_seconds():
        raise Refused(
            "the denial is too old",
            remedy="Ask again, and send what came back.",
            code="refused.denial-expired",
        )


def _bound(desk: Desk, asked: bodies.Evaluation | bodies.AccessRequest, stamp: int) -> str:
    said = [
        asked.subject.type, asked.subject.id, asked.action.name, asked.resource.type, asked.resource.id,
        _narrowed(asked.resource), stamp,
    ]  # fmt: skip
    return f"{stamp}-{desk.store.marker.of(b'muniment denial v1' + bytes(1) + msgspec.json.encode(said)).hex()[:40]}"


def _narrowed(resource: bodies.Resource) -> str | None:
    narrowed: Any = (resource.properties or {}).get("resource")
    return narrowed if isinstance(narrowed, str) else None


def _wire(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
