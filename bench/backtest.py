"""How long does it take to ask another policy set about 100,000 past tickets, and to replay 10,000 decisions?

A company of 500 engineers, 40 targets and 100 policies. Each engineer has a dozen privileges that they ask for, so most
questions were asked before; ``--distinct`` makes every question another one, which no company does.

- ``backtest``  tickets a second of `service.backtesting`, over a SQLite store with an entry for each verdict;
- ``replay``    decisions a second of `policy.replay`, each read from its bytes and written again: the same bytes, or the
                run fails.

CPU seconds are those of all processes together; beside other work on the machine trust these, not the wall.
Run: ``.venv/bin/python bench/backtest.py [--tickets 100000] [--processes 2] [--distinct]``.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
from sqlalchemy import insert

from muniment.core.events import PolicyDecided, decode_data, encode_data
from muniment.core.identity import Identity
from muniment.core.instants import wire
from muniment.core.scope import Privilege, scope
from muniment.core.terms import Terms
from muniment.core.verdict import Verdict
from muniment.ledger.entry import Actor, Entry
from muniment.policy.cedar import CedarPolicy
from muniment.policy.replay import decided_again
from muniment.ports import CatalogueEntry, Subject, Target
from muniment.service.backtesting import compare_all
from muniment.service.filing import new_id
from muniment.store import tables as t
from muniment.store.engine import writing
from muniment.store.marking import mark_key
from muniment.store.opening import open_store

ORIGIN = "bench.example/muniment"
NOW = datetime(2026, 11, 25, tzinfo=UTC)
ENGINEERS, TARGETS, TEAMS, POLICIES = 500, 40, 24, 100
APPROVE = (
    '@id("deciding") permit (principal, action == Action::"approve", resource)'
    " when { context.stages.contains(context.stage) };"
)


def policies(longest: str = "4h") -> dict[str, str]:
    """A hundred: permits for each team on some targets, forbids by risk and relation."""
    rules = [APPROVE]
    for at in range(POLICIES - 11):
        team, target = at % TEAMS, at % TARGETS
        rules.append(
            f'@id("team-{at}") @approvers("group:leads-{team}") @max_duration("{longest}") @review_within("7d") '
            f'permit (principal in Group::"team-{team}", action == Action::"request", resource in Target::"t-{target}") '
            f"when {{ context.minutes <= {240 + at} && !context.break_glass }};"
        )
    rules.append(
        '@id("all") @approvers("owners") @max_duration("8h") permit (principal in Group::"engineers", action == '
        'Action::"request", resource) when { context.minutes <= 480 };'
    )
    rules += [
        f'@id("no-{at}") forbid (principal, action == Action::"request", resource) when {{ resource.name == "p-{at}" && '
        f'resource.risk == "critical" && context.relation != "self" }};'
        for at in range(9)
    ]
    return {"all.cedar": "\n".join(rules)}


def world() -> tuple[list[Subject], list[Target]]:
    """People and targets."""
    people = [
        Subject(
            identity=Identity(
                id=f"human:e{n}@example.com", groups=("engineers", f"team-{n % TEAMS}"), manager=f"human:e{n // 8}@example.com"
            ),
            managers={f"human:e{n}@example.com": (f"human:e{n // 8}@example.com", "human:e0@example.com")},
        )
        for n in range(ENGINEERS)
    ]  # fmt: skip
    can = SimpleNamespace(capabilities=SimpleNamespace(native_expiry=False, ends_sessions=True))
    catalogue = tuple(
        CatalogueEntry(privilege=Privilege(privilege=f"p-{n}"), risk="critical" if n == 0 else "high")
        for n in range(10)
    )
    return people, [
        Target(
            id=f"t-{n}", kind="postgresql", environment="prod", owners=(f"group:leads-{n % TEAMS}",), catalogue=catalogue,
            connector=can,
        )
        for n in range(TARGETS)
    ]  # fmt: skip


def verdicts(count: int, *, distinct: bool) -> Iterator[Verdict]:
    """What policy said to this many requests."""
    rules, (people, targets), chance = CedarPolicy(policies()), world(), random.Random(1)
    known: dict[Any, Verdict] = {}
    for at in range(count):
        person = chance.randrange(ENGINEERS)
        pick = chance.randrange(12)
        minutes = 1 + at if distinct else chance.choice((30, 60, 120, 240))
        asked = person, pick, minutes
        if asked not in known or distinct:
            who, target = people[person].identity.id, targets[(person * 7 + pick) % TARGETS]
            terms = Terms(
                kind="standard", requester=who, beneficiary=who, target=target.id, account=f"e{person}",
                scope=scope([Privilege(privilege=f"p-{(person + pick) % 10}")]), justification="sha256:" + "0" * 64, references={},
                incident=None, starts_at=None, duration=minutes * 60, public_key=None,
            )  # fmt: skip
            known[asked] = rules.judge_request(terms, people[person], people[person], target)
        yield known[asked]


def event_of(verdict: Verdict) -> PolicyDecided:
    """As it is recorded."""
    return PolicyDecided(
        permitted=verdict.permitted, policies=verdict.policies, determining=verdict.determining, reasons=verdict.reasons,
        obligations=verdict.obligations, evaluations=verdict.evaluations, entities=verdict.entities,
    )  # fmt: skip


def cpu() -> float:
    """Seconds of this process and those it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def replay(count: int) -> dict[str, Any]:
    """Each decision from its bytes to the same bytes."""
    files = CedarPolicy(policies()).files()
    stored = [encode_data(event_of(v)) for v in verdicts(count, distinct=True)]
    began, used = time.monotonic(), cpu()
    for raw in stored:
        event = decode_data(PolicyDecided.kind, raw)
        if not isinstance(event, PolicyDecided) or encode_data(decided_again(event, files)) != raw:
            raise SystemExit("a decision does not replay to the same bytes")
    wall, used = time.monotonic() - began, cpu() - used
    return {"decisions": count, "same_bytes": count, "cpu_s": round(used, 1), "wall_s": round(wall, 1)}


def fill(url: str, count: int, *, distinct: bool) -> int:
    """A store with this many verdicts; returns how many are distinct."""
    store = open_store(url, ORIGIN, mark_key(b"bench"))
    seen: set[bytes] = set()
    rows: list[dict[str, Any]] = []
    tickets: list[dict[str, Any]] = []
    for at, verdict in enumerate(verdicts(count, distinct=distinct)):
        when = NOW - timedelta(days=89) + timedelta(seconds=at * 60)
        ticket = new_id("req", when, at.to_bytes(10, "big"))
        data = encode_data(event_of(verdict))
        seen.add(data)
        entry = Entry(
            log=ORIGIN, ticket=ticket, seq=1, prev="sha256:" + "0" * 64, type=PolicyDecided.kind,
            actor=Actor(id="human:e1@example.com", via="bench"), at=wire(when), data=msgspec.Raw(data),
        )  # fmt: skip
        rows.append({"stream": ticket, "seq": 1, "body": entry.encode(), "mark": b""})
        tickets.append(
            {
                "id": ticket, "version": 2, "status": "closed", "requester": "", "beneficiary": "", "target": "", "account": "",
                "action": None, "due_at": None, "open_findings": 0, "kind": "standard", "state": b"{}",
            }
        )  # fmt: skip
        if len(rows) == 5000 or at + 1 == count:
            with writing(store.engine) as connection:
                connection.execute(insert(t.event), rows)
                connection.execute(insert(t.ticket), tickets)
            rows, tickets = [], []
    store.engine.dispose()
    return len(seen)


def backtest(folder: Path, count: int, processes: int, *, distinct: bool) -> dict[str, Any]:
    """Ask a set that is stricter on duration about all of them. A store that lies there already is taken as it is."""
    url = f"sqlite:///{folder}/store.db"
    different = None if (folder / "store.db").exists() else fill(url, count, distinct=distinct)
    store = open_store(url, ORIGIN, mark_key(b"bench"))
    began, used = time.monotonic(), cpu()
    found = compare_all(store.engine, policies("2h"), since=NOW - timedelta(days=90), processes=processes)
    wall, used = time.monotonic() - began, cpu() - used
    store.engine.dispose()
    return {
        "tickets": found["tickets"], "different_questions": different, "policies": POLICIES, "processes": processes,
        "otherwise": len(found["otherwise"]), "cpu_s": round(used, 1), "cpu_s_each_process": round(used / processes, 1),
        "wall_s": round(wall, 1), "tickets_a_cpu_s": round(found["tickets"] / used),
    }  # fmt: skip


def main() -> int:
    """Print one JSON line for each measurement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tickets", type=int, default=100_000)
    parser.add_argument("--decisions", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--distinct", action="store_true")
    parser.add_argument("--folder", type=Path, help="keep the store there, for the next run")
    options = parser.parse_args()
    if options.decisions:
        print(json.dumps({"replay": replay(options.decisions)}), flush=True)
    with ExitStack() as stack:
        folder = options.folder or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="muniment-bench-"))
        )
        folder.mkdir(parents=True, exist_ok=True)
        found = backtest(folder, options.tickets, options.processes, distinct=options.distinct)
    print(json.dumps({"backtest": found}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
