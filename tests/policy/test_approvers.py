"""Who may decide which stage, and why not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from policy.world import (
    ANN,
    BO,
    BOT,
    CYD,
    DEPLOY,
    PERMIT,
    machine,
    person,
    policy,
    role,
    stage,
    target,
    terms,
    ticket,
)

APPROVE = 'permit (principal, action == Action::"approve", resource);'


class TestApprovers:
    RULES = policy(
        '@id("in-stage") permit (principal, action == Action::"approve", resource) when { context.stages.contains(context.stage) };'
        '@id("line") @message("your manager") forbid (principal, action == Action::"approve", resource) '
        "when { principal has manager && resource.beneficiaries.contains(principal.manager) };"
        '@id("senior") @message("security is for seniors") forbid (principal, action == Action::"approve", resource) '
        'when { context.stage == "security" } unless { principal in Group::"seniors" };'
    )

    def authority(self, approver, *stages, asked=None, beneficiary=None):
        requester = person()
        return self.RULES.judge_approver(
            ticket(asked or terms(ANN, (beneficiary or requester).identity.id), stages or (stage("group:platform"),)),
            approver, requester, beneficiary or requester, target(),
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("approver", "stages", "mine"),
        [
            (person(CYD, ["platform"]), (stage("group:platform"),), ("platform",)),
            (person(CYD, []), (stage("group:platform"),), ()),
            (person(CYD, []), (stage(CYD),), (CYD,)),
            (person(CYD, [], aliases=(BO,)), (stage(BO),), (BO,)),
            (person(CYD, ["b"]), (stage("group:a", "group:b", name="owners of x"),), ("owners of x",)),
            (person(CYD, ["b", "a"]), (stage("group:b"), stage("group:a"), stage("group:c")), ("b", "a")),
            (person(CYD, ["platform2", "PLATFORM"]), (stage("group:platform"),), ()),
        ],
    )
    def test_stages(self, approver, stages, mine):
        authority = self.authority(approver, *stages)
        assert authority.approver == CYD
        assert authority.stages == mine
        assert authority.verdict.permitted is bool(mine)
        assert len(authority.verdict.evaluations) == len(mine)
        assert authority.verdict.obligations is None
        assert authority.verdict.reasons

    def test_a_stage_that_policy_keeps_one_from_is_left_out(self):
        both = (stage("group:security"), stage("group:platform"))
        authority = self.authority(person(CYD, ["security", "platform"]), *both)
        assert authority.stages == ("platform",)
        assert authority.verdict.permitted
        assert authority.verdict.determining == ("in-stage",)
        assert [e.allowed for e in authority.verdict.evaluations] == [False, True]

    def test_kept_from_all_stages_says_why(self):
        authority = self.authority(person(CYD, ["security"]), stage("group:security"))
        assert authority.stages == ("security",)
        assert not authority.verdict.permitted
        assert authority.verdict.reasons == ("security is for seniors",)

    def test_ones_manager_also_behind_a_machine(self):
        reports = person(CYD, ["platform"], manager=ANN)
        assert self.authority(reports).verdict.reasons == ("your manager",)
        assert self.authority(reports, beneficiary=machine(DEPLOY)).verdict.reasons == ("your manager",)
        assert self.authority(person(CYD, ["platform"], manager=BO)).verdict.permitted

    def test_only_people(self):
        authority = self.authority(machine(BOT, groups=["platform"]))
        assert authority.stages == ()
        assert not authority.verdict.permitted
        assert "only people" in authority.verdict.reasons[0]

    def test_no_permit_no_authority(self):
        rules = policy(f'@id("a") {PERMIT}')
        authority = rules.judge_approver(ticket(), person(CYD, ["platform"]), person(), person(), target())
        assert not authority.verdict.permitted
        assert authority.verdict.reasons == (f"no policy permits {CYD} to decide req_1",)

    def test_a_ticket_without_stages_has_no_approvers(self):
        assert self.authority(person(CYD, ["platform"]), stage("group:other")).stages == ()

    def test_a_privilege_that_left_the_catalogue_counts_as_critical(self):
        rules = policy(
            '@id("a") permit (principal, action == Action::"approve", resource) when { resource.risk == "critical" };'
        )
        gone = ticket(terms(privileges=(role("gone"),)))
        who = person(CYD, ["platform"])
        assert rules.judge_approver(gone, who, person(), person(), target()).verdict.permitted
        assert not rules.judge_approver(ticket(), who, person(), person(), target()).verdict.permitted


class TestWhatAnApprovalIsAskedWith:
    """A rule about approving sees the request as a whole."""

    @pytest.mark.parametrize(
        ("condition", "of"),
        [
            ("resource.break_glass", {"kind": "break_glass", "incident": "INC-1"}),
            ('resource.risk == "high"', {"privileges": (role("dull"), role("keys"))}),
            ('resource.references.contains("change")', {"references": {"change": "CHG-7"}}),
            ("resource.minutes == 61", {"duration": 3601}),
        ],
    )
    def test_what_conditions_can_ask(self, condition, of):
        on = target(role("dull"), role("orders_rw"), role("keys"))
        risks = {"keys": "high", "dull": "low"}
        entries = tuple(replace(e, risk=risks.get(e.privilege.privilege, "medium")) for e in on.catalogue)
        on = replace(on, catalogue=entries)
        rules = policy(f'@id("a") {APPROVE[:-1]} when {{ {condition} }};')
        for asked, permitted in ((terms(), False), (terms(**of), True)):
            found = rules.judge_approver(ticket(asked), person(CYD, ["platform"]), person(), person(), on)
            assert found.verdict.permitted is permitted

    def test_groups_that_decide(self):
        rules = policy(
            f'@id("ask") @approvers("group:leads or {BO}, owners") {PERMIT}',
            '@id("decide") ' + APPROVE.replace("principal,", 'principal in Group::"seniors",'),
            '@id("who") ' + PERMIT.replace("principal,", 'principal in Group::"engineers",'),
        )
        assert rules.approver_groups() == {"leads", "seniors"}
        assert rules.named_groups() == {"leads", "seniors", "engineers"}


class TestDelegates:
    """What policy forbids somebody to decide, they decide for nobody else; to be permitted they need not."""

    FORBID = APPROVE.replace("permit", "forbid")[:-1]
    NEVER = f'@id("never") @message("not Cyd") {FORBID} when {{ principal == Human::"cyd@example.com" }};'
    SECURITY = f'@id("one") @message("not security") {FORBID} when {{ context.stage == "security" }};'
    BROKEN = f'@id("sum") {FORBID} when {{ resource.minutes + 9223372036854775807 > 0 }};'
    YES = f'@id("decide") {APPROVE}'

    def why(self, *texts, stages=("platform",)):
        filed = ticket(terms(), (stage("group:platform"), stage("group:security")))
        return policy(*texts).forbids(filed, person(CYD), person(), person(), target(), stages)

    def test_nothing_said_is_no_prohibition(self):
        assert self.why(f'@id("a") {PERMIT}') == ()
        assert self.why(self.YES) == ()

    def test_a_forbid_is_one_whatever_else_permits(self):
        assert self.why(self.NEVER) == ("not Cyd",)
        assert self.why(self.YES, self.NEVER) == ("not Cyd",)

    def test_an_error_is_one(self):
        (why,) = self.why(self.YES, self.BROKEN)
        assert why.startswith("policy could not be evaluated")

    def test_one_of_several_stages(self):
        assert self.why(self.YES, self.SECURITY) == ()
        assert self.why(self.YES, self.SECURITY, stages=("platform", "security")) == ("not security",)
        assert self.why(self.SECURITY, stages=("platform", "security")) == ("not security",)
