"""Parameters of commands, and the options that every command has: two of one name would take each other's value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from muniment.cli.app import build
from muniment.cli.commands import _options


def commands(found: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    for each, command in getattr(found, "commands", {}).items():
        yield f"{name} {each}".strip(), command
        yield from commands(command, f"{name} {each}".strip())


@pytest.mark.parametrize(
    ("name", "command"), list(commands(build())), ids=lambda each: each if isinstance(each, str) else ""
)
def test_no_two_parameters_of_a_command_have_one_name(name: str, command: Any) -> None:
    names = [each.name for each in command.params]
    assert {each.name for each in _options()} <= set(names), name
    assert len(names) == len(set(names)), name
