"""Text on terminals and in pipes. Foreign text is shown, never obeyed: no markup, no control characters (I37).

On a terminal there is colour, of the sixteen that every theme defines, and lines fit; NO_COLOR and TERM=dumb are
obeyed. In a pipe there is plain text, one row a line.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from muniment.core.text import visible

#: rows are not broken where a program reads them
_WIDE = 4096

#: readable on light and on dark
GOOD, BAD, LOOK, QUIET, STRONG = "green", "bold red", "bold magenta", "bright_black", "bold"


def output() -> Console:
    """Stdout."""
    return _console(sys.stdout)


def errors() -> Console:
    """Stderr."""
    return _console(sys.stderr)


def line(value: object, style: str = "") -> Text:
    """Foreign text in one line, as it may be printed: nothing in it acts on the terminal."""
    return Text(one_line(value), style=style, overflow="fold")


def one_line(value: object) -> str:
    """As `visible`, and line breaks are shown too, so that text cannot pose as the next line."""
    return visible(str(value)).replace("\n", "\\u{000a}")


def lines(value: object, style: str = "") -> Text:
    """Foreign text that may have line breaks, for a place where they cannot mislead."""
    return Text(visible(str(value)), style=style, overflow="fold")


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> RenderableType:
    """Rows under headings; every cell that is not a `Text` already is foreign text."""
    cells = [[cell if isinstance(cell, Text) else line(cell) for cell in row] for row in rows]
    if not cells:
        return line(empty, QUIET)
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style=STRONG)
    for number, heading in enumerate(headings):
        made.add_column(heading, overflow="fold", no_wrap=number == 0)
    for row in cells:
        made.add_row(*row)
    return made


def pairs(rows: Iterable[tuple[str, RenderableType]]) -> Table:
    """Names beside what they stand for. What goes over several lines stays in its column."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style=QUIET, no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, value)
    return grid


def write(what: RenderableType | str) -> None:
    """Print a result. A string stays as it is, line by line: it may be signed."""
    if isinstance(what, str):
        sys.stdout.write(visible(what) + "\n")
        sys.stdout.flush()
        return
    console = output()
    if console.is_terminal:
        console.print(what)
        return
    plain = Console(file=io.StringIO(), width=_WIDE, no_color=True, color_system=None, **_INERT)
    with plain.capture() as captured:
        plain.print(what)
    sys.stdout.write("".join(f"{row.rstrip()}\n" for row in captured.get().splitlines()))
    sys.stdout.flush()


def write_json(document: Any) -> None:
    """Print one document. Other characters than ASCII are escaped, so that none acts on a terminal."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    sys.stdout.flush()


def say(*sentences: str) -> None:
    """Print on stderr."""
    console = errors()
    for sentence in sentences:
        console.print(line(sentence), soft_wrap=not console.is_terminal)


def report(message: str, remedy: str, code: str, *, as_json: bool) -> None:
    """Say what went wrong, what to do about it, and the stable code."""
    if as_json:
        document = {"error": {"code": code, "message": message, "remedy": remedy}}
        sys.stderr.write(json.dumps(document) + "\n")
        return
    console = errors()
    said = Text.assemble(("error: ", BAD), one_line(message))
    if remedy:
        said.append("\n       " + one_line(remedy))
    said.append(f"\n       [{one_line(code)}]", style=QUIET)
    console.print(said, soft_wrap=not console.is_terminal)


_INERT: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False, "legacy_windows": False}


def _console(file: Any) -> Console:
    return Console(file=file, **_INERT)
