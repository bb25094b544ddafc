"""Every error we raise on purpose.

``code`` is public and stable: API problem documents, CLI errors and tests name it. The sentence may be
reworded at any time. ``remedy`` tells the reader what to do next, or who could do it instead.
"""

from __future__ import annotations


class MunimentError(Exception):
    """Base of the tree. Raise a subclass, with one sentence and a remedy."""

    code = "error"
    #: exit status of the command line: 1 the answer is no, 2 wrong usage, 3 no answer
    exit_status = 1

    def __init__(self, message: str, *, remedy: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        if code is not None:
            self.code = code


class Refused(MunimentError):
    """The rules forbid the command. Nothing changed; repeating it cannot help."""

    code = "refused"


class Unauthenticated(MunimentError):
    """Nobody known asks. What is wrong with a credential is said only to somebody who had a good one."""

    code = "unauthenticated"


class NotFound(MunimentError):
    """No such thing, or not one the asker may see. The two look the same on purpose (I33)."""

    code = "not-found"


class Conflict(MunimentError):
    """Another writer was first. Read again, then decide again."""

    code = "conflict"


class Repeated(MunimentError):
    """This was done already, under the same key. Nothing was done again."""

    code = "repeated"


class Invalid(MunimentError):
    """The input cannot be meant: wrong shape, out of range, or text that could mislead."""

    code = "invalid"
    exit_status = 2


class Misconfigured(MunimentError):
    """The configuration, a policy or a key file cannot be used as it is."""

    code = "config"
    exit_status = 2


class Unavailable(MunimentError):
    """Something needed did not answer, so its state is unknown. Controllers try again."""

    code = "unavailable"
    exit_status = 3


class Busy(Unavailable):
    """More is asked than can be served now. Taking access away goes on (I40)."""

    code = "busy"


class TargetUnavailable(Unavailable):
    """The target did not answer in time; what was asked may or may not have happened."""

    code = "target.unavailable"


class TargetRejected(MunimentError):
    """The target answered no. Trying the same again cannot help."""

    code = "target.rejected"


class StoreUnavailable(Unavailable):
    """The event store cannot read or write. Nothing was recorded, so nothing is granted."""

    code = "store.unavailable"


class LeaseLost(Unavailable):
    """Another worker holds this work now. Whatever we were about to do, we do not do."""

    code = "lease.lost"


class IntegrityError(MunimentError):
    """What is stored is not what was recorded. Never caught below the process entry point."""

    code = "ledger.integrity"


class RolledBack(IntegrityError):
    """The store is older than, or another than, what was published from it. Adding to it would fork the ledger (I26)."""

    code = "ledger.rolled-back"


class NotSealed(Unavailable):
    """The entries that authorise something are not under a published checkpoint yet, so it does not begin."""

    code = "ledger.not-sealed"


class SignerUnavailable(Unavailable):
    """What holds the ledger's key did not answer, or is locked. Nothing was signed; sealing tries again."""

    code = "signer.unavailable"


class SignerRefused(MunimentError):
    """What holds the ledger's key answered no, or has no such key. Trying the same again cannot help."""

    code = "signer.refused"


class KeyChanged(IntegrityError):
    """Under the name of the ledger's key lies another key now. Its signature was not used."""

    code = "signer.key-changed"


class StampUnavailable(Unavailable):
    """The time-stamping authority did not answer. The checkpoint stays without a stamp until it does."""

    code = "timestamp.unavailable"


class StampRefused(MunimentError):
    """The time-stamping authority answered no, or something that is not a time-stamp of this checkpoint."""

    code = "timestamp.refused"


class WitnessUnavailable(Unavailable):
    """A witness did not answer. It is absent from the checkpoint, which every report says, and is asked again."""

    code = "witness.unavailable"


class WitnessRefused(MunimentError):
    """A witness answered no, or something that is not its cosignature of this checkpoint."""

    code = "witness.refused"
