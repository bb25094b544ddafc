"""Readers that the text formats share: UTF-8, base64 and decimal numbers, each in one spelling only.

One spelling, since two files that mean the same and differ in bytes let two verifiers disagree, or let a copy be
altered unnoticed. Each function takes the fault to raise, because the same slip in a note and in a proof are
different faults to the caller.
"""

from __future__ import annotations

import base64
import binascii
import re

from muniment.ledger.errors import LedgerFault

_DECIMAL = re.compile("0|[1-9][0-9]{0,18}")
_NAME = re.compile(r"[^\s+\x00-\x1f\ud800-\udfff]+")  # lone surrogates have no UTF-8
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f]")

#: sizes and indexes are below this: they fit a signed 64-bit column in every database
MAX_NUMBER = 2**63 - 1


def read_text(raw: str | bytes, *, limit: int, what: str, fault: type[LedgerFault]) -> str:
    """Decode UTF-8 without control characters other than newline, of ``limit`` bytes at most.

    Source: c2sp.org/signed-note, "Format".
    """
    # counted before any work on it, so that a huge file costs nothing
    if len(raw) > limit:
        raise fault(f"{what} is longer than {limit} bytes")
    try:
        data, text = (raw, raw.decode()) if isinstance(raw, bytes) else (raw.encode(), raw)
    except UnicodeError as error:
        raise fault(f"{what} is not UTF-8 ({_where(error)})") from None
    if len(data) > limit:
        raise fault(f"{what} is longer than {limit} bytes")
    if control := _CONTROL.search(text):
        raise fault(
            f"{what} has the control character U+{ord(control[0]):04X} at character {control.start()}"
        )
    return text


def read_base64(text: str, *, what: str, fault: type[LedgerFault], length: int | None = None) -> bytes:
    """Decode padded base64 of the standard alphabet (RFC 4648, section 4), of ``length`` bytes if given.

    The result is encoded again and compared: unused bits of the last character could otherwise be anything.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise fault(f"{what} is not base64: {text!r:.60}") from None
    if write_base64(data) != text:
        raise fault(f"{what} is base64 in another spelling than the standard one: {text!r:.60}")
    if length is not None and len(data) != length:
        raise fault(f"{what} has {len(data)} bytes, not {length}")
    return data


def write_base64(data: bytes) -> str:
    """Padded base64 of the standard alphabet."""
    return base64.b64encode(data).decode("ascii")


def read_decimal(text: str, *, what: str, fault: type[LedgerFault]) -> int:
    """Read ASCII digits without sign or leading zero, at most `MAX_NUMBER`."""
    # the pattern bounds the digits, and so what int() may cost
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_NUMBER:
        raise fault(f"{what} is not a decimal number without leading zeros: {text!r:.60}")
    return int(text)


def good_name(name: str) -> bool:
    """Whether ``name`` may name a key or a log: not empty, no Unicode space, no ``+``, no control character.

    Source: c2sp.org/signed-note, "Format".
    """
    return _NAME.fullmatch(name) is not None


def _where(error: UnicodeError) -> str:
    start = getattr(error, "start", 0)
    return f"position {start}"
