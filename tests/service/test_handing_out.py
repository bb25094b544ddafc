"""Evidence of tickets that were decided in every way there is: it can be handed out, and an auditor's program takes it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

import servers
from evidence.bundles import Shell
from evidence.office import HOUR, Office
from evidence.published import SecondVerifier, ledger_of
from muniment.core.scope import Privilege
from muniment.evidence.reading import verify_bundle
from muniment.policy import starter
from muniment.service import deciding, delegating
from muniment.service.evidencing import export
from muniment.service.extending import extend
from muniment.service.filing import Ask, file_bundle, file_request
from service.changes import PRODUCTION, oblige, people

BOT = "ai_agent:bot"
BUDGET = f'[identities."{BOT}".budget]\nrequests_per_hour = 3\nconcurrent_grants = 2\nlongest = "1h"'
CONSENT = '@approvers("owners, identity-owner")\n@max_duration("4h")'


def _ask(office: Office, role: str = "web-admin", length: timedelta = HOUR) -> Ask:
    return Ask(
        target="bastion", scope=(Privilege(privilege=role),), justification="release", duration=length,
        public_key=office.public_key,
    )  # fmt: skip


def agent(office: Office, owner: str = "ann") -> None:
    """An agent that somebody answers for."""
    file = office.folder / "identities.toml"
    last = file.read_text().rstrip().splitlines()[-1]
    people(office, last, f'{last}\n\n[identities."{BOT}"]\nowner = "human:{owner}@example.com"\n{BUDGET}')


def delegated(office: Office) -> str:
    asked = office.ask()
    delegating.give(
        office.desk,
        office.caller("cyd"),
        to="human:bo@example.com",
        reason="holidays",
        length=timedelta(days=1),
    )
    office.approve(asked, "bo")
    office.give(asked)
    return asked


def taken_back_later(office: Office) -> str:
    """The delegation ends once it was used and the access was given."""
    asked = delegated(office)
    [given] = delegating.listed(office.desk, office.caller("cyd"))
    delegating.end(office.desk, office.caller("cyd"), given["id"])
    office.do(deciding.give_back, "ann", asked)
    office.take(asked)
    return asked


def countered(office: Office) -> str:
    asked = office.ask("root", "web-admin", length=2 * HOUR)
    office.do(
        deciding.counter, "dee", asked, digest=None, duration=HOUR, scope=(Privilege(privilege="web-admin"),), comment="enough"
    )  # fmt: skip
    office.do(deciding.accept, "ann", asked, offer=None)
    office.approve(asked)
    office.give(asked)
    return asked


def extending(office: Office) -> str:
    first = office.active()
    asked = extend(office.desk, office.caller("ann"), first, duration=HOUR, reason="not done").id
    office.approve(asked)
    return asked


def bundled(office: Office) -> str:
    asks = [_ask(office, role) for role in ("web-admin", "root")]
    tickets = [ticket.id for ticket in file_bundle(office.desk, office.caller("ann"), asks)]
    for each in tickets:
        office.approve(each)
    office.approve(tickets[1], "dee")
    office.give(tickets[1])
    return tickets[1]


def broken_glass(office: Office) -> str:
    """Approved and reviewed once it is over."""
    oblige(office, PRODUCTION, people=starter.files()["people.cedar"].replace(
        '@min_approvals("0")\n@max_duration("1h")', '@approvers("owners")\n@max_duration("1h")'
    ))  # fmt: skip
    asked = office.ask(who="bo", break_glass=True, incident="INC-1", length=HOUR / 2)
    office.give(asked)
    office.do(deciding.give_back, "bo", asked)
    office.take(asked)
    office.do(deciding.review, "aud", asked, outcome="appropriate", comment="as INC-1 says")
    assert office.status(asked) == "revoked"
    office.approve(asked)
    assert office.status(asked) == "closed"
    return asked


def for_an_agent(office: Office) -> str:
    agent(office)
    asked = office.ask(beneficiary=BOT)
    office.approve(asked)
    office.give(asked)
    return asked


def with_its_owners_consent(office: Office) -> str:
    """Bo answers for the agent, and agrees to what it asks for; Cyd approves."""
    agent(office, "bo")
    approvals = starter.files()["approvals.cedar"]
    oblige(office, CONSENT, approvals=approvals[: approvals.index('@id("not-for-yourself")')])
    asked = file_request(office.desk, office.desk.caller(BOT, "test"), _ask(office, length=HOUR / 6)).id
    office.approve(asked, "bo")
    office.approve(asked)
    office.give(asked)
    return asked


WAYS: list[Callable[[Office], str]] = [
    delegated, taken_back_later, countered, extending, bundled, broken_glass, for_an_agent,
    with_its_owners_consent,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_it_is_handed_out_and_verified(office: Office, way: Callable[[Office], str]) -> None:
    asked = way(office)
    raw, document = export(office.desk, asked)
    assert document["ok"], document["levels"]
    report = verify_bundle(raw, office.desk.trust)
    assert report.ok, report.levels
    code, said = Shell(raw, office.desk.trust)()
    assert code == 0, said


@pytest.mark.server("go")
@pytest.mark.parametrize("way", [delegated, countered, with_its_owners_consent], ids=lambda way: way.__name__)
def test_the_second_verifier_takes_it_as_well(
    office: Office, tmp_path: Path, way: Callable[[Office], str]
) -> None:
    way(office)
    log = office.log()
    ledger = ledger_of(log, len(log))
    sources = Path(__file__).parents[1] / "second_verifier"
    second = SecondVerifier(servers.build_go(sources, tmp_path / "second_verifier"))
    (tmp_path / "trust").write_text(ledger.trust.render())
    found = second(ledger.write(tmp_path / "ledger"), tmp_path / "trust")
    assert not any(found.values()), found
