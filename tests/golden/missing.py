"""Print the golden lines that are still missing, one for each name in `values.VALUES` without a line.

    PYTHONPATH=tests python -m golden.missing >> tests/golden/events.jsonl

Lines are added, never changed: an event kind once released is read for ever. A new shape is a new kind (``/2``), with a
value in `values.py` and a line of its own. If a test says that today's bytes differ from a line, the code is wrong.
"""

from __future__ import annotations

import json
from pathlib import Path

from golden.values import VALUES, entry_of
from muniment.core.events import encode_data

LINES = Path(__file__).parent / "events.jsonl"


def lines() -> list[dict[str, str]]:
    """What is on file: name, the event's own bytes as text, and those of a whole entry."""
    return [json.loads(line) for line in LINES.read_text(encoding="utf-8").splitlines()]


def line(name: str) -> str:
    """The line for one value, as JSON in ASCII, so that no editor can change it unseen."""
    shown = {"name": name, "data": encode_data(VALUES[name]).decode(), "entry": entry_of(name).decode()}
    return json.dumps(shown, ensure_ascii=True)


if __name__ == "__main__":
    there = {each["name"] for each in lines()} if LINES.exists() else set()
    for missing in VALUES:
        if missing not in there:
            print(line(missing))
