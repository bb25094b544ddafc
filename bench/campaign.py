"""How long does a campaign take whose every item is a membership on a real PostgreSQL, from its opening to its end?

Everything is done as people do it: `muniment serve` runs in a process of its own, the campaign is opened, decided in
part, signed off and exported by the command line (``--server``), the rest is decided over HTTP by reviewers of their own,
and controllers take away what was revoked. The database is asked past Muniment, before and after: what was kept is there,
what was revoked is not. At the end the ledger is verified, and the exported file's list against its digest.

Run: ``.venv/bin/python bench/campaign.py [--items 10000] [--revoked 1000] [--postgresql]``. ``--postgresql``: the store
is on PostgreSQL as well. Wall-clock seconds of each step; the exit status says whether everything was as decided.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from muniment.config import load
from muniment.core.campaign_items import read
from muniment.demo.postgres import TemporaryPostgres
from muniment.main import open_desk
from muniment.service.tokens import create

OPS, AUD = "human:ops@example.com", "human:aud@example.com"
REVIEWERS = [f"human:reviewer{n}@example.com" for n in range(4)]
NAME = "everything"
TARGET = """
[reconcile]
baseline = "baseline.toml"

[targets.pg]
connector = "postgresql"
environment = "prod"
owners = ["human:reviewer0@example.com"]
dsn = "env:BENCH_PG_DSN"
account = "{local_part}"
[[targets.pg.privileges]]
name = "reader"
risk = "medium"
"""


def planted(server: TemporaryPostgres, items: int) -> psycopg.Connection:
    """So many accounts in one role, past Muniment: from version 16 on its role takes away what itself gave, and no more."""
    admin = psycopg.connect(server.dsn(), autocommit=True)
    admin.execute("CREATE ROLE muniment LOGIN CREATEROLE PASSWORD 'bench'")
    admin.execute("GRANT pg_signal_backend, pg_read_all_stats TO muniment")
    admin.execute("CREATE ROLE reader")
    admin.execute("GRANT reader TO muniment WITH ADMIN OPTION")
    for start in range(0, items, 500):
        batch = [sql.Identifier(account(n)) for n in range(start, min(start + 500, items))]
        for each in batch:
            admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(each))
        admin.execute("SET ROLE muniment")
        admin.execute(sql.SQL("GRANT reader TO {}").format(sql.SQL(", ").join(batch)))
        admin.execute("RESET ROLE")
    return admin


def account(number: int) -> str:
    return f"account{number:06}"


def members(admin: psycopg.Connection) -> set[str]:
    rows = admin.execute(
        "SELECT member::regrole::text FROM pg_auth_members WHERE roleid = 'reader'::regrole"
    ).fetchall()
    return {name for (name,) in rows} - {"muniment"}


def initialised(folder: Path, items: int, url: str | None) -> Path:
    subprocess.run([sys.executable, "-m", "muniment", "init", str(folder)], check=True, capture_output=True)
    config = folder / "muniment.toml"
    text = config.read_text() + TARGET
    text = text.replace('"127.0.0.1:8642"', f'"127.0.0.1:{free_port()}"\nrate = 1000000')
    if url:
        text = text.replace('"sqlite:///var/muniment.db"', json.dumps(url))
    config.write_text(text)
    people = "".join(f'\n[identities."{who}"]\nroles = ["approver"]\n' for who in REVIEWERS)
    with (folder / "identities.toml").open("a") as file:
        file.write(people)
    lines = (
        f'[[standing]]\ntarget = "pg"\naccount = "{account(n)}"\nprivilege = "reader"\n'
        f'owner = "{REVIEWERS[n % len(REVIEWERS)]}"\nrecertify_by = 2026-01-01\nreason = "as found"\n'
        for n in range(items)
    )
    (folder / "baseline.toml").write_text("".join(lines))
    return config


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(config: Path) -> Iterator[tuple[int, dict[str, str]]]:
    desk = open_desk(load(config))

    made = {who: create(desk, None, who, lasts=timedelta(days=1))["token"] for who in (OPS, AUD, *REVIEWERS)}
    desk.store.engine.dispose()
    port = int(load(config).server.listen.rpartition(":")[2])
    command = [sys.executable, "-m", "muniment", "serve", "--config", str(config)]
    with (
        (config.parent / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            for _ in range(600):
                try:
                    if asked(port, "GET", "/readyz", "")[0] == 200:
                        break
                except OSError:
                    time.sleep(0.1)
            yield port, made
        finally:
            process.terminate()
            process.wait(60)


def asked(port: int, method: str, path: str, token: str, body: Any = None) -> tuple[int, Any]:
    http_ = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"} if token else {}
    http_.request(method, path, None if body is None else json.dumps(body), headers)
    answer = http_.getresponse()
    raw = answer.read()
    http_.close()
    return answer.status, json.loads(raw) if raw.startswith(b"{") else raw


class Program:
    """The command line, asking the server as somebody."""

    def __init__(self, port: int, tokens: dict[str, str]) -> None:
        self._url, self._tokens = f"http://127.0.0.1:{port}", tokens

    def __call__(self, who: str, *words: str, ok: tuple[int, ...] = (0,)) -> Any:
        made = subprocess.run(
            [sys.executable, "-m", "muniment", "--server", self._url, *words, "--json"], capture_output=True, text=True,
            check=False, env=os.environ | {"MUNIMENT_TOKEN": self._tokens[who]},
        )  # fmt: skip
        if made.returncode not in ok:
            raise AssertionError(f"{words}: {made.returncode} {made.stderr}")
        return json.loads(made.stdout) if made.stdout else None


class Steps:
    """How long each step took, told as it ends."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    def done(self, step: str, said: str = "") -> None:
        now = time.perf_counter()
        self.seconds[step] = round(now - self._began, 2)
        self._began = now
        print(f"{self.seconds[step]:8.2f} s  {step}  {said}", file=sys.stderr, flush=True)


def whole(
    port: int, tokens: dict[str, str], folder: Path, admin: psycopg.Connection, revoked: int
) -> dict[str, Any]:
    muniment, steps, before = Program(port, tokens), Steps(), members(admin)
    muniment(OPS, "reconcile", "pg", ok=(0, 1))
    steps.done("inventory and reconciliation", f"{len(before)} memberships")
    made = muniment(
        OPS, "campaign", "open", NAME, "--target", "pg", "--privilege", "reader", "--class", "baseline", "--sample", "1",
        "--reason", "a measured campaign",
    )  # fmt: skip
    items, singly = made["items"], made["singly"]
    steps.done("open (command line)", f"{items} items, {singly} of them to be kept one by one")
    found = muniment(AUD, "campaign", "show", NAME)["list"]
    steps.done("show (command line)")
    by = {who: [each for each in found if each["reviewer"] == who] for who in REVIEWERS}
    gone = {each["number"]: each["account"] for each in found[singly : singly + revoked]}
    first, *others = REVIEWERS
    mine = [each["number"] for each in by[first] if each["number"] in gone]
    muniment(
        first, "campaign", "decide", NAME, "revoke", "--items", ",".join(map(str, mine)), "--reason", "left the team"
    )  # fmt: skip
    kept = muniment(first, "campaign", "decide", NAME, "keep", "--undecided", "--reason", "reads reports")
    steps.done("decide (command line)", f"{len(mine)} revoked, {kept['decided']} kept at once")
    where = f"/v1/campaigns/{NAME}/decisions"
    for who in others:
        numbers = [each["number"] for each in by[who] if each["number"] in gone]
        for decision, chosen in (
            ("revoke", {"items": ",".join(map(str, numbers))}), ("keep", {"decision": "none"})
        ):  # fmt: skip
            if not numbers and decision == "revoke":
                continue
            body = {"decision": decision, "reason": "looked at", "where": chosen}
            status, said = asked(port, "POST", where, tokens[who], body)
            assert status == 200, said
    steps.done("decide (HTTP)", f"{len(gone) - len(mine)} revoked, and the rest at once")
    one_by_one = [each for who in REVIEWERS for each in by[who] if each["number"] < singly]
    for each in one_by_one:
        body = {
            "decision": "keep",
            "reason": f"{each['account']} is needed",
            "where": {"items": str(each["number"])},
        }
        status, said = asked(port, "POST", where, tokens[each["reviewer"]], body)
        assert status == 200, said
    steps.done("decide one by one (HTTP)", f"{len(one_by_one)} items")
    for _ in range(20):
        made = muniment(AUD, "campaign", "close", NAME, "--comment", "looked at the sample", ok=(0, 1))
        if made["status"] == "closed":
            break
    steps.done(
        "close (command line): taken away and seen gone", f"{made['revoked']} memberships, {made['status']}"
    )
    out = folder / "campaign.zip"
    muniment(AUD, "campaign", "export", NAME, "--out", str(out))
    with zipfile.ZipFile(out) as archive:
        lines = archive.read("items.jsonl")
    steps.done("export (command line)", f"{out.stat().st_size} bytes")
    after = members(admin)
    again = muniment(OPS, "reconcile", "pg", ok=(0, 1))
    left = [f for f in again["findings"] if f["holding"]["account"].startswith("account")]
    steps.done("reconciliation afterwards", f"{len(left)} findings of them")
    sound = {
        "closed": made["status"] == "closed",
        "exactly what was revoked is gone": before - after == set(gone.values()) and after <= before,
        "list as in the ledger": f"sha256:{hashlib.sha256(lines).hexdigest()}" == made["digest"],
        "items of the list": len(list(map(read, lines.splitlines()))) == items,
        "nothing is overdue any more": not left,
    }
    return {"items": items, "singly": singly, "revoked": len(gone), "seconds": steps.seconds, "sound": sound}


def main() -> int:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--items", type=int, default=10_000)
    arguments.add_argument("--revoked", type=int, default=1000)
    arguments.add_argument("--postgresql", action="store_true")
    chosen = arguments.parse_args()
    with ExitStack() as stack:
        server = stack.enter_context(TemporaryPostgres(fsync=False))
        admin = stack.enter_context(planted(server, chosen.items))
        os.environ["BENCH_PG_DSN"] = server.dsn("muniment", "bench")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="muniment-campaign-")))
        url = None
        if chosen.postgresql:
            url = stack.enter_context(TemporaryPostgres()).dsn()
        config = initialised(folder / "office", chosen.items, url)
        with served(config) as (port, tokens):
            made = whole(port, tokens, folder, admin, chosen.revoked)
        began = time.perf_counter()
        verified = subprocess.run(
            [sys.executable, "-m", "muniment", "ledger", "verify", "--config", str(config), "--json"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        made["sound"]["ledger verifies"] = verified.returncode == 0
        made["entries"] = json.loads(verified.stdout)["events"] if verified.stdout else None
        made["seconds"]["ledger verify"] = round(time.perf_counter() - began, 2)
    print(json.dumps(made, indent=2))
    return 0 if all(made["sound"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
