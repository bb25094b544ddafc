"""Answers are remembered by exactly what they follow from: what differs anywhere is asked about by itself."""

from __future__ import annotations

import cedarpy
import pytest
from msgspec.structs import replace

from policy.world import CYD, PERMIT, person, policy, stage, target, terms, ticket

APPROVE = 'permit (principal, action == Action::"approve", resource) when { context.stages.contains(context.stage) };'
STARTER = (f'@id("ask") @approvers("group:platform") {PERMIT}', f'@id("decide") {APPROVE}')
NAMING = (
    f'@id("ask") {PERMIT}',
    f'@id("decide") {APPROVE}',
    '@id("not-that-one") forbid (principal, action == Action::"approve", resource == Request::"req_2");',
)
PICKY = (
    f'@id("decide") {APPROVE}',
    '@id("short") forbid (principal, action == Action::"approve", resource) when { resource.minutes > 60 };',
    '@id("lead") forbid (principal, action == Action::"approve", resource) unless { principal.roles.contains("approver") };',
)
BROKEN = (
    f'@id("decide") {APPROVE}',
    '@id("sum") forbid (principal, action == Action::"approve", resource) when { context.stage == "platform" && resource.minutes + 9223372036854775807 > 0 };',
)


@pytest.fixture
def asked(monkeypatch):
    """How many batches of questions Cedar was asked."""
    real, asked = cedarpy.is_authorized_batch, []

    def counting(requests, *rest):
        asked.append(requests)
        return real(requests, *rest)

    monkeypatch.setattr(cedarpy, "is_authorized_batch", counting)
    return asked


def authority(rules, ident, *, asked=None, approver=None, stages=None):
    requester = person()
    filed = replace(ticket(asked or terms(), stages), id=ident)
    who = approver or person(CYD, ["platform"], roles=("approver",))
    return rules.judge_approver(filed, who, requester, requester, target())


def test_requests_that_are_alike_are_asked_about_once_and_recorded_each_by_its_name(asked):
    rules = policy(*STARTER)
    first, second = authority(rules, "req_1"), authority(rules, "req_2")
    assert len(asked) == 1
    for found, name in ((first, "req_1"), (second, "req_2")):
        assert found.stages == ("platform",)
        assert [e.resource for e in found.verdict.evaluations] == [f'Request::"{name}"']
        assert [e["uid"]["id"] for e in found.verdict.entities if e["uid"]["type"] == "Request"] == [name]


def test_a_policy_that_names_a_request_is_asked_about_each(asked):
    rules = policy(*NAMING)
    assert authority(rules, "req_1").verdict.permitted
    assert not authority(rules, "req_2").verdict.permitted
    assert authority(rules, "req_2").verdict.determining == ("not-that-one",)
    assert authority(rules, "req_3").verdict.permitted
    assert [requests[0]["resource"]["id"] for requests in asked] == ["req_1", "req_2", "req_3"]


@pytest.mark.parametrize(
    ("change", "permitted"),
    [
        ({}, True),
        ({"asked": terms(duration=3601)}, False),
        ({"approver": person(CYD, ["platform"], roles=("member",))}, False),
        ({"approver": person(CYD, ["sales"], roles=("approver",))}, False),
        ({"stages": (stage("group:sales"),)}, False),
    ],
)
def test_whatever_differs_has_an_answer_of_its_own(change, permitted):
    rules = policy(*PICKY)
    assert authority(rules, "req_1").verdict.permitted
    assert authority(rules, "req_2", **change).verdict.permitted is permitted
    assert authority(rules, "req_3").verdict.permitted


@pytest.mark.parametrize("stages", [("group:platform",), ("group:sales", "group:platform")])
def test_an_error_is_a_denial_each_time_and_is_asked_for_under_the_true_name(asked, stages):
    """Also where it is an error about one stage of several."""
    rules = policy(*BROKEN)
    who = person(CYD, ["platform", "sales"])
    for name in ("req_1", "req_2", "req_1"):
        found = authority(rules, name, approver=who, stages=tuple(map(stage, stages)))
        assert "platform" not in found.stages or not found.verdict.permitted
        assert found.verdict.evaluations[-1].errors
    assert [r[0]["resource"]["id"] for r in asked] == ["any", "req_1", "req_2"]


def test_an_engine_that_fails_is_asked_again(monkeypatch):
    rules = policy(f'@id("ask") @approvers("group:platform") {PERMIT}')

    def judged():
        return rules.judge_request(terms(), person(), person(), target())

    def fails(*_):
        raise ValueError("out of order")

    with monkeypatch.context() as broken:
        broken.setattr(cedarpy, "is_authorized_batch", fails)
        assert not judged().permitted
    assert judged().permitted
