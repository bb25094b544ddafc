"""An approver's own signature: verified when it is recorded, with the keys that the directory gives that person."""

from __future__ import annotations

from muniment.core.errors import Invalid, Refused
from muniment.core.events import IdentityRecorded
from muniment.core.identity import Identity
from muniment.core.statement import NAMESPACE, approval_statement
from muniment.core.ticket import Ticket
from muniment.ledger.errors import LedgerFault
from muniment.ledger.sshsig import fingerprint, parse
from muniment.service.desk import Caller, Desk
from muniment.service.registry import record_registry


def statement(desk: Desk, caller: Caller, ticket: Ticket) -> bytes:
    """What the caller signs to approve the ticket as it stands."""
    return approval_statement(desk.store.origin, ticket, caller.identity.id, ticket.digest)


def signer_of(log: str, ticket: Ticket, who: Identity, digest: str, armour: str) -> str:
    """The key of ``who`` that signed exactly this approval.

    Raises:
        Invalid: it is no SSH signature.
        Refused: it is one for another purpose, by another key, or over something else: another ticket, log or digest,
            or the same ticket before its approvals were voided.
    """
    try:
        found = parse(armour)
    except LedgerFault as error:
        raise Invalid(
            f"the signature cannot be read: {error.message}",
            remedy=f"Make it with `ssh-keygen -Y sign -n {NAMESPACE} -f KEY`, and give the whole file.",
            code="invalid.signature",
        ) from error
    if found.namespace != NAMESPACE:
        raise Refused(
            f"the signature is for {found.namespace!r:.60}, not for approvals",
            remedy=f"Sign with `-n {NAMESPACE}`.",
            code="refused.signature-namespace",
        )
    if found.key_line not in who.signing_keys:
        known = ", ".join(map(fingerprint, who.signing_keys)) or "none"
        raise Refused(
            f"the signature is by {fingerprint(found.key_line)}, which is no key of {who.id}",
            remedy=f"Sign with a key that the directory has: {known}.",
            code="refused.signature-key",
        )
    try:
        found.verify(approval_statement(log, ticket, who.id, digest))
    except LedgerFault as error:
        raise Refused(
            f"the signature is not over this approval of {ticket.id}, or was altered",
            remedy=f"Sign what `muniment approve {ticket.id} --statement` prints now.",
            code="refused.signature",
        ) from error
    return found.key_line


def still_theirs(armour: str | None, who: Identity) -> bool:
    """Whether a signature on file is by a key that the person still has; one without a signature rests on none."""
    return armour is None or parse(armour).key_line in who.signing_keys


def put_keys_on_record(desk: Desk, caller: Caller) -> None:
    """See that the ledger has the signer's keys before the signature, or nobody could verify it later."""
    stream = f"identity:{caller.identity.id}"
    recorded = desk.views.registered(stream).get(stream)
    if recorded is None or recorded[1] != IdentityRecorded(identity=caller.identity):
        record_registry(desk, caller.actor)
