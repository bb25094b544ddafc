"""A program of yours as connector: its own process, JSON lines on stdin and stdout, and no shell.

What follows what, for each call:

1. start the program: nothing of our environment, a session of its own, the whole call within ``timeout``
2. write one line, the question; read one line, the answer. To `check` and `observe` that is all
3. to ``provision`` and ``revoke`` it answers ``{"ready": true}`` once the target's attention is its own (a lock, a
   transaction); then ``confirm``, and we write ``{"go": true}``; only then it changes anything, and answers
4. end it and whatever it started, however the call went

Fencing (I19). A worker paused before it says "go" finds its program gone: the program gives up when no "go" comes within
five seconds, and when its input ends. What it does after "go" is its own to make safe.

Every answer that cannot be meant is no answer: the target is unavailable, and what it holds is read again. Standard error
goes nowhere, for nobody knows what would be in it (I31).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from muniment.connectors.answering import fault, last_look, no, unreachable
from muniment.connectors.exec_process import A, Answer, Call, nonsense
from muniment.connectors.kinds import Kind, Secret
from muniment.core.errors import Invalid, Misconfigured, TargetUnavailable
from muniment.core.instants import parse_duration
from muniment.core.scope import Holding, Privilege, Scope
from muniment.core.text import clean_name, visible
from muniment.ports import Capabilities, CheckReport, Connector, Observation, Order, Outcome

_MAX_MESSAGE = 500  # characters
_CODE = re.compile(r"target\.[a-z][a-z-]{0,40}", re.ASCII)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand in ``[targets.ID]`` beside what every target has."""

    #: The program, by its absolute path, and its arguments. Only its owner, root or Muniment's account, may change it.
    command: tuple[str, ...]
    timeout: str = "10s"  # For each call in all; then the program is killed.
    options: dict[str, str] = {}  # Passed on as they are.
    secrets: dict[str, Secret] = {}  # References; what they lead to is passed on in the question, on stdin.
    resources: bool = False  # Whether privileges may have a `resource`.
    native_expiry: bool = False  # The target ends each grant by itself at `expires_at`.
    ends_sessions: bool = False  # `revoke` also ends sessions that were opened with the grant.
    lists_everything: bool = True  # `observe` with `accounts: null` shows every holding.
    usage_log: bool = False  # The target's own log names account or ticket at each use.
    separate: bool = False  # Each ticket's grant is a thing of its own; holdings have `ticket`.


class _Ready(Answer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    ready: bool = False


class _Report(Answer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    details: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    least_privilege: str = ""


class _Holding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    account: str
    privilege: str
    resource: str | None = None
    grantor: str | None = None
    ticket: str | None = None


class _Observed(Answer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    holdings: tuple[_Holding, ...] | None = None
    complete: bool = True


class _Outcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    ticket: str
    result: Literal["done", "rejected", "unknown"]
    code: str = ""
    message: str = ""
    handle: dict[str, str] = {}
    native_expiry: datetime | None = None
    sessions_ended: int = 0


class _Outcomes(Answer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    outcomes: tuple[_Outcome, ...] | None = None


def build(name: str, settings: Settings, catalogue: Sequence[Privilege]) -> Connector:
    """Make the connector of one target; nothing is started. Raises `Invalid` or `Misconfigured`."""
    if not settings.command or not Path(settings.command[0]).is_absolute():
        raise Misconfigured(
            "command does not begin with the absolute path of a program",
            remedy='Write command = ["/usr/local/lib/muniment/doors"]; there is no shell and no search for it.',
        )
    made = Exec(name, settings, timeout=parse_duration(settings.timeout).total_seconds())
    for privilege in catalogue:
        made.validate("any", (privilege,))
    return made


class Exec:
    """See `muniment.ports.Connector`; what an account and a privilege are, the program knows."""

    _call: type[Call] = Call

    def __init__(self, name: str, settings: Settings, *, timeout: float) -> None:
        """Starts nothing. ``timeout`` is in seconds."""
        self._name, self._settings, self._timeout = name, settings, timeout
        self.capabilities = Capabilities(
            native_expiry=settings.native_expiry,
            ends_sessions=settings.ends_sessions,
            issues_credential=False,
            needs_public_key=False,
            lists_everything=settings.lists_everything,
            usage_log=settings.usage_log,
            separate=settings.separate,
        )

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        """See `Connector.validate`. What else the target cannot hold, the program rejects."""
        del key
        clean_name(account, "the account")
        for item in scope:
            clean_name(item.privilege, "the privilege")
            if item.resource is not None:
                if not self._settings.resources:
                    raise Invalid("a privilege here has no resource", remedy="Ask for the privilege alone.")
                clean_name(item.resource, "the resource")

    def check(self) -> CheckReport:
        """See `Connector.check`."""
        try:
            with self._ask("check") as call:
                found = self._answer(call, _Report)
        except TargetUnavailable as error:
            return unreachable(error)
        return CheckReport(
            reachable=True,
            details=(f"{self._settings.command[0]} answers.", *map(self._said, found.details)),
            problems=tuple(map(self._said, found.problems)),
            least_privilege=self._said(found.least_privilege, limit=10_000),
        )

    def observe(self, accounts: Collection[str] | None) -> Observation:
        """See `Connector.observe`."""
        names = None if accounts is None else sorted(a for a in accounts if fault(self, a, ()) is None)
        if names is not None and not names:
            return Observation(holdings=())
        with self._ask("observe", accounts=names) as call:
            found = self._answer(call, _Observed)
        if found.holdings is None:
            raise nonsense(self._name, "it says nothing of holdings")
        return Observation(
            holdings=tuple(
                Holding(
                    account=h.account,
                    privilege=h.privilege,
                    resource=h.resource,
                    grantor=h.grantor,
                    ticket=h.ticket,
                )
                for h in found.holdings
                if names is None or h.account in names
            ),
            complete=found.complete,
        )

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.provision`."""
        refused = {at: no for at, order in enumerate(orders) if (no := self._refusal(order))}
        return self._change("provision", orders, confirm, refused)

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        """See `Connector.revoke`. What `validate` refuses was never given, so there is nothing to take."""
        nothing = {
            at: Outcome(ticket=order.ticket, result="done")
            for at, order in enumerate(orders)
            if self._refusal(order)
        }
        return self._change("revoke", orders, confirm, nothing)

    def _change(
        self,
        what: str,
        orders: Sequence[Order],
        confirm: Callable[[], None],
        answered: Mapping[int, Outcome],
    ) -> list[Outcome]:
        asked = [order for at, order in enumerate(orders) if at not in answered]
        given: dict[str, Outcome] = {}
        if asked:
            with self._ask(what, orders=[_order(order) for order in asked]) as call:
                if not self._answer(call, _Ready).ready:
                    raise nonsense(self._name, "it is not ready, and does not say why")
                call.until += last_look(confirm)
                call.say({"go": True})
                found = self._answer(call, _Outcomes).outcomes or ()
            if [each.ticket for each in found] != [order.ticket for order in asked]:
                raise nonsense(self._name, "its outcomes are not those of the orders")
            given = {each.ticket: self._outcome(each) for each in found}
        return [answered.get(at) or given[order.ticket] for at, order in enumerate(orders)]

    def _outcome(self, said: _Outcome) -> Outcome:
        code = said.code if _CODE.fullmatch(said.code) else f"target.{said.result}"
        done = said.result == "done"
        return Outcome(
            ticket=said.ticket, result=said.result, code="" if done else code,
            message=self._said(said.message or ("" if done else f"the program answered {said.result}")),
            handle=said.handle, native_expiry=said.native_expiry, sessions_ended=max(0, said.sessions_ended),
        )  # fmt: skip

    def _refusal(self, order: Order) -> Outcome | None:
        why = fault(self, order.account, order.scope)
        return None if why is None else no(order, "bad-name", why)

    def _ask(self, what: str, **more: Any) -> Call:
        secrets = {name: secret.reveal() for name, secret in self._settings.secrets.items()}
        question = {"muniment": 1, "do": what, "options": self._settings.options, "secrets": secrets, **more}
        return self._call(self._name, self._settings.command, question, time.monotonic() + self._timeout)

    def _said(self, text: str, *, limit: int = _MAX_MESSAGE) -> str:
        """Foreign text, as it may be shown: never a secret that the program was given (I31)."""
        if any(secret.reveal() in text for secret in self._settings.secrets.values()):
            return "(what the program said held a secret)"
        return visible(text[:limit])

    def _answer(self, call: Call, kind: type[A]) -> A:
        """The next answer, unless the program says that the target is not there."""
        found = call.answer(kind)
        if found.unavailable:
            raise TargetUnavailable(
                f"{self._name}: {self._said(found.unavailable)}", remedy="It is tried again."
            )
        return found


def _order(order: Order) -> dict[str, Any]:
    return {
        "ticket": order.ticket, "account": order.account, "scope": order.scope, "expires_at": order.expires_at,
        "handle": order.handle,
    }  # fmt: skip


KIND = Kind(
    summary="a privilege is what a program of yours makes of it",
    settings=Settings,
    build=build,
    capabilities=Exec("", Settings(command=("/",)), timeout=0).capabilities,
    least_privilege="""\
# the program runs as Muniment's own account, and gets only the secrets that its target names
install -o root -m 755 doors /usr/local/lib/muniment/doors
""",
)
