"""``[identities.scim]``: people, groups and agents that an identity provider keeps here over SCIM 2.0."""

from __future__ import annotations

from muniment.core.errors import Invalid, Misconfigured
from muniment.core.identity import parse_group
from muniment.settings.section import Section


class ScimSettings(Section, frozen=True, kw_only=True):
    """``[identities.scim]``."""

    groups: tuple[str, ...] = ()  # whose members the provider says; any other group of its counts for nothing


def check_scim(scim: ScimSettings | None) -> None:
    """Raise `Misconfigured` for what cannot be meant."""
    groups = scim.groups if scim else ()
    for group in groups:
        try:
            parse_group(group)
        except Invalid as error:
            raise Misconfigured(f"[identities.scim] groups: {error.message}", remedy=error.remedy) from error
    if len({group.casefold() for group in groups}) < len(groups):
        raise Misconfigured("[identities.scim] groups names one twice", remedy="Remove one.")
