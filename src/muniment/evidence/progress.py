"""How far a verification is, and what it found so far, in a file that lets it go on after an interruption.

One JSON line a part, behind a first line that says what it belongs to. A line that was cut off by a crash is left
out. The file is believed as it is: whoever can write it can make anything verify. So it belongs where the auditor
keeps the trust file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from muniment.core.errors import Misconfigured

T = TypeVar("T")

#: changes whenever what is found of a part does
FORMAT = 2
MAX_FILE = 1 << 28


class _Line(msgspec.Struct, frozen=True):
    name: str
    found: msgspec.Raw


class Progress:
    """Counts entries, and keeps what was found of each part."""

    def __init__(
        self, told: Callable[[int, int], None] = lambda _done, _total: None, file: Path | None = None
    ) -> None:
        """``told`` is given how many entries were read, and how many will be. ``file``: where to keep what is found."""
        self._told, self._file = told, file
        self._done, self._total = 0, 0
        self._known: dict[str, bytes] = {}

    def begin(self, identity: str, total: int) -> None:
        """A verification begins, or goes on.

        Raises:
            Misconfigured: the file cannot be read or written, or belongs to another verification.
        """
        self._total = total
        if self._file is None:
            return
        head = msgspec.json.encode({"muniment_verify": FORMAT, "of": identity}) + b"\n"
        try:
            if self._file.exists():
                self._read(head)
            else:
                self._file.touch(mode=0o600, exist_ok=False)
                self._file.write_bytes(head)
        except OSError as error:
            raise Misconfigured(
                f"{self._file} cannot be used: {error.strerror}", remedy="Name a file in a folder of yours."
            ) from error

    def known(self, name: str, kind: type[T]) -> T | None:
        """What was found of a part before."""
        if name not in self._known:
            return None
        try:
            return msgspec.json.decode(self._known[name], type=kind)
        except msgspec.MsgspecError as error:
            raise self._foreign() from error

    def keep(self, name: str, found: T) -> T:
        """Keep what was found of a part, and return it."""
        if self._file is not None:
            with self._file.open("ab") as file:
                file.write(msgspec.json.encode(_Line(name, msgspec.Raw(msgspec.json.encode(found)))) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        return found

    def advance(self, count: int) -> None:
        """So many entries more were read."""
        self.at(self._done + count)

    def at(self, done: int) -> None:
        """So many entries were read."""
        self._done = done
        self._told(min(done, self._total), self._total)

    def _read(self, head: bytes) -> None:
        assert self._file is not None  # noqa: S101  for the type checker
        if self._file.stat().st_size > MAX_FILE:
            raise self._foreign()
        first, newline, rest = self._file.read_bytes().partition(b"\n")
        if first + newline != head:
            raise self._foreign()
        whole, _, torn = rest.rpartition(b"\n")
        try:
            lines = [msgspec.json.decode(line, type=_Line) for line in whole.split(b"\n") if line]
        except msgspec.MsgspecError as error:
            raise self._foreign() from error
        self._known = {line.name: bytes(line.found) for line in lines}
        if torn:  # a crash in the middle of a line: the part is looked at again
            with self._file.open("rb+") as file:
                file.truncate(len(head) + len(whole) + bool(whole))

    def _foreign(self) -> Misconfigured:
        return Misconfigured(
            f"{self._file} is not of this verification: of another log, checkpoint, trust file or version",
            remedy="Name another file, or delete it to begin anew.",
            code="config.resume",
        )
