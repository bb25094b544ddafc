"""Key revocation lists of OpenSSH: their binary format, and how such a file is changed safely.

Source: PROTOCOL.krl of OpenSSH, sections 1-4. All integers are big-endian; a *string* is a 32-bit length and that
many bytes. Two facts shape this file. sshd refuses everybody while its list is missing or does not parse, so a list
is replaced by rename and never edited. And what another tool revoked must stay revoked, so a list that holds
anything we would lose by writing it again is refused, not rewritten.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from muniment.core.errors import Misconfigured, TargetUnavailable

_MAGIC = b"SSHKRL\n\0"
_FORMAT = 1
# sections, and subsections of a certificates section
_CERTIFICATES, _KEYS, _SHA1, _SHA256 = 1, 2, 3, 5
_SERIALS, _RANGE, _BITMAP, _KEY_IDS = 0x20, 0x21, 0x22, 0x23
#: bytes; OpenSSH reads no larger mpint (SSHBUF_MAX_BIGNUM, and one byte for the sign)
_MAX_MPINT = 2049
#: a list that names more single serials than this is not read: bitmaps unpack to 64 times their size
_MAX_SERIALS = 2_000_000
_LOCK_SECONDS = 10.0


class Revoked(msgspec.Struct, frozen=True, kw_only=True):
    """What is revoked of the certificates of one authority."""

    serials: frozenset[int] = frozenset()
    ranges: frozenset[tuple[int, int]] = frozenset()  # first and last serial, both revoked
    key_ids: frozenset[bytes] = frozenset()

    def holds(self, serial: int, key_id: bytes | None) -> bool:
        """Whether a certificate with this serial and key id is revoked."""
        if key_id in self.key_ids or serial in self.serials:
            return True
        return any(first <= serial <= last for first, last in self.ranges)


class Krl(msgspec.Struct, frozen=True, kw_only=True):
    """One list, as a value. An authority is its public key in SSH wire form; ``b""`` stands for every authority."""

    version: int = 0  # rises with each change
    generated: int = 0  # seconds since 1970
    comment: bytes = b""
    certificates: Mapping[bytes, Revoked] = {}
    keys: frozenset[bytes] = frozenset()  # public keys in wire form
    sha1: frozenset[bytes] = frozenset()  # hashes of such keys
    sha256: frozenset[bytes] = frozenset()

    def revokes_key(self, key: bytes) -> bool:
        """Whether the key itself is revoked, and with it every certificate for it or by it."""
        return (
            key in self.keys
            or hashlib.sha256(key).digest() in self.sha256
            or hashlib.sha1(key, usedforsecurity=False).digest() in self.sha1
        )

    def revokes(self, authority: bytes, serial: int, key_id: bytes | None = None) -> bool:
        """Whether sshd, reading this list, refuses the certificate whatever its key."""
        sections = (self.certificates.get(scope) for scope in (authority, b""))
        return any(section.holds(serial, key_id) for section in sections if section)

    def with_serials(self, revoked: Mapping[bytes, Iterable[int]]) -> Krl:
        """This list and, by authority, these serials."""
        merged = dict(self.certificates)
        for authority, serials in revoked.items():
            known = merged.get(authority, Revoked())
            merged[authority] = msgspec.structs.replace(known, serials=known.serials | set(serials))
        return msgspec.structs.replace(self, certificates=merged)

    def without_serials(self, authority: bytes, serials: Iterable[int]) -> Krl:
        """This list less these serials, where they stand alone; ranges and key ids stay."""
        known = self.certificates.get(authority, Revoked())
        kept = msgspec.structs.replace(known, serials=known.serials.difference(serials))
        return msgspec.structs.replace(self, certificates={**self.certificates, authority: kept})


# ── Format ───────────────────────────────────────────────────────────────────


def encode(krl: Krl) -> bytes:
    """The list in the binary format. The same value gives the same bytes."""
    head = _MAGIC + _FORMAT.to_bytes(4, "big")
    head += b"".join(number.to_bytes(8, "big") for number in (krl.version, krl.generated, 0))  # 0: no flags
    body = [head, _string(b""), _string(krl.comment)]
    for authority, revoked in sorted(krl.certificates.items()):
        inner = _string(authority) + _string(b"") + _encode_revoked(revoked)
        body.append(_section(_CERTIFICATES, inner))
    for kind, blobs in ((_KEYS, krl.keys), (_SHA1, krl.sha1), (_SHA256, krl.sha256)):
        if blobs:  # section 4: in numeric order
            body.append(_section(kind, b"".join(map(_string, sorted(blobs)))))
    return b"".join(body)


def _encode_revoked(revoked: Revoked) -> bytes:
    parts = []
    if revoked.serials:
        listed = b"".join(serial.to_bytes(8, "big") for serial in sorted(revoked.serials))
        parts.append(_section(_SERIALS, listed))
    for first, last in sorted(revoked.ranges):
        parts.append(_section(_RANGE, first.to_bytes(8, "big") + last.to_bytes(8, "big")))
    if revoked.key_ids:
        parts.append(_section(_KEY_IDS, b"".join(map(_string, sorted(revoked.key_ids)))))
    return b"".join(parts)


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _section(kind: int, data: bytes) -> bytes:
    return bytes([kind]) + _string(data)


def parse(data: bytes) -> Krl:
    """Read a list. Raises `Misconfigured` for one that is damaged, or that we could not write again unchanged."""
    reader = _Reader(data)
    if reader.take(8) != _MAGIC:
        raise _fault("it does not start like one")
    if reader.number(4) != _FORMAT:
        raise _fault("it has another format version than 1")
    version, generated, flags = reader.number(8), reader.number(8), reader.number(8)
    if flags or reader.string():
        raise _fault("its header uses fields that had no meaning when this was written")
    comment = _text(reader.string())
    certificates: dict[bytes, Revoked] = {}
    sizes = {_SHA1: 20, _SHA256: 32}
    blobs: dict[int, set[bytes]] = {_KEYS: set(), _SHA1: set(), _SHA256: set()}
    while reader.rest:
        kind, inner = reader.number(1), _Reader(reader.string())
        if kind == _CERTIFICATES:
            authority = inner.string()
            if inner.string():
                raise _fault("a certificates section uses its reserved field")
            certificates[authority] = _parse_revoked(inner, certificates.get(authority, Revoked()))
        elif kind in blobs:
            blobs[kind].update(_sized(blob, sizes.get(kind)) for blob in inner.strings())
        else:
            raise _fault(f"it has a section of type {kind}, which we would lose")
    keys, sha1, sha256 = map(frozenset, blobs.values())
    head = Krl(version=version, generated=generated, comment=comment, certificates=certificates)
    return msgspec.structs.replace(head, keys=keys, sha1=sha1, sha256=sha256)


def _parse_revoked(reader: _Reader, known: Revoked) -> Revoked:
    """Read one certificates section, and join it to what earlier ones said about the same authority."""
    serials, ranges, key_ids = set(known.serials), set(known.ranges), set(known.key_ids)
    while reader.rest:
        kind, inner = reader.number(1), _Reader(reader.string())
        if kind == _RANGE:
            ranges.add((inner.number(8), inner.number(8)))
        elif kind == _KEY_IDS:
            key_ids.update(map(_text, inner.strings()))
        else:
            serials.update(_serials(kind, inner))
        if inner.rest:
            raise _fault("a section about certificates goes on after its end")
        if len(serials) > _MAX_SERIALS:
            raise _fault(f"it names more than {_MAX_SERIALS} serials")
    for first, last in [*ranges, *((serial, serial) for serial in serials)]:
        if not 0 < first <= last < 1 << 64:  # sshd refuses such a list
            raise _fault(f"it revokes serials from {first} to {last}")
    return Revoked(serials=frozenset(serials), ranges=frozenset(ranges), key_ids=frozenset(key_ids))


def _serials(kind: int, reader: _Reader) -> Iterator[int]:
    if kind == _SERIALS:
        while reader.rest:
            yield reader.number(8)
    elif kind == _BITMAP:
        offset, bitmap = reader.number(8), reader.string()
        if len(bitmap) > _MAX_MPINT or bitmap[:1] >= b"\x80":
            raise _fault("it has a bitmap that is too long or negative")
        bits = reversed(f"{int.from_bytes(bitmap, 'big'):b}")
        yield from (offset + index for index, bit in enumerate(bits) if bit == "1")
    else:
        raise _fault(f"it has a certificates section of type {kind:#x}, which we would lose")


def _text(value: bytes) -> bytes:
    if b"\0" in value:
        raise _fault("a text in it holds a NUL")
    return value


def _sized(value: bytes, size: int | None) -> bytes:
    if size is not None and len(value) != size:
        raise _fault(f"it has a hash of {len(value)} bytes where {size} belong")
    return value


class _Reader:
    """Takes fields off the front, and never past the end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def rest(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.rest:
            raise _fault("it ends too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def string(self) -> bytes:
        return self.take(self.number(4))

    def strings(self) -> Iterator[bytes]:
        while self.rest:
            yield self.string()


def _fault(what: str) -> Misconfigured:
    return Misconfigured(
        f"this is not a key revocation list that can be kept: {what}",
        remedy="Restore it from a copy, or make one with `ssh-keygen -k` from what must stay revoked.",
    )


# ── Files ────────────────────────────────────────────────────────────────────


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold ``path``'s lock file: one thread of one process at a time reads, decides and replaces.

    The kernel lets go when the holder dies. The empty lock file stays: to remove it would let two hold it.
    """
    lock = path.with_name(f"{path.name}.lock")
    with answering(lock.name):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with answering(lock.name):
            _acquire(handle, lock.name)
        yield
    finally:
        os.close(handle)


def _acquire(handle: int, name: str) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TargetUnavailable(
                    f"another process has held {name} for {_LOCK_SECONDS:.0f} s; nothing was changed",
                    remedy="Look for a Muniment process that was stopped.",
                ) from None
            time.sleep(0.005)
        else:
            return


def replace_file(path: Path, data: bytes, mode: int) -> None:
    """Make ``data`` the file's whole content, durably. The caller holds the lock.

    A crash leaves the old file or the new one, whole; and perhaps ``.NAME.new``, which the next call overwrites.
    """
    fresh = path.with_name(f".{path.name}.new")
    with answering(path.name):
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            with os.fdopen(os.open(fresh, flags, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            fresh.replace(path)
        except OSError:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names in the folder survive the loss of power."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def answering(what: str) -> Iterator[None]:
    """Say a failing disk in our own words."""
    try:
        yield
    except OSError as error:
        raise TargetUnavailable(
            f"{what} cannot be read or written: {error.strerror or type(error).__name__}",
            remedy="Make room on the disk, or correct the folder and its permissions.",
        ) from error
