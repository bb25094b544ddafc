"""Take waiting entries into the tree, sign a checkpoint over it, and publish it."""

from __future__ import annotations

from muniment.core.errors import Misconfigured
from muniment.service.desk import Desk
from muniment.service.guarding import guard
from muniment.service.keyring import signing
from muniment.service.publishing import publish
from muniment.service.witnessing import consult


def seal(desk: Desk) -> str:
    """Seal everything that waits now, and publish it; return the newest checkpoint note. Idempotent.

    Raises:
        Misconfigured: this process has no log key.
        RolledBack: this store is not the one that was published last.
        IntegrityError: an entry was not written by us; nothing is sealed past it.
    """
    if not desk.signers:
        raise Misconfigured(
            "there is no ledger key here", remedy="Set [ledger] key, or run this where the key is."
        )
    guard(desk)
    consult(desk)
    while desk.ledger.integrate():
        pass
    kept = desk.ledger.sign(lambda head: signing(desk, head), desk.verifiers)
    publish(desk, kept)
    return kept.note
