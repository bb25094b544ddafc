"""``[targets.ID.limits]``: how much is asked of a target at once, and what is done while it does not answer.

How long one call may take is the connector's own setting, ``timeout``.
"""

from __future__ import annotations

from datetime import timedelta

from muniment.core.errors import Invalid, Misconfigured
from muniment.core.instants import parse_duration
from muniment.settings.section import Section

#: taking away is tried at least this often, whatever is configured (I14)
LONGEST = timedelta(seconds=60)
#: more tickets in one call would outlast their leases
LARGEST_BATCH = 1000


class LimitSettings(Section, frozen=True, kw_only=True):
    """``[targets.ID.limits]``."""

    at_once: int = 8  # Calls under way together. One of them is kept for taking away.
    per_second: int | None = None  # Changes and readings a second, in the long run; without it, no limit.
    batch: int = 200  # Tickets in one call, at most.
    failures: int = 3  # Calls in a row without an answer, after which the target is held.
    longest_pause: str = "60s"  # Between attempts while it is held; they begin a second apart.

    @property
    def pause(self) -> timedelta:
        """The longest pause between attempts."""
        return parse_duration(self.longest_pause)


def check_limits(where: str, settings: LimitSettings) -> None:
    """Raise `Misconfigured` for what would keep access from being taken away in time."""
    try:
        pause = settings.pause
    except Invalid as error:
        raise Misconfigured(f"{where} longest_pause: {error.message}", remedy=error.remedy) from error
    if not timedelta(seconds=1) <= pause <= LONGEST:
        raise Misconfigured(
            f"{where} longest_pause is not between 1s and {LONGEST.seconds}s",
            remedy="Access that is over is tried to be taken away at least once a minute.",
        )
    for name, most in (
        ("at_once", 1000),
        ("per_second", 100_000),
        ("batch", LARGEST_BATCH),
        ("failures", 100),
    ):
        value = getattr(settings, name)
        if value is not None and not 1 <= value <= most:
            raise Misconfigured(
                f"{where} {name} is not between 1 and {most}", remedy="Leave it out for the default."
            )
