"""The mutation corpus: every way that we know to damage a published ledger, each caught at the level that its row names,
by our verifier and by a second one on other foundations (``tests/second_verifier``: Go, `golang.org/x/mod/sumdb`).

A row names the lowest level that must fail: those below it hold. Both verifiers must name the place. Rows that "sign
again" are damage by whoever has the log's key, with witnesses who saw nothing else; there the tree holds, and only the
entries themselves, or a checkpoint that somebody kept, tell.

Evidence bundles have a corpus of their own, with ``verify.sh`` as the second verifier: `test_shell`, `test_reading`.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from evidence.bundles import SIGNER, STRANGER, W1, W2, W3, flipped
from evidence.conftest import Archive
from evidence.office import ORIGIN, altered, places, rechained, without
from evidence.published import (
    Damage,
    Ledger,
    SecondVerifier,
    bundle,
    edit_file,
    kept_sizes,
    ledger_of,
)
from muniment.evidence.scanning import LEVELS
from muniment.evidence.source import Older
from muniment.ledger.canonical import encode
from muniment.ledger.checkpoint import with_lines
from muniment.ledger.keys import signer_from_seed
from muniment.ledger.note import Ed25519Signer, parse_note, sign_note
from muniment.service.verifying import verify_directory

SMALL = (0, 1, 2, 255, 256, 257)
LARGE = (65_535, 65_536, 65_537)
OTHER = signer_from_seed("ledger.example.org/other", b"\x01" * 32)


class Row(NamedTuple):
    """One kind of damage."""

    level: str  # the lowest that fails
    where: str  # what both verifiers name; with words of `Ledger.names`
    says: str  # what ours says
    how: Damage
    least: int = 1  # entries that the ledger needs
    most: int = 1 << 20
    large: tuple[int, ...] = ()  # of the large ledgers, those on which it is tried, too
    ours: bool = False  # the second verifier has not this rule


# ── ways to damage ──


def note(change: Callable[[Ledger, str], str | bytes]) -> Damage:
    def damage(ledger: Ledger) -> None:
        made = change(ledger, ledger.files["checkpoint"].decode())
        ledger.files["checkpoint"] = made if isinstance(made, bytes) else made.encode()

    return damage


def text(change: Callable[[list[str]], list[str]], *, by: Ed25519Signer = SIGNER) -> Damage:
    """Another text, signed by the log's key."""

    def changed(_: Ledger, old: str) -> str:
        return sign_note("\n".join([*change(parse_note(old).text.split("\n")[:-1]), ""]), [by])

    return note(changed)


def unsigned(change: Callable[[list[str]], list[str]]) -> Damage:
    """Another text under the old signatures."""

    def changed(_: Ledger, old: str) -> str:
        head, _, lines = old.rpartition("\n\n")
        return "\n".join(change(head.split("\n"))) + "\n\n" + lines

    return note(changed)


def other_root(root: str) -> str:
    return base64.b64encode(flipped(base64.b64decode(root), 7)).decode()


def spare_bits(root: str) -> str:
    """The same 32 bytes: the last character's unused bits are set."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return root[:-2] + alphabet[alphabet.index(root[-2]) + 1] + "="


def a_line(change: Callable[[bytes], bytes], which: int = 0) -> Damage:
    """The bytes of one signature line, behind name and key id."""

    def changed(_: Ledger, old: str) -> str:
        head, _, lines = old.rpartition("\n\n")
        each = lines.split("\n")
        name, _, encoded = each[which].rpartition(" ")
        raw = base64.b64decode(encoded)
        each[which] = f"{name} {base64.b64encode(raw[:4] + change(raw[4:])).decode()}"
        return head + "\n\n" + "\n".join(each)

    return note(changed)


def root_bit(content: bytes) -> bytes:
    lines = content.decode().split("\n")
    return "\n".join([*lines[:2], other_root(lines[2]), *lines[3:]]).encode()


def sized(old: str, size: int) -> str:
    origin, _, root, _ = parse_note(old).text.split("\n")
    return f"{origin}\n{size}\n{root}\n"


def of_older(ledger: Ledger) -> int:
    return kept_sizes(ledger.size)[0]


def older(change: Callable[[Ledger, int], bytes | None]) -> Damage:
    """The oldest published checkpoint."""

    def damage(ledger: Ledger) -> None:
        size = of_older(ledger)
        content = change(ledger, size)
        del ledger.files[f"checkpoints/{size}"]
        if content is not None:
            ledger.files[f"checkpoints/{size}"] = content

    return damage


def renamed(ledger: Ledger) -> None:
    ledger.files["checkpoints/newest"] = ledger.files.pop(f"checkpoints/{of_older(ledger)}")


def rolled_back(ledger: Ledger) -> None:
    """Somebody put back an old copy of everything but the checkpoints that were published since."""
    before, size = ledger.copy(), of_older(ledger)
    ledger.clock, ledger.entries = ledger.clock[: size + 1], ledger.entries[:size]
    ledger.publish()
    ledger.files |= {path: body for path, body in before.files.items() if path.startswith("checkpoints/")}


def kept_by_the_auditor(change: Callable[[Ledger], None]) -> Damage:
    """The auditor kept the newest checkpoint. Then the whole ledger was made anew, with every checkpoint in it."""

    def damage(ledger: Ledger) -> None:
        ledger.since = ledger.files["checkpoint"].decode()
        change(ledger)

    return damage


def shorter(ledger: Ledger) -> None:
    ledger.clock = ledger.clock[:-1]
    ledger.again(ledger.entries[:-1])


def forked(ledger: Ledger) -> None:
    """The last entry is another, everything is signed again."""
    ledger.again([*ledger.entries[:-1], ledger.entries[-1].replace(b'"via":"', b'"via":"x')])


def forked_after_publishing(ledger: Ledger) -> None:
    """The same, from the first entry on; the checkpoints that were published before stayed."""
    before = {path: body for path, body in ledger.files.items() if path.startswith("checkpoints/")}
    entries = [ledger.entries[0].replace(b'"via":"', b'"via":"x'), *ledger.entries[1:]]
    ledger.again(rechained(entries) if ledger.size < 1000 else entries)
    ledger.files |= before


def extra(path: str, content: bytes = b"\0" * 32) -> Damage:
    def damage(ledger: Ledger) -> None:
        ledger.files[path.format(**ledger.names)] = content

    return damage


def switched(one: str, two: str) -> Damage:
    def damage(ledger: Ledger) -> None:
        a, b = (path.format(**ledger.names) for path in (one, two))
        ledger.files[a], ledger.files[b] = ledger.files[b], ledger.files[a]

    return damage


def signed_again(change: Callable[[list[bytes]], list[bytes]]) -> Damage:
    """Other entries, under the log's signature and the witnesses'."""
    return lambda ledger: ledger.again(change(list(ledger.entries)))


def one(index: int, change: Callable[[bytes], bytes]) -> Damage:
    def changed(entries: list[bytes]) -> list[bytes]:
        at = index % len(entries)
        return [*entries[:at], change(entries[at]), *entries[at + 1 :]]

    return signed_again(changed)


def fields(index: int, **changes: Any) -> Damage:
    """An envelope with other fields, in canonical form."""
    return one(index, lambda raw: encode(json.loads(raw) | changes))


def swapped(entries: list[bytes], a: int, b: int) -> list[bytes]:
    entries[a], entries[b] = entries[b], entries[a]
    return entries


def doubled(entries: list[bytes], at: int) -> list[bytes]:
    return [*entries[:at], entries[at], *entries[at:]]


def half(raw: bytes) -> bytes:
    return raw[: len(raw) // 2]


def longer(entry: bytes) -> bytes:
    """Over the cap, though a bundle could hold it."""
    return entry[:-1] + b" " * 33_000 + b"}"


def deep(raw: bytes) -> bytes:
    return raw.replace(b'"data":{', b'"data":{"a":' + b"[" * 30 + b"]" * 30 + b",", 1)


def in_ticket(kind: str, event: str, change: Callable[[dict[str, Any]], None]) -> Damage:
    """One entry of a real ticket, changed; its chain made good again, and all of it signed."""

    return of_real(lambda entries: altered(entries, places(entries, TICKETS[kind])[event], change))


def lacking(kind: str, event: str) -> Damage:
    return of_real(lambda entries: without(entries, places(entries, TICKETS[kind])[event]))


def of_real(change: Callable[[list[bytes]], list[bytes]]) -> Damage:
    """The real tickets changed, and the entries that fill the ledger up as they were."""
    return signed_again(lambda entries: change(entries[: COUNT["real"]]) + entries[COUNT["real"] :])


def data(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda entry: entry["data"].update(changes)


def by(who: str, **changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(entry: dict[str, Any]) -> None:
        entry["actor"]["id"] = who
        entry["data"].update(changes)

    return change


def used_late(entry: dict[str, Any]) -> None:
    """In place of the order to take the access away: its use, hours after its end."""
    entry["type"], entry["actor"] = "use-observed/1", {"id": "system:muniment", "via": "controller"}
    entry["data"] = {
        "digest": "sha256:" + "0" * 64, "events": 1, "first_at": "2026-11-23T10:30:00Z", "last_at": "2026-11-23T15:00:00Z",
        "privileges": [{"privilege": "web-admin", "resource": None}], "source": "sshd",
    }  # fmt: skip


def at(instant: str) -> Callable[[dict[str, Any]], None]:
    return lambda entry: entry.update(at=instant)


#: tickets of the log, by kind, and how many real entries there are; filled in by the fixture `ledgers`
TICKETS: dict[str, str] = {}
COUNT: dict[str, int] = {}
ANN, DEE = "human:ann@example.com", "human:dee@example.com"
REAL = 250  # a ledger of so many entries has all the real tickets in it

CORPUS = {
    # ── V1: the newest checkpoint ──
    "another key, the log's name": Row("V1", "checkpoint", "has signed its checkpoint", note(lambda ledger, _: ledger.note(by=STRANGER)), 0, large=LARGE),
    "signature: a bit": Row("V1", "checkpoint", "does not verify", a_line(lambda s: flipped(s, 40)), 0),
    "signature: cut short": Row("V1", "checkpoint", "does not verify", a_line(lambda s: s[:-1]), 0),
    "signature: taken away": Row("V1", "checkpoint", "has signed its checkpoint", note(lambda _, n: "\n".join(line for line in n.split("\n") if ORIGIN + " " not in line)), 0),
    "all signatures taken away": Row("V1", "checkpoint", "the note", note(lambda _, n: n.rpartition("\n\n")[0] + "\n"), 0),
    "root: a bit": Row("V1", "checkpoint", "does not verify", unsigned(lambda t: [*t[:2], other_root(t[2])])),
    "size: one more": Row("V1", "checkpoint", "does not verify", unsigned(lambda t: [t[0], str(int(t[1]) + 1), t[2]])),
    "size: one less": Row("V1", "checkpoint", "does not verify", unsigned(lambda t: [t[0], str(int(t[1]) - 1), t[2]]), 2),
    "origin: another log's, by our key": Row("V1", "checkpoint", "ledger.example.org/other", text(lambda t: [OTHER.name, *t[1:]]), 0),
    "origin: another log's, by its key": Row("V1", "checkpoint", "the note is signed by", text(lambda t: [OTHER.name, *t[1:]], by=OTHER), 0),
    "extension line": Row("V1", "checkpoint", "extension line", text(lambda t: [*t, "also: this"]), 0),
    "size with a leading zero": Row("V1", "checkpoint", "without leading zeros", text(lambda t: [t[0], "0" + t[1], t[2]]), 0),
    "size below zero": Row("V1", "checkpoint", "not a decimal number", text(lambda t: [t[0], "-1", t[2]]), 0),
    "root in another spelling": Row("V1", "checkpoint", "another spelling", text(lambda t: [*t[:2], spare_bits(t[2])]), 0),
    "root cut short": Row("V1", "checkpoint", "bytes", text(lambda t: [*t[:2], base64.b64encode(b"x" * 31).decode()]), 0),
    "no root": Row("V1", "checkpoint", "three lines", text(lambda t: t[:2]), 0),
    "checkpoint: 0 bytes": Row("V1", "checkpoint", "the note", note(lambda _ledger, _note: b""), 0),
    "checkpoint: missing": Row("V1", "checkpoint", "No such file", edit_file("checkpoint", lambda _: None), 0),
    "checkpoint: first half": Row("V1", "checkpoint", "signature line", note(lambda _, n: n[: len(n) // 2]), 0),
    "checkpoint: other line ends": Row("V1", "checkpoint", "control character", note(lambda _, n: n.replace("\n", "\r\n")), 0),
    "checkpoint: not UTF-8": Row("V1", "checkpoint", "not UTF-8", note(lambda _, n: n.encode().replace(b"\xe2\x80\x94", b"\x97")), 0),
    "checkpoint: longer than any": Row("V1", "checkpoint", "allowed", note(lambda _, n: n + "— x AAAAAAAAAAAA\n" * 8_000), 0),
    "1,000 signature lines": Row("V1", "checkpoint", "signature lines", note(lambda _, n: n + "— x AAAAAAAAAAAA\n" * 1_000), 0),
    "quorum not met": Row("V1", "checkpoint", "not the quorum", note(lambda ledger, _: ledger.note(witnesses=(W3,))), 0),
    "cosignature: a bit": Row("V1", "checkpoint", "does not verify", a_line(lambda s: flipped(s, 30), 1), 0),
    "cosignature: its time": Row("V1", "checkpoint", "does not verify", a_line(lambda s: flipped(s, 7), 1), 0),
    "cosignature of another checkpoint": Row(
        "V1", "checkpoint", "does not verify",
        note(lambda ledger, _: with_lines(ledger.note(witnesses=(W1,)), [W2.sign(parse_note(ledger.note(ledger.size - 1)).text, 1_800_000_000)])),
    ),
    # ── V1: those that were published before ──
    "older checkpoint: root, a bit": Row("V1", "checkpoints/{older}", "does not verify", older(lambda ledger, n: root_bit(ledger.files[f"checkpoints/{n}"])), 2, large=LARGE),
    "older checkpoint: another key": Row("V1", "checkpoints/{older}", "has signed its checkpoint", older(lambda ledger, n: ledger.note(n, by=STRANGER).encode()), 2),
    "older checkpoint: 0 bytes": Row("V1", "checkpoints/{older}", "the note", older(lambda _ledger, _note: b""), 2),
    "older checkpoint: swapped": Row("V1", "checkpoints/{older}", "it covers", older(lambda ledger, _: ledger.files["checkpoint"]), 2),
    "older checkpoint: misnamed": Row("V1", "checkpoints/", "not named after a size", renamed, 2),
    # ── V2: entries ──
    "first entry: a bit": Row("V2", "{first_tile}", "is not what the entries", edit_file("{first_bundle}", lambda b: flipped(b, 20)), large=LARGE),
    "last entry: a bit": Row("V2", "{tile}", "hash", edit_file("{bundle}", lambda b: flipped(b, len(b) - 3)), large=LARGE),
    "entry deleted": Row("V2", "{bundle}", "ends before entry", bundle(lambda e: e[:-1]), 2, large=LARGE),
    "entry repeated": Row("V2", "{bundle}", "bytes after the last", bundle(lambda e: [*e, e[-1]])),
    "entry inserted": Row("V2", "{bundle}", "bytes after the last", bundle(lambda e: [b"{}", *e])),
    "entries swapped": Row("V2", "tile/0/000", "hash 0 is not", bundle(lambda e: [e[1], e[0], *e[2:]], "{first_bundle}"), 2),
    "all entries in reverse": Row("V2", "tile/0/000", "hash 0 is not", bundle(lambda e: e[::-1], "{first_bundle}"), 2),
    "bundle: cut off": Row("V2", "{bundle}", "is cut off", edit_file("{bundle}", lambda b: b[:-1])),
    "bundle: 0 bytes": Row("V2", "{bundle}", "ends before entry 0", edit_file("{bundle}", lambda _: b"")),
    "bundle: missing": Row("V2", "{bundle}", "No such file", edit_file("{bundle}", lambda _: None), large=LARGE),
    "bundle: length prefix": Row("V2", "{bundle}", "", edit_file("{bundle}", lambda b: flipped(b, 1))),
    "bundle: an entry over the cap": Row("V2", "{bundle}", "32768 are allowed", bundle(lambda e: [longer(e[0]), *e[1:]])),
    "bundle: more behind it": Row("V2", "{bundle}", "bytes after the last", edit_file("{bundle}", lambda b: b + b"\0")),
    # ── V2: tiles ──
    "leaf tile: a bit": Row("V2", "{tile}", "is not what the entries", edit_file("{tile}", lambda b: flipped(b, 0)), large=LARGE),
    "leaf tile: cut off": Row("V2", "{tile}", "bytes, not", edit_file("{tile}", lambda b: b[:-1])),
    "leaf tile: 0 bytes": Row("V2", "{tile}", "has 0 bytes", edit_file("{tile}", lambda _: b"")),
    "leaf tile: missing": Row("V2", "{tile}", "No such file", edit_file("{tile}", lambda _: None)),
    "leaf tile: more behind it": Row("V2", "{tile}", "", edit_file("{tile}", lambda b: b + b"\0" * 32)),
    "leaf tile: two hashes swapped": Row("V2", "{tile}", "hash 0 is not", edit_file("{tile}", lambda b: b[32:64] + b[:32] + b[64:]), 2, 256),
    "leaf tiles: two swapped": Row("V2", "tile/0/000", "hash 0 is not", switched("tile/0/000", "tile/0/001"), 600, large=LARGE),
    "level 1 (CVE-2026-56865): a bit": Row("V2", "{one}", "is not what the entries", edit_file("{one}", lambda b: flipped(b, 5)), 256, large=LARGE),
    "level 1: missing": Row("V2", "{one}", "No such file", edit_file("{one}", lambda _: None), 256, 65_535),
    "level 2: a bit": Row("V2", "{two}", "is not what the entries", edit_file("{two}", lambda b: flipped(b, 31)), 65_536, large=LARGE),
    "older partial tile: a bit": Row("V2", "tile/0/000.p/{half}", "not the beginning", edit_file("tile/0/000.p/{half}", lambda b: flipped(b, 3)), 2, 300),
    "older partial bundle: a bit": Row("V2", "tile/entries/000.p/{half}", "not the beginning", edit_file("tile/entries/000.p/{half}", lambda b: flipped(b, 9)), 2, 300),
    "a tile too many": Row("V2", "tile/0/x001/000", "no such tile", extra("tile/0/x001/000", bytes(8192)), 0, large=LARGE),
    "a bundle too many": Row("V2", "tile/entries/999", "no such tile", extra("tile/entries/999"), 0),
    "a level too many": Row("V2", "tile/3/000.p/1", "no such tile", extra("tile/3/000.p/1"), 0),
    "a tile wider than the tree": Row("V2", "tile/0/001.p/255", "no such tile", extra("tile/0/001.p/255"), 0, 257),
    "a file that is no tile": Row("V2", "tile/0/000.bak", "no tile has such a name", extra("tile/0/000.bak"), 1),
    # ── V2: heads that are signed and wrong ──
    "signed: another root": Row("V2", "checkpoint", "are not those it covers", note(lambda ledger, _: ledger.note(root=b"x" * 32)), large=LARGE),
    "signed: a larger size": Row("V2", "and on: tile/entries/", "No such file", note(lambda ledger, n: ledger.signed(sized(n, ledger.size + 1))), 1),
    "signed: rolled back": Row("V2", "checkpoints/{half}", "rolled back", rolled_back, REAL, large=LARGE),
    "signed: forked after publishing": Row("V2", "checkpoints/{older}", "are not those it covers", forked_after_publishing, 2),
    "signed: forked, against one kept": Row("V2", "the kept checkpoint", "two roots are claimed", kept_by_the_auditor(forked), 1, large=LARGE),
    "signed: rolled back, against one kept": Row("V2", "the kept checkpoint", "rolled back", kept_by_the_auditor(shorter), 2),
    # ── V3: entries that are in the tree, and should not be ──
    "signed: a space in the JSON": Row("V3", "leaf {last}", "canonical", one(-1, lambda r: r.replace(b'"seq":', b'"seq": ')), large=(65_537,)),
    "signed: a key twice": Row("V3", "leaf {last}", "", one(-1, lambda r: r.replace(b'"data":{', b'"data":{"a":1,"a":1,', 1))),
    "signed: keys in another order": Row("V3", "leaf {last}", "canonical", one(-1, lambda r: b'{"v":1,' + r[1:].removesuffix(b',"v":1}') + b"}")),
    "signed: a float": Row("V3", "leaf {last}", "", one(-1, lambda r: r.replace(b'"data":{', b'"data":{"a":1.0,', 1))),
    "signed: a number too large": Row("V3", "leaf {last}", "2^53", one(-1, lambda r: r.replace(b'"data":{', b'"data":{"a":9007199254740992,', 1))),
    "signed: a character escaped": Row("V3", "leaf {last}", "", one(-1, lambda r: r.replace(b'"data":{', b'"data":{"a":"\\u0061",', 1))),
    "signed: a lone surrogate": Row("V3", "leaf {last}", "", one(-1, lambda r: r.replace(b'"data":{', b'"data":{"a":"\\ud800",', 1))),
    "signed: not UTF-8": Row("V3", "leaf {last}", "", one(-1, lambda r: r.replace(b'"data":{', b'"data":{"a":"\xff",', 1))),
    "signed: nested too deep": Row("V3", "leaf {last}", "levels", one(-1, deep)),
    "signed: not JSON": Row("V3", "leaf {last}", "not an entry", one(-1, half)),
    "signed: an empty entry": Row("V3", "leaf {last}", "not an entry", one(-1, lambda _: b"")),
    "signed: an unknown field": Row("V3", "leaf {last}", "not an entry", fields(-1, also=1)),
    "signed: a field is missing": Row("V3", "leaf {last}", "canonical", one(-1, lambda r: r.replace(b',"v":1', b""))),
    "signed: a kind without version": Row("V3", "leaf {last}", "kind", fields(-1, type="request-submitted")),
    "signed: no such instant": Row("V3", "leaf {last}", "at is not an instant", fields(-1, at="2026-02-31T10:00:00.000000Z")),
    "signed: of another log": Row("V3", "leaf {last}", "belongs to the log", fields(-1, log=OTHER.name)),
    "signed: seq with a gap": Row("V3", "leaf 10", "seq 2 was to come", fields(10, seq=3), REAL),
    "signed: prev broken": Row("V3", "leaf 10", "prev is not the leaf hash of seq 1", fields(10, prev="sha256:" + "0" * 64), REAL, large=(65_537,)),
    "signed: prev at the beginning": Row("V3", "leaf 0", "where nothing precedes", fields(0, prev="sha256:" + "0" * 64)),
    "signed: an entry changed": Row("V3", "leaf 10", "prev is not the leaf hash of seq 1", one(9, lambda r: r.replace(b'"via":"', b'"via":"x')), REAL),
    "signed: an entry taken out": Row("V3", "leaf 10", "seq 2 was to come", signed_again(lambda e: e[:10] + e[11:]), REAL),
    "signed: a beginning taken out": Row("V3", "leaf 13", "the ticket begins here", signed_again(lambda e: e[:13] + e[14:]), REAL),
    "signed: an entry repeated": Row("V3", "leaf 11", "repeated or out of order", signed_again(lambda e: doubled(e, 10)), REAL),
    "signed: two entries swapped": Row("V3", "leaf 9", "something between is missing", signed_again(lambda e: swapped(e, 9, 10)), REAL),
    "signed: moved to another ticket": Row("V3", "leaf 14", "the ticket begins here", fields(14, ticket="req_x"), REAL),
    # ── V4: what the rules of tickets do not allow ──
    "signed: somebody approves their own": Row("V4", "leaf 15", "its requester", in_ticket("closed", "approval-recorded", by(ANN, approver=ANN)), REAL, large=(65_536,)),
    "signed: approved in another's name": Row("V4", "leaf 15", "in the name of", in_ticket("closed", "approval-recorded", data(approver=DEE)), REAL),
    "signed: given without approval": Row("V4", "leaf 16", "the ticket is pending", lacking("closed", "request-approved"), REAL),
    "signed: approved by nobody": Row("V4", "leaf 15", "needs 1 approvals and has 0", lacking("closed", "approval-recorded"), REAL),
    "signed: one approval of two": Row("V4", "leaf 34", "needs 2 approvals and has 1", lacking("by_two", "approval-recorded"), REAL),
    "signed: used after its end": Row("V4", "leaf 28", "after access had expired", in_ticket("expired", "revocation-ordered", used_late), REAL),
    "signed: reviewed by who used it": Row("V4", "leaf 41", "its requester", in_ticket("by_two", "review-recorded", by(ANN, reviewer=ANN)), REAL),
    "signed: more than was approved": Row("V4", "leaf 18", "compare what was granted", in_ticket("closed", "grant-observed", data(granted=[])), REAL, ours=True),
    "signed: longer than was asked": Row("V4", "leaf 17", "later than was asked", in_ticket("closed", "provisioning-started", data(expires_at="2026-11-24T10:00:00.000000Z")), REAL, ours=True),
    "signed: under a policy never adopted": Row("V4", "leaf 14", "was not adopted before", in_ticket("closed", "policy-decided", data(policies="sha256:" + "0" * 64)), REAL, ours=True),
    "signed: a disablement lifted by who proposed it": Row("V4", "leaf 86", "it takes two people", in_ticket("lifted", "lift-agreed", by("human:ops@example.com")), REAL),
    "signed: lifted with nobody's proposal": Row("V4", "leaf 85", "nobody proposed it before", lacking("lifted", "lift-proposed"), REAL),
    # ── V5: times that cannot be ──
    "signed: dated later than witnessed": Row("V5", "leaf 7", "was there already", fields(7, at="2026-11-26T10:00:00.000000Z"), REAL, large=(65_535,)),
    "signed: dated back": Row("V5", "leaf {last}", "was not there yet", fields(-1, at="2026-11-23T10:00:00.000000Z"), REAL),
}  # fmt: skip


@pytest.fixture(scope="session")
def ledgers(archive: Archive) -> Callable[[int], Ledger]:
    """A sound ledger of each size, made once."""
    TICKETS.update(
        archive.tickets, lifted=f"lift:{ANN}"
    )  # which is no ticket, and a stream of its own as well
    COUNT["real"] = len(archive.log)
    return functools.cache(lambda size: ledger_of(archive.log, size))


def ours(folder: Path, ledger: Ledger, levels: Sequence[str] = LEVELS) -> dict[str, str | None]:
    """What is wrong first, by level; None if nothing is."""
    since = [Older(where="the kept checkpoint", note=ledger.since)] if ledger.since else []
    document = verify_directory(folder, ledger.trust, since=since, levels=levels)
    assert document["ok"] == all(level["ok"] for level in document["levels"].values())
    return {name: level["first_fault"] for name, level in document["levels"].items()}


def theirs(
    second: SecondVerifier, folder: Path, ledger: Ledger, levels: Sequence[str] = LEVELS
) -> dict[str, str | None]:
    trust = folder.parent / "trust"
    trust.write_text(ledger.trust.render())
    since = None
    if ledger.since:
        since = folder.parent / "since"
        since.write_text(ledger.since)
    return second(folder, trust, since=since, levels=",".join(levels))


def lowest(found: dict[str, str | None]) -> tuple[str, str]:
    """The first level that fails, and what it says."""
    return next((name, found[name] or "") for name in LEVELS if found.get(name) is not None)


def caught(row: Row, sound: Ledger, second: SecondVerifier, folder: Path) -> None:
    levels = LEVELS if row.level not in {"V1", "V2"} or sound.size < 1000 else ("V1", "V2")
    names = sound.names
    ledger = sound.copy()
    row.how(ledger)
    ledger.write(folder)
    level, fault = lowest(ours(folder, ledger, levels))
    assert level == row.level, fault
    assert row.where.format(**names) in fault
    assert row.says in fault
    assert fault.isprintable()
    if not row.ours:
        level, fault = lowest(theirs(second, folder, ledger, levels))
        assert level == row.level, fault
        assert row.where.format(**names) in fault


@pytest.mark.server("go")
@pytest.mark.parametrize("size", [*SMALL, *(pytest.param(size, marks=pytest.mark.slow) for size in LARGE)])
def test_sound_ledgers_hold(
    ledgers: Callable[[int], Ledger], second_verifier: SecondVerifier, tmp_path: Path, size: int
) -> None:
    ledger = ledgers(size).copy()
    folder = ledger.write(tmp_path / "ledger")
    ledger.since = ledger.note(size // 2)
    assert ours(folder, ledger) == dict.fromkeys(LEVELS)
    assert theirs(second_verifier, folder, ledger) == dict.fromkeys(LEVELS)


def test_the_corpus_is_large_enough() -> None:
    assert len(CORPUS) >= 40
    assert {row.level for row in CORPUS.values()} == set(LEVELS)
    assert {row.level for row in CORPUS.values() if row.large} == set(LEVELS)


@pytest.mark.server("go")
@pytest.mark.parametrize("name", CORPUS)
def test_damage_is_caught_by_both(
    ledgers: Callable[[int], Ledger], second_verifier: SecondVerifier, tmp_path: Path, name: str
) -> None:
    row = CORPUS[name]
    sizes = [size for size in SMALL if row.least <= size <= row.most]
    assert sizes or row.large
    for size in sizes:
        caught(row, ledgers(size), second_verifier, tmp_path / str(size) / "ledger")


@pytest.mark.slow
@pytest.mark.server("go")
@pytest.mark.parametrize(
    ("name", "size"),
    [
        (name, size)
        for size in LARGE
        for name, row in CORPUS.items()
        if size in row.large and size >= row.least
    ],
)
def test_damage_in_a_large_ledger_is_caught_by_both(
    ledgers: Callable[[int], Ledger], second_verifier: SecondVerifier, tmp_path: Path, name: str, size: int
) -> None:
    caught(CORPUS[name], ledgers(size), second_verifier, tmp_path / "ledger")
