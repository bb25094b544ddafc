"""One call to a Kubernetes API server: bounded questions, whole lists, and what its answers mean."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar
from urllib.parse import quote, urlencode

import msgspec

from muniment.connectors.answering import last_look
from muniment.connectors.bearer import Bearer
from muniment.core.errors import Misconfigured, TargetUnavailable, Unavailable
from muniment.outbound import Answer

_PAGE = 500  # objects in one
_TRIES = 3  # of reading a list whose snapshot is over
_JSON = "application/json"
_MERGE = "application/merge-patch+json"
MANAGED = "app.kubernetes.io/managed-by"
TICKET = "muniment.org/ticket"  # label
EXPIRES = "muniment.org/expires-at"  # annotation
ACCOUNT = "muniment.org/account"  # annotation
T = TypeVar("T")


class Meta(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Of any object."""

    name: str = ""
    namespace: str | None = None
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None

    @property
    def ticket(self) -> str | None:
        """Whose it is, if it says that it is ours."""
        labels = self.labels or {}
        return labels.get(TICKET) if labels.get(MANAGED) == "muniment" else None


class Object(msgspec.Struct, frozen=True, kw_only=True):
    """Any object, as far as nobody asks for more."""

    metadata: Meta


class _ListMeta(msgspec.Struct, frozen=True, kw_only=True):
    token: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct, frozen=True, kw_only=True):
    metadata: _ListMeta
    items: tuple[msgspec.Raw, ...] | None = None


class _Status(msgspec.Struct, frozen=True, kw_only=True):
    kind: str = ""
    reason: str = ""
    message: str = ""


class _Allowed(msgspec.Struct, frozen=True, kw_only=True):
    allowed: bool = False


class _Review(msgspec.Struct, frozen=True, kw_only=True):
    status: _Allowed


class Session:
    """Questions until a deadline. Raises `TargetUnavailable`, from everything, with no word of the server's (I31)."""

    def __init__(self, cluster: Bearer) -> None:
        """For one call. Asks nothing yet."""
        self._cluster, self._token = cluster, cluster.text()
        self.until = time.monotonic() + cluster.timeout

    def confirmed(self, confirm: Callable[[], None]) -> None:
        """The last moment to find out that the work is another's. The time it takes is not the target's."""
        self.until += last_look(confirm)

    def get(self, path: str, kind: type[T]) -> T | None:
        """One object; None if the API server says that there is none."""
        answer = self.ask("GET", path)
        return None if is_reason(answer, "NotFound") else self.read(answer, kind)

    def every(self, path: str, kind: type[T], *, selector: str = "", accept: str = _JSON) -> list[T]:
        """All objects of a collection, of one snapshot."""
        for _ in range(_TRIES):
            found: list[T] = []
            token = ""
            while True:
                query = {"limit": str(_PAGE)} | ({"labelSelector": selector} if selector else {})
                query |= {"continue": token} if token else {}
                answer = self.ask("GET", f"{path}?{urlencode(query)}", accept=accept)
                if is_reason(answer, "Expired"):  # the snapshot is over: read from the beginning
                    break
                page = self.read(answer, _List)
                found += [self._convert(raw, kind, 200) for raw in page.items or ()]
                token = page.metadata.token
                if not token:
                    return found
        raise TargetUnavailable(
            f"{self._cluster.name} forgets lists as they are read", remedy="It is tried again."
        )

    def create(self, path: str, body: object) -> Answer:
        """One object more."""
        return self.ask("POST", path, body)

    def patch(self, path: str, body: object) -> Answer:
        """Change parts. With ``uid`` and ``resourceVersion`` in it nobody is overtaken; it never makes an object."""
        return self.ask("PATCH", path, body, content_type=_MERGE)

    def delete(self, path: str, seen: Meta, *, unchanged: bool = False) -> Answer:
        """The object that was seen, and no other that is called so by now; or only as it was then."""
        conditions = {"uid": seen.uid} | ({"resourceVersion": seen.resource_version} if unchanged else {})
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": conditions}
        return self.ask("DELETE", path, body)

    def may(self, verb: str, group: str, resource: str, *, namespace: str = "", name: str = "") -> bool:
        """Whether our account may do this, as the API server says."""
        asked = {"verb": verb, "group": group, "resource": resource, "namespace": namespace, "name": name}
        body = {"spec": {"resourceAttributes": asked}}
        answer = self.ask("POST", "apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
        return self.read(answer, _Review, good=201).status.allowed

    def ask(
        self, method: str, path: str, body: object = None, *, content_type: str = _JSON, accept: str = _JSON
    ) -> Answer:  # fmt: skip
        """One question. A server that is busy says when to ask again, and is, as long as there is time."""
        while True:
            left = self.until - time.monotonic()
            if left <= 0:
                raise TargetUnavailable(
                    f"{self._cluster.name} did not answer in time", remedy="It is tried again."
                )
            answer = self._once(method, path, body, (content_type, accept), left)
            if answer.status != 429:
                break
            if time.monotonic() + answer.wait >= self.until:
                raise TargetUnavailable(
                    f"{self._cluster.name} lets us ask again in {answer.wait:.0f} seconds only",
                    remedy="It is tried again.", code="target.busy",
                )  # fmt: skip
            time.sleep(answer.wait)
        if answer.status == 401:
            raise TargetUnavailable(
                f"{self._cluster.name} refused our token",
                remedy=f"Check what {self._cluster.token.reference} holds: it may be over.",
            )
        if answer.status >= 500:
            raise TargetUnavailable(
                f"{self._cluster.name} answered {answer.status}", remedy="It is tried again."
            )
        return answer

    def read(self, answer: Answer, kind: type[T], *, good: int = 200) -> T:
        """What a good answer says."""
        if answer.status == 403:
            raise TargetUnavailable(
                f"{self._cluster.name} lets our account not read this",
                remedy="`muniment check` says what is missing.",
            )
        if answer.status != good:
            raise self._foreign(answer.status)
        return self._convert(answer.body, kind, answer.status)

    def _once(self, method: str, path: str, body: object, types: tuple[str, str], left: float) -> Answer:
        content_type, accept = types
        http, url = self._cluster.http, f"{self._cluster.base}/{path}"
        headers = {"Authorization": f"Bearer {self._token}", "Accept": accept}
        try:
            if method == "GET":
                return http.get(url, headers, timeout=left)
            content = msgspec.json.encode(body)
            return http.send(method, url, content, content_type=content_type, headers=headers, timeout=left)
        except (Unavailable, Misconfigured) as error:
            raise TargetUnavailable(
                f"{self._cluster.name} does not answer: {error.message}", remedy=error.remedy
            ) from RuntimeError(type(error).__name__)

    def _convert(self, raw: bytes | msgspec.Raw, kind: type[T], status: int) -> T:
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._foreign(status) from RuntimeError(type(error).__name__)

    def _foreign(self, status: int) -> TargetUnavailable:
        return TargetUnavailable(
            f"{self._cluster.name}: what answered {status} does not speak like Kubernetes",
            remedy="Check url.",
        )


def segment(name: str) -> str:
    """A name in a path; `quote` leaves dots, and names that are only dots are no names of Kubernetes's."""
    return quote(name, safe="")


def is_reason(answer: Answer, *reasons: str) -> bool:
    """Whether the API server itself answers so. A proxy's 404 proves nothing."""
    said = _status(answer)
    return said.kind == "Status" and said.reason in reasons


def is_escalation(answer: Answer) -> bool:
    """Whether it refuses because nobody may give what they do not hold (RBAC's own rule)."""
    return "attempting to grant RBAC permissions not currently held" in _status(answer).message


def _status(answer: Answer) -> _Status:
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return msgspec.json.decode(answer.body, type=_Status)
    return _Status()
