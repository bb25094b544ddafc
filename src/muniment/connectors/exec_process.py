"""One process for one question: lines of JSON, and an end to every wait."""

from __future__ import annotations

import os
import selectors
import signal
import stat
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from muniment.core.errors import TargetUnavailable

MAX_ANSWER = 16 << 20  # bytes of one line: about 100,000 holdings
_ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8"}  # ours may hold secrets of other targets


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What any answer may be instead of what was asked for."""

    unavailable: str = ""


A = TypeVar("A", bound=Answer)


class Call:
    """One process, for one question."""

    def __init__(self, name: str, command: tuple[str, ...], question: dict[str, Any], until: float) -> None:
        self._name, self._command, self._question, self.until = name, command, question, until
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        name, command = self._name, self._command
        try:
            mode = Path(command[0]).stat()
            if mode.st_uid not in {0, os.geteuid()} or stat.S_IMODE(mode.st_mode) & 0o022:
                raise TargetUnavailable(
                    f"{command[0]}, the program of {name}, can be changed by others",
                    remedy=f"Make it yours or root's, and run: chmod go-w {command[0]}",
                )
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
                cwd="/", env=_ENVIRONMENT, start_new_session=True, umask=0o077,
            )  # fmt: skip
        except OSError as error:
            raise TargetUnavailable(
                f"the program of {name} cannot be started: {error.strerror}",
                remedy=f"Check the path and mode of {command[0]}.",
            ) from error
        try:
            self.say(self._question)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def say(self, document: dict[str, Any]) -> None:
        """Write one line. A program that reads nothing holds us up no longer than one that answers nothing."""
        data = memoryview(msgspec.json.encode(document) + b"\n")
        pipe = self._process.stdin
        if pipe is None:
            raise AssertionError("unreachable: it was started with a pipe")
        os.set_blocking(pipe.fileno(), False)
        while data:
            self._wait(pipe, selectors.EVENT_WRITE)
            with suppress(BlockingIOError):
                try:
                    data = data[os.write(pipe.fileno(), data) :]
                except BrokenPipeError as error:
                    raise nonsense(self._name, "it ended before it was asked") from error

    def answer(self, kind: type[A]) -> A:
        """Read one line, as a document of this kind."""
        pipe = self._process.stdout
        if pipe is None:
            raise AssertionError("unreachable: it was started with a pipe")
        while b"\n" not in self._buffer:
            self._wait(pipe, selectors.EVENT_READ)
            chunk = os.read(pipe.fileno(), 1 << 16)
            self._buffer += chunk
            if not chunk:
                raise nonsense(self._name, "it ended without an answer")
            if len(self._buffer) > MAX_ANSWER:
                raise nonsense(self._name, f"its answer is longer than {MAX_ANSWER} bytes")
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        try:
            return msgspec.json.decode(line, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            # the error's own text can quote what was said
            raise nonsense(self._name, f"its answer is no {kind.__name__.strip('_')}") from _named(error)

    def _wait(self, pipe: Any, event: int) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, event)
            if not selector.select(max(0.0, self.until - time.monotonic())):
                raise TargetUnavailable(
                    f"the program of {self._name} did not answer in time",
                    remedy="It is tried again.",
                )

    def _end(self) -> None:
        """It, and all that it started and left in its session."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def nonsense(name: str, why: str) -> TargetUnavailable:
    return TargetUnavailable(
        f"the program of {name} does not keep to the protocol: {why}",
        remedy="Mend the program; it is tried again.",
    )


def _named(error: Exception) -> Exception:
    return ValueError(type(error).__name__)
