"""``[[webhooks]]`` and ``[[ocsf]]``: who is told what happens."""

from __future__ import annotations

import re
from typing import Literal

from muniment.core.errors import Misconfigured
from muniment.core.events import KINDS
from muniment.settings.section import Section

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}", re.ASCII)


class WebhookSettings(Section, frozen=True, kw_only=True):
    """``[[webhooks]]``."""

    name: str
    url: str
    secret: str  # a secret
    previous_secret: str | None = None  # a secret that this one replaces; both sign
    events: tuple[str, ...] = ()  # kinds without their version; empty: every one of a ticket's
    targets: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    ca: str | None = None  # PEM file for https, if not the system's


class OcsfSettings(Section, frozen=True, kw_only=True):
    """``[[ocsf]]``."""

    name: str
    version: Literal["1.8", "1.9"] = "1.8"
    file: str | None = None
    syslog: str | None = None  # udp://, tcp:// or tls:// and host:port
    url: str | None = None
    token: str | None = None  # a secret: the bearer token that the URL is asked with
    allow: tuple[str, ...] = ()
    ca: str | None = None  # PEM file for https and tls, if not the system's


def check_outbound(webhooks: tuple[WebhookSettings, ...], ocsf: tuple[OcsfSettings, ...]) -> None:
    """Raise `Misconfigured` for what cannot be meant."""
    known = {kind.partition("/")[0] for kind in KINDS}
    for name in [each.name for each in webhooks] + [each.name for each in ocsf]:
        if not _NAME.fullmatch(name):
            raise Misconfigured(
                f"{name!r:.60} is not a name for a sink",
                remedy="Use a-z 0-9 and -, and at most 40 of them.",
            )
    for section, named in (("webhooks", webhooks), ("ocsf", ocsf)):
        if len({each.name for each in named}) < len(named):
            raise Misconfigured(
                f"[[{section}]] has one name twice", remedy="How far each is, is kept under its name."
            )
    for hook in webhooks:
        _require_private(hook.url, hook.allow, f"[[webhooks]] {hook.name}")
        for event in hook.events:
            if event not in known:
                raise Misconfigured(
                    f"[[webhooks]] {hook.name}: there is no event {event!r:.60}",
                    remedy="Events are listed in docs/reference/events.md, and are named here without a version.",
                )
    for out in ocsf:
        _check_ocsf(out)


def _check_ocsf(out: OcsfSettings) -> None:
    if sum(way is not None for way in (out.file, out.syslog, out.url)) != 1:
        raise Misconfigured(f"[[ocsf]] {out.name}: one of file, syslog and url", remedy="Say where it goes.")
    if out.syslog is not None and not re.fullmatch(r"(udp|tcp|tls)://[A-Za-z0-9.:\[\]-]+:[0-9]+", out.syslog):
        raise Misconfigured(
            f"[[ocsf]] {out.name}: syslog cannot be used",
            remedy='Write it like "tls://logs.example.com:6514".',
        )
    if out.url is not None:
        _require_private(out.url, out.allow, f"[[ocsf]] {out.name}")


def _require_private(url: str, allowed: tuple[str, ...], where: str) -> None:
    if not url.startswith("https://") and not (allowed and url.startswith("http://")):
        raise Misconfigured(
            f"{where}: the url is not https", remedy="http is for networks of your own, which allow names."
        )
