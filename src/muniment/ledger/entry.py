"""The entry: what every leaf of the tree says, whatever happened.

``{v, log, ticket, seq, prev, type, actor, at, data, sig?}``, as canonical JSON. The log's name, the ticket, the
place in it and the previous entry are inside the bytes that are hashed, so an entry cannot be moved to another log
or ticket, nor dropped from the middle of one, without showing.

The chain of a ticket: ``seq`` counts 0, 1, 2, …; ``prev`` is null at 0 and else the leaf hash of ``seq - 1``.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Literal

import msgspec

from muniment.ledger.canonical import MAX_DEPTH, MAX_ENTRY, MAX_INT, check_keys, decode_strict
from muniment.ledger.errors import BadEntry
from muniment.ledger.merkle import leaf_hash
from muniment.ledger.wire import good_name

#: characters of a ticket id, an actor id or an event type at most
MAX_NAME = 400

_type = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*/[1-9][0-9]{0,5}").fullmatch
_prev = re.compile("sha256:[0-9a-f]{64}").fullmatch
_at = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z"
).fullmatch


class Actor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who acted, as the writer saw it. A claim of the log's operator, unless the entry carries a signature."""

    id: str  # identity, such as human:ann@example.com
    via: str  # how they came in: local, session, token, …


def _version() -> Literal[1]:
    return 1


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One fact, in its envelope."""

    # a factory, because a plain default would be left out of the bytes by omit_defaults, which `sig` needs
    v: Literal[1] = msgspec.field(default_factory=_version)  # version of the envelope
    log: str  # origin of the log the entry belongs to
    ticket: str  # stream the entry belongs to
    seq: int  # place in the ticket, from 0
    prev: str | None  # "sha256:<hex>" of the leaf hash of the ticket's previous entry; null at seq 0
    type: str  # kind of event and version of its shape, such as request-submitted/1
    actor: Actor
    at: str  # when, as the writer's clock said: YYYY-MM-DDTHH:MM:SS.ffffffZ, UTC
    data: msgspec.Raw  # the event's fields: an object, canonical already
    sig: dict[str, str] | None = None  # the actor's own signature; left out when there is none

    def encode(self) -> bytes:
        """Return the canonical bytes, to be stored and hashed as they are.

        Raises:
            BadEntry: the verifier would refuse the entry. Found here, it is an error message; found later, it is a
                wound in a tree that nobody can mend.
        """
        _check_fields(self)
        raw = _canonical(self)
        if len(raw) > MAX_ENTRY:
            raise BadEntry(f"the entry has {len(raw)} bytes; {MAX_ENTRY} are allowed")
        return raw


_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Entry).decode


def decode_entry(raw: bytes, *, strict: bool = False) -> Entry:
    """Read an entry.

    Args:
        raw: the stored bytes. ``Entry.data`` refers into them.
        strict: prove the canonical form and every field too. Without it the fields have their types, and the rest
            rests on whoever vouches for the bytes: for reading back what we wrote ourselves.

    Raises:
        BadEntry: the bytes are not an entry.
    """
    if len(raw) > MAX_ENTRY:
        raise BadEntry(f"the entry has {len(raw)} bytes; {MAX_ENTRY} are allowed")
    try:
        entry = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadEntry(f"the bytes are not an entry: {error}") from None
    if strict:
        # `data` goes into the bytes below as it is, and _check_fields proves it by itself; so equal bytes mean that
        # the whole is canonical: keys in order and once each, one spelling of every string and number
        _check_fields(entry)
        if _canonical(entry) != raw:
            raise BadEntry("the envelope is not in canonical form")
    return entry


def entry_ref(raw: bytes) -> str:
    """How the next entry of the ticket names this one in ``prev``: ``sha256:<hex>`` of the leaf hash."""
    return "sha256:" + leaf_hash(raw).hex()


def _canonical(entry: Entry) -> bytes:
    try:
        return _encode(entry)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise BadEntry(f"the entry has no canonical form: {error}") from None


def _check_fields(entry: Entry) -> None:
    """Check each field beyond its type; name the first that is wrong.

    Types are looked at again, since a Struct does not check what a writer puts into it; and by type(), since True is
    an int to isinstance().
    """
    if type(entry.v) is not int or entry.v != 1:
        raise BadEntry(f"v is {entry.v!r:.60}; this program knows version 1")
    if type(entry.log) is not str or not good_name(entry.log):
        raise BadEntry(f"log is not an origin: {entry.log!r:.60}")
    _check_name("ticket", entry.ticket)
    if type(entry.seq) is not int or not 0 <= entry.seq <= MAX_INT:
        raise BadEntry(f"seq is not a number from 0: {entry.seq!r:.60}")
    _check_prev(entry.seq, entry.prev)
    if type(entry.type) is not str or not _type(entry.type):
        raise BadEntry(f"type is not an event kind with its version: {entry.type!r:.60}")
    if type(entry.actor) is not Actor or type(entry.data) is not msgspec.Raw:
        raise BadEntry("actor is not an Actor, or data is not msgspec.Raw")
    _check_name("actor.id", entry.actor.id)
    _check_name("actor.via", entry.actor.via)
    _check_at(entry.at)
    decode_strict(bytes(entry.data), what="data", depth=MAX_DEPTH - 1)
    if entry.sig is not None:
        _check_sig(entry.sig)


def _check_name(field: str, value: Any) -> None:
    # isprintable: such names are shown to people, and control or direction characters could mislead them
    if type(value) is not str or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise BadEntry(f"{field} is not a printable text of 1 to {MAX_NAME} characters: {value!r:.60}")


def _check_prev(seq: int, prev: Any) -> None:
    if seq == 0:
        if prev is not None:
            raise BadEntry(f"prev is {prev!r:.80} although seq is 0, where nothing precedes")
    elif type(prev) is not str or not _prev(prev):
        raise BadEntry(f"prev is not sha256: and 64 hex digits: {prev!r:.80}")


def _check_at(at: Any) -> None:
    if type(at) is str and _at(at):
        try:
            datetime.fromisoformat(at)  # the pattern lets 31 February through; the calendar does not
        except ValueError:
            pass
        else:
            return
    raise BadEntry(f"at is not an instant of the form YYYY-MM-DDTHH:MM:SS.ffffffZ: {at!r:.60}")


def _check_sig(sig: Any) -> None:
    if type(sig) is not dict or not sig or not all(type(part) is str for part in (*sig, *sig.values())):
        raise BadEntry(f"sig is not an object of strings: {sig!r:.60}")
    check_keys(sig, "sig")
