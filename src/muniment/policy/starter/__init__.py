"""The policies that `muniment init` writes: meant to be read, and then changed."""

from __future__ import annotations

from importlib import resources


def files() -> dict[str, str]:
    """Name and text of each starter policy file."""
    folder = resources.files("muniment.policy.starter")
    return {
        entry.name: entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda e: e.name)
        if entry.name.endswith(".cedar")
    }
