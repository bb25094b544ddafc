"""Checkpoints: a log's head (`head`) as a signed note, by the log's own keys and, below theirs, by witnesses.

The log's key is named like its origin. Lines by others may be added at any time: they change neither the text nor
what the log signed.

Source: c2sp.org/tlog-checkpoint v1.0.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from muniment.ledger.errors import BadNote, WrongOrigin
from muniment.ledger.head import Checkpoint
from muniment.ledger.note import Signer, Verifier, open_note, parse_note, sign_note

__all__ = ["Checkpoint", "open_checkpoint", "sign_checkpoint", "with_lines"]


def sign_checkpoint(checkpoint: Checkpoint, signers: Sequence[Signer]) -> str:
    """Return the signed note. Sign only what is durable: two roots for one size destroy a log for good.

    Args:
        checkpoint: the committed head.
        signers: the log's key first, named like the origin; others may follow.

    Raises:
        WrongOrigin: the first signer is not this log's.
    """
    if not signers or signers[0].name != checkpoint.origin:
        name = signers[0].name if signers else "nobody"
        raise WrongOrigin(
            f"the checkpoint of {checkpoint.origin} is to be signed by its own key, not by {name}"
        )
    return sign_note(checkpoint.text(), signers)


def open_checkpoint(note: str | bytes, verifier: Verifier) -> Checkpoint:
    """Verify a signed checkpoint; return what it says.

    Args:
        note: the whole note.
        verifier: the log's key, from one's own trust file. Its name is the origin.

    Raises:
        BadNote: it is not a note.
        BadSignature: the signature by the log's key does not verify.
        WrongKey: it is not signed by the log's key.
        BadCheckpoint: the text is not a checkpoint.
        WrongOrigin: the log's key signed a checkpoint of another log.
    """
    checkpoint = Checkpoint.parse(open_note(note, [verifier]).text)
    if checkpoint.origin != verifier.name:
        raise WrongOrigin(f"the key of {verifier.name} signed a checkpoint of {checkpoint.origin!r:.60}")
    return checkpoint


def with_lines(note: str | bytes, lines: str | Iterable[str]) -> str:
    """Return the note with more signature lines, such as a witness answered.

    Verifies nothing. The text stays, byte for byte; of the lines the first by each key name and id stays, in the
    order in which they came, those of ``note`` first.

    Args:
        note: the signed checkpoint.
        lines: signature lines, each with its newline; or one string of them.

    Raises:
        BadNote: a line is none, or the note would become too long or have too many.
    """
    before = parse_note(note)
    added = lines if isinstance(lines, str) else "".join(lines)
    if not added:
        return before.text + "\n" + "".join(each.line() for each in before.signatures)
    # read with the text before it: an empty line among those added would move the end of the text
    after = parse_note(before.text + "\n" + added)
    if after.text != before.text:
        raise BadNote("the lines to add to the note are not signature lines alone")
    kept = {(each.name, each.key_id): each for each in reversed(before.signatures + after.signatures)}
    ordered = [each for each in before.signatures + after.signatures if kept[each.name, each.key_id] is each]
    merged = before.text + "\n" + "".join(each.line() for each in ordered)
    parse_note(merged)  # what we would not read, we do not hand out
    return merged
