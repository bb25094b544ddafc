"""``[experimental]``: what may change or go with any release."""

from __future__ import annotations

from muniment.settings.section import Section


class ExperimentalSettings(Section, frozen=True, kw_only=True):
    """``[experimental]``."""

    access_requests: bool = False
