"""Write the evidence bundle: one file that proves one ticket to somebody who has nothing of ours.

    FORMAT                       muniment-evidence/1
    README.txt  verify.sh        what is proved and what not; a verifier that needs bash, coreutils and openssl
    MANIFEST                     SHA-256 of every other file, as sha256sum writes it
    checkpoint                   the signed note that every proof leads to, with its cosignatures
    trust                        whose signatures count, as the operator proposes it (C2SP tlog-policy)
    ticket/0000.entry …          the ticket's entries, byte for byte, in order; .tlog-proof: each is in the log
    registry/0000.entry …        what decisions rested on: policy texts, people, the target; .tlog-proof
    texts/<hex>.txt, .salt       what the commitments in the entries stand for; .erased where it was erased
    anchors/<size>.checkpoint    other checkpoints that bound times: .consistency ties them to `checkpoint`;
                                 .<n>.tsr are RFC 3161 time-stamps over them, certificates.pem who made those
    since.checkpoint             the auditor's last checkpoint; since.consistency: the log only grew from it

A consistency file is what a tlog-witness is sent: ``old <size>``, hashes, an empty line, the newer checkpoint. Nothing
is in it that the store does not hold, so two exports of the same ticket and checkpoint are the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from importlib.resources import files as resources

import msgspec

from muniment.core import events as e
from muniment.evidence.archive import pack
from muniment.evidence.saying import readme
from muniment.ledger.checkpoint import Checkpoint
from muniment.ledger.note import parse_note
from muniment.ledger.proof import Proof
from muniment.ledger.wire import write_base64

FORMAT = "muniment-evidence/1\n"


class Proved(msgspec.Struct, frozen=True, kw_only=True):
    """An entry, and the way from it to the checkpoint's root."""

    index: int
    raw: bytes
    hashes: tuple[bytes, ...]


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """What a commitment stands for; without salt and text where it was erased."""

    commitment: str  # "sha256:" and 64 hex digits
    salt: bytes | None = None
    text: str | None = None


class Anchored(msgspec.Struct, frozen=True, kw_only=True):
    """Another checkpoint of the log, with what others said about it."""

    note: str  # with its cosignatures
    consistency: tuple[bytes, ...]  # from it to the checkpoint of the bundle
    stamps: tuple[bytes, ...] = ()  # RFC 3161 responses over SHA-256 of the note's text


class TicketEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that goes into a bundle: what `service.evidencing` collects from the store."""

    ticket: str
    checkpoint: str  # a signed note that covers everything here
    trust: str
    entries: tuple[Proved, ...]
    registry: tuple[Proved, ...]
    texts: tuple[Text, ...]
    anchors: tuple[Anchored, ...] = ()
    certificates: bytes = b""  # PEM, of time-stamping authorities
    since: Anchored | None = None


def write(evidence: TicketEvidence) -> bytes:
    """The bundle.

    Raises:
        BadBundle: there is more of it than a bundle may hold.
    """
    files = {
        "FORMAT": FORMAT.encode(),
        "checkpoint": evidence.checkpoint.encode(),
        "trust": evidence.trust.encode(),
        "verify.sh": script(),
    }
    for folder, proved in (("ticket", evidence.entries), ("registry", evidence.registry)):
        for at, each in enumerate(proved):
            proof = Proof(index=each.index, hashes=each.hashes, checkpoint=evidence.checkpoint)
            files[f"{folder}/{at:04}.entry"] = each.raw
            files[f"{folder}/{at:04}.tlog-proof"] = proof.text().encode()
    for text in evidence.texts:
        name = f"texts/{text.commitment.removeprefix('sha256:')}"
        if text.salt is None or text.text is None:
            files[f"{name}.erased"] = b""
        else:
            files |= {f"{name}.salt": text.salt, f"{name}.txt": text.text.encode()}
    for anchor in evidence.anchors:
        name = f"anchors/{size_of(anchor.note)}"
        files |= _tied(name, anchor, evidence.checkpoint)
        files |= {f"{name}.{at}.tsr": stamp for at, stamp in enumerate(anchor.stamps)}
    if evidence.certificates:
        files["anchors/certificates.pem"] = evidence.certificates
    if evidence.since is not None:
        files |= _tied("since", evidence.since, evidence.checkpoint)
    files["README.txt"] = readme(evidence.ticket, files).encode()
    return pack(files | {"MANIFEST": manifest(files)})


def commitments(event: e.Event) -> set[str]:
    """The free texts that an event commits to."""
    found: tuple[str | None, ...] = ()
    match event:
        case e.RequestSubmitted():
            found = (event.terms.justification,)
        case e.CounterAccepted():
            found = (event.terms.justification,)
        case e.ApprovalRecorded() | e.CounterOffered() | e.ReviewRecorded():
            found = (event.comment,)
        case e.RevocationOrdered() | e.FindingResolved() | e.CheckWaived() | e.TextErased():
            found = (event.reason,)
        case _:
            pass
    return {each for each in found if each}


def manifest(files: dict[str, bytes]) -> bytes:
    """What ``sha256sum`` prints for these files, sorted by name."""
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)).encode()


def script() -> bytes:
    """The verifier in shell that goes into every bundle."""
    return (resources("muniment.evidence") / "verify.sh").read_bytes()


def size_of(note: str | bytes) -> int:
    """How many entries a checkpoint covers; nothing is verified.

    Raises:
        LedgerFault: it is not a checkpoint.
    """
    return Checkpoint.parse(parse_note(note).text).size


def bounding(sizes: Iterable[int], indexes: Sequence[int]) -> set[int]:
    """Of the sizes of anchors, those that bound the times of entries at these places most closely.

    For each entry: the smallest that covers it, and the largest that does not.
    """
    known = sorted(set(sizes))
    wanted = set()
    for index in indexes:
        covering = [size for size in known if size > index]
        before = [size for size in known if 0 < size <= index]
        wanted |= {*covering[:1], *before[-1:]}
    return wanted


def _tied(name: str, anchor: Anchored, checkpoint: str) -> dict[str, bytes]:
    hashes = "".join(f"{write_base64(each)}\n" for each in anchor.consistency)
    return {
        f"{name}.checkpoint": anchor.note.encode(),
        f"{name}.consistency": f"old {size_of(anchor.note)}\n{hashes}\n{checkpoint}".encode(),
    }
