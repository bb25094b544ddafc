"""The formats there are."""

from __future__ import annotations

from muniment.core.errors import Invalid
from muniment.usage.cloudtrail import CLOUDTRAIL
from muniment.usage.generic import EVENTS, Mapped, generic
from muniment.usage.kubernetes import KUBERNETES
from muniment.usage.ocsf import OCSF
from muniment.usage.openbao import OPENBAO
from muniment.usage.postgresql import CSV, JSON
from muniment.usage.reading import Format
from muniment.usage.syslog import SSHD, SUDO

FORMATS: dict[str, Format] = {
    each.name: each for each in (CSV, JSON, SSHD, SUDO, OPENBAO, KUBERNETES, CLOUDTRAIL, OCSF, EVENTS)
}
GENERIC = "generic"


def format_named(name: str, mapping: Mapped | None = None) -> Format:
    """A format. Raises `Invalid` for one that is not there, and for a mapping that is missing or of no use."""
    if name == GENERIC:
        if mapping is None:
            raise Invalid(
                "the generic format needs a mapping", remedy="Say which field is what: --mapping FILE."
            )
        return generic(mapping)
    if mapping is not None:
        raise Invalid("a mapping is for the generic format", remedy="Leave it out, or use --format generic.")
    if name not in FORMATS:
        raise Invalid(
            f"there is no format {name!r:.40}", remedy=f"Formats are {', '.join((*FORMATS, GENERIC))}."
        )
    return FORMATS[name]
