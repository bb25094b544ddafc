"""A program without a browser signs in: the person says yes in a browser that is signed in. After RFC 8628.

1. `begin` gives the device a sealed code, and the person a short one to compare. Nothing is stored, so whoever begins a
   thousand fills nothing;
2. `allow`: the person, in their session, says yes to the short code. That is stored, for minutes;
3. `fetch`: the device, which asks now and then, gets a token that acts as the person, once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from datetime import datetime, timedelta

import msgspec

from muniment.core.errors import Conflict, Invalid, Refused
from muniment.core.instants import parse_instant, wire
from muniment.service import tokens
from muniment.service.desk import Caller, Desk
from muniment.service.documents import Document
from muniment.store.devices import SqlDevices

#: how long the person may take, and how often the device asks
PATIENCE, EVERY = timedelta(minutes=10), 5
#: how long the token lasts
LASTS = timedelta(hours=12)
#: no vowels, so that no word comes out; ten of them are 43 bits, to be guessed in the minutes after somebody said yes
LETTERS = "BCDFGHJKLMNPQRSTVWXZ"

_CODE = re.compile(rf"([{LETTERS}]{{5}})-?([{LETTERS}]{{5}})", re.ASCII | re.IGNORECASE)
#: no entry begins like this: entries are JSON objects
_SEAL = b"muniment device v1\0"


class _Device(msgspec.Struct, frozen=True, kw_only=True):
    """What a device asks for."""

    code: str
    nonce: str
    until: str


def begin(desk: Desk, url: str) -> Document:
    """What a device is told: its own code, the person's, and where the person goes."""
    until = desk.clock.now() + PATIENCE
    letters = "".join(LETTERS[byte % len(LETTERS)] for byte in _fair(desk))
    code = f"{letters[:5]}-{letters[5:]}"
    body = msgspec.json.encode(_Device(code=code, nonce=_text(desk.random.bytes(16)), until=wire(until)))
    return {
        "device_code": f"{_text(body)}.{_text(desk.store.marker.of(_SEAL + body))}", "user_code": code,
        "verification_uri": f"{url}/auth/device", "verification_uri_complete": f"{url}/auth/device?user_code={code}",
        "expires_in": int(PATIENCE.total_seconds()), "interval": EVERY,
    }  # fmt: skip


def allow(desk: Desk, caller: Caller, code: str) -> str:
    """The person says yes: whoever shows this code acts as them.

    Raises:
        Refused: the caller did not sign in: a token makes no tokens.
    """
    if caller.login is None:
        raise Refused(
            "only somebody who signed in lets a device in",
            remedy="Sign in: /auth/login.",
            code="refused.no-session",
        )
    plain = normal(code)
    now = desk.clock.now()
    devices = SqlDevices(desk.store.engine, desk.store.marker)
    devices.allow(_hash(plain), caller.identity.id, now, now + PATIENCE)
    return plain


def fetch(desk: Desk, device: str) -> Document:
    """The device's token.

    Raises:
        Invalid: this is no code of ours, or is over.
        Conflict: nobody said yes yet. Ask again.
    """
    now = desk.clock.now()
    known = _opened(desk, device, now)
    who = SqlDevices(desk.store.engine, desk.store.marker).take(_hash(known.code), now)
    if who is None:
        raise Conflict(
            "nobody has let this device in yet",
            remedy=f"Ask again in {EVERY} seconds.",
            code="conflict.authorization-pending",
        )
    return tokens.create(desk, who, lasts=LASTS)


def normal(code: str) -> str:
    """A person's code as it is written, or `Invalid`."""
    found = _CODE.fullmatch(code.strip())
    if found is None:
        raise Invalid(
            "this is not a code",
            remedy="Type the ten letters that the program shows.",
            code="invalid.device-code",
        )
    return f"{found[1]}-{found[2]}".upper()


def _opened(desk: Desk, device: str, now: datetime) -> _Device:
    try:
        body, mark = (base64.urlsafe_b64decode(part + "==") for part in device.split("."))
    except (ValueError, binascii.Error) as error:
        raise _unknown() from error
    if not desk.store.marker.holds(_SEAL + body, mark):
        raise _unknown()
    found = msgspec.json.decode(body, type=_Device)
    if parse_instant(found.until) <= now:
        raise _unknown()
    return found


def _fair(desk: Desk) -> bytes:
    """Ten bytes, each as likely to be any letter."""
    limit = 256 - 256 % len(LETTERS)
    found = b""
    while len(found) < 10:
        found += bytes(byte for byte in desk.random.bytes(16) if byte < limit)
    return found[:10]


def _hash(code: str) -> bytes:
    return hashlib.sha256(code.encode()).digest()


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _unknown() -> Invalid:
    return Invalid(
        "the device's code is not known, or is over", remedy="Begin again.", code="invalid.device-code"
    )
