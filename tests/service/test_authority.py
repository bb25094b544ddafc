"""Who decides for whom, who is missing, who is told: against the real directory, policies and store."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from evidence.office import HOUR, Office, altered
from muniment.config import load
from muniment.core import events as e
from muniment.core.errors import Invalid, MunimentError, NotFound, Refused
from muniment.core.scope import Privilege
from muniment.evidence.rules import TicketRules
from muniment.ledger.entry import decode_entry
from muniment.main import open_desk
from muniment.ports import Append, Appended
from muniment.service import deciding, delegating, looking
from muniment.service.approvers import missing
from muniment.service.attending import attend, note_missing
from muniment.service.desk import Desk
from muniment.service.documents import ticket_document
from muniment.service.explaining import explain
from muniment.service.filing import Ask, preview
from muniment.store.views import Filter
from service.changes import PRODUCTION, events, listening, oblige, people, sound, ticket

DAY = timedelta(days=1)
CYD, DEE, BO = (f"human:{name}@example.com" for name in ("cyd", "dee", "bo"))
GUEST = 'groups = ["engineers", "on-call"]   # on call: may break the glass'


def delegate(office: Office, by: str = "cyd", to: str = BO, **period):
    return delegating.give(
        office.desk, office.caller(by), to=to, reason="holidays", **({"length": DAY} | period)
    )


def awaiting(office: Office, who: str) -> list[str]:
    page = looking.tickets(office.desk, office.caller(who), Filter(), awaiting_me=True)
    return [t.id for t in page.items]


# ── delegation ──


def test_a_delegate_sees_decides_and_it_is_on_record_for_whom(office: Office) -> None:
    asked = office.ask()
    with pytest.raises(NotFound):
        office.approve(asked, "bo")
    given = delegate(office)
    assert awaiting(office, "bo") == [asked]
    office.approve(asked, "bo")
    [decision] = ticket_document(office.desk, ticket(office, asked))["decisions"]
    assert (decision["approver"], decision["on_behalf_of"], decision["delegation"]) == (BO, CYD, given.id)
    assert awaiting(office, "bo") == []
    office.give(asked)
    assert office.status(asked) == "active"
    sound(office)


def test_a_review_awaits_whoever_could_do_it_and_nobody_with_a_part_in_the_incident(office: Office) -> None:
    asked = office.ask(who="bo", break_glass=True, incident="INC-1", length=HOUR / 2, responders=(DEE,))
    office.give(asked)
    assert awaiting(office, "aud") == []  # access is there: no review is owed yet
    office.do(deciding.give_back, "bo", asked)
    office.take(asked)
    assert {who: awaiting(office, who) for who in ("aud", "ops", "cyd", "dee", "bo")} == {
        "aud": [asked], "ops": [asked], "cyd": [asked], "dee": [], "bo": [],
    }  # fmt: skip
    office.do(deciding.review, "aud", asked, outcome="appropriate", comment="as INC-1 says")
    assert awaiting(office, "ops") == []


def test_it_opens_stages_and_not_what_the_other_asked_for(office: Office) -> None:
    people(office, 'name = "Cyd"\ngroups = ["platform"]', 'name = "Cyd"\ngroups = ["platform", "engineers"]')
    own = office.ask(who="cyd")
    delegate(office)
    assert awaiting(office, "dee") == [own]
    assert awaiting(office, "bo") == [own]  # as Cyd is an owner of the target
    with pytest.raises(Refused) as caught:
        office.approve(own, "bo")
    assert caught.value.code == "refused.not-delegated"


def test_not_past_its_end_and_not_once_it_was_taken_back(office: Office) -> None:
    asked = office.ask()
    given = delegate(office, length=timedelta(hours=1))
    office.later(3601)
    with pytest.raises(NotFound):
        office.approve(asked, "bo")
    given = delegate(office)
    for _ in range(2):
        assert delegating.end(office.desk, office.caller("cyd"), given.id) == given
    with pytest.raises(NotFound):
        office.approve(asked, "bo")


@pytest.fixture
def elsewhere(office: Office):
    """Another node on the same store. It has looked at what is delegated before anything changes."""
    desk = open_desk(load(office.folder / "muniment.toml"), clock=office.clock)
    desk.delegations.now()
    yield desk
    desk.store.engine.dispose()


def test_another_node_goes_by_what_was_delegated_and_taken_back_here(office: Office, elsewhere: Desk) -> None:
    asked, again, bo = office.ask(), office.ask(), elsewhere.caller(BO, "test")
    given = delegate(office)
    deciding.approve(elsewhere, bo, asked, digest=None)
    assert office.status(asked) == "approved"
    elsewhere.store.read(again)  # it has everything in memory now
    delegating.end(office.desk, office.caller("cyd"), given.id)
    with pytest.raises(NotFound):
        deciding.approve(elsewhere, bo, again, digest=None)
    assert office.status(again) == "pending"


def test_a_delegation_that_ends_while_its_decision_is_on_the_way_decides_nothing(
    office: Office, elsewhere: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an approval rested on is compared in the transaction that records it."""
    given = delegate(office)
    asked, bo, append, ended = office.ask(), elsewhere.caller(BO, "test"), elsewhere.store.append, []

    def late(wanted: Append) -> Appended:
        if not ended:
            ended.append(delegating.end(office.desk, office.caller("cyd"), given.id))
        return append(wanted)

    monkeypatch.setattr(elsewhere.store, "append", late)
    with pytest.raises(NotFound):
        deciding.approve(elsewhere, bo, asked, digest=None)
    assert ended == [given]
    assert office.status(asked) == "pending"


@pytest.mark.parametrize(
    "change",
    [
        "taken back",
        "over",
        "who gave it left",
        "who gave it is no approver",
        "the delegate left",
        "reports now",
    ],
)
def test_it_is_judged_again_before_access_is_given(office: Office, change: str) -> None:
    asked = office.ask(starts_at=office.clock.at + timedelta(hours=2))
    given = delegate(office, length=timedelta(hours=1) if change == "over" else DAY)
    office.approve(asked, "bo")
    block = 'name = "Cyd"\ngroups = ["platform"]'
    match change:
        case "taken back":
            delegating.end(office.desk, office.caller("cyd"), given.id)
        case "who gave it left":
            people(office, block, f"{block}\nactive = false")
        case "who gave it is no approver":
            people(office, block, 'name = "Cyd"\ngroups = ["engineers"]')
        case "the delegate left":
            people(office, GUEST, f"{GUEST}\nactive = false")
        case "reports now":
            report(office)
    office.later(2 * 3600)
    office.give(asked)
    assert office.status(asked) == "pending"
    [voided] = events(office, asked, e.ApprovalsVoided)
    assert voided.approvers == (BO,)
    sound(office)


def test_nobody_decides_alone_when_access_is_given_whatever_policy_says(office: Office) -> None:
    """Cyd answers for the machine by then, and Dee is found to be Cyd: no policy here forbids it."""
    approvals = 'permit (principal is Human, action == Action::"approve", resource);'
    oblige(office, '@approvers("2 of owners")\n@max_duration("4h")', approvals=f'@id("all")\n{approvals}')
    for_machine, same = office.ask("root", beneficiary="service_account:deploy"), office.ask("root")
    for asked in (for_machine, same):
        for who in ("cyd", "dee"):
            office.approve(asked, who)
    file = office.folder / "identities.toml"
    kept = file.read_text()
    people(office, 'owner = "human:ann@example.com"', f'owners = ["human:ann@example.com", "{CYD}"]')
    office.give(for_machine)
    [voided] = events(office, for_machine, e.ApprovalsVoided)
    assert voided.approvers == (CYD,)
    people(office, file.read_text(), kept)
    people(office, f'[identities."{DEE}"]', '[identities."human:edd@example.com"]')
    people(office, 'name = "Cyd"', f'name = "Cyd"\naliases = ["{DEE}"]')
    office.give(same)
    [voided] = events(office, same, e.ApprovalsVoided)
    assert voided.approvers == (DEE,)
    assert {office.status(for_machine), office.status(same)} == {"pending"}


# ── the people whom policy asks change between the approval and the access ──

MANAGER = 'manager = "human:bo@example.com"    # nobody'


@pytest.mark.parametrize(
    ("approvers", "by", "status"),
    [
        ("manager", "bo", "denied"),
        ("manager or group:platform", "bo", "denied"),
        ("manager or group:platform", "cyd", "active"),
        # a manager who went, and may decide by another right
        ("manager or group:on-call", "bo", "active"),
        # somebody who was asked as one of the group, and is the manager by now
        ("manager or group:platform", "dee", "active"),
    ],
)
def test_another_manager_when_access_is_given(office: Office, approvers: str, by: str, status: str) -> None:
    """Those who approved are asked still, or what they said is not enough any more (I4)."""
    oblige(office, f'@approvers("{approvers}")\n@max_duration("4h")')
    asked = office.ask()
    office.approve(asked, by)
    people(office, MANAGER, 'manager = "human:dee@example.com"    # nobody')
    office.give(asked)
    assert office.status(asked) == status
    if status == "denied":
        [denied] = events(office, asked, e.RequestDenied)
        assert denied.by == "policy"
        assert "it needs more approvals in" in denied.reasons[0]
        assert DEE in denied.reasons[0]
        again = office.ask()  # the new manager is asked
        office.approve(again, "dee")
        office.give(again)
        assert office.status(again) == "active"
    sound(office)


@pytest.mark.parametrize(("who", "status"), [("cyd", "active"), ("bo", "denied")])
def test_two_are_asked_and_one_was_the_manager(office: Office, who: str, status: str) -> None:
    """Each approval fills one seat, of those that are there now."""
    oblige(office, '@approvers("2 of manager or group:platform")\n@max_duration("4h")')
    asked = office.ask()
    for each in ("dee", who):
        office.approve(asked, each)
    people(office, MANAGER, "# nobody's report. nobody")
    oblige(office, '@approvers("2 of group:platform")\n@max_duration("4h")')
    office.give(asked)
    assert office.status(asked) == status
    sound(office)


@pytest.mark.parametrize("why", ["another manager", "forbidden by now"])
def test_a_no_at_the_last_look_is_replayed_like_any_other(office: Office, why: str) -> None:
    """I34: what policy was asked and answered then is on record, and not only that it was no."""
    oblige(office, '@approvers("manager")\n@max_duration("4h")')
    asked = office.ask()
    office.approve(asked, "bo")
    if why == "another manager":
        people(office, MANAGER, 'manager = "human:dee@example.com"    # nobody')
    else:
        freeze = (
            '@id("freeze") @message("not now") forbid (principal, action == Action::"request", resource);'
        )
        oblige(office, '@approvers("manager")\n@max_duration("4h")', freeze=freeze)
    office.give(asked)
    [denied] = events(office, asked, e.RequestDenied)
    assert denied.policies == office.desk.policy.digest
    told = explain(office.desk, office.caller("aud"), asked)
    assert [d["event"] for d in told["decisions"]] == [
        "policy-decided/1", "approval-recorded/1", "request-denied/1"
    ]  # fmt: skip
    assert told["same"]
    [question] = told["decisions"][-1]["questions"]
    assert question["allowed"] is (why == "another manager")
    assert ("dee@example.com" in str(denied.entities)) is (why == "another manager")
    sound(office)


def test_somebodys_own_no_rests_on_their_decision(office: Office) -> None:
    asked = office.ask()
    office.do(deciding.deny, "dee", asked, comment="no")
    [denied] = events(office, asked, e.RequestDenied)
    assert (denied.by, bool(denied.evaluations)) == (DEE, False)
    assert explain(office.desk, office.caller("aud"), asked)["same"]


def test_nobody_is_the_manager_any_more(office: Office) -> None:
    oblige(office, '@approvers("manager")\n@max_duration("4h")')
    asked = office.ask()
    office.approve(asked, "bo")
    people(office, MANAGER, "# nobody")
    office.give(asked)
    assert office.status(asked) == "denied"
    [denied] = events(office, asked, e.RequestDenied)
    assert "manager" in denied.reasons[0]
    sound(office)


def report(office: Office) -> None:
    """Bo reports to Ann from now on."""
    people(office, 'manager = "human:bo@example.com"    # nobody', "# nobody")
    people(office, GUEST, f'{GUEST}\nmanager = "human:ann@example.com"')


def test_a_report_of_the_requester_decides_for_nobody(office: Office) -> None:
    asked = office.ask()
    delegate(office)
    report(office)
    with pytest.raises(Refused) as caught:
        office.approve(asked, "bo")
    assert caught.value.code == "refused.not-delegated"


def test_what_was_handed_on_is_not_handed_further(office: Office) -> None:
    asked = office.ask()
    delegate(office)
    delegate(office, "bo", "human:ops@example.com")
    with pytest.raises(Refused) as caught:  # an operator sees every ticket
        office.approve(asked, "ops")
    assert caught.value.code == "refused.not-an-approver"


def test_who_may_see_and_end_a_delegation(office: Office) -> None:
    given = delegate(office)
    for who, count in (("cyd", 1), ("bo", 1), ("ops", 1), ("aud", 1), ("dee", 0), ("ann", 0)):
        assert len(delegating.listed(office.desk, office.caller(who))) == count, who
    for who in ("dee", "aud"):
        with pytest.raises(NotFound):
            delegating.end(office.desk, office.caller(who), given.id)
    delegating.end(office.desk, office.caller("bo"), given.id)
    [shown] = delegating.listed(office.desk, office.caller("cyd"))
    assert (shown["ended"], shown["in_force"]) == (True, False)
    with pytest.raises(NotFound):
        delegating.end(office.desk, office.caller("cyd"), "dlg_none")


@pytest.mark.parametrize("forbidden", ["before", "after"])
def test_whom_policy_forbids_to_decide_decides_for_nobody_either(office: Office, forbidden: str) -> None:
    rule = (
        f'forbid (principal == Human::"{BO.removeprefix("human:")}", action == Action::"approve", resource);'
    )
    forbid = lambda: oblige(office, PRODUCTION, more=f'@id("not-bo")\n@message("not Bo")\n{rule}')  # noqa: E731
    asked = office.ask()
    delegate(office)
    if forbidden == "before":
        forbid()
        with pytest.raises(Refused, match="not Bo") as refused:
            office.approve(asked, "bo")
        assert refused.value.code == "refused.by-policy"
        return
    office.approve(asked, "bo")
    forbid()
    office.give(asked)
    [voided] = events(office, asked, e.ApprovalsVoided)
    assert voided.approvers == (BO,)


def test_an_auditor_ends_what_they_gave(office: Office) -> None:
    given = delegate(office, "aud")
    delegating.end(office.desk, office.caller("aud"), given.id)
    [shown] = delegating.listed(office.desk, office.caller("aud"))
    assert shown["ended"]


@pytest.mark.parametrize("to", ["human:nobody@example.com", "service_account:deploy", CYD])
def test_to_a_person_who_is_somebody_else(office: Office, to: str) -> None:
    with pytest.raises((Refused, Invalid)):
        delegate(office, to=to)


# ── nobody left ──

NOBODY = 'groups = ["nobody-yet"]'


def test_a_group_with_nobody_in_it_is_said_before_at_and_after_filing(office: Office) -> None:
    oblige(office, '@approvers("group:security")\n@max_duration("4h")')
    ask = Ask(
        target="bastion",
        scope=(looking_at(office),),
        justification="x",
        duration=DAY / 24,
        public_key=office.public_key,
    )
    said = preview(office.desk, office.caller("ann"), ask)
    assert said.possible_approvers == ()
    asked = office.ask()
    [stage] = ticket_document(office.desk, ticket(office, asked))["stages"]
    for sentence in (said.reasons[-1], stage["missing"]):
        assert "nobody active is in group:security" in sentence
        assert "an owner of bastion (group:platform) or an operator can see to it" in sentence
    people(office, 'name = "Dee"\ngroups = ["platform"]', 'name = "Dee"\ngroups = ["platform", "security"]')
    assert preview(office.desk, office.caller("ann"), ask).possible_approvers == (DEE,)
    assert missing(office.desk, ticket(office, asked)) == {}


def looking_at(office: Office):
    return office.desk.targets["bastion"].catalogue[0].privilege


@pytest.mark.parametrize(
    ("cyd", "dee", "missed"),
    [
        ('groups = ["platform"]', 'groups = ["platform"]', False),
        ('groups = ["platform"]\nactive = false', 'groups = ["platform"]', False),
        ('groups = ["platform"]\nactive = false', 'groups = ["platform"]\nactive = false', True),
        ('groups = ["platform"]\nmanager = "human:ann@example.com"', 'groups = ["engineers"]', True),
        ('groups = ["platform"]\naliases = ["human:c@example.com"]', 'groups = ["engineers"]', False),
    ],
)
def test_everybody_left_out(office: Office, cyd: str, dee: str, missed: bool) -> None:
    """By leaving, by reporting to who asks: whoever is kept from it does not count."""
    asked = office.ask()
    people(
        office, 'name = "Cyd"\ngroups = ["platform"]', f'name = "Cyd"\n{cyd}'
    ) if cyd != 'groups = ["platform"]' else None
    people(
        office, 'name = "Dee"\ngroups = ["platform"]', f'name = "Dee"\n{dee}'
    ) if dee != 'groups = ["platform"]' else None
    assert bool(missing(office.desk, ticket(office, asked))) == missed


def test_one_person_does_not_fill_two_stages_that_need_them_both(office: Office) -> None:
    oblige(office, '@approvers("owners, group:security")\n@max_duration("4h")')
    people(office, 'name = "Dee"\ngroups = ["platform"]', 'name = "Dee"\ngroups = ["platform", "security"]')
    asked = office.ask()
    assert missing(office.desk, ticket(office, asked)) == {}
    people(office, 'name = "Cyd"\ngroups = ["platform"]', 'name = "Cyd"\ngroups = ["engineers"]')
    assert len(missing(office.desk, ticket(office, asked))) == 1


def test_a_group_that_becomes_empty_is_noted_once_and_told(office: Office) -> None:
    heard = listening(office)
    asked = office.ask()
    assert note_missing(office.desk) == []
    people(office, 'groups = ["platform"]', NOBODY)
    assert [t.id for t in note_missing(office.desk)] == [asked]
    assert note_missing(office.desk) == []
    [noted] = events(office, asked, e.ApproversMissing)
    assert "operator" in noted.reasons[0]
    assert heard.kinds() == ["filed", "approvers-missing"]
    assert "group:platform" in heard.notices[-1].to
    people(office, NOBODY, 'groups = ["platform"]')
    assert [t.id for t in note_missing(office.desk)] == [asked]
    assert not ticket(office, asked).missing
    sound(office)


# ── reminders and escalation ──


def test_who_is_told_when_nobody_decides_and_who_may_then(office: Office) -> None:
    heard = listening(office)
    duties = '@approvers("owners")\n@max_duration("4h")\n@remind_after("10m")\n@escalate_after("1h")\n'
    oblige(office, duties + '@escalate_to("group:on-call")\n@notify("human:aud@example.com")')
    asked = office.ask()
    for minutes in (10, 50):
        office.later(minutes * 60)
        attend(office.desk, [asked])
        attend(office.desk, [asked])
    assert heard.kinds() == ["filed", "reminded", "escalated"]
    assert [set(n.to) for n in heard.notices] == [
        {"group:platform", "human:aud@example.com"}, {CYD, DEE}, {"group:on-call"}
    ]  # fmt: skip
    with pytest.raises(MunimentError):  # Bo is on call, and Ann's manager: policy lets him
        office.approve(asked, "ops")
    office.approve(asked, "bo")
    assert heard.kinds()[-1] == "approved"
    office.give(asked)
    assert office.status(asked) == "active"
    sound(office)


class Open:
    """`ports.References` where everything is open."""

    def is_open(self, kind: str, name: str) -> bool:
        return (kind, name) == ("change", "CHG-7")


def test_an_offer_is_accepted_where_references_must_be_open(office: Office) -> None:
    oblige(office, '@approvers("owners")\n@max_duration("4h")\n@reference_open("change")')
    office.desk = dataclasses.replace(office.desk, references=Open())
    asked = office.ask(references={"change": "CHG-7"})
    office.do(
        deciding.counter, "cyd", asked, digest=ticket(office, asked).digest, duration=DAY / 48, comment="less"
    )
    office.do(deciding.accept, "ann", asked, offer=None)
    assert ticket(office, asked).terms.duration == 1800
    assert office.status(asked) == "pending"


def test_in_order(office: Office) -> None:
    oblige(office, '@approvers("owners then group:on-call")\n@max_duration("4h")')
    asked = office.ask()
    assert awaiting(office, "bo") == []
    with pytest.raises(Refused) as caught:
        office.approve(asked, "bo")
    assert caught.value.code == "refused.stage-not-open"
    with pytest.raises(Refused):
        office.do(deciding.deny, "bo", asked, comment="no")
    office.approve(asked, "cyd")
    assert awaiting(office, "bo") == [asked]
    office.approve(asked, "bo")
    office.give(asked)
    sound(office)


# ── what a preview tells ──


@pytest.mark.parametrize(("who", "seen"), [("bo", True), ("ops", True), ("ann", False)])
def test_a_preview_tells_what_an_account_holds_only_to_who_may_see_it(
    office: Office, who: str, seen: bool
) -> None:
    """I33: anybody may ask what would come of a request for somebody else."""
    held = office.ask("web-admin", who="bo")
    office.approve(held)
    office.give(held)
    ask = Ask(
        target="bastion", scope=(Privilege(privilege="root"),), justification="x", duration=DAY / 24, beneficiary=BO,
        public_key=office.public_key,
    )  # fmt: skip
    scope = preview(office.desk, office.caller(who), ask).effective_scope
    assert ("web-admin" in {each.privilege for each in scope}) is seen


def test_a_preview_asks_policy_once_of_each_who_could_decide(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    oblige(office, '@approvers("owners then group:on-call")\n@max_duration("4h")')
    judge, asked = office.desk.policy.judge_approver, []

    def judging(ticket, approver, *more):
        asked.append(approver.identity.id)
        return judge(ticket, approver, *more)

    monkeypatch.setattr(office.desk.policy, "judge_approver", judging)
    ask = Ask(
        target="bastion", scope=(Privilege(privilege="web-admin"),), justification="x", duration=DAY / 24,
        public_key=office.public_key,
    )  # fmt: skip
    seen = preview(office.desk, office.caller("ann"), ask)
    assert sorted(asked) == list(seen.possible_approvers) == [BO, CYD, DEE]


# ── what an auditor's program says of decisions that the core would have refused ──


def faulted(log: list[bytes]) -> str:
    rules = TicketRules()
    for index, raw in enumerate(log):
        rules.feed(index, raw, decode_entry(raw))
    return str(rules.result().first_fault)


def of_kind(log: list[bytes], kind: str) -> int:
    return next(at for at, raw in enumerate(log) if decode_entry(raw).type == f"{kind}/1")


def test_a_delegation_is_on_record_as_the_decision_says(office: Office) -> None:
    asked = office.ask()
    given = delegate(office)
    office.later(200)
    office.approve(asked, "bo")
    office.later(1)
    delegating.end(office.desk, office.caller("cyd"), given.id)
    log = office.log()
    assert faulted(log) == "None"
    at = of_kind(log, "delegation-given")
    for forged in (
        altered(log, at, lambda entry: entry["actor"].update(id=DEE)),
        altered(log, at, lambda entry: entry["data"]["delegation"].update(ends_at="2026-11-23T10:05:00Z")),
        [raw for raw in log if not decode_entry(raw).type.startswith("delegation-")],
    ):
        assert f"which {CYD} did not give before" in faulted(forged)
    started = decode_entry(log[at]).at
    ended = altered(log, of_kind(log, "delegation-ended"), lambda entry: entry.update(at=started))
    moved = ended.pop(of_kind(ended, "delegation-ended"))
    ended.insert(of_kind(ended, "approval-recorded"), moved)
    assert "which was ended by then" in faulted(ended)


def test_a_stage_that_names_people_is_theirs(office: Office) -> None:
    oblige(office, f'@approvers("{CYD}")\n@max_duration("4h")')
    asked = office.ask()
    office.approve(asked)
    log = office.log()
    assert faulted(log) == "None"

    def by_dee(entry) -> None:
        entry["actor"]["id"] = entry["data"]["approver"] = DEE
        for answer in entry["data"]["evaluations"]:
            answer["principal"] = answer["principal"].replace("cyd@", "dee@")

    assert f"{DEE} is none of those whom the stage asks" in faulted(
        altered(log, of_kind(log, "approval-recorded"), by_dee)
    )


def test_a_stage_may_name_somebody_by_an_alias_on_record(office: Office) -> None:
    former = "human:dee@old.example.com"
    oblige(office, f'@approvers("{former}")\n@max_duration("4h")')
    people(office, 'name = "Dee"', f'name = "Dee"\naliases = ["{former}"]')
    office.approve(office.ask(), "dee")
    log = office.log()
    assert faulted(log) == "None"
    at = max(i for i, raw in enumerate(log) if decode_entry(raw).ticket == f"identity:{DEE}")
    nameless = altered(log, at, lambda entry: entry["data"]["identity"].update(aliases=[]))
    assert f"{DEE} is none of those whom the stage asks" in faulted(nameless)
