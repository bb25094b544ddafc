"""Commands of a server, over its API. Who acts is whose token it is.

A command that changes something has a key of its own: when its answer gets lost, it is asked again with the same key,
and still happens once.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from muniment.cli.backend import MOVING, Document, Extension, Looked, Wanted
from muniment.cli.usage import pieces, together
from muniment.core import errors as e
from muniment.core.campaign import Decision
from muniment.core.instants import iso_duration, parse_instant, wire
from muniment.core.scope import Scope
from muniment.service.certifying import Opening, Where
from muniment.service.filing import Ask
from muniment.service.reviews import Wanted as Reviews
from muniment.settings.usage import LogSettings

#: seconds that an answer may take: evidence of a large ledger takes longest
PATIENCE = 60.0
#: how often one asks, while the server is away or busy
ATTEMPTS = 4
#: seconds between looks at what controllers do, and how many
PAUSE = 0.25
LOOKS = 60

_CLASSES: dict[int, type[e.MunimentError]] = {
    400: e.Invalid, 401: e.Unauthenticated, 403: e.Refused, 404: e.NotFound, 408: e.Unavailable, 409: e.Refused, 413: e.Invalid, 422: e.Invalid,
    429: e.Busy, 502: e.TargetRejected, 503: e.Unavailable,
}  # fmt: skip


class RemoteBackend:
    """`backend.Backend` over HTTP."""

    def __init__(self, url: str, token: str) -> None:
        """Asks nothing yet. Without a token, only what anybody may ask.

        Raises:
            Misconfigured: not a URL, or one that would send the token in clear over a network.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise e.Misconfigured(
                f"{url!r:.80} is not the URL of a server",
                remedy="Write it like https://muniment.example.com.",
                code="config.server",
            )
        if parts.scheme == "http" and parts.hostname not in {"127.0.0.1", "::1", "localhost"}:
            raise e.Misconfigured(
                f"{url} would send the token in clear over the network",
                remedy="Use https; plain http is for this machine alone.",
                code="config.server-insecure",
            )
        self._url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self._url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=PATIENCE,
            trust_env=False,
        )
        self._read_to: dict[Path, Any] = {}  # logs that are sent, and how far

    def close(self) -> None:
        """Let go of connections."""
        self._http.close()

    def now(self) -> datetime:
        """This machine's time; the server's counts where something is decided."""
        return datetime.now(UTC)

    def whoami(self) -> Document:
        """See `Backend`."""
        return self._get("/v1/whoami")

    def send_form(self, path: str, fields: Mapping[str, str]) -> tuple[int, bytes]:
        """Send a form once, and get status and body, whatever they are. Raises `Unavailable`: no answer."""
        answer = self._exchange("POST", path, data=fields)
        return answer.status_code, answer.content

    # ── tickets ──

    def file(self, ask: Ask) -> Document:
        """See `Backend`."""
        return self._post("/v1/requests", _body(ask))

    def file_bundle(self, asks: Sequence[Ask]) -> list[Document]:
        """Asked for once: whoever hears no answer looks at what was filed."""
        body = {"requests": [_said(_body(ask)) for ask in asks]}
        found: list[Document] = self._once("/v1/bundles", body)["items"]
        return found

    def preview(self, ask: Ask) -> Document:
        """See `Backend`."""
        return self._post("/v1/preview", _body(ask))

    def tickets(self, wanted: Wanted) -> Document:
        """See `Backend`."""
        return self._get(
            "/v1/requests",
            status=list(wanted.statuses),
            beneficiary=wanted.beneficiary,
            target=wanted.target,
            awaiting_me="true" if wanted.awaiting_me else None,
            limit=wanted.limit,
            cursor=wanted.cursor,
        )

    def ticket(self, ticket: str) -> Document:
        """See `Backend`."""
        return self._get(_of(ticket))

    def events(self, ticket: str) -> list[Document]:
        """See `Backend`."""
        found: list[Document] = self._get(_of(ticket, "events"))["items"]
        return found

    def statement(self, ticket: str) -> bytes:
        """See `Backend`."""
        return self._ask("GET", _of(ticket, "statement")).content

    def approve(
        self, ticket: str, *, digest: str | None, comment: str | None, signature: str | None
    ) -> Document:
        """See `Backend`."""
        shown = digest or self.ticket(ticket)["digest"]
        body = {"decision": "approve", "digest": shown, "comment": comment, "signature": signature}
        return self._post(_of(ticket, "decisions"), body)

    def deny(self, ticket: str, *, comment: str) -> Document:
        """See `Backend`."""
        body = {"decision": "deny", "digest": self.ticket(ticket)["digest"], "comment": comment}
        return self._post(_of(ticket, "decisions"), body)

    def counter(
        self,
        ticket: str,
        *,
        digest: str | None,
        duration: timedelta | None,
        scope: Scope | None,
        comment: str,
    ) -> Document:
        """See `Backend`."""
        body = {
            "digest": digest or self.ticket(ticket)["digest"], "comment": comment,
            "duration": iso_duration(duration) if duration is not None else None,
            "scope": msgspec.to_builtins(scope) if scope is not None else None,
        }  # fmt: skip
        return self._post(_of(ticket, "offers"), body)

    def accept(self, ticket: str, *, offer: str | None) -> Document:
        """See `Backend`."""
        standing = self.ticket(ticket)["offer"] or {"digest": "sha256:" + "0" * 64}
        return self._post(_of(ticket, "accept"), {"digest": offer or standing["digest"]})

    def extend(self, ticket: str, how: Extension) -> Document:
        """See `Backend`."""
        body = {
            "duration": iso_duration(how.duration), "justification": how.reason, "scope": msgspec.to_builtins(how.scope),
            "references": how.references, "public_key": how.public_key,
        }  # fmt: skip
        return self._post(_of(ticket, "extensions"), body)

    def withdraw(self, ticket: str) -> Document:
        """See `Backend`."""
        return self._post(_of(ticket, "withdraw"))

    def give_back(self, ticket: str) -> Document:
        """See `Backend`."""
        return self._post(_of(ticket, "return"))

    def revoke(self, ticket: str, *, reason: str) -> Document:
        """See `Backend`."""
        return self._post(_of(ticket, "revoke"), {"reason": reason})

    def review(
        self, ticket: str, *, outcome: Literal["appropriate", "inappropriate"], comment: str
    ) -> Document:
        """See `Backend`."""
        return self._post(_of(ticket, "reviews"), {"outcome": outcome, "comment": comment})

    def waive(self, ticket: str, *, check: str, reason: str) -> Document:
        """See `Backend`."""
        return self._post(_of(ticket, "waivers"), {"check": check, "reason": reason})

    def resolve(self, ticket: str, finding: str, *, reason: str) -> Document:
        """See `Backend`."""
        return self._post(
            f"/v1/findings/{quote(f'{ticket}:{finding}', safe=':')}/resolve", {"reason": reason}
        )

    def settle(self, ticket: Document) -> tuple[Document, e.MunimentError | None]:
        """Give the controllers a moment, so that the ticket is shown as it then stands."""
        for _ in range(LOOKS):
            if not _moves(ticket, self.now()) and _is_sealed(ticket):
                break
            time.sleep(PAUSE)
            ticket = self.ticket(ticket["id"])
        return ticket, None

    def sealed(self, ticket: Document) -> tuple[Document, e.MunimentError | None]:
        """Give the sealing beat a moment."""
        for _ in range(LOOKS):
            if _is_sealed(ticket):
                break
            time.sleep(PAUSE)
            ticket = self.ticket(ticket["id"])
        return ticket, None

    def credential(self, ticket: str) -> bytes:
        """Asked for once: whoever hears no answer files a new ticket."""
        document = self._read(self._send("GET", _of(ticket, "credential"), {}))
        text: str = document["credential"]
        return text.encode()

    def evidence(self, ticket: str, *, since: str | None) -> tuple[bytes, Document]:
        """See `Backend`."""
        if since is not None:
            raise e.Invalid(
                "a server is not asked for evidence since a checkpoint",
                remedy="Give --since to `muniment evidence verify`, or export where the store is.",
            )
        answer = self._ask("GET", _of(ticket, "evidence"))
        document: Document = msgspec.json.decode(answer.headers["muniment-evidence"])
        return answer.content, document

    # ── the world ──

    def grants(self, *, target: str | None, beneficiary: str | None) -> list[Document]:
        """See `Backend`."""
        return self._pages("/v1/grants", target=target, beneficiary=beneficiary)

    def targets(self) -> list[Document]:
        """See `Backend`."""
        return self._pages("/v1/targets")

    def holdings(self, target: str) -> list[Document]:
        """See `Backend`."""
        return self._pages(f"/v1/targets/{quote(target, safe='')}/holdings")

    def take_inventory(self, target: str) -> Document:
        """See `Backend`. Asked for once: another one is as good."""
        return self._once(_inventories(target), None)

    def inventories(self, target: str) -> list[Document]:
        """See `Backend`."""
        return self._pages(_inventories(target))

    def inventory(
        self, target: str, inventory: str | None, *, account: str | None, privilege: str | None
    ) -> Document:
        """See `Backend`."""
        path, cursor = f"{_inventories(target)}/{quote(inventory or 'newest', safe='')}", None
        found: Document = {}
        while True:
            page = self._get(path, account=account, privilege=privilege, limit=1000, cursor=cursor)
            items = [*found.get("items", []), *page["items"]]
            found, cursor = page | {"items": items}, page["next"]
            if cursor is None:
                return found
            path = f"{_inventories(target)}/{quote(page['inventory'], safe='')}"  # the same one, to its end

    def reconcile(self, target: str) -> Document:
        """See `Backend`. Asked for once: another run is as good."""
        return self._once(f"/v1/targets/{quote(target, safe='')}/reconcile", None)

    def ingest_usage(self, target: str, path: Path, log: LogSettings, *, whole: bool) -> Document:
        """See `Backend`. Lines are known again by the server, so that a log is sent from its beginning by each program."""
        answers = []
        for lines, position in pieces(path, log, self._read_to.get(path), whole=whole):
            if lines:
                body = {
                    "target": target, "source": log.source, "format": log.format, "lines": lines, "mapping": log.mapping
                }  # fmt: skip
                answers.append(self._once("/v1/usage", _said(body)))
            if position is not None:
                self._read_to[path] = position
        return together(answers)

    def usage_report(
        self, *, target: str | None, beneficiary: str | None, judgements: Sequence[str]
    ) -> Document:
        """See `Backend`: the newest tickets."""
        return self._get(
            "/v1/usage", target=target, beneficiary=beneficiary, judgement=list(judgements), limit=1000
        )

    def check_usage(self, target: str) -> Document:
        """See `Backend`."""
        return self._get(f"/v1/targets/{quote(target, safe='')}/usage/check")

    def findings(self, wanted: Looked) -> list[Document]:
        """See `Backend`."""
        return self._pages(
            "/v1/findings", target=wanted.target, type=list(wanted.types), severity=list(wanted.severities),
            status=list(wanted.statuses), account=wanted.account, assigned_to=wanted.assigned_to,
            past_due="true" if wanted.past_due else None, resolved="true" if wanted.resolved else None,
        )  # fmt: skip

    def finding(self, finding: str) -> Document:
        """See `Backend`."""
        return self._get(_finding(finding))

    def assign_finding(self, finding: str, to: str) -> Document:
        """See `Backend`. Asked for once."""
        return self._once(f"{_finding(finding)}/assign", {"to": to})

    def explain_finding(self, finding: str, explanation: str) -> Document:
        """See `Backend`. Asked for once."""
        return self._once(f"{_finding(finding)}/explain", {"explanation": explanation})

    def remove_finding(self, finding: str, reason: str) -> Document:
        """See `Backend`. Asked for once; what was ordered is tried again anyway."""
        return self._once(f"{_finding(finding)}/remove", {"reason": reason})

    def accept_finding(self, finding: str, until: datetime, reason: str) -> Document:
        """See `Backend`. Asked for once."""
        return self._once(f"{_finding(finding)}/accept", {"until": wire(until), "reason": reason})

    def reviews(self, wanted: Reviews) -> list[Document]:
        """See `Backend`."""
        return self._pages(
            "/v1/reviews", state=wanted.state, target=wanted.target, beneficiary=wanted.beneficiary, kind=wanted.kind,
            outcome=wanted.outcome, mine="true" if wanted.mine else None,
        )  # fmt: skip

    # ── campaigns ──

    def open_campaign(self, asked: Opening, *, preview: bool) -> Document:
        """See `Backend`. Asked for once: whoever hears no answer looks whether it is there."""
        body = {
            "name": asked.name, "reason": asked.reason, "selection": _said(msgspec.to_builtins(asked.selection)),
            "reviewers": asked.rules, "duration": iso_duration(asked.length), "unanswered": asked.unanswered,
            "escalate_to": asked.escalate_to, "valid_for": iso_duration(asked.valid_for), "sample": asked.sample,
            "singly_from": asked.alone or "none",
        }  # fmt: skip
        return self._once("/v1/campaigns/preview" if preview else "/v1/campaigns", body)

    def campaigns(self, statuses: Sequence[str]) -> list[Document]:
        """See `Backend`."""
        return self._pages("/v1/campaigns", status=list(statuses))

    def campaign(self, name: str) -> Document:
        """See `Backend`."""
        return self._get(_campaign(name))

    def campaign_items(self, name: str, where: Where, *, mine: bool) -> list[Document]:
        """See `Backend`."""
        wanted = _where(where)
        if where.unsettled:
            wanted["unsettled"] = "true"
        return self._pages(_campaign(name, "items"), **wanted, mine="true" if mine else None, limit=1000)

    def decide_campaign(self, name: str, where: Where, decision: Decision, reason: str) -> Document:
        """See `Backend`. Asked for once; decided again, it is the same."""
        body = {"decision": decision, "reason": reason, "where": _where(where)}
        return self._once(_campaign(name, "decisions"), body)

    def reassign_campaign(self, name: str, where: Where, to: str, reason: str) -> Document:
        """See `Backend`. Asked for once."""
        return self._once(_campaign(name, "reassign"), {"to": to, "reason": reason, "where": _where(where)})

    def explain_campaign(self, name: str, items: str, reason: str) -> Document:
        """See `Backend`. Asked for once."""
        return self._once(_campaign(name, "explain"), {"items": items, "reason": reason})

    def close_campaign(self, name: str, comment: str, progress: Callable[[int, int], None]) -> Document:
        """See `Backend`. Controllers do what follows; this looks on as long as there is progress."""
        found = self.campaign(name)
        if found["status"] != "removing":
            found = self._once(_campaign(name, "close"), {"comment": comment})
        total, still = found["revoked"] + found["changed"], 0
        while found["status"] == "removing" and still < LOOKS:
            time.sleep(PAUSE)
            after = self.campaign(name)
            still = 0 if after["unsettled"] < found["unsettled"] else still + 1
            found = after
            progress(total - found["unsettled"], total)
        return found

    def cancel_campaign(self, name: str, reason: str) -> Document:
        """See `Backend`. Asked for once."""
        return self._once(_campaign(name, "cancel"), {"reason": reason})

    def export_campaign(self, name: str) -> bytes:
        """See `Backend`."""
        return self._ask("GET", _campaign(name, "evidence")).content

    def checkpoint(self) -> Document:
        """See `Backend`."""
        return self._get("/v1/ledger/checkpoint")

    def delegate(
        self,
        to: str,
        *,
        until: datetime | None,
        length: timedelta | None,
        starts: datetime | None,
        reason: str,
    ) -> Document:
        """See `Backend`. Asked for once."""
        body = {
            "to": to,
            "reason": reason,
            "until": wire(until) if until else None,
            "duration": iso_duration(length) if length else None,
            "starts_at": wire(starts) if starts else None,
        }
        return self._once("/v1/delegations", _said(body))

    def delegations(self) -> list[Document]:
        """See `Backend`."""
        return self._pages("/v1/delegations")

    def end_delegation(self, delegation: str) -> Document:
        """See `Backend`."""
        return self._post(f"/v1/delegations/{quote(delegation, safe='')}/end")

    def explain(self, ticket: str) -> Document:
        """See `Backend`."""
        return self._get(_of(ticket, "policy"))

    def propose(self, reason: str) -> Document:
        """See `Backend`: what lies on the server's disk. Asked for once."""
        return self._once("/v1/policy/changes", {"reason": reason})

    def adopt(self, change: str) -> Document:
        """See `Backend`. Asked for once."""
        return self._once(f"{_change(change)}/adopt", None)

    def refuse(self, change: str, *, reason: str) -> Document:
        """See `Backend`. Asked for once."""
        return self._once(f"{_change(change)}/refuse", {"reason": reason})

    def changes(self, change: str | None) -> Document:
        """See `Backend`."""
        return self._get("/v1/policy/changes" if change is None else _change(change))

    def disablements(self) -> list[Document]:
        """See `Backend`."""
        return self._pages("/v1/disablements")

    def lift(self, identity: str, *, reason: str) -> Document:
        """See `Backend`. Asked for once."""
        return self._once("/v1/disablements/lift", {"identity": identity, "reason": reason})

    def deliveries(self) -> Document:
        """See `Backend`."""
        return self._get("/v1/deliveries")

    def replay(self, sink: str, *, since: datetime | None, until: datetime | None) -> Document:
        """See `Backend`."""
        body = {
            "sink": sink,
            "since": wire(since) if since else None,
            "until": wire(until) if until else None,
        }
        return self._post("/v1/deliveries/replay", body)

    # ── HTTP ──

    def _get(self, path: str, **query: Any) -> Document:
        return self._read(self._ask("GET", path, query))

    def _pages(self, path: str, **query: Any) -> list[Document]:
        found: list[Document] = []
        while True:
            page = self._get(path, **query)
            found += page["items"]
            if page["next"] is None:
                return found
            query["cursor"] = page["next"]

    def _post(self, path: str, body: Mapping[str, Any] | None = None) -> Document:
        given = {name: value for name, value in (body or {}).items() if value is not None}
        raw = msgspec.json.encode(given) if body is not None else b""
        headers = {"Idempotency-Key": str(uuid.uuid4()), "Content-Type": "application/json"}
        return self._read(self._ask("POST", path, {}, raw, headers))

    def _once(self, path: str, body: Mapping[str, Any] | None) -> Document:
        """A command that has no key: it is not asked again when its answer gets lost."""
        raw = b"" if body is None else msgspec.json.encode(body)
        return self._read(self._send("POST", path, {}, raw, {"Content-Type": "application/json"}))

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        raw: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Ask; and again while the server is away or busy."""
        for attempt in range(ATTEMPTS):
            try:
                return self._send(method, path, query or {}, raw, headers)
            except e.Unavailable as error:
                if attempt + 1 == ATTEMPTS or error.code not in {"unavailable.server", "busy", "busy.rate"}:
                    raise
                time.sleep(PAUSE * (1 << attempt))
        raise AssertionError("unreachable")

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        raw: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        given = {name: value for name, value in query.items() if value is not None}
        answer = self._exchange(method, path, params=given, content=raw, headers=headers)
        if answer.is_success:
            return answer
        raise _error(self._url, answer)

    def _exchange(self, method: str, path: str, **sent: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **sent)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise e.Unavailable(
                f"the server {self._url} does not answer: {type(error).__name__}",
                remedy="Check the URL, and that `muniment serve` runs there.",
                code="unavailable.server",
            ) from error

    def _read(self, answer: httpx.Response) -> Document:
        try:
            document: Document = msgspec.json.decode(answer.content, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _no_server(self._url) from error
        return document


def _finding(name: str) -> str:
    return f"/v1/findings/{quote(name, safe=':')}"


def _campaign(name: str, what: str | None = None) -> str:
    path = f"/v1/campaigns/{quote(name, safe='')}"
    return path if what is None else f"{path}/{what}"


def _where(where: Where) -> dict[str, Any]:
    given = _said(msgspec.structs.asdict(where))
    return given if where.unsettled else {name: value for name, value in given.items() if name != "unsettled"}


def _inventories(target: str) -> str:
    return f"/v1/targets/{quote(target, safe='')}/inventories"


def _error(url: str, answer: httpx.Response) -> e.MunimentError:
    """The server's refusal as what it was there: same sentence, same code, same exit status."""
    try:
        said = msgspec.json.decode(answer.content, type=dict[str, Any])
        message, remedy, code = (str(said[name]) for name in ("detail", "remedy", "code"))
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError):
        return _no_server(url)
    kind = e.Misconfigured if code.startswith("config") else _CLASSES.get(answer.status_code, e.MunimentError)
    return kind(message, remedy=remedy, code=code)


def _no_server(url: str) -> e.MunimentError:
    return e.Unavailable(
        f"what answers at {url} is no Muniment", remedy="Check the URL.", code="unavailable.not-a-server"
    )


def _of(ticket: str, what: str | None = None) -> str:
    path = f"/v1/requests/{quote(ticket, safe='')}"
    return path if what is None else f"{path}/{what}"


def _change(change: str) -> str:
    return f"/v1/policy/changes/{quote(change, safe='')}"


def _said(body: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not there."""
    return {name: value for name, value in body.items() if value is not None}


def _body(ask: Ask) -> dict[str, Any]:
    return {
        "target": ask.target,
        "scope": msgspec.to_builtins(ask.scope),
        "justification": ask.justification,
        "duration": iso_duration(ask.duration),
        "beneficiary": ask.beneficiary,
        "starts_at": wire(ask.starts_at) if ask.starts_at else None,
        "references": dict(ask.references),
        "break_glass": ask.break_glass,
        "incident": ask.incident,
        "responders": list(ask.responders),
        "public_key": ask.public_key,
    }


def _moves(ticket: Document, now: datetime) -> bool:
    """Whether controllers have something to do on it now."""
    start = ticket["window"]["starts_at"]
    begins = ticket["status"] == "approved" and (start is None or parse_instant(start) <= now)
    return begins or ticket["status"] in MOVING


def _is_sealed(ticket: Document) -> bool:
    sealed: bool = ticket["ledger"]["sealed"] >= ticket["ledger"]["events"]
    return sealed
