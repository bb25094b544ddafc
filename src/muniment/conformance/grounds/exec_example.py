#!/usr/bin/env python3
"""An example program for the connector `exec`: a JSON file of account to doors. It needs nothing but Python.

It reads one line, answers one line, and ends. Before it changes anything it holds the target's attention (here: a file
lock), says that it is ready, and waits for "go".
"""

import fcntl
import json
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

PATIENCE = 5  # seconds until "go", or whoever asked has lost the work to another


def main() -> None:
    """Answer one question."""
    question = json.loads(sys.stdin.readline())
    try:
        with Path(question["options"]["file"]).open("r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            say(ANSWERS[question["do"]](file, question))
    except OSError as error:
        say({"unavailable": f"the doors did not answer: {error.strerror}"})


def check(file: TextIO, _question: dict[str, Any]) -> dict[str, Any]:
    """Say what works."""
    return {"details": [f"Doors are open to {len(json.load(file))} accounts."]}


def observe(file: TextIO, question: dict[str, Any]) -> dict[str, Any]:
    """Say who holds what, whoever gave it. Without accounts, of everybody."""
    asked, held = question["accounts"], json.load(file)
    return {
        "holdings": [
            {"account": account, "privilege": door}
            for account, doors in sorted(held.items())
            if asked is None or account in asked
            for door in doors
        ]
    }


def provision(file: TextIO, question: dict[str, Any]) -> dict[str, Any]:
    """Make the target hold it. What is held already is no error."""
    return change(file, question, lambda doors, wanted: doors | wanted)


def revoke(file: TextIO, question: dict[str, Any]) -> dict[str, Any]:
    """Make the target no longer hold it. What is not held is no error."""
    return change(file, question, lambda doors, wanted: doors - wanted)


def change(
    file: TextIO, question: dict[str, Any], how: Callable[[set[str], set[str]], set[str]]
) -> dict[str, Any]:
    """Ready, go, and only then the change."""
    say({"ready": True})
    readable, _, _ = select.select([sys.stdin], [], [], PATIENCE)
    if not readable or json.loads(sys.stdin.readline() or "{}") != {"go": True}:
        sys.exit(1)  # the work is another's now
    held = json.load(file)
    outcomes = []
    for order in question["orders"]:
        wanted = {item["privilege"] for item in order["scope"]}
        doors = how(set(held.pop(order["account"], [])), wanted)
        if doors:
            held[order["account"]] = sorted(doors)
        outcomes.append({"ticket": order["ticket"], "result": "done"})
    file.seek(0)
    file.write(json.dumps(held, sort_keys=True))
    file.truncate()
    file.flush()
    return {"outcomes": outcomes}


def say(answer: dict[str, Any]) -> None:
    """One line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


ANSWERS = {"check": check, "observe": observe, "provision": provision, "revoke": revoke}

if __name__ == "__main__":
    main()
