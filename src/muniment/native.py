"""Threads that Python did not start, such as granian's: waited for, since they abort a process that ends before them.

A thread of Rust that lets go of a Python object while the interpreter is being taken down cannot unwind, and the
process ends by SIGABRT instead of status 0. They end by themselves within milliseconds of the server.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

#: seconds to wait for them at most
PATIENCE = 20.0


def foreign_threads() -> set[int]:
    """Their numbers, in this process."""
    try:
        every = {int(number) for number in os.listdir("/proc/self/task")}  # noqa: PTH208  names alone are wanted
    except OSError:
        return set()
    return every - {thread.native_id for thread in threading.enumerate() if thread.native_id}


def names_of(threads: set[int]) -> list[str]:
    """What the system calls these threads of this process; of one that has ended meanwhile, nothing."""
    found = []
    for number in threads:
        with suppress(OSError):
            found.append(Path(f"/proc/self/task/{number}/comm").read_text().strip())
    return sorted(found)


def wait_for_others(before: set[int], patience: float = PATIENCE) -> bool:
    """Wait until no foreign thread is left that was not there ``before``; return whether that is so."""
    deadline = time.monotonic() + patience
    while foreign_threads() - before:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
