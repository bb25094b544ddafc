"""A witness as a process: HTTP, bounds, and what a kill leaves."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from ledger.logs import ORIGIN, SIGNER, build, head, seal
from muniment.ledger.checkpoint import Checkpoint
from muniment.ledger.cosignature import cosignatures
from muniment.ledger.merkle import consistency_proof, leaf_hash
from muniment.ledger.note import parse_note
from muniment.ledger.wire import write_base64
from witness.processes import WitnessProcess, witness

ENTRIES = build(["req_1"] * 40)
OTHER = build(["req_2"] * 40)


def request(old: int, size: int, entries: list[bytes] = ENTRIES) -> bytes:
    hashes = consistency_proof(old, [leaf_hash(e) for e in entries[:size]]) if 0 < old < size else []
    lines = "".join(f"{write_base64(each)}\n" for each in hashes)
    return f"old {old}\n{lines}\n{seal(entries[:size])}".encode()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WitnessProcess]:
    with witness(tmp_path_factory.mktemp("witness") / "w", "w.example.org/1", start=False) as made:
        yield made.knows(SIGNER.verifier).start()


def raw(process: WitnessProcess, *parts: bytes, pause: float = 0) -> bytes:
    """What comes back on a connection that is sent these bytes, until it is closed or says enough."""
    with socket.create_connection(("127.0.0.1", process.port), timeout=60) as connection:
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:
                break
            time.sleep(pause)
        found = b""
        try:
            while b"\r\n\r\n" not in found and (part := connection.recv(65536)):
                found += part
        except ConnectionResetError:
            pass
        return found


def test_a_log_and_a_monitor_get_what_the_specification_says(served: WitnessProcess):
    status, lines = served.post(request(0, 9))
    assert status == 200
    assert cosignatures(seal(ENTRIES[:9]) + lines.decode(), [served.verifier])
    try:
        urllib.request.urlopen(f"{served.url}/add-checkpoint", data=request(3, 12), timeout=30)
        pytest.fail("it has seen 9")
    except urllib.error.HTTPError as error:
        with error:
            assert (error.code, error.headers["content-type"], error.read()) == (
                409,
                "text/x.tlog.size",
                b"9\n",
            )
    url = f"{served.url}/{sha256(ORIGIN.encode()).hexdigest()}/checkpoint"
    with urllib.request.urlopen(url, timeout=30) as answer:
        note = answer.read().decode()
    assert Checkpoint.parse(parse_note(note).text) == head(ENTRIES[:9])
    assert cosignatures(note, [served.verifier])
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{served.url}/{sha256(b'other').hexdigest()}/checkpoint", timeout=30)
    with caught.value:
        assert caught.value.code == 404


@pytest.mark.parametrize(
    ("what", "sent", "status"),
    [
        ("a GET of add-checkpoint", b"GET /add-checkpoint HTTP/1.1\r\nHost: x\r\n\r\n", b" 405 "),
        ("a DELETE", b"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", b" 405 "),
        ("another path", b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b" 404 "),
        ("5,000 headers", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n", b" 431 "),
        ("not HTTP", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b" 400 "),
        ("a body that is too large", b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n" + b"x" * 90000, b" 413 "),
        ("chunks for ever", b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + b"x" * 4096 + b"\r\n" + (b"1000\r\n" + b"x" * 4096 + b"\r\n") * 30, b" 413 "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_no_such_request_is_refused_and_it_goes_on(
    served: WitnessProcess, what: str, sent: bytes, status: bytes
):
    assert status in raw(served, sent).partition(b"\r\n")[0] + b" ", what
    assert raw(served, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200 ")


@pytest.mark.slow
def test_slow_clients_are_cut_off_and_hold_up_nobody(served: WitnessProcess):
    """Fifty that never end their request, in headers and in bodies; others are served meanwhile."""
    found: list[bytes] = []
    head_only = b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\n"
    starts = (head_only, head_only + b"Content-Length: 100\r\n\r\nold 1")
    threads = [
        threading.Thread(target=lambda n=n: found.append(raw(served, starts[n % 2])), daemon=True)
        for n in range(50)
    ]
    for thread in threads:
        thread.start()
    assert raw(served, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert any(thread.is_alive() for thread in threads), "they were still waiting"
    for thread in threads:
        thread.join(60)
    answered = [each for each in found if each]
    assert len(found) == 50
    assert all(b" 408 " in each for each in answered)
    assert len(answered) >= 25, "who has sent headers is told"


@pytest.mark.slow
def test_killed_at_any_moment_it_never_signs_two_histories(tmp_path: Path):
    """Logs with two histories press on while it is killed and started again; every signature ever seen is of one."""
    chance = random.Random(7)
    seen: list[Checkpoint] = []
    lock = threading.Lock()
    stopping = threading.Event()
    with witness(tmp_path / "w", "w.example.org/1", start=False) as made:
        made.knows(SIGNER.verifier).start()

        def press(entries: list[bytes], seed: int) -> None:
            mine, old = random.Random(seed), 0
            while not stopping.is_set():
                size = min(len(entries), old + mine.randrange(1, 3))
                try:
                    status, body = made.post(request(old, size, entries))
                except (OSError, urllib.error.URLError):
                    time.sleep(0.02)
                    continue
                if status == 200:
                    assert cosignatures(seal(entries[:size]) + body.decode(), [made.verifier])
                    with lock:
                        seen.append(head(entries[:size]))
                    old = size
                elif status == 409:
                    old = int(body) if int(body) <= len(entries) else 0
                    time.sleep(0.005)
                else:
                    assert status == 422, (status, body)
                    time.sleep(0.005)

        threads = [
            threading.Thread(target=press, args=(e, n), daemon=True)
            for n, e in enumerate((ENTRIES, OTHER) * 2)
        ]
        for thread in threads:
            thread.start()
        for _ in range(6):
            time.sleep(chance.random() * 0.3)
            made.kill()
            made.start()
        stopping.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        roots: dict[int, set[bytes]] = {}
        for each in seen:
            roots.setdefault(each.size, set()).add(each.root)
        kept = made.record.seen(ORIGIN)
    assert seen, "it signed something"
    assert all(len(found) == 1 for found in roots.values())
    histories = [
        all(head(entries[:size]).root in found for size, found in roots.items() if size)
        for entries in (ENTRIES, OTHER)
    ]
    assert sorted(histories) == [False, True]
    assert kept is not None
    assert kept.size >= max(roots), "what was answered was durable before it was answered"


def test_it_ends_well_and_shares_its_port_with_nobody(tmp_path: Path):
    with witness(tmp_path / "w", "w.example.org/1") as made:
        made.post(b"hello")
        db, key = made.folder / "db", made.folder / "key"
        second = program(
            "witness", "serve", "--db", db, "--key", key, "--listen", f"127.0.0.1:{made.port}", "--json"
        )
        assert second.returncode == 3
        assert "Address already in use" in json.loads(second.stderr)["error"]["message"]
        for _ in range(3):
            assert made.kill(signal.SIGTERM) == 0, (made.folder / "log").read_text()[-2000:]
            made.start()
            made.post(b"hello")


def program(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "muniment", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_it_is_set_up_by_commands_alone(tmp_path: Path):
    db, key, second = tmp_path / "w.db", tmp_path / "w.key", tmp_path / "w2.key"
    made = program(
        "witness", "init", "w.example.org/1", "--db", db, "--key", key, "--ml-dsa-key", second, "--json"
    )
    assert made.returncode == 0, made.stderr
    assert [path.stat().st_mode & 0o777 for path in (db, key, second)] == [0o600] * 3
    again = program("witness", "init", "w.example.org/1", "--db", db, "--key", key, "--json")
    assert again.returncode == 2
    assert program("witness", "add-log", SIGNER.vkey, "--db", db).returncode == 0
    shown = json.loads(program("witness", "show", "--db", db, "--json").stdout)
    assert shown["vkeys"] == json.loads(made.stdout)["vkeys"]
    assert [each["origin"] for each in shown["logs"]] == [ORIGIN]
    assert shown["logs"][0]["size"] is None
    wrong = program("witness", "serve", "--db", db, "--key", key, "--json")
    assert (wrong.returncode, json.loads(wrong.stderr)["error"]["code"]) == (2, "witness.other-key")
    missing = program("witness", "serve", "--db", tmp_path / "x.db", "--key", key, "--json")
    assert (missing.returncode, json.loads(missing.stderr)["error"]["code"]) == (2, "witness.no-record")
    key.chmod(0o644)
    open_key = program("witness", "serve", "--db", db, "--key", key, "--ml-dsa-key", second, "--json")
    assert open_key.returncode == 2
    assert "read by others" in open_key.stderr
