"""Identities from one TOML file: `ports.Directory` for those without another, and for tests."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from muniment.core.errors import Invalid, Misconfigured
from muniment.core.identity import Identity, IdentityId, parse_group, parse_identity
from muniment.directory.parsing import People, parse, recorded

MAX_FILE = 64 << 20
#: a file changed this shortly before it was read may have changed again without another time stamp
_SETTLED_NS = 2_000_000_000

STARTER = """\
# Who there is. An id is kind:name, with the kinds human, service_account, workload and ai_agent.
# Muniment reads this file again whenever it changes; a broken one changes nothing.

[identities."human:ann@example.com"]
name = "Ann"
groups = ["engineers"]              # what policies speak of; any names you like
manager = "human:bo@example.com"    # nobody decides for their own manager
# aliases = ["human:ann@example.org"]   # other ids of the same person
# active = false                        # has left: asks and decides no more, and approvals that wait are void

[identities."human:bo@example.com"]
name = "Bo"
groups = ["engineers", "on-call"]   # on call: may break the glass

[identities."human:cyd@example.com"]
name = "Cyd"
groups = ["platform"]               # owners of targets approve
roles = ["member", "approver"]

[identities."human:dee@example.com"]
name = "Dee"
groups = ["platform"]
roles = ["member", "approver"]

[identities."human:ops@example.com"]
name = "Ops"
roles = ["member", "operator"]      # runs Muniment; cannot approve by that

[identities."human:aud@example.com"]
name = "Aud"
roles = ["auditor"]                 # reads everything, changes nothing

[identities."service_account:deploy"]
name = "Deployment"
owner = "human:ann@example.com"     # everything that is not a person has somebody who answers for it

# Groups may hold groups:
# [groups.everybody]
# members = ["group:engineers", "group:platform", "human:ops@example.com"]
"""


class Unreadable(Misconfigured):
    """The file is not there, or cannot be read. What it says is not known, which is not the same as being wrong."""

    code = "config.identities"


class _Snapshot(NamedTuple):
    """One version of the content. Replaced as a whole."""

    people: People
    version: str


class FileDirectory:
    """One identities file. Reads go to an immutable snapshot, so several threads may use it while it reloads."""

    def __init__(self, path: Path, elsewhere: Callable[[IdentityId], bool] = lambda _: False) -> None:
        """Read the file. ``elsewhere``: whether another source knows somebody, who may be an owner here then.

        Raises:
            Misconfigured: it cannot be read or used; the message names file and key.
        """
        self._path, self._elsewhere = path, elsewhere
        self._stamp: tuple[int, ...] | None = _stamp(path)
        self._settled = _is_settled(self._stamp)
        content = _read(path)
        self._seen = _digest(content)
        self._snapshot = _load(path, content, elsewhere)
        self._stale = ""

    @classmethod
    def as_recorded(
        cls,
        path: Path,
        identities: Iterable[Identity],
        trouble: Misconfigured,
        elsewhere: Callable[[IdentityId], bool] = lambda _: False,
    ) -> FileDirectory:
        """What was recorded last, for a process that starts while the file cannot be read. Stale until it can be."""
        made = cls.__new__(cls)
        made._elsewhere = elsewhere  # noqa: SLF001  its own
        made._path, made._stamp, made._settled, made._seen = path, _stamp(path), True, ""  # noqa: SLF001  its own
        made._snapshot = _Snapshot(recorded(identities), "recorded")  # noqa: SLF001
        made._stale = trouble.message  # noqa: SLF001
        return made

    @property
    def people(self) -> People:
        """What the file says. Another object with each change."""
        return self._snapshot.people

    @property
    def stale(self) -> str:
        """Why the content may be out of date, in a sentence; empty while the file can be used."""
        return self._stale

    @property
    def version(self) -> str:
        """``sha256:`` over the file's bytes."""
        return self._snapshot.version

    def get(self, identity: IdentityId) -> Identity | None:
        """The identity with this id or alias, in any letter case that means the same, or None."""
        people = self._snapshot.people
        canonical = people.canonical.get(identity)
        if canonical is None:
            try:
                canonical = people.canonical.get(parse_identity(identity))
            except Invalid:
                return None
        return None if canonical is None else people.identities[canonical]

    def members(self, group: str) -> tuple[Identity, ...]:
        """Active identities in the group, nested groups included, sorted by id. An unknown group has none."""
        return self._snapshot.people.members.get(parse_group(group), ())

    def everybody(self) -> Iterable[Identity]:
        """All identities, active or not, sorted by id."""
        return self._snapshot.people.identities.values()

    def reload_if_changed(self) -> bool:
        """Take over a changed file; say whether there was one. Cheap when nothing changed. For one thread at a time.

        Raises:
            Misconfigured: the changed file cannot be used. The old content stays in force, and the same broken file
                is not complained about again.
        """
        stamp = _stamp(self._path)
        if stamp == self._stamp and self._settled:
            return False
        self._stamp, self._settled = stamp, _is_settled(stamp)
        try:
            content = _read(self._path)
        except Misconfigured as error:
            self._settled = True  # said once; whatever mends it changes the stamp
            self._stale = error.message
            raise
        digest = _digest(content)
        if digest == self._snapshot.version:
            self._seen, self._stale = digest, ""
            return False
        if digest == self._seen:
            return False
        self._seen = digest
        try:
            self._snapshot = _load(self._path, content, self._elsewhere)
        except Misconfigured as error:
            self._stale = error.message
            raise
        self._stale = ""
        return True


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)  # noqa: PTH116  the same call on a Path
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)


def _is_settled(stamp: tuple[int, ...] | None) -> bool:
    return stamp is None or time.time_ns() - max(stamp[:2]) > _SETTLED_NS


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _load(path: Path, content: bytes, elsewhere: Callable[[IdentityId], bool]) -> _Snapshot:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise _wrong(f"{path} is not UTF-8 text (at byte {error.start})", "Save it as UTF-8.") from error
    return _Snapshot(parse(text, str(path), elsewhere), _digest(content))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        raise Unreadable(
            f"the identities file {path} cannot be read: {error.strerror}",
            remedy="Check [identities] file in the configuration.",
        ) from error
    if len(content) > MAX_FILE:
        raise _wrong(f"{path} is longer than {MAX_FILE >> 20} MiB", "Use another source of identities.")
    return content


def _wrong(message: str, remedy: str) -> Misconfigured:
    return Misconfigured(message, remedy=remedy, code="config.identities")
