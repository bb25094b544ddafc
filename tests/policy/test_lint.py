"""What `muniment policy check` finds in a set that loads, and what it leaves alone."""

from __future__ import annotations

import pytest

from muniment.core.errors import Misconfigured
from muniment.policy import starter
from muniment.policy.cedar import CedarPolicy
from muniment.policy.conditions import scope_key
from muniment.policy.lint import lint
from muniment.policy.tables import run
from policy.world import FORBID, PERMIT, policy

GLASS = PERMIT[:-1] + " when { context.break_glass };"
BOUNDED = PERMIT[:-1] + " when { context.minutes <= 60 && resource.bounded };"
NATIVE = '@native_expiry("required")'
BOTH = '@native_expiry("required") @scope_bounded("required")'


def found(*texts, groups=None):
    """Rule and policy of each finding, tests apart."""
    rules = policy(*texts).rules
    return {(f.rule, f.policy) for f in lint(rules, [], groups) if not f.rule.endswith("untested")}


# ── the light path: one person's word, or nobody's ──

# annotations, head and condition → whether it is refused
LIGHT = {
    "nobody is asked": ("", PERMIT, True),
    "nobody, said in words": ('@min_approvals("0")', PERMIT, True),
    "one person": ('@approvers("owners")', PERMIT, True),
    "one of two groups": ('@approvers("owners or group:security")', PERMIT, True),
    "one, and the owner of the machine agrees": ('@approvers("identity-owner, owners")', PERMIT, True),
    "the target ends it, the scope is wide": ('@approvers("owners") @native_expiry("required")', PERMIT, True),
    "the scope is bounded, the target does not end it": ('@approvers("owners") @scope_bounded("required")', PERMIT, True),
    "both, and nobody is asked": (BOTH, PERMIT, False),
    "bounded by its condition": (f'@approvers("owners") {NATIVE}', BOUNDED, False),
    "bounded by its condition, and the target does not end it": ('@approvers("owners")', BOUNDED, True),
    "what is not bounded": (f'@approvers("owners") {NATIVE}', BOUNDED.replace("when", "unless"), True),
    "bounded or short": (f'@approvers("owners") {NATIVE}', PERMIT[:-1] + " when { resource.bounded || context.minutes <= 5 };", True),
    "both, and one person": (f'@approvers("owners") {BOTH}', PERMIT, False),
    "two people of one group": ('@approvers("2 of owners")', PERMIT, False),
    "two groups": ('@approvers("owners, group:security")', PERMIT, False),
    "one after the other": ('@approvers("manager then owners")', PERMIT, False),
    "break-glass alone": ('@min_approvals("0")', GLASS, False),
    "break-glass among others": ('@min_approvals("0")', PERMIT[:-1] + " when { context.break_glass || context.minutes <= 5 };", True),
    "not break-glass": ('@min_approvals("0")', GLASS.replace("when", "unless"), True),
    "a permit to approve": ("", 'permit (principal, action == Action::"approve", resource);', False),
}  # fmt: skip


@pytest.mark.parametrize("name", LIGHT)
def test_a_light_path_is_narrow(name):
    annotations, text, refused = LIGHT[name]
    assert (("light-path", "a") in found(f'@id("a") {annotations} {text}')) is refused


def test_a_light_path_is_an_error_and_says_what_to_do():
    (finding,) = [f for f in lint(policy(f'@id("a") {PERMIT}').rules, []) if f.rule == "light-path"]
    assert finding.level == "error"
    assert '@native_expiry("required") and when { resource.bounded }' in finding.remedy


# ── policies that never speak ──

NEVER = {
    "false": "when { false }",
    "a part is false": "when { context.minutes > 5 } when { false }",
    "unless true": "unless { true }",
    "a thing and its opposite": "when { context.break_glass } unless { context.break_glass }",
    "unless either, when one": "unless { context.break_glass || context.has_start } when { context.has_start }",
    "a thing and not it": "when { context.break_glass && !context.break_glass }",
    "an empty range, from what it is not": "when { context.minutes < 5 } unless { context.minutes < 10 }",
    "a number that it is not": "when { context.minutes == 5 } unless { context.minutes != 6 }",
    "two kinds": "when { principal is Human && principal is AiAgent }",
    "an empty range": "when { context.minutes > 60 && context.minutes <= 60 }",
    "an empty range, turned round": "when { 5 > context.minutes } when { context.minutes >= 5 }",
    "two values": 'when { resource.name == "a" && resource.name == "b" }',
    "a value that is in no list": 'when { resource.name == "a" && ["b", "c"].contains(resource.name) }',
    "no such risk": 'when { resource.risk == "hihg" }',
    "no such relation": 'when { ["self", "owner"].contains(context.relation) } when { context.relation == "boss" }',
}
SPEAKS = {
    "nothing said": "",
    "a range": "when { context.minutes > 5 && context.minutes <= 60 }",
    "up to a number": "when { context.minutes < 60 }",
    "between two": "when { context.minutes > 5 && context.minutes < 60 }",
    "a list that names more than texts": 'when { resource.name == "b" && ["a", resource.target.kind].contains(resource.name) }',
    "one number": "when { context.minutes >= 60 && context.minutes <= 60 }",
    "either": "when { context.break_glass || !context.break_glass }",
    "some strange, some not": 'when { ["high", "hihg"].contains(resource.risk) }',
    "a value in the list": 'when { resource.name == "b" && ["b", "c"].contains(resource.name) }',
    "an environment of ones own": 'when { resource.target.environment == "moon" }',
    "another value than": 'unless { resource.risk == "low" } unless { resource.risk == "medium" }',
    "two different attributes": 'when { resource.name == "a" && resource.target.kind == "b" }',
}


@pytest.mark.parametrize("condition", NEVER.values(), ids=NEVER)
@pytest.mark.parametrize("head", [PERMIT, FORBID], ids=["permit", "forbid"])
def test_never_speaks(head, condition):
    assert ("never-speaks", "a") in found(f'@id("a") {head[:-1]} {condition};')


def test_several_things_at_once_are_said():
    never = NEVER["two values"]
    (finding,) = [
        f for f in lint(policy(f'@id("a") {PERMIT[:-1]} {never};').rules, []) if f.rule == "never-speaks"
    ]
    assert finding.message.endswith("name would have to be several things at once")


def test_heads_are_the_same_in_whatever_order_they_are_written():
    one = {"principal": {"op": "is", "entity_type": "Human"}, "action": {}, "resource": {"op": "All"}}
    assert scope_key(one) == scope_key({**one, "principal": {"entity_type": "Human", "op": "is"}})
    assert scope_key(one) != scope_key({**one, "principal": {"entity_type": "AiAgent", "op": "is"}})


@pytest.mark.parametrize("condition", SPEAKS.values(), ids=SPEAKS)
def test_may_speak(condition):
    assert ("never-speaks", "a") not in found(f'@id("a") {FORBID[:-1]} {condition};')


@pytest.mark.parametrize("head", [PERMIT, FORBID])
def test_a_head_that_its_condition_excludes(head):
    text = head.replace("principal,", "principal is Human,")[:-1] + " when { principal is AiAgent };"
    assert ("never-speaks", "a") in found(f'@id("a") {text}')


@pytest.mark.parametrize(
    ("forbid", "permit", "unreachable"),
    [
        (FORBID, PERMIT, True),
        (FORBID, GLASS, True),
        (FORBID[:-1] + " when { context.break_glass };", GLASS, True),
        (FORBID[:-1] + " when { context.break_glass };", PERMIT, False),
        (FORBID[:-1] + " when { context.break_glass && context.has_start };", GLASS, False),
        (FORBID.replace("principal,", 'principal in Group::"x",'), PERMIT, False),
        ('forbid (principal, action == Action::"approve", resource);', PERMIT, False),
        ("forbid (principal, action, resource);", PERMIT, True),
    ],
)
def test_a_permit_that_is_always_forbidden(forbid, permit, unreachable):
    assert (("unreachable", "p") in found(f'@id("f") {forbid}', f'@id("p") {permit}')) is unreachable


# ── tests that are there ──

WORLD = """
[people]
ann = { groups = ["engineers"] }
[targets.t]
environment = "prod"
privileges = { ro = {}, rw = {} }
"""
ROW = WORLD + '[[request]]\nname = "row"\nwho = "ann"\non = "t/%s"\nanswer = "%s"\nby = "%s"\n'
NO_RW = '@id("f") ' + FORBID[:-1] + ' when { resource.name == "rw" };'
TEXTS = (f'@id("p") {BOTH} {PERMIT}', NO_RW)


@pytest.mark.parametrize(
    ("tables", "untested"),
    [
        ((), {("forbid-untested", "f"), ("permit-untested", "p")}),
        ((ROW % ("ro", "yes", "p"),), {("forbid-untested", "f")}),
        ((ROW % ("rw", "no", "f"),), {("permit-untested", "p")}),
        ((ROW % ("rw", "no", "f"), ROW % ("ro", "yes", "p")), set()),
        # a row that fails shows nothing, and is an error itself
        ((ROW % ("ro", "no", "f"), ROW % ("ro", "yes", "p")), {("forbid-untested", "f"), ("test", None)}),
    ],
)
def test_every_forbid_has_a_test_and_every_permit_should(tables, untested):
    rules = policy(*TEXTS)
    cases = run(rules, {f"{at}.test.toml": text for at, text in enumerate(tables)})
    findings = lint(rules.rules, cases)
    assert {(f.rule, f.policy) for f in findings} == untested
    assert {f.level for f in findings if f.rule == "permit-untested"} <= {"warning"}
    assert {f.level for f in findings if f.rule != "permit-untested"} <= {"error"}


def test_groups_that_nobody_is_in():
    text = '@id("a") @approvers("2 of group:leads") permit (principal in Group::"dba", action == Action::"request", resource);'
    rules = policy(text).rules
    said = [f.message for f in lint(rules, [], {"dba"}) if f.rule == "empty-group"]
    assert said == ["it speaks of the group leads, and nobody is in it"]
    assert not [f for f in lint(rules, []) if f.rule == "empty-group"]


def test_nothing_is_found_in_the_starter_set():
    """It can be adopted as it is: its light paths are narrow, and every policy has a row."""
    rules = CedarPolicy(starter.files())
    assert lint(rules.rules, run(rules, starter.tests())) == []


# ── tables ──

BROKEN = {
    "not toml": ("[[request", "not TOML"),
    "a key nobody knows": (ROW % ("ro", "yes", "p") + "nedds = []\n", "nedds"),
    "an answer that is none": (ROW % ("ro", "maybe", "p"), "maybe"),
    "nobody of that name": ((ROW % ("ro", "yes", "p")).replace('who = "ann"', 'who = "bo"'), "human:bo@example.com is not in"),
    "no such target": ((ROW % ("ro", "yes", "p")).replace("t/ro", "u/ro"), "is not on one target"),
    "two targets": ((ROW % ("ro", "yes", "p")).replace('"t/ro"', '["t/ro", "u/ro"]'), "is not on one target"),
    "no duration": (ROW % ("ro", "yes", "p") + 'for = "soon"\n', "duration"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "says"), BROKEN.values(), ids=BROKEN)
def test_a_table_that_cannot_be_meant_is_refused(text, says):
    with pytest.raises(Misconfigured) as refused:
        run(policy(*TEXTS), {"x.test.toml": text})
    assert says in refused.value.message
    assert refused.value.message.startswith("x.test.toml")
    assert refused.value.code == "config.policy-test"


@pytest.mark.parametrize(
    ("more", "wanted", "got"),
    [
        ("", "yes, by p", "yes, by p"),
        ('needs = ["2 of leads"]', "needs 2 of leads", "needs 1 of leads; 2 of dba after leads"),
        ("needs = []", "needs nobody", "needs 1 of leads; 2 of dba after leads"),
        ('needs = ["1 of leads", "2 of dba after leads"]', "needs 1 of leads; 2 of dba after leads", "needs 1 of leads; 2 of dba after leads"),
        ('longest = "2h"', "longest 2 h", "longest 4 h"),
        ('review = "1d"', "review 1 day", "review nothing"),
        ('demands = ["signature"]', "demands signature", "demands assurance 2; reference change; signature"),
    ],
)  # fmt: skip
def test_a_row_compares_what_it_says(more, wanted, got):
    rules = policy(
        '@id("p") @approvers("group:leads then 2 of group:dba") @max_duration("4h") @signature("required") @assurance("2") '
        f'@reference("change") {PERMIT}'
    )
    (case,) = run(rules, {"x.test.toml": ROW % ("ro", "yes", "p") + more})
    assert wanted in case.wanted
    assert got in case.got
    assert case.ok is (wanted == got)
