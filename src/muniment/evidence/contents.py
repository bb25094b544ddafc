"""A bundle taken apart: every file has its place, none is missing, none is too many. Nothing is verified yet.

Order: the container (`archive`), the format, the manifest, the names. What is not as `bundle.write` would have it is
refused by `BadBundle`, and the first bad thing named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from muniment.evidence.archive import BadBundle, unpack
from muniment.evidence.bundle import FORMAT, manifest, script
from muniment.ledger.errors import BadProof
from muniment.ledger.merkle import HASH
from muniment.ledger.note import MAX_NOTE
from muniment.ledger.proof import MAX_HASHES
from muniment.ledger.wire import read_base64, read_decimal, read_text

#: bytes of a free text's salt
SALT = 32
_ALWAYS = ("FORMAT", "MANIFEST", "README.txt", "checkpoint", "trust", "verify.sh", "ticket/0000.entry")
_PLACES = re.compile(
    r"(?:ticket|registry)/[0-9]{4}\.(?:entry|tlog-proof)"
    r"|texts/[0-9a-f]{64}\.(?:txt|salt|erased)"
    r"|anchors/(?:0|[1-9][0-9]{0,18})\.(?:checkpoint|consistency|[0-9]{1,2}\.tsr)"
    r"|anchors/certificates\.pem|since\.checkpoint|since\.consistency"
)


class Leaf(msgspec.Struct, frozen=True, kw_only=True):
    """An entry's bytes and its proof file, unread."""

    name: str  # of the file, for faults
    raw: bytes
    proof: bytes


class Tie(msgspec.Struct, frozen=True, kw_only=True):
    """Another checkpoint, its consistency with that of the bundle, and its stamps; unread."""

    name: str
    note: bytes
    consistency: bytes
    stamps: tuple[bytes, ...] = ()


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a bundle."""

    checkpoint: bytes
    entries: tuple[Leaf, ...]
    registry: tuple[Leaf, ...]
    texts: dict[str, tuple[bytes, bytes] | None]  # commitment to salt and text; None where it was erased
    anchors: tuple[Tie, ...]
    since: Tie | None
    own_script: bool  # verify.sh is the one that this program writes

    @property
    def ties(self) -> tuple[Tie, ...]:
        """Every other checkpoint that is proved to be of the same log."""
        return (*self.anchors, self.since) if self.since else self.anchors


class Consistency(msgspec.Struct, frozen=True, kw_only=True):
    """A consistency file, taken apart and not verified."""

    old: int
    hashes: tuple[bytes, ...]
    checkpoint: str


def read_contents(raw: bytes) -> Contents:
    """Take a bundle apart.

    Raises:
        BadBundle: names the first thing that is wrong.
    """
    files = unpack(raw)
    if files.get("FORMAT") != FORMAT.encode():
        raise BadBundle(f"FORMAT is not {FORMAT.strip()}: a newer program may read the bundle")
    for name in _ALWAYS:
        if name not in files:
            raise BadBundle(f"{name} is missing in the bundle")
    _check_manifest(files)
    for name in files:
        if name not in _ALWAYS and not _PLACES.fullmatch(name):
            raise BadBundle(f"{name} does not belong into a bundle")
    return Contents(
        checkpoint=files["checkpoint"],
        entries=_leaves(files, "ticket"),
        registry=_leaves(files, "registry"),
        texts=_texts(files),
        anchors=_anchors(files),
        since=_tie(files, "since"),
        own_script=files["verify.sh"] == script(),
    )


def read_consistency(raw: bytes, what: str) -> Consistency:
    """Read a consistency file strictly.

    Raises:
        BadProof: says what is wrong in it.
    """
    limit = MAX_NOTE + MAX_HASHES * 45 + 100
    text = read_text(raw, limit=limit, what=what, fault=BadProof)
    head, empty, checkpoint = text.partition("\n\n")
    first, *lines = head.split("\n")
    if not empty or not first.startswith("old "):
        raise BadProof(f"{what} is not a consistency proof: old size, hashes, an empty line, a checkpoint")
    if len(lines) > MAX_HASHES:
        raise BadProof(f"{what} has {len(lines)} hashes; {MAX_HASHES} are the most any tree needs")
    return Consistency(
        old=read_decimal(first[4:], what=f"the old size in {what}", fault=BadProof),
        hashes=tuple(
            read_base64(line, what=f"hash {at} of {what}", fault=BadProof, length=HASH)
            for at, line in enumerate(lines)
        ),
        checkpoint=checkpoint,
    )


def _check_manifest(files: Mapping[str, bytes]) -> None:
    others = {name: content for name, content in files.items() if name != "MANIFEST"}
    wanted, found = manifest(others), files["MANIFEST"]
    if wanted == found:
        return
    lines = set(found.split(b"\n"))
    for line in wanted.splitlines():
        if line not in lines:
            name = line[66:].decode()
            how = "is another" if any(each[66:] == line[66:] for each in lines) else "is none"
            raise BadBundle(f"{name} was altered or added: in MANIFEST its digest {how}")
    raise BadBundle("MANIFEST names files that are missing in the bundle, or is not in its one spelling")


def _leaves(files: Mapping[str, bytes], folder: str) -> tuple[Leaf, ...]:
    names = sorted({name.partition(".")[0] for name in files if name.startswith(f"{folder}/")})
    for at, name in enumerate(names):
        if name != f"{folder}/{at:04}":
            raise BadBundle(f"{folder}/{at:04}.entry is missing in the bundle")
        for part in (f"{name}.entry", f"{name}.tlog-proof"):
            if part not in files:
                raise BadBundle(f"{part} is missing in the bundle")
    return tuple(Leaf(name=n, raw=files[f"{n}.entry"], proof=files[f"{n}.tlog-proof"]) for n in names)


def _texts(files: Mapping[str, bytes]) -> dict[str, tuple[bytes, bytes] | None]:
    found: dict[str, tuple[bytes, bytes] | None] = {}
    for stem in sorted({name.partition(".")[0] for name in files if name.startswith("texts/")}):
        salt, text = files.get(f"{stem}.salt"), files.get(f"{stem}.txt")
        erased = f"{stem}.erased" in files
        if erased and (salt is not None or text is not None or files[f"{stem}.erased"]):
            raise BadBundle(f"{stem} is said to be erased, and is there")
        if not erased and (salt is None or text is None):
            raise BadBundle(f"{stem}.{'salt' if salt is None else 'txt'} is missing in the bundle")
        if salt is not None and len(salt) != SALT:
            raise BadBundle(f"{stem}.salt has {len(salt)} bytes, not {SALT}")
        commitment = "sha256:" + stem.removeprefix("texts/")
        found[commitment] = None if salt is None or text is None else (salt, text)
    return found


def _anchors(files: Mapping[str, bytes]) -> tuple[Tie, ...]:
    stems = {name.partition(".")[0] for name in files if name.startswith("anchors/")} - {
        "anchors/certificates"
    }
    ties = (_tie(files, stem) for stem in sorted(stems, key=lambda stem: int(stem.partition("/")[2])))
    return tuple(tie for tie in ties if tie is not None)


def _tie(files: Mapping[str, bytes], stem: str) -> Tie | None:
    mine = {name for name in files if name.startswith(f"{stem}.")}
    if not mine:
        return None
    for part in (f"{stem}.checkpoint", f"{stem}.consistency"):
        if part not in files:
            raise BadBundle(f"{part} is missing in the bundle")
    stamps = sum(name.endswith(".tsr") for name in mine)
    names = [f"{stem}.{at}.tsr" for at in range(stamps)]
    if absent := [name for name in names if name not in files]:
        raise BadBundle(f"{absent[0]} is missing in the bundle")
    return Tie(
        name=stem, note=files[f"{stem}.checkpoint"], consistency=files[f"{stem}.consistency"],
        stamps=tuple(files[name] for name in names),
    )  # fmt: skip
