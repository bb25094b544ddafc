"""One call to a SCIM 2.0 service (RFC 7643, RFC 7644): bounded questions, pages, and what its answers mean."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from muniment.connectors.answering import last_look
from muniment.connectors.bearer import Bearer
from muniment.core.errors import Misconfigured, TargetUnavailable, Unavailable
from muniment.outbound import Answer

PAUSE = 5.0  # seconds between ``confirm`` and the last change
_PAGE = 100  # resources asked for at a time; a service may give fewer
_TRIES = 3  # of reading a list that changes meanwhile
_MEDIA = "application/scim+json"
_PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
_ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
T = TypeVar("T", bound="Resource")
Kind = Literal["Users", "Groups"]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """Of a group: a person, or another group."""

    value: str


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """What the service says of a resource."""

    version: str | None = None  # its entity tag


class Resource(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What both kinds have."""

    id: str
    external_id: str | None = None
    meta: Meta | None = None


class User(Resource, frozen=True, kw_only=True, rename="camel"):
    """As the service shows it."""

    user_name: str | None = None
    active: Any = None  # a boolean; some say it in a word

    @property
    def is_active(self) -> bool:
        """Unless the service says otherwise."""
        return str(self.active).lower() != "false"


class Group(Resource, frozen=True, kw_only=True, rename="camel"):
    """As the service shows it."""

    display_name: str | None = None
    members: tuple[Member, ...] | None = None  # None: not shown

    @property
    def ids(self) -> frozenset[str]:
        """Of all its members."""
        return frozenset(member.value for member in self.members or ())


class _Page(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    total: int = msgspec.field(name="totalResults")
    resources: tuple[msgspec.Raw, ...] | None = None


class _Error(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    schemas: tuple[str, ...] = ()
    scim_type: str | None = None


class _Supported(msgspec.Struct, frozen=True, kw_only=True):
    supported: bool = False


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """``ServiceProviderConfig``."""

    patch: _Supported = _Supported()
    filter: _Supported = _Supported()
    etag: _Supported = _Supported()


class Session:
    """Questions until a deadline. Raises `TargetUnavailable`, from everything, with no word of the service's (I31)."""

    def __init__(self, service: Bearer) -> None:
        """For one call. Asks nothing yet."""
        self._service, self._token = service, service.text()
        self._until = time.monotonic() + service.timeout
        self._fence: float | None = None

    def confirmed(self, confirm: Callable[[], None]) -> None:
        """The last moment to find out that the work is another's. The time it takes is not the service's."""
        self._until += last_look(confirm)
        self._fence = time.monotonic() + PAUSE

    def users(self, condition: str | None = None) -> list[User]:
        """Those that a filter matches."""
        return self._list("Users", User, condition)

    def some_users(self, most: int) -> list[User]:
        """Any, and no more pages of them than that takes."""
        return self._list("Users", User, None, most=most)

    def groups(self, condition: str | None = None, *, members: bool = True) -> list[Group]:
        """Those that a filter matches; their members are long, and not always of interest."""
        return self._list("Groups", Group, condition, None if members else "members")

    def group(self, number: str) -> Group | None:
        """By id; None if there is none any more."""
        answer = self.ask("GET", f"Groups/{_segment(number)}")
        return None if is_not_there(answer) else self._read(answer, Group)

    def change(self, group: Group, operations: Sequence[dict[str, Any]]) -> Answer:
        """All operations, or none. With the group's version, if it has one: the service then refuses who comes late."""
        headers = {"If-Match": group.meta.version} if group.meta and group.meta.version else {}
        body = {"schemas": [_PATCH], "Operations": operations}
        return self.ask("PATCH", f"Groups/{_segment(group.id)}", body, headers=headers)

    def may_change_people(self, nobody: str) -> bool:
        """Whether the service looks for somebody who is not there, where it could have said that we may not."""
        body = {"schemas": [_PATCH], "Operations": [{"op": "replace", "path": "active", "value": True}]}
        return self.ask("PATCH", f"Users/{_segment(nobody)}", body).status not in {401, 403, 405, 501}

    def abilities(self) -> Abilities | None:
        """What the service says it can do; None if it does not say."""
        answer = self.ask("GET", "ServiceProviderConfig")
        return self._read(answer, Abilities) if answer.status == 200 else None

    def ask(
        self, method: str, path: str, body: object = None, *, headers: dict[str, str] | None = None
    ) -> Answer:
        """One question. Who asks too often is told to wait, and does, as long as there is time."""
        while True:
            answer = self._once(method, path, body, headers or {})
            if answer.status != 429:
                break
            if time.monotonic() + answer.wait >= self._limit(method):
                raise TargetUnavailable(
                    f"{self._service.name} lets us ask again in {answer.wait:.0f} seconds only",
                    remedy="It is tried again.", code="target.busy",
                )  # fmt: skip
            time.sleep(answer.wait)
        if answer.status == 401:
            raise TargetUnavailable(
                f"{self._service.name} refused our token",
                remedy=f"Check what {self._service.token.reference} holds: it may be over.",
            )
        if answer.status >= 500 and answer.status != 501:
            raise TargetUnavailable(
                f"{self._service.name} answered {answer.status}", remedy="It is tried again."
            )
        return answer

    def pause(self, seconds: float) -> None:
        """Wait a moment before the next change, unless there is no time left."""
        if time.monotonic() + seconds >= self._limit("PATCH"):
            raise self._late()
        time.sleep(seconds)

    def _once(self, method: str, path: str, body: object, headers: dict[str, str]) -> Answer:
        left = self._limit(method) - time.monotonic()
        if left <= 0:
            raise self._late()
        http, url = self._service.http, f"{self._service.base}/{path}"
        headers = {"Authorization": f"Bearer {self._token}", "Accept": _MEDIA, **headers}
        try:
            if method == "GET":
                return http.get(url, headers, timeout=left)
            content = msgspec.json.encode(body)
            return http.send(method, url, content, content_type=_MEDIA, headers=headers, timeout=left)
        except (Unavailable, Misconfigured) as error:
            raise TargetUnavailable(
                f"{self._service.name} does not answer: {error.message}", remedy=error.remedy
            ) from RuntimeError(type(error).__name__)

    def _limit(self, method: str) -> float:
        if method == "GET" or self._fence is None:
            return self._until
        return min(self._until, self._fence)

    def _list(
        self,
        what: Kind,
        kind: type[T],
        condition: str | None,
        without: str | None = None,
        most: int | None = None,
    ) -> list[T]:
        """All pages. If the list changed while we read it, somebody may have been skipped, and it is read again."""
        for _ in range(_TRIES):
            found = self._pages(what, kind, condition, without, most)
            if found is not None:
                return found
        raise TargetUnavailable(
            f"{self._service.name} lists {what} that change as they are read", remedy="It is tried again."
        )

    def _pages(
        self, what: Kind, kind: type[T], condition: str | None, without: str | None, most: int | None
    ) -> list[T] | None:
        found: dict[str, T] = {}
        total: int | None = None
        start = 1
        while total is None or (start <= total and (most is None or len(found) < most)):
            query = {"startIndex": str(start), "count": str(_PAGE if most is None else min(_PAGE, most))}
            query |= {"filter": condition} if condition is not None else {}
            query |= {"excludedAttributes": without} if without is not None else {}
            answer = self.ask("GET", f"{what}?{urlencode(query, quote_via=quote)}")
            page = self._read(answer, _Page)
            resources = [self._convert(raw, kind) for raw in page.resources or ()]
            before = len(found)
            found |= {resource.id: resource for resource in resources}
            if page.total != (page.total if total is None else total):
                return None
            if len(found) - before < len(resources) or (not resources and start <= page.total):
                return None  # the same once more, or nothing where there is something
            total, start = page.total, start + len(resources)
        return list(found.values())[:most]

    def _read(self, answer: Answer, kind: type[Any]) -> Any:
        if answer.status == 403:
            raise TargetUnavailable(
                f"{self._service.name} lets our token not read this",
                remedy="`muniment check` says what it must be able to do.",
            )
        if answer.status == 400:
            raise TargetUnavailable(
                f"{self._service.name} does not know what it was asked ({scim_type(answer)})",
                remedy="`muniment check` says what works here; see memberships and filters.",
            )
        if answer.status != 200:
            raise self._foreign(answer.status)
        return self._convert(answer.body, kind, answer.status)

    def _convert(self, raw: bytes | msgspec.Raw, kind: type[Any], status: int = 200) -> Any:
        try:
            made = msgspec.json.decode(raw, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._foreign(status) from RuntimeError(type(error).__name__)
        return made

    def _foreign(self, status: int) -> TargetUnavailable:
        return TargetUnavailable(
            f"{self._service.name}: what answered {status} does not speak like SCIM 2.0", remedy="Check url."
        )

    def _late(self) -> TargetUnavailable:
        if self._fence is not None and time.monotonic() >= self._fence:
            return TargetUnavailable(
                "we were held up before the change, and somebody else may have the work now"
            )
        return TargetUnavailable(f"{self._service.name} did not answer in time", remedy="It is tried again.")


def equals(attribute: str, value: str) -> str:
    """A comparison of the filter language, whose values are JSON (RFC 7644, section 3.4.2.2)."""
    return f"{attribute} eq {msgspec.json.encode(value).decode()}"


def is_not_there(answer: Answer) -> bool:
    """Whether SCIM itself says 404. A proxy says it, too: that proves nothing."""
    return answer.status == 404 and _ERROR in _error(answer).schemas


def scim_type(answer: Answer) -> str:
    """Which of RFC 7644's own words for errors the service used, with the status."""
    word = _error(answer).scim_type or ""
    return (
        f"{answer.status} {word}"
        if word.isascii() and word.isalpha() and len(word) < 30
        else f"{answer.status}"
    )


def _error(answer: Answer) -> _Error:
    try:
        return msgspec.json.decode(answer.body, type=_Error)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Error()


def _segment(number: str) -> str:
    """An id in a path: no service can lead us to another place by what it calls its things."""
    if number in {"", ".", ".."}:
        raise TargetUnavailable("a resource has an id that no path can hold", remedy="Check url.")
    return quote(number, safe="")
