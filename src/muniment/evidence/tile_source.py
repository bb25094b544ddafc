"""An exported ledger as something to verify: foreign files, read as such.

Layout: ``checkpoint``, ``tile/…`` (C2SP tlog-tiles), and, as `muniment ledger export` adds them, every published
checkpoint in ``checkpoints/<size>`` and time-stamps in ``stamps/<size>.<n>.tsr``. Links are not followed, and no file
is read further than it may be long.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from muniment.ledger.canonical import MAX_ENTRY
from muniment.ledger.errors import BadKey, BadTile, LedgerFault
from muniment.ledger.merkle import HASH
from muniment.ledger.note import MAX_NOTE, Verifier
from muniment.ledger.scan import RANGE, Combined, RangeFound, RangeScan, bundle_hashes
from muniment.ledger.tiles import (
    MAX_LEVEL,
    TILE,
    bundle_path,
    decode_bundle,
    level_hashes,
    tile_path,
    tile_width,
)
from muniment.ledger.trust import MAX_POLICY, TrustPolicy
from muniment.ledger.wire import read_text

MAX_BUNDLE = TILE * (2 + MAX_ENTRY)
MAX_STAMP = 64 * 1024

_TILE_FILE = re.compile(r"(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


class BadDirectory(LedgerFault):
    """The folder is not an exported ledger, or one of its files cannot be read as what its name says."""

    code = "ledger.bad-directory"


class TileSource:
    """A folder, at one size. Plain data: it can be sent to another process."""

    def __init__(self, root: Path, size: int) -> None:
        """``size``: of the tree to verify."""
        self.root, self.size = root, size
        self._plain: set[str] = set()  # folders that are no links

    @property
    def name(self) -> str:
        """What is verified, for whoever goes on with it later."""
        return f"dir {self.root.resolve()}"

    def hash_range(self, start: int, sizes: Sequence[int]) -> RangeFound:
        """Hash the range of entries from ``start``, and compare its tiles of levels 0 and 1 with what they must be."""
        scan, fault, count = RangeScan(start, sizes), None, min(RANGE, self.size - start)
        for index in range(start // TILE, -(-(start + count) // TILE)):
            width = min(TILE, self.size - index * TILE)
            path = bundle_path(index, width)
            try:
                hashes = bundle_hashes(self._bundle(index, width), width, limit=MAX_ENTRY, what=path)
            except LedgerFault as wrong:  # nothing beyond it can be placed
                return scan.found(fault or f"leaf {index * TILE} and on: {wrong}")
            tile = scan.feed(hashes)
            fault = fault or self._differs(0, index, tile)
        above = scan.level_one()
        return scan.found(fault or (self._differs(1, start // RANGE, above) if above else None))

    def higher_levels(self, tree: Combined) -> str | None:
        """Compare the tiles above level 1; they are few. Returns the first fault."""
        level, hashes = 2, tree.ranges
        while hashes:
            for index in range(-(-len(hashes) // TILE)):
                part = hashes[index * TILE : (index + 1) * TILE]
                if fault := self._differs(level, index, b"".join(part)):
                    return fault
            full = len(hashes) // TILE
            hashes = [level_hashes(b"".join(hashes[n * TILE : (n + 1) * TILE])) for n in range(full)]
            level += 1
        return None

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """Index and bytes of every entry, in order.

        Raises:
            LedgerFault: a bundle cannot be read.
        """
        for index in range(-(-self.size // TILE)):
            width = min(TILE, self.size - index * TILE)
            what = bundle_path(index, width)
            bundle = decode_bundle(self._bundle(index, width), width, limit=MAX_ENTRY, what=what)
            yield from enumerate(bundle, start=index * TILE)

    def surplus(self) -> str | None:
        """A file below ``tile/`` that is no part of this tree, nor of a smaller one of the same log; the first by name."""
        begin = len(f"{self.root}/tile/")
        for folder, folders, names in os.walk(f"{self.root}/tile"):
            folders.sort()
            for name in sorted(names):
                path = f"{folder}/{name}"[begin:]
                if not name.startswith(".") and (fault := self._unaccounted(path)):
                    return f"tile/{path}: {fault}"
        return None

    def proposals(self) -> str | None:
        """What is wrong with the operator's own words about whom to trust, if they are there. They prove nothing."""
        for path, read in (("vkey", _vkeys), ("trust", TrustPolicy.parse)):
            if os.path.lexists(self.root / path):
                try:
                    read(self.read(path, MAX_POLICY))
                except LedgerFault as fault:
                    return f"{path}: {fault}"
        return None

    def checkpoints(self) -> Iterator[tuple[int, str]]:
        """Size, by its name, and note of every kept checkpoint, smallest first.

        Raises:
            BadDirectory: a file's name is not a size.
        """
        for size in self._numbers("checkpoints"):
            yield size, self.note(f"checkpoints/{size}")

    def note(self, path: str = "checkpoint") -> str:
        """A checkpoint. Raises `BadDirectory` if it is not there or is not text."""
        try:
            return self.read(path, MAX_NOTE).decode()
        except UnicodeDecodeError:
            raise BadDirectory(f"{path} is not UTF-8") from None

    def stamps(self, size: int) -> list[bytes]:
        """Time-stamps of the checkpoint over ``size`` entries."""
        return [
            self.read(f"stamps/{name}", MAX_STAMP)
            for name in self._names("stamps")
            if name.partition(".")[0] == str(size) and name.endswith(".tsr")
        ]

    def read(self, path: str, limit: int) -> bytes:
        """Read a file below the folder.

        Raises:
            BadDirectory: it is missing, too long, a link or not a file.
        """
        self._no_links(path)
        try:
            handle = os.open(
                f"{self.root}/{path}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except OSError as error:
            why = "is a link" if error.errno == errno.ELOOP else error.strerror
            raise BadDirectory(f"{path}: {why}") from None
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise BadDirectory(f"{path} is not a file")
            if status.st_size > limit:
                raise BadDirectory(f"{path} has {status.st_size} bytes; {limit} are allowed")
            content = os.read(handle, status.st_size + 1)
        except OSError as error:
            raise BadDirectory(f"{path}: {error.strerror}") from None
        finally:
            os.close(handle)
        if len(content) != status.st_size:
            raise BadDirectory(f"{path} changes while it is read")
        return content

    def _bundle(self, index: int, width: int) -> bytes:
        """A bundle of this tree; where the log has grown since, the part of the full one."""
        path = bundle_path(index, width)
        if (
            width < TILE
            and not os.path.lexists(self.root / path)
            and os.path.lexists(self.root / bundle_path(index))
        ):
            return _first_entries(self.read(bundle_path(index), MAX_BUNDLE), width, bundle_path(index))
        return self.read(path, MAX_BUNDLE)

    def _differs(self, level: int, index: int, wanted: bytes) -> str | None:
        """Whether a published tile is another than the entries make."""
        path = tile_path(level, index, len(wanted) // HASH)
        try:
            there = self._tile(path, tile_path(level, index), len(wanted))
        except LedgerFault as fault:
            return str(fault)
        if there == wanted:
            return None
        if len(there) != len(wanted):
            return f"{path} has {len(there)} bytes, not {len(wanted)}"
        at = (
            next(n for n in range(0, len(wanted), HASH) if there[n : n + HASH] != wanted[n : n + HASH])
            // HASH
        )
        return (
            f"{path}: hash {at} is not what the entries from leaf {(index * TILE + at) << (8 * level)} make"
        )

    def _tile(self, path: str, full: str, length: int) -> bytes:
        if path != full and not os.path.lexists(self.root / path) and os.path.lexists(self.root / full):
            return self.read(full, TILE * HASH)[:length]
        return self.read(path, TILE * HASH)

    def _unaccounted(self, path: str) -> str | None:
        match = _TILE_FILE.fullmatch(path)
        if match is None:
            return "no tile has such a name"
        kind, groups, part = match.groups()
        index, width = int(groups.replace("x", "").replace("/", "")), int(part or TILE)
        level = 0 if kind == "entries" else int(kind)
        name = bundle_path if kind == "entries" else partial(tile_path, level)
        there = tile_width(self.size, level, index)
        if level > MAX_LEVEL or width > there or f"tile/{path}" != name(index, width):
            return f"the tree of {self.size} leaves has no such tile"
        if width == there:
            return None
        # of a smaller tree: it must be the beginning of what this one has, which was verified
        try:
            if kind == "entries":
                whole = _first_entries(self._bundle(index, there), width, path)
            else:
                whole = self._tile(name(index, there), name(index), there * HASH)[: width * HASH]
            same = self.read(f"tile/{path}", MAX_BUNDLE) == whole
        except LedgerFault as fault:
            return str(fault)
        return None if same else "it is not the beginning of the tile that took its place"

    def _numbers(self, folder: str) -> list[int]:
        names = self._names(folder)
        for name in names:
            if not re.fullmatch("0|[1-9][0-9]{0,18}", name):
                raise BadDirectory(f"{folder}/{name!r:.60} is not named after a size")
        return sorted(map(int, names))

    def _names(self, folder: str) -> list[str]:
        self._no_links(f"{folder}/x")
        try:
            names = [each.name for each in (self.root / folder).iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise BadDirectory(f"{folder}: {error.strerror}") from None
        return sorted(name for name in names if not name.startswith("."))

    def _no_links(self, path: str) -> None:
        folder, _, _ = path.rpartition("/")
        if not folder or folder in self._plain:
            return
        self._no_links(folder)
        if os.path.islink(f"{self.root}/{folder}"):  # noqa: PTH114  three times for each file: a Path costs more
            raise BadDirectory(f"{folder} is a link")
        self._plain.add(folder)


def _vkeys(raw: bytes) -> None:
    text = read_text(raw, limit=MAX_POLICY, what="the file", fault=BadKey)
    if not text.endswith("\n"):
        raise BadKey("the last line does not end in a newline")
    for line in text[:-1].split("\n"):
        Verifier.from_vkey(line)


def _first_entries(raw: bytes, count: int, what: str) -> bytes:
    """The beginning of a bundle that holds its first entries."""
    at = 0
    for _ in range(count):
        if at + 2 > len(raw):
            raise BadTile(f"{what} ends before {count} entries")
        at += 2 + (raw[at] << 8 | raw[at + 1])
    return raw[:at]
