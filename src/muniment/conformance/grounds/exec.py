"""`exec`: an example program on a JSON file, which is asked and changed past it."""

from __future__ import annotations

import fcntl
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from muniment.conformance.grounds import exec_example
from muniment.conformance.grounds.servers import TIMEOUT
from muniment.conformance.harness import Ground, Harness, Outage
from muniment.connectors.kinds import build_connector
from muniment.core.scope import Privilege, Scope, scope

EXAMPLE = Path(exec_example.__file__)
SECRET = "correct-horse-battery"  # noqa: S105  of nothing: it must appear nowhere

#: what answers late: the same program, and each of its lines kept for half a minute
_SLOW = """\
import subprocess, sys, time
program = subprocess.Popen([sys.executable, {real!r}], stdout=subprocess.PIPE)
for line in program.stdout:
    time.sleep(30)
    sys.stdout.buffer.write(line)
    sys.stdout.flush()
"""


class DoorsHarness(Harness):
    """A file of its own, and a copy of the program."""

    accounts = ("ann", "Bob Ö")
    privileges = (Privilege(privilege="cellar"), Privilege(privilege="vault"))
    timeout = TIMEOUT
    secrets = (SECRET,)

    def __init__(self, folder: Path) -> None:
        self.file, self.program = folder / "doors.json", folder / "doors.py"
        self.file.write_text("{}")
        shutil.copy(EXAMPLE, self.program)
        self.connector = self.make(timeout="20s")  # a machine that is busy is no outage

    def make(self, **settings: Any) -> Any:
        """The connector of this program."""
        given = {
            "command": [sys.executable, str(self.program)], "timeout": "2s", "options": {"file": str(self.file)},
            "secrets": {"password": "env:DOORS"},
        }  # fmt: skip
        return build_connector(
            "exec", name="doors", settings=given | settings, secret=lambda _: SECRET, path=Path, catalogue=()
        )

    def impatient(self) -> Any:
        """With the short time that outages are waited for."""
        return self.make()

    def everything(self) -> dict[str, list[str]]:
        """The file."""
        found: dict[str, list[str]] = json.loads(self.file.read_text())
        return found

    def holds(self, account: str) -> Scope:
        """From the file."""
        return scope(Privilege(privilege=door) for door in self.everything().get(account, []))

    def hold(self, account: str, privilege: Privilege) -> None:
        """Edit the file."""
        held = self.everything()
        self._write(held | {account: sorted({*held.get(account, []), privilege.privilege})})

    def take(self, account: str, privilege: Privilege) -> None:
        """Edit the file."""
        self._write(
            {
                a: [d for d in doors if (a, d) != (account, privilege.privilege)]
                for a, doors in self.everything().items()
            }
        )

    def delete_account(self, account: str) -> None:
        """Edit the file."""
        self._write({a: doors for a, doors in self.everything().items() if a != account})

    def outage(self, kind: Outage) -> AbstractContextManager[None]:
        """The file is away; or somebody holds its lock; or the program answers late."""
        return {"stopped": self._away, "silent": self._locked, "slow": self._slow}[kind]()

    @contextmanager
    def _away(self) -> Iterator[None]:
        aside = self.file.rename(self.file.with_suffix(".away"))
        yield
        aside.rename(self.file)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self.file.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _slow(self) -> Iterator[None]:
        real = self.program.rename(self.program.with_suffix(".real"))
        self.program.write_text(_SLOW.format(real=str(real)))
        yield
        real.replace(self.program)

    def _write(self, held: dict[str, list[str]]) -> None:
        self.file.write_text(json.dumps({a: doors for a, doors in held.items() if doors}, sort_keys=True))


class Doors:
    """Python, and folders."""

    version = f"the example program, Python {sys.version.split()[0]}"

    @contextmanager
    def harness(self) -> Iterator[Harness]:
        """A folder of its own."""
        with tempfile.TemporaryDirectory(prefix="muniment-exec-") as folder:
            yield DoorsHarness(Path(folder))


@contextmanager
def _ground() -> Iterator[Ground]:
    yield Doors()


GROUNDS = {"exec": _ground}
