"""A ticket for people: one in full, or many in a table. Rendered from its document, which is what scripts read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from muniment.cli import console
from muniment.core.instants import parse_duration, parse_instant, spoken

Document = Mapping[str, Any]
Row = tuple[str, RenderableType]

_STYLES = {
    "active": console.GOOD, "pending": console.LOOK, "approved": console.LOOK, "provisioning": console.LOOK,
    "revoking": console.LOOK, "revoked": console.LOOK, "denied": console.BAD, "failed": console.BAD,
}  # fmt: skip


# ── words ──


def person(identity: str) -> str:
    """People by their name alone, where space is short; everything else says what kind it is."""
    return identity.removeprefix("human:")


def scope_words(scope: Iterable[Mapping[str, Any]]) -> str:
    """``orders_rw, edit (payments)``."""
    words = (
        p["privilege"] if p["resource"] is None else f"{p['privilege']} ({p['resource']})" for p in scope
    )
    return ", ".join(words) or "nothing"


def duration_words(duration: str) -> str:
    """An ISO 8601 duration for people."""
    return spoken(parse_duration(duration))


def moment(instant: str | None) -> str:
    """An instant for people, in UTC."""
    return f"{parse_instant(instant):%Y-%m-%d %H:%M:%S} UTC" if instant else "not yet"


def distance(instant: str, now: datetime) -> str:
    """How far away: ``in 59 min 3 s``, ``2 h ago``."""
    left = parse_instant(instant) - now
    return f"in {_about(left)}" if left.total_seconds() > 0 else f"{_about(-left)} ago"


def _about(length: timedelta) -> str:
    """No finer than a hundredth part or so: nobody reads seconds beside days."""
    coarse = next((unit for least, unit in ((86400, 3600), (3600, 60)) if length.total_seconds() >= least), 1)
    return spoken(length - length % timedelta(seconds=coarse))


def status_text(status: str) -> Text:
    """A status in its colour; the word alone says everything."""
    return console.line(status, _STYLES.get(status, ""))


def waiting_for(d: Document, now: datetime) -> list[str]:  # noqa: PLR0911  one case a status
    """What has to happen before the ticket moves on, and who can make it."""
    target, start, end = d["target"], _instant(d["window"]["starts_at"]), _instant(d["window"]["expires_at"])
    match d["status"]:
        case "pending":
            return [
                f"{stage['needed'] - _approvals(d, stage['name'])} of {', '.join(stage['approvers'])} to approve "
                f"(stage {stage['name']}, demanded by {', '.join(d['policy']['determining'])})"
                for stage in d["stages"]
                if not stage["satisfied"] and stage["open"]
            ]
        case "approved" if start and start > now:
            return [f"its start, in {spoken(start - now)}"]
        case "approved" | "provisioning":
            return [f"{target} to show that it holds what was approved"]
        case "active" if end and end <= now:
            return [f"`muniment serve` to take it back: its time was over {spoken(now - end)} ago"]
        case "revoking":
            trouble = d["revocation"]["failure"] if d["revocation"] else None
            return [f"{target} to be seen without it" + (f"; last answer: {trouble}" if trouble else "")]
        case "revoked":
            return [_check_words(d, check) for check in d["open_checks"]]
        case _:
            return []


def _instant(text: str | None) -> datetime | None:
    return parse_instant(text) if text else None


def _approvals(d: Document, stage: str) -> int:
    return sum(1 for each in d["decisions"] if each["stage"] == stage and each["decision"] == "approve")


def _check_words(d: Document, check: str) -> str:
    if check == "reviewed" and d["review"]:
        return f"a review by somebody without a stake in it, until {moment(d['review']['due_at'])}"
    if check == "findings_resolved":
        numbers = (f["id"].rpartition(":")[2] for f in d["findings"] if not f["resolved_at"])
        return f"its findings to be resolved: {', '.join(numbers)}"
    return f"the closure check {check}"


# ── many ──


def rows(documents: Iterable[Document], now: datetime) -> RenderableType:
    """Tickets in a table."""
    return console.table(
        ("ticket", "status", "who and what", "until"),
        [
            (
                d["id"],
                status_text(d["status"]),
                f"{person(d['beneficiary'])}: {scope_words(d['requested'])} on {d['target']}",
                _until(d, now),
            )
            for d in documents
        ],
        empty="No tickets.",
    )


def _until(document: Document, now: datetime) -> str:
    window, closure = document["window"], document["closure"]
    if closure:
        return f"ended {distance(closure['at'], now)}"
    if document["status"] == "pending" and document["lapses_at"]:
        return f"lapses {distance(document['lapses_at'], now)}"
    if window["expires_at"]:
        return distance(window["expires_at"], now)
    return f"for {duration_words(window['duration'])}"


# ── one ──


def panel(document: Document, now: datetime, history: Iterable[Document] | None = None) -> RenderableType:
    """Everything about one ticket."""
    grid = console.pairs([*_asked(document), *_window(document, now), *_state(document, now)])
    parts: list[RenderableType] = [grid]
    if history is not None:
        parts += [Text(), events(history)]
    body = Group(*parts)
    if not console.output().is_terminal:
        return Group(console.line(f"{document['id']}  {document['status']}"), body)
    title = Text.assemble(
        console.line(f" {document['id']}  ", console.STRONG), status_text(document["status"]), " "
    )
    return Panel(
        body, title=title, title_align="left", box=box.ROUNDED, border_style=console.QUIET, padding=(0, 1)
    )


def _asked(d: Document) -> list[Row]:
    asked = console.line(person(d["beneficiary"]))
    if d["requester"] != d["beneficiary"]:
        asked.append_text(console.line(f", asked by {person(d['requester'])}"))
    found: list[Row] = [
        ("who", asked),
        ("what", console.line(f"{scope_words(d['requested'])} on {d['target']}, as {d['account']}")),
        ("why", console.lines(d["justification"])),
    ]
    if d["kind"] == "break_glass":
        found.insert(0, ("kind", console.line("break-glass", console.BAD)))
    if d["responders"]:
        found.append(("responders", console.line(", ".join(map(person, d["responders"])))))
    if d["extends"]:
        found.append(("extends", console.line(d["extends"])))
    if d["bundle"]:
        found.append(("with", console.line(", ".join(each for each in d["bundle"] if each != d["id"]))))
    if d["references"]:
        found.append(("for", console.line(", ".join(f"{k} {v}" for k, v in d["references"].items()))))
    return found


def _window(d: Document, now: datetime) -> list[Row]:
    window = d["window"]
    length = duration_words(window["duration"])
    if d["status"] == "active" and window["expires_at"]:
        left = parse_instant(window["expires_at"]) - now
        style = (
            console.LOOK if left.total_seconds() < 300 else console.GOOD
        )  # five minutes to save one's work
        words = f"{spoken(left)} left" if left.total_seconds() > 0 else "over"
        return [
            ("time", console.line(words, style)),
            ("window", console.line(f"{moment(window['starts_at'])} to {moment(window['expires_at'])}")),
        ]
    start = moment(window["starts_at"]) if window["starts_at"] else "once it is approved"
    if window["expires_at"]:
        return [("window", console.line(f"{start} to {moment(window['expires_at'])} ({length})"))]
    return [("window", console.line(f"{length}, from {start}"))]


def _state(d: Document, now: datetime) -> list[Row]:
    found: list[Row] = [("waits for", console.line(words, console.LOOK)) for words in waiting_for(d, now)]
    found += [("nobody", console.line(s["missing"], console.BAD)) for s in d["stages"] if s["missing"]]
    if d["offer"]:
        found.append(("offered", _offered(d["offer"])))
    if d["status"] == "pending":
        found.append(
            ("", console.line(f"undecided, it lapses {distance(d['lapses_at'], now)}", console.QUIET))
        )
    found += [
        ("because", console.line(reason)) for reason in d["policy"]["reasons"] if d["status"] == "denied"
    ]
    found += [("decision", _decision(each)) for each in d["decisions"]]
    if d["comparison"] is not None:
        found += _compared(d)
    if d["failure"]:
        found.append(
            ("failure", console.line(f"{d['failure']['message']} ({d['failure']['code']})", console.BAD))
        )
    if d["used"]:
        found.append(
            ("used", console.line(f"{d['used']['events']} times, last {distance(d['used']['last_at'], now)}"))
        )
    found += _ending(d)
    for finding in d["findings"]:
        done = f", resolved by {person(finding['resolved_by'])}" if finding["resolved_at"] else ""
        words = f"{finding['id']}: {finding['message']} ({finding['severity']}){done}"
        found.append(("finding", console.line(words, "" if done else console.BAD)))
    if d["closure"]:
        found.append(("ended", console.line(moment(d["closure"]["at"]))))
        found += [("check", _check(check)) for check in d["closure"]["checks"]]
    ledger = d["ledger"]
    found.append(
        ("ledger", console.line(f"{ledger['sealed']} of {ledger['events']} events sealed", console.QUIET))
    )
    return found


def _decision(d: Document) -> Text:
    verb, style = ("approved", console.GOOD) if d["decision"] == "approve" else ("denied", console.BAD)
    said = Text.assemble(console.line(verb, style), " by ", console.line(person(d["approver"])))
    if d["on_behalf_of"]:
        said.append_text(console.line(f" on behalf of {person(d['on_behalf_of'])}"))
    said.append_text(console.line(f" at {moment(d['at'])} (stage {d['stage']})"))
    if d["comment"]:
        said.append_text(console.line(f": {d['comment']}"))
    return said


def _offered(d: Document) -> Text:
    terms = f"{scope_words(d['scope'])} for {duration_words(d['duration'])}"
    return console.line(
        f"{terms}, by {person(d['by'])}: {d['comment']}; the requester may accept it", console.LOOK
    )


def _compared(d: Document) -> list[Row]:
    missing, excess = d["comparison"]["missing"], d["comparison"]["excess"]
    words = [f"missing {scope_words(missing)}"] if missing else []
    words += [f"more than approved: {scope_words(excess)}"] if excess else []
    same = (
        console.line("; ".join(words), console.BAD)
        if words
        else console.line("exactly as approved", console.GOOD)
    )
    return [
        ("approved", console.line(scope_words(d["approved"]))),
        ("granted", Text.assemble(console.line(scope_words(d["granted"])), ", ", same)),
    ]


def _ending(d: Document) -> list[Row]:
    found: list[Row] = []
    if gone := d["revocation"]:
        words = f"{gone['cause']} at {moment(gone['ordered_at'])}, by {person(gone['by'])}"
        if gone["observed_gone_at"]:
            words += f"; seen gone at {moment(gone['observed_gone_at'])}"
        elif gone["attested_by"]:
            words += f"; gone on the word of {person(gone['attested_by'])}"
        found.append(("revoked", console.line(words + (f": {gone['reason']}" if gone["reason"] else ""))))
    if (review := d["review"]) and review["outcome"]:
        comment = f": {review['comment']}" if review["comment"] else ""
        found.append(
            ("review", console.line(f"{review['outcome']}, by {person(review['reviewer'])}{comment}"))
        )
    return found


def _check(check: Document) -> Text:
    if check["holds"]:
        return Text.assemble(console.line(check["check"]), " ", console.line("holds", console.GOOD))
    waived = f"waived by {person(check['waived'])}" if check["waived"] else "does not hold"
    return Text.assemble(console.line(check["check"]), " ", console.line(waived, console.BAD))


def events(history: Iterable[Document]) -> RenderableType:
    """What happened to a ticket, in order."""
    return console.table(
        ("event", "at", "by"),
        [(e["type"], moment(e["at"]), f"{person(e['actor'])} ({e['via']})") for e in history],
        empty="No events.",
    )
