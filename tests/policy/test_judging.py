"""Every privilege and every person is judged by itself; what is asked is what is recorded; no is explained."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest
from msgspec.structs import replace

from muniment.core.instants import parse_duration
from muniment.policy.slices import parts
from muniment.ports import Subject
from policy.world import (
    ANN,
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
)  # fmt: skip

HOUR = 3600
READERS = '@id("readers") permit (principal, action == Action::"request", resource) when { resource.name like "ro*" };'


class TestEachPrivilege:
    """I8, F9: N privileges are N questions, and one no is a no."""

    @pytest.mark.parametrize("count", [1, 2, 7, 50])
    def test_one_refused_at_every_position(self, count):
        rules = policy(READERS)
        names = [f"ro{at:02}" for at in range(count)]
        fine = tuple(role(n) for n in names)
        assert judge(rules, terms(privileges=fine), on=target(*fine)).permitted
        for at in {0, count // 2, count - 1}:
            mixed = tuple(role(n if i != at else "rw") for i, n in enumerate(names))
            verdict = judge(rules, terms(privileges=mixed), on=target(*mixed))
            assert not verdict.permitted
            assert len(verdict.evaluations) == count
            assert sum(not e.allowed for e in verdict.evaluations) == 1
            assert verdict.reasons == (f"no policy permits {ANN} to have rw on pg-prod",)

    def test_a_resource_is_another_privilege(self):
        rules = policy(
            '@id("a") permit (principal, action == Action::"request", resource) when { resource has resource && resource.resource == "dev" };'
        )
        both = (role("view", "dev"), role("view", "prod"))
        assert judge(rules, terms(privileges=both[:1]), on=target(*both)).permitted
        assert not judge(rules, terms(privileges=both), on=target(*both)).permitted
        assert not judge(rules, terms(privileges=(role("view"),)), on=target(role("view"))).permitted
        both_may = policy(f'@id("a") {PERMIT}')
        verdict = judge(both_may, terms(privileges=both), on=target(*both))
        assert verdict.permitted
        assert [e.resource for e in verdict.evaluations] == [
            'Privilege::"pg-prod/view/dev"',
            'Privilege::"pg-prod/view/prod"',
        ]

    def test_what_is_not_in_the_catalogue_is_denied(self):
        verdict = judge(policy(f'@id("a") {PERMIT}'), terms(privileges=(role("superuser"),)))
        assert not verdict.permitted
        assert verdict.reasons == ("superuser is not in the catalogue of pg-prod",)


class TestEachPerson:
    """I38: requester and beneficiary must both be allowed."""

    @pytest.mark.parametrize(
        ("permitted", "asks", "gets", "answer"),
        [
            ("ann bo", ANN, BO, True), ("ann", ANN, BO, False), ("bo", ANN, BO, False),
            ("ann", ANN, ANN, True), ("bo", ANN, ANN, False),
        ],
    )  # fmt: skip
    def test_intersection(self, permitted, asks, gets, answer):
        rules = policy(
            *(
                f'@id("{name}") permit (principal == Human::"{name}@example.com", action == Action::"request", resource);'
                for name in permitted.split()
            )
        )
        verdict = judge(rules, None, person(asks), person(gets))
        assert verdict.permitted is answer
        assert len(verdict.evaluations) == len({asks, gets})

    @pytest.mark.parametrize(
        ("requester", "beneficiary", "relation", "parts"),
        [
            (person(), person(), "self", ["both"]),
            (person(), person(BO), "other", ["requester", "beneficiary"]),
            (person(), machine(), "owner", ["requester", "beneficiary"]),
            (person(BO), machine(), "other", ["requester", "beneficiary", "owner"]),
            (machine(BOT), person(), "owned", ["requester", "beneficiary"]),
            (
                machine(DEPLOY),
                machine(BOT, owners=(DEPLOY, ANN)),
                "owner",
                ["requester", "beneficiary", "owner"],
            ),
            (machine(BOT), machine(BOT), "self", ["both", "owner"]),
            (person(BO), machine(BOT), "other", ["requester", "beneficiary", "owner"]),
        ],
    )
    def test_how_they_stand_to_each_other(self, requester, beneficiary, relation, parts):
        verdict = judge(policy(f'@id("a") {PERMIT}'), None, requester, beneficiary)
        assert verdict.permitted
        assert [e.context["part"] for e in verdict.evaluations] == parts
        assert {e.context["relation"] for e in verdict.evaluations} == {relation}

    @pytest.mark.parametrize(
        ("requester", "part"),
        [(person(BO), "beneficiary"), (machine(BOT, person(BO)), "owner"), (person(BO), "requester")],
    )
    def test_whom_it_is_refused_to_is_said(self, requester, part):
        beneficiary = person() if part != "owner" else requester
        refused = {"beneficiary": ANN, "requester": BO, "owner": f"{BO}, who answers for it,"}[part]
        one = "ann" if part == "beneficiary" else "bo"
        no = FORBID[:-1] + f' when {{ principal == Human::"{one}@example.com" }};'
        yes = PERMIT[:-1] + f' unless {{ principal == Human::"{one}@example.com" }};'
        verdict = judge(policy(f'@id("a") {yes}'), None, requester, beneficiary)
        assert verdict.reasons == (f"no policy permits {refused} to have orders_rw on pg-prod",)
        assert judge(
            policy(f'@id("a") {PERMIT} @id("b") {no}'), None, requester, beneficiary
        ).determining == ("b",)

    def test_the_nearest_who_is_active_and_a_person_is_judged_too(self):
        """Of owners the first, unless the requester is one of them: then they are judged already."""
        left = replace(person("human:lee@example.com").identity, active=False)
        deploy = machine(DEPLOY).identity
        bo, ann = person(BO).identity, person().identity
        owners = (left, deploy, bo, ann)
        helper = Subject(
            identity=replace(machine(BOT).identity, owners=tuple(o.id for o in owners)), owners=owners
        )
        rules = policy(f'@id("a") {PERMIT}')
        alone = judge(rules, None, helper)
        assert alone.permitted
        assert [(e.context["part"], e.principal) for e in alone.evaluations] == [
            ("both", 'AiAgent::"triage"'),
            ("owner", 'Human::"bo@example.com"'),
        ]
        asked = judge(rules, None, person(), helper)
        assert asked.permitted
        assert [e.context["part"] for e in asked.evaluations] == ["requester", "beneficiary"]

    def test_where_nobody_is_active_nobody_is_judged_for_it(self):
        gone = machine(BOT, Subject(identity=replace(person().identity, active=False)))
        assert [part for part, _ in parts(gone, gone)] == ["both"]

    def test_policies_see_the_groups_and_owners_of_a_machine(self):
        rules = policy(
            '@id("p") permit (principal is Human, action == Action::"request", resource);\n'
            '@id("a") permit (principal is AiAgent in Group::"agents", action == Action::"request", resource) '
            'when { principal.owner in Group::"engineers" && principal.owners.contains(Human::"ann@example.com") };'
        )
        assert judge(rules, None, machine(BOT, groups=["agents"])).permitted
        assert not judge(rules, None, machine(BOT)).permitted
        assert not judge(rules, None, machine(BOT, person(groups=()), groups=["agents"])).permitted


class TestTheIntersectionOfRights:
    """Whoever is not a person gets what both it and a person who answers for it may have (I38)."""

    AGENTS = '@id("a") permit (principal is AiAgent, action == Action::"request", resource);'
    PEOPLE = '@id("p") permit (principal in Group::"engineers", action == Action::"request", resource);'

    def test_the_agent_alone_is_not_enough(self):
        verdict = judge(policy(self.AGENTS), None, machine(BOT))
        assert not verdict.permitted
        assert any("human:ann@example.com, who answers for it," in reason for reason in verdict.reasons)

    def test_the_owner_alone_is_not_enough(self):
        assert not judge(policy(self.PEOPLE), None, machine(BOT)).permitted

    def test_both_are(self):
        assert judge(policy(f"{self.AGENTS}\n{self.PEOPLE}"), None, machine(BOT)).permitted
        outsider = machine(BOT, person(groups=()))
        assert not judge(policy(f"{self.AGENTS}\n{self.PEOPLE}"), None, outsider).permitted

    def test_what_is_forbidden_to_the_owner_is_forbidden_to_the_agent(self):
        no = '@id("f") forbid (principal == Human::"ann@example.com", action == Action::"request", resource);'
        assert not judge(policy(f"{self.AGENTS}\n{self.PEOPLE}\n{no}"), None, machine(BOT)).permitted

    def test_an_owner_who_left_answers_for_nothing(self):
        gone = machine(BOT, Subject(identity=replace(person().identity, active=False)))
        verdict = judge(policy(f"{self.AGENTS}\n{self.PEOPLE}"), None, gone)
        assert verdict.reasons == (f"nobody who is active answers for {BOT}",)


class TestQuestionsThatCannotBeAsked:
    RULES = policy(f'@id("a") {PERMIT}')

    def test_other_people_or_another_target_than_in_the_terms(self):
        ann, bo = person(), person(BO)
        assert not self.RULES.judge_request(terms(), bo, bo, target()).permitted
        assert not self.RULES.judge_request(terms(), ann, bo, target()).permitted
        assert not self.RULES.judge_request(terms(), ann, ann, target(ident="pg-dev")).permitted

    def test_nobody_answers_for_a_machine(self):
        orphan = machine(DEPLOY, owners=())
        orphan = msgspec.structs.replace(orphan, owners=())
        assert judge(self.RULES, None, orphan).reasons == (f"{DEPLOY} has no accountable owner",)

    def test_an_owner_whose_groups_are_unknown(self):
        """Cedar would find them in no group, and a forbid about owners would pass in silence."""
        assert not judge(self.RULES, None, machine(DEPLOY, owners=(ANN, BO))).permitted

    @pytest.mark.parametrize("duration", [0, -60])
    def test_no_time_at_all(self, duration):
        assert not judge(self.RULES, terms(duration=duration)).permitted

    def test_two_descriptions_of_one_owner(self):
        verdict = judge(self.RULES, None, person(groups=("engineers",)), machine(DEPLOY, person(groups=())))
        assert not verdict.permitted
        assert verdict.reasons[0].startswith("policy could not be evaluated")


class TestContext:
    @pytest.mark.parametrize(
        ("seconds", "allowed"), [(1, True), (3599, True), (3600, True), (3601, False), (7200, False)]
    )
    def test_minutes_are_rounded_up(self, seconds, allowed):
        rules = policy(f'@id("a") {PERMIT[:-1]} when {{ context.minutes <= 60 }};')
        assert judge(rules, terms(duration=seconds)).permitted is allowed

    @pytest.mark.parametrize(
        ("condition", "more"),
        [
            ("context.break_glass", {"kind": "break_glass", "incident": "INC-1"}),
            ('context.references.contains("change")', {"references": {"change": "CHG-7"}}),
            ("context.has_start", {"starts_at": "2026-11-24T10:00:00.000000Z"}),
            ('context.account == "deploy"', {"account": "deploy"}),
        ],
    )
    def test_what_conditions_can_ask(self, condition, more):
        rules = policy(f'@id("a") {PERMIT[:-1]} when {{ {condition} }};')
        assert judge(rules, terms(**more)).permitted
        assert not judge(rules).permitted

    @pytest.mark.parametrize(
        ("condition", "on"),
        [
            ('resource in Environment::"prod"', target()),
            ('resource in Target::"pg-prod"', target()),
            ('resource == Privilege::"pg-prod/orders_rw"', target()),
            ('resource.risk == "critical"', target(risk="critical")),
            ("resource.target.native_expiry", target(native=True)),
            ('resource.target.owners.contains("group:platform")', target()),
            ("resource.target has longest && resource.target.longest <= 60", target(longest=60)),
        ],
    )
    def test_what_conditions_can_ask_of_a_target(self, condition, on):
        rules = policy(f'@id("a") {PERMIT[:-1]} when {{ {condition} }};')
        assert judge(rules, on=on).permitted
        assert not judge(policy(f'@id("a") {PERMIT[:-1]} unless {{ {condition} }};'), on=on).permitted

    def test_what_a_connector_does_not_say_it_cannot(self):
        promised = SimpleNamespace(native_expiry=True, ends_sessions=True)
        for capabilities, can in ((None, False), (SimpleNamespace(), False), (promised, True)):
            on = replace(target(), connector=SimpleNamespace(capabilities=capabilities))
            for attribute in ("native_expiry", "ends_sessions"):
                rules = policy(f'@id("a") {PERMIT[:-1]} when {{ resource.target.{attribute} }};')
                assert judge(rules, on=on).permitted is can
            assert judge(policy(f'@id("a") {PERMIT}'), on=replace(on, connector=None)).permitted

    def test_a_privilege_without_owners_of_its_own_has_none(self):
        rules = policy(f'@id("a") {PERMIT[:-1]} when {{ resource has owners }};')
        assert judge(rules, on=target(owners_of={"orders_rw": ("group:orders",)})).permitted
        assert not judge(rules).permitted


class TestReasons:
    @pytest.mark.parametrize(
        ("policies", "asked", "hint"),
        [
            ([f'@id("a") {PERMIT[:-1]} when {{ context.minutes <= 240 }};'], {"duration": 10 * HOUR}, "for at most 4 h"),
            ([f'@id("a") {PERMIT[:-1]} when {{ 240 > context.minutes }};'], {"duration": 10 * HOUR}, "for at most 3 h 59 min"),
            ([f'@id("a") @max_duration("30m") {PERMIT[:-1]} when {{ context.minutes <= 240 }};'], {"duration": 10 * HOUR}, "for at most 30 min"),
            ([f'@id("a") {PERMIT[:-1]} when {{ !context.break_glass }};'], {"kind": "break_glass", "incident": "I"}, "without break-glass"),
            (
                [f'@id("a") {PERMIT[:-1]} when {{ !context.break_glass && context.minutes <= 60 }};'],
                {"kind": "break_glass", "incident": "I", "duration": 2 * HOUR},
                "without break-glass for at most 1 h",
            ),
            ([f'@id("a") {PERMIT[:-1]} when {{ context.references.contains("change") }};'], {}, "with a reference: change"),
            ([f'@id("a") {PERMIT[:-1]} when {{ !context.has_start }};'], {"starts_at": "2026-11-24T10:00:00.000000Z"}, "if it begins at once"),
        ],
    )  # fmt: skip
    def test_what_would_be_allowed_instead(self, policies, asked, hint):
        verdict = judge(policy(*policies), terms(**asked))
        assert not verdict.permitted
        assert verdict.reasons == (
            f"no policy permits {ANN} to have orders_rw on pg-prod",
            f"it would be allowed {hint}",
        )

    @pytest.mark.parametrize("asked", [10, 70, 300, 490, 501, 5000])
    @pytest.mark.parametrize(
        "condition",
        [
            "context.minutes <= 240",
            "context.minutes == 500",
            "context.minutes < 30 || context.minutes == 480",
            "context.minutes > 60",
        ],
    )
    def test_hints_hold(self, condition, asked):
        """What is said to be allowed for at most so long is allowed for so long."""
        rules = policy(f'@id("a") {PERMIT[:-1]} when {{ {condition} }};')
        verdict = judge(rules, terms(duration=asked * 60))
        for reason in verdict.reasons:
            _, found, limit = reason.partition("for at most ")
            if found:
                seconds = int(parse_duration(limit.replace(" ", "").replace("min", "m")).total_seconds())
                again = judge(rules, terms(duration=seconds))
                assert again.permitted
                assert seconds <= again.obligations.longest

    def test_forbids_speak_for_themselves(self):
        rules = policy(f'@id("a") {PERMIT} @id("b") @message("not on Fridays") {FORBID} @id("c") {FORBID}')
        verdict = judge(rules)
        assert verdict.reasons == ("not on Fridays", "forbidden by policy c")
        assert verdict.determining == ("b", "c")

    def test_a_permit_says_what_it_rests_on(self):
        rules = policy(f'@id("a") @message("all may") {PERMIT} @id("b") {PERMIT}')
        assert judge(rules).reasons == ("all may", "permitted by policy b")

    def test_a_large_denied_bundle_is_explained_in_bounded_work(self):
        many = tuple(role(f"r{at:02}") for at in range(50))
        rules = policy(f'@id("a") {PERMIT[:-1]} when {{ context.minutes <= 30 }};')
        verdict = judge(rules, terms(privileges=many), on=target(*many))
        assert len([r for r in verdict.reasons if r.startswith("no policy permits")]) == 50
        assert verdict.reasons.count("it would be allowed for at most 30 min") == 1
