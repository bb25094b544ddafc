"""What `muniment connector test doors` tries it on: the file, asked and changed past the connector."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from doors import Doors, put

from muniment.conformance import Harness
from muniment.core.scope import Privilege, Scope, scope


class House(Harness):
    version = "doors 1"
    accounts = ("ann", "ben")
    privileges = (Privilege(privilege="cellar"), Privilege(privilege="vault"))

    def __init__(self, file: Path) -> None:
        self.file, self.connector = file, Doors(file)

    def everything(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = json.loads(self.file.read_text())
        return found

    def holds(self, account: str) -> Scope:
        return scope(Privilege(privilege=door) for door in self.everything().get(account, []))

    def hold(self, account: str, privilege: Privilege) -> None:
        held = self.everything()
        self._write(held | {account: sorted({*held.get(account, []), privilege.privilege})})

    def take(self, account: str, privilege: Privilege) -> None:
        held = {
            a: [d for d in doors if (a, d) != (account, privilege.privilege)]
            for a, doors in self.everything().items()
        }
        self._write({a: doors for a, doors in held.items() if doors})

    @contextmanager
    def outage(self, kind: str) -> Iterator[None]:
        aside = self.file.rename(self.file.with_suffix(".away"))
        yield
        aside.rename(self.file)

    def _write(self, held: dict[str, list[str]]) -> None:
        put(self.file, held)


class Houses:
    version = "doors 1"

    @contextmanager
    def harness(self) -> Iterator[House]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "doors.json"
            file.write_text("{}")
            yield House(file)


@contextmanager
def ground() -> Iterator[Houses]:
    yield Houses()


GROUNDS = {"doors": ground}
