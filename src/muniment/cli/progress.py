# ruff: noqa: PLC0415  imported where used, so that `muniment --help` starts fast
"""How far a long command is, on stderr, where somebody watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from muniment.cli.session import Session


@contextmanager
def counting(session: Session, what: str) -> Iterator[Callable[[int], None]]:
    """Give a function to call with how many are done so far; how many there will be is not known."""
    from muniment.cli import console

    errors = console.errors()
    if session.as_json or not errors.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.completed:.0f} {task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        task = progress.add_task(what, total=None)

        def advance(done: int) -> None:
            progress.update(task, completed=done)

        yield advance


@contextmanager
def measuring(session: Session, what: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function to call with how many are done, and how many there will be."""
    from muniment.cli import console

    errors = console.errors()
    if session.as_json or not errors.is_terminal:
        yield lambda _done, _total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
