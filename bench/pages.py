"""How long does the server take for each page, where there are 100,000 tickets? For a member, an approver and an auditor.

The store is filled with whole lives of tickets: five that were really lived on an SSH certificate authority, copied to other
people, targets and days of a year, by the write path itself, and sealed. Then a `muniment serve --only api` in a process of
its own is asked for every page over HTTP, on one connection: what is measured is the server and the loopback, and no
browser. ``p50``, ``p95`` and ``most`` are milliseconds, ``kb`` what one page has without its files.

A store of 100,000 tickets takes minutes to fill: ``--keep DIR`` keeps it, and uses the one that is there.
Run: ``.venv/bin/python bench/pages.py [--tickets 100000] [--rounds 30] [--keep DIR]``.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from muniment.cli.session import record
from muniment.config import load
from muniment.core.errors import MunimentError
from muniment.core.events import decode_data, encode_data
from muniment.core.instants import parse_instant, wire
from muniment.core.scope import Privilege
from muniment.core.ticket import Recorded, Ticket
from muniment.main import open_desk
from muniment.ports import Actor, Append, Stream
from muniment.service import deciding
from muniment.service.desk import Desk, fold
from muniment.service.filing import Ask, file_request
from muniment.service.ids import new_id
from muniment.service.login_links import make
from muniment.service.pursuing import pursue
from muniment.service.sealing import seal

PEOPLE, TARGETS = 500, 20
ANN, BO, CYD, AUD = (f"human:{name}@example.com" for name in ("ann", "bo", "cyd", "aud"))
KEY = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
#: of a hundred tickets, how many became what
MIX = (("closed", 91), ("denied", 4), ("glass", 2), ("active", 2), ("pending", 1))
BATCH = 400
AT = re.compile(r'"(20\d\d-\d\d-\d\dT[0-9:.]+Z)"')


def configured(folder: Path) -> Path:
    """As `muniment init` makes it, with more people and targets."""
    subprocess.run([sys.executable, "-m", "muniment", "init", str(folder)], check=True, capture_output=True)
    config = folder / "muniment.toml"
    text = config.read_text().replace('"127.0.0.1:8642"', f'"127.0.0.1:{free_port()}"\nrate = 1000000')
    for n in range(TARGETS):
        text += f'\n[targets.host-{n}]\nconnector = "openssh"\nenvironment = "prod"\nowners = ["group:platform"]\n'
        text += f'ca_key = "file:keys/ssh-ca"\nkrl = "var/host-{n}.krl"\n'
        for p in range(5):
            text += f'[[targets.host-{n}.privileges]]\nname = "{"web-admin" if p == 0 else f"p-{p}"}"\nrisk = "high"\nbounded = true\n'
    config.write_text(text)
    people = folder / "identities.toml"
    more = "".join(
        f'\n[identities."human:e{n}@example.com"]\nname = "Engineer {n}"\ngroups = ["engineers"]\n' for n in range(PEOPLE)
    )  # fmt: skip
    people.write_text(people.read_text() + more)
    return config


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ── filling ──


def lived(desk: Desk) -> dict[str, list[Recorded]]:
    """One ticket of each kind, really lived."""

    def filed(who: str = ANN, **more: Any) -> Ticket:
        ask: dict[str, Any] = {
            "target": "host-0", "scope": (Privilege(privilege="web-admin"),), "duration": timedelta(hours=4),
            "justification": "The web servers answer with errors since the release; I look at their logs.", "public_key": KEY,
        }  # fmt: skip
        return file_request(desk, desk.caller(who, "api"), Ask(**(ask | more)))

    def given() -> Ticket:
        ticket = filed()
        deciding.approve(desk, desk.caller(CYD, "api"), ticket.id, digest=ticket.digest)
        return pursue(desk, ticket.id)

    active, closed, denied, pending = given(), given(), filed(), filed()
    deciding.give_back(desk, desk.caller(ANN, "api"), closed.id)
    pursue(desk, closed.id)
    deciding.deny(desk, desk.caller(CYD, "api"), denied.id, comment="Not today.", digest=denied.digest)
    glass = filed(BO, break_glass=True, incident="INC-1")
    pursue(desk, glass.id)
    tickets = {"active": active, "closed": closed, "denied": denied, "pending": pending, "glass": glass}
    return {name: desk.store.entries(ticket.id) for name, ticket in tickets.items()}


class Copy:
    """A ticket on its way through its life, a part at a time."""

    def __init__(self, story: list[Recorded], person: str, target: str, ticket: str, begin: datetime) -> None:
        self.ticket: Ticket | None = None
        self.stream = Stream(id=ticket, version=0, head=None)
        self._begin, self._first = begin, parse_instant(story[0].at)
        self._slower = random.Random(ticket).randrange(1, 400)
        asker = story[0].actor
        names = ((asker, person), ('"ann"', f'"{person[6:].partition("@")[0]}"'), ("host-0", target))
        self.parts: list[tuple[Actor, datetime, tuple[Any, ...]]] = []
        last = ("", "")
        for each in story:
            raw = encode_data(each.event).decode()
            for old, new in names:
                raw = raw.replace(old, new)
            event = decode_data(each.event.kind, AT.sub(self._moved, raw).encode())
            who = (person if each.actor == asker else each.actor, each.via)
            if who == last:
                actor, at, events = self.parts[-1]
                self.parts[-1] = actor, at, (*events, event)
            else:
                self.parts.append((Actor(id=who[0], via=who[1]), self._at(each.at), (event,)))
            last = who

    def _at(self, text: str) -> datetime:
        return self._begin + (parse_instant(text) - self._first) * self._slower

    def _moved(self, found: re.Match[str]) -> str:
        return f'"{wire(self._begin + (parse_instant(found[1]) - self._first))}"'

    def next(self) -> Append:
        actor, at, events = self.parts.pop(0)
        self.ticket = fold(self.ticket, events, actor, at, self.stream.id)
        return Append(stream=self.stream, actor=actor, events=events, at=at, ticket=self.ticket)


def fill(desk: Desk, count: int) -> dict[str, float]:
    """So many tickets, over a year, oldest first; and how long it took."""
    began, chance = time.perf_counter(), random.Random(1)
    stories, now = lived(desk), desk.clock.now()
    kinds = [name for name, share in MIX for _ in range(share)]
    step, done = timedelta(days=365) / count, 0
    while done < count:
        copies = []
        for at in range(done, min(done + BATCH, count)):
            late = at > count * 0.99  # what is open was filed of late
            kind = kinds[at % 100]
            kind = (
                chance.choice(("active", "pending"))
                if late
                else ("closed" if kind in {"active", "pending"} else kind)
            )
            begin = now - timedelta(days=365) + step * at - timedelta(hours=3)
            if late:  # within its window still: where access is over and nobody takes it away, work is shed
                begin = now - timedelta(minutes=chance.uniform(1, 30))
            ticket = new_id("req", begin, chance.randbytes(10))
            person = ANN if at % 400 == 0 else f"human:e{chance.randrange(PEOPLE)}@example.com"
            copies.append(Copy(stories[kind], person, f"host-{chance.randrange(TARGETS)}", ticket, begin))
        done += len(copies)
        while waiting := [copy for copy in copies if copy.parts]:
            for copy, result in zip(
                waiting, desk.store.append_many([c.next() for c in waiting]), strict=True
            ):
                if isinstance(result, MunimentError):
                    raise result
                copy.stream = result.stream
        sys.stderr.write(f"\r{done} tickets")
    filled = time.perf_counter()
    seal(desk)
    return {"filled_s": round(filled - began, 1), "sealed_s": round(time.perf_counter() - filled, 1)}


# ── measuring ──


class Browser:
    """One keep-alive connection of somebody who signed in."""

    def __init__(self, port: int, cookie: str = "") -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._http.connect()
        self._http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._cookie = cookie

    def ask(
        self, method: str, path: str, body: str = "", **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        given = {"Accept": "text/html", "Cookie": self._cookie, **headers}
        self._http.request(method, path, body or None, given)
        answer = self._http.getresponse()
        return answer.status, answer.headers, answer.read()


@contextmanager
def served(config: Path) -> Iterator[Callable[[str], Browser]]:
    """A server in a process of its own, and a way to come in as somebody."""
    settings = load(config)
    _, port = settings.server.address
    desk = open_desk(settings)
    command = [sys.executable, "-m", "muniment", "serve", "--only", "api", "--config", str(config)]
    with (
        (config.parent / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            for _ in range(1200):
                try:
                    Browser(port)
                    break
                except OSError:
                    time.sleep(0.1)

            def enter(who: str) -> Browser:
                token = str(make(desk, None, who, settings.server.public_url)["link"]).partition("#")[2]
                headers = {
                    "Origin": settings.server.public_url,
                    "Content-Type": "application/x-www-form-urlencoded",
                }
                status, found, _ = Browser(port).ask("POST", "/auth/link", f"token={token}", **headers)
                if status != 303:
                    raise AssertionError(f"{who} cannot come in: {status}")
                return Browser(port, found["set-cookie"].partition(";")[0])

            yield enter
        finally:
            process.terminate()
            process.wait(60)
            desk.store.engine.dispose()


def pages(desk: Desk) -> dict[str, list[str]]:
    """Every page, with some of what it can be asked for."""
    chance = random.Random(2)
    with desk.store.engine.connect() as connection:
        ids = [row[0] for row in connection.exec_driver_sql("SELECT id FROM ticket ORDER BY id")]
        mine = [
            row[0]
            for row in connection.exec_driver_sql(
                f"SELECT id FROM ticket WHERE requester = '{ANN}' ORDER BY id"
            )
        ]
    some = [chance.choice(ids) for _ in range(20)]
    people = [f"human:e{chance.randrange(PEOPLE)}@example.com" for _ in range(10)]
    return {
        "/": ["/"],
        "/tickets": ["/tickets", *(f"/tickets?cursor={each}" for each in some[:8])],
        "/tickets, narrowed": [
            *(f"/tickets?target=host-{n}&status=closed" for n in range(6)), *(f"/tickets?beneficiary={p}" for p in people),
            "/tickets?status=pending", "/tickets?status=denied&target=host-3",
        ],
        "/grants": ["/grants", "/grants?target=host-4"],
        "/findings": ["/findings", "/findings?resolved=true", "/findings?target=host-1"],
        "/targets": ["/targets"],
        "/targets/{target}": [f"/targets/host-{n}" for n in range(5)],
        "/ask": ["/ask", "/ask?q=host+web"],
        "/ask/{target}": ["/ask/host-3?privilege=web-admin"],
        "/requests/{ticket}": [f"/requests/{each}" for each in some],
        "/requests/{ticket}, own": [f"/requests/{each}" for each in mine[-10:]],
        "/people": ["/people", "/people?q=engineer+7", "/people?group=platform"],
        "/person": [f"/person?id={p}" for p in (ANN, *people)],
        "/audit": ["/audit"],
        "/audit, narrowed": [
            "/audit?kind=approval-recorded", f"/audit?who={CYD}", f"/audit?who={CYD}&kind=request-denied", "/audit?target=host-2",
            "/audit?target=host-2&kind=request-denied", "/audit?since=2026-06-01&until=2026-06-02",
            "/audit?kind=request-denied&until=2026-02-02", *(f"/audit?about={each}" for each in some[:4]),
            f"/audit?about={ANN}", "/audit?kind=policy-adopted", "/audit?who=system:muniment&kind=identity-recorded",
        ],
        "/audit/trends": ["/audit/trends"],
        "/audit/sample": ["/audit/sample"],
        "/audit/sample, drawn": ["/audit/sample?seed=1&count=25", "/audit/sample?seed=2&count=25&since=2026-09-01&target=host-7"],
        "/policy": ["/policy"],
        "/policy/what-if": ["/policy/what-if?who=e7@example.com&target=host-3&privilege=web-admin&duration=1h"],
        "/policy/backtest": ["/policy/backtest"],
        "/ledger": ["/ledger"],
    }  # fmt: skip


def measure(browser: Browser, paths: list[str], rounds: int) -> dict[str, Any] | None:
    """One page, asked for again and again; None for somebody who has it not."""
    taken, sizes = [], []
    for at in range(max(rounds, len(paths)) + 2):
        began = time.perf_counter()
        status, _, body = browser.ask("GET", paths[at % len(paths)])
        if status == 403:
            return None
        if status not in {200, 404}:
            raise AssertionError(f"{paths[at % len(paths)]}: {status}")
        if status == 200 and at >= 2:  # the first ones build what is kept
            taken.append((time.perf_counter() - began) * 1000)
            sizes.append(len(body))
    if not taken:
        return None
    taken.sort()
    return {
        "p50": round(taken[len(taken) // 2], 1), "p95": round(taken[min(len(taken) - 1, int(len(taken) * 0.95))], 1),
        "most": round(taken[-1], 1), "kb": round(max(sizes) / 1000, 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tickets", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--fill-only", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary) / "access"
        config = folder / "muniment.toml"
        found: dict[str, Any] = {}
        if not config.exists():
            config = configured(folder)
            desk = open_desk(load(config))
            record(desk)
            found |= fill(desk, options.tickets)
            desk.store.engine.dispose()
        desk = open_desk(load(config))
        found["tickets"] = desk.store.count_tickets()
        asked = pages(desk)
        desk.store.engine.dispose()
        if not options.fill_only:
            with served(config) as enter:
                for name, who in (("member", ANN), ("approver", CYD), ("auditor", AUD)):
                    browser = enter(who)
                    rows = {page: measure(browser, paths, options.rounds) for page, paths in asked.items()}
                    found[name] = {page: row for page, row in rows.items() if row}
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    slow = [
        (n, p, r["p95"])
        for n in ("member", "approver", "auditor")
        for p, r in found.get(n, {}).items()
        if r["p95"] > 50
    ]
    sys.stderr.write(f"\nover 50 ms at p95: {slow or 'none'}\n")


if __name__ == "__main__":
    main()
