"""A connector in a package of its own: a JSON file of account to doors. It shows the shape; replace the file by a system."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from muniment.connectors.kinds import Kind
from muniment.core.errors import Invalid, TargetUnavailable
from muniment.core.scope import Holding, Privilege, Scope
from muniment.core.text import clean_name
from muniment.ports import Capabilities, CheckReport, Observation, Order, Outcome


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    file: Path  # Relative to the configuration.


class Doors:
    capabilities = Capabilities(
        native_expiry=False,
        ends_sessions=False,
        issues_credential=False,
        needs_public_key=False,
        lists_everything=True,
    )

    def __init__(self, file: Path) -> None:
        self._file = file

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        for name in (account, *(item.privilege for item in scope)):
            clean_name(name, "the name")
        if any(item.resource is not None for item in scope):
            raise Invalid("a door has no resource", remedy="Ask for the door alone.")

    def check(self) -> CheckReport:
        try:
            found = len(self.observe(None).holdings)
        except TargetUnavailable as error:
            return CheckReport(reachable=False, details=(), problems=(error.message,))
        return CheckReport(reachable=True, details=(f"{found} doors are open to somebody.",))

    def observe(self, accounts: Collection[str] | None) -> Observation:
        with self._attention() as held:
            asked = {a: doors for a, doors in held.items() if accounts is None or a in accounts}
        return Observation(
            holdings=tuple(Holding(account=a, privilege=d) for a in sorted(asked) for d in asked[a])
        )

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        return self._change(orders, confirm, set.union)

    def revoke(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        return self._change(orders, confirm, set.difference)

    def _change(
        self,
        orders: Sequence[Order],
        confirm: Callable[[], None],
        change: Callable[[set[str], set[str]], set[str]],
    ) -> list[Outcome]:
        if not orders:
            return []
        with self._attention() as held:  # 1. the target's attention: nobody else changes it now
            confirm()  # 2. the work is still ours, or LeaseLost ends it here
            return [
                self._one(held, order, change) for order in orders
            ]  # 3. the change, written when the block ends

    def _one(
        self, held: dict[str, list[str]], order: Order, change: Callable[[set[str], set[str]], set[str]]
    ) -> Outcome:
        try:
            self.validate(order.account, order.scope)
        except Invalid as error:
            return Outcome(
                ticket=order.ticket, result="rejected", code="target.bad-name", message=error.message
            )
        doors = change(set(held.pop(order.account, ())), {item.privilege for item in order.scope})
        held.update({order.account: sorted(doors)} if doors else {})
        return Outcome(ticket=order.ticket, result="done")

    @contextmanager
    def _attention(self) -> Iterator[dict[str, list[str]]]:
        try:
            with self._file.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                text = self._file.read_text()
                held = json.loads(text)
                yield held
                if held != json.loads(text):
                    put(self._file, held)
        except OSError as error:
            raise TargetUnavailable(
                f"the doors did not answer: {error.strerror}", remedy="It is tried again."
            ) from error


def put(file: Path, held: dict[str, list[str]]) -> None:
    """By rename, so that nobody reads a half of it, locked out or not."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps(held, sort_keys=True))
    new.replace(file)


def build(_name: str, settings: Settings, _catalogue: Sequence[Privilege]) -> Doors:
    return Doors(settings.file)


KIND = Kind(summary="a privilege is a door", settings=Settings, build=build, capabilities=Doors.capabilities)
