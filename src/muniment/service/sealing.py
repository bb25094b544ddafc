"""Take waiting entries into the tree, and sign a checkpoint over it."""

from __future__ import annotations

from muniment.core.errors import Misconfigured
from muniment.service.desk import Desk


def seal(desk: Desk) -> str:
    """Seal everything that waits now; return the newest checkpoint note. Idempotent.

    Raises:
        Misconfigured: this process has no log key.
        IntegrityError: an entry was not written by us; nothing is sealed past it.
    """
    if desk.signer is None:
        raise Misconfigured(
            "there is no ledger key here", remedy="Set [ledger] key, or run this where the key is."
        )
    while desk.ledger.integrate():
        pass
    return desk.ledger.publish(desk.signer)
