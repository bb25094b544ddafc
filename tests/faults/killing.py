"""Processes that append, sequence, sign and publish, killed again and again: ``python killing.py PLAN``.

Every other one is killed by itself at a point of its own: before or after a commit, a signature, an fsync or a rename
of sealing and publishing. The others are killed from outside, wherever they are. What a process had been told, it had
written to a pipe before it died. The program is loaded once and forks for each, while it has one thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import threading
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parents[1]))

import msgspec
from alembic import command, config  # noqa: F401  loaded before the fork

from faults.points import drain, fork, mark_commits
from muniment.core.errors import MunimentError
from muniment.evidence.source import Older
from muniment.ledger.checkpoint import Checkpoint
from muniment.ledger.note import open_note
from muniment.service.desk import Desk
from muniment.service.guarding import guard
from muniment.service.sealing import seal
from muniment.service.verifying import verify_directory, verify_store
from muniment.store import sequencer
from muniment.store.opening import open_store
from store.stores import KEY, ORIGIN, SIGNER, HandClock, an_append, desk_of, nothing, stream_of

#: a sealing has about 25 points; so that most processes die within their first few
POINTS = 120
WRITERS = 2


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do."""

    url: str
    folder: str
    runs: int
    seed: int = 3


def desk_on(plan: Plan) -> Desk:
    return desk_of(open_store(plan.url, ORIGIN, KEY, HandClock()), Path(plan.folder))


def work(plan: Plan, run: int, n: int | None, write: Any) -> NoReturn:
    """Append and seal for ever; die at the n-th point of sealing, if there is one to die at."""
    count, sealer = 0, threading.get_ident()

    def point(name: str) -> None:
        nonlocal count
        if n is None or threading.get_ident() != sealer:
            return
        count += 1
        if count == n:
            write(f"at {name}")
            os.kill(os.getpid(), signal.SIGKILL)

    def around(holder: Any, attribute: str, name: str) -> None:
        real = getattr(holder, attribute)

        def call(*given: Any, **named: Any) -> Any:
            point(f"before {name}")
            result = real(*given, **named)
            point(f"after {name}")
            return result

        setattr(holder, attribute, call)

    desk = desk_on(plan)
    guard(desk)
    mark_commits(desk.store.engine, point)
    around(sequencer, "sign_checkpoint", "sign")
    around(os, "fsync", "fsync")
    around(Path, "replace", "rename")
    around(desk.tiles, "publish", "checkpoint")

    def append(name: str) -> None:
        stream = nothing(name)
        while True:
            stream = desk.store.append(an_append(stream, "x", "y")).stream
            write(f"event {name} {stream.version}")

    for number in range(WRITERS):
        threading.Thread(target=append, args=(f"target:s{run}-{number}",), daemon=True).start()
    while True:
        with contextlib.suppress(MunimentError):
            note = seal(desk)
            write(f"sealed {json.dumps(note)}")


def killed(plan: Plan, run: int, chance: random.Random) -> tuple[str, list[str]]:
    """One process; where it died, and what it had been told."""
    n = chance.randint(1, POINTS) if run % 2 else None
    enough = chance.randint(1, 60)
    pid, reader = fork(lambda write: work(plan, run, n, write))
    said = b""
    while n is not None or said.count(b"\n") < enough:
        part = os.read(reader, 1 << 16)
        if not part:
            break
        said += part
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    lines = (said + drain(reader).encode()).decode().split("\n")[:-1]
    if not os.WIFSIGNALED(status):
        raise AssertionError("\n".join(lines[-20:]))
    where = next((line.removeprefix("at ") for line in lines if line.startswith("at ")), "outside")
    return where, lines


def check(plan: Plan, told: dict[str, int], notes: dict[int, str], write: Any, *, whole: bool) -> None:
    """What must hold after every death: no fork, no gap, no lost event. Writes what is published now."""
    desk = desk_on(plan)
    guard(desk)
    stored, waiting, leaves = desk.ledger.counts()
    assert (stored, desk.ledger.head().size) == (waiting + leaves, leaves)
    published = desk.tiles.checkpoint() if desk.tiles else None
    if published is not None:
        size = size_of(published)
        assert size >= max(notes, default=0), "what was acknowledged as sealed is not published any more"
        assert notes.setdefault(size, published) == published, f"two checkpoints over {size}"
        write(json.dumps(published))
    for each in desk.ledger.kept.published():
        assert notes.setdefault(each.size, each.note) == each.note, f"two checkpoints over {each.size}"
    for stream, version in told.items():
        assert stream_of(desk.store, stream).version >= version, f"{stream} lost an acknowledged event"
    if whole:
        seal(desk)
        since = [Older(where=f"seen {size}", note=note) for size, note in sorted(notes.items())]
        for document in (
            verify_store(desk, since=since),
            verify_directory(Path(plan.folder), desk.trust, since=since),
        ):
            assert document["ok"], document["levels"]
        print(
            json.dumps({"events": document["events"], "checkpoints": len(notes), "acknowledged": sum(told.values())}),
            flush=True,
        )  # fmt: skip


def size_of(note: str) -> int:
    return Checkpoint.parse(open_note(note, [SIGNER.verifier]).text).size


def main(given: str) -> None:
    plan = msgspec.json.decode(given, type=Plan)
    chance = random.Random(plan.seed)
    told: dict[str, int] = {}
    notes: dict[int, str] = {}  # every checkpoint that anybody was told of
    places: Counter[str] = Counter()
    for run in range(plan.runs):
        where, lines = killed(plan, run, chance)
        places[where] += 1
        fresh: dict[str, int] = {}
        for line in lines:
            kind, _, rest = line.partition(" ")
            if kind == "event":
                stream, version = rest.split()
                fresh[stream] = max(fresh.get(stream, 0), int(version))
            elif kind == "sealed":
                note = json.loads(rest)
                assert notes.setdefault(size_of(note), note) == note, f"two checkpoints over {size_of(note)}"
            else:
                assert kind == "at", line
        told |= fresh
        last = run == plan.runs - 1
        look = partial(check, plan, dict(told) if last else fresh, notes, whole=last)
        pid, reader = fork(look)
        answer = drain(reader)
        assert os.waitpid(pid, 0)[1] == 0, f"after run {run}, killed {where}: {answer}"
        for note in map(json.loads, answer.splitlines()):  # the next one is held to it
            notes.setdefault(size_of(note), note)
    print(json.dumps(places))


if __name__ == "__main__":
    main(sys.argv[1])
