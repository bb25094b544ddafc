"""A step of `rotate-key`, killed at each of its writes in turn, and then run again: ``python rotating.py FOLDER STEP``.

Writes are commits, fsyncs and renames; a point lies before and after each, and each signature. Prints their names.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from alembic import command, config  # noqa: F401  loaded before the fork

from faults.points import drain, fork, mark_commits
from muniment.core.identity import Identity
from muniment.ledger.keys import signer_from_seed
from muniment.ledger.note import Signer, parse_note
from muniment.ledger.trust import TrustPolicy
from muniment.service import rotating
from muniment.service.desk import Caller, Desk
from muniment.service.guarding import guard
from muniment.service.sealing import seal
from muniment.service.verifying import verify_directory, verify_store
from muniment.store import sequencer
from muniment.store.opening import open_store
from store.stores import KEY, ORIGIN, SIGNER, HandClock, an_append, desk_of

NEW = signer_from_seed(ORIGIN, b"\x09" * 32)
OPERATOR = Caller(identity=Identity(id="human:ops@example.com", active=True, roles=("operator",)), via="test")
TRUST = TrustPolicy(log=(SIGNER.verifier, NEW.verifier))


def desk_in(folder: Path, *signers: Signer) -> Desk:
    store = open_store(f"sqlite:///{folder}/store.db", ORIGIN, KEY, HandClock())
    return replace(desk_of(store, folder / "ledger"), signers=signers)


def rotate(step: str, desk: Desk) -> None:
    if step == "announce":
        rotating.announce(desk, OPERATOR, NEW)
    else:
        rotating.retire(desk, OPERATOR, SIGNER.verifier.vkey)


def begun(folder: Path, step: str, _: Callable[[str], None]) -> None:
    """A ledger at the moment before the step."""
    folder.mkdir()
    desk = desk_in(folder, SIGNER)
    desk.store.append(an_append("target:a", "x"))
    seal(desk)
    if step == "retire":
        rotating.announce(desk, OPERATOR, NEW)
        both = replace(desk, signers=(SIGNER, NEW))
        desk.store.append(an_append("target:b", "x"))
        seal(both)
    desk.store.append(an_append("target:c", "waits"))
    desk.store.engine.dispose()


def keys_here(step: str) -> tuple[Signer, ...]:
    return (SIGNER,) if step == "announce" else (SIGNER, NEW)


def work_until(folder: Path, step: str, n: int, write: Callable[[str], None]) -> None:
    count = 0

    def point(name: str) -> None:
        nonlocal count
        count += 1
        if count == n:
            write(name)
            os.kill(os.getpid(), signal.SIGKILL)

    def around(holder: Any, attribute: str, name: str) -> None:
        real = getattr(holder, attribute)

        def call(*given: Any, **named: Any) -> Any:
            point(f"before {name}")
            result = real(*given, **named)
            point(f"after {name}")
            return result

        setattr(holder, attribute, call)

    desk = desk_in(folder, *keys_here(step))
    mark_commits(desk.store.engine, point)
    around(sequencer, "sign_checkpoint", "sign")
    around(os, "fsync", "fsync")
    around(Path, "replace", "rename")
    rotate(step, desk)


def carry_on(folder: Path, step: str, _: Callable[[str], None]) -> None:
    """What the operator does who sees no answer, and what the ledger is then."""
    desk = desk_in(folder, *keys_here(step))
    guard(desk)
    rotate(step, desk)
    kinds = [each.event.kind for each in desk.store.entries("keys")]
    assert kinds == ["key-announced/1", "key-retired/1"][: 1 + (step == "retire")], kinds
    wanted = {SIGNER.verifier.key_id} if step == "announce" else {NEW.verifier.key_id}
    note = desk.ledger.kept.newest()
    assert note is not None
    assert {line.key_id for line in parse_note(note.note).signatures} == wanted, note.note
    states = {each["vkey"]: each["state"] for each in rotating.status(desk)["keys"]}
    ends = {NEW.vkey: "announced", SIGNER.vkey: "signs"}
    assert states == (ends if step == "announce" else {NEW.vkey: "signs", SIGNER.vkey: "retired"}), states
    desk.store.append(an_append("target:d", "goes on"))
    seal(replace(desk, signers=(SIGNER, NEW)))
    for found in (verify_store(desk, trust=TRUST), verify_directory(folder / "ledger", TRUST)):
        assert found["ok"], found["levels"]


def child(work: Callable[[Callable[[str], None]], None]) -> tuple[str, int]:
    pid, reader = fork(work)
    said = drain(reader)
    return said, os.waitpid(pid, 0)[1]


def must(work: Callable[[Callable[[str], None]], None], where: str) -> None:
    said, status = child(work)
    if status:
        raise AssertionError(f"{where}: {said}")


def main(base: Path, step: str) -> None:
    must(partial(begun, base / "begun", step), "before")
    names: list[str] = []
    while True:
        folder = base / str(len(names) + 1)
        shutil.copytree(base / "begun", folder)
        said, status = child(partial(work_until, folder, step, len(names) + 1))
        if status == 0:  # it got through: there is no such point
            break
        if not os.WIFSIGNALED(status):
            raise AssertionError(said)
        names.append(said.strip())
        must(partial(carry_on, folder, step), f"after point {len(names)}, {names[-1]}")
    print(json.dumps(names))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
