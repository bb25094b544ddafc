"""How other systems failed between "asked" and "given", each as a test here: F-numbers and the list of the landscape.

A name says what failed. Where a whole table or property already holds a rule (`core.test_lifecycle_table`,
`core.test_stages`, `faults.test_overlap`, …) the failure is repeated here in its own words all the same.
"""

from __future__ import annotations

import dataclasses
import threading
from datetime import timedelta

import pytest

import faulty
from evidence.office import HOUR, Office
from muniment.api.bodies import Decision as DecisionBody
from muniment.api.bodies import Request as RequestBody
from muniment.config import load
from muniment.core import commands as c
from muniment.core import events as e
from muniment.core.errors import Invalid, Misconfigured, MunimentError, NotFound, Refused, StoreUnavailable
from muniment.core.identity import parse_identity
from muniment.core.lifecycle import WHEN
from muniment.core.scope import Privilege, parse_scope
from muniment.core.text import clean_name
from muniment.main import open_desk
from muniment.ports import Target
from muniment.service import deciding, tokens
from muniment.service.documents import ticket_document
from muniment.service.filing import Ask, file_request
from muniment.service.offboarding import offboard
from muniment.store.tokens import SqlTokens
from service.changes import PRODUCTION, events, oblige, people, sound, ticket

CYD = 'name = "Cyd"\ngroups = ["platform"]'
DEE = 'name = "Dee"\ngroups = ["platform"]'


def refused(do, *words, **more) -> str:
    with pytest.raises(MunimentError) as caught:
        do(*words, **more)
    return caught.value.code


# ── approval ──


def test_f1_a_request_carries_no_approval_and_no_status() -> None:
    """AWS TEAM CVE-2025-1969: the requester wrote the approver's fields."""
    asked = {*Ask.__struct_fields__, *RequestBody.__struct_fields__}
    assert not asked & {
        "status",
        "approvals",
        "approvers",
        "decisions",
        "stages",
        "obligations",
        "requester",
        "account",
    }
    assert RequestBody.__struct_config__.forbid_unknown_fields
    assert set(c.Submit.__struct_fields__) == {"ticket", "terms"}


@pytest.mark.parametrize("who", ["ann", "ops", "aud"])
def test_f2_a_user_does_not_approve_his_own_nor_anyones(office: Office, who: str) -> None:
    """Devolutions CVE-2025-11957. Ops runs Muniment and Aud reads it: neither approves by that."""
    asked = office.ask()
    assert refused(office.approve, asked, who) in {"refused.self-approval", "refused.not-an-approver"}
    assert office.status(asked) == "pending"


@pytest.mark.parametrize("less", [{"duration": HOUR / 2}, {"scope": (Privilege(privilege="web-admin"),)}])
def test_f3_changed_after_the_approval_it_is_not_given(office: Office, less) -> None:
    """Gitea GO-2026-6080, GitLab 383776: a stale approval stood for other terms, or for a moment."""
    oblige(office, '@approvers("owners")\n@min_approvals("2")\n@max_duration("4h")')
    asked = office.ask("web-admin", "root")
    office.approve(asked, "cyd")
    office.do(deciding.counter, "dee", asked, digest=None, comment="less", **less)
    before = len(office.desk.store.entries(asked))
    office.do(deciding.accept, "ann", asked, offer=None)
    accepted = office.desk.store.entries(asked)[before]
    assert accepted.event.voided == (
        "human:cyd@example.com",
    )  # in the event itself: there is no moment between
    assert ticket(office, asked).decisions == ()
    office.give(asked)
    assert office.status(asked) == "pending"
    office.approve(asked, "dee")
    assert office.status(asked) == "pending"


def test_f4_withdrawn_and_filed_again_it_needs_its_approval_again(office: Office) -> None:
    """Gitea CVE-2026-104632: cancel and run again skipped the approval that was pending."""
    first = office.ask()
    office.do(deciding.withdraw, "ann", first)
    assert refused(office.approve, first) == "refused.status"
    second = office.ask()
    office.give(second)
    assert office.status(second) == "pending"


def test_f4_an_error_in_the_check_is_a_no(office: Office) -> None:
    """Gitea CVE-2026-27780: oversized input made the check err, and what erred was skipped."""
    broken = '@id("broken") forbid (principal, action == Action::"request", resource) when { context.minutes * 9223372036854775807 > 0 };'
    oblige(office, '@approvers("owners")\n@max_duration("4h")', broken=broken)
    assert office.status(office.ask()) == "denied"


def test_f5_two_approvals_and_a_rejection_at_once_one_wins(office: Office) -> None:
    """discord/access 468: approving stale state was a silent no-op, or a second grant."""
    asked = office.ask()
    shown = ticket(office, asked).digest
    said: list[str] = []

    def act(do, who, **words) -> None:
        try:
            do(office.desk, office.caller(who), asked, **words)
            said.append("done")
        except MunimentError as error:
            said.append(error.code)

    threads = [
        threading.Thread(target=act, args=(deciding.approve, "cyd"), kwargs={"digest": shown}),
        threading.Thread(target=act, args=(deciding.approve, "dee"), kwargs={"digest": shown}),
        threading.Thread(target=act, args=(deciding.deny, "dee"), kwargs={"comment": "no"}),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == ["done", "refused.status", "refused.status"]
    ends = [*events(office, asked, e.RequestApproved), *events(office, asked, e.RequestDenied)]
    assert len(ends) == 1
    sound(office)


def test_f6_an_approval_has_no_field_for_scope_type_or_end() -> None:
    """discord/access 455: the approver changed the type while approving."""
    assert set(DecisionBody.__struct_fields__) == {"decision", "digest", "comment", "signature", "passkey"}
    assert DecisionBody.__struct_config__.forbid_unknown_fields
    assert set(c.Approve.__struct_fields__) == {"digest", "comment", "signature"}


def test_f6_no_command_moves_an_end() -> None:
    """discord/access 401: anybody edited "should expire". An offer says for how long, and only ever less."""
    moving = {"expires_at", "expires", "ends_at", "until", "starts_at", "window", "duration", "terms"}
    able = {command.__name__ for command in WHEN if moving.intersection(command.__struct_fields__)}
    assert able == {"Counter"}


def test_f7_an_empty_scope_is_not_asked_for(office: Office) -> None:
    """JumpServer ddacd5fce: a link approved even an empty ticket."""
    with pytest.raises(Invalid):
        parse_scope(())
    ask = Ask(target="bastion", scope=(), justification="x", duration=HOUR, public_key=office.public_key)
    assert refused(file_request, office.desk, office.caller("ann"), ask) == "invalid"


@pytest.mark.parametrize("name", ["human:ANN@example.com", "human:ann@example.org", "human:Ann@Example.ORG"])
def test_f8_f18_another_spelling_or_alias_is_the_same_person(office: Office, name: str) -> None:
    """Vault CVE-2025-6013: letter case passed for somebody else."""
    people(office, '# aliases = ["human:ann@example.org"]', 'aliases = ["human:ann@example.org"]')
    people(office, 'name = "Ann"\ngroups = ["engineers"]', 'name = "Ann"\ngroups = ["engineers", "platform"]')
    asked = office.ask()
    caller = office.desk.caller(name, "test")
    assert refused(deciding.approve, office.desk, caller, asked, digest=None) == "refused.self-approval"


@pytest.mark.parametrize("name", ["Root", "ROOT", "root\u200b", "r\u043e\u043et", "root ", "web-admin\0"])
def test_f8_another_spelling_of_a_privilege_is_none(office: Office, name: str) -> None:
    """OpenBao CVE-2025-54996: letter case hid that it was root that was asked for."""
    ask = Ask(
        target="bastion", scope=(Privilege(privilege=name),), justification="x", duration=HOUR, public_key=office.public_key
    )  # fmt: skip
    code = refused(file_request, office.desk, office.caller("ann"), ask)
    assert code == ("invalid.unknown-privilege" if name.isprintable() and name == name.strip() else "invalid")


@pytest.mark.parametrize(
    "name",
    ["human:аnn@example.com", "human:ann @example.com", "human:ann@example.com ", "human:ánn@example.com",
     "human:a\u0301nn@example.com", "human:\u212aim@example.com", "human:" + "a" * 256, "HUMAN:ann@example.com", "human:"],
)  # fmt: skip
def test_f18_names_that_look_alike_or_are_cut_are_refused(name: str) -> None:
    with pytest.raises(Invalid):
        parse_identity(name)


def test_f18_a_name_that_the_target_would_cut_is_refused(office: Office) -> None:
    with pytest.raises(Invalid):
        office.desk.targets["bastion"].connector.validate(
            "x" * 300, (Privilege(privilege="web-admin"),), office.public_key
        )
    with pytest.raises(Invalid):
        clean_name("root\u202e", "the account")


@pytest.mark.parametrize("who", ["human:eve@example.com", "human:", "", "ops", "system:muniment"])
def test_f20_nobody_unknown_acts(office: Office, who: str) -> None:
    """Securden CVE-2025-53118: a way in without a login."""
    with pytest.raises(MunimentError):
        office.desk.caller(who, "test")


def test_f20_what_one_may_not_see_is_not_there(office: Office) -> None:
    """Boundary CVE-2022-36130: the resource was not bound to who may have it."""
    asked = office.ask()
    for do, words in (
        (deciding.approve, {"digest": None}), (deciding.deny, {"comment": "x"}), (deciding.withdraw, {}), (deciding.revoke, {"reason": "x"}),
        (deciding.counter, {"digest": None, "duration": HOUR / 2, "comment": "x"}), (deciding.accept, {"offer": None}),
    ):  # fmt: skip
        with pytest.raises(NotFound):
            office.do(do, "bo", asked, **words)


@pytest.mark.parametrize("scope", [("web-admin", "root"), ("root",)])
def test_f20_one_no_among_yeses_is_a_no(office: Office, scope: tuple[str, ...]) -> None:
    """JumpServer CVE-2023-42442: permissions were OR-ed."""
    root = '@id("no-root") forbid (principal, action == Action::"request", resource) when { resource.name == "root" };'
    oblige(office, PRODUCTION, freeze=root)
    assert office.status(office.ask("web-admin")) == "pending"
    assert office.status(office.ask(*scope)) == "denied"


# ── who left, who is not there, who is not meant ──


@pytest.mark.parametrize("when", ["pending", "approved", "active"])
def test_f24_disabled_on_the_way_nothing_is_given_and_what_was_given_ends(office: Office, when: str) -> None:
    """Keycloak CVE-2026-1609: disabled users got tokens."""
    asked = office.ask(starts_at=office.clock.at + HOUR if when == "approved" else None)
    if when != "pending":
        office.approve(asked)
        office.give(asked)
    assert office.status(asked) == when
    people(office, 'name = "Ann"\n', 'name = "Ann"\nactive = false\n')
    assert [t.id for t in offboard(office.desk)] == [asked]
    assert office.status(asked) == ("revoking" if when == "active" else "denied")
    with pytest.raises(Refused):
        office.caller("ann")


@pytest.mark.parametrize("why", ["over", "revoked"])
def test_f24_a_token_that_was_good_is_not_taken_again(office: Office, why: str) -> None:
    """AWS Identity Center: tokens without an end, and a cache that let old ones pass."""
    token = tokens.create(office.desk, None, "human:ann@example.com", lasts=HOUR)
    kept = SqlTokens(office.desk.store)
    door, later = tokens.TokenAuthenticator(kept), tokens.TokenAuthenticator(kept)
    found = door.authenticate(token["token"], office.clock.at)
    assert found
    assert found.identity == "human:ann@example.com"
    if why == "revoked":
        tokens.revoke(office.desk, None, token["id"])
        office.later(2)
    else:
        office.later(3600)
    for each in (door, later):
        assert refused(each.authenticate, token["token"], office.clock.at).startswith("unauthenticated.")


def test_f24_an_approver_who_left_has_approved_nothing(office: Office) -> None:
    asked = office.ask(starts_at=office.clock.at + HOUR)
    office.approve(asked)
    people(office, CYD, f"{CYD}\nactive = false")
    office.later(3601)
    office.give(asked)
    assert (office.status(asked), ticket(office, asked).decisions) == ("pending", ())


def test_two_approvers_click_together_one_grant_and_one_end(office: Office) -> None:
    """terraform-aws-sso-elevator 47: two revocation schedules."""
    oblige(office, '@approvers("owners")\n@min_approvals("2")\n@max_duration("4h")')
    asked = office.ask()
    threads = [threading.Thread(target=office.approve, args=(asked, who)) for who in ("cyd", "dee")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(events(office, asked, e.RequestApproved)) == 1
    for _ in range(2):
        office.give(asked)
    assert len(events(office, asked, e.ProvisioningStarted)) == 1
    office.later(3700)
    for _ in range(2):
        office.take(asked)
    assert len(events(office, asked, e.RevocationObserved)) == 1
    sound(office)


def test_an_approver_group_that_is_gone_is_said_and_breaks_nothing_else(office: Office) -> None:
    """iam-identity-center-team 585: a stale group broke requests."""
    oblige(office, '@approvers("group:deleted, owners")\n@max_duration("4h")')
    asked = office.ask()
    stages = {s["name"]: s["missing"] for s in ticket_document(office.desk, ticket(office, asked))["stages"]}
    assert "group:deleted" in stages["deleted"]
    assert stages["platform"] is None
    office.approve(asked)
    assert office.status(asked) == "pending"


@pytest.mark.parametrize("who", ["cyd", "bo"])
def test_every_approver_group_is_read(office: Office, who: str) -> None:
    """iam-identity-center-team 176: only the first was."""
    oblige(office, '@approvers("group:platform or group:on-call")\n@max_duration("4h")')
    people(office, 'manager = "human:bo@example.com"    # nobody', "# nobody")
    asked = office.ask()
    office.approve(asked, who)
    assert office.status(asked) == "approved"


def test_nested_members_are_members_and_a_like_named_group_is_another(office: Office) -> None:
    """openbao 3814, 3815."""
    people(office, DEE, 'name = "Dee"\ngroups = ["dba"]')
    people(office, "# [groups.everybody]\n# members", '[groups.platform]\nmembers = ["group:dba"]\n# members')
    people(office, CYD, 'name = "Cyd"\ngroups = ["platform-dev"]')
    asked = office.ask()
    assert refused(office.approve, asked, "cyd") in {"not-found", "refused.not-an-approver"}
    office.approve(asked, "dee")
    assert office.status(asked) == "approved"


def test_an_approver_sees_what_is_approved(office: Office) -> None:
    """openbao 3601, teleport 67387."""
    asked = office.ask("root", why="disk is full")
    office.caller("cyd")
    document = ticket_document(office.desk, ticket(office, asked))
    assert office.desk.may_see(ticket(office, asked), office.caller("cyd"))
    assert list(document["requested"]) == [{"privilege": "root", "resource": None}]
    assert (document["justification"], document["beneficiary"]) == ("disk is full", "human:ann@example.com")


@pytest.mark.parametrize("via", ["local", "api", "ui", "chat"])
def test_self_approval_by_another_door(office: Office, via: str) -> None:
    """teleport 7663, 41504."""
    people(office, 'name = "Ann"\ngroups = ["engineers"]', 'name = "Ann"\ngroups = ["engineers", "platform"]')
    asked = office.ask()
    caller = office.desk.caller("human:ann@example.com", via)
    assert refused(deciding.approve, office.desk, caller, asked, digest=None) == "refused.self-approval"


def test_no_command_deletes_a_ticket() -> None:
    """teleport 7078: deleting a request left no trace."""
    assert not [command for command in WHEN if "delete" in command.__name__.lower()]


# ── until it is given ──


def test_future_access_does_not_outlive_what_it_rested_on(office: Office) -> None:
    """jit-groups 145."""
    asked = office.ask(starts_at=office.clock.at + timedelta(days=1))
    office.approve(asked)
    people(office, 'name = "Ann"\ngroups = ["engineers"]', 'name = "Ann"\ngroups = ["guests"]')
    office.later(24 * 3600)
    office.give(asked)
    assert office.status(asked) == "denied"
    [denied] = events(office, asked, e.RequestDenied)
    assert denied.reasons[0].startswith("no policy permits human:ann@example.com")


def test_future_access_whose_window_is_over_lapses(office: Office) -> None:
    asked = office.ask(starts_at=office.clock.at + HOUR, length=HOUR)
    office.approve(asked)
    office.later(2 * 3600)
    office.give(asked)
    assert office.status(asked) == "lapsed"


def test_a_request_whose_time_is_over_cannot_be_approved(office: Office) -> None:
    """jumpserver 13674."""
    asked = office.ask(starts_at=office.clock.at + timedelta(minutes=10), length=timedelta(minutes=10))
    office.later(20 * 60)
    assert refused(office.approve, asked) == "refused.lapsed"


def test_a_first_request_is_no_reason_to_refuse(office: Office) -> None:
    """terraform-aws-sso-elevator 193."""
    assert office.desk.store.count_tickets() == 0
    assert office.status(office.ask()) == "pending"


def test_accepted_is_not_granted(office: Office) -> None:
    """TEAM's Grant machine: the provider's "in progress" was recorded as granted."""
    asked = office.ask()
    office.approve(asked)
    office.target.arrange("provision", faulty.lying())
    office.give(asked)
    assert office.status(asked) != "active"
    assert not [g for g in events(office, asked, e.GrantObserved) if g.granted]
    assert [failed.code for failed in events(office, asked, e.ProvisioningFailed)] == ["target.not-given"]


def test_a_fulfilment_that_failed_is_on_record_and_not_just_in_a_log(office: Office) -> None:
    asked = office.ask()
    office.approve(asked)
    office.target.arrange("provision", faulty.rejecting())
    office.give(asked)
    office.take(asked)
    assert office.status(asked) == "failed"
    assert events(office, asked, e.ProvisioningFailed)[0].code


def test_ended_here_and_still_there_is_not_closed(office: Office) -> None:
    """discord/access 119: the portal had it ended, the target had not, and the next sync took it for granted."""
    asked = office.active()
    office.do(deciding.give_back, "ann", asked)
    office.target.arrange("revoke", faulty.lying())
    office.take(asked)
    assert office.status(asked) == "revoking"
    assert not events(office, asked, e.RevocationObserved)
    office.take(asked)
    assert office.status(asked) == "closed"


def test_a_new_process_ends_what_the_old_one_gave(office: Office) -> None:
    """TEAM 149, SSO Elevator 49: an upgrade lost the timers of live grants."""
    asked = office.active()
    ends = ticket(office, asked).expiry
    office.desk.store.engine.dispose()
    desk = open_desk(load(office.folder / "muniment.toml"), clock=office.clock)
    office.desk = dataclasses.replace(desk, targets=office.desk.targets)
    assert [(d.ticket, d.action) for d in desk.store.due(ends, 10)] == [(asked, "expire")]
    office.clock.at = ends
    office.take(asked)
    assert office.status(asked) == "closed"


def test_what_could_not_be_written_is_not_said_to_be_done(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TEAM 398: the page said "revoked", and the backend had refused to write it."""
    asked = office.active()

    def full(_: object) -> None:
        raise StoreUnavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(office.desk.store, "append", full)
        assert refused(office.do, deciding.give_back, "ann", asked) == "store.unavailable"
    assert office.status(asked) == "active"
    office.do(deciding.give_back, "ann", asked)
    assert office.status(asked) == "revoking"


def test_a_revocation_that_failed_stays_due(office: Office) -> None:
    """TEAM 255: after its short retries nothing tried again."""
    asked = office.active()
    office.do(deciding.give_back, "ann", asked)
    for _ in range(3):
        office.target.arrange("revoke", faulty.unavailable_before())
        office.take(asked)
        assert office.status(asked) == "revoking"
        assert [d.ticket for d in office.desk.store.due(office.clock.at, 10)] == [asked]
    office.take(asked)
    assert office.status(asked) == "closed"


def test_a_target_that_left_the_configuration_is_said_while_access_lives(office: Office) -> None:
    """glide 91: the connector was deleted while grants were active."""
    from muniment.core.identity import SYSTEM  # noqa: PLC0415
    from muniment.ports import Actor  # noqa: PLC0415
    from muniment.service.registry import record_registry  # noqa: PLC0415

    office.active()
    without: dict[str, Target] = {}
    office.desk = dataclasses.replace(office.desk, targets=without)
    with pytest.raises(Misconfigured):
        record_registry(office.desk, Actor(id=SYSTEM, via="test"))
