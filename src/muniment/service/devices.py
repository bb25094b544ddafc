"""A program without a browser signs in: the person says yes in a browser that is signed in. Source: RFC 8628.

1. `begin` gives the device a sealed code, and the person a short one to compare. Nothing is stored, so whoever begins a
   thousand fills nothing;
2. `answer`: the person, in their session, says yes or no to the short code, once. That is stored, for minutes;
3. `fetch`: the device, which asks now and then, gets a token that acts as the person, once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import threading
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from muniment.core.errors import Conflict, Invalid, Refused
from muniment.core.instants import parse_instant, wire
from muniment.service import tokens
from muniment.service.desk import Caller, Desk
from muniment.service.documents import Document
from muniment.store.devices import SqlDevices

#: the one program that is known as a client. It is public: its name proves nothing
CLIENT = "muniment-cli"
GRANT = "urn:ietf:params:oauth:grant-type:device_code"
#: what a device may narrow its token to. Every other scope opens something that not every person may
SCOPES = ("read", "write")
#: how long the person may take, and how often the device asks, in seconds; it asks slower by so much each time it was
#: too fast
PATIENCE, EVERY, SLOWER = timedelta(minutes=10), 5, 5
#: seconds by which a device may be early: its questions do not all take equally long to come here
EARLY = 1
#: devices whose pace is remembered
WAITING = 10_000
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
    scopes: tuple[str, ...] = ()


class Pace:
    """How often devices ask. In memory: each process counts by itself. Safe for use by several threads."""

    def __init__(self) -> None:
        """Nobody asked yet."""
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, tuple[datetime, int]] = (
            OrderedDict()
        )  # when last, and how often it may

    def too_fast(self, device: bytes, now: datetime) -> bool:
        """Note a question of a device. Whether it comes too soon; from then on it asks slower (section 3.5)."""
        with self._lock:
            last, every = self._known.pop(device, (None, EVERY))
            fast = last is not None and now - last < timedelta(seconds=every - EARLY)
            self._known[device] = now, every + SLOWER if fast else every
            if len(self._known) > WAITING:
                self._known.popitem(last=False)
            return fast


def begin(desk: Desk, url: str, *, client: str, scope: str) -> Document:
    """What a device is told: its own code, the person's, and where the person goes.

    Raises:
        Invalid: no client that is known here, or no scope that it may have.
    """
    _require_client(client)
    scopes = tuple(sorted(set(scope.split())))
    if not set(scopes) <= set(SCOPES):
        raise Invalid(
            "a program that is let in has no such scope",
            remedy=f"Ask for {' or '.join(SCOPES)}, or for none.",
            code="invalid.scope",
        )
    until = desk.clock.now() + PATIENCE
    letters = "".join(LETTERS[byte % len(LETTERS)] for byte in _fair(desk))
    code = f"{letters[:5]}-{letters[5:]}"
    body = msgspec.json.encode(
        _Device(code=code, nonce=_text(desk.random.bytes(16)), until=wire(until), scopes=scopes)
    )
    return {
        "device_code": f"{_text(body)}.{_text(desk.store.marker.of(_SEAL + body))}", "user_code": code,
        "verification_uri": f"{url}/auth/device", "verification_uri_complete": f"{url}/auth/device?user_code={code}",
        "expires_in": int(PATIENCE.total_seconds()), "interval": EVERY,
    }  # fmt: skip


def answer(desk: Desk, caller: Caller, code: str, said: Literal["yes", "no"]) -> str:
    """The person says whether whoever shows this code acts as them.

    Raises:
        Refused: the caller did not sign in: a token makes no tokens.
        Conflict: it was answered already.
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
    devices.say(_hash(plain), caller.identity.id, said, now, now + PATIENCE)
    return plain


def fetch(desk: Desk, pace: Pace, device: str, *, client: str, grant: str) -> Document:
    """The device's token (RFC 6749, section 5.1), and whom it acts as.

    Raises:
        Invalid: this is no code of ours, or is over, or was used; or the question itself is wrong.
        Conflict: nobody said anything yet: ask again; or it was asked too soon: ask again later.
        Refused: the person said no, or is not active any more.
    """
    if grant != GRANT:
        raise Invalid("there is no such grant here", remedy=f"Send {GRANT}.", code="invalid.grant-type")
    _require_client(client)
    now = desk.clock.now()
    known = _opened(desk, device, now)
    found = SqlDevices(desk.store.engine, desk.store.marker).take(_hash(known.code), now)
    if found is None and pace.too_fast(_hash(device), now):
        raise Conflict(
            "this device asks too often",
            remedy=f"Ask again, from now on {SLOWER} seconds later each time.",
            code="conflict.slow-down",
        )
    if found is None:
        raise Conflict(
            "nobody has let this device in yet",
            remedy=f"Ask again in {EVERY} seconds.",
            code="conflict.authorization-pending",
        )
    said, who = found
    if said == "taken":
        raise _unknown()
    if said == "no":
        raise _denied("the person said no", "Begin again if that was a mistake.")
    try:
        # the person's own: the device only fetches what they said yes to in their session
        made = tokens.create(desk, desk.caller(who, "api"), who, lasts=LASTS, scopes=known.scopes)
    except Refused as error:  # gone since the yes
        raise _denied(error.message, error.remedy) from error
    narrowed = {"scope": " ".join(made["scopes"])} if made["scopes"] else {}
    return {
        "access_token": made["token"], "token_type": "Bearer", "expires_in": int(LASTS.total_seconds()), **narrowed,
        "identity": made["identity"], "expires_at": made["expires_at"],
    }  # fmt: skip


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
        raise Invalid("the device's code is over", remedy="Begin again.", code="invalid.device-expired")
    return found


def _require_client(client: str) -> None:
    if client != CLIENT:
        raise Invalid(
            "no such client is known here", remedy=f"Send client_id={CLIENT}.", code="invalid.client"
        )


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
        "the device's code is not known, or was used", remedy="Begin again.", code="invalid.device-grant"
    )


def _denied(message: str, remedy: str) -> Refused:
    return Refused(message, remedy=remedy, code="refused.device-denied")
