"""What two people have agreed to, and what was proposed: the fold of the stream "policy" (I9).

Texts come before what refers to them, in parts. What lies on disk is only a wish; what is in force is read from here.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from muniment.core.errors import IntegrityError
from muniment.core.events import (
    ChangeProposed,
    ChangeRefused,
    PolicyAdopted,
    PolicyFile,
    PolicyTextRecorded,
    SettingsAdopted,
)
from muniment.core.identity import IdentityId
from muniment.core.ticket import Recorded
from muniment.policy.loading import SCHEMA
from muniment.store.events import SqlStore

POLICY_STREAM = "policy"
#: seconds for which another process may still go by what was in force before
LOOK_EVERY = 0.1

Files: TypeAlias = Mapping[str, str]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One proposal, and what became of it."""

    id: str
    status: Literal["proposed", "adopted", "refused"]
    base: str | None
    policy: str
    files: dict[str, str]
    settings: dict[str, str]
    replaces: dict[str, str]  # the settings that were in force when it was proposed
    reason: str  # commitment
    proposed_by: IdentityId
    proposed_at: str
    decided_by: IdentityId | None = None
    decided_at: str | None = None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What is in force, and what was proposed."""

    version: int = 0
    policy: str | None = None  # digest; null before the first set
    files: dict[str, str] = {}
    settings: dict[str, str] | None = None
    change: str | None = None  # that put the policies in force
    proposed_by: IdentityId | None = None
    changes: dict[str, Change] = {}
    texts: dict[str, str] = {}  # every text on record, by its SHA-256
    sets: dict[str, dict[str, str]] = {}  # every policy set that ever held, by its digest


def standing(entries: Iterable[Recorded]) -> Standing:
    """Fold the stream. Raises `IntegrityError` when a text that is referred to was never recorded whole."""
    state = Standing(texts={})
    parts: dict[str, list[str]] = {}
    for recorded in entries:
        state = replace(_folded(state, recorded, parts), version=recorded.seq + 1)
    return state


def _folded(s: Standing, recorded: Recorded, parts: dict[str, list[str]]) -> Standing:
    match recorded.event:
        case PolicyTextRecorded() as event:
            if event.part == 0:
                parts[event.sha256] = []
            parts[event.sha256].append(event.text)
            if event.part + 1 == event.parts:
                s.texts[event.sha256] = "".join(parts.pop(event.sha256))
            return s
        case ChangeProposed() as event:
            change = Change(
                id=event.change, status="proposed", base=event.base, policy=event.policy, files=_whole(s, event.files),
                settings=_whole(s, event.settings), replaces=s.settings or {}, reason=event.reason,
                proposed_by=recorded.actor, proposed_at=recorded.at,
            )  # fmt: skip
            return replace(s, changes={**s.changes, change.id: change})
        case ChangeRefused() as event:
            return _decided(s, event.change, "refused", recorded)
        case PolicyAdopted() as event:
            files = _whole(s, event.files)
            known = replace(s, sets={**s.sets, event.digest: files})
            after = known if _of_a_trial(s, event, files) else replace(
                known, policy=event.digest, files=files, change=event.change or None,
                proposed_by=event.proposed_by or None,
            )  # fmt: skip
            return _decided(after, event.change or None, "adopted", recorded)
        case SettingsAdopted() as event:
            return _decided(
                replace(s, settings=_whole(s, event.settings)), event.change or None, "adopted", recorded
            )
        case _:
            return s


def _of_a_trial(s: Standing, event: PolicyAdopted, files: Files) -> bool:
    """Whether nobody agreed to it although it takes two by then: such a set held in that trial, and never since.

    Settings are on record from the first command on that ran outside of a trial. Whatever came before is the first set.
    """
    return s.settings is not None and not event.change and without_schema(files) != without_schema(s.files)


def without_schema(files: Files) -> dict[str, str]:
    """The policies alone: the schema is part of the program."""
    return {name: text for name, text in files.items() if name != SCHEMA}


def _decided(
    s: Standing, change: str | None, status: Literal["adopted", "refused"], recorded: Recorded
) -> Standing:
    if change not in s.changes or s.changes[change].status != "proposed":
        return s
    after = replace(s.changes[change], status=status, decided_by=recorded.actor, decided_at=recorded.at)
    return replace(s, changes={**s.changes, after.id: after})


def _whole(s: Standing, files: Iterable[PolicyFile]) -> dict[str, str]:
    found = {file.name: s.texts.get(file.sha256, "") for file in files}
    for file in files:
        if sha256(found[file.name]) != file.sha256:
            raise IntegrityError(
                f"the recorded parts of {file.name} are not the file", remedy="Run `muniment ledger verify`."
            )
    return found


def current(store: SqlStore) -> Standing:
    """What is in force now."""
    return standing(store.entries(POLICY_STREAM))


class Adopted:
    """What is in force, read again when the stream has grown. Safe for several threads."""

    def __init__(self, store: SqlStore) -> None:
        """Nothing is read before it is asked for."""
        self._store = store
        self._lock = Lock()
        self._state: Standing | None = None
        self._looked = 0.0  # on the monotonic clock

    def now(self) -> Standing:
        """The standing as of now, or a moment ago: one row is looked at, and more only when something changed."""
        state, moment = self._state, time.monotonic()
        if state is not None and moment - self._looked < LOOK_EVERY:
            return state
        version = self._store.version(POLICY_STREAM)  # of the entries: a read model could be put back (I11)
        with self._lock:
            if self._state is None or self._state.version != version:
                self._state = current(self._store)
            self._looked = moment
            return self._state

    def look_again(self) -> None:
        """Something was adopted here: the next answer is the new one."""
        self._looked = 0.0


def sha256(text: str) -> str:
    """Hex, over the UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()
