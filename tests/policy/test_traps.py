"""The traps of Cedar as we use it, one by one (stack.md), each closed by our side.

The classes ending in "Contract" hold what we rely on in cedarpy itself: a new version that changes it fails here.
"""

from __future__ import annotations

import json
from unittest import mock

import cedarpy
import pytest
from msgspec.structs import replace

from muniment.core.errors import Misconfigured
from muniment.policy import engine as engine_module
from muniment.policy.engine import Engine
from muniment.policy.loading import schema_text
from muniment.policy.slices import Question, request_slice
from policy.world import FORBID, PERMIT, judge, person, policy, role, target, terms

SCHEMA = cedarpy.Schema.from_str(schema_text())


def slice_of(asked=None, who=None, on=None):
    who, on = who or person(), on or target()
    return request_slice(asked or terms(), who, who, on, {entry.privilege: entry for entry in on.catalogue})


def without(entities, kind):
    return [e for e in entities if e["uid"]["type"] != kind]


class TestAForbidThatErrs:
    """Trap 1: Cedar skips it, and says Allow."""

    FORBID = '@id("no") forbid (principal, action == Action::"request", resource) when { resource.target.kind == "x" };'

    def test_contract_cedar_allows_with_errors(self):
        questions, entities = slice_of()
        rules = Engine({"a.cedar": f'@id("yes") {PERMIT} {self.FORBID}'})
        with mock.patch.object(
            engine_module.cedarpy, "is_authorized_batch", wraps=cedarpy.is_authorized_batch
        ) as spy:
            answer = rules.ask(questions, without(entities, "Target"))[0]
        raw = cedarpy.is_authorized_batch(*spy.call_args.args)[0]
        assert raw.allowed is True, "cedarpy became stricter: good, tell the docs"
        assert raw.diagnostics.errors
        assert not answer.allowed
        assert answer.errors

    def test_any_error_denies(self):
        """Also when it is a permit that errs and another that holds."""
        questions, entities = slice_of()
        rules = Engine({"a.cedar": f'@id("yes") {PERMIT} {self.FORBID.replace("forbid", "permit")}'})
        assert not rules.ask(questions, without(entities, "Target"))[0].allowed


class TestPolicyIds:
    """Trap 2: Cedar's own ids count positions; ours are @id, each once."""

    def test_reasons_are_our_ids_wherever_they_stand(self):
        one = policy(f'@id("aaa") {PERMIT}', f'@id("bbb") {PERMIT}')
        two = policy(f'@id("new") {PERMIT}\n@id("aaa") {PERMIT}', f'@id("bbb") {PERMIT}')
        assert judge(one).determining == ("aaa", "bbb")
        assert judge(two).determining == ("aaa", "bbb", "new")

    def test_contract_cedar_takes_a_duplicate_id_and_counts_positions(self):
        text = f'@id("a") {PERMIT} @id("a") {PERMIT}'
        assert list(json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"]) == [
            "policy0",
            "policy1",
        ]

    @pytest.mark.parametrize(
        "texts",
        [(f'@id("a") {PERMIT} @id("a") {PERMIT}',), (f'@id("a") {PERMIT}', f'@id("a") {FORBID}')],
        ids=["one file", "two files"],
    )
    def test_duplicates_are_refused(self, texts):
        with pytest.raises(Misconfigured, match='"a" is in'):
            policy(*texts)


class TestAnnotations:
    """Trap 3: they are outside of the schema, so Cedar passes any."""

    def test_contract_cedar_validates_a_misspelled_one(self):
        assert cedarpy.validate_policies(f'@id("a") @min_aprovals("2") {PERMIT}', SCHEMA).validation_passed

    def test_contract_an_annotation_without_value_reads_as_null(self):
        parsed = json.loads(cedarpy.policies_to_json_str(f'@id("a") @message {PERMIT}'))
        assert parsed["staticPolicies"]["policy0"]["annotations"] == {"id": "a", "message": None}


def test_obligations_exist_on_allow_only():
    """Trap 6."""
    verdict = judge(policy(f'@id("a") @approvers("group:leads") {PERMIT} @id("b") {FORBID}'))
    assert not verdict.permitted
    assert verdict.obligations is None
    assert verdict.determining == ("b",)


@pytest.mark.parametrize("slot", ["principal == ?principal", "principal in ?principal"])
def test_templates_are_refused(slot):
    """Trap 7."""
    with pytest.raises(Misconfigured, match="template"):
        policy(f'@id("t") permit ({slot}, action == Action::"request", resource);')


class TestNoDecision:
    """Trap 9: what Cedar cannot read is NoDecision and not an exception; neither is a yes."""

    RULES = f'@id("yes") {PERMIT}'

    def test_contract_bad_input_is_no_decision(self):
        result = cedarpy.is_authorized(
            {"principal": 'Human::"a"', "action": 'Action::"request"', "resource": 'Privilege::"p"', "context": {}},
            "permit (principal", [], schema_text(),
        )  # fmt: skip
        assert result.decision is cedarpy.Decision.NoDecision
        assert not result.allowed

    @pytest.mark.parametrize(
        "bend",
        [
            lambda q, e: (q._replace(context={**q.context, "minutes": "60"}), e),
            lambda q, e: (q._replace(context={**q.context, "minutes": 2**63}), e),
            lambda q, e: (q._replace(context={k: v for k, v in q.context.items() if k != "minutes"}), e),
            lambda q, e: (q._replace(context={**q.context, "unknown": 1}), e),
            lambda q, e: (q._replace(principal='Root::"a"'), e),
            lambda q, e: (q._replace(principal="not a uid"), e),
            lambda q, e: (q._replace(principal='Group::"engineers"'), e),
            lambda q, e: (q._replace(action="administer"), e),
            lambda q, e: (q, [*e, {"uid": {"type": "Human", "id": "zed"}, "attrs": {}, "parents": []}]),
            lambda q, e: (q, [*e, {**e[0], "parents": [{"type": "Group", "id": "x"}]}]),
            lambda q, e: (q, [{**x, "attrs": {**x["attrs"], "extra": True}} for x in e]),
            lambda q, e: (q, ["nonsense"]),
            lambda q, e: (q, [{"uid": "\ud800"}]),
        ],
    )
    def test_input_that_does_not_fit_is_denied(self, bend):
        questions, entities = slice_of()
        rules = Engine({"a.cedar": self.RULES})
        assert rules.ask(questions, entities)[0].allowed
        question, bent = bend(questions[0], entities)
        answer = rules.ask([question], bent)[0]
        assert not answer.allowed
        assert answer.errors

    @pytest.mark.parametrize("fault", [RuntimeError("out of memory"), KeyError("x"), OSError("gone")])
    def test_an_exception_of_the_engine_is_a_denial(self, fault):
        rules = policy(self.RULES)
        with mock.patch.object(engine_module.cedarpy, "is_authorized_batch", side_effect=fault):
            verdict = judge(rules)
        assert not verdict.permitted
        assert verdict.obligations is None
        assert verdict.reasons[0].startswith("policy could not be evaluated")
        assert verdict.evaluations[0].errors

    @pytest.mark.parametrize(
        "raw",
        [{}, {"decision": "Perhaps"}, {"decision": "NoDecision"}, {"decision": "Allow", "diagnostics": {"errors": ["x"]}}, {"decision": "Allow", "diagnostics": None}],
        ids=["empty", "unknown", "no decision", "allow with errors", "allow without diagnostics"],
    )  # fmt: skip
    def test_an_answer_that_is_not_a_plain_yes_is_a_denial(self, raw):
        rules = policy(self.RULES)
        with mock.patch.object(
            engine_module.cedarpy, "is_authorized_batch", return_value=[cedarpy.AuthzResult(raw)]
        ):
            assert not judge(rules).permitted

    def test_an_unanswered_question_is_a_denial(self):
        rules = policy(self.RULES)
        with mock.patch.object(engine_module.cedarpy, "is_authorized_batch", return_value=[]):
            assert not judge(rules).permitted

    def test_no_question_is_no_permit(self):
        assert not judge(policy(self.RULES), terms(privileges=(role(),), scope=())).permitted

    def test_questions_of_two_actions_in_one_go_are_denied(self):
        questions, entities = slice_of()
        both = [
            questions[0],
            Question('Human::"ann"', "approve", 'Request::"r"', {"stage": "s", "stages": []}),
        ]
        assert not any(answer.allowed for answer in Engine({"a.cedar": self.RULES}).ask(both, entities))


def test_a_policy_that_the_engine_did_not_take_is_noticed():
    """A forbid that is silently left out would allow."""
    compiled = cedarpy.PolicySet.from_json_str('{"staticPolicies": {}, "templates": {}, "templateLinks": []}')
    with (
        mock.patch.object(engine_module.cedarpy, "PolicySet") as other,
        pytest.raises(Misconfigured, match="did not take every policy"),
    ):
        other.from_json_str.return_value = compiled
        Engine({"a.cedar": f'@id("yes") {PERMIT}'})


def test_an_empty_set_for_an_action_denies():
    rules = policy('@id("a") permit (principal, action == Action::"approve", resource);')
    assert not judge(rules).permitted
    assert (
        judge(rules)
        .reasons[0]
        .startswith("no policy permits human:ann@example.com to have orders_rw on pg-prod")
    )


OBLIGING = f'@id("yes") @approvers("owners") {PERMIT}'


def test_no_decision_without_an_error_says_so():
    """What the engine could not decide is a no with a reason, also where it gives none itself."""
    questions, entities = slice_of()
    for decision, reason in (("NoDecision", ("the engine came to no decision",)), ("Deny", ())):
        raw = {"decision": decision, "diagnostics": {"reason": [], "errors": []}}
        answers = [cedarpy.AuthzResult(raw)]
        with mock.patch.object(engine_module.cedarpy, "is_authorized_batch", return_value=answers):
            (evaluation,) = Engine({"a.cedar": OBLIGING}).ask(questions[:1], entities)
        assert (evaluation.allowed, evaluation.errors) == (False, reason)


def test_only_permits_that_held_oblige():
    """A permit of a question that was denied, by an error in another policy, adds no demand."""
    questions, entities = slice_of()
    rules = Engine({"a.cedar": OBLIGING})
    (yes,) = rules.ask(questions[:1], entities)
    assert rules.obligations([yes], entities).stages
    denied = replace(yes, allowed=False, errors=("broken",))
    assert rules.obligations([denied], entities).stages == ()
