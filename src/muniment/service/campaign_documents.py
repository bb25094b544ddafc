"""Campaigns as people and scripts read them: lists, one of them, its items, and one file that proves it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import msgspec

from muniment.core import campaign as c
from muniment.core.campaign import Act, Campaign, Settled, Status
from muniment.core.campaign_items import CampaignItem, numbers, ranges, read
from muniment.core.errors import Invalid, Refused
from muniment.core.instants import iso_duration, parse_instant, shortened
from muniment.core.pace import paces
from muniment.core.visibility import SEES_ALL
from muniment.service import ledgering
from muniment.service.certifying import Where, may_see, visible
from muniment.service.desk import Caller, Desk
from muniment.service.documents import ERASED, Document
from muniment.service.selecting import Selected
from muniment.service.tabular import to_csv
from muniment.store.campaigns import Listed, SqlCampaigns
from muniment.store.projecting import CAMPAIGN

Said = TypeVar("Said", Act, Settled)

_COLUMNS = (
    "number", "subject", "target", "account", "privilege", "resource", "nested", "standing", "identity", "group",
    "holders", "owners", "risk", "until", "reviewer", "decision", "decided_by", "decided_at", "reason", "outcome",
    "settled_by", "settled_at", "explanation",
)  # fmt: skip
_README = """\
One recertification campaign, to be checked without the program that held it.

campaign.json   what was asked, by whom, and what came of it
items.jsonl     the list of items, one a line, numbered from 0: `sha256sum items.jsonl` is the digest that the first entry has
decisions.csv   each item with what was decided, by whom, when and why, and what became of it
proofs.json     every entry of the campaign in the ledger, each with a C2SP tlog-proof under the signed checkpoint
"""


def listed(
    desk: Desk, caller: Caller, statuses: Sequence[str] = (), *, after: str = "", limit: int = 100
) -> tuple[list[Document], str | None]:
    """Those that the caller may see, by their names, and the name to go on after."""
    if unknown := sorted(set(statuses) - set(c.STATUSES)):
        raise Invalid(
            f"there is no status {unknown[0]!r:.40}", remedy=f"The statuses: {', '.join(c.STATUSES)}."
        )
    chosen: tuple[Status, ...] = tuple(each for each in c.STATUSES if each in statuses)
    rows, found = SqlCampaigns(desk.store.engine), list[Document]()
    everything = bool(SEES_ALL & set(caller.identity.roles))
    while page := rows.page(statuses=chosen, after=after):
        for row in page:
            after = row.name
            if everything or _seen(desk, caller, row.name):
                if len(found) == limit:
                    return found, found[-1]["name"]
                found.append(_row(desk, row))
    return found, None


def document(desk: Desk, caller: Caller, campaign: Campaign) -> Document:
    """One of them."""
    o, now = campaign.opened, desk.clock.now()
    everything = bool(SEES_ALL & set(caller.identity.roles))
    texts = desk.views.texts([o.reason, *([campaign.comment] if campaign.comment else [])])
    closed = campaign.closed
    return {
        "name": campaign.name, "status": campaign.status, "reason": texts.get(o.reason, ERASED),
        "selection": msgspec.to_builtins(o.selection), "reviewers": list(o.rules), "opened_by": campaign.opened_by,
        "opened_at": shortened(campaign.opened_at), "due_at": shortened(o.due_at), "overdue": campaign.overdue(now),
        "unanswered": o.unanswered, "escalate_to": o.escalate_to,
        "valid_for": iso_duration(timedelta(seconds=o.valid_for)), "items": o.items, "singly": o.singly,
        "digest": o.digest, "sources": msgspec.to_builtins(o.sources), "left_out": list(o.left_out),
        "undecided": campaign.decisions.count(c.UNDECIDED), "kept": campaign.count("keep"),
        "revoked": campaign.count("revoke"), "changed": campaign.count("change"),
        "unsettled": len(campaign.unsettled()), "yours": len(yours(desk, caller, campaign)),
        "reminded_at": shortened(campaign.reminded_at), "escalated_at": shortened(campaign.escalated_at),
        "signed_by": campaign.signed_by, "signed_at": shortened(campaign.signed_at),
        "comment": texts.get(campaign.comment, ERASED) if campaign.comment else None,
        "results": c.results(campaign.decisions) if campaign.signed_by else None,
        "closed_at": shortened(campaign.closed_at), "cancelled_at": shortened(campaign.cancelled_at),
        "valid_until": shortened(closed.valid_until) if closed else None,
        "pace": msgspec.to_builtins(paces(campaign.acts)) if everything else [],
    }  # fmt: skip


def yours(desk: Desk, caller: Caller, campaign: Campaign) -> list[int]:
    """Items that nobody has decided and that the caller may."""
    if campaign.status != "open":
        return []
    items, who = desk.campaigns.items(campaign), caller.identity
    asked, names, above = c.reviewers(campaign, items), {who.id, *who.aliases}, desk.superiors(who)
    return [n for n in campaign.undecided() if c.asked(asked[n], who) and not c.own(items[n], names, above)]


def items(
    desk: Desk,
    caller: Caller,
    campaign: Campaign,
    where: Where,
    *,
    mine: bool = False,
    after: int = 0,
    limit: int | None = None,
) -> tuple[list[Document], int | None]:
    """Items that the caller may see, from ``after`` on, and where it goes on; ``mine``: that nobody decided and they may."""
    known = desk.campaigns.items(campaign)
    places = where.narrowed(campaign, known)
    asked = c.reviewers(campaign, known)
    if not SEES_ALL & set(caller.identity.roles):
        places = [n for n in places if c.asked(asked[n], caller.identity)]
    if mine:
        own = set(yours(desk, caller, campaign))
        places = [n for n in places if n in own]
    rest = [n for n in places if n >= after]
    shown = rest if limit is None else rest[:limit]
    acts, settled = _last(campaign.acts, len(known)), _last(campaign.settled, len(known))
    reasons = [x.reason for n in shown for x in (acts.get(n), settled.get(n)) if x and x.reason]
    texts = desk.views.texts(reasons)
    rows = [_item(campaign, n, known[n], asked[n], acts.get(n), settled.get(n), texts) for n in shown]
    return rows, rest[len(shown)] if len(rest) > len(shown) else None


def preview_document(selected: Selected) -> Document:
    """What a campaign would be about, and who would be asked how much."""
    reviewers: dict[str, int] = {}
    for line in selected.lines:
        reviewer = read(line).reviewer
        reviewers[reviewer] = reviewers.get(reviewer, 0) + 1
    return {
        "items": len(selected.lines), "singly": selected.singly, "left_out": list(selected.left_out),
        "sources": msgspec.to_builtins(selected.sources),
        "reviewers": [{"reviewer": name, "items": count} for name, count in sorted(reviewers.items())],
    }  # fmt: skip


def evidence(desk: Desk, caller: Caller, name: str) -> bytes:
    """One file with all of it, and proofs that the ledger has it. For operators and auditors."""
    _, campaign = visible(desk, caller, name)
    if not SEES_ALL & set(caller.identity.roles):
        raise Refused(
            f"{caller.identity.id} sees a part of {name}, and the evidence is of all of it",
            remedy="An operator or an auditor can export it.",
            code="refused.not-responsible",
        )
    lines = SqlCampaigns(desk.store.engine).lines(campaign.opened.digest)
    rows, _ = items(desk, caller, campaign, Where())
    files: dict[str, str | bytes] = {
        "README.txt": _README,
        "campaign.json": _json(document(desk, caller, campaign)),
        "items.jsonl": b"".join(line + b"\n" for line in lines),
        "decisions.csv": to_csv(_COLUMNS, ([_cell(row[name]) for name in _COLUMNS] for row in rows)),
        "proofs.json": _json(ledgering.prove(desk, CAMPAIGN + campaign.name)),
    }
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, body in files.items():
            info = zipfile.ZipInfo(file, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, body)
    return made.getvalue()


def _seen(desk: Desk, caller: Caller, name: str) -> bool:
    _, campaign = desk.campaigns.read(name)
    return campaign is not None and may_see(desk, caller, campaign)


def _row(desk: Desk, row: Listed) -> Document:
    late = row.status in {"open", "decided"} and desk.clock.now() >= parse_instant(row.due_at)
    return {
        "name": row.name, "status": row.status, "opened_by": row.opened_by, "opened_at": shortened(row.opened_at),
        "due_at": shortened(row.due_at), "overdue": late, "items": row.items, "undecided": row.undecided,
        "kept": row.kept, "revoked": row.revoked, "changed": row.changed, "unsettled": row.unsettled,
        "signed_by": row.signed_by, "ended_at": shortened(row.ended_at),
    }  # fmt: skip


def _item(  # noqa: PLR0917  what a row is made of
    campaign: Campaign, place: int, item: CampaignItem, reviewer: str, act: Act | None, settled: Settled | None,
    texts: dict[str, str],
) -> Document:  # fmt: skip
    said: Document = msgspec.to_builtins(item)
    return {
        "number": place, "what": item.what, **_BLANK, **said, "reviewer": reviewer,
        "until": shortened(item.until), "singly": place < campaign.opened.singly,
        "decision": campaign.decision(place), "decided_by": act.by if act else None,
        "decided_at": shortened(act.at) if act else None,
        "reason": texts.get(act.reason, ERASED) if act and act.reason else None,
        "outcome": campaign.outcome(place), "settled_by": settled.by if settled else None,
        "settled_at": shortened(settled.at) if settled else None,
        "inventory": settled.inventory if settled else None,
        "explanation": texts.get(settled.reason, ERASED) if settled and settled.reason else None,
    }  # fmt: skip


def _last(said: Sequence[Said], size: int) -> dict[int, Said]:
    """The last word on each item."""
    return {place: each for each in said for place in numbers(each.items, size)}


def as_ranges(places: Sequence[int]) -> str:
    """Places, as a person writes them."""
    return ",".join(ranges(places))


def _cell(value: object) -> object:
    return "; ".join(map(str, value)) if isinstance(value, list) else value


def _json(document: Document) -> str:
    return json.dumps(document, indent=2) + "\n"


#: what an item's line leaves out where it has none
_BLANK: Document = {
    field.name: msgspec.to_builtins(field.default)
    for field in msgspec.structs.fields(CampaignItem)
    if field.default is not msgspec.NODEFAULT
}
