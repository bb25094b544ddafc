"""Who may decide which stage, and why not."""

from __future__ import annotations

import pytest

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
