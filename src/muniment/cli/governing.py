"""``muniment policy adopt``, ``refuse`` and ``changes``: what two people do to change what holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from muniment.cli import console
from muniment.core.errors import Misconfigured
from muniment.policy.cedar import CedarPolicy
from muniment.policy.checking import TRIAL, errors, require_first, too_light
from muniment.policy.loading import read_folder
from muniment.service import changes
from muniment.service.standing import without_schema

if TYPE_CHECKING:
    from muniment.config import Config
    from muniment.service.desk import Desk


def governed_warnings(config: Config, desk: Desk) -> list[str]:
    """What somebody must know of how changes are made here: a trial, or files on disk that hold for nobody."""
    folder = config.path(config.policy.dir)
    if desk.governed is None:
        light = [each for each in errors(folder) if each.rule == "light-path"]
        more = f" {len(light)} of the policies give access on one person's word or nobody's." if light else ""
        return [TRIAL + more]
    state = desk.governed.adopted.now()
    if state.settings is None:
        require_first(without_schema(desk.policy.files()))
    if state.policy is None:
        return [
            "no policies are in force yet: what lies in the folder is adopted with the first command that writes"
        ]
    said = []
    try:
        files = read_folder(folder)
        wanted = desk.governed.settings(CedarPolicy(files))
    except Misconfigured as error:
        return [f"the files on disk cannot be used, and are not in force: {error.message}"]
    if files != without_schema(state.files):
        said.append(
            f"the policies in {folder} are not in force: they differ from those adopted; see `muniment policy adopt`"
        )
    said += [
        f"{name} on disk differs from what was adopted, which stays in force: see `muniment policy adopt`"
        for name, text in wanted.items()
        if state.settings is not None and state.settings.get(name) != text
    ]
    able = sorted(
        each.id for each in desk.directory.everybody() if each.active and changes.has_say(desk, each)
    )
    if len(able) < 2:
        said.append(
            f"no change can be adopted: {able[0] if able else 'nobody'} alone has a say, and it takes two; make somebody"
            " an operator, or name [policy] approvers"
        )
    if state.change is None:
        light = too_light(without_schema(state.files))  # of a version that took such a first set
        more = f", and {len(light)} of them give access on one person's word or nobody's" if light else ""
        said.append(
            f"the policies in force are the first of this ledger: nobody else had to agree to them{more}"
        )
    waiting = [
        each.id
        for each in state.changes.values()
        if each.status == "proposed" and not changes.stale(state, each)
    ]
    return said + [f"the change {each} waits for a second person" for each in waiting]


def render(document: dict[str, Any]) -> RenderableType:
    """For people."""
    if "items" in document:
        rows = [
            (c["change"], c["status"], c["proposed_by"], c["proposed_at"], c["decided_by"] or "")
            for c in document["items"]
        ]
        return console.table(
            ("change", "status", "proposed by", "at", "decided by"), rows, empty="No changes were proposed."
        )
    if "change" not in document:
        return Group(
            console.line(f"in force: {document['digest']}", console.GOOD),
            console.line(document["says"], console.LOOK),
        )
    colours = {"proposed": console.LOOK, "adopted": console.GOOD, "refused": console.BAD}
    told = {
        "proposed": f"Nothing of it holds yet. Somebody else says: muniment policy adopt {document['change']}",
        "adopted": "It holds from now on. Open tickets are judged by it again before they are given.",
        "refused": "It never held.",
    }
    parts: list[RenderableType] = [
        console.line(f"{document['change']}  {document['status']}", colours[document["status"]]),
        console.line(f"proposed by {document['proposed_by']}: {document['reason']}"),
    ]
    parts += [console.line(each, _of(each)) for each in document["diff"]]
    return Group(*parts, Text(), console.line(told[document["status"]], console.STRONG))


def _of(line: str) -> str:
    return {"+": console.GOOD, "-": console.BAD}.get(line[:1], console.QUIET)
