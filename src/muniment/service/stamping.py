"""Have published checkpoints stamped by an authority of time (RFC 3161), and keep what it answers.

A stamp bounds times from two sides: what the checkpoint covers was there by then, and what comes later came after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from muniment.core.errors import StampRefused
from muniment.core.instants import wire
from muniment.evidence.times import Anchor
from muniment.ledger.errors import LedgerFault
from muniment.ledger.note import parse_note
from muniment.service.desk import Desk
from muniment.service.documents import Document
from muniment.service.witnessing import CLOCKS
from muniment.store.checkpoints import Published, Stamped

#: what looks at one stamp: see `anchors.timestamps.stamp_check`
Check = Callable[[bytes, bytes], tuple[int, str]]


def stamp(desk: Desk, *, every: timedelta = timedelta(0)) -> Stamped | None:
    """Have the newest published checkpoint stamped, if none was for ``every``; None if nothing is to be done.

    A checkpoint is stamped once. A crash before the stamp is kept costs another question.

    Raises:
        StampUnavailable: the authority did not answer.
        StampRefused: it answered something else than a stamp of this checkpoint, or its clock is not ours.
    """
    size = desk.ledger.kept.published_size()
    kept = desk.ledger.kept.at(size) if desk.authority else None
    if kept is None or desk.authority is None or desk.ledger.kept.stamps(size):
        return None
    now, last = desk.clock.now(), desk.ledger.kept.last_stamp()
    if last is not None and now - last < every:
        return None
    made = desk.authority.stamp(parse_note(kept.note).text)
    at = datetime.fromtimestamp(made.time, UTC)
    if abs(at - now) > timedelta(seconds=CLOCKS):
        raise StampRefused(
            f"the time-stamping authority says that it is {wire(at)}; here it is {wire(now)}",
            remedy="One of the two clocks is wrong. Set yours by NTP.",
            code="timestamp.wrong-clock",
        )
    stamped = Stamped(authority=made.authority, at=at, token=made.token)
    desk.ledger.kept.add_stamp(size, stamped)
    return stamped


def stamps(desk: Desk, size: int) -> list[Document]:
    """What is known of one checkpoint's time-stamps."""
    return [{"authority": each.authority, "at": wire(each.at)} for each in desk.ledger.kept.stamps(size)]


def dated(tokens: Iterable[tuple[int, str, str, bytes]], check: Check) -> tuple[list[Anchor], str | None]:
    """Times that stamps give, and what is wrong with the first one that does not verify.

    Args:
        tokens: size, name for messages, note and stamp of each.
        check: looks at one.
    """
    anchors: list[Anchor] = []
    for size, name, note, token in tokens:
        try:
            time, authority = check(token, parse_note(note).text.encode())
        except LedgerFault as fault:
            return anchors, f"{name}: {fault.message}"
        anchors.append(Anchor(size=size, time=time, source=f"stamped by {authority}"))
    return anchors, None


def tokens_of(published: Iterable[Published], upto: int) -> list[tuple[int, str, str, bytes]]:
    """The stamps of kept checkpoints, for `dated`."""
    return [
        (each.size, f"stamps/{each.size}.{number}.tsr", each.note, stamp.token)
        for each in published
        if each.size <= upto
        for number, stamp in enumerate(each.stamps)
    ]
