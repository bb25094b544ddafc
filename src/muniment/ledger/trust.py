"""The trust file: which logs and witnesses one believes, and how many witnesses are enough.

One statement a line: ``log <vkey> [url]``, ``witness <name> <vkey> [url]``, ``group <name> <k|any|all> <member>…``,
``quorum <name|none>``. Words part at spaces and tabs; lines that begin with ``#`` and empty ones say nothing. A
name is defined above the line that uses it, so groups cannot go in circles.

A checkpoint is believed if a key of its own log signed it and the quorum cosigned it. Several ``log`` lines may name
one log, as while its key is being changed: any one of them is enough. ``quorum none`` asks for no witness: what is
believed then is the operator's word alone.

Beyond the specification, so that no key counts twice and no log vouches for itself, we refuse one Ed25519 key under
two names, two Ed25519 keys under one witness's name, and a log's key as a witness's. A cosignature without a time is
none of a witness, and does not count. What has no UTF-8 may stand in comments alone.

The file is the auditor's own. One that came with the evidence is the operator's proposal, and proves nothing.

Source: c2sp.org/tlog-policy.
"""

from __future__ import annotations

import re

import msgspec

from muniment.ledger.cosignature import Cosigned
from muniment.ledger.errors import BadKey, BadTrust, WrongKey, WrongOrigin
from muniment.ledger.head import Checkpoint
from muniment.ledger.note import Signature, Verifier, open_note
from muniment.ledger.signatures import ED25519, ED25519_COSIGNATURE, ML_DSA_44

#: the quorum that asks for nobody
NONE = "none"
#: bytes of a trust file at most
MAX_POLICY = 256 * 1024
#: logs, witnesses and groups at most, of each; the specification wants 32 accepted
MAX_DEFINED = 64

_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_GAP = re.compile("[ \t]+")
_COUNT = re.compile("[1-9][0-9]{0,3}")
_LOG_KINDS = (ED25519, ML_DSA_44)
_WITNESS_KINDS = (ED25519_COSIGNATURE, ML_DSA_44)


class Witness(msgspec.Struct, frozen=True, kw_only=True):
    """A cosigner, under the name that the rest of the file uses."""

    name: str
    verifier: Verifier  # of type 0x04 or 0x06; its key name may be another
    url: str | None = None  # where checkpoints are submitted, as written


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """So many of these: counts as having cosigned if ``threshold`` of its members have."""

    name: str
    threshold: int  # 1 to the number of members
    members: tuple[str, ...]  # names of witnesses and groups defined before


class Trusted(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy says of one checkpoint. Believe it if ``quorum_met``."""

    checkpoint: Checkpoint
    log_keys: tuple[
        str, ...
    ]  # of its log, those that signed: "<name>+<key id in hex>", the first part of a vkey
    cosigned: tuple[Cosigned, ...]  # by known witnesses, in the order of the lines
    quorum_met: bool  # always so if the policy asks for no witness


class TrustPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """A trust file, read. One made by hand is checked by `render`."""

    log: tuple[Verifier, ...] = ()  # of types 0x01 and 0x06, several for one log while its key changes
    log_urls: tuple[str | None, ...] = ()  # as written, one for each of `log`; may be left out
    witnesses: tuple[Witness, ...] = ()
    groups: tuple[Group, ...] = ()  # in the order in which they are defined
    quorum: str = NONE  # name of a witness or group

    @property
    def operator_only(self) -> bool:
        """Whether no witness is asked for, so that the log's operator is believed alone."""
        return self.quorum == NONE

    @classmethod
    def parse(cls, text: str | bytes) -> TrustPolicy:
        """Read a trust file.

        Raises:
            BadTrust: names the line that is not as the format wants it, or says that there is no quorum.
        """
        if len(text) > MAX_POLICY:
            raise BadTrust(f"the trust file is longer than {MAX_POLICY} bytes")
        if isinstance(text, bytes):
            text = text.decode(errors="surrogateescape")
        reader = _Reader()
        *lines, rest = text.split("\n")
        for at, line in enumerate(lines, start=1):
            try:
                reader.take(line)
            except (BadTrust, BadKey) as fault:
                raise BadTrust(f"line {at} of the trust file: {fault}") from None
        if rest:
            raise BadTrust(
                f"line {len(lines) + 1} of the trust file does not end in a newline: it may be cut off"
            )
        return reader.policy()

    def render(self) -> str:
        """The trust file, without comments: logs, witnesses, groups, quorum.

        Raises:
            BadTrust: the policy is none that a trust file can hold.
        """
        urls = self.log_urls or (None,) * len(self.log)
        if len(urls) != len(self.log):
            raise BadTrust(f"the trust file has {len(self.log)} logs and {len(urls)} addresses of logs")
        lines = [_line("log", key.vkey, url) for key, url in zip(self.log, urls, strict=True)]
        lines += [_line("witness", each.name, each.verifier.vkey, each.url) for each in self.witnesses]
        for group in self.groups:
            count = "all" if group.threshold == len(group.members) else str(group.threshold)
            lines.append(_line("group", group.name, "any" if count == "1" else count, *group.members))
        text = "".join([*lines, _line("quorum", self.quorum)])
        again = TrustPolicy.parse(text)
        if msgspec.structs.replace(again, log_urls=urls) != msgspec.structs.replace(self, log_urls=urls):
            raise BadTrust("the policy holds something that a trust file cannot say")
        return text

    def judge(self, note: str | bytes) -> Trusted:
        """Verify every line of a checkpoint by a key named here, and count the witnesses.

        Whether the quorum is met is in the answer, and for the caller to act upon.

        Raises:
            BadNote: it is not a note.
            BadSignature: a line by a key named here does not verify. The whole note is refused.
            BadCheckpoint: the text is not a checkpoint.
            WrongOrigin: it is a checkpoint of a log that is not named here.
            WrongKey: no key of its log that is named here has signed it.
        """
        opened = open_note(note, [*self.log, *(each.verifier for each in self.witnesses)])
        checkpoint = Checkpoint.parse(opened.text)
        origins = {key.name for key in self.log}
        if checkpoint.origin not in origins:
            trusted = ", ".join(sorted(origins)) or "no log"
            raise WrongOrigin(f"it is a checkpoint of {checkpoint.origin!r:.80}; we trust {trusted:.200}")
        own = {_ident(key) for key in self.log if key.name == checkpoint.origin}
        signed = dict.fromkeys(_ident(line) for line in opened.signatures if _ident(line) in own)
        if not signed:
            raise WrongKey(
                f"no key that we trust of the log {checkpoint.origin!r:.80} has signed its checkpoint"
            )
        cosigned, present = self._cosigned(opened.signatures)
        return Trusted(
            checkpoint=checkpoint,
            log_keys=tuple(f"{name}+{ident.hex()}" for name, ident in signed),
            cosigned=cosigned,
            quorum_met=self.quorum_met(present),
        )

    def quorum_met(self, present: set[str]) -> bool:
        """Whether cosignatures by the witnesses of these names are enough."""
        met = set(present)
        for group in self.groups:  # members come before their group
            if sum(member in met for member in group.members) >= group.threshold:
                met.add(group.name)
        return self.operator_only or self.quorum in met

    def _cosigned(self, lines: tuple[Signature, ...]) -> tuple[tuple[Cosigned, ...], set[str]]:
        """Verified lines by witnesses, and the names of those who count."""
        known = {_ident(each.verifier): each for each in self.witnesses}
        found, present = [], set()
        for line in lines:
            witness = known.get(_ident(line))
            if witness is None:
                continue
            time = witness.verifier.time(line.signature) or 0
            found.append(Cosigned(name=line.name, key_id=line.key_id, time=time))
            if time:
                present.add(witness.name)
        return tuple(found), present


class _Reader:
    """Takes the lines in order; what a line may say depends on those above it."""

    def __init__(self) -> None:
        self.logs: list[tuple[Verifier, str | None]] = []
        self.witnesses: list[Witness] = []
        self.groups: list[Group] = []
        self.quorum: str | None = None
        self.names: set[str] = set()  # defined
        self.placed: dict[str, str] = {}  # member: its group
        self.keys: dict[bytes, str] = {}  # public key: who has it

    def take(self, line: str) -> None:
        if control := _FORBIDDEN.search(line):
            raise BadTrust(f"it has the control character U+{ord(control[0]):04X}")
        line = line.strip(" \t")
        if not line or line.startswith("#"):
            return
        if _SURROGATE.search(line):
            raise BadTrust("it is not UTF-8")
        what, *words = _GAP.split(line)
        take = {"log": self._log, "witness": self._witness, "group": self._group, "quorum": self._quorum}.get(
            what
        )
        if take is None:
            raise BadTrust(f"{what!r:.60} is none of log, witness, group and quorum")
        take(words)

    def policy(self) -> TrustPolicy:
        if self.quorum is None:
            raise BadTrust("the trust file has no quorum line; without witnesses it says: quorum none")
        return TrustPolicy(
            log=tuple(key for key, _ in self.logs),
            log_urls=tuple(url for _, url in self.logs),
            witnesses=tuple(self.witnesses),
            groups=tuple(self.groups),
            quorum=self.quorum,
        )

    def _log(self, words: list[str]) -> None:
        if len(words) not in (1, 2):
            raise BadTrust("a log line is: log <vkey> [<url>]")
        key = Verifier.from_vkey(words[0])
        if key.kind not in _LOG_KINDS:
            raise BadTrust(f"the key of {key.name!r:.60} is a witness's (type 0x{key.kind:02x}), not a log's")
        self._own(key, f"the log {key.name!r:.60}")
        self._room(len(self.logs), "logs")
        self.logs.append((key, words[1] if len(words) > 1 else None))

    def _witness(self, words: list[str]) -> None:
        if len(words) not in (2, 3):
            raise BadTrust("a witness line is: witness <name> <vkey> [<url>]")
        name, key = words[0], Verifier.from_vkey(words[1])
        self._define(name)
        if key.kind not in _WITNESS_KINDS:
            raise BadTrust(f"the key of the witness {name!r:.60} is a log's (type 0x01), not a cosigner's")
        self._own(key, f"the witness {name!r:.60}")
        for each in self.witnesses:
            if each.verifier.name == key.name and each.verifier.kind == key.kind == ED25519_COSIGNATURE:
                raise BadTrust(
                    f"the cosigner {key.name!r:.60} has an Ed25519 key already, that of {each.name!r:.60}"
                )
        self._room(len(self.witnesses), "witnesses")
        self.witnesses.append(Witness(name=name, verifier=key, url=words[2] if len(words) > 2 else None))

    def _group(self, words: list[str]) -> None:
        if len(words) < 3:
            raise BadTrust("a group line is: group <name> <k, any or all> <member>...")
        name, count, *members = words
        for at, member in enumerate(members):
            self._defined(member)
            if member in members[:at]:
                raise BadTrust(f"{member!r:.60} is a member twice")
            if member in self.placed:
                raise BadTrust(f"{member!r:.60} is a member of the group {self.placed[member]!r:.60} already")
        if count in {"any", "all"}:
            threshold = 1 if count == "any" else len(members)
        elif _COUNT.fullmatch(count) and int(count) <= len(members):
            threshold = int(count)
        else:
            raise BadTrust(f"{count!r:.60} is none of any, all and the numbers from 1 to {len(members)}")
        self._define(name)
        self._room(len(self.groups), "groups")
        self.placed |= dict.fromkeys(members, name)
        self.groups.append(Group(name=name, threshold=threshold, members=tuple(members)))

    def _quorum(self, words: list[str]) -> None:
        if len(words) != 1:
            raise BadTrust("a quorum line is: quorum <name of a witness or group, or none>")
        if self.quorum is not None:
            raise BadTrust(f"the quorum is {self.quorum!r:.60} already")
        if words[0] != NONE:
            self._defined(words[0])
        self.quorum = words[0]

    def _define(self, name: str) -> None:
        if name == NONE:
            raise BadTrust(f"{NONE!r} stands for no witness at all and cannot be defined")
        if name in self.names:
            raise BadTrust(f"{name!r:.60} is defined already")
        self.names.add(name)

    def _defined(self, name: str) -> None:
        if name not in self.names:
            raise BadTrust(f"{name!r:.60} is not a witness or group defined above")

    def _own(self, key: Verifier, owner: str) -> None:
        other = self.keys.setdefault(key.key, owner)
        if other is not owner:
            raise BadTrust(f"the public key of {owner} is that of {other} as well")

    def _room(self, count: int, what: str) -> None:
        if count >= MAX_DEFINED:
            raise BadTrust(f"there are more than {MAX_DEFINED} {what}")


def _ident(key: Verifier | Signature) -> tuple[str, bytes]:
    return key.name, key.key_id


def _line(*words: str | None) -> str:
    return " ".join(word for word in words if word is not None) + "\n"
