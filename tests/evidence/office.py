"""A Muniment with a certificate authority and a clock in the test's hands, and real tickets of every kind in it.

Everything goes through the service layer, with the starter policies: what is judged here is what the program records.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace

from faulty import FaultyConnector
from muniment.cli.starting import start
from muniment.config import load
from muniment.core.identity import SYSTEM
from muniment.core.scope import Privilege
from muniment.directory.provisioned import DISABLED, Disabled
from muniment.ledger.canonical import encode
from muniment.ledger.entry import decode_entry
from muniment.ledger.merkle import leaf_hash
from muniment.main import open_desk
from muniment.ports import Actor
from muniment.service import deciding
from muniment.service.attending import attend
from muniment.service.filing import Ask, file_request
from muniment.service.giving import give
from muniment.service.lifting import lift
from muniment.service.registry import record_registry
from muniment.service.sealing import seal
from muniment.service.taking import take_back
from muniment.store.provisioned import SqlProvisioned

ORIGIN = "ledger.example.org/evidence"
NOW = datetime(2026, 11, 23, 10, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)


class HandClock:
    """`ports.Clock` that a test moves."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at


class Office:
    """One process, on a folder of its own."""

    def __init__(self, folder: Path) -> None:
        start(folder, ORIGIN)
        self.folder, self.clock = folder, HandClock()
        self.desk = open_desk(load(folder / "muniment.toml"), clock=self.clock)
        target = self.desk.targets["bastion"]
        target.connector._connector._clock = self.clock.now  # behind its gate
        self.target = FaultyConnector(target.connector)
        targets = {"bastion": replace(target, connector=self.target)}
        self.desk = dataclasses.replace(self.desk, targets=targets)
        record_registry(self.desk, Actor(id=SYSTEM, via="test"))
        key = Ed25519PrivateKey.generate().public_key()
        self.public_key = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        self.passes = 0

    def close(self) -> None:
        self.desk.store.engine.dispose()

    def caller(self, name: str) -> Any:
        return self.desk.caller(f"human:{name}@example.com", "test")

    def ask(
        self, *roles: str, who: str = "ann", length: timedelta = HOUR, why: str = "to look", **more: Any
    ) -> str:
        scope = tuple(Privilege(privilege=role) for role in roles or ("web-admin",))
        ask = Ask(
            target="bastion", scope=scope, justification=why, duration=length, public_key=self.public_key, **more
        )  # fmt: skip
        self.later(1)
        return file_request(self.desk, self.caller(who), ask).id

    def approve(self, ticket: str, by: str = "cyd", comment: str | None = "go on") -> None:
        self.later(1)
        deciding.approve(self.desk, self.caller(by), ticket, digest=None, comment=comment)

    def give(self, ticket: str) -> None:
        self._pass(give, ticket)

    def take(self, ticket: str) -> None:
        self._pass(take_back, ticket)

    def do(self, what: Callable[..., Any], who: str, ticket: str, **words: Any) -> None:
        """Something else that people do: a function of `service.deciding`."""
        self.later(1)
        what(self.desk, self.caller(who), ticket, **words)

    def lapse(self, ticket: str) -> None:
        self.later(25 * 3600)
        attend(self.desk, [ticket])

    def later(self, seconds: float) -> None:
        self.clock.at += timedelta(seconds=seconds)

    def status(self, ticket: str) -> str:
        found = self.desk.store.read(ticket)[1]
        assert found
        return found.status

    def log(self) -> list[bytes]:
        """Every entry, sealed."""
        seal(self.desk)
        return [raw for _, raw in self.desk.ledger.entries()]

    def _pass(self, step: Callable[..., Any], ticket: str) -> None:
        self.later(1)
        self.passes += 1
        step(self.desk, "bastion", [ticket], f"pass-{self.passes}")

    # ── outside of tickets ──

    def disabled(self, who: str, *issuers: str) -> None:
        """As signals of these issuers leave it."""
        rows = SqlProvisioned(self.desk.store.engine, self.desk.store.marker)
        for issuer in issuers:
            body = msgspec.json.encode(Disabled(identity=who, issuer=issuer))
            rows.add(self.desk.random.bytes(16).hex(), DISABLED, f"{who} {issuer}", body, self.clock.now())

    def lifted(self) -> None:
        """A disablement that one person proposed to lift, and another agreed."""
        who, desk = "human:ann@example.com", self.desk
        self.disabled(who, "https://idp.example.com")
        governed: Any = SimpleNamespace(
            approvers=lambda: ("human:cyd@example.com",)
        )  # two people change things
        self.desk = dataclasses.replace(desk, governed=governed)
        for one in ("ops", "cyd"):
            self.later(120)
            document = lift(self.desk, self.caller(one), who, "checked, INC-7")
        self.desk = desk
        assert document["status"] == "lifted"

    # ── whole tickets ──

    def closed(self) -> str:
        """Asked, approved, given, returned, gone."""
        ticket = self.ask(references={"change": "CHG-7"})
        self.approve(ticket)
        self.give(ticket)
        self.later(600)
        self.do(deciding.give_back, "ann", ticket)
        self.take(ticket)
        return self._in(ticket, "closed")

    def expired(self) -> str:
        ticket = self.ask()
        self.approve(ticket)
        self.give(ticket)
        self.later(3600)
        self.take(ticket)
        return self._in(ticket, "closed")

    def by_two(self) -> str:
        """Critical: two approvals, and a review afterwards."""
        ticket = self.ask("root")
        self.approve(ticket)
        self.approve(ticket, "dee", None)
        self.give(ticket)
        self.do(deciding.revoke, "ops", ticket, reason="enough")
        self.take(ticket)
        self.do(deciding.review, "aud", ticket, outcome="appropriate", comment="as CHG-7 says")
        return self._in(ticket, "closed")

    def broken_glass(self) -> str:
        ticket = self.ask(who="bo", break_glass=True, incident="INC-1", length=HOUR / 2)
        self.give(ticket)
        self.do(deciding.give_back, "bo", ticket)
        self.take(ticket)
        self.do(deciding.review, "aud", ticket, outcome="inappropriate", comment="no incident")
        self.do(deciding.resolve, "aud", ticket, finding="2", reason="talked to Bo")
        return self._in(ticket, "closed")

    def for_a_machine(self) -> str:
        ticket = self.ask(beneficiary="service_account:deploy")
        self.approve(ticket)
        self.give(ticket)
        self.later(3600)
        self.take(ticket)
        return self._in(ticket, "closed")

    def denied(self) -> str:
        ticket = self.ask()
        self.do(deciding.deny, "cyd", ticket, comment="not during the freeze")
        return self._in(ticket, "denied")

    def refused(self) -> str:
        """Policy says no."""
        return self._in(self.ask(who="ops"), "denied")

    def withdrawn(self) -> str:
        ticket = self.ask()
        self.do(deciding.withdraw, "ann", ticket)
        return self._in(ticket, "withdrawn")

    def lapsed(self) -> str:
        ticket = self.ask()
        self.lapse(ticket)
        return self._in(ticket, "lapsed")

    def active(self) -> str:
        ticket = self.ask()
        self.approve(ticket)
        self.give(ticket)
        return self._in(ticket, "active")

    def _in(self, ticket: str, status: str) -> str:
        assert self.status(ticket) == status, (ticket, self.status(ticket))
        return ticket


# ── logs to damage ──


def altered(log: list[bytes], at: int, change: Callable[[dict[str, Any]], None]) -> list[bytes]:
    """The log with one entry changed and its ticket's chain made good again: only the rules can tell."""
    made = list(log)
    entry = msgspec.json.decode(log[at])
    change(entry)
    made[at] = encode(entry)
    return rechained(made)


def without(log: list[bytes], at: int) -> list[bytes]:
    """The log without one entry, the others of its ticket moved up and chained again."""
    ticket = decode_entry(log[at]).ticket
    made = [raw for place, raw in enumerate(log) if place != at]
    seq = -1
    for place, raw in enumerate(made):
        entry = msgspec.json.decode(raw)
        if entry["ticket"] == ticket:
            seq += 1
            made[place] = encode(entry | {"seq": seq})
    return rechained(made)


def rechained(log: list[bytes]) -> list[bytes]:
    """Every ``prev`` as it must be."""
    made: list[bytes] = []
    last: dict[str, str] = {}
    for raw in log:
        entry = msgspec.json.decode(raw)
        entry["prev"] = last.get(entry["ticket"], "sha256:" + "0" * 64) if entry["seq"] else None
        made.append(encode(entry))
        last[entry["ticket"]] = "sha256:" + leaf_hash(made[-1]).hex()
    return made


def places(log: list[bytes], ticket: str) -> dict[str, int]:
    """Where the first entry of each kind of a ticket stands."""
    found: dict[str, int] = {}
    for at, raw in enumerate(log):
        entry = decode_entry(raw)
        if entry.ticket == ticket:
            found.setdefault(entry.type.partition("/")[0], at)
    return found
