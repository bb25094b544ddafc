"""Changes of policies, targets and approver groups as people ask for them: by a folder, and as documents."""

from __future__ import annotations

import difflib
from pathlib import Path

from muniment.core.errors import Invalid, NotFound
from muniment.policy.cedar import CedarPolicy
from muniment.policy.checking import TRIAL, errors
from muniment.policy.loading import read_folder
from muniment.service import changes
from muniment.service.desk import Caller, Desk
from muniment.service.documents import Document
from muniment.service.standing import Change, current


def propose(desk: Desk, caller: Caller, folder: Path, reason: str) -> Document:
    """Propose what lies in the policy folder and the configuration. In a single-person trial it holds already."""
    if desk.governed is None:
        return in_trial(desk)
    if not reason:
        raise Invalid(
            "nobody says why",
            remedy="Give a reason (--reason), or name the change to agree to.",
            code="usage",
        )
    files = read_folder(folder)
    proposed = changes.propose(
        desk, caller, files=files, settings=desk.governed.settings(CedarPolicy(files)), reason=reason,
        findings=errors(folder),
    )  # fmt: skip
    return document(desk, proposed)


def adopt(desk: Desk, caller: Caller, change: str) -> Document:
    """Agree to a change."""
    return in_trial(desk) if desk.governed is None else document(desk, changes.adopt(desk, caller, change))


def refuse(desk: Desk, caller: Caller, change: str, reason: str) -> Document:
    """Say no to a change, or take one's own back."""
    return document(desk, changes.refuse(desk, caller, change, reason=reason))


def listed(desk: Desk, caller: Caller) -> list[Document]:
    """All of them, newest first. Whoever operates, audits or decides on changes may see them."""
    changes.require_reader(desk, caller)
    return [_short(each) for each in reversed(current(desk.store).changes.values())]


def shown(desk: Desk, caller: Caller, change: str) -> Document:
    """One in full."""
    changes.require_reader(desk, caller)
    found = current(desk.store).changes
    if change not in found:
        raise NotFound(f"there is no change {change!r:.60}", remedy="`muniment policy changes` lists them.")
    return document(desk, found[change])


def in_trial(desk: Desk) -> Document:
    """Where one person changes policies by editing files."""
    return {"status": "adopted", "digest": desk.policy.digest, "says": TRIAL}


def document(desk: Desk, change: Change) -> Document:
    """One change, with what differs from the set that it was made from."""
    before = current(desk.store).sets.get(change.base or "", {})
    texts = desk.views.texts([change.reason])
    return {
        **_short(change),
        "reason": texts.get(change.reason, "(erased)"),
        "diff": _diff(before, change.files) + _diff(change.replaces, change.settings),
    }


def _short(change: Change) -> Document:
    return {
        "change": change.id, "status": change.status, "base": change.base, "digest": change.policy,
        "proposed_by": change.proposed_by, "proposed_at": change.proposed_at, "decided_by": change.decided_by,
        "decided_at": change.decided_at,
    }  # fmt: skip


def _diff(before: dict[str, str], after: dict[str, str]) -> list[str]:
    lines: list[str] = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name, "").splitlines(), after.get(name, "").splitlines()
        lines += difflib.unified_diff(old, new, f"in force/{name}", f"proposed/{name}", lineterm="", n=2)
    return lines
