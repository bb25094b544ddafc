"""A ledger's tiles as files, in the layout of C2SP tlog-tiles, for anybody who serves or copies a folder.

What is there is never changed: a file is written beside its place, brought to the disk, and renamed into it; one that
is there already must hold the same bytes. ``checkpoint`` is renamed last, after everything that it names is on the
disk, folders too. So a crash at any moment leaves files that nobody reads yet, and the old checkpoint.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from muniment.core.errors import IntegrityError, StoreUnavailable
from muniment.ledger.note import MAX_NOTE

CHECKPOINT = "checkpoint"
#: bytes of the largest file: a bundle of 256 entries, each of the greatest length that its two bytes can say
MAX_FILE = 256 * (2 + 65_535)


class TileDirectory:
    """One folder. Several processes may write the same ledger to it."""

    def __init__(self, root: Path) -> None:
        """``root`` is made when it is first written to."""
        self.root = root

    def checkpoint(self) -> str | None:
        """The published note, not verified; None if nothing was ever published here."""
        raw = self.read(CHECKPOINT, MAX_NOTE)
        try:
            return None if raw is None else raw.decode()
        except UnicodeDecodeError as error:
            raise IntegrityError(
                f"{self.root / CHECKPOINT} is not a checkpoint", remedy="Find out who changed it."
            ) from error

    def read(self, path: str, limit: int = MAX_FILE) -> bytes | None:
        """A file of the ledger, or None if it is not there."""
        try:
            with (self.root / path).open("rb") as file:
                content = file.read(limit + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failed(path, "read", error) from error
        if len(content) > limit:
            raise IntegrityError(f"{self.root / path} is longer than {limit} bytes", remedy=_WHO)
        return content

    def must_read(self, path: str) -> bytes:
        """A file that the checkpoint names.

        Raises:
            IntegrityError: it is not there.
        """
        content = self.read(path)
        if content is None:
            raise IntegrityError(
                f"{self.root / path} is missing, and {self.root / CHECKPOINT} names it",
                remedy=f"Put it back from a copy. {_WHO}",
                code="ledger.tile-differs",
            )
        return content

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """One writer at a time, so that no older checkpoint takes the place of a newer one."""
        handle = self._opened(".lock")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def add(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Bring files that never change to the disk, each whole or not at all.

        Raises:
            IntegrityError: one is there with other bytes. It stays as it is: it is evidence.
            StoreUnavailable: the disk is full, read-only, or failed; nothing that was published is harmed.
        """
        folders: set[Path] = set()
        for path, content in files:
            there = self.read(path, max(len(content), MAX_FILE))
            if there == content:
                continue
            if there is not None:
                raise IntegrityError(
                    f"{self.root / path} is not what the ledger's entries make",
                    remedy=f"Nothing is published any more. {_WHO}",
                    code="ledger.tile-differs",
                )
            folders |= self._replace(path, content)
        self._sync(folders)

    def publish(self, note: str) -> None:
        """Make ``note`` the checkpoint, now that everything it names is on the disk."""
        self._sync(self._replace(CHECKPOINT, note.encode()))

    def put(self, path: str, content: bytes) -> None:
        """Write or replace a file that is not part of the tree."""
        if self.read(path, max(len(content), MAX_FILE)) != content:
            self._sync(self._replace(path, content))

    def drop_partials(self, folders: Iterable[str]) -> None:
        """Delete partial tiles whose full tile is on the disk; readers fall back to it."""
        for name in folders:
            folder = self.root / name
            with contextlib.suppress(OSError):  # they are harmless, and found again by nobody
                for file in folder.iterdir():
                    file.unlink()
                folder.rmdir()

    def _replace(self, path: str, content: bytes) -> set[Path]:
        """Put a file in its place; return the folders that changed, which are not on the disk yet."""
        place = self.root / path
        changed = {place.parent}
        try:
            for folder in (place.parent, *place.parent.parents):
                if folder.is_dir():
                    changed.add(folder)
                    break
                changed.add(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".new-", dir=place.parent)
            temporary = Path(name)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.chmod(0o644)
                temporary.replace(place)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
        except OSError as error:
            raise self._failed(path, "written", error) from error
        return changed

    def _opened(self, name: str) -> int:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            return os.open(self.root / name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._failed(name, "written", error) from error

    def _sync(self, folders: Iterable[Path]) -> None:
        """Bring the names in these folders to the disk."""
        for folder in folders:
            try:
                handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
            except OSError as error:
                raise self._failed(str(folder), "written", error) from error

    def _failed(self, path: str, what: str, error: OSError) -> StoreUnavailable:
        return StoreUnavailable(
            f"the ledger's file {self.root / path} cannot be {what}: {error.strerror}",
            remedy="Check the folder's owner, mode and free space. Until then nothing new is granted.",
            code="ledger.tiles-unavailable",
        )


_WHO = "Keep the folder and the database as they are, and find out who changed it."
