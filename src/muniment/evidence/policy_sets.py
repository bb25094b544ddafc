"""Policy sets, and the changes of them, as the ledger holds them: file by file, in parts, proposed, then adopted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from muniment.core.events import (
    ChangeProposed,
    ChangeRefused,
    Event,
    PolicyAdopted,
    PolicyFile,
    PolicyTextRecorded,
    SettingsAdopted,
)
from muniment.core.identity import SYSTEM, is_human

#: how the name of the schema ends: it is the program's, and changes with its version
_SCHEMA = ".cedarschema"


class PolicySets:
    """The stream of policies, one event after the other. Each method says which rule an event breaks."""

    def __init__(self) -> None:
        """Begin with nothing on record."""
        self.adopted: dict[str, int] = {}  # digest to the index of the entry that put it in force first
        self._parts: dict[str, list[str]] = {}
        self._files: dict[str, str] = {}
        self._proposed: dict[str, tuple[ChangeProposed, str]] = {}  # with who proposed it
        self._agreed: set[str] = set()
        self._refused: set[str] = set()

    def take(self, event: Event, index: int, actor: str) -> str | None:
        """Judge one event. None if it breaks no rule, or is of another stream."""
        match event:
            case PolicyTextRecorded():
                return self._part(event)
            case PolicyAdopted():
                return self._adopt(event, index) or self._two_people(event, actor)
            case SettingsAdopted():
                return self._recorded(event.settings) or self._two_people(event, actor)
            case ChangeProposed():
                self._proposed[event.change] = event, actor
            case ChangeRefused():
                self._refused.add(event.change)
        return None

    def _two_people(self, event: PolicyAdopted | SettingsAdopted, actor: str) -> str | None:  # noqa: PLR0911  each return is one rule
        """What is said to be agreed to was proposed by one person, just so, and adopted by another (I9)."""
        if not event.change:
            return None
        proposal, proposer = self._proposed.get(event.change, (None, ""))
        if proposal is None:
            return "two people are said to have agreed to it, and nobody proposed it before"
        if event.proposed_by != proposer:
            return f"{proposer} proposed it, and not {event.proposed_by}"
        if isinstance(event, PolicyAdopted):
            files, wanted = event.files, proposal.files
        else:
            files, wanted = event.settings, proposal.settings
        # under the schema of another version, the program adopts them again
        if actor == SYSTEM and isinstance(event, PolicyAdopted) and event.change in self._agreed:
            files, wanted = _but_schema(files), _but_schema(wanted)
        elif event.change in self._refused:
            return "it was refused before"
        elif actor == proposer or not (is_human(actor) and is_human(proposer)):
            return f"{proposer} proposed it and {actor} adopted it: it takes two people"
        if files != wanted:
            return "it says other things than what was proposed"
        self._agreed.add(event.change)
        return None

    def _recorded(self, files: Iterable[PolicyFile]) -> str | None:
        absent = next((file.name for file in files if file.sha256 not in self._files), None)
        return None if absent is None else f"the text of {absent!r:.60} was not recorded before"

    def _part(self, event: PolicyTextRecorded) -> str | None:
        if event.part == 0:
            self._parts[event.sha256] = []
        parts = self._parts.get(event.sha256, [])
        if event.part != len(parts) or not event.part < event.parts:
            return f"part {event.part} of {event.parts} of {event.name!r:.60} is out of order"
        parts.append(event.text)
        if len(parts) < event.parts:
            return None
        text = "".join(self._parts.pop(event.sha256))
        if hashlib.sha256(text.encode()).hexdigest() != event.sha256:
            return f"the recorded parts of {event.name!r:.60} are not the file with its digest"
        self._files[event.sha256] = text
        return None

    def _adopt(self, event: PolicyAdopted, index: int) -> str | None:
        if absent := self._recorded(event.files):
            return absent
        if digest_of({file.name: self._files[file.sha256] for file in event.files}) != event.digest:
            return "its digest is not that of its files"
        self.adopted.setdefault(event.digest, index)
        return None


def digest_of(files: dict[str, str]) -> str:
    """The digest of a policy set, over names and texts of its files. The same as `policy.loading` computes."""
    content = json.dumps(sorted(files.items()), ensure_ascii=False, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(content.encode()).hexdigest()


def _but_schema(files: Iterable[PolicyFile]) -> tuple[PolicyFile, ...]:
    return tuple(file for file in files if not file.name.endswith(_SCHEMA))
