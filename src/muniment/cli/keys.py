"""``muniment admin rotate-key``: files of keys, and what people read of it."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType

from muniment.cli import console
from muniment.cli.session import Usage
from muniment.core.errors import Misconfigured
from muniment.ledger.keys import SEED, ml_dsa_from_seed, signer_from_seed, signer_to_pem

if TYPE_CHECKING:
    from muniment.config import Config
    from muniment.service.desk import Desk

_FILE = "file:"
MARK = "mark.key"


def make(config: Config, reference: str, *, ml_dsa: bool) -> str | None:
    """Make the key file that a reference names, if it is not there; return its path if it was made."""
    if not reference.startswith(_FILE):
        if ml_dsa:
            raise Usage("ML-DSA-44 keys lie in files", remedy="Write file:PATH.")
        return None
    path = config.path(reference.removeprefix(_FILE))
    if path.exists():
        return None
    new = (ml_dsa_from_seed if ml_dsa else signer_from_seed)(config.ledger.origin, secrets.token_bytes(SEED))
    write(path, signer_to_pem(new))
    return str(path)


def own_mark(config: Config, desk: Desk) -> list[str]:
    """See to it that the mark on entries outlives the key file it was derived from; return what is to be done."""
    if config.store.mark_key is not None:
        return []
    path = config.path(config.ledger.key.removeprefix(_FILE)).parent / MARK
    content = desk.store.marker.file()
    if not path.exists():
        write(path, content)
    elif path.read_bytes() != content:
        raise Misconfigured(
            f"{path} is there, and is not what this store's entries are marked with",
            remedy="Move it away, or name the right one as [store] mark_key.",
            code="config.mark-key",
        )
    name = path.relative_to(config.base) if path.is_relative_to(config.base) else path
    return [f'add to [store]: mark_key = "file:{name}". It marks entries, and outlives the ledger\'s key']


def require_own_mark(config: Config) -> None:
    """A key file that marks are derived from is not given up."""
    if config.store.mark_key is None:
        raise Misconfigured(
            "the mark on stored entries is derived from [ledger] key, and would be void without it",
            remedy=f'Add [store] mark_key = "file:keys/{MARK}", which the announcement of the new key has made.',
            code="config.mark-key",
        )


def write(path: Path, content: bytes) -> None:
    """A new file that only its owner can read, durable before its name is used."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise Misconfigured(
            f"{path} cannot be written: {error.strerror}", remedy="Check the folder, its owner and mode."
        ) from error


def render(document: dict[str, Any]) -> RenderableType:
    """For people."""
    rows = [
        (each["key"], each["algorithm"], each["state"], _at(each["announced"]), _at(each["retired"]))
        for each in document["keys"]
    ]
    parts: list[RenderableType] = [
        console.table(("key", "algorithm", "state", "announced", "retired"), rows, empty="There is no key.")
    ]
    if document.get("made"):
        parts.append(console.line(f"Made {document['made']}; keep a copy offline."))
    parts += [console.line(f"Next: {words}.", console.LOOK) for words in document["next"]]
    return Group(*parts)


def _at(entry: int | None) -> str:
    return "" if entry is None else f"entry {entry}"
