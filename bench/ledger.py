# ruff: noqa: PLC0415  imported where used: the processes of a verification load this file, too, and no more than they need
"""How fast does the ledger take entries in, and how fast is the whole of it verified?

Everything stands beside its raw limit, measured in turn in the same run:

- ``append``     events a second through the store's group commit, 256 to a commit, and ``integrate`` what it takes to bring
                 them into the tree, sign and keep the checkpoint; beside them ``commits``, bare durable commits of one row,
                 and ``fsyncs``, bare fsyncs of 8 KiB, the size of a tile, on the same disk.
- ``verify``     entries a second for V1 and V2 over exported tiles: read from the disk, hashed, every tile made anew and
                 compared. Beside it ``hashlib``, SHA-256 of the same entries in memory, one after the other and nothing else.
                 The whole also hashes one node of the tree for each entry, so it can never reach that.
- two processes  both again, by two processes at once. Starting the second one counts; of a short log it is a good part.
- ``V3-V5``      entries a second for form, chains, rules and times.
- memory         peak of a process that verifies a log, and of one that verifies a log four times as long.

Rates of work in memory are by processor time, so that other programs disturb them little; those of the disk and of two
processes are by the wall clock. Trust the ratios. Run: ``.venv/bin/python bench/ledger.py [--entries 500000]``.

``--whole`` verifies V1 and V2 of one log from beginning to end, by one process and by two, on the wall clock, and
nothing is extrapolated: ``bench/ledger.py --whole --entries 10000000 --log /tmp/log`` makes the log there (6.4 GB, four
minutes) or takes the one that is there. Run it twice: the second time its files lie in memory, if that holds them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from muniment.ledger.checkpoint import Checkpoint, sign_checkpoint
from muniment.ledger.keys import signer_from_seed
from muniment.ledger.note import parse_note
from muniment.ledger.tiles import TileWriter, bundle_path, decode_bundle
from muniment.ledger.trust import TrustPolicy

ORIGIN = "bench.example/muniment"
SIGNER = signer_from_seed(ORIGIN, bytes(32))
TRUST = TrustPolicy(log=(SIGNER.verifier,))
PAD = "x" * 330  # so that an entry has about 600 bytes, like those of tickets
PER_STREAM = 10  # entries, like those of a ticket


def entries(count: int) -> Iterator[bytes]:
    """Small facts in canonical form, chained as tickets are."""
    prev = "null"
    for index in range(count):
        stream, seq = divmod(index, PER_STREAM)
        raw = (
            '{"actor":{"id":"system:muniment","via":"controller"},"at":"2026-11-23T10:00:00.000000Z",'
            f'"data":{{"target":"{PAD}"}},"log":"{ORIGIN}","prev":{prev if seq else "null"},"seq":{seq},'
            f'"ticket":"target:{stream}","type":"target-retired/1","v":1}}'
        ).encode()
        digest = sha256(b"\x00" + raw).hexdigest()
        prev = f'"sha256:{digest}"'
        yield raw


def export(folder: Path, count: int) -> Path:
    """A published ledger. The checkpoint comes last: a log that has one is whole."""
    writer = TileWriter()
    for files in (writer.extend(entries(count)), writer.partials()):
        for path, content in files:
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    head = Checkpoint(origin=ORIGIN, size=count, root=writer.root())
    (folder / "checkpoint").write_text(sign_checkpoint(head, [SIGNER]))
    return folder


# ── raw limits ──


def read(folder: Path, first: int, last: int) -> list[bytes]:
    return [e for n in range(first, last) for e in decode_bundle((folder / bundle_path(n)).read_bytes(), 256)]


def hash_all(leaves: list[bytes]) -> None:
    """As plain a loop as there is."""
    digest = sha256
    for leaf in leaves:
        digest(b"\x00" + leaf).digest()


def verify(folder: Path, levels: tuple[str, ...], processes: int = 1) -> None:
    from muniment.service.verifying import verify_directory

    document = verify_directory(folder, TRUST, levels=levels, processes=processes)
    if not document["ok"]:
        raise AssertionError(document)


def cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def timed(clock: Callable[[], float], work: Callable[[], None]) -> float:
    begin = clock()
    work()
    return clock() - begin


def hasher(folder: Path, first: int, last: int, rounds: int, pipe: Connection) -> None:
    """One of two processes that hash at once."""
    leaves = read(folder, first, last)
    for _ in range(rounds):
        pipe.send("ready")
        pipe.recv()
        hash_all(leaves)
        pipe.send("done")


def peak(folder: Path, pipe: Connection) -> None:
    """Memory of a process that verifies at all levels, at most, in MiB."""
    verify(folder, ("V1", "V2", "V3", "V4", "V5"))
    pipe.send(own_peak())


def own_peak() -> int:
    status = Path("/proc/self/status").read_text()  # not getrusage: that begins with what the parent had
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def whole(folder: Path, processes: int, pipe: Connection) -> None:
    """V1 and V2 of a whole log by a process like the program's, and by others that it starts."""
    before = cpu()
    seconds = timed(time.perf_counter, lambda: verify(folder, ("V1", "V2"), processes))
    others = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024  # the largest one
    pipe.send({
        "seconds": round(seconds, 2), "processor_seconds": round(cpu() - before, 2),
        "mib": own_peak() + (processes - 1) * others,
    })  # fmt: skip


def in_process(target: Callable[..., None], *given: Any) -> Any:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=target, args=(*given, theirs))
    process.start()
    answer = ours.recv()
    process.join()
    return answer


def measure_verify(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    leaves = read(folder, 0, count // 256)
    spent: dict[str, list[float]] = {"hashlib": [], "V1+V2": []}
    for _ in range(rounds):
        spent["hashlib"].append(timed(cpu, lambda: hash_all(leaves)) * count / len(leaves))
        spent["V1+V2"].append(timed(cpu, lambda: verify(folder, ("V1", "V2"))))
    rest = timed(cpu, lambda: verify(folder, ("V3", "V4", "V5")))
    rates = {name: count / statistics.median(values) for name, values in spent.items()}
    return {
        "entries": count, "bytes": round(sum(map(len, leaves)) / len(leaves)),
        **{name: round(rate) for name, rate in rates.items()}, "V3-V5": round(count / rest),
        "of_hashlib": round(statistics.median(a / b for a, b in zip(spent["hashlib"], spent["V1+V2"], strict=True)), 2),
        "10M_seconds": {"V1+V2": round(10_000_000 / rates["V1+V2"], 1), "V3-V5": round(10_000_000 * rest / count)},
    }  # fmt: skip


def measure_two(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """How much faster two processes are than one: of the verifier, and of bare hashing on the same machine at the time."""
    tiles = count // 256
    leaves = read(folder, 0, tiles)
    spawn = multiprocessing.get_context("spawn")
    pipes = []
    for part in range(2):
        ours, theirs = spawn.Pipe()
        given = (folder, part * tiles // 2, (part + 1) * tiles // 2, rounds, theirs)
        spawn.Process(target=hasher, args=given, daemon=True).start()
        pipes.append(ours)

    def both() -> None:
        for pipe in pipes:
            pipe.send("go")
        for pipe in pipes:
            pipe.recv()

    speedups: dict[str, list[float]] = {"hashlib": [], "V1+V2": []}
    extra = []
    for _ in range(rounds):
        for pipe in pipes:
            pipe.recv()
        alone = timed(time.perf_counter, lambda: hash_all(leaves))
        speedups["hashlib"].append(alone / timed(time.perf_counter, both))
        spent = cpu()
        alone = timed(time.perf_counter, lambda: verify(folder, ("V1", "V2")))
        middle = cpu()
        speedups["V1+V2"].append(alone / timed(time.perf_counter, lambda: verify(folder, ("V1", "V2"), 2)))
        extra.append((cpu() - middle) / (middle - spent))
    found = {name: round(statistics.median(values), 2) for name, values in speedups.items()}
    return {**found, "processor_time": round(statistics.median(extra), 2)}


def measure_whole(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    if not (folder / "checkpoint").exists():
        export(folder, count)
    size = Checkpoint.parse(parse_note((folder / "checkpoint").read_text()).text).size
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    leaves = read(folder, 0, min(size, 200_000) // 256)
    found: list[dict[str, Any]] = []
    for _ in range(rounds):
        plain = timed(cpu, lambda: hash_all(leaves)) / len(leaves) * size
        one, two = in_process(whole, folder, 1), in_process(whole, folder, 2)
        found.append({
            "one": one, "two": two, "faster": round(one["seconds"] / two["seconds"], 2),
            "of_hashlib": round(plain / one["processor_seconds"], 2),
        })  # fmt: skip
    found.sort(key=lambda each: float(each["faster"]))
    return {"entries": size, "gigabytes": round(total / 1e9, 2), **found[len(found) // 2]}


# ── taking entries in ──


def measure_appending(url: str, folder: Path, batches: int, rounds: int) -> dict[str, Any]:
    from sqlalchemy import Column, Integer, LargeBinary, MetaData, Table

    from muniment.core.events import TargetRetired
    from muniment.ports import Append, Stream
    from muniment.service.desk import CONTROLLER
    from muniment.store.engine import writing
    from muniment.store.marking import mark_key
    from muniment.store.opening import open_store
    from muniment.store.sequencer import SqlLedger

    store = open_store(url, ORIGIN, mark_key(bytes(32)))
    ledger = SqlLedger(store.engine, ORIGIN, store.marker, store.clock)
    scratch = Table(
        "scratch", MetaData(), Column("id", Integer, primary_key=True), Column("body", LargeBinary)
    )
    scratch.create(store.engine, checkfirst=True)
    event, body, numbers = TargetRetired(target=PAD), os.urandom(600), iter(range(1 << 30))
    page = os.urandom(8192)

    def append() -> None:
        for _ in range(batches):
            streams = [Stream(id=f"target:{next(numbers)}", version=0, head=None) for _ in range(256)]
            at = store.clock.now()
            store.append_many([Append(stream=s, actor=CONTROLLER, events=(event,), at=at) for s in streams])

    def integrate() -> None:
        while ledger.integrate():
            pass
        ledger.sign([SIGNER])

    def commits() -> None:
        for _ in range(100):
            with writing(store.engine) as connection:
                connection.execute(scratch.insert(), {"body": body})

    def fsyncs() -> None:
        with (folder / "page").open("wb", buffering=0) as file:
            for _ in range(100):
                file.write(page)
                os.fsync(file.fileno())

    rates: dict[str, list[float]] = {"append": [], "integrate": [], "commits": [], "fsyncs": []}
    works = {"append": append, "integrate": integrate, "commits": commits, "fsyncs": fsyncs}
    append()
    integrate()
    for _ in range(rounds):
        for name, work in works.items():
            amount = 100 if name in {"commits", "fsyncs"} else batches * 256
            rates[name].append(amount / timed(time.perf_counter, work))
    shares = [a / i for a, i in zip(rates["append"], rates["integrate"], strict=True)]
    found = {name: round(statistics.median(values)) for name, values in rates.items()}
    kind = store.engine.dialect.name
    store.engine.dispose()
    # below 1, the sequencer is ahead of everybody who appends
    return {"store": kind, **found, "append_of_integrate": round(statistics.median(shares), 2)}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=400_000, help="of the log that is verified")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=20, help="commits of 256 events in a round")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--whole", action="store_true", help="only this: one log, from beginning to end")
    parser.add_argument("--log", type=Path, help="where that log is, or is to be and to stay")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="muniment-bench-") as scratch:
        found = whole_log(options, Path(scratch)) if options.whole else everything(options, Path(scratch))
    for name, figures in found.items():
        for line in figures if isinstance(figures, list) else [figures]:
            print(f"{name}: {json.dumps(line)}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


def whole_log(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    return {"whole log": measure_whole(options.log or scratch / "log", options.entries, options.rounds)}


def everything(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from muniment.demo.postgres import TemporaryPostgres, installed

    with ExitStack() as stack:
        urls = [f"sqlite:///{folder}/bench.db"]
        if installed():
            newest = max(installed())
            server = stack.enter_context(TemporaryPostgres(installed()[newest], fsync=True))
            urls.append(f"postgresql://postgres:{server.password}@127.0.0.1:{server.port}/postgres")
        found: dict[str, Any] = {
            "taking in": [measure_appending(url, folder, options.batches, options.rounds) for url in urls]
        }
        large, small = (export(folder / str(n), n) for n in (options.entries, options.entries // 4))
        found["verify"] = measure_verify(large, options.entries, options.rounds)
        found["two processes"] = measure_two(large, options.entries, options.rounds)
        found["memory_mib"] = {path.name: in_process(peak, path) for path in (small, large)}
    return found


if __name__ == "__main__":
    sys.exit(main())
