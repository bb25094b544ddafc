"""Without `muniment serve`: an unreachable target is one clear sentence, and the ticket tells the truth (I14, I15)."""

from __future__ import annotations

import pytest

import faulty
from faults.world import HOUR, World, ground_on
from muniment.conformance.proxy import Proxy
from muniment.core.errors import LeaseLost, TargetUnavailable
from muniment.service.pursuing import pursue

ON = pytest.mark.parametrize("on", ["pg", "ssh"])
FAULTS = pytest.mark.parametrize("fault", [faulty.unavailable_before, faulty.unavailable_after])


@ON
@FAULTS
@pytest.mark.parametrize(
    ("call", "skip", "status"),
    [("observe", 0, "approved"), ("provision", 0, "provisioning"), ("observe", 1, "provisioning")],
    ids=["the first look", "provisioning", "reading back"],
)
def test_giving(world: World, on: str, fault, call: str, skip: int, status: str) -> None:
    connector = getattr(world, on)
    ticket = world.approved(on=on)
    connector.arrange(call, *[faulty.Fault() for _ in range(skip)], fault())
    adopted = (on, call, fault) == ("pg", "provision", faulty.unavailable_after)
    if adopted:  # no answer, and what it was asked for is there
        assert pursue(world.desk, ticket).status == "active"
    else:
        with pytest.raises(TargetUnavailable) as told:
            pursue(world.desk, ticket)
        assert told.value.message == "the target did not answer"
        world.must(ticket, status)
        world.sound(at_rest=False)
        assert pursue(world.desk, ticket).status == "active"
    world.sound()


@ON
@FAULTS
@pytest.mark.parametrize(
    ("call", "why"), [("revoke", "returned"), ("observe", "returned"), ("revoke", "expired")]
)
def test_taking_back(world: World, on: str, fault, call: str, why: str) -> None:
    connector = getattr(world, on)
    ticket = world.approved(on=on)
    assert pursue(world.desk, ticket).status == "active"
    connector.arrange(call, fault())
    if why == "returned":
        world.give_back(ticket)
    else:
        world.clock.pass_by(HOUR)
    with pytest.raises(TargetUnavailable) as told:
        pursue(world.desk, ticket)
    assert told.value.message == "the target did not answer"
    stuck = world.must(ticket, "revoking")
    assert stuck.revocation
    assert stuck.revocation.failure == "the target did not answer (target.unavailable)"
    assert stuck.revocation.cause == why
    world.sound(at_rest=False)
    assert pursue(world.desk, ticket).status == "closed"
    assert world.holds() == world.certified() == []
    world.sound()


def test_a_server_that_is_not_there(postgres18, sqlite_shelf, tmp_path) -> None:
    """From end to end, with the words of the connector itself; no secret in them (I31)."""
    ground = ground_on(postgres18, sqlite_shelf, tmp_path)
    with Proxy(postgres18.port) as proxy, World(ground, port=proxy.port) as world:
        ticket = world.approved()
        for status, act in (("approved", None), ("revoking", world.give_back)):
            if act:
                act(ticket)
            proxy.mode = "refuse"
            with pytest.raises(TargetUnavailable) as told:
                pursue(world.desk, ticket)
            world.must(ticket, status)
            assert told.value.remedy
            assert "correct-horse" not in f"{told.value.message}{told.value.remedy}{told.value.__cause__!r}"
            proxy.mode = "through"
            assert pursue(world.desk, ticket).status == ("active" if act is None else "closed")
        world.sound()


def test_while_somebody_else_is_at_work(world: World) -> None:
    """Another worker holds the account: said so, nothing done, and no lie on record."""
    ticket = world.active()
    world.give_back(ticket)
    told: list[LeaseLost] = []

    def meanwhile() -> None:
        known = world.kinds(ticket)
        with World(world.ground) as other, pytest.raises(LeaseLost) as lost:
            pursue(other.desk, ticket)
        told.append(lost.value)
        assert world.ground.kinds(ticket) == known

    world.pg.arrange("revoke", faulty.Fault(before=meanwhile))
    assert pursue(world.desk, ticket).status == "closed"
    assert len(told) == 1
    world.sound()


def test_nothing_is_due(world: World) -> None:
    ticket = world.ask()
    assert pursue(world.desk, ticket).status == "pending"
    later = world.active("ro")
    assert pursue(world.desk, later).status == "active"
    assert len(world.spy.given) == 1
