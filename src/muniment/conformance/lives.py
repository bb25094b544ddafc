"""Lives: Muniment works through the connector, ticket by ticket, while the target does what targets do."""

from __future__ import annotations

from datetime import timedelta

from muniment.conformance.harness import Check, Harness, NotApplicable, require, same
from muniment.conformance.office import HOUR, LEASE_OVER, more, office
from muniment.core.scope import scope

CHECKS: list[Check] = []


@CHECKS.append
def a_whole_life_leaves_everything_as_it_was(h: Harness) -> None:
    before = h.everything()
    with office(h) as o:
        ticket = o.active(*h.privileges)
        same(h.holds(h.accounts[0]), scope(h.privileges), "the target, while the ticket is active")
        o.later(HOUR)
        o.settle()
        o.must(ticket, "closed")
    same(h.everything(), before, "the target, after a whole life (I17)")


@CHECKS.append
def a_target_that_lies_about_giving_is_found_out(h: Harness) -> None:
    before = h.everything()
    with office(h) as o:
        o.liar.gives = lambda _: None
        ticket = o.approved()
        o.settle()
        o.must(ticket, "failed")
    same(h.everything(), before, "the target, after it gave nothing (I16)")


@CHECKS.append
def a_target_that_gives_more_is_found_out(h: Harness) -> None:
    before = h.everything()
    with office(h) as o:
        o.liar.gives = more(h)
        ticket = o.approved()
        o.settle()
        require("excess" in o.findings(ticket), f"there is no finding: {o.ticket(ticket).status}")
        o.must(ticket, "revoked")
    same(h.everything(), before, "the target, after it gave more than was approved (I16)")


@CHECKS.append
def a_target_that_lies_about_taking_is_found_out(h: Harness) -> None:
    before = h.everything()
    with office(h) as o:
        ticket = o.active()
        o.liar.takes = False
        o.give_back(ticket)
        o.step()
        o.must(ticket, "revoking")
        o.liar.takes = True
        o.settle()
        o.must(ticket, "closed")
    same(h.everything(), before, "the target, after it took the access away at last (I15)")


@CHECKS.append
def a_target_that_is_down_at_the_end_is_revoked_when_it_is_back(h: Harness) -> None:
    before = h.everything()
    cut = h.outage("stopped")
    if cut is None:
        raise NotApplicable("the target cannot be stopped")
    with office(h) as o:
        ticket = o.active()
        with cut:
            o.later(HOUR)
            o.step()
            o.must(ticket, "revoking", "active")
            o.later(LEASE_OVER)
            o.step()
            require("overdue" in o.findings(ticket), "an hour and a minute, and nobody was told")
            o.later(HOUR)
            o.step()
            o.must(ticket, "revoking", "active")
        o.later(LEASE_OVER)
        o.settle()
        o.must(ticket, "closed")
    same(h.everything(), before, "the target, when it was back (I14, I15)")


@CHECKS.append
def what_was_held_before_is_left_alone(h: Harness) -> None:
    h.hold(h.accounts[0], h.privileges[0])
    before = h.everything()
    with office(h) as o:
        ticket = o.approved()
        o.settle()
        if h.connector.capabilities.separate and o.ticket(ticket).status == "active":
            o.give_back(ticket)  # a grant of its own beside the other's, which stays
            o.settle()
            o.must(ticket, "closed")
        else:
            o.must(ticket, "failed")
    same(h.everything(), before, "the target, where the account held it already (I17)")


@CHECKS.append
def what_another_gave_meanwhile_keeps_the_ticket_open_while_it_is_there(h: Harness) -> None:
    with office(h) as o:
        ticket = o.active()
        h.hold(h.accounts[0], h.privileges[0])
        o.give_back(ticket)
        o.settle()
        if h.connector.capabilities.separate and o.ticket(ticket).status == "closed":
            seen = h.connector.observe([h.accounts[0]])
            same({held.ticket for held in seen.holdings} & {ticket}, set(), "observe, of a closed ticket")
            return
        if h.holds(h.accounts[0]):
            o.must(ticket, "revoking")
            h.take(h.accounts[0], h.privileges[0])
            o.settle()
        o.must(ticket, "closed")
        same(h.holds(h.accounts[0]), (), "the target, when the ticket is closed (I15)")


@CHECKS.append
def what_somebody_took_ends_well(h: Harness) -> None:
    before = h.everything()
    with office(h) as o:
        ticket = o.active()
        h.take(h.accounts[0], h.privileges[0])
        o.later(HOUR)
        o.settle()
        o.must(ticket, "closed")
    same(h.everything(), before, "the target, where somebody was faster")


@CHECKS.append
def what_somebody_deleted_ends_well(h: Harness) -> None:
    with office(h) as o:
        first, second = o.active(), o.active(h.privileges[1], who="bea")
        h.delete_privilege(h.privileges[0])
        o.later(HOUR)
        o.settle()
        for ticket in (first, second):
            o.must(ticket, "closed")
        same(h.holds(h.accounts[1]), (), "the target, of the other account")


@CHECKS.append
def of_two_grants_of_one_privilege_the_last_takes_it(h: Harness) -> None:
    before = h.everything()
    with office(h) as o:
        first, second = o.active(), o.active()
        o.give_back(first)
        o.settle()
        o.must(first, "closed")
        same(h.holds(h.accounts[0]), h.privileges[:1], "the target, while the other ticket lives (I21)")
        o.give_back(second)
        o.settle()
        o.must(second, "closed")
    same(h.everything(), before, "the target, when both are over (I21)")


@CHECKS.append
def of_two_grants_the_other_privilege_stays(h: Harness) -> None:
    before = h.everything()
    with office(h) as o:
        both, one = o.active(*h.privileges), o.active()
        o.give_back(both)
        o.settle()
        o.must(both, "closed")
        same(h.holds(h.accounts[0]), h.privileges[:1], "the target, while the other ticket lives (I21)")
        o.later(HOUR + timedelta(seconds=1))
        o.settle()
        o.must(one, "closed")
    same(h.everything(), before, "the target, when both are over (I21)")


@CHECKS.append
def an_answer_that_was_lost_is_found_again(h: Harness) -> None:
    """Given, and nobody heard of it; taken, and nobody heard of it. Both are found by looking (I18, I19)."""
    before = h.everything()
    with office(h) as o:
        o.liar.loses = 1
        ticket = o.approved()
        o.step()
        o.must(ticket, "provisioning", "active")
        o.later(LEASE_OVER)
        o.settle()
        o.must(ticket, "active")
        o.liar.loses = 1
        o.give_back(ticket)
        o.step()
        o.later(LEASE_OVER)
        o.settle()
        o.must(ticket, "closed")
    same(h.everything(), before, "the target, after answers were lost")
