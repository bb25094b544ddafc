"""Use: read once however often it comes, judged the same in whatever order, on record as far as it is new."""

from __future__ import annotations

import dataclasses
import json
import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import update

from evidence.office import HOUR, Office
from hostile.corpus import CORPUS
from muniment.controllers.usage import Using
from muniment.core.errors import Conflict, Invalid, LeaseLost, Misconfigured, NotFound, Refused
from muniment.core.events import LateUseObserved, UsageIngested, UseObserved
from muniment.core.instants import wire
from muniment.core.scope import Privilege
from muniment.core.use import Interval
from muniment.service import drift, ingesting, past_use, reconciling, usage
from muniment.service.desk import CONTROLLER
from muniment.service.documents import ticket_document
from muniment.service.filing import Ask, preview
from muniment.service.ingesting import Sent
from muniment.settings.usage import LogSettings, usage_settings
from muniment.store import tables as t
from muniment.store.findings import SqlFindings
from muniment.store.rebuild import differences
from muniment.store.uses import SqlUses
from muniment.usage.tailing import Record
from service.changes import sound

pytest.importorskip("duckdb")
SECOND = timedelta(seconds=1)


def reading(office: Office, **settings: Any) -> Office:
    """Its target's logs are read, by a clock that is exactly ours."""
    target = replace(office.desk.targets["bastion"], usage={"skew": "0s", **settings})
    office.desk = dataclasses.replace(office.desk, targets={"bastion": target})
    return office


def line(account: str, at: datetime, privilege: str | None = "web-admin", **more: Any) -> bytes:
    return json.dumps(
        {"account": account, "at": wire(at), **({"privilege": privilege} if privilege else {}), **more}
    ).encode()


def send(office: Office, *lines: bytes, who: str = "ops", **more: Any) -> dict[str, Any]:
    given = {"target": "bastion", "source": "siem", "format": "events", "lines": lines}
    return usage.send(office.desk, office.caller(who), Sent(**(given | more)))


def findings(office: Office) -> dict[str, Any]:
    found = SqlFindings(office.desk.store.engine).unresolved("bastion").values()
    return {f.type: f for f in found}


def window(office: Office, ticket: str) -> tuple[datetime, datetime]:
    [one] = past_use.judged(office.desk, [office.desk.store.read(ticket)[1]])
    return datetime.fromisoformat(one.starts_at), datetime.fromisoformat(one.ends_at)


def document(office: Office, ticket: str) -> Any:
    return ticket_document(office.desk, office.desk.store.read(ticket)[1])["used"]


def test_use_of_a_ticket_that_lives_is_in_the_ticket(office: Office) -> None:
    ticket = reading(office).active()
    office.later(60)
    at = office.clock.at
    said = send(office, line("ann", at - SECOND), line("ann", at, None, ticket=ticket))
    assert (said["verdicts"], said["tickets"], said["findings"]) == ({"in-window": 2}, [ticket], [])
    assert document(office, ticket) == {
        "events": 2, "first_at": wire(at - SECOND), "last_at": wire(at), "privileges": ({"privilege": "web-admin", "resource": None},),
    }  # fmt: skip
    send(office, line("ann", at + SECOND))
    recorded = [r.event for r in office.desk.store.entries(ticket) if isinstance(r.event, UseObserved)]
    assert [event.events for event in recorded] == [2, 1]
    assert document(office, ticket)["events"] == 3
    sound(office)


def test_use_that_is_read_after_the_end_is_beside_it(office: Office) -> None:
    ticket = reading(office).closed()
    begins, _ = window(office, ticket)
    office.later(3600)
    version = office.desk.store.version(ticket)
    send(office, line("ann", begins + SECOND))
    send(office, line("ann", begins), line("ann", begins + 3 * SECOND, None))
    assert office.desk.store.version(ticket) == version
    last = [r.event for r in office.desk.store.entries(f"use:{ticket}")][-1]
    assert isinstance(last, LateUseObserved)
    assert (last.events, last.first_at, last.last_at) == (3, wire(begins), wire(begins + 3 * SECOND))
    assert document(office, ticket)["events"] == 3
    sound(office)
    assert list(differences(office.desk.store)) == []


def test_sent_again_it_changes_nothing(office: Office) -> None:
    ticket = reading(office).active()
    office.later(60)
    lines = (line("ann", office.clock.at), line("bo", office.clock.at))
    first = send(office, *lines)
    assert len(first["findings"]) == 1
    log = office.log()
    for again in (lines, lines[::-1], (*lines, *lines)):
        said = send(office, *again)
        assert (said["items"], said["findings"], said["verdicts"]) == ([], [], {})
    assert office.log() == log
    assert send(office, *lines, source="another")["findings"] == []
    assert document(office, ticket)["events"] == 1


@pytest.mark.parametrize("seed", range(6))
def test_in_whatever_order_and_pieces(tmp_path: Path, seed: int) -> None:
    """The same lines, in pieces, shuffled, some of them twice: the same verdicts, findings and use."""
    told = []
    for chance in (None, random.Random(seed)):
        office = reading(Office(tmp_path / str(chance is None)))
        live, over = office.active(), office.closed()
        begins, ends = window(office, over)
        office.later(60)
        now = office.clock.at
        lines = [
            line(a, at, p)
            for a in ("ann", "bo", "cyd")
            for at in (begins - HOUR, begins, ends, now)
            for p in ("web-admin", "db-admin", None)
        ]
        lines += [
            line("ann", ends, None, ticket=over),
            line("ann", begins, ticket=over),
            line("bo", now, None, ticket=live),
        ]
        pieces = [lines]
        if chance is not None:
            chance.shuffle(lines)
            lines += chance.sample(lines, 5)
            pieces = [lines[at : at + 4] for at in range(0, len(lines), 4)]
        for piece in pieces:
            send(office, *piece)
        drifts = SqlFindings(office.desk.store.engine).unresolved("bastion").values()
        told.append((
            SqlUses(office.desk.store.engine).verdicts("bastion"),
            sorted((f.type, f.item.account, f.item.privilege, f.item.ticket and ("over", "live")[f.item.ticket == live]) for f in drifts),
            document(office, live), {k: v for k, v in document(office, over).items() if k == "events"},
        ))  # fmt: skip
        sound(office)
        office.close()
    assert told[0] == told[1]


def test_a_crash_between_two_steps_is_made_good(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = reading(office).active()
    office.later(60)
    judge = SqlUses.judge

    def broken(*_: Any) -> None:
        raise RuntimeError("power")

    monkeypatch.setattr(SqlUses, "judge", broken)
    with pytest.raises(RuntimeError):
        send(office, line("ann", office.clock.at), line("bo", office.clock.at))
    monkeypatch.setattr(SqlUses, "judge", judge)
    raised = {f.id for f in findings(office).values()}
    send(office, line("ann", office.clock.at - SECOND))
    assert document(office, ticket)["events"] == 2
    assert {f.id for f in findings(office).values()} == raised
    sound(office)


def test_a_finding_names_the_line_and_the_batch(office: Office) -> None:
    reading(office).closed()
    office.later(60)
    said = send(office, line("ann", office.clock.at, "web-admin"), line("ann", office.clock.at + SECOND))
    found = findings(office)["used-outside"]
    assert (found.severity, found.inventory) == ("high", said["items"][0]["batch"])
    proof = SqlUses(office.desk.store.engine).line("bastion", found.line)
    assert proof is not None
    assert (proof.account, proof.at, proof.place) == ("ann", wire(office.clock.at), "siem, byte 0")
    shown = drift.shown(office.desk, office.caller("aud"), found.id)
    assert (shown["line"], shown["unexplained"]) == (found.line, False)


def test_an_inventory_does_not_end_a_finding_of_use(office: Office) -> None:
    reading(office).closed()
    office.later(60)
    send(office, line("ann", office.clock.at))
    assert reconciling.reconcile(office.desk, CONTROLLER, office.desk.targets["bastion"]).findings == ()
    assert set(findings(office)) == {"used-outside"}


def test_it_is_past_once_it_was_accepted_and_not_seen_again(office: Office) -> None:
    reading(office).closed()
    office.later(60)
    send(office, line("ann", office.clock.at))
    name = findings(office)["used-outside"].id
    drift.explain(office.desk, office.caller("ops"), name, "a job that hung")
    until = office.clock.at + timedelta(days=1)
    drift.accept(office.desk, office.caller("cyd"), name, until, "seen to")
    office.later(3600)
    assert send(office, line("ann", office.clock.at))["findings"] == []
    office.later(86400)
    send(office, line("bo", office.clock.at, None))
    assert findings(office) == {}
    assert drift.shown(office.desk, office.caller("aud"), name)["outcome"] == "past"
    again = send(office, line("ann", office.clock.at))
    assert again["findings"] == [name]
    sound(office)


def test_a_line_that_takes_another_back_may_come_before_or_after_it(office: Office) -> None:
    reading(office).active()
    office.later(60)
    stamp = office.clock.at.strftime("%Y-%m-%d %H:%M:%S.000 UTC")

    def pg(session: str, number: int, severity: str, message: str) -> bytes:
        return json.dumps({
            "timestamp": stamp, "user": "bo", "session_id": session, "line_num": number, "error_severity": severity, "message": message,
        }).encode()  # fmt: skip

    tried, refused = (
        (pg(s, 1, "LOG", 'statement: SET ROLE "web-admin"'), pg(s, 2, "ERROR", "denied")) for s in ("a", "b")
    )
    how = {"format": "postgresql-json", "source": "pg"}
    assert send(office, tried[0], tried[1], **how)["verdicts"] == {}
    assert send(office, refused[1], **how)["verdicts"] == {}
    assert send(office, refused[0], **how)["verdicts"] == {}
    assert findings(office) == {}
    assert send(office, pg("c", 1, "LOG", 'statement: SET ROLE "web-admin"'), **how)["verdicts"] == {
        "ungranted": 1
    }


def test_a_person_under_the_account_of_a_machine(office: Office) -> None:
    ticket = reading(office).ask(beneficiary="service_account:deploy")
    office.approve(ticket)
    office.give(ticket)
    office.later(60)
    stamp = office.clock.at.isoformat()
    sudo = f"{stamp} h sudo: ann : TTY=pts/1 ; PWD=/ ; USER=deploy ; COMMAND=/bin/true".encode()
    by_cron = f"{stamp} h sudo: deploy : PWD=/ ; USER=deploy ; COMMAND=/bin/true".encode()
    assert send(office, by_cron, format="sudo", source="sudo")["findings"] == []
    assert len(send(office, sudo, format="sudo", source="sudo")["findings"]) == 1
    assert findings(office)["used-by-person"].item.account == "deploy"
    assert "ann did, by sudo" in findings(office)["used-by-person"].message


def test_what_the_log_covers_decides_what_is_called_never_used(office: Office) -> None:
    ticket = reading(office).closed()
    begins, ends = window(office, ticket)
    office.later(60)

    def judgement() -> str:
        report = usage.report(office.desk, office.caller("aud"), usage.Wanted(target="bastion"))
        return report["items"][0]["judgement"]

    assert judgement() == "not-covered"
    send(office, covers=Interval(wire(begins + SECOND), wire(ends)))
    assert judgement() == "not-covered"
    send(office, covers=Interval(wire(begins - HOUR), wire(begins + SECOND)))
    assert judgement() == "never-used"
    send(
        office, line("zed", ends, None), source="another"
    )  # a second log of the target, that does not cover it
    assert judgement() == "not-covered"
    reading(office, logs=[{"format": "sshd", "path": "/nowhere/auth.log"}])
    assert judgement() == "not-covered"


def test_what_would_have_served(office: Office) -> None:
    reading(office)
    ticket = office.ask("web-admin", "root")
    for who in ("cyd", "dee"):
        office.approve(ticket, who)
    office.give(ticket)
    begins = office.clock.at
    office.later(3600)
    office.take(ticket)
    send(
        office,
        line("ann", begins + 600 * SECOND),
        covers=Interval(wire(begins - HOUR), wire(office.clock.at)),
    )
    scope = (Privilege(privilege="root"), Privilege(privilege="web-admin"))
    ask = Ask(target="bastion", scope=scope, justification="x", duration=HOUR, public_key=office.public_key)
    found = preview(office.desk, office.caller("ann"), ask).right_size
    assert found is not None
    assert found.sentence == "The last ticket of this kind used web-admin, and 15 min would have served."
    assert found.shorter
    report = usage.report(office.desk, office.caller("aud"), usage.Wanted())
    [said] = report["right_size"]
    assert (tuple(said["unused"]), said["duration"]) == (({"privilege": "root", "resource": None},), "PT15M")
    assert report["items"][0]["judgement"] == "narrower"
    short = replace(ask, duration=timedelta(minutes=15), scope=scope[1:])
    assert preview(office.desk, office.caller("ann"), short).right_size is None


def test_lines_that_cannot_be_are_counted_and_named(office: Office) -> None:
    reading(office).active()
    office.later(60)
    bad = [b"{", b"\xff", b"[]", *(f"no {n}".encode() for n in range(150))]
    [made] = send(office, line("ann", office.clock.at + HOUR), line("ann", office.clock.at), b"", *bad)[
        "items"
    ]
    assert (made["lines"], made["uses"], made["ahead"], made["other"], made["unparsable"]) == (
        156,
        1,
        1,
        1,
        153,
    )
    kept = SqlUses(office.desk.store.engine).rejected("bastion", 1000)
    assert len(kept) == ingesting.REJECTED
    assert kept[0].place == "siem, byte 3"
    sound(office)


@pytest.mark.parametrize("name", sorted(CORPUS))
def test_hostile_lines_are_data(office: Office, name: str) -> None:
    text = CORPUS[name]
    reading(office).active()
    office.later(60)
    raw = text.encode("utf-8", "surrogatepass")
    whole = json.dumps(
        {"account": text or "x", "at": wire(office.clock.at), "privilege": text, "ticket": text, "id": text}
    ).encode()
    send(office, raw, whole, line("bo", office.clock.at, id=text, action=text, object=text))
    report = usage.report(office.desk, office.caller("aud"), usage.Wanted())
    said = json.dumps(report, ensure_ascii=False)
    assert not any(hidden in said for hidden in ("\x1b", "\u202e", "\x00"))
    sound(office)


def test_who_may(office: Office) -> None:
    reading(office)
    for who, error in (("ann", NotFound), ("aud", Refused), ("bo", NotFound)):
        with pytest.raises(error):
            send(office, line("ann", office.clock.at), who=who)
    with pytest.raises(NotFound):
        send(office, line("ann", office.clock.at), target="nothing")
    with pytest.raises(Invalid, match="was read as events"):
        send(office, line("ann", office.clock.at))
        send(office, line("ann", office.clock.at), format="sshd")
    assert usage.report(office.desk, office.caller("ann"), usage.Wanted())["targets"] == []
    with pytest.raises(NotFound):
        usage.report(office.desk, office.caller("ann"), usage.Wanted(target="bastion"))


def test_what_is_kept_is_what_the_ledger_says(office: Office) -> None:
    reading(office).active()
    office.later(60)
    send(office, line("ann", office.clock.at), line("bo", office.clock.at))
    found = usage.check(office.desk, office.caller("aud"), "bastion")
    assert (found["ok"], found["lines"], found["batches"]) == (True, 2, 1)
    with office.desk.store.engine.begin() as connection:
        connection.execute(
            update(t.use_line).where(t.use_line.c.account == "bo").values(body=b'{"line":"x"}')
        )
    assert not usage.check(office.desk, office.caller("aud"), "bastion")["ok"]


def test_controllers_read_on(office: Office, tmp_path: Path) -> None:
    log = tmp_path / "siem.log"
    reading(
        office,
        every="1m",
        logs=[{"format": "events", "path": str(log)}, {"format": "sshd", "path": "/nowhere/auth.log"}],
    )
    ticket = office.active()
    office.later(60)
    log.write_bytes(line("ann", office.clock.at) + b"\n")
    using = Using(office.desk)
    using.look()
    assert document(office, ticket)["events"] == 1
    with log.open("ab") as file:
        file.write(line("bo", office.clock.at) + b"\n")
    using.look()
    assert findings(office) == {}  # not due yet
    office.later(61)
    using.look()
    assert set(findings(office)) == {"used-ungranted"}
    events = [r.event for r in office.desk.store.entries("usage:bastion")]
    assert all(isinstance(event, UsageIngested) and event.part for event in events)
    # a log that says nothing is on record as read once an hour, so that what it covers can be said
    for _ in range(70):
        office.later(60)
        using.look()
    [source] = SqlUses(office.desk.store.engine).sources("bastion")
    assert len(list(office.desk.store.entries("usage:bastion"))) == len(events) + 1
    assert source.covered[-1].ends > wire(office.clock.at - timedelta(hours=1))
    sound(office)


def test_one_at_a_time(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingesting, "LOOKS", 2)
    reading(office)
    with ingesting.turn(office.desk, "bastion"), pytest.raises(Conflict, match="somebody else reads"):
        send(office, line("ann", office.clock.at))
    send(office, line("ann", office.clock.at))


def test_whoever_took_longer_than_its_turn_records_nothing(office: Office) -> None:
    """Else two count the same lines, and what is kept is not what the ledger has the digest of."""
    reading(office)
    target, log = office.desk.targets["bastion"], LogSettings(format="events", path="/a")
    with ingesting.turn(office.desk, "bastion") as lease:
        late = ingesting._reading(office.desk, CONTROLLER, target, log, lease)
        office.later(ingesting.LEASE_SECONDS + 1)
        send(office, line("ann", office.clock.at))
        before = office.log()
        with pytest.raises(LeaseLost):
            late.take([Record(line("bo", office.clock.at), 0)])
    assert office.log() == before
    sound(office)


@pytest.mark.parametrize(
    "written",
    [
        {"skew": "61s"}, {"every": "often"}, {"nothing": 1}, {"logs": [{"format": "sshd", "path": "relative"}]},
        {"logs": [{"format": "sshd", "path": "/a"}, {"format": "sshd", "path": "/b"}]}, {"logs": [{"format": "sshd", "path": "/a", "timezone": "CET"}]},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_meant(written: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        usage_settings(written)
