"""One call to AWS: clients of botocore's, which is imported when the first is made, and what their errors mean."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from muniment.connectors.answering import last_look
from muniment.connectors.kinds import Secret
from muniment.core.errors import Misconfigured, TargetUnavailable
from muniment.core.instants import parse_duration
from muniment.outbound import private_base

_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-[0-9]", re.ASCII)
PAUSE = 30.0  # seconds between ``confirm`` and the last change that is begun
_AGAIN = 0.2  # seconds until the next look, growing to
_AT_MOST = 2.0
_BUSY = {
    "ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "ConflictException",
    "ServiceUnavailable", "InternalServerException", "InternalFailure", "ServiceFailure", "ConcurrentModification",
}  # fmt: skip
_NOBODY = {
    "UnrecognizedClientException", "InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken", "ExpiredTokenException",
    "InvalidSignatureException", "IncompleteSignature", "MissingAuthenticationToken", "AuthFailure",
}  # fmt: skip
_REFUSED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}


def reach(name: str, settings: Any) -> Cloud:
    """Where AWS is and who we are there, of what all connectors of AWS have among their settings. Raises `Misconfigured`."""
    if (not settings.access_key_id) is not (settings.secret_access_key is None):
        raise Misconfigured(
            "access_key_id and secret_access_key go together", remedy="Write both, or neither."
        )
    if not _REGION.fullmatch(settings.region):
        raise Misconfigured("region is none of AWS's", remedy="Write it like eu-central-1.")
    endpoint = private_base(settings.endpoint, f"{name}'s", setting="endpoint") if settings.endpoint else ""
    return Cloud(
        name, settings.region, endpoint, settings.access_key_id, settings.secret_access_key,
        parse_duration(settings.timeout) / timedelta(seconds=1),
    )  # fmt: skip


class Refused(Exception):
    """AWS said no to one call. ``code`` is its own word."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code

    @property
    def word(self) -> str:
        """``code``, where it is a word and can be shown."""
        return self.code if self.code.isalnum() else "an error"

    @property
    def is_right(self) -> bool:
        """Whether it is a right that our account has not."""
        return self.code in _REFUSED


class Cloud:
    """Where AWS is and who we are there. Clients are kept, as making one reads whole models; credentials are read anew."""

    def __init__(  # noqa: PLR0917  as it is configured
        self, name: str, region: str, endpoint: str, key_id: str, secret: Secret | None, timeout: float
    ) -> None:
        """Reaches nothing and imports nothing. Without ``key_id`` it is whoever this machine is: a role, an environment."""
        self.name, self.timeout = name, timeout
        self._region, self._endpoint, self._key_id, self._secret = region, endpoint, key_id, secret
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, str | None], Any] = {}

    def client(self, service: str) -> Any:
        """Of one of its services."""
        import botocore.session  # noqa: PLC0415  an extra, and large
        from botocore.config import Config  # noqa: PLC0415

        secret = self._secret.reveal() if self._secret else None
        with self._lock:
            if (service, secret) not in self._clients:
                limits = Config(
                    connect_timeout=self.timeout, read_timeout=self.timeout, retries={"total_max_attempts": 1},
                    parameter_validation=True, region_name=self._region,
                )  # fmt: skip
                self._clients = {key: kept for key, kept in self._clients.items() if key[1] == secret}
                self._clients[service, secret] = botocore.session.Session().create_client(
                    service, region_name=self._region, endpoint_url=self._endpoint or None, config=limits,
                    aws_access_key_id=self._key_id or None, aws_secret_access_key=secret,
                )  # fmt: skip
            return self._clients[service, secret]

    def session(self) -> Session:
        """For one call."""
        return Session(self)

    def unread(self, error: Refused, kind: str) -> TargetUnavailable:
        """Of a no to a question that changes nothing, which says nothing of what is there."""
        return TargetUnavailable(
            f"{self.name} lets us not look: AWS answered {error.word}",
            remedy=f"`muniment connector show {kind}` prints the policy that we need.",
        )


class Session:
    """Questions until a deadline. Raises `TargetUnavailable`, with no word of AWS's own, and `Refused`."""

    def __init__(self, cloud: Cloud) -> None:
        """Asks nothing yet."""
        self._cloud = cloud
        self._until = time.monotonic() + cloud.timeout
        self._fence = 0.0  # nothing is changed before ``confirm``

    def confirmed(self, confirm: Callable[[], None]) -> None:
        """The last moment to find out that the work is another's. The time it takes is not AWS's."""
        self._until += last_look(confirm)
        self._fence = time.monotonic() + PAUSE

    def in_time(self) -> None:
        """Before each change: whether the work is still believed to be ours."""
        if time.monotonic() > self._fence:
            raise TargetUnavailable(
                "we were held up before the change, and somebody else may have the work now"
            )

    def ask(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """One call. Who is told to wait does, as long as there is time."""
        return self._trying(lambda: getattr(self._cloud.client(service), operation)(**parameters))

    def maybe(self, service: str, operation: str, **parameters: Any) -> dict[str, Any] | None:
        """One call; None where AWS says that there is no such thing."""
        try:
            return self.ask(service, operation, **parameters)
        except Refused as error:
            if error.code in {"ResourceNotFoundException", "NoSuchEntity"}:
                return None
            raise

    def every(
        self, service: str, operation: str, part: str, *, by: str = "NextToken", **parameters: Any
    ) -> Iterator[Any]:
        """All of a list, page by page; ``by`` is what this service calls the place where the next begins."""
        token: str | None = None
        while True:
            page = self.ask(service, operation, **parameters, **({by: token} if token else {}))
            yield from page.get(part, ())
            token = page.get(by)
            if not token:
                return

    def waiting(self) -> Iterator[None]:
        """One step for each look at something that takes its time; it ends with the call's own time."""
        pause = _AGAIN
        while True:
            yield
            if time.monotonic() + pause >= self._until:
                return
            time.sleep(pause)
            pause = min(2 * pause, _AT_MOST)

    def _trying(self, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError  # noqa: PLC0415

        code = ""
        if time.monotonic() < self._until:
            for _ in self.waiting():
                try:
                    return call()
                except ClientError as error:
                    code = str(error.response.get("Error", {}).get("Code", ""))
                    if code not in _BUSY:
                        raise self._meant(code) from RuntimeError(code)
                except (HTTPClientError, BotoCoreError) as error:
                    raise TargetUnavailable(
                        f"{self._cloud.name} does not answer: {type(error).__name__}",
                        remedy="Check region, endpoint, and whose credentials this machine has.",
                    ) from RuntimeError(type(error).__name__)
        raise TargetUnavailable(
            f"{self._cloud.name} did not answer in time{f' ({code})' if code.isalpha() else ''}",
            remedy="It is tried again.", code="target.busy" if code else "target.unavailable",
        )  # fmt: skip

    def _meant(self, code: str) -> Exception:
        if code in _NOBODY:
            return TargetUnavailable(
                f"{self._cloud.name} refused our credentials",
                remedy="Check access_key_id and secret_access_key, or the role of this machine.",
            )
        return Refused(code)
