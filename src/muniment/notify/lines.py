"""Notices as lines: in the process's log, or appended to a file that something else reads and sends on."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import structlog

from muniment.ports import Notice

log = structlog.get_logger("muniment.notices")


class LogNotifier:
    """Each notice as one event of the log."""

    def send(self, notice: Notice) -> None:
        """See `ports.Notifier`. A process that keeps no log, as the command line, has no use for it."""
        if not structlog.is_configured():
            return
        log.info(notice.text, notice=notice.kind, ticket=notice.ticket, to=list(notice.to))


class FileNotifier:
    """Each notice as one line of JSON at the end of a file."""

    def __init__(self, path: Path) -> None:
        """The file is made with the first notice."""
        self._path, self._lock = path, threading.Lock()

    def send(self, notice: Notice) -> None:
        """See `ports.Notifier`. A file that cannot be written to is said in the log."""
        line = msgspec.json.encode(notice) + b"\n"
        try:
            with self._lock, self._path.open("ab") as file:
                file.write(line)
        except OSError as error:
            if not structlog.is_configured():
                return
            log.warning(
                "a notice could not be written",
                file=str(self._path),
                error=error.strerror,
                notice=notice.kind,
            )
