"""Runs over a real certificate authority, with what somebody else did there planted in what it tells."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from msgspec.structs import replace
from sqlalchemy import update

import faulty
from evidence.office import Office, altered
from muniment.controllers.reconcile import Reconciling
from muniment.core.errors import Misconfigured, NotFound, Refused, TargetUnavailable
from muniment.core.inventory import Nested
from muniment.core.scope import Holding, Privilege
from muniment.evidence.rules import TicketRules
from muniment.ledger.entry import decode_entry
from muniment.service import deciding, drift, looking, reconciling
from muniment.service.desk import CONTROLLER
from muniment.store import tables as t
from muniment.store.rebuild import differences, rebuild
from service.changes import people, sound

DAY = timedelta(days=1)
BO = Holding(account="bo", privilege="root")


class Planted:
    """What somebody else did on the target, as it tells of it."""

    def __init__(self, office: Office) -> None:
        self.office, self.more, self.hidden, self.complete = office, [], set(), True
        self.real = office.target.observe
        office.target.observe = self.observe

    def observe(self, accounts):
        seen = self.real(accounts)
        kept = [h for h in seen.holdings if (h.account, h.privilege) not in self.hidden]
        more = [h for h in self.more if accounts is None or h.account in accounts]
        return replace(seen, holdings=(*kept, *more), complete=seen.complete and self.complete)


@pytest.fixture
def planted(office: Office) -> Planted:
    return Planted(office)


def run(office: Office) -> reconciling.Run:
    office.later(1)
    return reconciling.reconcile(office.desk, CONTROLLER, office.desk.targets["bastion"])


def declare(office: Office, text: str) -> None:
    office.desk = dataclasses.replace(office.desk, baseline=lambda: text)


def entry(
    holding: Holding,
    kind: str = "standing",
    until: str = "2027-06-30",
    owner: str = "human:oda@example.com",
    **more,
) -> str:
    owner = owner.replace("oda", "dee")
    lines = {
        "target": "bastion", "account": holding.account, "privilege": holding.privilege, "owner": owner, "reason": "as found", **more,
    }  # fmt: skip
    until_name = "recertify_by" if kind == "standing" else "until"
    said = "\n".join(
        f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
        for name, value in lines.items()
    )
    return f"[[{kind}]]\n{said}\n{until_name} = {until}\n"


def kinds(made: reconciling.Run) -> list[tuple[str, str, str]]:
    return sorted((f.type, f.item.account, f.item.privilege) for f in made.findings)


# ── what is explained ──


def test_what_tickets_give_is_explained(office: Office, planted: Planted) -> None:
    office.active()
    made = run(office)
    assert (made.made.ticketed, made.made.unexplained, made.findings) == (1, 0, ())
    sound(office)


def test_what_nothing_explains_is_found_once_and_named_by_its_holding(
    office: Office, planted: Planted
) -> None:
    office.active()
    planted.more = [BO, Holding(account="ghost", privilege="web-admin")]
    made = run(office)
    assert kinds(made) == [("excess", "bo", "root"), ("orphan", "ghost", "web-admin")]
    assert len(made.raised) == 2
    [bo] = [f for f in made.findings if f.item.account == "bo"]
    assert (bo.severity, bo.inventory, bo.item.privilege) == ("critical", made.inventory.id, "root")
    again = run(office)
    assert (again.raised, kinds(again)) == ((), kinds(made))
    assert [f.inventory for f in again.findings] == [f.inventory for f in made.findings]
    sound(office)


def test_drift_is_never_adopted_by_looking_often(office: Office, planted: Planted) -> None:
    planted.more = [BO]
    for _ in range(4):
        assert run(office).made.unexplained == 1
    assert kinds(run(office)) == [("excess", "bo", "root")]


def test_the_baseline_explains_until_it_must_be_looked_at(office: Office, planted: Planted) -> None:
    planted.more = [BO]
    declare(office, entry(BO))
    made = run(office)
    assert (made.made.baseline, made.findings) == (1, ())
    declare(office, entry(BO, until="2026-11-01"))
    late = run(office)
    assert (late.made.baseline, kinds(late)) == (1, [("overdue", "bo", "root")])
    declare(office, entry(BO))
    assert run(office).resolved == late.raised


def test_an_exception_explains_until_it_is_over(office: Office, planted: Planted) -> None:
    planted.more = [BO]
    declare(office, entry(BO, "exceptions", "2026-11-24T00:00:00Z"))
    assert (run(office).made.excepted, run(office).findings) == (1, ())
    office.later(86400)
    late = run(office)
    assert (late.made.excepted, late.made.unexplained, kinds(late)) == (0, 1, [("overdue", "bo", "root")])
    declare(office, "")  # taken out of the file, it is the same trouble
    assert run(office).raised == ()


def test_whoever_answers_for_it_or_holds_it_is_gone(office: Office, planted: Planted) -> None:
    planted.more = [BO]
    declare(office, entry(BO, owner="human:nobody@example.com"))
    assert kinds(run(office)) == [("owner-gone", "bo", "root")]
    declare(office, entry(BO))
    assert run(office).findings == ()
    people(office, 'name = "Bo"', 'name = "Bo"\nactive = false')
    assert kinds(run(office)) == [("owner-gone", "bo", "root")]
    declare(office, "")
    assert ("owner-gone", "bo", "root") in kinds(run(office))


def test_declared_and_not_there_is_found(office: Office, planted: Planted) -> None:
    """Whoever gave it later would be explained by that."""
    declare(office, entry(BO))
    made = run(office)
    assert [(f.type, f.severity) for f in made.findings] == [("vanished", "low")]
    planted.more = [BO]
    assert run(office).resolved == made.raised


def test_of_another_target_it_explains_nothing(office: Office, planted: Planted) -> None:
    planted.more = [BO]
    declare(office, entry(BO, target="other"))
    assert run(office).made.unexplained == 1


# ── what is missing ──


def test_what_a_ticket_gives_and_is_not_there_vanished_early(office: Office, planted: Planted) -> None:
    ticket = office.active()
    planted.hidden = {("ann", "web-admin")}
    made = run(office)
    [found] = made.findings
    assert (found.type, found.reference, found.severity) == ("vanished", ticket, "high")
    planted.hidden = set()
    assert run(office).resolved == (found.id,)


def test_an_incomplete_reading_calls_nothing_gone(office: Office, planted: Planted) -> None:
    office.active()
    planted.more = [BO]
    first = run(office)
    planted.complete, planted.more, planted.hidden = (
        False,
        [Holding(account="dee", privilege="root")],
        {("ann", "web-admin")},
    )
    made = run(office)
    assert not made.made.complete
    assert made.resolved == ()
    assert kinds(made) == [("excess", "bo", "root"), ("excess", "dee", "root")]  # what it shows is there
    planted.complete, planted.more, planted.hidden = True, [], set()
    assert set(run(office).resolved) == {*first.raised, *made.raised}
    sound(office)


def test_two_runs_at_once_end_a_finding_once(
    office: Office, planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another node's run ends it right after this one read it: what was decided by what was read is not appended."""
    planted.more = [BO]
    (name,) = run(office).raised
    planted.more = []
    store, real, others = office.desk.store, office.desk.store.checked, []

    def meanwhile(state, rows):
        read = real(state, rows)
        if state.id == f"drift:{name}" and not others:
            others.append(True)
            assert run(office).resolved == (name,)
        return read

    monkeypatch.setattr(store, "checked", meanwhile)
    assert run(office).resolved == ()
    monkeypatch.undo()
    kinds_of_it = [each.event.kind for each in store.entries(f"drift:{name}")]
    assert kinds_of_it == ["drift-raised/1", "drift-resolved/1"]
    sound(office)


def test_what_ends_while_the_target_is_read_is_no_finding(office: Office, planted: Planted) -> None:
    ticket = office.active()
    real = planted.observe

    def meanwhile(accounts):
        seen = real(accounts)  # as it was
        if accounts is None:
            office.target.observe = real
            office.do(deciding.give_back, "ann", ticket)
            office.take(ticket)
        return seen

    office.target.observe = meanwhile
    assert run(office).findings == ()
    assert office.status(ticket) == "closed"


def test_what_begins_while_the_target_is_read_is_no_finding(office: Office, planted: Planted) -> None:
    ticket = office.ask()
    office.approve(ticket)
    real = planted.observe

    def meanwhile(accounts):
        if accounts is None:
            office.target.observe = real
            office.give(ticket)
        return real(accounts)

    office.target.observe = meanwhile
    assert run(office).findings == ()
    assert office.status(ticket) == "active"


# ── what else may be wrong ──


def test_a_grant_that_outlives_its_ticket_is_overdue(office: Office, planted: Planted) -> None:
    ticket = office.closed()
    planted.more = [Holding(account="ann", privilege="web-admin", ticket=ticket)]
    [found] = run(office).findings
    assert (found.type, found.reference) == ("overdue", ticket)


def test_another_giver_than_before_is_found_and_stays(office: Office, planted: Planted) -> None:
    planted.more = [replace(BO, grantor="root")]
    declare(office, entry(BO))
    assert run(office).findings == ()
    planted.more = [replace(BO, grantor="mallory")]
    made = run(office)
    assert kinds(made) == [("altered", "bo", "root")]
    assert kinds(run(office)) == kinds(made)  # not adopted by being there for two runs
    planted.more = [replace(BO, grantor="root")]
    assert kinds(run(office)) == kinds(made)  # changed once more
    assert run(office).resolved == made.raised


def test_an_account_of_two_people_is_found(office: Office, planted: Planted) -> None:
    planted.more = [BO]
    declare(office, entry(BO))
    target = office.desk.targets["bastion"]
    shared = replace(target, accounts={"human:ann@example.com": "bo"})
    office.desk = dataclasses.replace(office.desk, targets={"bastion": shared})
    assert kinds(run(office)) == [("duplicate-identity", "bo", "")]


def test_a_privilege_in_a_privilege_is_found_with_all_who_gain_by_it(
    office: Office, planted: Planted
) -> None:
    office.active()
    office.target.nested = lambda: [Nested(inner="web-admin", outer=Privilege(privilege="root"))]
    made = run(office)
    [found] = made.findings
    assert (found.type, found.item.nested, found.severity) == ("excess", True, "critical")
    assert "1 account" in found.message
    assert made.inherited == {"ticketed": 0, "excepted": 0, "baseline": 0, "unexplained": 1}
    declare(office, entry(Holding(account="web-admin", privilege="root"), nested=True))
    made = run(office)
    assert (made.findings, made.made.baseline, made.inherited["ticketed"]) == ((), 1, 1)


# ── who may, and what stays ──


def test_who_may_have_a_target_reconciled(office: Office, planted: Planted) -> None:
    assert reconciling.reconcile_for(office.desk, office.caller("cyd"), "bastion").made.target == "bastion"
    with pytest.raises(Refused):
        reconciling.reconcile_for(office.desk, office.caller("aud"), "bastion")
    with pytest.raises(NotFound):
        reconciling.reconcile_for(office.desk, office.caller("ann"), "bastion")


def test_a_target_that_does_not_answer_is_no_run(office: Office, planted: Planted) -> None:
    office.target.observe = planted.real
    office.target.arrange("observe", faulty.unavailable_before())
    with pytest.raises(TargetUnavailable):
        run(office)
    assert office.desk.store.entries("reconciliation:bastion") == []


def test_a_baseline_that_cannot_be_used_is_no_run(office: Office, planted: Planted) -> None:
    declare(office, "[[standing")
    with pytest.raises(Misconfigured):
        run(office)
    assert office.desk.store.entries("inventory:bastion") == []


def test_only_so_many_are_raised_at_once_the_worst_first(
    office: Office, planted: Planted, monkeypatch
) -> None:
    monkeypatch.setattr(reconciling, "MOST", 2)
    planted.more = [Holding(account=f"bo{n}", privilege="web-admin") for n in range(3)] + [BO]
    assert [f.item.account for f in run(office).findings if f.severity == "critical"] == ["bo"]
    assert len(run(office).findings) == 4


def test_holdings_say_what_explains_them(office: Office, planted: Planted) -> None:
    ticket = office.active()
    planted.more = [BO, Holding(account="ghost", privilege="root")]
    declare(office, entry(BO))
    rows = looking.holdings(office.desk, office.caller("ops"), "bastion")
    assert [(row["account"], row["class"], row["ticket"]) for row in rows] == [
        ("ann", "ticketed", ticket), ("bo", "baseline", None), ("ghost", "unexplained", None)
    ]  # fmt: skip


def test_rows_are_rebuilt_and_a_forged_one_shows(office: Office, planted: Planted) -> None:
    planted.more = [BO]
    made = run(office)
    rebuild(office.desk.store)
    assert list(differences(office.desk.store)) == []
    with office.desk.store.engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(update(t.drift).values(status="resolved"))
    assert list(differences(office.desk.store)) == [f"drift:{made.raised[0]}"]
    # and hides nothing: the entries say that it stands
    assert drift.shown(office.desk, office.caller("ops"), made.raised[0])["status"] == "open"
    rebuild(office.desk.store)
    assert kinds(run(office)) == [("excess", "bo", "root")]


def test_a_controller_raises_what_it_finds(office: Office, planted: Planted) -> None:
    planted.more = [BO]
    Reconciling(office.desk, DAY, "node").look("bastion")
    found = looking.findings(office.desk, office.caller("ops"), drift.Wanted())
    assert [each["message"].partition(" ")[0] for each in found] == ["bo"]


# ── people and findings ──


def test_a_finding_is_assigned_explained_and_accepted_by_another(office: Office, planted: Planted) -> None:
    planted.more = [BO]
    [name] = run(office).raised
    ops, cyd, dee = (office.caller(who) for who in ("ops", "cyd", "dee"))
    now = office.desk.clock.now()
    assert (
        drift.assign(office.desk, ops, name, "human:cyd@example.com")["assigned_to"]
        == "human:cyd@example.com"
    )
    explained = drift.explain(office.desk, cyd, name, "given by hand in INC-7")
    assert (explained["status"], explained["explanation"]) == ("explained", "given by hand in INC-7")
    with pytest.raises(Refused):
        drift.accept(office.desk, cyd, name, now + DAY, "my own")
    accepted = drift.accept(office.desk, dee, name, now + DAY, "until tomorrow")
    assert (accepted["status"], accepted["accepted_by"]) == ("accepted", "human:dee@example.com")
    assert run(office).raised == ()
    office.later(2 * 86400)
    assert run(office).raised == (name,)
    sound(office)


def test_whoever_holds_it_does_not_accept_it(office: Office, planted: Planted) -> None:
    planted.more = [Holding(account="cyd", privilege="root")]
    [name] = run(office).raised
    drift.explain(office.desk, office.caller("dee"), name, "x")
    with pytest.raises(Refused):
        drift.accept(office.desk, office.caller("cyd"), name, office.desk.clock.now() + DAY, "mine")


def test_who_sees_findings_and_who_treats_them(office: Office, planted: Planted) -> None:
    planted.more = [BO]
    [name] = run(office).raised
    with pytest.raises(NotFound):
        drift.shown(office.desk, office.caller("ann"), name)
    assert looking.findings(office.desk, office.caller("ann"), drift.Wanted()) == []
    with pytest.raises(Refused):
        drift.explain(office.desk, office.caller("aud"), name, "x")
    drift.assign(office.desk, office.caller("cyd"), name, "human:ann@example.com")
    assert drift.explain(office.desk, office.caller("ann"), name, "I did")["status"] == "explained"
    with pytest.raises(Refused):  # explaining is what it was assigned for
        drift.assign(office.desk, office.caller("ann"), name, "human:bo@example.com")


def test_lists_are_filtered_and_paged(office: Office, planted: Planted) -> None:
    planted.more = [
        BO,
        Holding(account="dee", privilege="web-admin"),
        Holding(account="ghost", privilege="root"),
    ]
    run(office)
    ops = office.caller("ops")

    def accounts(**wanted) -> list[str]:
        found = looking.findings(
            office.desk, ops, drift.chosen(**({"types": (), "severities": (), "statuses": ()} | wanted))
        )
        return sorted(each["holding"]["account"] for each in found)

    assert accounts() == ["bo", "dee", "ghost"]
    assert accounts(types=["orphan"]) == ["ghost"]
    assert accounts(severities=["high"]) == ["dee"]
    assert accounts(account="bo") == ["bo"]
    assert accounts(target="other") == accounts(statuses=["accepted"]) == accounts(past_due=True) == []
    office.later(4 * 3600)
    assert accounts(past_due=True) == ["bo", "ghost"]
    pages, cursor = [], None
    while True:
        page = looking.findings_page(office.desk, ops, drift.Wanted(), before=cursor, limit=1)
        pages += page.items
        if (cursor := page.next) is None:
            break
    assert len({each["id"] for each in pages}) == len(pages) == 3
    planted.more = []
    run(office)
    assert accounts() == []
    assert accounts(resolved=True) == ["bo", "dee", "ghost"]


# ── what an auditor's program says of it ──


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("drift-accepted", lambda entry: entry.update(actor={"id": "human:cyd@example.com", "via": "test"})),
        ("drift-accepted", lambda entry: entry["data"].update(until="2027-11-23T10:00:00.000000Z")),
        ("drift-raised", lambda entry: entry["data"]["item"].update(account="somebody")),
        ("drift-raised", lambda entry: entry["data"].update(target="other")),
        ("drift-explained", lambda entry: entry["data"].update(finding="fnd_other")),
        ("drift-assigned", lambda entry: entry.update(type="drift-raised/1")),
        ("reconciliation-made", lambda entry: entry["data"].update(unexplained=-1)),
        ("reconciliation-made", lambda entry: entry["data"].update(target="other")),
        ("reconciliation-made", lambda entry: entry["data"].update(complete=False, resolved=1)),
        ("drift-resolved", lambda entry: entry.update(ticket="drift:fnd_other")),
    ],
)
def test_what_cannot_have_happened_is_a_fault(office: Office, planted: Planted, kind: str, change) -> None:
    planted.more = [BO]
    [name] = run(office).raised
    drift.assign(office.desk, office.caller("ops"), name, "human:cyd@example.com")
    drift.explain(office.desk, office.caller("cyd"), name, "x")
    drift.accept(office.desk, office.caller("dee"), name, office.desk.clock.now() + DAY, "y")
    planted.more = []
    run(office)
    log = office.log()
    at = next(n for n, raw in enumerate(log) if decode_entry(raw).type.startswith(kind))
    for broken, sane in ((log, True), (altered(log, at, change), False)):
        rules = TicketRules()
        for index, raw in enumerate(broken):
            rules.feed(index, raw, decode_entry(raw))
        assert rules.result().ok == sane, rules.result()
