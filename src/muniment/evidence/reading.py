"""Verify an evidence bundle, from foreign bytes, with nothing but a trust file.

The levels are those of the whole ledger (`ledger.verify`, `rules`, `times`), as far as one ticket allows:

- V1: the checkpoint is signed by a log that the trust file names, and cosigned by its quorum.
- V2: every entry is in the tree of that checkpoint at its place, and every other checkpoint is of the same log.
- V3: entries are canonical and of this log; the ticket's are 0, 1, 2, … with ``prev`` unbroken.
- V4: the rules were kept, by policy sets that are in the ledger too, and free texts are those committed to.
- V5: times lie between those of witnesses and time-stamps.

A level stops at its first fault; the others go on, with what the checkpoint claims. What is no bundle at all raises
`BadBundle`.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from muniment.evidence.checking import Checker, StampCheck
from muniment.evidence.contents import read_contents
from muniment.evidence.saying import NEVER, OPERATOR_ONLY, missing, tail
from muniment.evidence.times import SKEW
from muniment.ledger.checkpoint import Checkpoint
from muniment.ledger.trust import TrustPolicy
from muniment.ledger.verify import Level


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, in the shape that ``evidence verify --json`` prints."""

    ok: bool
    ticket: str
    origin: str
    size: int  # entries that the checkpoint covers
    levels: dict[str, Level]
    proves: tuple[str, ...]  # nothing unless every level holds
    does_not_prove: tuple[str, ...]


def verify_bundle(
    raw: bytes,
    trust: TrustPolicy,
    *,
    since: Checkpoint | None = None,
    stamp: StampCheck | None = None,
    skew: int = SKEW,
) -> Report:
    """Verify a bundle. A fault is in the report; only what cannot be read as a bundle raises.

    Args:
        raw: the file.
        trust: the auditor's own.
        since: what a checkpoint says that the auditor kept: the bundle must prove that the log only grew from it.
        stamp: checks time-stamps against the auditor's certificates; without it they are not looked at.
        skew: seconds that two sound clocks may differ.

    Raises:
        BadBundle: names the first thing that makes it no bundle.
    """
    checker = Checker(read_contents(raw), trust, since, stamp, skew)
    levels = {
        "V1": checker.level(checker.signatures),
        "V2": checker.level(checker.tree),
        "V3": checker.level(checker.form),
        "V4": checker.level(checker.rules),
        "V5": checker.level(checker.times),
    }
    ok = all(level.ok for level in levels.values())
    return Report(
        ok=ok, ticket=checker.ticket, origin=checker.head.origin, size=checker.head.size, levels=levels,
        proves=tuple(_proved(checker)) if ok else (), does_not_prove=tuple(_unproved(checker)),
    )  # fmt: skip


def _proved(checked: Checker) -> Iterator[str]:
    count = len(checked.placed)
    yield (
        f"{count} entries of {checked.ticket} are in the ledger {checked.head.origin}, in a checkpoint over"
        f" {checked.head.size} entries: unaltered, and without a gap from the first"
    )
    if checked.state is not None:
        yield f"the rules of access were kept throughout; the ticket is {checked.state.status}"
    yield f"what its decisions rested on is in the ledger as well: {len(checked.registry)} entries on policy, people and target"
    texts = checked.contents.texts
    if texts:
        absent = sum(each is None for each in texts.values())
        yield f"free texts are those that the entries commit to: {len(texts) - absent} disclosed, {absent} erased"
    for recorded in checked.erased.values():
        yield f"that a text was erased is in the ledger: by {recorded.actor}, at {recorded.at}"
    trusted = checked.judged["checkpoint"]
    if trusted.cosigned and not checked.trust.operator_only:
        names = ", ".join(sorted({each.name for each in trusted.cosigned}))
        yield f"{names} saw the ledger only grow until then, and signed no other history"
    tie = checked.contents.since
    if tie is not None:
        yield f"the ledger only grew from the checkpoint over {checked.judged[tie.name].checkpoint.size} entries"
    if checked.anchors:
        yield (
            f"the times of its entries agree with those of {len(checked.anchors)} cosignatures and time-stamps, within"
            f" {checked.skew} s"
        )


def _unproved(checked: Checker) -> Iterator[str]:
    if checked.trust.operator_only:
        yield f"that others were shown the same ledger: {OPERATOR_ONLY}"
    trusted = checked.judged.get("checkpoint")
    if trusted is not None:
        for name in missing(checked.trust, {each.name for each in trusted.cosigned}):
            yield f"that {name} has seen this checkpoint: it was absent"
    yield tail(checked.ticket, checked.head.size, ended=checked.state is not None and checked.state.ended)
    if checked.alone:
        yield (
            f"that two people agreed to the policies: {', '.join(dict.fromkeys(checked.alone))} was put in force without"
            " a second person, as the first set of a ledger and those of a single-person trial are"
        )
    if lost := [c for c, each in checked.contents.texts.items() if each is None and c not in checked.erased]:
        yield f"what became of {len(lost)} free texts that are not here: nothing in here says who erased them"
    if not checked.anchors:
        yield "that times are true: nobody outside bounds them here"
    stamps = sum(len(tie.stamps) for tie in checked.contents.anchors)
    if stamps and checked.stamp is None:
        yield f"anything by its {stamps} time-stamps: no certificates were given to check them with"
    if not checked.contents.own_script:
        yield "anything by its verify.sh: it is not the one that this program writes"
    yield from NEVER
