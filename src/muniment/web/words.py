"""The words of the pages: what statuses, causes, checks and kinds are called, in one place."""

from __future__ import annotations

from typing import Final

from muniment.core.instants import spoken
from muniment.core.use import Judged

#: of a ticket: its label, how it looks (a class of the style sheet), and one sentence
STATUS: Final[dict[str, tuple[str, str, str]]] = {
    "pending": ("Waiting", "wait", "Somebody has to decide."),
    "approved": ("Approved", "good", "It was agreed to, and begins by itself."),
    "provisioning": ("Being given", "work", "The target is being made to hold it."),
    "active": ("Active", "live", "The target was seen to hold it."),
    "revoking": ("Being taken away", "work", "It is over, and the target is being made to let go of it."),
    "revoked": ("Gone", "done", "The target was seen without it. The ticket closes once every check holds."),
    "closed": ("Closed", "done", "Everything that was owed is done."),
    "denied": ("Denied", "bad", "The answer was no."),
    "withdrawn": ("Withdrawn", "off", "Whoever asked took it back."),
    "lapsed": ("Lapsed", "off", "Nobody decided in time."),
    "failed": ("Failed", "bad", "It could not be given. Whatever was given has been taken back."),
}

CAUSE: Final[dict[str, str]] = {
    "expired": "its time was over",
    "returned": "it was given back",
    "revoked": "somebody ended it",
    "excess": "the target gave more than was approved",
    "offboarded": "somebody it rests on has left",
    "signal": "a signal from outside said so",
    "campaign": "it was not confirmed in a campaign",
    "failed": "it could not be given as approved",
}

CHECK: Final[dict[str, str]] = {
    "approved_before_provisioned": "Approved before it was given",
    "nobody_alone": "Nobody decided for themselves",
    "approvals_bind_terms": "Approvals were for exactly these terms",
    "scope_not_exceeded": "No more was given than approved",
    "time_bound": "It ended in time",
    "gone": "The target was seen without it",
    "reviewed": "The review that was owed is done",
    "findings_resolved": "Nothing is left to look at",
}

KIND: Final[dict[str, str]] = {
    "human": "person",
    "service_account": "service account",
    "workload": "workload",
    "ai_agent": "AI agent",
}

RISK: Final[dict[str, str]] = {
    "low": "low risk",
    "medium": "medium risk",
    "high": "high risk",
    "critical": "critical",
}

#: what a page says after somebody did something
DONE: Final[dict[str, str]] = {
    "filed": "Your request is filed. Everything that happens to it appears here.",
    "approve": "You approved this request.",
    "deny": "You denied this request.",
    "offer": "Your offer is made. It counts once the requester accepts it.",
    "accept": "You accepted the offer. Approvals begin anew on the new terms.",
    "withdraw": "You took the request back.",
    "return": "You gave it back. Muniment now takes it away and checks that it is gone.",
    "revoke": "You ended this access. Muniment now takes it away and checks that it is gone.",
    "review": "Your review is recorded.",
}


def status(name: str) -> tuple[str, str, str]:
    """Label, look and sentence of a status; one that came later is shown as it is called."""
    return STATUS.get(name, (name.replace("_", " ").capitalize(), "off", ""))


def event(kind: str) -> str:
    """A kind of entry, with or without its version: ``Identity recorded``."""
    return kind.partition("/")[0].replace("-", " ").capitalize()


def check(name: str) -> str:
    """A closure check, said."""
    return CHECK.get(name, name.replace("_", " ").capitalize())


def count(number: int, one: str, many: str = "") -> str:
    """``1 person``, ``2 people``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def used(judged: Judged) -> str:
    """How access was used, as far as logs tell, for whoever decides on more of it."""
    if judged.judgement == "never-used":
        return "never used"
    if not judged.events:
        return "no log says how it was used"
    unused = f"; {', '.join(map(str, judged.unused))} not" if judged.unused else ""
    needed = f", for {spoken(judged.needed)}" if judged.needed is not None else ""
    return f"used {count(judged.events, 'time')}{needed}{unused}"
