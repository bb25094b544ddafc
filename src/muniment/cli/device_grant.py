"""The program's side of RFC 8628: begin, show a code, ask as often as the server says, until somebody answered."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from muniment.cli.remote import RemoteBackend
from muniment.core.errors import Misconfigured, MunimentError, Refused, Unavailable
from muniment.service.devices import CLIENT, GRANT, SLOWER

#: seconds that nobody waits longer than, whatever a server says
LONGEST = 1800
#: seconds between questions where the server does not say, and at least (section 3.2)
USUAL, LEAST = 5, 1

T = TypeVar("T")


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """Section 3.2."""

    device_code: str
    user_code: str
    verification_uri: str
    expires_in: int
    verification_uri_complete: str | None = None
    interval: int = USUAL


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 6749, section 5.1, and what Muniment adds."""

    access_token: str
    token_type: str
    identity: str
    expires_at: str


class _Error(msgspec.Struct, frozen=True, kw_only=True):
    error: str
    error_description: str = ""


def begin(server: RemoteBackend) -> Begun:
    """What to show to the person."""
    status, body = server.send_form("/auth/device", {"client_id": CLIENT})
    if status != 200:
        raise _refused(_read(body, _Error))
    return _read(body, Begun)


def wait(
    server: RemoteBackend,
    begun: Begun,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Made:
    """The token, once the person said yes.

    Raises:
        Refused: the person said no, or the server does.
        Unavailable: nobody answered in time.
    """
    form = {"grant_type": GRANT, "device_code": begun.device_code, "client_id": CLIENT}
    pause = max(LEAST, begun.interval)
    end = clock() + max(0, min(begun.expires_in, LONGEST))
    while clock() + pause <= end:
        sleep(pause)
        try:
            status, body = server.send_form("/auth/device/token", form)
        except Unavailable:
            pause *= 2  # section 3.5: back off where nobody answers
            continue
        if status == 200:
            return _sound(_read(body, Made))
        if status >= 500 or status == 429:
            pause *= 2
            continue
        said = _read(body, _Error)
        match said.error:
            case "authorization_pending":
                pass
            case "slow_down":
                pause += SLOWER
            case "expired_token":
                break
            case _:
                raise _refused(said)
    raise Unavailable(
        "nobody said yes in the browser in time",
        remedy="Run `muniment login` again.",
        code="unavailable.no-yes",
    )


def _sound(made: Made) -> Made:
    """What goes into a header is what may."""
    if made.token_type.lower() != "bearer" or not re.fullmatch(r"[!-~]{1,4096}", made.access_token):
        raise _no_server()
    return made


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _no_server() from error


def _refused(said: _Error) -> MunimentError:
    if said.error == "access_denied":
        return Refused(
            f"the program was not let in: {said.error_description:.200}",
            remedy="Run `muniment login` again if that was a mistake.",
            code="refused.device-denied",
        )
    if said.error == "invalid_client":
        return Misconfigured(
            "the server does not let this program in",
            remedy="Use the version of Muniment that the server has.",
        )
    return Refused(
        f"the server lets nobody in: {said.error:.60}: {said.error_description:.200}",
        remedy="Ask whoever runs it; a token from `muniment token create` works, too.",
        code="refused.login",
    )


def _no_server() -> Unavailable:
    return Unavailable(
        "what answers there is no Muniment", remedy="Check the URL.", code="unavailable.not-a-server"
    )
