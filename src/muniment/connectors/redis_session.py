"""One connection to Redis for one call: bounded in all, and with a lock that a worker who was held up has lost."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from redis import Connection, RedisError
from redis.exceptions import AuthenticationError, MovedError, NoPermissionError, ReadOnlyError, ResponseError

from muniment.connectors.answering import last_look
from muniment.core.errors import TargetUnavailable

LOCK = "muniment:lock"  # our only key
PAUSE = 5.0  # seconds after which the lock is anybody's

_WHY: dict[type[Exception], str] = {
    NoPermissionError: "our user may not do there what it must",
    ReadOnlyError: "it is a replica, which nobody changes",
    MovedError: "it is part of a cluster",
}

Command = Sequence[str]


@contextmanager
def session(connection: Connection, name: str, password: str, until: float) -> Iterator[Session]:
    """Connect, and be gone afterwards. Raises `TargetUnavailable`.

    Args:
        connection: not connected yet; it knows user and password.
        name: of the target.
        password: where the password is, for a remedy.
        until: by the monotonic clock.
    """
    try:
        connection.connect()
        yield Session(connection, name, until)
    except AuthenticationError as error:
        raise TargetUnavailable(
            f"{name} does not answer: it refused our name or password", remedy=f"Check what {password} holds."
        ) from RuntimeError(type(error).__name__)
    except (RedisError, OSError) as error:
        said = "it answered with an error" if isinstance(error, ResponseError) else "there was no answer"
        raise TargetUnavailable(
            f"{name} does not answer: {_WHY.get(type(error), said)}",
            remedy="Run `muniment check`; it is tried again.",
        ) from RuntimeError(type(error).__name__)
    finally:
        with suppress(RedisError, OSError):
            connection.disconnect()


class Session:
    """For one call."""

    def __init__(self, connection: Connection, name: str, until: float) -> None:
        self._connection, self._name, self._until = connection, name, until
        self._lock = ""

    def ask(self, *command: str) -> Any:
        """One answer. Raises the server's no."""
        [answer] = self.ask_all([command])
        if isinstance(answer, ResponseError):
            raise answer
        return answer

    def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """All answers, asked at once. A no is among them as the error that it is."""
        if commands:
            self._left()
            self._connection.send_packed_command(self._connection.pack_commands(commands))
        return [self._answer() for _ in commands]

    @contextmanager
    def locked(self, confirm: Callable[[], None]) -> Iterator[None]:
        """Nobody else of us changes anything meanwhile; and the work is still ours.

        A crash leaves the lock for `PAUSE`. Raises `TargetUnavailable` ("target.busy").
        """
        self._lock = secrets.token_hex(16)
        while not self.ask("SET", LOCK, self._lock, "NX", "PX", str(int(PAUSE * 1000))):
            if self._left() < 0.5:
                raise self._busy()
            time.sleep(0.01)
        try:
            self._until += last_look(confirm)
            yield
        finally:
            with suppress(TargetUnavailable, RedisError, OSError):
                self.change([("DEL", LOCK)])

    def change(self, commands: Sequence[Command]) -> list[Any]:
        """Do all of these at once, if the lock is still ours: the server itself sees to that (I19).

        Raises `TargetUnavailable` ("target.busy") if it is not. A no is among the answers.
        """
        _, holder = self.ask_all([("WATCH", LOCK), ("GET", LOCK)])
        if holder != self._lock.encode():
            raise self._busy()
        *queued, done = self.ask_all([("MULTI",), *commands, ("EXEC",)])
        for answer in queued:
            if isinstance(answer, ResponseError):  # then none was done
                raise answer
        if done is None:
            raise self._busy()
        if isinstance(done, ResponseError):
            raise done
        answers: list[Any] = done
        return answers

    def _answer(self) -> Any:
        try:
            return self._connection.read_response(timeout=self._left())
        except ResponseError as no:
            return no

    def _left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TargetUnavailable(f"{self._name} did not answer in time", remedy="It is tried again.")
        return left

    def _busy(self) -> TargetUnavailable:
        return TargetUnavailable(
            f"another worker changes {self._name}", remedy="It is tried again.", code="target.busy"
        )
