"""On real servers: use of every kind is found in their own logs, each with the line that proves it, and nothing else is."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from msgspec.structs import replace

import servers
from muniment.conformance.grounds.openbao import Server as BaoServer
from muniment.conformance.grounds.openbao_tokens import TokenHarness
from muniment.conformance.grounds.openssh import SshHarness
from muniment.conformance.grounds.postgresql import PostgresHarness
from muniment.conformance.harness import Harness
from muniment.conformance.office import HOUR, Office, office
from muniment.conformance.proxy import Proxy
from muniment.core.inventory import Item
from muniment.core.use import Judged
from muniment.directory.file import FileDirectory
from muniment.reconcile.baseline import drafted
from muniment.service import ingesting, pairing, past_use, usage
from muniment.service.desk import CONTROLLER
from muniment.service.sealing import seal
from muniment.service.verifying import verify_store
from muniment.settings.usage import LogSettings
from muniment.store.findings import SqlFindings
from muniment.store.rebuild import differences
from muniment.store.uses import SqlUses

pytest.importorskip("duckdb")

#: lines are written after what they tell of, and clocks tick in milliseconds
MOMENT = 0.05


@contextmanager
def at(h: Harness, folder: Path, *, machine: str = "", **settings) -> Iterator[Office]:
    """An office by the real clock, whose target's logs are read; ``machine`` is the account of a service."""
    with office(h) as made:
        people = folder / "people.toml"
        people.write_text(
            "".join(f'[identities."human:{name}@example.com"]\ngroups = ["{group}"]\n' for name, group in
                    (("ann", "engineers"), ("bea", "engineers"), ("dee", "owners"), ("eve", "owners")))
            + '[identities."service_account:ci"]\nowners = ["human:dee@example.com"]\n'
        )  # fmt: skip
        old = made.desk.targets["target"]
        target = replace(
            old, connector=h.connector, usage={"skew": "0s", **settings},
            accounts={**old.accounts, **({"service_account:ci": machine} if machine else {})},
        )  # fmt: skip
        made.desk = dataclasses.replace(
            made.desk, targets={"target": target}, directory=FileDirectory(people)
        )
        yield made


def now(o: Office) -> None:
    """The office's time is the server's, a moment after whatever was done."""
    time.sleep(MOMENT)
    o.clock.at = datetime.now(UTC)


def read(o: Office, log: LogSettings, *, whole: bool = True) -> None:
    now(o)
    target = o.desk.targets["target"]
    with ingesting.turn(o.desk, "target") as lease:
        reading = ingesting._reading(o.desk, CONTROLLER, target, log, lease)
        ingesting._read(reading, Path(log.path), live=not whole)
        pairing.pair(o.desk, CONTROLLER, target)


def found(o: Office) -> set[tuple[str, str, str, str | None]]:
    findings = SqlFindings(o.desk.store.engine).unresolved("target").values()
    return {(f.type, f.item.account, f.item.privilege, f.item.ticket) for f in findings}


def judged(o: Office, *tickets: str) -> list[Judged]:
    return past_use.judged(o.desk, [o.ticket(t) for t in tickets])


def every_proof_is_a_line(o: Office, log: Path) -> None:
    uses = SqlUses(o.desk.store.engine)
    for finding in SqlFindings(o.desk.store.engine).unresolved("target").values():
        use = uses.line("target", finding.line)
        assert use is not None
        begins = int(use.place.rpartition("byte ")[2])
        line = log.read_bytes()[begins:].split(b"\n")[0].decode()
        assert use.account in line or (use.ticket and use.ticket in line)
        assert finding.inventory.startswith("use_")


def the_ledger_holds(o: Office) -> None:
    """Every entry by the rules of its kind, and read models that are made of entries alone."""
    seal(o.desk)
    assert verify_store(o.desk)["ok"]
    assert list(differences(o.desk.store)) == []


@pytest.fixture(scope="module", params=["postgresql-json", "postgresql-csv"])
def logging(request) -> Iterator[tuple[str, object]]:
    kind = {"postgresql-json": "jsonlog", "postgresql-csv": "csvlog"}[request.param]
    major = 18 if kind == "jsonlog" else 15
    server = servers.postgres(
        major,
        log_statement="all",
        logging_collector="on",
        log_destination=kind,
        log_timezone="UTC",
        log_filename="pg.log",
    )
    with server:
        yield request.param, server


def test_postgresql(logging, tmp_path: Path) -> None:
    format_, server = logging
    h = PostgresHarness(server)
    try:
        postgresql(h, format_, server, tmp_path)
    finally:
        h.close()


def postgresql(h: PostgresHarness, format_: str, server, tmp_path: Path) -> None:
    ann, bea = h.accounts
    ro, rw = h.roles
    for name in (f"ci{h.n}", f"sys{h.n}"):
        h.sql("CREATE ROLE {} LOGIN PASSWORD 'pw'", name)
    rules = [
        {"privilege": rw, "action": f"INSERT INTO t{h.n}*"},
        {"privilege": ro, "action": f"SELECT * FROM t{h.n}*"},
    ]
    h.sql("CREATE TABLE {} (n integer)", f"t{h.n}")
    h.sql("GRANT ALL ON {} TO public", f"t{h.n}")

    def use(account: str, *statements: str, application: str = "app") -> None:
        with psycopg.connect(
            server.dsn(account, "pw"), autocommit=True, application_name=application
        ) as session:
            for statement in statements:
                try:
                    session.execute(statement)
                except psycopg.errors.InsufficientPrivilege:
                    session.rollback()

    with at(h, tmp_path, machine=f"ci{h.n}", privileges=rules) as o:
        now(o)
        sys = Item(account=f"sys{h.n}", privilege=ro)
        declared = drafted(
            [sys], "target", owner="human:dee@example.com", until="2099-01-01", reason="backups"
        )
        o.desk = dataclasses.replace(o.desk, baseline=lambda: declared)
        use(f"sys{h.n}", f"SELECT * FROM t{h.n}")  # the first line: the log covers from here on
        now(o)
        used, unused = o.active(*h.privileges[:1]), o.active(*h.privileges[1:], who="bea")
        time.sleep(MOMENT)
        use(ann, f'SET ROLE "{ro}"', f"SELECT * FROM t{h.n}")
        use(bea, f'SET ROLE "{ro}"')  # refused by the server: no use of anything
        now(o)
        o.give_back(used)
        o.give_back(unused)
        o.settle()
        both = o.active(*h.privileges)
        time.sleep(MOMENT)
        use(ann, f"SELECT * FROM t{h.n}")
        now(o)
        o.give_back(both)
        o.settle()
        now(o)
        h.hold(ann, h.privileges[0])
        use(ann, f'SET ROLE "{ro}"')  # given by hand, after the ticket
        h.hold(bea, h.privileges[0])
        use(bea, f'SET ROLE "{ro}"')  # given by hand, and no ticket ever gave it
        use(f"ci{h.n}", "SELECT 1")  # a machine, as a machine
        use(f"ci{h.n}", "SELECT 1", application="psql")  # a person, as the machine
        use(ann, "SELECT 1")  # nothing that takes a ticket
        now(o)
        use(f"sys{h.n}", f"SELECT * FROM t{h.n}")  # the last line
        log = next((server.folder / "data" / "log").glob("pg.[cj]s*"))
        settings = LogSettings(format=format_, path=str(log))
        read(o, settings)

        by_hand = {("used-ungranted", bea, ro, None), ("used-by-person", f"ci{h.n}", "", None)}
        outside = {f for f in found(o) if f[0] == "used-outside"}
        assert found(o) - outside == by_hand
        assert {f[:3] for f in outside} == {("used-outside", ann, ro)}
        every_proof_is_a_line(o, log)
        first, second, third = judged(o, used, unused, both)
        assert (first.judgement, first.events, [p.privilege for p in first.used]) == ("used", 2, [ro])
        assert (second.judgement, second.events) == ("never-used", 0)
        assert (third.judgement, [p.privilege for p in third.unused]) == ("narrower", [rw])
        [source] = SqlUses(o.desk.store.engine).sources("target")
        assert (source.unparsable, source.ahead, source.unseen) == (0, 0, 0)
        assert usage.check(o.desk, o.desk.caller("human:dee@example.com", "test"), "target")["ok"]

        # read again, in another order, from another file: nothing is new
        before, version = found(o), o.desk.store.version("usage:target")
        read(o, settings)
        assert o.desk.store.version("usage:target") == version
        lines = log.read_bytes().splitlines(keepends=True)
        if format_ == "postgresql-json":
            random.Random(7).shuffle(lines)
        other = tmp_path / "shuffled"
        other.write_bytes(b"".join(lines))
        read(o, LogSettings(format=format_, path=str(other), name="again"))
        assert found(o) == before
        assert [j.events for j in judged(o, used, unused, both)] == [2, 0, 1]
        the_ledger_holds(o)


def stamped(server: servers.TemporarySshd, path: Path, done: list[str]) -> None:
    """sshd's own lines, with what syslog puts before them."""
    lines = server.log.splitlines()[len(done) :]
    with path.open("a") as file:
        for line in lines:
            stamp = datetime.now(UTC).isoformat(timespec="microseconds")
            file.write(f"{stamp} bastion sshd[{1000 + len(done)}]: {line}\n")
            done.append(line)


def test_sshd(sshd_server: servers.TemporarySshd, tmp_path: Path) -> None:
    h = SshHarness(tmp_path)
    log, done = tmp_path / "auth.log", []
    log.touch()
    (sshd_server.principals / sshd_server.login).write_text("web-admin\ndb-admin\n")

    def login(name: str, identity: str) -> None:
        key = sshd_server.key(f"{name}-{tmp_path.name}")
        sshd_server.sign(key, identity=identity, principals="web-admin")
        before = len(sshd_server.log)
        assert sshd_server.ssh(key, "true").returncode == 0
        for _ in range(100):
            if "Accepted publickey" in sshd_server.log[before:]:
                break
            time.sleep(0.02)
        stamped(sshd_server, log, done)

    stamped(sshd_server, log, done)
    with at(h, tmp_path, every_line=True) as o:
        now(o)
        login("zero", "theirs-0")  # the log covers from here on; a certificate of somebody else's
        now(o)
        used, unused = o.active(), o.active(h.privileges[1], who="bea")
        login("one", f"muniment:{used}:ann")
        login("forged", f"muniment:{used}:bob")  # names a ticket that is another's
        now(o)
        o.give_back(used)
        o.give_back(unused)
        o.settle()
        now(o)
        login("late", f"muniment:{used}:ann")
        login("unknown", "muniment:req_00000000000000000000000000:ann")
        now(o)
        read(o, LogSettings(format="sshd", path=str(log)))
        assert found(o) == {
            ("used-ungranted", sshd_server.login, "", None),
            ("used-ungranted", "bob", "", None),
            ("used-ungranted", "ann", "", None),
            ("used-outside", "ann", "", used),
        }  # fmt: skip
        every_proof_is_a_line(o, log)
        first, second = judged(o, used, unused)
        assert (first.judgement, first.events) == ("used", 1)
        assert second.judgement == "never-used"
        before = found(o)
        shutil.copy(log, tmp_path / "copy")
        read(o, LogSettings(format="sshd", path=str(tmp_path / "copy"), name="again"))
        assert found(o) == before
        assert [j.events for j in judged(o, used, unused)] == [1, 0]


def test_openbao(tmp_path: Path) -> None:
    with servers.running(BaoServer, "openbao") as server, Proxy(server.port) as proxy:
        bao(TokenHarness(server, proxy), server, tmp_path)


def bao(h: TokenHarness, server: BaoServer, tmp_path: Path) -> None:
    with at(h, tmp_path) as o:
        now(o)
        used = o.active()
        session = h.open_session(h.accounts[0], h.privileges[0])
        assert session.alive()
        now(o)
        o.give_back(used)
        o.settle()
        # somebody makes a token that says it is the ticket's
        role = f"auth/token/create/{h.roles[0]}"
        body = {"meta": {"ticket": used, "account": h.accounts[0]}, "policies": []}
        token = server.call("POST", role, body)["auth"]["client_token"]
        time.sleep(MOMENT)
        server.call("GET", h.path, token=token)
        now(o)
        [log] = Path(server.folder).glob("audit")
        read(o, LogSettings(format="openbao", path=str(log)))
        assert found(o) == {("used-outside", h.accounts[0], "", used)}
        every_proof_is_a_line(o, log)
        [first] = judged(o, used)
        assert first.judgement == "used"
        assert first.events >= 1


def test_kubernetes_names_the_binding(tmp_path: Path) -> None:
    """Where kube-apiserver was built."""
    from muniment.conformance.grounds.kubernetes import GROUNDS  # noqa: PLC0415

    with (
        servers.running(GROUNDS["kubernetes"], "kube-apiserver") as ground,
        ground.harness() as h,
        at(h, tmp_path) as o,
    ):
        now(o)
        ticket = o.active()
        session = h.open_session(h.accounts[0], h.privileges[0])
        assert session.alive()
        now(o)
        log = Path(ground.server.folder) / "audit.log"
        read(o, LogSettings(format="kubernetes", path=str(log)))
        [first] = judged(o, ticket)
        assert first.events >= 1
        assert found(o) == set()


def events(*uses: tuple[str, str, datetime]) -> tuple[bytes, ...]:
    return tuple(
        json.dumps({"account": account, "privilege": privilege, "at": when.isoformat()}).encode()
        for account, privilege, when in uses
    )


def test_used_at_its_edges(tmp_path: Path) -> None:
    """Half-open: at the end it is over. A clock may be off by as much as is configured, and no more."""
    h = SshHarness(tmp_path)
    with at(h, tmp_path, skew="5s") as o:
        ticket = o.active()
        begins, ends = o.ticket(ticket).start, o.ticket(ticket).expiry
        o.later(2 * HOUR)
        o.settle()
        dee = o.desk.caller("human:dee@example.com", "test")
        micro = timedelta(microseconds=1)
        skew = timedelta(seconds=5)
        inside = [begins - skew, begins, ends - micro, ends, ends + skew - micro]
        outside = [begins - skew - micro, ends + skew]
        said = usage.send(
            o.desk, dee, ingesting.Sent(
                target="target", source="siem", format="events", lines=events(*(("ann", "web-admin", t) for t in (*inside, *outside))),
            ),
        )  # fmt: skip
        assert said["verdicts"] == {"in-window": 5, "outside": 2}
        assert len(said["findings"]) == 1
