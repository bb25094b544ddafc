"""A recorded decision, read back from its bytes, gets the same answers (I34); and foreign names are data (I37)."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from muniment.core import events as e
from muniment.core.errors import IntegrityError
from muniment.core.scope import scope
from muniment.policy import starter
from muniment.policy.cedar import CedarPolicy
from muniment.policy.replay import replay
from muniment.policy.slices import privilege_uid, read_uid, write_uid
from policy.world import (
    ANN,
    BO,
    BOT,
    CYD,
    DEPLOY,
    PERMIT,
    judge,
    machine,
    person,
    policy,
    role,
    stage,
    target,
    terms,
    ticket,
)

RULES = CedarPolicy(starter.files())
KEY = re.compile(r"[a-z0-9_]+")
HOSTILE = [
    'a"b', "a\\", '\\"', '"; DROP', "a/b", "a%2Fb", "a%b", "a::b", 'Group::"engineers"', "__entity", "?principal",
    "naïve", "🔑", "${x}", "{{7*7}}", "'", "a b", "\\u0041", "*", "x" * 255,
]  # fmt: skip

names = st.sampled_from(HOSTILE) | st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
subjects = st.sampled_from(
    [person(), person(BO), person(groups=["on-call", "engineers"]), machine(DEPLOY), machine(BOT), machine(BOT, person(groups=()))]
)  # fmt: skip


def decided(verdict):
    """The verdict as its event, through the bytes of the ledger."""
    event = e.PolicyDecided(
        permitted=verdict.permitted, policies=verdict.policies, determining=verdict.determining, reasons=verdict.reasons,
        obligations=verdict.obligations, evaluations=verdict.evaluations, entities=verdict.entities,
    )  # fmt: skip
    data = e.encode_data(event)
    check(json.loads(data))
    return e.decode_data(e.PolicyDecided.kind, data)


def check(value):
    """What canonical JSON of the ledger may hold."""
    if isinstance(value, dict):
        assert all(KEY.fullmatch(key) for key in value)
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            check(item)
    else:
        assert (
            value is None or isinstance(value, str | bool) or (isinstance(value, int) and abs(value) < 2**53)
        )


@settings(deadline=None, max_examples=150)
@given(
    subjects, subjects, st.lists(names, min_size=1, max_size=4, unique=True), st.none() | names, st.integers(1, 10**6),
    st.booleans(), st.sampled_from(["prod", "dev", "Prod"]), st.sampled_from(["low", "critical"]), st.none() | st.integers(60, 10**5),
)  # fmt: skip
def test_requests_replay(asks, gets, privileges, resource, seconds, glass, environment, risk, longest):
    wanted = scope([role(privileges[0], resource), *(role(name) for name in privileges)])
    asked = terms(
        asks.identity.id, gets.identity.id, wanted, seconds, kind="break_glass" if glass else "standard", references={"change": "C"},
    )  # fmt: skip
    verdict = judge(
        RULES, asked, asks, gets, target(*wanted, environment=environment, risk=risk, longest=longest)
    )
    assert (
        not any("could not be evaluated" in reason for reason in verdict.reasons)
        or asks.identity.id != gets.identity.id
    )
    again = replay(decided(verdict), RULES.files())
    assert again.same
    assert again.evaluations == verdict.evaluations
    assert again.obligations == verdict.obligations


@given(
    st.lists(st.sampled_from(["platform", "security", "dba"]), unique=True),
    st.none() | st.sampled_from([ANN, BO]),
)
def test_approvals_replay(groups, manager):
    stages = tuple(stage(f"group:{name}") for name in ("platform", "security"))
    authority = RULES.judge_approver(
        ticket(stages=stages), person(CYD, groups, manager), person(), person(), target()
    )
    again = replay(authority.verdict, RULES.files())
    assert again.same
    assert again.obligations is None


def test_a_forged_answer_shows():
    verdict = judge(RULES)
    denied = judge(RULES, None, person(groups=()))
    forged = decided(verdict)
    assert not replay(replace(forged, entities=denied.entities), RULES.files()).same
    flipped = tuple(replace(x, allowed=not x.allowed) for x in forged.evaluations)
    assert not replay(replace(forged, evaluations=flipped), RULES.files()).same


def test_other_files_are_refused():
    with pytest.raises(IntegrityError):
        replay(judge(RULES), policy(f'@id("a") {PERMIT}').files())


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_data(name):
    """Only the policy that names exactly this privilege permits it."""
    wanted = role(name)
    literal = json.dumps(privilege_uid("pg-prod", wanted)["id"], ensure_ascii=False)
    only = policy(
        f'@id("a") permit (principal, action == Action::"request", resource == Privilege::{literal});'
    )
    assert judge(only, terms(privileges=(wanted,)), on=target(wanted)).permitted
    other = role(name + "x")
    assert not judge(only, terms(privileges=(other,)), on=target(other)).permitted
    everything = judge(
        policy(f'@id("a") {PERMIT}'),
        terms(account=name, privileges=(role("r", name),)),
        on=target(role("r", name)),
    )
    assert everything.permitted
    assert everything.entities[1]["attrs"]["resource"] == name


@example("a/b", "a%2Fb", None, None)
@example("a/b", "a", None, "b")
@example("a", "a", None, "")
@given(names, names, st.none() | names, st.none() | names)
def test_two_privileges_never_share_an_entity(one, two, first, second):
    a, b = role(one, first), role(two, second)
    assert (privilege_uid("t", a) == privilege_uid("t", b)) is (a == b)


@given(st.text())
def test_uids_read_back(name):
    uid = {"type": "Privilege", "id": name}
    assert read_uid(write_uid(uid)) == uid


def test_the_slice_is_small_and_complete():
    verdict = judge(RULES, None, person(), machine(DEPLOY))
    assert [(x["uid"]["type"], x["uid"]["id"]) for x in verdict.entities] == [
        ("Human", "ann@example.com"),
        ("Privilege", "pg-prod/orders_rw"),
        ("ServiceAccount", "deploy"),
        ("Target", "pg-prod"),
    ]
    assert verdict.evaluations[0].principal == 'Human::"ann@example.com"'
    assert verdict.evaluations[0].resource == 'Privilege::"pg-prod/orders_rw"'
