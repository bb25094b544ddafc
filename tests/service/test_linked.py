"""Counter-offers, bundles and extensions, as people use them: one ticket's change is the other's only where it must be."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

import faulty
from evidence.office import HOUR, Office
from muniment.core import events as e
from muniment.core.errors import Invalid, MunimentError, Refused
from muniment.core.scope import Privilege
from muniment.core.ticket import HAND_OVER
from muniment.service import deciding
from muniment.service.documents import ticket_document
from muniment.service.extending import extend
from muniment.service.filing import Ask, file_bundle
from muniment.service.looking import collect
from muniment.service.offboarding import offboard
from muniment.service.taking import end_access, prepare_end, record_end
from service.changes import events, listening, oblige, sound, ticket

FREEZE = '@id("freeze") @message("not this one") forbid (principal, action == Action::"request", resource) when { resource.name == "root" };'


def test_an_offer_is_accepted_approved_and_given(office: Office) -> None:
    heard = listening(office)
    asked = office.ask("root", "web-admin", length=2 * HOUR)
    office.approve(asked, "cyd")
    office.do(
        deciding.counter, "dee", asked, digest=None, duration=HOUR, scope=(Privilege(privilege="web-admin"),), comment="enough"
    )  # fmt: skip
    document = ticket_document(office.desk, ticket(office, asked))
    assert document["offer"]["comment"] == "enough"
    assert (document["requested"], document["window"]["duration"]) != (document["offer"]["scope"], "PT1H")
    old = document["digest"]
    with pytest.raises(Refused):
        office.do(deciding.accept, "cyd", asked, offer=None)
    office.do(deciding.accept, "ann", asked, offer=document["offer"]["digest"])
    after = ticket_document(office.desk, ticket(office, asked))
    assert (after["decisions"], after["offer"]) == ([], None)
    assert after["digest"] == document["offer"]["digest"]
    with pytest.raises(Refused) as caught:
        office.do(deciding.approve, "cyd", asked, digest=old)
    assert caught.value.code == "refused.stale-approval"
    office.approve(asked, "dee")
    office.give(asked)
    assert ticket(office, asked).granted == (Privilege(privilege="web-admin"),)
    assert "countered" in heard.kinds()
    sound(office)


def asks(office: Office, *roles: str) -> list[Ask]:
    return [
        Ask(target="bastion", scope=(Privilege(privilege=role),), justification="release", duration=HOUR, public_key=office.public_key)
        for role in roles
    ]  # fmt: skip


@pytest.mark.parametrize("at", [0, 1, 2])
def test_f9_one_item_of_a_bundle_is_not_allowed_whichever(office: Office, at: int) -> None:
    oblige(office, '@approvers("owners")\n@max_duration("4h")', freeze=FREEZE)
    roles = ["web-admin"] * 3
    roles[at] = "root"
    filed = file_bundle(office.desk, office.caller("ann"), asks(office, *roles))
    assert [t.status for t in filed] == ["denied" if n == at else "pending" for n in range(3)]
    assert {t.terms.bundle for t in filed} == {tuple(t.id for t in filed)}
    for each in filed:
        assert ticket_document(office.desk, each)["bundle"] == [t.id for t in filed]
    sound(office)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_f9_one_item_is_no_longer_allowed_when_it_is_to_be_given(office: Office, at: int) -> None:
    roles = ["web-admin", "db-admin", "deploy"]
    known = [entry.privilege.privilege for entry in office.desk.targets["bastion"].catalogue]
    roles = (known * 3)[:3]
    filed = [t.id for t in file_bundle(office.desk, office.caller("ann"), asks(office, *roles))]
    for each in filed:
        for who in ("cyd", "dee"):
            if office.status(each) == "pending":
                office.approve(each, who)
    forbidden = FREEZE.replace('"root"', f'"{roles[at]}"')
    oblige(office, '@approvers("owners")\n@max_duration("4h")', freeze=forbidden)
    for each in filed:
        office.give(each)
    for n, each in enumerate(filed):
        denied = [event.reasons for event in events(office, each, e.RequestDenied)]
        assert denied == ([("not this one",)] if roles[n] == roles[at] else []), (n, office.status(each))
    sound(office)


def test_one_of_a_bundle_is_decided_and_ended_by_itself(office: Office) -> None:
    first, second = (
        t.id for t in file_bundle(office.desk, office.caller("ann"), asks(office, "web-admin", "web-admin"))
    )
    office.approve(first)
    office.do(deciding.deny, "cyd", second, comment="one is enough")
    office.give(first)
    assert (office.status(first), office.status(second)) == ("active", "denied")


def test_what_can_be_mended_stops_all_of_it_and_says_which(office: Office) -> None:
    before = office.desk.store.count_tickets()
    wrong = [*asks(office, "web-admin"), Ask(target="nowhere", scope=(), justification="x", duration=HOUR)]
    with pytest.raises(Invalid) as caught:
        file_bundle(office.desk, office.caller("ann"), wrong)
    assert caught.value.message.startswith("ticket 2:")
    with pytest.raises(Invalid):
        file_bundle(office.desk, office.caller("ann"), asks(office, "web-admin"))
    assert office.desk.store.count_tickets() == before


# ── extension ──


def extended(office: Office, before: str, length: timedelta = 2 * HOUR) -> str:
    office.later(1)
    return extend(office.desk, office.caller("ann"), before, duration=length, reason="it takes longer").id


def test_no_gap_and_one_end(office: Office) -> None:
    old = office.active()
    until = ticket(office, old).expiry
    new = extended(office, old)
    assert ticket_document(office.desk, ticket(office, new))["extends"] == old
    office.approve(new, "dee")
    office.give(new)
    assert office.status(new) == "approved"  # long before
    office.clock.at = until - HAND_OVER
    office.give(new)
    assert office.status(new) == "active"
    assert (ticket(office, new).start, ticket(office, new).expiry) == (until, until + 2 * HOUR)
    assert collect(office.desk, office.caller("ann"), new)
    office.clock.at = until
    office.take(old)
    assert office.status(old) == "closed"
    [gone] = events(office, old, e.RevocationObserved)
    assert gone.kept == ()  # each ticket has a certificate of its own
    assert gone.sessions_ended == 0
    assert office.status(new) == "active"
    office.clock.at = until + 2 * HOUR
    office.take(new)
    assert office.status(new) == "closed"
    sound(office)


def test_returned_before_the_hand_over_it_does_not_come_back(office: Office) -> None:
    old = office.active()
    until = ticket(office, old).expiry
    new = extended(office, old)
    office.approve(new, "dee")
    office.do(deciding.give_back, "ann", old)
    office.take(old)
    office.clock.at = until
    office.give(new)
    assert office.status(new) == "lapsed"
    sound(office)


def end_early(office: Office, how: str, old: str) -> None:
    if how == "returned":
        office.do(deciding.give_back, "ann", old)
    elif how == "revoked":
        office.do(deciding.revoke, "ops", old, reason="enough")
    else:
        identities = office.folder / "identities.toml"
        text = identities.read_text(encoding="utf-8")
        name = 'name = "Ann"\n'
        assert name in text
        identities.write_text(text.replace(name, f"{name}active = false\n"), encoding="utf-8")
        office.desk.directory.reload_if_changed()
        offboard(office.desk)


@pytest.mark.parametrize("how", ["returned", "revoked", "offboarded"])
@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("prepared", [False, True])
def test_i21_ended_early_within_the_hand_over_the_extension_ends_too(
    office: Office, how: str, prepared: bool, separate: bool
) -> None:
    office.target.capabilities = replace(office.target.capabilities, separate=separate)
    old = office.active()
    until = ticket(office, old).expiry
    new = extended(office, old)
    office.approve(new, "dee")
    office.clock.at = until - timedelta(seconds=8)
    office.give(new)
    assert office.status(new) == "active"
    ready = {}
    if prepared:
        office.clock.at = until - timedelta(seconds=3)
        ready = prepare_end(office.desk, "bastion", [old], "ahead", until)
        assert [k.ticket for k in ready[old].kept] == ([] if separate else [new])
    end_early(office, how, old)
    record_end(office.desk, [end_access(office.desk, "bastion", [old], "pass-early", ready)])
    assert office.clock.at < until
    assert [o.cause for o in events(office, new, e.RevocationOrdered)] == [how]
    for each in (new, old):
        office.take(each)
        assert office.status(each) == "closed"
    assert events(office, old, e.RevocationObserved)[0].kept == ()
    sound(office)


def test_i21_ended_early_while_the_extension_is_being_given(office: Office) -> None:
    """The intent is on record when the first ticket ends: nothing is given for it."""
    old = office.active()
    until = ticket(office, old).expiry
    new = extended(office, old)
    office.approve(new, "dee")
    office.clock.at = until - timedelta(seconds=30)
    office.target.arrange("provision", faulty.unavailable_before())
    office.give(new)
    assert office.status(new) == "provisioning"
    office.do(deciding.give_back, "ann", old)
    office.give(new)
    assert not [g for g in events(office, new, e.GrantObserved) if g.granted]
    for each in (old, new):
        office.take(each)
    assert (office.status(old), office.status(new)) == ("closed", "failed")
    sound(office)


def test_undecided_the_old_one_ends_on_time_all_the_same(office: Office) -> None:
    old = office.active()
    new = extended(office, old)
    office.clock.at = ticket(office, old).expiry
    office.take(old)
    assert office.status(old) == "closed"
    office.approve(new, "dee")
    office.give(new)
    assert office.status(new) == "active"
    sound(office)


def test_what_is_over_or_not_yet_there_cannot_go_on(office: Office) -> None:
    for before in (office.closed(), office.ask()):
        with pytest.raises(MunimentError):
            extended(office, before)
    with pytest.raises(MunimentError):
        extend(office.desk, office.caller("bo"), office.active(), duration=HOUR, reason="mine now")
