"""References from one TOML file: `ports.References` until a ticket system is asked itself.

    [change."CHG-7"]
    open = true

The file is read again whenever it is asked. A reference that is not in it does not exist.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from muniment.core.errors import Misconfigured, Unavailable

MAX_FILE = 16 << 20


class _Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    open: bool
    title: str = ""


class FileReferences:
    """One file, which whoever keeps changes and incidents writes as a whole (a new file, moved into place)."""

    def __init__(self, path: Path) -> None:
        """Nothing is read before something is asked: a broken list holds up no revocation."""
        self._path = path

    def is_open(self, kind: str, ident: str) -> bool:
        """As `ports.References` says. A file that cannot be read or used says nothing about anything."""
        try:
            found = self._read()
        except Misconfigured as error:
            raise Unavailable(
                f"whether {kind} {ident} is open cannot be said: {error.message}", remedy=error.remedy
            ) from error
        return kind in found and ident in found[kind] and found[kind][ident].open

    def _read(self) -> dict[str, dict[str, _Reference]]:
        try:
            with self._path.open("rb") as file:
                content = file.read(MAX_FILE + 1)
            if len(content) > MAX_FILE:
                raise _wrong(f"{self._path} is longer than 16 MiB", "Leave out what was closed long ago.")
            return msgspec.convert(tomllib.loads(content.decode()), dict[str, dict[str, _Reference]])
        except OSError as error:
            raise _wrong(
                f"the references file {self._path} cannot be read: {error.strerror}",
                "Check [references] file.",
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
            raise _wrong(
                f"{self._path}: {error}", 'Write each as [change."CHG-7"], with open = true or false below.'
            ) from error


def _wrong(message: str, remedy: str) -> Misconfigured:
    return Misconfigured(message, remedy=remedy, code="config.references")
