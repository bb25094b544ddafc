"""What another set would have said to what is on record; and a recorded decision comes out again, byte for byte (I34)."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from muniment.core.events import PolicyDecided, decode_data, encode_data
from muniment.core.verdict import obliged
from muniment.policy import starter
from muniment.policy.backtest import Backtest, Filed
from muniment.policy.cedar import CedarPolicy
from muniment.policy.replay import decided_again, replay
from policy.world import (
    ANN,
    API,
    BO,
    BOT,
    DEPLOY,
    FORBID,
    PERMIT,
    judge,
    machine,
    person,
    policy,
    role,
    target,
    terms,
)

ONE = f'@id("a") @approvers("group:leads") @max_duration("4h") {PERMIT}'
GLASS = {"kind": "break_glass", "incident": "INC-1"}


def decided(rules, asked=None, on=None, who=None):
    """The event that this decision was recorded as."""
    return event_of(judge(rules, asked, who, None, on), asked)


def event_of(verdict, asked=None):
    owed = verdict.obligations and obliged(
        verdict.obligations, break_glass=bool(asked and asked.kind == "break_glass")
    )
    return PolicyDecided(
        permitted=verdict.permitted, policies=verdict.policies, determining=verdict.determining, reasons=verdict.reasons,
        obligations=owed, evaluations=verdict.evaluations, entities=verdict.entities,
    )  # fmt: skip


def otherwise(before, after, asked=None, on=None):
    filed = msgspec.json.decode(encode_data(decided(policy(*before), asked, on)), type=Filed)
    return Backtest({f"{at}.cedar": text for at, text in enumerate(after)}).otherwise(filed)


# before, after, what was asked → how it would have been
CASES = {
    "the same": ([ONE], [ONE + "\n"], {}, ()),
    "shorter, and long enough": ([ONE], [ONE.replace("4h", "1h")], {}, ()),
    "too short": ([ONE], [ONE.replace("4h", "30m")], {}, ("refused: at most 30 min",)),
    "forbidden": ([ONE], [ONE, f'@id("f") @message("no more") {FORBID}'], {}, ("denied: no more",)),
    "no longer permitted": ([ONE], [f'@id("b") {PERMIT[:-1]} when {{ context.break_glass }};'], {}, ("denied: no policy permits it",)),
    "permitted now": ([f'@id("b") {PERMIT[:-1]} when {{ context.break_glass }};'], [ONE], {}, ("permitted: 1 of leads",)),
    "denied before and refused now": ([f'@id("b") {FORBID}'], [ONE.replace("4h", "30m")], {}, ()),
    "denied, and denied": ([f'@id("b") {FORBID}'], [f'@id("c") {FORBID}'], {}, ()),
    "another stage": ([ONE], [ONE.replace("group:leads", "2 of group:leads then owners")], {},
                      ("approved by 2 of leads; 1 of platform after leads, instead of 1 of leads",)),
    "nobody": ([ONE], [ONE.replace('@approvers("group:leads")', "")], {}, ("approved by nobody, instead of 1 of leads",)),
    "a review": ([ONE], ['@review_within("2d") ' + ONE], {}, ("a review within 2 days, instead of no review",)),
    "a review that break-glass owes anyhow": ([ONE], [ONE + "\n"], GLASS, ()),
    "signed": ([ONE], ['@signature("required") ' + ONE], {}, ("demands signature",)),
    "no longer signed": (['@signature("required") ' + ONE], [ONE], {}, ("no longer demands signature",)),
    "a reference that was given": ([ONE], ['@reference("change") ' + ONE], {"references": {"change": "CHG-7"}}, ("demands reference change",)),
    "a reference that was not": ([ONE], ['@reference("change") ' + ONE], {}, ("refused: without a reference: change",)),
    "an expiry that the target cannot do": ([ONE], ['@native_expiry("required") ' + ONE], {}, ("refused: native_expiry cannot be met",)),
    "a scope that is not bounded": ([ONE], ['@scope_bounded("required") ' + ONE], {}, ("refused: scope_bounded cannot be met",)),
    "a manager that nobody has": ([ONE], [ONE.replace("group:leads", "manager")], {},
                                  ("denied: policy asks for the manager of the beneficiary, or of who answers for it, and there is none",)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_how_it_would_have_been(name):
    before, after, asked, how = CASES[name]
    assert otherwise(before, after, terms(**asked) if asked else None) == how


def test_what_the_target_can_do_is_read_from_the_slice():
    after = ['@native_expiry("required") @scope_bounded("required") ' + ONE]
    (demands,) = otherwise([ONE], after, on=target(native=True, bounded=True))
    assert demands == "demands native_expiry, scope_bounded"


def test_a_request_that_policy_was_not_asked_about_is_unknown():
    filed = decided(policy(ONE), terms(target="elsewhere"))
    assert not filed.evaluations
    assert (
        Backtest({"a.cedar": ONE + " "}).otherwise(msgspec.json.decode(encode_data(filed), type=Filed))
        is None
    )


def test_a_slice_of_the_first_release_is_read_as_little_as_it_can_mean():
    filed = decided(policy(ONE))
    for entity in filed.entities:
        entity["attrs"].pop("ends_sessions", None)
        entity["attrs"].pop("bounded", None)
    old = msgspec.json.decode(encode_data(filed), type=Filed)
    assert Backtest({"a.cedar": ONE + " "}).otherwise(old) == ()
    assert Backtest({"a.cedar": '@scope_bounded("required") ' + ONE}).otherwise(old) == (
        "refused: scope_bounded cannot be met",
    )


# ── replay ──

DEMANDING = (
    '@id("a") @approvers("2 of group:leads then manager or owners, privilege-owners") @assurance("2") @signature("required") '
    f'@notify("group:secops") @escalate_after("1h") @escalate_to("managers") @sessions_cut("required") {PERMIT}'
)
#: policies and questions whose decisions are of every shape
DECISIONS = [
    (policy(text), asked, on, who)
    for text in (
        ONE,
        DEMANDING,
        f'@id("f") {FORBID}',
        f'@id("m") {PERMIT[:-1]} when {{ context.minutes <= 60 }};',
    )
    for asked in (None, terms(duration=7200), terms(**GLASS), terms(references={"change": "C-1"}))
    for on in (target(), target(native=True, bounded=True, owners_of={"orders_rw": ("group:dba",)}))
    for who in (person(), person(manager=BO, above={"human:ann@example.com": (BO,)}))
]


@pytest.mark.parametrize("at", range(len(DECISIONS)))
def test_a_decision_comes_out_again_byte_for_byte(at):
    rules, asked, on, who = DECISIONS[at]
    raw = encode_data(decided(rules, asked, on, who))
    event = decode_data(PolicyDecided.kind, raw)
    assert replay(event, rules.files()).same
    assert encode_data(decided_again(event, rules.files())) == raw


def test_ten_thousand_stored_decisions_come_out_again_byte_for_byte():
    """Of the sets that are shipped, of every kind of request, no two alike; answered from bytes and recorded files."""
    company = Path(__file__).parents[2] / "examples" / "company" / "policies"
    sets = [CedarPolicy(starter.files()), CedarPolicy.load(company)]
    known = {rules.digest: rules.files() for rules in sets}
    narrow, wide = role("narrow"), role("customer_eu_ro")
    on = [
        target(narrow, wide, environment=environment, native=native, bounded=bounded, risk=risk, owners_of={"narrow": (BO,)})
        for environment in ("dev", "prod")
        for native, bounded in ((True, True), (True, False), (False, True))
        for risk in ("low", "high", "critical")
    ]  # fmt: skip
    asked_by = [
        (person(groups=groups, manager=manager, above={ANN: (manager,)} if manager else {}), None)
        for groups in (["engineers"], ["engineers", "on-call"], ["engineers", "contractors"], ["support"], [])
        for manager in (None, BO)
    ]
    asked_by += [(person(), machine(who, groups=["machines"])) for who in (DEPLOY, API, BOT)]
    asked_by += [(machine(who), None) for who in (DEPLOY, API, BOT)]
    chance, stored = random.Random(4), []
    for at in range(10_000):
        (asks, gets), there, rules = chance.choice(asked_by), chance.choice(on), chance.choice(sets)
        wanted = chance.choice(([narrow], [wide], [narrow, wide]))
        more = GLASS if chance.random() < 0.2 else {"references": {"change": f"CHG-{at}"}}
        gets = gets or asks
        asked = terms(asks.identity.id, gets.identity.id, wanted, duration=1 + at, **more)
        stored.append(encode_data(event_of(judge(rules, asked, asks, gets, there), asked)))
    assert len(set(stored)) > 9_000
    permitted = 0
    for raw in stored:
        event = decode_data(PolicyDecided.kind, raw)
        assert isinstance(event, PolicyDecided)
        permitted += event.permitted
        assert encode_data(decided_again(event, known[event.policies])) == raw
    assert 1_000 < permitted < 9_000


@pytest.mark.parametrize(
    "forge",
    [
        lambda e: replace(e, obligations=replace(e.obligations, longest=1)),
        lambda e: replace(e, obligations=replace(e.obligations, stages=())),
        lambda e: replace(e, obligations=replace(e.obligations, signed=True)),
        lambda e: replace(e, obligations=None),
        lambda e: replace(e, permitted=False, obligations=None),
        lambda e: replace(e, evaluations=(replace(e.evaluations[0], determining=("b",)),)),
    ],
)
def test_a_decision_that_was_changed_does_not(forge):
    rules = policy(ONE)
    forged = forge(decided(rules))
    assert not replay(forged, rules.files()).same
    assert decided_again(forged, rules.files()) != forged
    assert CedarPolicy(rules.files()).digest == forged.policies


def test_the_measurement_runs():
    """`bench/backtest.py` writes rows of the store by itself, and must follow its schema."""
    root = Path(__file__).parents[2]
    words = ("--tickets", "50", "--decisions", "5", "--processes", "1")
    answer = subprocess.run(
        [sys.executable, root / "bench" / "backtest.py", *words], capture_output=True, text=True, check=False, timeout=120
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    replayed, asked = map(json.loads, answer.stdout.splitlines())
    assert replayed["replay"]["same_bytes"] == 5
    assert asked["backtest"]["tickets"] == 50
