"""``[signals]``: shared signals (SSF, CAEP, RISC) that come in from transmitters, and go out to receivers."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from muniment.core.errors import Invalid, Misconfigured
from muniment.core.identity import parse_identity
from muniment.settings.section import Section

#: what may be said about somebody, by the last part of its type
SignalName: TypeAlias = Literal[
    "session-revoked", "credential-change", "assurance-level-change", "device-compliance-change", "risk-level-change",
    "token-claims-change", "account-disabled", "account-enabled", "account-purged", "credential-compromise",
]  # fmt: skip
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}", re.ASCII)


class TransmitterSettings(Section, frozen=True, kw_only=True):
    """``[[signals.transmitters]]``: somebody whose signals are heeded."""

    issuer: str
    jwks: str  # https URL, or a file
    audience: str | None = None
    algorithms: tuple[Literal["RS256", "PS256", "ES256", "EdDSA"], ...] = ("RS256",)
    subjects: tuple[Literal["email", "iss_sub", "opaque"], ...] = ("email",)
    ends: tuple[SignalName, ...] = ()
    poll: str | None = None  # URL
    poll_token: str | None = None  # a secret
    ca: str | None = None  # PEM file for https, if not the system's
    allow: tuple[str, ...] = ()


class StreamSettings(Section, frozen=True, kw_only=True):
    """``[[signals.streams]]``: somebody who is told of access that ended."""

    name: str
    audience: str
    client: str | None = None  # the identity whose token fetches them; without a push URL
    push: str | None = None  # URL
    push_token: str | None = None  # a secret
    subjects: Literal["email", "iss_sub", "opaque"] = "email"
    issuer: str | None = None  # of subjects as iss_sub
    targets: tuple[str, ...] = ()
    ca: str | None = None  # PEM file for https, if not the system's
    allow: tuple[str, ...] = ()


class SignalSettings(Section, frozen=True, kw_only=True):
    """``[signals]``."""

    key: str | None = None  # a secret: the RSA key (PEM) that signs what goes out
    transmitters: tuple[TransmitterSettings, ...] = ()
    streams: tuple[StreamSettings, ...] = ()


def check_signals(signals: SignalSettings | None) -> None:
    """Raise `Misconfigured` for what cannot be meant."""
    if signals is None:
        return
    issuers = [each.issuer for each in signals.transmitters]
    if len(set(issuers)) < len(issuers):
        raise Misconfigured("[[signals.transmitters]] has one issuer twice", remedy="Remove one.")
    if signals.streams and signals.key is None:
        raise Misconfigured(
            "[[signals.streams]] without a key that signs them",
            remedy="Set [signals] key to an RSA key of 2048 bits or more.",
        )
    for each in signals.transmitters:
        for url in (each.jwks if "://" in each.jwks else None, each.poll):
            _require_private(url, each.allow, f"[[signals.transmitters]] {each.issuer:.100}")
        if not each.algorithms or not each.subjects:
            raise Misconfigured(
                f"[[signals.transmitters]] {each.issuer:.100}: no algorithms, or no subjects",
                remedy="Leave them out for the defaults.",
            )
    names = [each.name for each in signals.streams]
    if len(set(names)) < len(names):
        raise Misconfigured(
            "[[signals.streams]] has one name twice", remedy="How far each is, is kept under its name."
        )
    for stream in signals.streams:
        _check_stream(stream)


def _check_stream(stream: StreamSettings) -> None:
    where = f"[[signals.streams]] {stream.name:.60}"
    if not _NAME.fullmatch(stream.name):
        raise Misconfigured(
            f"{where}: not a name for a stream", remedy="Use a-z 0-9 and -, and at most 40 of them."
        )
    if (stream.push is None) == (stream.client is None):
        raise Misconfigured(f"{where}: one of push and client", remedy="We push, or they fetch.")
    if stream.client is not None:
        try:
            parse_identity(stream.client)
        except Invalid as error:
            raise Misconfigured(f"{where}: {error.message}", remedy=error.remedy) from error
    if (stream.subjects == "iss_sub") != (stream.issuer is not None):
        raise Misconfigured(f"{where}: issuer goes with subjects iss_sub", remedy="Say both, or neither.")
    _require_private(stream.push, stream.allow, where)


def _require_private(url: str | None, allowed: tuple[str, ...], where: str) -> None:
    if url is not None and not url.startswith("https://") and not (allowed and url.startswith("http://")):
        raise Misconfigured(
            f"{where}: a url is not https", remedy="http is for networks of your own, which allow names."
        )
