"""How the demo is told: to people, a numbered line as each thing happens; to scripts, one document at the end."""

from __future__ import annotations

import io
import json
import sys
import textwrap
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from muniment.core.text import visible

#: no line is longer, however wide the terminal is
WIDTH = 96
#: where sentences begin, after the number and the name
_MARGIN = 16
#: of the sixteen colours that every theme defines, those that are readable on light and on dark
YES, NO, STRONG = "green", "red", "bold"


class Unmet(Exception):
    """Something did not turn out as it must: the demo has failed, and says where."""


def require(met: object, claim: str) -> None:
    """Nothing is told that was not looked at. Raises `Unmet`, with what was claimed."""
    if not met:
        raise Unmet(claim)


class Told:
    """One step: a sentence of which ``who`` is the subject, and what was really printed or answered."""

    def __init__(self, what: str, *shown: str, refused: bool = False) -> None:
        """``refused``: what is shown says no."""
        self.what, self.shown, self.style = what, shown, NO if refused else YES


class Teller:
    """Prints, and remembers for the document. As a context it also puts the terminal back in order."""

    def __init__(self, *, as_json: bool) -> None:
        """With ``as_json`` nothing is printed before the document."""
        self.steps: list[dict[str, Any]] = []
        self._as_json = as_json
        out = io.StringIO() if as_json else sys.stdout
        self._console = Console(file=out, markup=False, emoji=False, highlight=False, legacy_windows=False)
        self._console.width = min(self._console.width, WIDTH)
        self._live = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.close()

    def say(self, *lines: str, style: str = "") -> None:
        """Lines that are no steps, after an empty one."""
        self._console.print()
        for line in lines:
            for part in self._wrapped(line, 0):
                self._console.print(Text(part, style=style), soft_wrap=True)

    def literally(self, *commands: str) -> None:
        """Lines to copy: never broken."""
        for command in commands:
            self._console.print(Text(f"  {command}"), soft_wrap=True)

    def step(self, who: str, told: Told) -> None:
        """Something happened, and was as it must be."""
        self._step(who, told, ok=True)

    def fail(self, who: str, why: str) -> None:
        """The step that was to come did not turn out as it must."""
        self._step(who, Told("did not get as far:", why, refused=True), ok=False)

    def count_down(self, until: datetime, now: Callable[[], datetime], what: str) -> None:
        """Show below the steps how long it is, on a terminal; nothing elsewhere."""
        if not self._console.is_terminal:
            return

        def left() -> Text:
            seconds = max(0.0, (until - now()).total_seconds())
            bar = "=" * min(round(seconds * 4), 32)
            return Text(f"{'':{_MARGIN}}{what} {seconds:3.1f} s {bar}", overflow="ellipsis", no_wrap=True)

        self._live.enter_context(
            Live(get_renderable=left, console=self._console, refresh_per_second=10, transient=True,
                 redirect_stdout=False, redirect_stderr=False)
        )  # fmt: skip

    def count_down_ended(self) -> None:
        """Remove it."""
        self._live.close()

    def document(self, document: dict[str, Any]) -> None:
        """The one document, if that was asked for. Other characters than ASCII are escaped."""
        if self._as_json:
            sys.stdout.write(json.dumps(document, indent=2) + "\n")
            sys.stdout.flush()

    def _step(self, who: str, told: Told, *, ok: bool) -> None:
        number = len(self.steps) + 1
        self.steps.append(
            {"step": number, "who": who, "what": told.what, "shown": list(told.shown), "ok": ok}
        )
        row = Text()
        for line in self._wrapped(told.what, _MARGIN):
            row.append(f"{number:2}  " if not row else "\n" + " " * 4)
            row.append(f"{who if len(row) == 4 else '':{_MARGIN - 4}}", style=STRONG)
            row.append(line)
        for shown in told.shown:
            for line in self._wrapped(shown, _MARGIN + 2):
                row.append("\n" + " " * (_MARGIN + 2)).append(line, style=told.style)
        self._console.print(row, soft_wrap=True)

    def _wrapped(self, text: str, margin: int) -> list[str]:
        width = max(self._console.width - margin, 20)
        return textwrap.wrap(visible(text), width, break_on_hyphens=False) or [""]
