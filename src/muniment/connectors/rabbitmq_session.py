"""Questions to RabbitMQ's management API, for one call, until a deadline.

Source: https://rawcdn.githack.com/rabbitmq/rabbitmq-server/v3.10.8/deps/rabbitmq_management/priv/www/api/index.html
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from muniment.connectors.answering import last_look
from muniment.connectors.kinds import Secret
from muniment.core.errors import Misconfigured, TargetUnavailable, Unavailable
from muniment.outbound import Answer, Http

T = TypeVar("T")


class Rabbit(msgspec.Struct, frozen=True, kw_only=True):
    """Where RabbitMQ is and who we are there; nothing is kept between calls."""

    name: str  # of the target
    base: str
    http: Http
    timeout: float  # seconds for a whole call
    user: str
    password: Secret

    def session(self) -> Session:
        """For one call."""
        return Session(self, time.monotonic() + self.timeout)


class Session:
    """Raises `TargetUnavailable`, from everything, with no word of the server's (I31)."""

    def __init__(self, rabbit: Rabbit, until: float) -> None:
        self._rabbit, self._until = rabbit, until
        who = f"{rabbit.user}:{rabbit.password.reveal()}".encode()
        self._headers = {"Authorization": f"Basic {b64encode(who).decode()}"}

    def get(self, kind: type[T], *path: str, query: str = "") -> T:
        """What is there."""
        answer = self._ask(lambda http, url, left: http.get(url, self._headers, timeout=left), path, query)
        return self.read(answer, kind)

    def put(self, body: Mapping[str, Any], *path: str) -> Answer:
        """Have it be there. 400 says that it cannot."""
        data = msgspec.json.encode(body)
        return self._ask(
            lambda http, url, left: http.send(
                "PUT", url, data, content_type="application/json", headers=self._headers, timeout=left
            ),
            path,
        )

    def delete(self, *path: str) -> None:
        """Have it be gone. What was not there is."""
        answer = self._ask(lambda http, url, left: http.delete(url, self._headers, timeout=left), path)
        if answer.status == 404:
            self.read(answer, _Missing)  # a proxy says 404, too: that proves nothing
        elif answer.status != 204:
            raise self._strange(answer)

    def confirmed(self, confirm: Callable[[], None]) -> None:
        """The last moment to find out that the work is another's. The time it takes is not the target's."""
        self._until += last_look(confirm)

    def has(self, seconds: float) -> bool:
        """Whether so many are left."""
        return self._until - time.monotonic() > seconds

    def left(self) -> float:
        """Seconds."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TargetUnavailable(
                f"{self._rabbit.name} did not answer in time", remedy="It is tried again."
            )
        return left

    def read(self, answer: Answer, kind: type[T]) -> T:
        """What an answer says."""
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._strange(answer) from RuntimeError(type(error).__name__)

    def _ask(
        self, call: Callable[[Http, str, float], Answer], path: tuple[str, ...], query: str = ""
    ) -> Answer:
        url = "/".join((self._rabbit.base, "api", *(quote(part, safe="") for part in path))) + query
        try:
            answer = call(self._rabbit.http, url, self.left())
        except (Unavailable, Misconfigured) as error:
            raise TargetUnavailable(
                f"{self._rabbit.name} does not answer: {error.message}", remedy=error.remedy
            ) from RuntimeError(type(error).__name__)
        if answer.status in {401, 403}:
            raise TargetUnavailable(
                f"{self._rabbit.name} refused our name or password",
                remedy=f"Check what {self._rabbit.password.reference} holds, and that {self._rabbit.user} is an administrator.",
            )
        if answer.status == 429 or answer.status >= 500:
            raise TargetUnavailable(
                f"{self._rabbit.name} answered {answer.status}", remedy="It is tried again."
            )
        return answer

    def _strange(self, answer: Answer) -> TargetUnavailable:
        return TargetUnavailable(
            f"{self._rabbit.name}: what answered {answer.status} does not speak like RabbitMQ",
            remedy="Check url.",
        )


class _Missing(msgspec.Struct, frozen=True, kw_only=True):
    error: str
    reason: Any = None
