"""Threads that go on until they are stopped, as everything that is done on time has them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping


class Loops:
    """Threads of one kind of work. Each looks at `_stopping`, between two pieces of it and instead of sleeping."""

    def __init__(self, runs: Mapping[str, Callable[[], None]]) -> None:
        """By the threads' names; not yet begun."""
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=run, name=f"muniment-{name}", daemon=True) for name, run in runs.items()
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 30.0) -> bool:
        """Begin nothing more; return whether what was under way ended in time. Nothing is lost by it."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout)
        return not any(thread.is_alive() for thread in self._threads)
