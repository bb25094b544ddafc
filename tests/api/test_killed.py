"""I27: kill -9 of the server under load, at any moment: every 2xx is in the ledger.

On SQLite and on PostgreSQL, whose server lives on. More runs: MUNIMENT_KILLS=200, and ``-s`` to see the figures.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import make_url

from api.conftest import ANN, CYD, REQUEST, free_port, initialised
from muniment.config import load
from muniment.main import open_desk
from muniment.service import tokens
from muniment.service.ledgering import verify
from muniment.service.sealing import seal
from store.conftest import POSTGRES, SQLITE
from store.stores import empty_postgres

KILLS = int(os.environ.get("MUNIMENT_KILLS", "3"))
CLIENTS = 6


def client(url: str, asks: str, decides: str, done: dict[str, str], lock: threading.Lock) -> None:
    """File and approve until the server is gone; remember what was acknowledged."""
    with httpx.Client(base_url=url, timeout=20, trust_env=False) as http:
        try:
            while True:
                answer = http.post(
                    "/v1/requests", json=REQUEST,
                    headers={"Authorization": f"Bearer {asks}", "Idempotency-Key": str(uuid4())},
                )  # fmt: skip
                if answer.status_code != 201:
                    continue
                ticket = answer.json()
                with lock:
                    done[ticket["id"]] = "pending"
                answer = http.post(
                    f"/v1/requests/{ticket['id']}/decisions",
                    json={"decision": "approve", "digest": ticket["digest"]},
                    headers={"Authorization": f"Bearer {decides}"},
                )
                if answer.status_code == 201:
                    with lock:
                        done[ticket["id"]] = "approved"
        except httpx.HTTPError:
            return


@pytest.fixture(params=[SQLITE, POSTGRES])
def store_url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Where the store is; None: where ``init`` puts it."""
    if request.param == "sqlite":
        return None
    server = request.getfixturevalue(request.param)
    monkeypatch.setenv("PGPASSWORD", server.password)  # a configuration holds none
    return make_url(empty_postgres(server))._replace(password=None).render_as_string()


@pytest.mark.slow
def test_every_2xx_is_in_the_ledger(tmp_path: Path, store_url: str | None) -> None:
    config = initialised(tmp_path / "access")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    config.write_text(
        config.read_text()
        .replace("127.0.0.1:8642", f"127.0.0.1:{port}")
        .replace("[server]", "[server]\nrate = 100000")
        .replace("sqlite:///var/muniment.db", store_url or "sqlite:///var/muniment.db")
    )
    desk = open_desk(load(config))
    asks, decides = (tokens.create(desk, None, who, lasts=timedelta(days=1))["token"] for who in (ANN, CYD))
    desk.store.engine.dispose()
    chance = random.Random(7)
    done: dict[str, str] = {}
    lock = threading.Lock()
    for _ in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "-m", "muniment", "serve", "--only", "api", "--config", str(config)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_until_ready(url, process)
            before = len(done)
            clients = [
                threading.Thread(target=client, args=(url, asks, decides, done, lock)) for _ in range(CLIENTS)
            ]
            for each in clients:
                each.start()
            while len(done) < before + CLIENTS:  # under load
                assert process.poll() is None
                time.sleep(0.01)
            time.sleep(chance.random() / 2)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        for each in clients:
            each.join(60)
            assert not each.is_alive()
    desk = open_desk(load(config))
    states = desk.store.read_many(done)
    assert states.keys() == done.keys()
    for ticket, (_, state) in states.items():
        assert done[ticket] == "pending" or state.status != "pending", ticket
    seal(desk)
    verified = verify(desk)
    assert verified["ok"]
    dialect, approved = desk.store.engine.dialect.name, sum(how == "approved" for how in done.values())
    print(
        f"\n{dialect}: {KILLS} kills, {len(done)} requests and {approved} approvals were acknowledged, and are among the"
        f" {verified['events']} events of a ledger that verifies"
    )
    assert dialect == ("postgresql" if store_url else "sqlite")
    desk.store.engine.dispose()


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None
        try:
            if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    pytest.fail("the server does not come up")
