"""``muniment admin erase``: what people read of it."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType

from muniment.cli import console

_CUT = 60  # characters of a text in the table


def render(document: dict[str, Any]) -> RenderableType:
    """For people."""
    rows = [
        (str(each["entry"]), each["type"], each["by"], each["at"], _shown(each)) for each in document["texts"]
    ]
    parts: list[RenderableType] = [
        console.table(("entry", "type", "by", "at", "text"), rows, empty="The ticket has no free text.")
    ]
    if any(each["erased"] for each in document["texts"]):
        parts.append(console.line(f"Erased here; {document['elsewhere']}.", console.LOOK))
    return Group(*parts)


def _shown(each: dict[str, Any]) -> str:
    if erased := each["erased"]:
        return f"(erased by {erased['by']} at {erased['at']}: {erased['reason'] or 'no reason left'})"
    text: str | None = each["text"]
    if text is None:
        return "(missing, and nothing records that it was erased)"
    return text if len(text) <= _CUT else text[: _CUT - 1] + "…"
