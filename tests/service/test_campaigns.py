"""Campaigns over what a real certificate authority is told to hold, and over the directory: from their opening to their end."""

from __future__ import annotations

import dataclasses
import zlib
from datetime import timedelta

import pytest
from sqlalchemy import update

from evidence.office import Office, altered
from muniment.controllers.campaigns import CampaignLoop
from muniment.core.campaign_items import CampaignItem, Selection
from muniment.core.errors import IntegrityError, Invalid, MunimentError, NotFound, Refused
from muniment.core.pace import paces
from muniment.core.scope import Holding
from muniment.evidence.rules import TicketRules
from muniment.ledger.entry import decode_entry
from muniment.service import certifying, reconciling
from muniment.service.certifying import Opening, Where
from muniment.service.concluding import Pass, advance
from muniment.service.desk import CONTROLLER
from muniment.store import tables as t
from muniment.store.campaigns import SqlCampaigns
from muniment.store.rebuild import differences, rebuild
from service.changes import listening, people, sound
from service.test_reconciling import BO, Planted, declare, entry, run
from service.test_usage import line, reading, send

DAY = timedelta(days=1)
ON_BASTION = Selection(subjects=("entitlement", "declaration"))
WEB = [Holding(account=f"web{n}", privilege="web-admin") for n in range(6)]


@pytest.fixture
def planted(office: Office) -> Planted:
    return Planted(office)


def open_(office: Office, **more) -> tuple[str, tuple[CampaignItem, ...]]:
    office.later(1)
    asked = {"name": "q4", "reason": "as each quarter", "selection": ON_BASTION, "sample": 0, "alone": None}
    made = certifying.open_(office.desk, office.caller("ops"), Opening(**(asked | more)))
    return made.name, office.desk.campaigns.items(made)


def decide(office: Office, who: str, decision: str, reason: str = "looked at it", name: str = "q4", **where):
    office.later(1)
    return certifying.decide(
        office.desk, office.caller(who), name, Where(**where), decision=decision, reason=reason
    )  # fmt: skip


def sign(office: Office, who: str = "aud", name: str = "q4") -> None:
    office.later(1)
    certifying.sign_off(office.desk, office.caller(who), name, "as agreed")


def move(office: Office, name: str = "q4") -> Pass:
    office.later(1)
    made = advance(office.desk, name, "node")
    assert made is not None
    return made


def status(office: Office, name: str = "q4") -> str:
    campaign = office.desk.campaigns.read(name)[1]
    assert campaign is not None
    return campaign.status


def place_of(items: tuple[CampaignItem, ...], account: str) -> str:
    return str(next(n for n, item in enumerate(items) if item.account == account))


# ── a whole campaign ──


def test_what_is_kept_stays_and_what_is_revoked_is_gone_before_it_closes(
    office: Office, planted: Planted
) -> None:
    planted.more = [BO, *WEB]
    declare(office, "".join(entry(each) for each in (BO, *WEB)))
    run(office)
    _, items = open_(office)
    assert {(item.account, item.standing, item.reviewer) for item in items} == {
        (each.account, "baseline", "human:dee@example.com") for each in planted.more
    }
    kept = decide(office, "dee", "keep", privilege="web-admin")
    assert (kept.decided, kept.left, kept.campaign.status) == (6, (), "open")
    decide(office, "dee", "revoke", "Bo is on another team", items=place_of(items, "bo"))
    assert status(office) == "decided"
    sign(office)
    assert move(office).campaign.status == "removing", "it is there still"
    made = run(office)
    assert [(f.type, f.item.account) for f in made.findings] == [("excess", "bo")], (
        "the line counts for nothing"
    )
    planted.more = WEB
    closed = move(office).campaign
    assert (closed.status, closed.outcome(int(place_of(items, "bo")))) == ("closed", "gone")
    assert run(office).findings == ()
    sound(office)
    rebuild(office.desk.store)
    assert list(differences(office.desk.store)) == []


def test_a_line_that_was_revoked_counts_again_only_once_it_is_written_anew(
    office: Office, planted: Planted
) -> None:
    planted.more = [BO]
    declare(office, entry(BO))
    run(office)
    open_(office)
    decide(office, "dee", "revoke", items="0")
    sign(office)
    planted.more = []
    move(office)
    assert status(office) == "closed"
    planted.more = [BO]
    assert run(office).made.unexplained == 1
    declare(office, entry(BO, until="2027-07-01"))
    assert run(office).made.baseline == 1


def test_what_is_kept_need_not_be_looked_at_again_for_as_long_as_it_says(
    office: Office, planted: Planted
) -> None:
    planted.more = [BO]
    declare(office, entry(BO, until="2026-11-01"))
    [overdue] = run(office).raised
    _, items = open_(
        office, selection=Selection(due_before="2026-12-01T00:00:00.000000Z"), valid_for=30 * DAY
    )
    assert [item.subject for item in items] == ["entitlement"]
    decide(office, "dee", "keep", items="0")
    assert run(office).resolved == (), "before it is signed off and closed it counts for nothing"
    sign(office)
    assert move(office).campaign.status == "closed"
    assert run(office).resolved == (overdue,)
    with pytest.raises(Invalid, match="nothing stands"):
        open_(office, name="again", selection=Selection(due_before="2026-12-01T00:00:00.000000Z"))
    office.later(31 * 86400)
    assert run(office).raised == (overdue,)


def test_an_exception_is_not_prolonged_by_being_kept(office: Office, planted: Planted) -> None:
    planted.more = [BO]
    declare(office, entry(BO, "exceptions", "2026-11-24T00:00:00Z"))
    run(office)
    _, items = open_(office)
    assert [item.standing for item in items] == ["excepted"]
    decide(office, "dee", "keep", items="0")
    sign(office)
    move(office)
    office.later(86400)
    assert [f.type for f in run(office).findings] == ["overdue"]


# ── who decides ──


def test_nobody_decides_on_what_is_theirs_or_of_whom_they_report_to(office: Office, planted: Planted) -> None:
    mine, bos = Holding(account="ann", privilege="root"), BO
    planted.more = [mine, bos]
    declare(office, entry(mine, owner="human:ann@example.com") + entry(bos, owner="human:ann@example.com"))
    run(office)
    _, items = open_(office)
    # Ann answers for both, and holds one; Bo, of whom she is a report, holds the other
    assert {item.account: item.reviewer for item in items} == {
        "ann": "human:bo@example.com", "bo": "group:platform"
    }  # fmt: skip
    with pytest.raises(NotFound):
        decide(office, "ann", "keep", items=place_of(items, "ann"))
    with pytest.raises(Refused, match="is for human:bo@"):
        decide(office, "cyd", "keep", items=place_of(items, "ann"))
    for stake in ("ann", "bo"):
        with pytest.raises(Refused, match="without a stake"):
            certifying.reassign(
                office.desk, office.caller("ops"), "q4", Where(items=place_of(items, "bo")),
                to=f"human:{stake}@example.com", reason="on leave",
            )  # fmt: skip
    # in a group that is asked, she still cannot
    people(office, 'groups = ["engineers"]              #', 'groups = ["engineers", "platform"]  #')
    with pytest.raises(Refused) as refused:
        decide(office, "ann", "keep", items=place_of(items, "bo"))
    assert refused.value.code == "refused.self-review"
    assert decide(office, "ann", "keep", account="bo").decided == 0
    assert decide(office, "cyd", "keep", items=place_of(items, "bo")).decided == 1


def test_nobody_signs_off_what_they_opened_or_decided(office: Office, planted: Planted) -> None:
    planted.more = [BO]
    declare(office, entry(BO, owner="human:ops2@example.com"))
    people(
        office,
        '[identities."human:aud',
        '[identities."human:ops2@example.com"]\nroles = ["operator"]\n\n[identities."human:aud',
    )
    run(office)
    open_(office)
    with pytest.raises(Refused, match="not decided"):
        sign(office)
    decide(office, "ops2", "keep", items="0")
    for part in ("ops", "ops2"):
        with pytest.raises(Refused, match="took part"):
            sign(office, part)
    with pytest.raises((Refused, NotFound)):
        sign(office, "cyd")
    sign(office, "aud")
    with pytest.raises(Refused, match="cannot be decided"):
        decide(office, "ops2", "revoke", items="0")


def test_who_is_asked_sees_it_and_others_do_not(office: Office, planted: Planted) -> None:
    planted.more = [BO]
    declare(office, entry(BO))
    run(office)
    open_(office)
    for who, sees in (("ops", True), ("aud", True), ("dee", True), ("cyd", False), ("bo", False)):
        try:
            certifying.visible(office.desk, office.caller(who), "q4")
        except NotFound:
            assert not sees, who
        else:
            assert sees, who
    for name in ("nothing", "q4'; --", "../q4", "Q4", ""):
        with pytest.raises(NotFound):
            certifying.visible(office.desk, office.caller("ops"), name)


def test_only_operators_open_and_names_are_taken_once(office: Office, planted: Planted) -> None:
    planted.more = [BO]
    with pytest.raises(Refused) as refused:
        open_(office)
    assert refused.value.code == "refused.no-inventory"
    run(office)
    open_(office)
    with pytest.raises(Refused, match="already"):
        open_(office)
    with pytest.raises(Refused, match="not an operator"):
        certifying.open_(office.desk, office.caller("cyd"), Opening(name="mine", reason="x"))
    for more in (
        {"name": "Ü"}, {"length": timedelta()}, {"length": 181 * DAY}, {"valid_for": timedelta()}, {"sample": 101},
        {"rules": ("service_account:deploy",)}, {"rules": ("nobody",)}, {"unanswered": "shrug"}, {"reason": " "},
        {"selection": Selection(targets=("nowhere",))}, {"alone": "dire"}, {"escalate_to": "role:king"},
    ):  # fmt: skip
        with pytest.raises(Invalid):
            open_(office, **({"name": "other"} | more))


# ── against rubber-stamping ──


def test_some_are_kept_one_by_one_and_nothing_unexplained_is_kept_at_all(
    office: Office, planted: Planted
) -> None:
    ghost = Holding(account="ghost", privilege="web-admin")
    planted.more = [BO, *WEB, ghost]
    declare(office, "".join(entry(each) for each in (BO, *WEB)))
    run(office)
    _, items = open_(office, alone="critical")
    assert (items[0].account, items[0].risk) == ("bo", "critical"), "those come first"
    with pytest.raises(Refused) as refused:
        decide(office, "dee", "keep", items="0-2")
    assert refused.value.code == "refused.decide-singly"
    kept, unexplained = decide(office, "dee", "keep"), place_of(items, "ghost")
    assert (kept.decided, kept.left) == (6, (0, int(unexplained)))
    with pytest.raises(Refused) as refused:
        decide(office, "cyd", "keep", items=unexplained)
    assert refused.value.code == "refused.unexplained"
    decide(office, "cyd", "revoke", items=unexplained)
    decide(office, "dee", "keep", "she is the one on call", items="0")
    [cyd, dee] = paces(office.desk.campaigns.read("q4")[1].acts)
    assert (cyd.items, cyd.kept, dee.acts, dee.items, dee.kept, dee.largest) == (1, 0, 2, 7, 7, 6)
    assert dee.signs == (), "of so few nothing is concluded"


def test_many_kept_at_once_and_nothing_else_is_said_so(office: Office, planted: Planted) -> None:
    planted.more = [Holding(account=f"web{n}", privilege="web-admin") for n in range(25)]
    declare(office, "".join(entry(each) for each in planted.more))
    run(office)
    open_(office, sample=100)
    with pytest.raises(Refused, match="by itself"):
        decide(office, "dee", "keep", items="0-24")
    certifying.cancel(office.desk, office.caller("ops"), "q4", "too strict")
    open_(office, name="again")
    decide(office, "dee", "keep", name="again")
    [dee] = paces(office.desk.campaigns.read("again")[1].acts)
    assert dee.signs == ("always-keep", "fast")
    # a cancelled one rules nothing
    assert office.desk.campaigns.rulings().kept == office.desk.campaigns.rulings().revoked == {}


def test_use_by_a_line_that_was_revoked_is_explained_until_the_sign_off(
    office: Office, planted: Planted
) -> None:
    pytest.importorskip("duckdb")
    planted.more = [BO]
    declare(office, entry(BO))
    run(office)
    open_(office)
    decide(office, "dee", "revoke")
    sign(office)
    signed = office.clock.at
    office.later(60)
    early, late = (
        send(reading(office), line("bo", signed + timedelta(seconds=at), BO.privilege)) for at in (-1, 1)
    )
    assert (early["verdicts"], late["verdicts"]) == ({"standing": 1}, {"ungranted": 1})
    sound(office)


# ── without an answer ──


def test_without_an_answer_it_is_revoked_where_it_was_opened_so(office: Office, planted: Planted) -> None:
    heard = listening(office)
    planted.more = [BO]
    declare(office, entry(BO))
    run(office)
    open_(office, unanswered="revoke", length=4 * DAY)
    assert move(office).campaign.status == "open"
    office.later(3 * 86400)
    move(office)
    office.later(86400)
    late = move(office).campaign
    assert (late.status, late.decision(0), late.acts[-1].by) == ("decided", "revoke", "system:muniment")
    assert heard.kinds() == ["campaign-opened", "campaign-reminded", "campaign-decided", "campaign-reminded"]
    assert heard.notices[0].to == ("human:dee@example.com",)
    sign(office)
    planted.more = []
    assert move(office).campaign.status == "closed"
    sound(office)


def test_without_an_answer_others_are_asked_and_told_each_day(office: Office, planted: Planted) -> None:
    heard = listening(office)
    planted.more = [BO]
    declare(office, entry(BO))
    run(office)
    open_(office, escalate_to="group:platform", length=4 * DAY)
    office.later(4 * 86400)
    for _ in range(3):
        assert move(office).campaign.status == "open"
    told = [(n.kind, n.to) for n in heard.notices[1:]]
    assert told == [("campaign-reassigned", ("group:platform",)), ("campaign-reminded", ("group:platform",))]
    office.later(86400)
    move(office)
    assert len(heard.notices) == 4
    decide(office, "cyd", "keep", items="0")
    sound(office)


def test_a_controller_moves_it_on_and_looks_again_later(office: Office, planted: Planted) -> None:
    planted.more = [BO]
    declare(office, entry(BO))
    run(office)
    open_(office)
    decide(office, "dee", "revoke", items="0")
    loop = CampaignLoop(office.desk, "node")
    assert loop.due() == []
    sign(office)
    assert loop.due() == ["q4"]
    loop.look("q4")
    assert (status(office), loop.due()) == ("removing", [])
    planted.more = []
    office.later(11)
    for name in loop.due():
        loop.look(name)
    assert (status(office), loop.due()) == ("closed", [])


# ── what only people can take away ──


def test_people_machines_and_groups_are_watched_until_they_are_gone(office: Office) -> None:
    _, items = open_(office, selection=Selection(subjects=("identity", "membership")))
    what = {item.what: n for n, item in enumerate(items)}
    deploy, on_call = what["service_account:deploy exists"], what["human:bo@example.com is in on-call"]
    reviewers = [item.reviewer for item in items]
    assert (reviewers[deploy], reviewers[on_call]) == ("human:ann@example.com", "role:operator")
    decide(office, "ann", "revoke", items=str(deploy))
    decide(office, "ops", "revoke", items=str(on_call))
    for who in ("ann", "bo", "ops"):
        keep = Where(decision="none")
        certifying.decide(office.desk, office.caller(who), "q4", keep, decision="keep", reason="needed")
    sign(office)
    assert len(move(office).campaign.unsettled()) == 2
    people(office, 'groups = ["engineers", "on-call"]', 'groups = ["engineers"]')
    assert move(office).campaign.unsettled() == [deploy]
    with pytest.raises(Refused, match="does not wait"):
        certifying.explain(office.desk, office.caller("ops"), "q4", str(on_call), "x")
    certifying.explain(
        office.desk, office.caller("ops"), "q4", str(deploy), "it goes with the old cluster in May"
    )
    assert move(office).campaign.status == "closed"
    sound(office)


def test_what_is_to_be_changed_is_over_once_it_is_declared_in_another_way(
    office: Office, planted: Planted
) -> None:
    planted.more = [BO]
    run(office)
    _, items = open_(office)
    assert items[0].standing == "unexplained"
    decide(office, "cyd", "change", "have it declared", items="0")
    sign(office)
    assert move(office).campaign.status == "removing"
    declare(office, entry(BO))
    closed = move(office).campaign
    assert (closed.status, closed.outcome(0)) == ("closed", "covered")
    assert run(office).findings == ()


# ── what counts is what was recorded ──


def test_items_that_are_not_those_that_were_recorded_decide_nothing(office: Office, planted: Planted) -> None:
    planted.more = [BO, *WEB]
    declare(office, "".join(entry(each) for each in (BO, *WEB)))
    run(office)
    open_(office)
    campaign = office.desk.campaigns.read("q4")[1]
    rows = SqlCampaigns(office.desk.store.engine)
    lines = list(rows.lines(campaign.opened.digest))
    forged = zlib.compress(b"".join(line.replace(b"dee", b"cyd") + b"\n" for line in lines))
    with office.desk.store.engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(update(t.campaign_part).values(body=forged))
        connection.execute(update(t.campaign).values(status="closed"))
    office.desk = dataclasses.replace(office.desk)
    with pytest.raises(IntegrityError):
        decide(office, "cyd", "keep", items="1")
    assert list(differences(office.desk.store)) == ["campaign:q4"]
    with office.desk.store.engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(update(t.campaign_part).values(body=b"x"))
    office.desk = dataclasses.replace(office.desk)
    with pytest.raises(IntegrityError):
        decide(office, "dee", "keep", items="1")


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("campaign-opened", lambda e: e["data"].update(singly=3)),
        ("campaign-opened", lambda e: e["data"].update(items=1 << 40)),
        ("campaign-opened", lambda e: e["data"].update(due_at="2029-01-01T00:00:00.000000Z")),
        ("campaign-opened", lambda e: e.update(actor={"id": "system:muniment", "via": "controller"})),
        ("campaign-opened", lambda e: e["data"].update(campaign="other")),
        ("campaign-items-decided", lambda e: e["data"].update(count=2)),
        ("campaign-items-decided", lambda e: e["data"].update(items="7")),
        ("campaign-items-decided", lambda e: e["data"].update(items="0-1", count=2, decision="keep")),
        ("campaign-items-decided", lambda e: e["data"].update(reason=None)),
        ("campaign-items-decided", lambda e: e.update(actor={"id": "service_account:deploy", "via": "api"})),
        ("campaign-signed-off", lambda e: e["data"].update(results="sha256:" + "0" * 64)),
        ("campaign-signed-off", lambda e: e.update(actor={"id": "human:dee@example.com", "via": "api"})),
        ("campaign-signed-off", lambda e: e.update(actor={"id": "human:ops@example.com", "via": "api"})),
        ("campaign-items-settled", lambda e: e["data"].update(items="1")),
        ("campaign-items-settled", lambda e: e["data"].update(outcome="explained")),
        ("campaign-items-settled", lambda e: e.update(actor={"id": "human:ops@example.com", "via": "api"})),
        ("campaign-closed", lambda e: e["data"].update(kept=7)),
        ("campaign-closed", lambda e: e["data"].update(valid_until="2029-01-01T00:00:00.000000Z")),
        ("campaign-closed", lambda e: e.update(actor={"id": "human:ops@example.com", "via": "api"})),
        ("campaign-closed", lambda e: e.update(type="campaign-cancelled/1")),
    ],
)
def test_what_cannot_have_happened_is_a_fault(office: Office, planted: Planted, kind: str, change) -> None:
    planted.more = [BO, WEB[0]]
    declare(office, entry(BO) + entry(WEB[0]))
    run(office)
    _, items = open_(office, alone="critical")
    decide(office, "dee", "revoke", items="0")
    decide(office, "dee", "keep", items="1")
    sign(office)
    planted.more = [WEB[0]]
    move(office)
    assert (status(office), items[0].account) == ("closed", "bo")
    log = office.log()
    at = next(n for n, raw in enumerate(log) if decode_entry(raw).type.startswith(kind))
    for broken, sane in ((log, True), (altered(log, at, change), False)):
        rules = TicketRules()
        for index, raw in enumerate(broken):
            rules.feed(index, raw, decode_entry(raw))
        assert rules.result().ok == sane, rules.result()


def test_a_crash_anywhere_leaves_something_that_is_due_again(
    office: Office, planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every write of a pass is cut off once: what is done after that is what was to be done."""
    planted.more = [BO, *WEB]
    declare(office, "".join(entry(each) for each in (BO, *WEB)))
    run(office)
    _, items = open_(office)
    decide(office, "dee", "revoke", items=place_of(items, "bo"))
    decide(office, "dee", "keep", privilege="web-admin")
    sign(office)
    planted.more = WEB
    store = type(office.desk.store)
    whole, calls, cut = store._append, [0], [0]

    def failing(self, appends, *, patient):
        calls[0] += 1
        if calls[0] == cut[0]:
            raise MunimentError("the power went")
        return whole(self, appends, patient=patient)

    monkeypatch.setattr(store, "_append", failing)
    for cut[0] in range(1, 40):
        calls[0] = 0
        try:
            move(office)
        except MunimentError:
            continue
        finally:
            office.later(3601)
        if status(office) == "closed":
            break
    assert (status(office), cut[0] > 2) == ("closed", True)
    cut[0] = 0
    assert [
        f.item.account
        for f in reconciling.reconcile(office.desk, CONTROLLER, office.desk.targets["bastion"]).findings
    ] == []
    sound(office)
