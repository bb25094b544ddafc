"""Certificates as issued and as read back from the register (PROTOCOL.certkeys)."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization as keys

from muniment.connectors import krl as lists
from muniment.connectors.openssh_keys import (
    wire_form,
)
from muniment.ports import Order, Outcome

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TICKET = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_KEY_ID = re.compile(rf"muniment:({TICKET.pattern}):(.+)", re.ASCII | re.DOTALL)


class Damaged(Exception):
    """A file in the register is not the certificate that its name says."""


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate whose signature is that of the authority it names."""

    serial: int
    key_id: bytes
    principals: tuple[str, ...]
    until: int  # seconds since 1970; sshd refuses from this second on
    key: bytes  # wire form, as is ``authority``
    authority: bytes
    line: bytes = b""

    @property
    def account(self) -> str:
        text = self.key_id.decode(errors="backslashreplace")
        match = _KEY_ID.fullmatch(text)
        return match[2] if match else text

    @property
    def ticket(self) -> str | None:
        match = _KEY_ID.fullmatch(self.key_id.decode(errors="backslashreplace"))
        return match[1] if match else None

    def revoked(self, krl: lists.Krl) -> bool:
        return krl.revokes(self.authority, self.serial, self.key_id) or any(
            map(krl.revokes_key, (self.key, self.authority))
        )


def verified(line: bytes, serial: int) -> Issued:
    try:
        found = keys.load_ssh_public_identity(line)
        if not isinstance(found, keys.SSHCertificate) or found.serial != serial:
            raise Damaged
        found.verify_cert_signature()
        signer = found.signature_key()
    except (ValueError, TypeError, AssertionError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise Damaged from error
    return Issued(
        serial=serial,
        key_id=found.key_id,
        principals=tuple(p.decode(errors="backslashreplace") for p in found.valid_principals) or ("*",),
        until=found.valid_before,
        key=wire_form(found.public_key()),
        authority=wire_form(signer),
        line=line,
    )


def serial_of(ticket: str) -> int:
    """The serial of a ticket's certificate: 63 bits of SHA-256, never 0, which PROTOCOL.krl cannot revoke.

    Two of ten million tickets share one with a chance under one in 100,000; the second is then refused.
    """
    digest = hashlib.sha256(b"muniment ssh serial\0" + ticket.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1 or 1


def key_id(order: Order) -> bytes:
    return f"muniment:{order.ticket}:{order.account}".encode()


def foreign_handle(order: Order) -> Outcome:
    message = "the handle names another ticket's serial"
    return Outcome(ticket=order.ticket, result="rejected", code="target.foreign-handle", message=message)


def ends_at(order: Order) -> int:
    """The end in whole seconds, rounded up: PROTOCOL.certkeys knows no fractions, and we end it on time anyway."""
    return -((EPOCH - order.expires_at) // timedelta(seconds=1))


def done(order: Order, until: int | None) -> Outcome:
    handle = {"serial": str(serial_of(order.ticket)), "key_id": key_id(order).decode()}
    ends = None if until is None else EPOCH + timedelta(seconds=min(until, 1 << 37))
    return Outcome(ticket=order.ticket, result="done", handle=handle, native_expiry=ends)
