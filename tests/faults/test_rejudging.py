"""Between approval and start the world changes: authority is judged again before a target is touched (I4, I9, I22)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from faults.world import World, policies
from muniment.core.errors import MunimentError
from muniment.core.events import ApprovalsVoided, RequestDenied
from muniment.policy.cedar import CedarPolicy
from muniment.service.deciding import approve

CYD = '[identities."human:cyd@example.com"]\n'
ANN = '[identities."human:ann@example.com"]\n'


def untouched(world: World) -> None:
    assert world.spy.given == world.ssh_spy.given == []
    assert world.holds() == world.certified() == []
    world.sound()


@pytest.mark.parametrize("on", ["pg", "ssh"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (CYD, f"{CYD}active = false\n"),
        (f'{CYD}groups = ["platform"]\n', f'{CYD}groups = ["engineers"]\n'),
        (
            f'{CYD}groups = ["platform"]\nroles = ["member", "approver"]\n',
            '[identities."human:eve@example.com"]\n',
        ),
    ],
    ids=["deactivated", "left the group", "left the directory"],
)
def test_an_approver_who_is_no_longer_one(world: World, old: str, new: str, on: str) -> None:
    ticket = world.approved(on=on)
    world.people(old, new)
    world.settle()
    assert world.must(ticket, "pending").decisions == ()
    [voided] = world.events(ticket, ApprovalsVoided)
    assert voided.approvers == ("human:cyd@example.com",)
    untouched(world)
    approve(world.desk, world.caller("dee"), ticket, digest=None)
    world.settle()
    world.must(ticket, "active")
    world.sound()


def test_of_two_approvals_the_one_that_holds_stays(world: World) -> None:
    world.use(policy=stricter(('@max_duration("4h")', '@min_approvals("2")\n@max_duration("4h")')))
    ticket = world.ask()
    for who in ("cyd", "dee"):
        approve(world.desk, world.caller(who), ticket, digest=None)
    world.people(CYD, f"{CYD}active = false\n")
    world.settle()
    assert [d.approver for d in world.must(ticket, "pending").decisions] == ["human:dee@example.com"]
    untouched(world)
    with pytest.raises(MunimentError):  # one person, one vote
        approve(world.desk, world.caller("dee"), ticket, digest=None)


def test_a_beneficiary_who_left(world: World) -> None:
    ticket = world.approved()
    world.people(ANN, f"{ANN}active = false\n")
    world.settle()
    world.must(ticket, "denied")
    [denied] = world.events(ticket, RequestDenied)
    assert "deactivated" in denied.reasons[0]
    untouched(world)


def test_a_beneficiary_who_is_no_engineer_any_more(world: World) -> None:
    ticket = world.approved()
    world.people(f'{ANN}groups = ["engineers"]\n', f'{ANN}groups = ["guests"]\n')
    world.settle()
    world.must(ticket, "denied")
    assert world.events(ticket, RequestDenied)[0].by == "policy"
    untouched(world)


def stricter(*changes: tuple[str, str]) -> CedarPolicy:
    """The policies, with production's changed."""
    files = policies()
    text = files["people.cedar"]
    for old, new in changes:
        head, mark, rest = text.partition('@id("engineers-in-production")')
        assert old in rest
        text = head + mark + rest.replace(old, new, 1)
    return CedarPolicy(files | {"people.cedar": text})


FORBID = '@id("freeze")\n@message("nothing before the holidays")\nforbid (principal, action == Action::"request", resource);\n'
TIGHTER = {
    "shorter": (lambda: stricter(('"4h"', '"30m"')), "30 min"),
    "more approvals": (
        lambda: stricter(('@max_duration("4h")', '@min_approvals("2")\n@max_duration("4h")')),
        "approvals",
    ),
    "other approvers": (lambda: stricter(('"owners"', '"owners, group:security"')), ""),
    "forbidden": (lambda: CedarPolicy({**policies(), "freeze.cedar": FORBID}), "holidays"),
    "no policy at all": (lambda: CedarPolicy({"freeze.cedar": FORBID}), ""),
    "native expiry": (
        lambda: stricter(('@max_duration("4h")', '@native_expiry("required")\n@max_duration("4h")')),
        "itself",
    ),
}


@pytest.mark.parametrize("how", TIGHTER)
def test_policy_became_stricter(world: World, how: str) -> None:
    ticket = world.approved()
    tighter, said = TIGHTER[how]
    world.use(policy=tighter())
    world.settle()
    if how == "other approvers":
        world.must(ticket, "denied", "pending")
    else:
        world.must(ticket, "denied")
        assert said in " ".join(world.events(ticket, RequestDenied)[0].reasons)
    untouched(world)


def test_the_change_comes_while_the_target_is_read(world: World) -> None:
    """The last look at authority is after the target's answer, however long that took."""
    import faulty  # noqa: PLC0415

    ticket = world.approved()
    left = faulty.Fault(before=lambda: world.people(CYD, f"{CYD}active = false\n"))
    world.pg.arrange("observe", left)
    world.settle()
    world.must(ticket, "pending")
    untouched(world)


def test_a_withdrawal_while_the_target_is_read(world: World) -> None:
    import faulty  # noqa: PLC0415
    from muniment.service.deciding import withdraw  # noqa: PLC0415

    ticket = world.approved()
    gone = faulty.Fault(before=lambda: faulty.void(withdraw(world.desk, world.caller("ann"), ticket)))
    world.pg.arrange("observe", gone)
    world.settle()
    world.must(ticket, "withdrawn")
    untouched(world)


def test_a_window_that_is_over_before_it_could_begin(world: World) -> None:
    ticket = world.approved(starts_at=world.clock.now() + timedelta(minutes=5), length=timedelta(minutes=5))
    world.settle()
    world.must(ticket, "approved")
    world.later(timedelta(minutes=10))
    world.must(ticket, "lapsed")
    untouched(world)


def test_what_is_held_already_is_not_given(world: World) -> None:
    """Somebody else's standing membership would be taken for ours: refused, and left alone (I17)."""
    world.ground.sql("GRANT {} TO {}", world.ground.name("rw"), world.ground.name("ann"))
    before = world.ground.everything()
    ticket = world.approved()
    world.settle()
    failed = world.must(ticket, "failed")
    assert failed.failure
    assert failed.failure.code == "target.already-held"
    assert world.spy.given == []
    assert world.ground.everything() == before
    world.sound(at_rest=False)
