"""Machines and agents that ask for themselves: within the rights of whoever answers for them, and within a budget."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from evidence.office import Office, altered, places
from muniment.core.errors import MunimentError, Refused
from muniment.core.scope import Privilege
from muniment.evidence.rules import TicketRules
from muniment.ledger.entry import decode_entry
from muniment.service import deciding
from muniment.service.desk import CONTROLLER
from muniment.service.filing import Ask, file_request, preview
from muniment.service.registry import record_registry
from service.changes import people

BOT = "ai_agent:bot"
AGENT = """
[identities."ai_agent:bot"]
owner = "human:ann@example.com"
[identities."ai_agent:bot".budget]
requests_per_hour = 3
concurrent_grants = 2
longest = "10m"
"""


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path / "access")
    file = made.folder / "identities.toml"
    file.write_text(file.read_text() + AGENT)
    made.desk.directory.reload_if_changed()
    record_registry(made.desk, CONTROLLER)
    yield made
    made.close()


def asked(office: Office, **changes) -> Ask:
    ask = Ask(
        target="bastion", scope=(Privilege(privilege="web-admin"),), justification="triage", duration=timedelta(minutes=5),
        public_key=office.public_key,
    )  # fmt: skip
    return replace(ask, **changes)


def file(office: Office, who: str = BOT, **changes) -> str:
    office.later(1)
    return file_request(office.desk, office.desk.caller(who, "test"), asked(office, **changes)).id


def refusal(office: Office, who: str = BOT, **changes) -> str:
    with pytest.raises(MunimentError) as refused:
        file(office, who, **changes)
    return refused.value.code


def judged(log: list[bytes]) -> str | None:
    rules = TicketRules()
    for index, raw in enumerate(log):
        rules.feed(index, raw, decode_entry(raw, strict=True))
    return rules.result().first_fault


def test_an_agents_whole_life_and_who_was_asked(office: Office) -> None:
    ticket = file(office)
    office.approve(ticket)
    office.give(ticket)
    office.later(300)
    office.take(ticket)
    assert office.status(ticket) == "closed"
    log = office.log()
    assert judged(log) is None
    at = places(log, ticket)["policy-decided"]

    def without_the_owner(entry) -> None:
        answers = entry["data"]["evaluations"]
        assert {a["context"]["part"] for a in answers} == {"both", "owner"}
        entry["data"]["evaluations"] = [a for a in answers if a["context"]["part"] != "owner"]

    assert "a person who answers for the machine" in str(judged(altered(log, at, without_the_owner)))


def test_another_owner_answers_for_it_when_access_is_given(office: Office) -> None:
    """Judged again with the owner of today; the record is sound, and one without that owner's yes is not."""
    ticket = file(office)
    office.approve(ticket)
    people(office, f"{AGENT.strip().splitlines()[1]}", 'owner = "human:bo@example.com"')
    office.give(ticket)
    assert office.status(ticket) == "active"
    log = office.log()
    assert judged(log) is None
    at = places(log, ticket)["provisioning-started"]

    def answered_by(*owners: str):
        def change(entry) -> None:
            answers = entry["data"]["evaluations"]
            of_bo = next(a for a in answers if a["context"]["part"] == "owner")
            assert of_bo["principal"] == 'Human::"bo@example.com"'
            rest = [a for a in answers if a["context"]["part"] != "owner"]
            made = [of_bo | {"principal": f'Human::"{owner}@example.com"'} for owner in owners]
            entry["data"]["evaluations"] = rest + made

        return change

    assert judged(altered(log, at, answered_by("bo"))) is None
    for forged in ((), ("ann",), ("dee",)):
        assert "a person who answers for the machine" in str(judged(altered(log, at, answered_by(*forged))))

    def shapeless(entry) -> None:
        for entity in entry["data"]["entities"]:
            entity["attrs"] = []

    assert "has not the shape" in str(judged(altered(log, at, shapeless)))
    decided = places(log, ticket)["policy-decided"]

    def of_bo_already(entry) -> None:
        for answer in entry["data"]["evaluations"]:
            answer["principal"] = answer["principal"].replace("ann@", "bo@")

    assert "a person who answers for the machine" in str(judged(altered(log, decided, of_bo_already)))


def test_another_owner_answers_for_it_when_an_offer_is_accepted(office: Office) -> None:
    ticket = file(office)
    office.do(deciding.counter, "cyd", ticket, digest=None, duration=timedelta(minutes=3), comment="shorter")
    people(office, f"{AGENT.strip().splitlines()[1]}", 'owner = "human:bo@example.com"')
    office.later(1)
    deciding.accept(office.desk, office.desk.caller(BOT, "test"), ticket, offer=None)
    office.approve(ticket)
    office.give(ticket)
    assert office.status(ticket) == "active"
    assert judged(office.log()) is None


def test_requests_an_hour(office: Office) -> None:
    for _ in range(3):
        office.do(lambda d, c, t: deciding.deny(d, c, t, comment="no"), "cyd", file(office))
    with pytest.raises(Refused, match="3 requests an hour") as refused:
        file(office)
    assert refused.value.code == "refused.budget-requests"
    before = len(office.log())
    assert refusal(office) == "refused.budget-requests"
    assert len(office.log()) == before, "what is refused is not recorded, and counts not"
    office.later(3600)
    file(office)


def test_grants_at_once(office: Office) -> None:
    first, _ = file(office), file(office)
    assert refusal(office) == "refused.budget-grants"
    assert refusal(office, "human:ann@example.com", beneficiary=BOT) == "refused.budget-grants", (
        "by its owner too"
    )
    office.approve(first)
    office.give(first)
    assert refusal(office) == "refused.budget-grants"
    office.later(301)
    office.take(first)
    file(office)


def test_no_longer_than_the_budget(office: Office) -> None:
    assert refusal(office, duration=timedelta(minutes=11)) == "refused.budget-duration"
    said = preview(
        office.desk, office.desk.caller(BOT, "test"), asked(office, duration=timedelta(minutes=11))
    )
    assert not said.permitted
    assert any("10 min" in reason for reason in said.reasons)


def test_a_flood_from_many_threads_stays_within_the_budget(office: Office) -> None:
    """Counted and recorded one at a time: two that look at once do not both find room."""
    outcomes: list[str] = []

    def flood() -> None:
        for _ in range(6):
            try:
                outcomes.append(file_request(office.desk, office.desk.caller(BOT, "test"), asked(office)).id)
            except MunimentError as error:
                outcomes.append(error.code)

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    filed = [each for each in outcomes if each.startswith("req_")]
    assert len(outcomes) == 24
    assert 1 <= len(filed) <= 2
    assert set(outcomes) - set(filed) <= {"refused.budget-grants", "conflict"}


@pytest.mark.parametrize("what", ["approve", "deny", "review", "waive", "resolve"])
def test_machines_decide_nothing(office: Office, what: str) -> None:
    """Though policy, groups and roles would let them (I6)."""
    file_ = office.folder / "identities.toml"
    file_.write_text(file_.read_text().replace('owner = "human:ann@example.com"\n[', 'owner = "human:ann@example.com"\ngroups = ["platform"]\nroles = ["auditor"]\n[', 1))  # fmt: skip
    office.desk.directory.reload_if_changed()
    bot = office.desk.caller(BOT, "test")
    assert "platform" in bot.identity.groups
    ticket = office.ask(who="bo", break_glass=True, incident="INC-1", length=timedelta(minutes=5)) if what not in {
        "approve", "deny"} else office.ask(who="bo")  # fmt: skip
    if what not in {"approve", "deny"}:
        office.give(ticket)
    if what in {"review", "waive"}:
        office.do(deciding.give_back, "bo", ticket)
        office.take(ticket)
    words = {
        "approve": {"digest": None}, "deny": {"comment": "no"}, "review": {"outcome": "appropriate", "comment": "fine"},
        "waive": {"check": "reviewed", "reason": "fine"}, "resolve": {"finding": "1", "reason": "fine"},
    }[what]  # fmt: skip
    with pytest.raises(Refused) as refused:
        getattr(deciding, what)(office.desk, bot, ticket, **words)
    assert refused.value.code in (
        {"refused.not-a-person"} if what != "revoke" else {"refused.not-responsible"}
    )
