"""Standard Webhooks (https://www.standardwebhooks.com): one POST an event, signed, with an id that stays over retries."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from muniment.core.errors import Misconfigured
from muniment.outbound import Answer, Http

_PREFIX = "whsec_"


class Refusal(Exception):
    """The endpoint answered something else than yes."""

    def __init__(self, message: str, *, gone: bool = False, after: timedelta | None = None) -> None:
        """``gone``: it wants nothing any more. ``after``: when it may be asked again."""
        super().__init__(message)
        self.message, self.gone, self.after = message, gone, after


def read_key(secret: str) -> bytes:
    """The key in ``whsec_BASE64``. Raises `Misconfigured`; the message never holds the secret."""
    try:
        key = base64.b64decode(secret.strip().removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not 24 <= len(key) <= 64:
        raise Misconfigured(
            "a webhook's secret is not whsec_ and 24 to 64 bytes in base64",
            remedy='Make one with: echo "whsec_$(openssl rand -base64 32)".',
        )
    return key


def signature(key: bytes, ident: str, timestamp: int, body: bytes) -> str:
    """``v1,BASE64`` of HMAC-SHA256 over ``id.timestamp.body``."""
    signed = f"{ident}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


class Endpoint:
    """One URL with its secrets. While one secret replaces another, both sign."""

    def __init__(self, http: Http, url: str, secrets: Callable[[], tuple[str, ...]]) -> None:
        """``secrets`` resolves them anew for each message."""
        self._http, self._url, self._secrets = http, url, secrets

    def post(self, ident: str, body: bytes, media_type: str, now: datetime) -> None:
        """Send one message.

        Raises:
            Refusal: it answered no.
            Unavailable: it did not answer.
        """
        stamp = int(now.timestamp())
        keys = [read_key(secret) for secret in self._secrets()]
        headers = {
            "webhook-id": ident, "webhook-timestamp": str(stamp),
            "webhook-signature": " ".join(signature(key, ident, stamp, body) for key in keys),
            "User-Agent": "muniment",
        }  # fmt: skip
        require_yes(self._http.post(self._url, body, content_type=media_type, headers=headers))


def require_yes(answer: Answer) -> None:
    """Raise `Refusal` for anything but 2xx."""
    if 200 <= answer.status < 300:
        return
    raise Refusal(
        f"it answered {answer.status}", gone=answer.status == 410, after=_retry_after(answer.headers)
    )


def _retry_after(headers: Mapping[str, str]) -> timedelta | None:
    said = headers.get("retry-after", "").strip()
    return timedelta(seconds=int(said)) if said.isascii() and said.isdigit() and len(said) < 8 else None
