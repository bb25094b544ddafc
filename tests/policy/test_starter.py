"""The starter policies: who gets what, and that every forbid fires."""

from __future__ import annotations

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from muniment.policy import starter
from muniment.policy.cedar import CedarPolicy
from policy.world import ANN, BO, BOT, CYD, DEPLOY, judge, machine, person, role, stage, target, terms, ticket

RULES = CedarPolicy(starter.files())
FORBIDS = {rule.id for rule in RULES._engine.rules.values() if not rule.permits}
HOUR, DAY = 3600, 86400
WORKLOAD = "workload:spiffe://example.com/api"
ON_CALL = person(groups=["on-call"])
GLASS = {"kind": "break_glass", "incident": "INC-1"}


def light(**more):
    """A target that ends each access itself, with something bounded on it."""
    return target(bounded=True, native=True, **more)


LIGHT = light()

# who asks, for whom, terms, target → longest, approvals of the owners, review; or None for no
CASES = {
    "engineer in production": (person(), None, {}, target(), (4 * HOUR, 2, None)),
    "an unknown environment is production": (person(), None, {}, target(environment="Staging"), (4 * HOUR, 2, None)),
    "engineer in staging": (person(), None, {}, target(environment="staging"), (8 * HOUR, 2, None)),
    "an SSH principal on a bastion": (person(), None, {}, target(owners=("group:platform", CYD)), (4 * HOUR, 2, None)),
    "bounded, and the target ends it": (person(), None, {}, LIGHT, (4 * HOUR, 1, None)),
    "the same in an unknown environment": (person(), None, {}, light(environment="Staging"), (4 * HOUR, 1, None)),
    "the same in staging": (person(), None, {}, light(environment="staging"), (8 * HOUR, 1, None)),
    "bounded, and the target does not end it": (person(), None, {}, target(bounded=True), (4 * HOUR, 2, None)),
    "the target ends it, and it is not bounded": (person(), None, {}, target(native=True), (4 * HOUR, 2, None)),
    "critical": (person(), None, {}, target(risk="critical"), (2 * HOUR, 2, 3 * DAY)),
    "no engineer": (person(groups=["sales"]), None, {}, target(), None),
    "on call breaks the glass": (ON_CALL, None, GLASS, target(), (HOUR, 0, DAY)),
    "on call breaks the glass for something critical": (ON_CALL, None, GLASS, target(risk="critical"), (HOUR, 0, DAY)),
    "glass for more than an hour": (ON_CALL, None, {**GLASS, "duration": 3601}, target(), None),
    "glass without being on call": (person(), None, GLASS, target(), None),
    "owner for a service account": (person(), machine(DEPLOY), {}, target(), (HOUR, 2, None)),
    "owner for a workload": (person(), machine(WORKLOAD), {}, target(), (HOUR, 2, None)),
    "owner for an agent": (person(), machine(BOT), {}, target(), (HOUR, 2, None)),
    "owner for a service account, something bounded": (person(), machine(DEPLOY), {}, LIGHT, (HOUR, 1, None)),
    "owner who may not have it himself": (person(groups=[]), machine(BOT, person(groups=[])), {}, target(), None),
    "somebody else for a service account": (person(BO), machine(DEPLOY), {}, target(), None),
    "a service account for itself": (machine(DEPLOY), None, {}, target(), None),
    "an agent for itself": (machine(BOT), None, {"duration": 900}, target(), (900, 2, None)),
    "an agent for itself, something bounded": (machine(BOT), None, {"duration": 900}, LIGHT, (900, 1, None)),
    "a workload for itself": (machine(WORKLOAD), None, {"duration": 900}, target(), (900, 2, None)),
    "a workload for itself, something bounded": (machine(WORKLOAD), None, {"duration": 900}, LIGHT, (900, 1, None)),
    "an agent for itself, longer": (machine(BOT), None, {"duration": 901}, target(), None),
    "an agent of somebody who is no engineer": (machine(BOT, person(groups=[])), None, {"duration": 900}, target(), None),
    "an agent that was put among the engineers": (machine(BOT, groups=["engineers"]), None, {}, LIGHT, None),
    "an agent for its owner": (machine(BOT), person(), {"duration": 900}, target(), None),
    "somebody for somebody else": (person(), person(BO), {}, target(), None),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_request(name):
    requester, beneficiary, more, on, wanted = CASES[name]
    beneficiary = beneficiary or requester
    asked = terms(requester.identity.id, beneficiary.identity.id, **more)
    verdict = judge(RULES, asked, requester, beneficiary, on)
    assert verdict.reasons
    if wanted is None:
        assert not verdict.permitted
        return
    assert verdict.permitted, verdict.reasons
    longest, approvals, review = wanted
    assert verdict.obligations.longest == longest
    assert verdict.obligations.review_within == review
    assert sum(s.needed for s in verdict.obligations.stages) == approvals
    assert verdict.obligations.native_expiry is (on.connector.capabilities.native_expiry and approvals == 1)
    assert all(set(s.approvers) == set(on.owners) for s in verdict.obligations.stages)


#: every combination of what the light path rests on, and who asks for whom
WAYS = [
    (asks, gets, risk)
    for asks, gets in (
        (person(), person()),
        (person(), machine(DEPLOY)),
        (machine(BOT), machine(BOT)),
        (machine(WORKLOAD), machine(WORKLOAD)),
    )
    for risk in ("low", "medium", "high", "critical")
]  # fmt: skip


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
@pytest.mark.parametrize(("bounded", "native"), [(False, False), (True, False), (False, True)])
def test_one_person_is_enough_only_for_bounded_scope_that_the_target_ends(environment, bounded, native):
    for asks, gets, risk in WAYS:
        asked = terms(asks.identity.id, gets.identity.id, duration=900)
        on = target(environment=environment, bounded=bounded, native=native, risk=risk)
        verdict = judge(RULES, asked, asks, gets, on)
        if verdict.permitted:
            assert sum(s.needed for s in verdict.obligations.stages) >= 2
        else:
            assert (risk, asks.identity.id) == ("critical", BOT)


def test_something_bounded_beside_something_that_is_not_takes_two():
    narrow, wide = role("narrow"), role("wide")
    on = target(narrow, wide, native=True)
    narrow_only = tuple(replace(entry, bounded=entry.privilege == narrow) for entry in on.catalogue)
    on = replace(on, catalogue=narrow_only)
    for wanted, approvals in (([narrow], 1), ([wide], 2), ([narrow, wide], 2)):
        verdict = judge(RULES, terms(privileges=wanted), on=on)
        assert [s.needed for s in verdict.obligations.stages] == [approvals]
        assert verdict.obligations.scope_bounded is UNSET  # the core refuses none of them for the other


FIRES = {
    "only-for-yourself-or-what-you-own": lambda: judge(RULES, None, person(), person(BO)),
    "break-glass-is-for-now": lambda: judge(RULES, terms(starts_at="2026-11-24T10:00:00.000000Z", **GLASS), ON_CALL),
    "nothing-critical-for-agents": lambda: judge(RULES, None, machine(BOT), None, target(risk="critical")),
    "only-people-break-glass": lambda: judge(RULES, terms(DEPLOY, **GLASS), machine(DEPLOY)),
    "not-for-your-manager": lambda: decide(person(CYD, ["platform"], manager=ANN)).verdict,
    "not-for-yourself": lambda: decide(person(ANN, ["platform"])).verdict,
}  # fmt: skip


def decide(approver, requester=None, beneficiary=None):
    requester = requester or person()
    beneficiary = beneficiary or requester
    asked = terms(requester.identity.id, beneficiary.identity.id)
    return RULES.judge_approver(
        ticket(asked, (stage("group:platform"),)), approver, requester, beneficiary, target()
    )


def test_every_forbid_has_a_case():
    assert set(FIRES) == FORBIDS


@pytest.mark.parametrize("ident", sorted(FORBIDS))
def test_every_forbid_fires_and_says_why(ident):
    verdict = FIRES[ident]()
    assert not verdict.permitted
    assert ident in verdict.determining
    assert not any(e.errors for e in verdict.evaluations)
    assert RULES._engine.rules[ident].message in verdict.reasons


@pytest.mark.parametrize("ident", sorted(FORBIDS))
def test_every_policy_has_a_message(ident):
    assert RULES._engine.rules[ident].message


def test_owners_approve():
    authority = decide(person(CYD, ["platform"]))
    assert authority.stages == ("platform",)
    assert authority.verdict.determining == ("approvers-of-the-stage",)
    assert not decide(person(CYD, ["engineers"])).verdict.permitted


@pytest.mark.parametrize("machine_id", [DEPLOY, BOT, WORKLOAD])
def test_the_owner_of_a_machine_does_not_decide_for_it(machine_id):
    assert not decide(person(ANN, ["platform"]), person(), machine(machine_id)).verdict.permitted
    assert not decide(person(CYD, ["platform"], manager=ANN), person(), machine(machine_id)).verdict.permitted


def test_a_request_that_is_too_long_gets_a_limit_and_not_a_riddle():
    """The core refuses it before it is filed, and says how long it may be."""
    verdict = judge(RULES, terms(duration=10 * HOUR))
    assert verdict.permitted
    assert verdict.obligations.longest == 4 * HOUR
