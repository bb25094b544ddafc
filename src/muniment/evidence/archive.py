"""The container of an evidence bundle: a ZIP that has one spelling, so that nothing in it can be altered unnoticed.

Written: every file stored, in order of its name, dated 1980-01-01, without extra fields or comments. So equal files
make equal bytes, whatever wrote them, and every tool for ZIP files reads it.

Read: only what was written that way. The files are taken out and packed again, and the bytes must be the same. That
refuses, without a rule for each: compression (and so bombs), other names in the two directories, links, encryption,
bytes before, between or after, comments, two files of one name. The first bad thing is named where it can be.

Source: PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping

from muniment.ledger.errors import LedgerFault

#: bytes of a bundle at most
MAX_BUNDLE = 64 * 1024 * 1024
#: files in a bundle at most
MAX_FILES = 20_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,99})?")
_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
# version 1.0, no flags, stored, 1980-01-01 00:00
_COMMON = struct.pack("<HHHHH", 10, 0, 0, 0, 0x21)
_PLAIN, _PROGRAM = 0o100644, 0o100755
_END_BYTES = 22


class BadBundle(LedgerFault):
    """The file is not an evidence bundle, or something in it is missing, too much, or not what it should be."""

    code = "evidence.bad-bundle"


def pack(files: Mapping[str, bytes]) -> bytes:
    """The archive. Files that end in ``.sh`` can be run.

    Raises:
        BadBundle: a name no bundle may have, or more than a bundle may hold.
    """
    _check_limits(len(files), sum(map(len, files.values())))
    body, directory = bytearray(), bytearray()
    for name in sorted(files):
        _check_name(name)
        content, raw = files[name], name.encode()
        fields = _COMMON + struct.pack("<IIIHH", zlib.crc32(content), len(content), len(content), len(raw), 0)
        mode = _PROGRAM if name.endswith(".sh") else _PLAIN
        made_by = struct.pack("<H", 3 << 8 | 20)  # Unix: so that modes are read
        directory += _CENTRAL + made_by + fields + struct.pack("<HHHII", 0, 0, 0, mode << 16, len(body)) + raw
        body += _LOCAL + fields + raw + content
    end = struct.pack("<HHHHIIH", 0, 0, len(files), len(files), len(directory), len(body), 0)
    packed = bytes(body + directory + _END + end)
    _check_limits(len(files), len(packed))
    return packed


def unpack(raw: bytes) -> dict[str, bytes]:
    """The files in a bundle, by name.

    Raises:
        BadBundle: names the first thing that `pack` would not have written.
    """
    _check_limits(0, len(raw))
    if len(raw) < _END_BYTES or not raw.startswith((_LOCAL, _END)):
        raise BadBundle("the file is not an evidence bundle: it does not begin as one")
    end = raw[-_END_BYTES:]
    if not end.startswith(_END):
        raise BadBundle("the bundle is cut off, or something was added: it does not end as one")
    *_, count, length, start, _ = struct.unpack("<HHHHIIH", end[4:])
    _check_limits(count, len(raw))
    if start + length + _END_BYTES != len(raw):
        raise BadBundle("the bundle's list of files is not where it says: something was added or cut out")
    files: dict[str, bytes] = {}
    at = start
    for _ in range(count):
        name, content, at = _file(raw, at, start)
        if name in files:
            raise BadBundle(f"the bundle has two files {name}")
        files[name] = content
    if pack(files) != raw:
        raise BadBundle("the bundle is not packed as Muniment packs: something in its headers was altered")
    return files


def _file(raw: bytes, at: int, start: int) -> tuple[str, bytes, int]:
    """One line of the list: name and content of a file, and where the next line begins."""
    head = raw[at : at + 46]
    if len(head) < 46 or not head.startswith(_CENTRAL):
        raise BadBundle("the bundle's list of files is damaged")
    _, flags, method, _, _, crc, packed, size, named, extra, comment, _, _, attributes, offset = (
        struct.unpack("<HxxHHHHIIIHHHHHII", head[4:])
    )
    rest = at + 46
    text = raw[rest : rest + named]
    try:
        name = text.decode("ascii")
    except UnicodeDecodeError:
        raise BadBundle(f"the bundle has a file whose name is not ASCII: {text!r:.80}") from None
    _check_name(name)
    if method or packed != size:
        raise BadBundle(f"{name} is compressed; nothing in a bundle is")
    if flags or extra or comment:
        raise BadBundle(f"{name} has flags, extra fields or a comment; nothing in a bundle has")
    if attributes >> 16 not in (_PLAIN, _PROGRAM):
        raise BadBundle(f"{name} is not a plain file: a link, a folder or something else")
    content_at = offset + 30 + named
    if content_at + size > start or raw[offset + 30 : content_at] != text:
        raise BadBundle(f"{name} is not where the bundle's list says")
    content = raw[content_at : content_at + size]
    if zlib.crc32(content) != crc:
        raise BadBundle(f"{name} was altered: its checksum is another")
    return name, content, rest + named


def _check_name(name: str) -> None:
    # one folder deep, no dot at the beginning: so neither "..", nor an absolute path, nor a drive
    if not _NAME.fullmatch(name):
        raise BadBundle(f"the bundle has a file with a name that is not allowed: {name!r:.80}")


def _check_limits(files: int, size: int) -> None:
    if size > MAX_BUNDLE:
        raise BadBundle(f"the bundle is larger than {MAX_BUNDLE} bytes")
    if files > MAX_FILES:
        raise BadBundle(f"the bundle has {files} files; {MAX_FILES} are allowed")
