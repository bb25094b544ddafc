"""A desk before real targets, with its clock and the faults of its targets in the test's hands.

A `Ground` is what outlives a process: roles on a PostgreSQL server, a store, a certificate authority, a clock in a
file. A `World` is one process at work on it. Opening a second one on the same ground is a restart, or a second node.
"""

from __future__ import annotations

import atexit
import itertools
import os
import sqlite3
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Self

import msgspec
import psycopg
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sqlalchemy.engine import make_url

from faulty import FaultyConnector
from muniment.connectors import openssh
from muniment.connectors.kinds import build_connector
from muniment.connectors.openssh_keys import new_ca_key
from muniment.connectors.postgresql import PostgreSQL
from muniment.core.due import Action
from muniment.core.errors import MunimentError
from muniment.core.events import Event
from muniment.core.instants import parse_instant, wire
from muniment.core.scope import Privilege, Scope, scope
from muniment.core.ticket import ENDS, LIVE, Ticket
from muniment.directory.file import FileDirectory
from muniment.ledger.entry import decode_entry
from muniment.policy import starter
from muniment.policy.cedar import CedarPolicy
from muniment.ports import CatalogueEntry, CheckReport, Connector, Observation, Order, Outcome, Target
from muniment.service.attending import attend
from muniment.service.deciding import approve, give_back, revoke
from muniment.service.desk import CONTROLLER, Desk
from muniment.service.filing import Ask, file_request
from muniment.service.fulfilment import Progress
from muniment.service.giving import give
from muniment.service.ledgering import verify
from muniment.service.registry import record_registry
from muniment.service.sealing import seal
from muniment.service.taking import take_back
from muniment.store.opening import open_store
from muniment.store.sequencer import SqlLedger
from muniment.store.views import Filter, SqlViews
from store.stores import KEY, ORIGIN, SIGNER, Shelf

SECRET = "correct-horse-battery"  # of the connector's role
TIMEOUT = timedelta(seconds=4)
HOUR = timedelta(hours=1)
#: after this long anybody may take over what a dead worker had leased
LEASE_OVER = timedelta(seconds=61)
ENDED = {"request-closed/1", "request-denied/1", "request-withdrawn/1", "request-lapsed/1"}

PEOPLE = """\
[identities."human:ann@example.com"]
groups = ["engineers"]
[identities."human:bea@example.com"]
groups = ["engineers"]
[identities."human:cyd@example.com"]
groups = ["platform"]
roles = ["member", "approver"]
[identities."human:dee@example.com"]
groups = ["platform"]
roles = ["member", "approver"]
[identities."human:ops@example.com"]
roles = ["member", "operator"]
"""

_numbers = itertools.count(1)


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """Where to find everything that a crash leaves behind."""

    number: int
    store: str
    folder: str
    admin: str  # the superuser's DSN
    public_key: str

    def name(self, what: str) -> str:
        """A role's own name on the shared server."""
        return f"{what}{self.number}"

    @property
    def path(self) -> Path:
        return Path(self.folder)

    def sql(self, text: str, *names: str) -> list[tuple[Any, ...]]:
        """Do something past Muniment, as the superuser."""
        cursor = _past_us(os.getpid(), self.admin).execute(sql.SQL(text).format(*map(sql.Identifier, names)))
        return cursor.fetchall() if cursor.description else []

    def forget(self) -> None:
        """The server was restarted: its old connections are of no more use."""
        _past_us(os.getpid(), self.admin).close()
        _past_us.cache_clear()

    def as_connector(self, text: str, *names: str) -> None:
        """Do something with the connector's own rights, so that the server takes us for its grantor."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL(text).format(*map(sql.Identifier, names)))

    def dsn(self, user: str | None = None, password: str = SECRET, **changes: Any) -> str:
        return make_conninfo(self.admin, user=user or self.name("muniment"), password=password, **changes)

    def holds(self, who: str = "ann") -> list[str]:
        """Which of our roles an account has, as the server itself says; without our number."""
        rows = self.sql(
            "SELECT r.rolname, m.rolname FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid"
            " JOIN pg_roles m ON m.oid = a.member"
        )
        return sorted({r.removesuffix(str(self.number)) for r, m in rows if m == self.name(who)})

    def everything(self) -> tuple[list[Any], list[Any]]:
        """Every membership and every role's attributes on the whole server (I17)."""
        members = self.sql(
            "SELECT to_jsonb(m) - 'oid' FROM pg_auth_members m ORDER BY roleid, member, grantor"
        )
        return members, self.sql("SELECT to_jsonb(r) - 'rolpassword' FROM pg_roles r ORDER BY oid")

    def kinds(self, ticket: str) -> list[str]:
        """What is durable of a ticket, asked over a connection of its own, past the store."""
        url = make_url(self.store)
        if url.drivername == "sqlite":
            with sqlite3.connect(f"file:{url.database}?mode=ro", uri=True) as file:
                rows = file.execute(
                    "SELECT body FROM event WHERE stream = ? ORDER BY seq", (ticket,)
                ).fetchall()
            file.close()
        else:
            with psycopg.connect(self.store) as connection:
                rows = connection.execute(
                    "SELECT body FROM event WHERE stream = %s ORDER BY seq", (ticket,)
                ).fetchall()
        return [decode_entry(bytes(body)).type for (body,) in rows]

    def certificates(self) -> list[str]:
        """File names in the register."""
        register = self.path / "krl.d"
        return sorted(p.name for p in register.glob("*.cert")) if register.exists() else []


@cache
def _past_us(_process: int, dsn: str) -> psycopg.Connection[Any]:
    """The superuser's connection of this process: opening one each time would cost more than all else."""
    made = psycopg.connect(dsn, autocommit=True)
    atexit.register(made.close)
    return made


def lay(admin: str, store: str, folder: Path) -> Ground:
    """Make roles, people, an authority and a clock for one test."""
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    folder.mkdir(parents=True, exist_ok=True)
    number = os.getpid() * 10_000 + next(_numbers)
    ground = Ground(number=number, store=store, folder=str(folder), admin=admin, public_key=line)
    me = ground.name("muniment")
    ground.sql("CREATE ROLE {} LOGIN CREATEROLE PASSWORD 'correct-horse-battery'", me)
    ground.sql("GRANT pg_signal_backend, pg_read_all_stats TO {}", me)
    modern = int(ground.sql("SHOW server_version_num")[0][0]) >= 160_000
    for role in ("ro", "rw", "xx"):
        ground.sql("CREATE ROLE {}", ground.name(role))
        extra = ", INHERIT FALSE, SET FALSE" if modern else ""
        ground.sql("GRANT {} TO {} WITH ADMIN OPTION" + extra, ground.name(role), me)
    for account in ("ann", "bea"):
        ground.sql("CREATE ROLE {} LOGIN PASSWORD 'pw'", ground.name(account))
    (folder / "people.toml").write_text(PEOPLE)
    (folder / "ca").write_bytes(new_ca_key())
    (folder / "ca").chmod(0o600)
    FileClock(folder / "clock").set(datetime.now(UTC))
    assert (
        authority(ground, FileClock(folder / "clock").now).check().reachable
    )  # makes register and revocation list
    return ground


def authority(ground: Ground, now: Callable[[], datetime]) -> openssh.OpenSSH:
    """The certificate authority, looked at by this clock."""
    given = {"ca_key": f"file:{ground.folder}/ca", "krl": f"{ground.folder}/krl"}
    made = build_connector(
        "openssh", name="ssh", settings=given, path=Path, catalogue=(),
        secret=lambda name: Path(name.removeprefix("file:")).read_text(),
    )  # fmt: skip
    assert isinstance(made, openssh.OpenSSH)
    made._clock = now
    return made


def ground_on(server: Any, shelf: Shelf, folder: Path) -> Ground:
    """A ground on a running server, with a fresh store."""
    return lay(server.dsn(), shelf.url(), folder)


class FileClock:
    """`ports.Clock` that all processes on one ground share."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def now(self) -> datetime:
        return parse_instant(self._file.read_text())

    def set(self, at: datetime) -> None:
        fresh = self._file.with_suffix(f".{os.getpid()}")
        fresh.write_text(wire(at))
        fresh.replace(self._file)

    def pass_by(self, length: timedelta) -> None:
        self.set(self.now() + length)


class Spy:
    """Looks at the ledger each time that a target is about to be given something (I1)."""

    def __init__(self, real: Connector, ground: Ground) -> None:
        self.real, self.ground, self.capabilities = real, ground, real.capabilities
        self.given: list[Order] = []
        self.taken: list[Order] = []

    def validate(self, account: str, wanted: Scope, key=None) -> None:
        self.real.validate(account, wanted, key)

    def check(self) -> CheckReport:
        return self.real.check()

    def observe(self, accounts: Collection[str] | None) -> Observation:
        return self.real.observe(accounts)

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        for order in orders:
            kinds = self.ground.kinds(order.ticket)
            assert "request-approved/1" in kinds, kinds
            assert "provisioning-started/1" in kinds, kinds
        self.given += orders
        return self.real.provision(orders, confirm)

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        self.taken += orders
        return self.real.revoke(orders, confirm)


def policies() -> dict[str, str]:
    """The starter policies, but in production one owner's word is enough for anything: faults are no fewer for it."""
    files = starter.files()
    two = '@approvers("owners")\n@min_approvals("2")\n@max_duration("4h")'
    assert two in files["people.cedar"]
    return files | {
        "people.cedar": files["people.cedar"].replace(two, two.replace('@min_approvals("2")\n', ""))
    }


@cache
def starter_policy() -> CedarPolicy:
    return CedarPolicy(policies())


class SystemRandom:
    bytes = staticmethod(os.urandom)


class World:
    """One process on a ground."""

    def __init__(
        self,
        ground: Ground,
        *,
        policy: CedarPolicy | None = None,
        clock: Any = None,
        port: int | None = None,
        pause: timedelta = timedelta(seconds=5),
        timeout: timedelta = TIMEOUT,
        wrap: Callable[[Any], Any] = FaultyConnector,
    ) -> None:
        """``port`` leads to the server by another way; ``wrap`` goes round each connector."""
        self.ground = ground
        self.clock = clock or FileClock(ground.path / "clock")
        dsn = ground.dsn(**({"port": port} if port else {}))
        self.real = PostgreSQL(dsn, name="pg", timeout=timeout, pause=pause)
        self.spy, self.ssh_spy = (
            Spy(self.real, ground),
            Spy(authority(ground, self._now), ground),
        )
        self.pg, self.ssh = wrap(self.spy), wrap(self.ssh_spy)
        store = open_store(ground.store, ORIGIN, KEY, None if clock == "own" else self.clock)
        if clock == "own":
            self.clock = store.clock
        self.desk = Desk(
            store=store, views=SqlViews(store.engine), policy=policy or starter_policy(), random=SystemRandom(),
            ledger=SqlLedger(store.engine, ORIGIN, store.marker, store.clock), signers=(SIGNER,),
            directory=FileDirectory(ground.path / "people.toml"),
            targets={"pg": self.target("pg", "ro", "rw"), "ssh": self.target("ssh", "web", "db")},
        )  # fmt: skip
        self.holder = 0
        self.troubles: list[MunimentError] = []
        record_registry(self.desk, CONTROLLER)  # as every process does before it writes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _now(self) -> datetime:
        return self.clock.now()  # whichever clock it is by then

    def close(self) -> None:
        self.real.close()
        self.desk.store.engine.dispose()

    def target(self, name: str, *privileges: str, connector: Any = None) -> Target:
        names = {"human:ann@example.com": "ann", "human:bea@example.com": "bea"}
        return Target(
            id=name, kind="postgresql" if name.startswith("pg") else "openssh", environment="prod",
            owners=("group:platform",), connector=connector or getattr(self, name),
            accounts={who: self.ground.name(account) for who, account in names.items()},
            catalogue=tuple(CatalogueEntry(privilege=self.role(each)) for each in privileges),
        )  # fmt: skip

    def use(self, **changes: Any) -> None:
        """Go on with another policy, other targets, …"""
        self.desk = replace(self.desk, **changes)
        if "policy" in changes:
            record_registry(self.desk, CONTROLLER)

    # ── people ──

    def role(self, name: str, resource: str | None = None) -> Privilege:
        own = name in {"ro", "rw", "xx"}
        return Privilege(privilege=self.ground.name(name) if own else name, resource=resource)

    def caller(self, name: str) -> Any:
        return self.desk.caller(f"human:{name}@example.com", "test")

    def ask(
        self, *roles: str, who: str = "ann", on: str = "pg", length: timedelta = HOUR, **more: Any
    ) -> str:
        """File a ticket; returns its id."""
        if on == "ssh":
            more["public_key"] = self.ground.public_key
        wanted = tuple(self.role(r) for r in roles or (("web",) if on == "ssh" else ("rw",)))
        ask = Ask(target=on, scope=wanted, justification="to see what happens", duration=length, **more)
        return file_request(self.desk, self.caller(who), ask).id

    def approved(self, *roles: str, by: str = "cyd", **more: Any) -> str:
        """File a ticket and have it approved."""
        ticket = self.ask(*roles, **more)
        assert approve(self.desk, self.caller(by), ticket, digest=None).status == "approved"
        return ticket

    def active(self, *roles: str, **more: Any) -> str:
        """A ticket whose access has begun."""
        ticket = self.approved(*roles, **more)
        self.settle()
        self.must(ticket, "active")
        return ticket

    def give_back(self, ticket: str, who: str = "ann") -> None:
        give_back(self.desk, self.caller(who), ticket)

    def revoke(self, ticket: str) -> None:
        revoke(self.desk, self.caller("ops"), ticket, reason="because")

    def people(self, old: str, new: str) -> None:
        """Edit the directory, which is read again."""
        file = self.ground.path / "people.toml"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
        assert self.desk.directory.reload_if_changed()

    # ── controllers ──

    def one_pass(self, action: Action, target: str, tickets: Sequence[str]) -> Progress:
        """What a controller does once with a batch."""
        self.holder += 1
        holder = f"{os.getpid()}-{id(self)}-{self.holder}"
        if action in {"lapse", "remind", "escalate"}:
            return attend(self.desk, tickets)
        return (give if action == "provision" else take_back)(self.desk, target, tickets, holder)

    def step(self, *actions: Action) -> bool:
        """Run one pass over everything that is due (only these actions, if any); say whether anything moved."""
        moved = False
        batches: dict[tuple[bool, Action, str], list[str]] = {}
        for item in self.desk.store.due(self.clock.now(), 1000):
            family: Action = "revoke" if item.action == "expire" else item.action
            if not actions or family in actions:
                batches.setdefault((family != "revoke", family, item.target), []).append(item.ticket)
        for (_, family, target), tickets in sorted(batches.items()):
            progress = self.one_pass(family, target, tickets)
            self.troubles += progress.again.values()
            moved = moved or bool(progress.moved)
        return moved

    def settle(self, *actions: Action) -> None:
        """Pass until nothing moves any more."""
        for _ in range(12):
            if not self.step(*actions):
                return
        raise AssertionError("tickets move without end")

    def later(self, length: timedelta) -> None:
        """Let time pass, and do what is due then."""
        self.clock.pass_by(length)
        self.settle()

    # ── looking ──

    def ticket(self, ticket: str) -> Ticket:
        found = self.desk.store.read(ticket)[1]
        assert found
        return found

    def must(self, ticket: str, *statuses: str) -> Ticket:
        found = self.ticket(ticket)
        assert found.status in statuses, (found.status, self.kinds(ticket), self.troubles)
        return found

    def kinds(self, ticket: str) -> list[str]:
        return [recorded.event.kind for recorded in self.desk.store.entries(ticket)]

    def events(self, ticket: str, kind: type[Event]) -> list[Any]:
        return [r.event for r in self.desk.store.entries(ticket) if isinstance(r.event, kind)]

    def holds(self, who: str = "ann") -> list[str]:
        return self.ground.holds(who)

    def certified(self, who: str = "ann") -> list[str]:
        """What a host would accept of this account's certificates."""
        seen = authority(self.ground, self.clock.now).observe([self.ground.name(who)])
        assert seen.complete
        return sorted(h.privilege for h in seen.holdings)

    def tickets(self) -> list[Ticket]:
        return self.desk.views.tickets(Filter(limit=1000))

    def sound(self, *, at_rest: bool = True) -> None:
        """What must always hold. ``at_rest``: no work is under way, so targets hold exactly what tickets say."""
        tickets = self.tickets()
        for ticket in tickets:
            kinds = self.kinds(ticket.id)  # reading them checks that the chain is whole (I29)
            ends = [kind for kind in kinds if kind in ENDED]
            assert ends == kinds[-1:] if ticket.status in ENDS else not ends, kinds
            assert kinds == self.ground.kinds(ticket.id)
        seal(self.desk)
        report = verify(self.desk)  # signature, tree, chains; read models equal the fold (I24)
        assert report["ok"], report
        if not at_rest:
            return
        for target, holds in (("pg", self.holds), ("ssh", self.certified)):
            for who in ("ann", "bea"):
                live = [
                    t for t in tickets
                    if t.status in LIVE and (t.terms.target, t.terms.account) == (target, self.ground.name(who))
                ]  # fmt: skip
                assert all(t.status == "active" for t in live), live
                said = scope(p for t in live for p in t.approved)
                expected = sorted(p.privilege.removesuffix(str(self.ground.number)) for p in said)
                assert holds(who) == expected, (target, who, holds(who), expected)
