"""What permits oblige to, and that the strictest always wins."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muniment.core.errors import Invalid, Misconfigured
from muniment.core.verdict import Stage
from muniment.policy.approvers import CONSENT, MAX_APPROVALS, Wanted, parse_approvers
from muniment.policy.obligations import DEFAULT_LONGEST, Duty, merge, parse_duty
from policy.world import (
    ANN,
    BO,
    BOT,
    EVE,
    PERMIT,
    judge,
    machine,
    person,
    policy,
    role,
    target,
    terms,
)

HOUR, DAY = 3600, 86400
OWNERS = ("group:platform",)
#: what the words mean: Ann asks, Bo manages her, Eve manages him
WORDS = {
    "owners": OWNERS, "privilege-owners": ("group:dba",), "manager": (BO,), "managers": (BO, EVE), "identity-owner": (ANN,),
}  # fmt: skip


def leads(n):
    return at("leads", n, "group:leads")


def at(name, needed, *approvers, **more):
    return Stage(name=name, needed=needed, approvers=approvers, **more)


UNDEMANDED = {
    "references_open",
    "witnessed", "scope_bounded", "sessions_cut", "signed", "assurance", "notify", "remind_after", "escalate_after", "escalate_to",
}  # fmt: skip


def test_what_nothing_demands_is_absent_from_the_record():
    """Entries of the first release have no such fields, and a merge of what it could say writes the same bytes."""
    merged = merge([(parse_duty({"approvers": "group:leads"}, "x"), WORDS)], "pg-prod", None)
    assert UNDEMANDED.isdisjoint(msgspec.json.decode(msgspec.json.encode(merged)))
    assert all(getattr(merged, field) is msgspec.UNSET for field in UNDEMANDED)
    assert msgspec.json.encode(merged.stages) == b'[{"name":"leads","needed":1,"approvers":["group:leads"]}]'


def test_nothing_that_held_gives_no_time_and_demands_nothing():
    merged = merge([], "pg-prod", None)
    assert (merged.longest, merged.stages, merged.assurance) == (0, (), msgspec.UNSET)


def test_owners_alone_are_nobody_whoever_asks_for_it():
    """The loader refuses such an annotation; so does the merge, for a set that was read by another version."""
    duty = Duty(stages=(Wanted(who=(CONSENT,)),))
    with pytest.raises(Invalid, match="nobody but identity-owner"):
        merge([(duty, WORDS)], "pg-prod", None)


def test_stages_are_in_the_order_in_which_they_come():
    duty = parse_duty({"approvers": "group:z then group:y then group:a, group:b"}, "x")
    assert [stage.name for stage in merge([(duty, WORDS)], "pg-prod", None).stages] == ["z", "y", "a", "b"]


# annotations of each permit → what is demanded
MERGES = [
    ("nothing said: automatic, 8 h", [{}], {"stages": (), "longest": 8 * HOUR, "lapse_after": DAY, "review_within": None}),
    ("approvers alone: one", [{"approvers": "group:leads"}], {"stages": (leads(1),)}),
    ("automatic beside one approver", [{"min_approvals": "0"}, {"approvers": "group:leads"}], {"stages": (leads(1),)}),
    ("most approvals", [{"approvers": "group:leads", "min_approvals": "2"}, {"approvers": "group:leads"}], {"stages": (leads(2),)}),
    (
        "every group its own stage",
        [{"approvers": "group:leads, human:Cyd@example.com"}, {"approvers": "group:dba"}],
        {
            "stages": (
                Stage(name="dba", needed=1, approvers=("group:dba",)),
                Stage(name="human:cyd@example.com", needed=1, approvers=("human:cyd@example.com",)),
                leads(1),
            )
        },
    ),
    ("owners are the target's", [{"approvers": "owners"}], {"stages": (Stage(name="platform", needed=1, approvers=OWNERS),)}),
    (
        "owners and their group are one stage",
        [{"approvers": "owners"}, {"approvers": "group:platform", "min_approvals": "3"}],
        {"stages": (Stage(name="platform", needed=3, approvers=OWNERS),)},
    ),
    ("shortest duration", [{"max_duration": "4h"}, {"max_duration": "90m"}], {"longest": 90 * 60}),
    ("silence is 8 h, also beside 24 h", [{"max_duration": "24h"}, {}], {"longest": 8 * HOUR}),
    ("one long permit alone", [{"max_duration": "24h"}], {"longest": 24 * HOUR}),
    ("shortest lapse", [{"lapse_after": "2h"}, {"lapse_after": "1h"}], {"lapse_after": HOUR}),
    ("a long lapse beside silence", [{"lapse_after": "3d"}, {}], {"lapse_after": DAY}),
    ("soonest review", [{"review_within": "2d"}, {"review_within": "1d"}, {}], {"review_within": DAY}),
    ("native expiry by any", [{"native_expiry": "required"}, {}], {"native_expiry": True}),
    ("a number of its own", [{"approvers": "3 of group:leads, group:dba", "min_approvals": "2"}],
     {"stages": (at("dba", 2, "group:dba"), at("leads", 3, "group:leads"))}),
    ("either of them", [{"approvers": "manager or group:leads"}], {"stages": (at(f"leads or {BO}", 1, "group:leads", BO),)}),
    ("words that mean the same people are one stage", [{"approvers": "manager"}, {"approvers": f"2 of {BO}"}], {"stages": (at(BO, 2, BO),)}),
    ("everybody above", [{"approvers": "managers"}], {"stages": (at(f"{BO} or {EVE}", 1, BO, EVE),)}),
    ("a privilege's own owners, and the target's", [{"approvers": "privilege-owners"}, {"approvers": "owners"}],
     {"stages": (at("dba", 1, "group:dba"), at("platform", 1, *OWNERS))}),
    ("one after the other", [{"approvers": "group:leads then group:dba, owners"}],
     {"stages": (leads(1), at("dba", 1, "group:dba", after=("leads",)), at("platform", 1, *OWNERS, after=("leads",)))}),
    ("every order that anybody wants", [{"approvers": "group:leads then group:dba"}, {"approvers": "group:dba then owners"}, {"approvers": "owners"}],
     {"stages": (leads(1), at("dba", 1, "group:dba", after=("leads",)), at("platform", 1, *OWNERS, after=("dba",)))}),
    ("consent beside an approval", [{"approvers": "identity-owner, group:leads"}],
     {"stages": (Stage(name=f"consent of {ANN}", needed=1, approvers=(ANN,), consent=True), leads(1))}),
    ("all open references", [{"reference_open": "change"}, {"reference_open": "incident"}, {}], {"references_open": ("change", "incident")}),
    ("bounded by any", [{"scope_bounded": "required"}, {}], {"scope_bounded": True}),
    ("sessions by any", [{"sessions_cut": "required"}, {}], {"sessions_cut": True}),
    ("signature by any", [{"signature": "required"}, {}], {"signed": True}),
    ("highest assurance", [{"assurance": "1"}, {"assurance": "3"}, {}], {"assurance": 3}),
    ("witnesses by any", [{"witnessed": "required"}, {}], {"witnessed": True}),
    ("everybody is told", [{"notify": "group:secops, manager"}, {"notify": "owners"}, {}], {"notify": ("group:platform", "group:secops", BO)}),
    ("soonest reminder", [{"remind_after": "2h"}, {"remind_after": "1h"}, {}], {"remind_after": HOUR}),
    ("soonest escalation, to everybody named", [{"escalate_after": "2h", "escalate_to": "managers"}, {"escalate_after": "4h", "escalate_to": "group:secops"}],
     {"escalate_after": 2 * HOUR, "escalate_to": ("group:secops", BO, EVE)}),
    ("all references", [{"reference": "change"}, {"reference": "incident, change"}], {"references": ("change", "incident")}),
]  # fmt: skip


@pytest.mark.parametrize(("permits", "wanted"), [m[1:] for m in MERGES], ids=[m[0] for m in MERGES])
def test_merge(permits, wanted):
    for order in (permits, permits[::-1]):
        merged = merge([(parse_duty(p, "x"), WORDS) for p in order], "pg-prod", None)
        assert {key: getattr(merged, key) for key in wanted} == wanted


@pytest.mark.parametrize(
    ("limit", "permit", "longest"),
    [(2 * HOUR, {}, 2 * HOUR), (2 * HOUR, {"max_duration": "4h"}, 2 * HOUR), (2 * HOUR, {"max_duration": "1h"}, HOUR), (20 * HOUR, {}, 20 * HOUR)],
)  # fmt: skip
def test_the_targets_own_limit_caps_and_stands_in(limit, permit, longest):
    assert merge([(parse_duty(permit, "x"), WORDS)], "pg-prod", limit).longest == longest


def test_several_owners_are_one_stage_with_a_name_no_group_can_have():
    owners = {"owners": ("group:a", "human:cyd@example.com")}
    merged = merge([(parse_duty({"approvers": "owners"}, "x"), owners)], "pg-prod", None)
    assert merged.stages == (
        Stage(name="owners of pg-prod", needed=1, approvers=("group:a", "human:cyd@example.com")),
    )


def test_no_owners_to_approve_is_a_denial():
    rules = policy(f'@id("a") @approvers("owners") {PERMIT}')
    verdict = judge(rules, on=target(owners=()))
    assert not verdict.permitted
    assert verdict.obligations is None
    assert verdict.reasons == ("policy asks for the owners of the target, and there is none",)


@pytest.mark.parametrize(
    ("approvers", "says"),
    [
        (("group:a then group:b", "group:b then group:a"), "an order that is not possible"),
        (
            ("group:a then group:b", "group:b then owners", "owners then group:a"),
            "an order that is not possible",
        ),
    ],
)
def test_demands_that_contradict_each_other_are_a_denial(approvers, says):
    rules = policy(*(f'@id("p{n}") @approvers("{text}") {PERMIT}' for n, text in enumerate(approvers)))
    verdict = judge(rules)
    assert not verdict.permitted
    assert says in verdict.reasons[0]


class TestWhoTheWordsMean:
    """Found in the slice that was recorded, so that an old decision says the same years later."""

    def stages(self, approvers, requester=None, beneficiary=None, on=None):
        verdict = judge(
            policy(f'@id("a") @approvers("{approvers}") {PERMIT}'), None, requester, beneficiary, on
        )
        assert verdict.permitted, verdict.reasons
        return [(s.approvers, s.consent is True) for s in verdict.obligations.stages]

    def ann(self):
        return person(manager=BO, above={ANN: (BO, EVE)})

    def test_the_beneficiarys_managers_not_the_requesters(self):
        assert self.stages("manager", self.ann()) == [((BO,), False)]
        assert self.stages("managers", self.ann()) == [((BO, EVE), False)]
        assert self.stages("manager", person(BO, manager=EVE), self.ann()) == [((BO,), False)]

    def test_above_who_answers_for_a_machine(self):
        bot = machine(BOT, self.ann(), above={ANN: (BO, EVE)})
        assert self.stages("manager", bot) == [((BO,), False)]
        assert self.stages("managers", self.ann(), bot) == [((BO, EVE), False)]

    def test_a_machines_owners_consent_and_others_approve(self):
        assert self.stages("identity-owner, owners", machine(BOT)) == [
            ((ANN,), True),
            (("group:platform",), False),
        ]

    def test_each_privileges_own_owners(self):
        on = target(
            role("ro"), role("rw"), owners_of={"ro": ("group:readers",), "rw": ("group:writers", "group:dba")}
        )
        both = terms(privileges=(role("ro"), role("rw")))
        verdict = judge(policy(f'@id("a") @approvers("privilege-owners") {PERMIT}'), both, on=on)
        assert [s.approvers for s in verdict.obligations.stages] == [
            ("group:dba", "group:writers"),
            ("group:readers",),
        ]

    @pytest.mark.parametrize(
        "approvers",
        ["manager", "managers", "privilege-owners", "owners, identity-owner", "owners then manager"],
    )
    def test_nobody_is_meant_is_a_denial(self, approvers):
        verdict = judge(policy(f'@id("a") @approvers("{approvers}") {PERMIT}'))
        assert not verdict.permitted
        assert "and there is none" in verdict.reasons[0]

    def test_one_of_several_is_enough(self):
        assert self.stages("manager or owners") == [(("group:platform",), False)]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("approvers", ""), ("approvers", "leads"), ("approvers", "group:a,,group:b"), ("approvers", "group:a, group:a"),
        ("approvers", "then"), ("approvers", "group:a then"), ("approvers", "0 of owners"), ("approvers", "11 of owners"),
        ("approvers", "2 of owners, owners"), ("approvers", "owners or owners"), ("approvers", "owners or"),
        ("approvers", "identity-owner"), ("approvers", "identity-owner or owners"), ("approvers", "Owners"),
        ("scope_bounded", "yes"), ("sessions_cut", "no"), ("signature", "ssh"), ("assurance", "0"), ("assurance", "4"),
        ("assurance", "mfa"), ("notify", "leads"), ("notify", ""), ("remind_after", "0m"), ("escalate_after", "1h"),
        ("escalate_to", "owners"),
        ("approvers", "service_account:x"), ("approvers", "ai_agent:x"), ("approvers", "group:a b"),
        ("min_approvals", "1"), ("min_approvals", "-1"), ("min_approvals", "two"), ("min_approvals", "1.0"),
        ("min_approvals", "11"), ("min_approvals", "٣"), ("min_approvals", " 1"),
        ("max_duration", "4"), ("max_duration", "0h"), ("max_duration", "4 h"), ("max_duration", "9999d"), ("max_duration", "1w"),
        ("lapse_after", "soon"), ("review_within", "-1h"), ("native_expiry", "true"), ("native_expiry", "Required"),
        ("reference", "Change"), ("reference", "change,"), ("reference", "a b"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_meant_is_refused(key, value):
    with pytest.raises(Misconfigured) as refused:
        parse_duty({key: value}, 'x.cedar: policy "a"')
    assert "x.cedar" in refused.value.message
    assert f"@{key}" in refused.value.message
    assert refused.value.remedy


def test_as_many_approvals_as_may_be_wanted():
    (stage,) = parse_duty({"approvers": "owners", "min_approvals": "10"}, "x").stages
    assert stage.needed == MAX_APPROVALS == 10
    assert parse_approvers("10 of owners, 1 of manager", 1)[0].needed == 10


@pytest.mark.parametrize(
    ("annotations", "remedy"),
    [
        ({"approvers": "owners", "min_approvals": "0"}, "at least 1 beside @approvers"),
        ({"min_approvals": "2"}, "0, or @approvers that say whose approval"),
    ],
)
def test_a_number_and_who_is_meant_go_together(annotations, remedy):
    with pytest.raises(Misconfigured, match="min_approvals") as refused:
        parse_duty(annotations, "x")
    assert remedy in refused.value.remedy


#: a slow machine is no failure
steady = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
seconds = st.integers(1, 10**7)
duties = st.builds(
    Duty,
    stages=st.lists(
        st.builds(
            Wanted,
            who=st.sampled_from(
                [
                    ("owners",),
                    ("group:platform",),
                    ("group:b",),
                    ("manager", "group:b"),
                    ("privilege-owners",),
                ]
            ),
            needed=st.integers(1, 10),
            step=st.just(0),
        ),
        unique_by=lambda stage: stage.who,
    ).map(tuple),
    longest=st.none() | seconds,
    lapse_after=seconds,
    review_within=st.none() | seconds,
    native_expiry=st.booleans(),
    references=st.lists(st.sampled_from(["change", "incident", "case"]), unique=True).map(tuple),
    scope_bounded=st.booleans(),
    sessions_cut=st.booleans(),
    signed=st.booleans(),
    assurance=st.integers(0, 3),
    witnessed=st.booleans(),
    notify=st.lists(st.sampled_from(["owners", "group:secops", "manager"]), unique=True).map(tuple),
    remind_after=st.none() | seconds,
    escalate_after=st.none() | seconds,
    escalate_to=st.lists(st.sampled_from(["owners", "group:secops", "managers"]), unique=True).map(tuple),
)


def _at_least_as_strict(strict, lenient):
    approvals = {s.approvers: s.needed for s in strict.stages}
    assert all(approvals.get(s.approvers, 0) >= s.needed for s in lenient.stages)
    assert strict.longest <= lenient.longest
    assert strict.lapse_after <= lenient.lapse_after
    assert strict.native_expiry >= lenient.native_expiry
    assert set(strict.references) >= set(lenient.references)
    for flag in ("scope_bounded", "sessions_cut", "signed", "witnessed"):
        assert (getattr(strict, flag) is True) >= (getattr(lenient, flag) is True)
    assert (strict.assurance or 0) >= (lenient.assurance or 0)
    for people in ("notify", "escalate_to"):
        assert set(getattr(strict, people) or ()) >= set(getattr(lenient, people) or ())
    for soon in ("review_within", "remind_after", "escalate_after"):
        assert (getattr(strict, soon) or 10**9) <= (getattr(lenient, soon) or 10**9)


@steady
@given(
    st.lists(duties, min_size=1, max_size=5),
    duties,
    st.none() | seconds,
    st.sampled_from([OWNERS, ("group:b", "group:c")]),
)
def test_adding_a_permit_never_loosens(some, another, limit, owners):
    words = WORDS | {"owners": owners}
    before = merge([(each, words) for each in some], "t", limit)
    after = merge([(each, words) for each in (another, *some)], "t", limit)
    _at_least_as_strict(after, before)
    _at_least_as_strict(after, merge([(another, words)], "t", limit))
    assert after == merge([(each, words) for each in (*some, another, *some)], "t", limit)


@steady
@given(st.lists(duties, min_size=1, max_size=5), seconds)
def test_stages_are_told_apart_and_nothing_outlasts_the_target(some, limit):
    words = WORDS | {"owners": ("group:b", "human:cyd@example.com"), "privilege-owners": ("group:a b",)}
    merged = merge([(each, words) for each in some], "t", limit)
    assert len({s.name for s in merged.stages}) == len(merged.stages)
    assert all(s.needed >= 1 and s.approvers for s in merged.stages)
    assert 0 < merged.longest <= limit


STRICT = '@id("strict") @approvers("group:leads") @min_approvals("2") @max_duration("1h") @review_within("1d") @reference("change") '
STRICT += 'permit (principal in Group::"engineers", action == Action::"request", resource in Environment::"prod") when { context.minutes <= 60 };'


def test_a_broad_lenient_permit_does_not_loosen_a_strict_one():
    alone = judge(policy(STRICT)).obligations
    both = judge(policy(STRICT, f'@id("broad") @max_duration("30d") {PERMIT}'))
    assert both.determining == ("broad", "strict")
    assert both.obligations == alone
    assert both.obligations.longest == HOUR


def test_the_demands_for_each_privilege_and_each_person_add_up():
    """One ticket, one set of demands: the strictest of every question that was asked."""
    rules = policy(
        '@id("all") @max_duration("8h") permit (principal, action == Action::"request", resource);'
        '@id("rw") @approvers("group:leads") permit (principal, action == Action::"request", resource) when { resource.name == "rw" };'
        '@id("bo") @approvers("group:security") permit (principal == Human::"bo@example.com", action == Action::"request", resource);'
    )
    both = (role("ro"), role("rw"))
    verdict = judge(
        rules, terms(beneficiary=BO, privileges=both), person(), person(BO), target(*both, longest=2 * HOUR)
    )
    assert [s.name for s in verdict.obligations.stages] == ["leads", "security"]
    assert verdict.obligations.longest == 2 * HOUR
    assert len(verdict.evaluations) == 4
    assert DEFAULT_LONGEST == 8 * HOUR
