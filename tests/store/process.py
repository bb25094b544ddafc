"""What tests run in other processes: ``python process.py TASK ARGUMENTS``, one line of JSON as the answer.

The program is loaded once and then forks, so that a round costs milliseconds; it has one thread when it does.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).parents[1]))

from alembic import command, config  # noqa: F401  loaded before the fork

from muniment.core.errors import Conflict, MunimentError
from muniment.ports import Appended
from store.stores import HandClock, an_append, nothing, opened, seal, stream_of


def _fork(work) -> tuple[int, int]:
    """Run ``work(write)`` in a child; return its pid and the pipe that ``write`` writes lines to."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    os.close(reader)
    status = 1
    try:
        work(lambda line: os.write(writer, f"{line}\n".encode()))
        status = 0
    except BaseException as error:
        os.write(writer, f"!{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(status)


def _drain(reader: int) -> list[str]:
    with os.fdopen(reader) as lines:
        return lines.read().split("\n")[:-1]


def kill(url: str, rounds: str) -> dict[str, object]:
    """Writers killed with SIGKILL, again and again; what each had been told is recorded before it died."""
    told: list[str] = []
    chance = random.Random(20)
    for number in range(int(rounds)):
        pid, reader = _fork(lambda write, number=number: _write_for_ever(url, number, write))
        enough, lines = chance.randint(1, 25), b""
        while lines.count(b"\n") < enough:
            part = os.read(reader, 4096)
            if not part:
                break
            lines += part
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        lines += "".join(f"{line}\n" for line in _drain(reader)).encode()
        assert os.WIFSIGNALED(status), lines.decode()
        told += lines.decode().split("\n")[:-1]
    return {"told": told}


def _write_for_ever(url: str, number: int, write) -> NoReturn:
    """Three threads, each on a stream of its own, in groups of two events; one line for each that was acknowledged."""
    with opened(url, HandClock()) as store:

        def one(name: str) -> None:
            stream = nothing(name)
            while True:
                stream = store.append(an_append(stream, "x", "y")).stream
                write(f"{name} {stream.version}")

        threads = [threading.Thread(target=one, args=(f"s{number}-{n}",), daemon=True) for n in range(3)]
        for thread in threads:
            thread.start()
        seal_now = threading.Event()
        while not seal_now.wait(0.01):  # the sequencer is killed in the middle too
            with contextlib.suppress(MunimentError):
                seal(store)
        raise AssertionError("unreachable")


def race(url: str, writers: str, count: str) -> dict[str, object]:
    """Processes that all write to one stream, each trying again after a conflict."""

    def work(write, me: int) -> None:
        with opened(url, HandClock()) as store:
            for number in range(int(count)):
                while True:
                    stream = stream_of(store, "shared")
                    try:
                        store.append(an_append(stream, f"{me}-{number}"))
                    except Conflict:
                        write("conflict")
                        continue
                    break
                write(f"done {me}-{number}")

    children = [_fork(lambda write, me=me: work(write, me)) for me in range(int(writers))]
    lines = [line for _, reader in children for line in _drain(reader)]
    statuses = [os.waitpid(pid, 0)[1] for pid, _ in children]
    return {"lines": lines, "statuses": statuses}


def fill(url: str, writers: str, streams: str) -> dict[str, object]:
    """Processes that write many short streams, some of them shared within a commit."""

    def work(write, me: int) -> None:
        with opened(url, HandClock()) as store:
            for number in range(int(streams)):
                names = [f"w{me}-{number}-{n}" for n in range(3)]
                first = store.append_many([an_append(name, "a", "b") for name in names])
                again = [an_append(r.stream, "c") for r in first if isinstance(r, Appended)]
                write(json.dumps(sum(isinstance(r, Appended) for r in (*first, *store.append_many(again)))))

    children = [_fork(lambda write, me=me: work(write, me)) for me in range(int(writers))]
    lines = [line for _, reader in children for line in _drain(reader)]
    statuses = [os.waitpid(pid, 0)[1] for pid, _ in children]
    return {"lines": lines, "statuses": statuses}


def open_at_once(url: str, processes: str) -> dict[str, object]:
    """Processes that open, and so migrate, one empty database at the same instant."""
    gate_reader, gate_writer = os.pipe()

    def work(write) -> None:
        os.close(gate_writer)
        os.read(gate_reader, 1)  # until everybody is there
        with opened(url) as store:
            store.append(an_append(f"from-{os.getpid()}", "x"))
        write("opened")

    children = [_fork(work) for _ in range(int(processes))]
    os.close(gate_writer)
    os.close(gate_reader)
    lines = [line for _, reader in children for line in _drain(reader)]
    statuses = [os.waitpid(pid, 0)[1] for pid, _ in children]
    return {"lines": lines, "statuses": statuses}


def small_files(url: str, limit: str) -> dict[str, object]:
    """Write until no file may grow any more; then let them grow, and write again."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with opened(url, HandClock()) as store:
        acknowledged, refused = [], None
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
        for number in range(2000):
            result = store.append_many([an_append(f"s{number}", "x" * 2000, "y" * 2000)])[0]
            if not isinstance(result, Appended):
                refused = type(result).__name__
                break
            acknowledged.append(f"s{number}")
        still = [type(r).__name__ for r in store.append_many([an_append("still", "z" * 2000)])]
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        after = store.append(an_append("after", "x")).stream.version
    return {"acknowledged": acknowledged, "refused": refused, "still": still, "after": after}


def unwritable(url: str) -> dict[str, object]:
    """Open and use a store whose file this user may read and not write."""

    def work(write) -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        try:
            with opened(url, HandClock()) as store:
                store.append(an_append("x", "x"))
        except BaseException as error:
            write(json.dumps([type(error).__name__, str(error), getattr(error, "remedy", "")]))

    pid, reader = _fork(work)
    lines = _drain(reader)
    os.waitpid(pid, 0)
    return {"lines": lines}


TASKS = {task.__name__: task for task in (kill, race, fill, open_at_once, small_files, unwritable)}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](*sys.argv[2:])))
