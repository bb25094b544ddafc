"""What permits oblige to, and that the strictest always wins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment.core.errors import Invalid, Misconfigured
from muniment.core.verdict import Stage
from muniment.policy.obligations import DEFAULT_LONGEST, Duty, merge, parse_duty
from policy.world import BO, PERMIT, judge, person, policy, role, target, terms

HOUR, DAY = 3600, 86400
OWNERS = ("group:platform",)


def leads(n):
    return Stage(name="leads", needed=n, approvers=("group:leads",))


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
    ("all references", [{"reference": "change"}, {"reference": "incident, change"}], {"references": ("change", "incident")}),
]  # fmt: skip


@pytest.mark.parametrize(("permits", "wanted"), [m[1:] for m in MERGES], ids=[m[0] for m in MERGES])
def test_merge(permits, wanted):
    for order in (permits, permits[::-1]):
        merged = merge([parse_duty(p, "x") for p in order], "pg-prod", OWNERS, None)
        assert {key: getattr(merged, key) for key in wanted} == wanted


@pytest.mark.parametrize(
    ("limit", "permit", "longest"),
    [(2 * HOUR, {}, 2 * HOUR), (2 * HOUR, {"max_duration": "4h"}, 2 * HOUR), (2 * HOUR, {"max_duration": "1h"}, HOUR), (20 * HOUR, {}, 20 * HOUR)],
)  # fmt: skip
def test_the_targets_own_limit_caps_and_stands_in(limit, permit, longest):
    assert merge([parse_duty(permit, "x")], "pg-prod", OWNERS, limit).longest == longest


def test_several_owners_are_one_stage_with_a_name_no_group_can_have():
    merged = merge(
        [Duty(approvers=("owners",), needed=1)], "pg-prod", ("human:cyd@example.com", "group:a"), None
    )
    assert merged.stages == (
        Stage(name="owners of pg-prod", needed=1, approvers=("group:a", "human:cyd@example.com")),
    )


def test_no_owners_to_approve_is_a_denial():
    rules = policy(f'@id("a") @approvers("owners") {PERMIT}')
    verdict = judge(rules, on=target(owners=()))
    assert not verdict.permitted
    assert verdict.obligations is None
    assert "has none" in verdict.reasons[0]
    with pytest.raises(Invalid):
        merge([Duty(approvers=("owners",), needed=1)], "pg-prod", (), None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("approvers", ""), ("approvers", "leads"), ("approvers", "group:a,,group:b"), ("approvers", "group:a, group:a"),
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


def test_zero_approvals_beside_approvers_is_refused():
    with pytest.raises(Misconfigured, match="min_approvals"):
        parse_duty({"approvers": "owners", "min_approvals": "0"}, "x")


seconds = st.integers(1, 10**7)
duties = st.builds(
    lambda approvers, needed, **more: Duty(
        approvers=tuple(approvers), needed=needed if approvers else 0, **more
    ),
    approvers=st.lists(
        st.sampled_from(["owners", "group:platform", "group:b", "human:cyd@example.com"]), unique=True
    ),
    needed=st.integers(1, 10),
    longest=st.none() | seconds,
    lapse_after=seconds,
    review_within=st.none() | seconds,
    native_expiry=st.booleans(),
    references=st.lists(st.sampled_from(["change", "incident", "case"]), unique=True).map(tuple),
)


def _at_least_as_strict(strict, lenient):
    approvals = {s.approvers: s.needed for s in strict.stages}
    assert all(approvals.get(s.approvers, 0) >= s.needed for s in lenient.stages)
    assert strict.longest <= lenient.longest
    assert strict.lapse_after <= lenient.lapse_after
    assert strict.native_expiry >= lenient.native_expiry
    assert set(strict.references) >= set(lenient.references)
    if lenient.review_within is not None:
        assert strict.review_within is not None
        assert strict.review_within <= lenient.review_within


@given(
    st.lists(duties, min_size=1, max_size=5),
    duties,
    st.none() | seconds,
    st.sampled_from([OWNERS, ("group:b", "group:c")]),
)
def test_adding_a_permit_never_loosens(some, another, limit, owners):
    before = merge(some, "t", owners, limit)
    after = merge([another, *some], "t", owners, limit)
    _at_least_as_strict(after, before)
    _at_least_as_strict(after, merge([another], "t", owners, limit))
    assert after == merge([*some, another, *some], "t", owners, limit)


@given(st.lists(duties, min_size=1, max_size=5), seconds)
def test_stages_are_told_apart_and_nothing_outlasts_the_target(some, limit):
    merged = merge(some, "t", ("group:b", "human:cyd@example.com"), limit)
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
