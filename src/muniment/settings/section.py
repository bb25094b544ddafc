"""What every section is."""

from __future__ import annotations

import msgspec


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a table in the file: a key nobody knows is a typing error, not a wish."""
