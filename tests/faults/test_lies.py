"""A target that says "done" and did nothing, more, or less: never active, and afterwards as before (I16, I17)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import faulty
from faults.world import HOUR, World
from faulty import Fault
from muniment.core.events import FindingRaised, GrantObserved, RevocationOrdered


def grant(world: World, role: str, *, admin: bool = False) -> None:
    """The target gives ann more, in our name: nobody but us can take it back, and nobody else gave it."""
    option = " WITH ADMIN OPTION" if admin else ""
    name = world.ground.name
    world.ground.as_connector("GRANT {} TO {}" + option, name(role), name("ann"))


def attribute(world: World, what: str) -> None:
    world.ground.sql(f"ALTER ROLE {{}} {what}", world.ground.name("ann"))


MORE = {
    "a role": (lambda world: grant(world, "xx"), "xx", None),
    "the admin option": (lambda world: grant(world, "rw", admin=True), "rw", "admin option"),
    "CREATEDB": (lambda world: attribute(world, "CREATEDB"), "CREATEDB", "role attribute"),
    "CREATEROLE": (lambda world: attribute(world, "CREATEROLE"), "CREATEROLE", "role attribute"),
    "SUPERUSER": (lambda world: attribute(world, "SUPERUSER"), "SUPERUSER", "role attribute"),
}


def privileged(world: World) -> None:
    """A connector role that may take any attribute back: on many servers it has to be a superuser."""
    world.ground.sql("ALTER ROLE {} SUPERUSER", world.ground.name("muniment"))


def never_active(world: World, ticket: str) -> None:
    assert not any(event.comparison.exact for event in world.events(ticket, GrantObserved))


@pytest.mark.parametrize("answer", ["done", "rejected", "unknown", "nothing"])
@pytest.mark.parametrize("more", MORE)
def test_more_than_asked_is_taken_back_at_once(world: World, more: str, answer: str) -> None:
    give, name, resource = MORE[more]
    privileged(world)
    before = world.ground.everything()
    ticket = world.approved()
    said = None if answer in {"done", "nothing"} else answer
    silent = faulty.raising(TimeoutError("no answer")) if answer == "nothing" else faulty.nothing

    def after() -> None:
        give(world)
        silent()

    world.pg.arrange("provision", Fault(after=after, result=said, code="target.unavailable" if said else ""))
    if answer == "nothing":
        with pytest.raises(
            TimeoutError
        ):  # not one of ours: the worker logs it, and the next pass adopts what is there
            world.step()
        world.must(ticket, "provisioning")
    world.step()  # one pass, without waiting for another
    failed = world.must(ticket, "revoked")
    assert failed.failure
    assert failed.failure.code == "target.excess"
    [finding] = world.events(ticket, FindingRaised)
    assert (finding.type, finding.severity) == ("excess", "critical")
    assert [(p.privilege.removesuffix(str(world.ground.number)), p.resource) for p in finding.scope] == [
        (name, resource)
    ]
    assert [event.cause for event in world.events(ticket, RevocationOrdered)] == ["excess"]
    never_active(world, ticket)
    assert world.ground.everything() == before
    world.sound()


def test_more_ends_failed_once_somebody_has_looked(world: World) -> None:
    from muniment.service.deciding import resolve  # noqa: PLC0415

    ticket = world.approved()
    world.pg.arrange("provision", faulty.giving_more(lambda: grant(world, "xx")))
    world.settle()
    world.must(ticket, "revoked")
    resolve(world.desk, world.caller("ops"), ticket, finding="1", reason="the vendor was told")
    world.must(ticket, "failed")
    world.sound()


def test_more_that_cannot_be_taken_back_stays_open(world: World) -> None:
    """Our role may not touch a superuser: it stays, and so does the ticket, until somebody else has seen to it."""
    ticket = world.approved()
    world.pg.arrange("provision", faulty.giving_more(lambda: attribute(world, "SUPERUSER")))
    world.settle()
    stuck = world.must(ticket, "revoking")
    assert stuck.revocation
    assert stuck.revocation.failure
    world.later(HOUR)
    assert {f.type for f in world.must(ticket, "revoking").findings} == {"excess", "overdue"}
    attribute(world, "NOSUPERUSER")
    world.settle()
    world.must(ticket, "revoked")
    assert world.holds() == []
    world.sound()


def test_more_than_asked_leaves_what_was_there_before(world: World) -> None:
    """What somebody else gave, before or beside us, is not ours to take (I17)."""
    name = world.ground.name
    world.ground.sql("GRANT {} TO {}", name("ro"), name("ann"))
    world.ground.sql("ALTER ROLE {} CREATEDB", name("ann"))
    before = world.ground.everything()
    ticket = world.approved()
    world.pg.arrange("provision", faulty.giving_more(lambda: grant(world, "xx")))
    world.settle()
    world.must(ticket, "revoked")
    assert world.ground.everything() == before


def test_nothing_done_is_not_active(world: World) -> None:
    before = world.ground.everything()
    ticket = world.approved()
    world.pg.arrange("provision", faulty.lying())
    world.settle()
    failed = world.must(ticket, "failed")
    assert failed.failure
    assert failed.failure.code == "target.not-given"
    never_active(world, ticket)
    assert world.ground.everything() == before
    world.sound()


@pytest.mark.parametrize("on", ["pg", "ssh"])
def test_less_than_asked_is_not_active(world: World, on: str) -> None:
    """One of two privileges arrives: it is taken back, and the ticket failed."""
    before = world.ground.everything()
    first, second = ("ro", "rw") if on == "pg" else ("web", "db")
    ticket = world.approved(first, second, on=on)
    real = getattr(world, on)
    half = Half(real)
    world.use(targets={on: world.target(on, first, second, connector=half)})
    world.settle()
    failed = world.must(ticket, "failed")
    assert failed.failure
    assert failed.failure.code == "target.not-given"
    [seen] = world.events(ticket, GrantObserved)
    assert len(seen.granted) == len(seen.comparison.missing) == 1
    assert world.ground.everything() == before
    world.sound()


class Half:
    """Gives the first privilege of each order only."""

    def __init__(self, real) -> None:
        self.real, self.capabilities = real, real.capabilities
        self.validate, self.check, self.observe, self.revoke = (
            real.validate,
            real.check,
            real.observe,
            real.revoke,
        )

    def provision(self, orders, confirm):
        from msgspec.structs import replace  # noqa: PLC0415

        return self.real.provision([replace(o, scope=o.scope[:1]) for o in orders], confirm)


@pytest.mark.parametrize("on", ["pg", "ssh"])
def test_a_revocation_that_did_nothing_does_not_close(world: World, on: str) -> None:
    ticket = world.active(on=on)
    getattr(world, on).arrange("revoke", faulty.lying(times=3))
    world.give_back(ticket)
    for _ in range(3):
        world.step()
        stuck = world.must(ticket, "revoking")
        assert stuck.revocation
        assert "still holds" in (stuck.revocation.failure or "")
    world.settle()
    world.must(ticket, "closed")
    assert world.holds() == world.certified() == []
    world.sound()


def test_a_lying_neighbour_harms_no_other_in_the_batch(world: World) -> None:
    """In one pass: ann gets more than asked, and bea's access begins."""
    ann, bea = world.approved(), world.approved("ro", who="bea")
    world.pg.arrange("provision", faulty.giving_more(lambda: grant(world, "xx")))
    world.settle()
    world.must(ann, "revoked")
    world.must(bea, "active")
    assert (world.holds(), world.holds("bea")) == ([], ["ro"])
    world.sound()


def test_another_tickets_grant_is_no_excess(world: World) -> None:
    """Two tickets of one account, in one pass: each gave its own, and none of it is more than asked."""
    first, second = world.approved("ro"), world.approved("rw")
    world.settle()
    world.must(first, "active")
    world.must(second, "active")
    world.give_back(first)
    world.settle()
    world.must(first, "closed")
    assert world.holds() == ["rw"]
    world.sound()


def test_excess_beside_another_tickets_grant_goes_and_the_grant_stays(world: World) -> None:
    other = world.active("ro")
    ticket = world.approved("rw")
    world.pg.arrange("provision", faulty.giving_more(lambda: grant(world, "xx")))
    world.settle()
    world.must(ticket, "revoked")
    world.must(other, "active")
    assert world.holds() == ["ro"]
    world.sound()


@pytest.mark.parametrize("how", ["expired", "returned"])
def test_more_than_asked_that_nobody_could_read_before_the_end_is_taken_back(world: World, how: str) -> None:
    """It gave more, and did not answer until the access was over: all of it goes all the same."""
    before = world.ground.everything()
    ticket = world.approved()
    world.pg.arrange("provision", faulty.giving_more(lambda: grant(world, "xx")))
    world.pg.arrange("observe", faulty.Fault(), faulty.unavailable_before())
    world.step()
    world.must(ticket, "provisioning")
    if how == "returned":
        world.give_back(ticket)
    else:
        world.clock.pass_by(HOUR)
    world.settle()
    assert world.ground.everything() == before
    late = world.must(ticket, "revoked")  # until somebody has looked at the finding
    assert late.failure
    assert late.failure.code == "target.excess"
    [finding] = world.events(ticket, FindingRaised)
    assert finding.scope == (world.role("xx"),)
    assert [event.cause for event in world.events(ticket, RevocationOrdered)] == [
        "returned" if how == "returned" else "excess"
    ]
    world.sound()


def test_what_others_hold_is_not_taken_for_more_than_asked(world: World) -> None:
    """It could not be read back, and the account holds more by another ticket and from before: all of that stays."""
    name = world.ground.name
    world.ground.sql("GRANT {} TO {}", name("xx"), name("ann"))
    other = world.active("ro")
    before = world.ground.everything()
    ticket = world.approved("rw")
    world.pg.arrange("observe", faulty.Fault(), faulty.unavailable_before())
    world.step()
    world.give_back(ticket)
    world.settle()
    world.must(ticket, "closed")
    assert world.events(ticket, FindingRaised) == []
    world.must(other, "active")
    assert world.ground.everything() == before


#: more than an entry of the ledger can list beside other things
HUNDREDS = 120


@pytest.fixture
def extra(world: World) -> Iterator[list[str]]:
    """More roles, with names as long as they may be."""
    names = [f"{n:03}_{world.ground.number}_".ljust(63, "z") for n in range(HUNDREDS)]
    for each in names:
        world.ground.sql("CREATE ROLE {}", each)
        world.ground.sql("GRANT {} TO {} WITH ADMIN OPTION", each, world.ground.name("muniment"))
    yield names
    world.ground.sql("DROP ROLE " + ", ".join(["{}"] * HUNDREDS), *names)


@pytest.mark.parametrize("unread", [False, True])
def test_hundreds_more_than_asked_are_counted_and_all_taken_back(
    world: World, extra: list[str], *, unread: bool
) -> None:
    before = world.ground.everything()
    ticket = world.approved()
    world.pg.arrange(
        "provision",
        faulty.giving_more(
            lambda: world.ground.as_connector(
                "GRANT " + ", ".join(["{}"] * len(extra)) + " TO {}", *extra, world.ground.name("ann")
            )
        ),
    )
    if unread:
        world.pg.arrange("observe", faulty.Fault(), faulty.unavailable_before())
        world.step()
        world.give_back(ticket)
    world.settle()
    failed = world.must(ticket, "revoked")
    [seen] = world.events(ticket, GrantObserved)
    assert seen.whole.count == HUNDREDS + 1 > len(seen.granted)
    assert failed.failure
    assert f"{HUNDREDS} privileges more" in failed.failure.message
    assert world.ground.everything() == before
    world.sound()


def test_an_account_that_held_hundreds_before_holds_them_afterwards(world: World, extra: list[str]) -> None:
    account = world.ground.name("ann")
    world.ground.sql("GRANT " + ", ".join(["{}"] * len(extra)) + " TO {}", *extra, account)
    before = world.ground.everything()
    ticket = world.active()
    assert "account-read/1" in world.kinds(ticket)
    world.give_back(ticket)
    world.settle()
    world.must(ticket, "closed")
    assert world.ground.everything() == before
    world.sound(at_rest=False)  # it holds what no ticket gave
