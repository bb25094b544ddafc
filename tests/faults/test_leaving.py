"""People and machines that leave while they hold, wait for, or have approved something (I22, F24)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evidence.office import Office
from muniment.controllers.people import People
from muniment.controllers.runtime import Controllers
from muniment.core.errors import Refused
from muniment.evidence.rules import TicketRules
from muniment.ledger.entry import decode_entry
from muniment.service.desk import CONTROLLER
from muniment.service.offboarding import offboard
from muniment.service.registry import record_registry


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path / "access")
    yield made
    made.close()


def edit(office: Office, change: Callable[[str], str], *, record: bool = True) -> None:
    file = office.folder / "identities.toml"
    before = file.read_text()
    after = change(before)
    assert after != before
    file.write_text(after)
    office.desk.directory.reload_if_changed()
    if record:
        record_registry(office.desk, CONTROLLER)


def deactivated(who: str) -> Callable[[str], str]:
    heading = f'[identities."{who}"]\n'
    return lambda text: text.replace(heading, f"{heading}active = false\n")


def removed(who: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        start = text.index(f'[identities."{who}"]')
        end = text.find("\n[", start)
        return text[:start] + text[end + 1 :]

    return change


def judged(office: Office) -> str | None:
    rules = TicketRules()
    for index, raw in enumerate(office.log()):
        rules.feed(index, raw, decode_entry(raw, strict=True))
    return rules.result().first_fault


def cause(office: Office, ticket: str) -> str | None:
    found = office.desk.store.read(ticket)[1]
    assert found
    return found.revocation.cause if found.revocation else None


ANN, CYD = "human:ann@example.com", "human:cyd@example.com"


@pytest.mark.parametrize(
    ("who", "leaves"),
    [
        ("the beneficiary", deactivated(ANN)),
        ("the beneficiary, whose entry is gone", lambda t: removed(ANN)(t.replace(f'owner = "{ANN}"', f'owner = "{CYD}"'))),
    ],
)  # fmt: skip
def test_live_access_ends_as_offboarded(office: Office, who: str, leaves: Callable[[str], str]) -> None:
    ticket, other = office.active(), office.ask(who="bo")
    office.approve(other)
    office.give(other)
    edit(office, leaves)
    assert [t.id for t in offboard(office.desk)] == [ticket], who
    assert (office.status(ticket), cause(office, ticket)) == ("revoking", "offboarded")
    office.take(ticket)
    assert office.status(ticket) == "closed"
    assert office.status(other) == "active"
    assert offboard(office.desk) == []
    assert judged(office) is None


@pytest.mark.parametrize("given", [False, True])
def test_a_machine_goes_with_the_last_person_who_answers_for_it(office: Office, given: bool) -> None:
    agent = '[identities."ai_agent:bot"]\nowner = "service_account:deploy"\n'
    edit(office, lambda text: text + agent)  # an agent of a service account of Ann
    ticket = office.ask(beneficiary="service_account:deploy")
    if given:
        office.approve(ticket)
        office.give(ticket)
    edit(office, deactivated(ANN))
    with pytest.raises(Refused):
        office.ask(beneficiary="ai_agent:bot")  # an active service account answers for nobody
    assert [t.id for t in offboard(office.desk)] == [ticket]
    assert office.status(ticket) == ("revoking" if given else "denied")
    assert judged(office) is None


def test_the_machine_itself_is_deactivated(office: Office) -> None:
    ticket = office.ask(beneficiary="service_account:deploy")
    office.approve(ticket)
    office.give(ticket)
    edit(office, deactivated("service_account:deploy"))
    offboard(office.desk)
    assert cause(office, ticket) == "offboarded"


@pytest.mark.parametrize("status", ["pending", "approved"])
def test_what_a_leaver_asked_for_is_over(office: Office, status: str) -> None:
    ticket = office.ask()
    if status == "approved":
        office.approve(ticket)
    edit(office, deactivated(ANN))
    assert [t.status for t in offboard(office.desk)] == ["denied"]
    assert judged(office) is None


@pytest.mark.parametrize("roles", [("web-admin",), ("root",)])
def test_a_leavers_approvals_are_void_before_anything_is_given(
    office: Office, roles: tuple[str, ...]
) -> None:
    """Approved by one, or half approved: either way the ticket waits for others again."""
    ticket = office.ask(*roles)
    office.approve(ticket)
    edit(office, deactivated(CYD))
    offboard(office.desk)
    found = office.desk.store.read(ticket)[1]
    assert found
    assert (found.status, found.decisions) == ("pending", ())
    office.approve(ticket, "dee")
    assert judged(office) is None


def test_an_approver_who_left_does_not_end_what_is_given_already(office: Office) -> None:
    ticket = office.active()
    edit(office, deactivated(CYD))
    assert offboard(office.desk) == []
    assert office.status(ticket) == "active"


def test_a_node_that_starts_later_finds_what_was_missed(office: Office) -> None:
    """No change is seen here: the directory was changed and recorded before, and the process died."""
    ticket = office.active()
    edit(office, deactivated(ANN))
    later, people = Controllers(office.desk, node="later"), People(office.desk)
    later.start()
    people.start()
    try:
        _wait_until(lambda: office.status(ticket) == "closed")
    finally:
        assert people.stop()
        assert later.stop()
    assert cause(office, ticket) == "offboarded"


def _wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("not within a minute")
