"""Changes of the directory, taken up by every process that decides."""

from __future__ import annotations

import threading

import structlog

from muniment.core.errors import MunimentError
from muniment.service.desk import CONTROLLER, Desk
from muniment.service.registry import record_registry

#: how soon a change of the directory counts
DIRECTORY_SECONDS = 2.0

log = structlog.get_logger("muniment.controllers")


class People:
    """Takes up changes of the directory, and puts them on record."""

    def __init__(self, desk: Desk) -> None:
        """Not yet looking; `start` begins."""
        self._desk = desk
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="muniment-people", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self, timeout: float = 30.0) -> bool:
        """Look no more; return whether the last look ended in time."""
        self._stopping.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.wait(DIRECTORY_SECONDS):
            try:
                if self._desk.directory.reload_if_changed():
                    changed = record_registry(self._desk, CONTROLLER)
                    log.info("the directory changed", facts=changed)
            except MunimentError as error:
                log.error("the directory cannot be read", error=error.message, code=error.code)  # noqa: TRY400  ours: the sentence says it all
