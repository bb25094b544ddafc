"""How many tickets a second can be filed and approved durably over HTTP, and how fast is a check of who holds what?

``lifecycles``   one person files, another approves: two POSTs, each acknowledged only when it is on the disk, of a real
                 `muniment serve` (API and controllers, sealing every second) in a process of its own. p50 and p99 are
                 of one POST. ``cpu_ms`` is what the server's process used for one lifecycle, sealing included: it says
                 more than the rate where other programs run.
``evaluations``  AuthZEN evaluations over HTTP, by keep-alive connections; ``cpu_us`` is the server's for each.
``in_process``   the same question to the index in memory, at 100,000 active grants, beside Cedar's own rate in the same
                 run: `is_authorized` with parsed policies, entities and schema, and one policy.

Run: ``.venv/bin/python bench/api.py [--seconds 5] [--clients 1 8 64] [--stores sqlite postgresql]``.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cedarpy
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace

from muniment.config import load
from muniment.core.instants import wire
from muniment.core.scope import Privilege
from muniment.core.ticket import Ticket
from muniment.demo.postgres import TemporaryPostgres, installed
from muniment.main import open_desk
from muniment.service import tokens
from muniment.service.desk import Desk
from muniment.service.filing import Ask, file_request
from muniment.service.holding import Holdings

GRANTS = 100_000
ANN, CYD, PEP = "human:ann@example.com", "human:cyd@example.com", "service_account:deploy"
KEY = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


@dataclass(frozen=True)
class Server:
    """A running `muniment serve`."""

    port: int
    pid: int
    tokens: dict[str, str]

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Client:
    """One keep-alive connection."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._http = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        self._http.connect()
        self._http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, path: str, body: bytes, who: str) -> Any:
        headers = {"Authorization": f"Bearer {self._server.tokens[who]}", "Content-Type": "application/json"}
        self._http.request("POST", path, body, headers)
        answer = self._http.getresponse()
        raw = answer.read()
        if answer.status not in {200, 201}:
            raise AssertionError(raw)
        return json.loads(raw)


@contextmanager
def served(folder: Path, url: str | None) -> Iterator[Server]:
    subprocess.run([sys.executable, "-m", "muniment", "init", str(folder)], check=True, capture_output=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "muniment.toml"
    text = config.read_text().replace(
        '"127.0.0.1:8642"', f'"127.0.0.1:{port}"\nrate = 1000000\nat_once = 128'
    )
    if url:
        text = text.replace('"sqlite:///var/muniment.db"', json.dumps(url))
    config.write_text(text)
    desk = open_desk(load(config))
    made = {
        who: tokens.create(desk, None, who, lasts=timedelta(days=1), scopes=("check",) if who == PEP else ())[
            "token"
        ]
        for who in (ANN, CYD, PEP)
    }
    desk.store.engine.dispose()
    command = [sys.executable, "-m", "muniment", "serve", "--config", str(config)]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            for _ in range(600):
                try:
                    Client(Server(port, process.pid, made))
                    break
                except OSError:
                    time.sleep(0.1)
            yield Server(port, process.pid, made)
        finally:
            process.terminate()
            process.wait(60)


def load_of(clients: int, seconds: float, work: Callable[[int], Iterator[float]]) -> tuple[int, list[float]]:
    """How often ``work`` was done by so many threads, and how long each part of it took."""
    done, parts = [0] * clients, list[float]()
    stop = time.perf_counter() + seconds

    def run(client: int) -> None:
        mine: list[float] = []
        while time.perf_counter() < stop:
            mine += work(client)
            done[client] += 1
        parts.extend(mine)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(clients)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return sum(done), parts


def lifecycles(server: Server, clients: int, seconds: float) -> dict[str, Any]:
    tomorrow = wire(datetime.now(UTC) + timedelta(days=1))
    body = json.dumps(
        {
            "target": "bastion", "scope": [{"privilege": "web-admin"}], "justification": "a measured reason",
            "duration": "PT1H", "public_key": KEY, "starts_at": tomorrow,  # so that nothing is provisioned here
        }
    ).encode()  # fmt: skip
    every = [Client(server) for _ in range(clients)]

    def once(client: int) -> Iterator[float]:
        began = time.perf_counter()
        ticket = every[client].post("/v1/requests", body, ANN)
        filed = time.perf_counter()
        yield filed - began
        yes = json.dumps({"decision": "approve", "digest": ticket["digest"]}).encode()
        after = every[client].post(f"/v1/requests/{ticket['id']}/decisions", yes, CYD)
        yield time.perf_counter() - filed
        if after["status"] != "approved":
            raise AssertionError(after["status"])

    load_of(clients, 1.0, once)  # warm
    before, began = server.cpu(), time.perf_counter()
    count, parts = load_of(clients, seconds, once)
    took, cpu = time.perf_counter() - began, server.cpu() - before
    cuts = statistics.quantiles(parts, n=100)
    return {
        "lifecycles": round(count / took, 1), "p50_ms": round(cuts[49] * 1000, 1), "p99_ms": round(cuts[98] * 1000, 1),
        "cpu_ms": round(cpu / count * 1000, 2), "cores": round(cpu / took, 2),
    }  # fmt: skip


def evaluations(server: Server, clients: int, seconds: float) -> dict[str, Any]:
    asked = {
        "subject": {"type": "user", "id": "ann@example.com"}, "action": {"name": "web-admin"},
        "resource": {"type": "target", "id": "bastion"},
    }  # fmt: skip
    body = json.dumps(asked).encode()
    every = [Client(server) for _ in range(clients)]

    def once(client: int) -> Iterator[float]:
        began = time.perf_counter()
        every[client].post("/access/v1/evaluation", body, PEP)
        yield time.perf_counter() - began

    load_of(clients, 0.5, once)
    before, began = server.cpu(), time.perf_counter()
    count, _ = load_of(clients, seconds, once)
    took, cpu = time.perf_counter() - began, server.cpu() - before
    return {
        "evaluations": round(count / took), "cpu_us": round(cpu / count * 1e6, 1),
        "one_core_would_do": round(count / cpu),
    }  # fmt: skip


def per_second(work: Callable[[], Any], seconds: float) -> float:
    done, began = 0, time.process_time()
    while time.process_time() - began < seconds:
        for _ in range(100):
            work()
        done += 100
    return done / (time.process_time() - began)


def in_process(desk: Desk, seconds: float) -> dict[str, Any]:
    """Per second of processor time."""
    ask = Ask(
        target="bastion", scope=(Privilege(privilege="web-admin"),), justification="x", duration=timedelta(hours=1),
        public_key=KEY,
    )  # fmt: skip
    filed = file_request(desk, desk.caller(ANN, "bench"), ask)
    now = desk.clock.now()
    index = Holdings(desk)
    for n in range(GRANTS):
        index.take(_active(filed, n, now))
    what = Privilege(privilege="web-admin")
    who = f"human:p{GRANTS // 2}@example.com"
    if index.check(who, "bastion", what, now) is None:
        raise AssertionError("the grant is not in the index")
    mine = per_second(lambda: index.check(who, "bastion", what, now), seconds)
    schema = cedarpy.Schema.from_str(
        'entity U; entity T; action "use" appliesTo { principal: [U], resource: [T] };'
    )
    policies = cedarpy.PolicySet.from_str(
        'permit (principal == U::"ann", action == Action::"use", resource == T::"db");'
    )
    entities = cedarpy.Entities.from_json_str(
        json.dumps(
            [
                {"uid": {"type": t, "id": i}, "attrs": {}, "parents": []}
                for t, i in (("U", "ann"), ("T", "db"))
            ]
        ),
        schema=schema,
    )
    request = {"principal": 'U::"ann"', "action": 'Action::"use"', "resource": 'T::"db"', "context": {}}
    if not cedarpy.is_authorized(request, policies, entities, schema).allowed:
        raise AssertionError("Cedar denies what its policy permits")
    cedar = per_second(lambda: cedarpy.is_authorized(request, policies, entities, schema), seconds)
    revoked = replace(_active(filed, GRANTS // 2, now), status="revoking", version=99)
    began = time.perf_counter()
    index.take(revoked)
    seen = index.check(who, "bastion", what, now) is None
    return {
        "in_process": round(mine), "cedar": round(cedar), "ratio": round(mine / cedar, 1), "grants": len(index) + 1,
        "revoke_seen": seen, "revoke_us": round((time.perf_counter() - began) * 1e6),
    }  # fmt: skip


def _active(filed: Ticket, n: int, now: datetime) -> Ticket:
    terms = replace(filed.terms, beneficiary=f"human:p{n}@example.com")
    return replace(
        filed, id=f"req_{n:026d}", status="active", terms=terms, granted=terms.scope, starts_at=wire(now),
        expires_at=wire(now + timedelta(hours=1)),
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--stores", nargs="+", default=["sqlite", "postgresql"])
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="muniment-bench-")))
        for kind in options.stores:
            url = None
            if kind == "postgresql":
                postgres = stack.enter_context(TemporaryPostgres(installed()[max(installed())], fsync=True))
                url = f"postgresql://postgres:{postgres.password}@127.0.0.1:{postgres.port}/postgres"
            with served(folder / kind, url) as server:
                for clients in options.clients:
                    figures = lifecycles(server, clients, options.seconds)
                    print(json.dumps({"store": kind, "clients": clients, **figures}), flush=True)
                if kind == "sqlite":
                    print(json.dumps({"clients": 8, **evaluations(server, 8, options.seconds)}), flush=True)
            if kind == "sqlite":
                desk = open_desk(load(folder / kind / "muniment.toml"))
                print(json.dumps(in_process(desk, min(options.seconds, 2.0))), flush=True)
                desk.store.engine.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main())
