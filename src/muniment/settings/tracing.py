"""``[tracing]``: a collector that traces go to."""

from __future__ import annotations

from muniment.core.errors import Misconfigured
from muniment.settings.section import Section


class TracingSettings(Section, frozen=True, kw_only=True):
    """``[tracing]``."""

    endpoint: str
    token: str | None = None  # a secret
    percent: int = 100


def check_tracing(tracing: TracingSettings | None) -> None:
    """Raise `Misconfigured` for what cannot be meant."""
    if tracing is None:
        return
    if not tracing.endpoint.startswith(("https://", "http://")):
        raise Misconfigured(
            "[tracing] endpoint is not a URL", remedy='Write it like "http://127.0.0.1:4318/v1/traces".'
        )
    if not 0 <= tracing.percent <= 100:
        raise Misconfigured("[tracing] percent is not from 0 to 100", remedy="Leave it out for all requests.")
