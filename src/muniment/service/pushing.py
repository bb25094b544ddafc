"""Where a receiver has signals pushed to (RFC 8935): as configured, or as the receiver itself says (SSF 1.0, section 8.1.1).

A receiver's own endpoint is a URL on somebody's word (I39): https, unless its stream may reach networks of our own, and
connected to only after the address was looked up and checked. The header that it wants sent along is a secret of its
own: sealed with the store's key, bound to the endpoint, and never shown again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from muniment.core.errors import Invalid, Misconfigured
from muniment.outbound import Http, split_url
from muniment.service.sending import Later, Never
from muniment.signals.tokens import MEDIA_TYPE
from muniment.store.marking import Marker
from muniment.store.signal_streams import Endpoint

NONCE = 12
#: what a header's value may be made of (RFC 9110, section 5.5), without what could end it
_HEADER = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,1998}[\x21-\x7e])?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Push:
    """Where tokens of a stream are posted to."""

    http: Http
    url: str
    authorization: Callable[[], str | None]  # the header, resolved anew for each

    def post(self, token: str) -> None:
        """Raises `Later` or `Never`."""
        held = self.authorization()
        headers = {"Authorization": held} if held else {}
        answer = self.http.post(self.url, token.encode(), content_type=MEDIA_TYPE, headers=headers)
        if answer.status == 400:  # RFC 8935: this token is not taken, and never will be
            raise Never(f"the receiver refuses the token: {answer.body[:200].decode(errors='replace')!r}")
        if not 200 <= answer.status < 300:
            raise Later(f"the receiver answered {answer.status}")


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """What receivers of one stream may name as theirs."""

    http: Http  # which refuses addresses
    plain: bool  # http too: for networks of one's own
    marker: Marker

    def opened(self, stream: str, endpoint: Endpoint) -> Push:
        """Ready to be posted to."""
        return Push(
            http=self.http, url=endpoint.url, authorization=lambda: self._authorization(stream, endpoint)
        )

    def named(self, stream: str, delivery: Mapping[str, Any], nonce: bytes) -> Endpoint:
        """As a receiver names it.

        Raises:
            Invalid: it is no URL that may be asked, or no header.
        """
        url, header = delivery.get("endpoint_url") or "", delivery.get("authorization_header")
        try:
            parts = split_url(url)
        except Misconfigured as error:
            raise Invalid(error.message, remedy=error.remedy, code="invalid.stream") from error
        if parts.scheme != "https" and not self.plain:
            raise Invalid(
                "endpoint_url is not https", remedy="Have a certificate made.", code="invalid.stream"
            )
        if header is None:
            return Endpoint(url=url)
        if not _HEADER.fullmatch(header):
            raise Invalid(
                "authorization_header is not one line of ASCII",
                remedy="Like: Bearer …",
                code="invalid.stream",
            )
        sealed = nonce + self._key.encrypt(nonce, header.encode(), _bound(stream, url))
        return Endpoint(url=url, authorization=sealed)

    def _authorization(self, stream: str, endpoint: Endpoint) -> str | None:
        sealed = endpoint.authorization
        if sealed is None:
            return None
        try:
            return self._key.decrypt(sealed[:NONCE], sealed[NONCE:], _bound(stream, endpoint.url)).decode()
        except InvalidTag as error:  # another key since: without what the receiver asked for nothing is sent
            raise Later("the receiver's header cannot be opened with this store's key") from error

    @property
    def _key(self) -> AESGCM:
        return AESGCM(self.marker.of(b"muniment signal endpoint key v1"))


def _bound(stream: str, url: str) -> bytes:
    return f"{stream}\0{url}".encode()
