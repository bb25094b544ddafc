"""One submitted checkpoint, from bytes to answer.

Nothing is signed before the record has moved: a crash before the commit leaves a signature that nobody saw, and one
after it a record that the log is told about when it asks again. Two requests at once move the record one after the
other, and the second is compared with what the first left (tlog-witness, "add-checkpoint", last paragraph).

Source: c2sp.org/tlog-witness v1.0.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from muniment.ledger.checkpoint import Checkpoint, with_lines
from muniment.ledger.cosignature import Cosigner
from muniment.ledger.errors import BadNote, BadProof, LedgerFault
from muniment.ledger.merkle import HASH, Frontier, verify_consistency
from muniment.ledger.note import MAX_NOTE, Note, Signature, open_note, parse_note
from muniment.ledger.wire import read_base64, read_decimal, read_text
from muniment.witness.record import Record, Seen, latest, move

#: hashes of a consistency proof at most
MAX_HASHES = 63
#: bytes of a request at most
MAX_REQUEST = MAX_NOTE + MAX_HASHES * 45 + 64

_PLAIN = "text/plain; charset=utf-8"
_SIZE = "text/x.tlog.size"


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What is answered."""

    status: int
    body: str
    content_type: str = _PLAIN


class _Submitted(msgspec.Struct, frozen=True, kw_only=True):
    old: int
    proof: tuple[bytes, ...]
    note: Note  # once admitted, with the log's verified lines alone
    head: Checkpoint


def add_checkpoint(record: Record, cosigners: Sequence[Cosigner], body: bytes, now: int) -> Reply:
    """Answer ``POST add-checkpoint``.

    Args:
        record: what was seen until now.
        cosigners: the witness's keys.
        body: of the request.
        now: POSIX seconds, which the cosignature will claim.

    Raises:
        StoreUnavailable: the record cannot be moved; nothing was signed.
    """
    try:
        asked = _admitted(record, body)
        return _moved(record, cosigners, asked, now)
    except _Refused as refused:
        return refused.reply


def _admitted(record: Record, body: bytes) -> _Submitted:
    """Well formed, of a log that is known, and signed by it."""
    asked = _read(body)
    keys = record.keys_of(asked.head.origin)
    if not keys:
        raise _Refused(Reply(status=404, body=f"the log {asked.head.origin!r:.80} is not known here\n"))
    with _refusing(403):
        verified = open_note(_note(asked.note.text, asked.note.signatures), keys)
    if asked.old > asked.head.size:
        why = f"the old size {asked.old} is larger than that of the checkpoint, {asked.head.size}\n"
        raise _Refused(Reply(status=400, body=why))
    return msgspec.structs.replace(asked, note=verified)


def _moved(record: Record, cosigners: Sequence[Cosigner], asked: _Submitted, now: int) -> Reply:
    """Compare with what was seen, sign, and move the record, in one transaction."""
    with record.moving() as connection:
        before = latest(connection, asked.head.origin)
        size = before.size if before else 0
        if asked.old != size:
            return Reply(status=409, body=f"{size}\n", content_type=_SIZE)
        with _refusing(422):
            _check_growth(before, asked)
        with _refusing(400):  # such as an origin too long for ML-DSA-44
            lines = "".join(each.sign(asked.note.text, now) for each in cosigners)
            first, *others = asked.note.signatures
            note = with_lines(_note(asked.note.text, [first]), [*(each.line() for each in others), lines])
        after = Seen(size=asked.head.size, root=asked.head.root, time=now, note=note)
        if not move(connection, asked.head.origin, before, after):
            return Reply(status=503, body="another request was first; try again\n")
    return Reply(status=200, body=lines)


def _read(body: bytes) -> _Submitted:
    """Take a request apart, strictly."""
    with _refusing(400):
        text = read_text(body, limit=MAX_REQUEST, what="the request", fault=BadNote)
        top, empty, checkpoint = text.partition("\n\n")
        first, *hashes = top.split("\n")
        if not empty or not first.startswith("old "):
            raise BadProof("a request is an old size, hashes, an empty line and a checkpoint")
        if len(hashes) > MAX_HASHES:
            raise BadProof(f"the request has {len(hashes)} hashes; {MAX_HASHES} are the most any tree needs")
        old = read_decimal(first[4:], what="the old size", fault=BadProof)
        proof = tuple(
            read_base64(each, what=f"hash {at} of the proof", fault=BadProof, length=HASH)
            for at, each in enumerate(hashes)
        )
        note = parse_note(checkpoint)
    # no entries and the root of some is no slip of form to the specification: it asks for 422
    with _refusing(422 if note.text.split("\n")[1:2] == ["0"] else 400):
        head = Checkpoint.parse(note.text)
    return _Submitted(old=old, proof=proof, note=note, head=head)


def _check_growth(before: Seen | None, asked: _Submitted) -> None:
    """Raise a `LedgerFault` unless the checkpoint has grown from what was seen."""
    if asked.old == 0 and asked.proof:
        raise BadProof("from an empty tree there is nothing to prove")
    root = before.root if before else Frontier().root()
    verify_consistency(asked.old, asked.head.size, asked.proof, root, asked.head.root)


def _note(text: str, signatures: Sequence[Signature]) -> str:
    return text + "\n" + "".join(each.line() for each in signatures)


class _Refused(Exception):
    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.body)
        self.reply = reply


@contextmanager
def _refusing(status: int) -> Iterator[None]:
    """A fault in what was sent is this status, and says what is wrong."""
    try:
        yield
    except LedgerFault as fault:
        raise _Refused(Reply(status=status, body=f"{fault.message}\n")) from fault
