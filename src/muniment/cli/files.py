# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""Files that commands are given."""

from __future__ import annotations

from pathlib import Path

from muniment.core.errors import Misconfigured


def read_file(path: Path) -> bytes:
    """A file that is evidence, or says whom to trust. Raises `Misconfigured`."""
    from muniment.evidence.archive import MAX_BUNDLE

    try:
        with path.expanduser().open("rb") as file:
            return file.read(MAX_BUNDLE + 1)
    except OSError as error:
        raise Misconfigured(
            f"{path} cannot be read: {error.strerror}", remedy="Name a file that is there."
        ) from error
