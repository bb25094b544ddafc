"""The policies that `muniment init` writes: meant to be read, and then changed."""

from __future__ import annotations

from importlib import resources


def files() -> dict[str, str]:
    """Name and text of each starter policy file."""
    return _ending(".cedar")


def tests() -> dict[str, str]:
    """Name and text of each file of their tests."""
    return _ending(".test.toml")


def _ending(suffix: str) -> dict[str, str]:
    folder = resources.files("muniment.policy.starter")
    return {
        entry.name: entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda e: e.name)
        if entry.name.endswith(suffix)
    }
