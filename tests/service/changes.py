"""What tests of approvals change in an office: policies, people; and how they look at it."""

from __future__ import annotations

import dataclasses
from typing import Any

from evidence.office import Office
from muniment.core.identity import SYSTEM
from muniment.core.ticket import Ticket
from muniment.evidence.rules import TicketRules
from muniment.ledger.entry import decode_entry
from muniment.policy import starter
from muniment.policy.cedar import CedarPolicy
from muniment.ports import Actor, Notice
from muniment.service.registry import record_registry

#: for bounded access in production: what the starter policies oblige to
PRODUCTION = '@approvers("owners")\n@max_duration("4h")\n@native_expiry("required")'


class Collected:
    """`ports.Notifier` that keeps what it is given."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    def send(self, notice: Notice) -> None:
        self.notices.append(notice)

    def kinds(self) -> list[str]:
        return [notice.kind for notice in self.notices]


def listening(office: Office) -> Collected:
    heard = Collected()
    office.desk = dataclasses.replace(office.desk, notifiers=(heard,))
    return heard


def oblige(office: Office, duties: str, **more: str) -> None:
    """Other annotations on the permit for production; ``more`` are files by their name."""
    files = dict(starter.files())
    assert PRODUCTION in files["people.cedar"]
    files["people.cedar"] = files["people.cedar"].replace(PRODUCTION, duties)
    policy = CedarPolicy(files | {f"{name}.cedar": text for name, text in more.items()})
    office.desk = dataclasses.replace(office.desk, policy=policy)
    record_registry(office.desk, Actor(id=SYSTEM, via="test"))


def people(office: Office, old: str, new: str) -> None:
    """Edit the directory, which is read again and put on record."""
    file = office.folder / "identities.toml"
    text = file.read_text()
    assert old in text, old
    file.write_text(text.replace(old, new))
    assert office.desk.directory.reload_if_changed()
    record_registry(office.desk, Actor(id=SYSTEM, via="test"))


def ticket(office: Office, name: str) -> Ticket:
    found = office.desk.store.read(name)[1]
    assert found
    return found


def events(office: Office, name: str, kind: type) -> list[Any]:
    return [r.event for r in office.desk.store.entries(name) if isinstance(r.event, kind)]


def sound(office: Office) -> None:
    """Everything on record passes the rules that an auditor's program judges it by."""
    rules = TicketRules()
    for index, raw in enumerate(office.log()):
        rules.feed(index, raw, decode_entry(raw))
    assert rules.result().ok, rules.result()
