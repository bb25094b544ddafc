"""Logs as files: read on from where one was, over rotations, never a part of a line.

A position is a byte in a file, and a digest of what stands just before it. So a file is known again under another name,
and one that was cut off or replaced is not taken for it. What follows what:

1. the file of the position: under its name, renamed beside it, or as a copy beside it (``copytruncate``)
2. to its end; then, if a younger one is there, on to that
3. nowhere to be found: lines are missing, and the next file begins anew, which is said (`Part.continues`)

Compressed files are not read: rotate with ``delaycompress``.
"""

from __future__ import annotations

import glob
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import msgspec

from muniment.core.errors import Misconfigured, Unavailable
from muniment.usage.reading import LONGEST_LINE

#: bytes read at once: one part, and so one entry of the ledger
CHUNK = 4 << 20
#: bytes before a position that its digest is over
BEFORE = 4096
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far a log was read."""

    file: str  # device and inode
    offset: int
    before: str  # SHA-256, hex, of at most ``BEFORE`` bytes in front of it


class Record(NamedTuple):
    """One record and where it begins; None: it was too long to be read."""

    raw: bytes | None
    offset: int


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What was read at once."""

    records: list[Record]
    position: Position  # after it
    begins: int
    digest: str  # SHA-256, hex, of the bytes
    continues: bool  # nothing is missing between the part before and this one
    at_end: bool  # there was no more
    name: str  # of the file


def parts(
    path: Path, position: Position | None, framing: Literal["lines", "csv"], *, whole: bool = False
) -> Iterator[Part]:
    """Everything that was written since a position.

    Args:
        path: of the log; ``*`` stands for anything in a name.
        position: how far it was read; None: not at all.
        framing: where a record ends.
        whole: nobody writes to it any more, so that a last line without its end is one.

    Raises:
        Unavailable: there is no such file, or it cannot be read.
    """
    files, at, continues = _files(path), 0, position is None
    offset = 0
    if position is not None:
        found = next((n for n, name in enumerate(files) if _is_at(name, position)), None)
        at, offset, continues = (
            (found, position.offset, True) if found is not None else (len(files) - 1, 0, False)
        )
    elif not _is_pattern(path):
        at = len(files) - 1
    for number in range(at, len(files)):
        last = number == len(files) - 1
        for part in _of_file(files[number], offset, framing, whole=whole or not last, last=last):
            yield msgspec.structs.replace(part, continues=continues)
            continues = True
        offset = 0


def _files(path: Path) -> list[str]:
    """The log and what it was rotated to, oldest first."""
    if _is_pattern(path):
        names = glob.glob(str(path))  # noqa: PTH207  a pattern with its folder
    else:
        beside = glob.glob(glob.escape(str(path)) + "[.-]*")  # noqa: PTH207  as above
        names = [name for name in beside if not name.endswith(_COMPRESSED)]
        names = [*names, str(path)]
    found = []
    for name in names:
        try:
            seen = os.stat(name)  # noqa: PTH116  a text
        except OSError:
            continue
        if stat.S_ISREG(seen.st_mode):
            found.append((name == str(path), seen.st_mtime_ns, name))
    if not found or (not _is_pattern(path) and not found[-1][0] and not any(f[0] for f in found)):
        raise Unavailable(
            f"there is no log at {path}",
            remedy="Check its path, and that we may read it.",
            code="usage.no-log",
        )
    return [name for *_, name in sorted(found)]


def _is_pattern(path: Path) -> bool:
    return "*" in path.name


def _is_at(name: str, position: Position) -> bool:
    try:
        with _open(name) as file:
            length = min(position.offset, BEFORE)
            file.seek(position.offset - length)
            before = file.read(length)
    except Unavailable:
        return False
    return (
        len(before) == length
        and hashlib.sha256(before).hexdigest() == position.before
        and (position.offset > 0 or _identity(name) == position.file)
    )


def _of_file(
    name: str, offset: int, framing: Literal["lines", "csv"], *, whole: bool, last: bool
) -> Iterator[Part]:
    with _open(name) as file:
        while True:
            file.seek(offset)
            buffer = file.read(CHUNK)
            ends = _ends(buffer, framing)
            records = [
                Record(_unless_long(buffer[begin:end]), offset + begin)
                for begin, end in zip([0, *ends], ends, strict=False)
            ]
            taken = ends[-1] if ends else 0
            digest = hashlib.sha256(buffer[:taken])
            if not ends and len(buffer) == CHUNK:
                taken = _skipped(file, offset, framing, digest)
                records = [Record(None, offset)] if taken else []
            elif len(buffer) < CHUNK and whole and taken < len(buffer):
                records.append(Record(_unless_long(buffer[taken:]), offset + taken))
                digest.update(buffer[taken:])
                taken = len(buffer)
            begins, offset = offset, offset + taken
            at_end = len(buffer) < CHUNK or not taken
            if taken or (at_end and last):
                file.seek(offset - min(offset, BEFORE))
                before = hashlib.sha256(file.read(min(offset, BEFORE))).hexdigest()
                yield Part(
                    records=records, position=Position(file=_identity(name), offset=offset, before=before),
                    begins=begins, digest=digest.hexdigest(), continues=True, at_end=at_end and last, name=Path(name).name,
                )  # fmt: skip
            if at_end:
                return


def _ends(buffer: bytes, framing: Literal["lines", "csv"]) -> list[int]:
    """Where records end: at each line feed; of CSV, at those outside quotes."""
    found, at, odd = [], 0, False
    while (end := buffer.find(b"\n", at)) >= 0:
        if framing == "csv":
            odd ^= bool(buffer.count(b'"', at, end) % 2)
        if not odd:
            found.append(end + 1)
        at = end + 1
    return found


def _skipped(file: BinaryIO, offset: int, framing: Literal["lines", "csv"], digest: hashlib._Hash) -> int:
    """How long a record is that is longer than anybody reads; 0 if its end is not written yet.

    What is in it is never taken for the beginning of another record, or whoever sends a long one could write lines.
    """
    file.seek(offset)
    odd, length = False, 0
    while buffer := file.read(CHUNK):
        at = 0
        while (end := buffer.find(b"\n", at)) >= 0:
            if framing == "csv":
                odd ^= bool(buffer.count(b'"', at, end) % 2)
            at = end + 1
            if not odd:
                digest.update(buffer[:at])
                return length + at
        odd ^= framing == "csv" and bool(buffer.count(b'"', at) % 2)
        digest.update(buffer)
        length += len(buffer)
    return 0


def _unless_long(raw: bytes) -> bytes | None:
    return raw if len(raw) <= LONGEST_LINE else None


def _identity(name: str) -> str:
    seen = os.stat(name)  # noqa: PTH116  a text
    return f"{seen.st_dev}:{seen.st_ino}"


def _open(name: str) -> BinaryIO:
    try:
        number = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable(
            f"{name} cannot be read: {error.strerror}",
            remedy="Check its owner and mode.",
            code="usage.no-log",
        ) from error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise Misconfigured(f"{name} is not a file", remedy="Logs are read from files.")
    return os.fdopen(number, "rb")
