"""Where a target's HTTP API is, and the bearer token that signs us in there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from muniment.connectors.kinds import Secret
from muniment.core.errors import Misconfigured
from muniment.core.instants import parse_duration
from muniment.outbound import Http, private_base

_LARGEST = 32 * 1024 * 1024  # bytes of an answer: a page of a list, with all that is in it


class Bearer(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is kept between calls."""

    name: str  # of the target
    base: str
    http: Http
    timeout: float  # seconds for a whole call
    token: Secret

    def text(self) -> str:
        """The token itself, as it is now. Raises `Misconfigured`."""
        text = self.token.reveal()
        if not text or not text.isascii() or not text.isprintable():
            raise Misconfigured(f"{self.name}: {self.token.reference} holds nothing that is a bearer token")
        return text


def reach(name: str, settings: Any) -> Bearer:
    """Of what connectors with such a token have among their settings: url, token, ca and timeout."""
    timeout = parse_duration(settings.timeout) / timedelta(seconds=1)
    return Bearer(
        name=name, base=private_base(settings.url, f"{name}'s", setting="url"), timeout=timeout, token=settings.token,
        http=Http(ca=settings.ca, timeout=timeout, largest=_LARGEST),
    )  # fmt: skip
