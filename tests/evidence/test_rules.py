"""V4: what the program records holds, and each way past the rules is named, at its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from evidence.conftest import Archive
from evidence.office import altered, places, rechained, without
from muniment.core.events import KINDS, TICKET_EVENTS
from muniment.evidence.judging import WHEN
from muniment.evidence.rules import TicketRules, combine
from muniment.ledger.entry import decode_entry
from muniment.ledger.verify import Level


def judged(log: list[bytes]) -> Level:
    rules = TicketRules()
    for index, raw in enumerate(log):
        rules.feed(index, raw, decode_entry(raw, strict=True))
    return rules.result()


def test_what_the_program_records_keeps_the_rules(archive: Archive) -> None:
    level = judged(archive.log)
    assert level == Level(ok=True, checked=len(archive.log)), level.first_fault


def test_every_event_of_a_ticket_has_its_statuses() -> None:
    assert {e.kind for e in TICKET_EVENTS} - {e.kind for e in WHEN} == {"request-submitted/1"}


def test_only_open_tickets_are_kept(archive: Archive) -> None:
    rules = TicketRules()
    for index, raw in enumerate(archive.log):
        rules.feed(index, raw, decode_entry(raw))
    assert rules.found().open == 1
    ticket = rules.ticket(archive.tickets["active"])
    assert ticket is not None
    assert ticket.status == "active"


Change = Callable[[dict[str, Any]], None]


def data(**changes: Any) -> Change:
    return lambda entry: entry["data"].update(changes)


def envelope(**changes: Any) -> Change:
    return lambda entry: entry.update(changes)


def terms(**changes: Any) -> Change:
    return lambda entry: entry["data"]["terms"].update(changes)


def obligations(**changes: Any) -> Change:
    return lambda entry: entry["data"]["obligations"].update(changes)


def both(*changes: Change) -> Change:
    def change(entry: dict[str, Any]) -> None:
        for each in changes:
            each(entry)

    return change


def actor(who: str) -> Change:
    return lambda entry: entry["actor"].update(id=who)


def first_evaluation(**changes: Any) -> Change:
    return lambda entry: entry["data"]["evaluations"][0].update(changes)


def asked(**changes: Any) -> Change:
    return lambda entry: entry["data"]["evaluations"][0]["context"].update(changes)


ANN, CYD, DEE = (f"human:{name}@example.com" for name in ("ann", "cyd", "dee"))
ROOT = [{"privilege": "root", "resource": None}]

DAMAGES = [
    # ticket, the entry's kind, what is done to it, the sentence
    ("closed", "request-submitted", terms(duration=7200), "its digest is not that of its terms"),
    ("closed", "request-submitted", terms(account="root"), "its digest is not that of its terms"),
    ("closed", "request-submitted", actor(CYD), "filed it, and"),
    ("closed", "policy-decided", obligations(longest=60), "where policy allows 60 s"),
    ("closed", "policy-decided", obligations(references=["incident"]), "demands a reference incident"),
    ("closed", "policy-decided", data(obligations=None), "does not say what that obliges to"),
    ("closed", "policy-decided", first_evaluation(allowed=False), "policy did not permit all of it"),
    ("closed", "policy-decided", first_evaluation(errors=["no"]), "policy did not permit all of it"),
    (
        "closed",
        "policy-decided",
        first_evaluation(principal='Human::"cyd@example.com"'),
        "did not permit all",
    ),
    ("closed", "policy-decided", first_evaluation(resource='Privilege::"bastion/root"'), "other privileges"),
    ("closed", "policy-decided", asked(minutes=1), "another duration or account"),
    ("closed", "policy-decided", asked(break_glass=True), "another kind of request"),
    ("closed", "policy-decided", asked(references=[]), "other references than the terms give"),
    ("closed", "provisioning-started", asked(references=["change", "incident"]), "other references"),
    ("closed", "policy-decided", asked(beneficiary=CYD), "other people than the terms name"),
    ("closed", "policy-decided", data(evaluations=[]), "other privileges"),
    ("closed", "policy-decided", data(permitted=False), "what policy did not permit"),
    ("closed", "policy-decided", data(policies="sha256:" + "0" * 64), "was not adopted before"),
    ("broken_glass", "policy-decided", obligations(review_within=None), "no review is owed"),
    ("closed", "approval-recorded", data(approver=DEE), "in the name of human:dee@example.com"),
    (
        "closed",
        "approval-recorded",
        both(actor(ANN), data(approver=ANN)),
        "requester, its beneficiary or accountable",
    ),
    (
        "for_a_machine",
        "approval-recorded",
        both(actor(ANN), data(approver=ANN)),
        "its beneficiary or accountable",
    ),
    (
        "closed",
        "approval-recorded",
        both(actor("ai_agent:helper"), data(approver="ai_agent:helper")),
        "is not a person",
    ),
    ("closed", "approval-recorded", data(digest="sha256:" + "0" * 64), "was shown other terms"),
    ("closed", "approval-recorded", data(stage="nobody"), "there is no stage"),
    ("closed", "approval-recorded", data(entities=[]), "in none of the groups"),
    ("closed", "approval-recorded", first_evaluation(allowed=False), "policy did not let"),
    ("closed", "approval-recorded", first_evaluation(resource='Request::"req_other"'), "policy did not let"),
    ("closed", "approval-recorded", asked(stage="other"), "policy did not let"),
    ("closed", "approval-recorded", data(evaluations=[]), "policy did not let"),
    ("closed", "approval-recorded", data(policies="sha256:" + "0" * 64), "was not adopted before"),
    ("closed", "approval-recorded", data(decision="deny"), "somebody has said no"),
    ("closed", "approval-recorded", envelope(at="2026-11-25T10:00:00.000000Z"), "it had lapsed by then"),
    ("closed", "request-approved", data(approvers=[CYD, DEE]), "other approvers than those on file"),
    ("closed", "request-approved", data(scope=ROOT), "something else than was asked"),
    ("closed", "request-approved", data(duration=60), "something else than was asked"),
    (
        "closed",
        "provisioning-started",
        data(starts_at="2026-11-23T10:00:00.000000Z"),
        "before it was approved",
    ),
    ("closed", "provisioning-started", data(starts_at="2026-11-23T12:00:00.000000Z"), "before it begins"),
    (
        "closed",
        "provisioning-started",
        data(expires_at="2026-11-24T10:00:00.000000Z"),
        "later than was asked",
    ),
    (
        "closed",
        "provisioning-started",
        data(expires_at="2026-11-23T10:00:00.000000Z"),
        "ends before it begins",
    ),
    ("closed", "provisioning-started", data(approvers=[DEE]), "other approvals than those on file"),
    ("closed", "provisioning-started", data(policies="sha256:" + "0" * 64), "was not adopted before"),
    ("closed", "provisioning-started", first_evaluation(allowed=False), "policy did not permit all of it"),
    ("closed", "provisioning-started", actor(CYD), "only system:muniment records this"),
    ("closed", "grant-observed", data(granted=ROOT), "does not compare what was granted"),
    (
        "closed",
        "grant-observed",
        data(granted=[*ROOT, {"privilege": "web-admin", "resource": None}]),
        "does not compare what was granted",
    ),
    (
        "closed",
        "grant-observed",
        data(native_expiry="2026-11-24T10:00:00.000000Z"),
        "later than the ticket allows",
    ),
    ("closed", "revocation-ordered", data(cause="expired"), "before its time"),
    ("closed", "revocation-observed", data(gone=[]), "neither gone nor kept"),
    ("closed", "revocation-observed", actor(ANN), "only system:muniment records this"),
    ("closed", "request-closed", data(outcome="failed"), "not how it went"),
    ("closed", "request-closed", data(checks=[]), "closure checks are not what its entries say"),
    ("by_two", "review-opened", data(due_at="2027-11-23T10:00:00.000000Z"), "later than policy demands"),
    ("by_two", "review-recorded", both(actor(ANN), data(reviewer=ANN)), "its requester"),
    ("by_two", "review-recorded", data(reviewer=CYD), "in the name of human:cyd@example.com"),
    ("broken_glass", "finding-resolved", actor("human:bo@example.com"), "its requester"),
    ("broken_glass", "finding-resolved", data(finding="7"), "no open finding"),
    ("denied", "request-denied", data(by=DEE), "no such decision is on file"),
    ("lapsed", "request-lapsed", envelope(at="2026-11-23T10:00:00.000000Z"), "lapsed before its time"),
    ("withdrawn", "request-withdrawn", actor("system:muniment"), "nobody withdrew it"),
]


@pytest.mark.parametrize(("kind", "entry", "change", "sentence"), DAMAGES)
def test_each_way_past_the_rules_is_named(
    archive: Archive, kind: str, entry: str, change: Change, sentence: str
) -> None:
    ticket = archive.tickets[kind]
    at = places(archive.log, ticket)[entry]
    level = judged(altered(archive.log, at, change))
    assert not level.ok
    assert level.first_fault is not None
    assert sentence in level.first_fault
    assert f"ticket '{ticket}'" in level.first_fault


@pytest.mark.parametrize(
    ("kind", "entry", "sentence"),
    [
        ("closed", "request-submitted", "a ticket begins with its request"),
        ("closed", "policy-decided", "what policy did not permit"),
        ("closed", "approval-recorded", "needs 1 approvals and has 0"),
        ("by_two", "approval-recorded", "needs 2 approvals and has 1"),
        ("closed", "request-approved", "the ticket is pending, where this cannot happen"),
        ("closed", "provisioning-started", "the ticket is approved, where this cannot happen"),
        ("closed", "revocation-ordered", "the ticket is active, where this cannot happen"),
        ("closed", "revocation-observed", "the ticket is revoking, where this cannot happen"),
        ("by_two", "review-recorded", "closure checks are not what its entries say"),
        ("broken_glass", "finding-resolved", "closure checks are not what its entries say"),
        ("denied", "approval-recorded", "no such decision is on file"),
    ],
)
def test_an_entry_that_is_missing_is_missed(archive: Archive, kind: str, entry: str, sentence: str) -> None:
    ticket = archive.tickets[kind]
    level = judged(without(archive.log, places(archive.log, ticket)[entry]))
    assert level.first_fault is not None
    assert sentence in level.first_fault
    assert f"ticket '{ticket}'" in level.first_fault


@pytest.mark.parametrize("kind", ["closed", "denied", "withdrawn", "lapsed"])
def test_nothing_follows_the_end(archive: Archive, kind: str) -> None:
    entries = [decode_entry(raw) for raw in archive.log]
    last = max(at for at, entry in enumerate(entries) if entry.ticket == archive.tickets[kind])
    again = msgspec.json.decode(archive.log[last])
    again["seq"] += 1
    level = judged(rechained([*archive.log, msgspec.json.encode(again)]))
    assert level.first_fault is not None
    assert "it goes on after its end" in level.first_fault
    assert level.first_fault.startswith(f"leaf {len(archive.log)},")


def test_a_waiver_is_a_second_persons(archive: Archive) -> None:
    """Made from a real ticket: its revocation is not seen, and somebody answers for it instead."""
    ticket = archive.tickets["expired"]
    at = places(archive.log, ticket)["revocation-observed"]

    def waived(by: str, check: str = "gone") -> Level:
        def change(entry: dict[str, Any]) -> None:
            entry["type"] = "check-waived/1"
            entry["actor"] = {"id": by, "via": "local"}
            entry["data"] = {"check": check, "reason": "sha256:" + "0" * 64}

        log = altered(archive.log, at, change)

        def checks(entry: dict[str, Any]) -> None:
            for each in entry["data"]["checks"]:
                if each["check"] == check:
                    each.update(holds=False, waived=by)

        return judged(altered(log, places(log, ticket)["request-closed"], checks))

    assert waived("human:ops@example.com").ok
    assert "requester" in str(waived(ANN).first_fault)
    assert "not a person" in str(waived("system:muniment").first_fault)
    assert "never waived" in str(waived("human:ops@example.com", "nobody_alone").first_fault)
    assert "while access is still there" in str(waived("human:ops@example.com", "reviewed").first_fault)


def test_use_outside_the_window_is_named(archive: Archive) -> None:
    ticket = archive.tickets["expired"]
    at = places(archive.log, ticket)["revocation-ordered"]
    started = msgspec.json.decode(archive.log[places(archive.log, ticket)["provisioning-started"]])["data"]

    def used(first: str, last: str) -> Level:
        raw = msgspec.json.decode(archive.log[at])
        raw["type"], raw["data"] = "use-observed/1", {
            "source": "sshd", "digest": "sha256:" + "0" * 64, "events": 3, "first_at": first, "last_at": last,
            "privileges": [{"privilege": "web-admin", "resource": None}],
        }  # fmt: skip
        later = [
            msgspec.json.encode(e | {"seq": e["seq"] + 1})
            if e["ticket"] == ticket
            else msgspec.json.encode(e)
            for e in map(msgspec.json.decode, archive.log[at:])
        ]
        return judged(rechained([*archive.log[:at], msgspec.json.encode(raw), *later]))

    begins, ends = started["starts_at"], started["expires_at"]
    assert used(begins, begins).ok
    assert "after access had expired" in str(
        used(begins, ends.replace(":00.", ":59.").replace("T11", "T12")).first_fault
    )
    assert "before access began" in str(used("2026-11-23T01:00:00Z", begins).first_fault)


def test_policy_sets_are_put_together_from_their_parts(archive: Archive) -> None:
    entries = [decode_entry(raw) for raw in archive.log]
    part = next(at for at, entry in enumerate(entries) if entry.type == "policy-text-recorded/1")
    adopted = next(at for at, entry in enumerate(entries) if entry.type == "policy-adopted/1")
    changed = altered(archive.log, part, lambda e: e["data"].update(text=e["data"]["text"] + " "))
    assert "are not the file with its digest" in str(judged(changed).first_fault)
    assert "out of order" in str(judged(altered(archive.log, part, data(part=3))).first_fault)
    assert "not recorded before" in str(judged(without(archive.log, part)).first_fault)
    wrong = altered(archive.log, adopted, data(digest="sha256:" + "0" * 64))
    assert "not that of its files" in str(judged(wrong).first_fault)
    assert "was not adopted before" in str(judged(without(archive.log, adopted)).first_fault)


def test_events_are_in_their_own_streams(archive: Archive) -> None:
    at = places(archive.log, archive.tickets["closed"])["approval-recorded"]
    moved = altered(archive.log, at, envelope(ticket="policy", seq=99))
    assert "this is no ticket" in str(judged(moved).first_fault)
    policy = next(i for i, raw in enumerate(archive.log) if decode_entry(raw).ticket == "policy")
    moved = altered(archive.log, policy, envelope(ticket=archive.tickets["closed"]))
    assert "belongs to a stream policy" in str(judged(moved).first_fault)
    unknown = altered(archive.log, at, envelope(type="approval-forged/1"))
    assert "does not know such an event" in str(judged(unknown).first_fault)


def test_data_of_another_shape_are_a_fault_and_no_traceback(archive: Archive) -> None:
    at = places(archive.log, archive.tickets["closed"])["approval-recorded"]
    for change in (data(approver=7), data(evaluations="x"), lambda e: e.update(data={})):
        assert "its data are not such an event" in str(judged(altered(archive.log, at, change)).first_fault)
    started = places(archive.log, archive.tickets["closed"])["provisioning-started"]
    nonsense = altered(archive.log, started, data(starts_at="soon"))
    assert "it cannot be judged" in str(judged(nonsense).first_fault)


@pytest.mark.parametrize("ways", [1, 2, 5])
def test_a_pass_may_be_split_by_stream(archive: Archive, ways: int) -> None:
    at = places(archive.log, archive.tickets["by_two"])["approval-recorded"]
    for log in (archive.log, altered(archive.log, at, data(policies="sha256:" + "0" * 64))):
        parts = [TicketRules() for _ in range(ways)]
        for index, raw in enumerate(log):
            entry = decode_entry(raw)
            parts[hash(entry.ticket) % ways].feed(index, raw, entry)
        found = [
            msgspec.json.decode(msgspec.json.encode(part.found()), type=type(part.found())) for part in parts
        ]
        assert combine(found) == judged(log)


def test_kinds_of_later_versions_outside_tickets_are_let_be(archive: Archive) -> None:
    entry = msgspec.json.decode(archive.log[0]) | {"ticket": "pledge:1", "type": "pledge-made/1"}
    assert "pledge-made/1" not in KINDS
    raw = msgspec.json.encode(entry)
    rules = TicketRules()
    rules.feed(0, raw, decode_entry(raw))
    assert rules.result() == Level(ok=True, checked=1)
