"""Bring a signed checkpoint, and the tiles and entries it names, to where others read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from muniment.core.errors import IntegrityError
from muniment.ledger.checkpoint import Checkpoint, with_lines
from muniment.ledger.errors import BadTile
from muniment.ledger.note import parse_note
from muniment.ledger.tiles import TileWriter
from muniment.service.desk import Desk
from muniment.service.documents import Document
from muniment.store.checkpoints import Kept
from muniment.store.tile_directory import TileDirectory


def publish(desk: Desk, kept: Kept) -> None:
    """Publish a signed checkpoint. Idempotent; a crash anywhere leaves the one before published.

    Raises:
        IntegrityError: a file is there already and differs, or the entries do not make the signed root.
        StoreUnavailable: the files cannot be written.
    """
    if desk.tiles is not None:
        with desk.tiles.alone():
            _grow(desk, desk.tiles, kept)
    if not kept.published:
        desk.ledger.kept.mark_published(kept.size, desk.clock.now())


def refresh(desk: Desk, size: int) -> None:
    """Put the cosignatures that arrived into the published checkpoint, if it is still the one over ``size``."""
    if desk.tiles is None:
        return
    with desk.tiles.alone():
        if (note := desk.tiles.checkpoint()) is not None and _head(note).size == size:
            desk.tiles.publish(cosigned_note(desk, size))


def export(desk: Desk, folder: Path, progress: Callable[[int], None] = lambda _: None) -> Document:
    """Write the published ledger to a folder that an auditor can take away.

    Every tile is made anew from the entries. One that is there already must be equal, so an export into a folder
    that was exported to before is also a check of it.

    Raises:
        IntegrityError: it is not equal, or nothing was published yet.
    """
    published = desk.ledger.published()
    if not published:
        raise IntegrityError(
            "no checkpoint was published yet", remedy="Run `muniment ledger checkpoint` first."
        )
    newest, directory = published[-1], TileDirectory(folder)
    with directory.alone():
        there = directory.checkpoint()
        if there is not None and _head(there).size > newest.size:
            raise IntegrityError(
                f"{folder} holds a newer ledger than this store: {_head(there).size} entries, not {newest.size}",
                remedy="Use another folder; if this store is a restored backup, see docs/how-to/recover-the-ledger.md.",
                code="ledger.rolled-back",
            )
        _write(desk, directory, TileWriter(), _head(newest.note), progress)
        for each in published:
            directory.put(f"checkpoints/{each.size}", each.note.encode())
            for number, stamp in enumerate(each.stamps):
                directory.put(f"stamps/{each.size}.{number}.tsr", stamp.token)
        directory.put("vkey", "".join(f"{verifier.vkey}\n" for verifier in desk.verifiers).encode())
        directory.put("trust", desk.trust.render().encode())
        directory.publish(cosigned_note(desk, newest.size))
    return {"dir": str(folder), "size": newest.size, "checkpoints": len(published)}


def _grow(desk: Desk, directory: TileDirectory, kept: Kept) -> None:
    note = directory.checkpoint()
    size = _head(note).size if note else 0
    if note is not None and size >= kept.size:
        return
    try:
        writer = TileWriter(size, directory.must_read)
    except BadTile as fault:
        raise IntegrityError(
            f"the published tiles in {directory.root} do not hold together: {fault}",
            remedy="Nothing is published any more. Keep the folder as it is, and find out who changed it.",
            code="ledger.tile-differs",
        ) from fault
    full = _write(desk, directory, writer, _head(kept.note))
    directory.publish(kept.note)
    directory.drop_partials(f"{path}.p" for path in full)


def _write(
    desk: Desk,
    directory: TileDirectory,
    writer: TileWriter,
    head: Checkpoint,
    progress: Callable[[int], None] = lambda _: None,
) -> list[str]:
    """Write what the tree adds; return the paths of tiles and bundles that became full."""
    full: list[str] = []

    def files() -> Iterator[tuple[str, bytes]]:
        entries = (body for _, body in desk.ledger.entries(start=writer.size, upto=head.size))
        for path, content in writer.extend(entries):
            full.append(path)
            yield path, content
            progress(writer.size)
        yield from writer.partials()

    directory.add(files())
    if (writer.size, writer.root()) != (head.size, head.root):
        raise IntegrityError(
            f"the {head.size} entries in the store do not make the root that was signed over them",
            remedy="Nothing is published any more. Keep the database as it is, and run `muniment ledger verify`.",
        )
    progress(writer.size)
    return full


def cosigned_note(desk: Desk, size: int) -> str:
    """With the newest cosignature of each witness: how fresh it is is what a monitor asks."""
    kept = desk.ledger.kept.at(size)
    if kept is None:
        raise IntegrityError(
            f"the checkpoint over {size} entries is not kept any more",
            remedy="Keep the database as it is and find out what was removed.",
        )
    return with_lines(kept.note, [each.line for each in desk.ledger.kept.cosignatures(size)])


def _head(note: str) -> Checkpoint:
    return Checkpoint.parse(parse_note(note).text)
