"""Witnesses over HTTP: ours (`muniment witness serve`), and any other that speaks C2SP tlog-witness.

A witness is asked to cosign with the size that it is thought to have seen. If it has seen another, it says which, and
is asked again with the proof from there. If it will not sign, its own copy of our checkpoint is fetched: that is signed
by our key, so it is evidence, where a number that somebody answers is not.

Source: c2sp.org/tlog-witness v1.0.0.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence

import msgspec

from muniment.core.errors import Misconfigured, MunimentError, Unavailable, WitnessRefused, WitnessUnavailable
from muniment.ledger.checkpoint import Checkpoint, with_lines
from muniment.ledger.cosignature import cosignatures
from muniment.ledger.errors import BadKey, LedgerFault
from muniment.ledger.note import MAX_NOTE, Verifier, parse_note
from muniment.ledger.signatures import TIMED
from muniment.ledger.trust import NONE
from muniment.ledger.wire import write_base64
from muniment.outbound import Answer, Http, split_url
from muniment.ports import Cosigned, Objection

#: seconds that a witness has for one answer
TIMEOUT = 5.0
#: name of the group of all witnesses in the trust file that we propose
GROUP = "witnesses"

#: witnesses at most: a checkpoint holds a line of each, and notes have a largest size that others keep, too
MAX_WITNESSES = 16
#: it says which size it has seen; that may change while we prove, since another node of ours asks it too
_ATTEMPTS = 3
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n")


class HttpWitness(msgspec.Struct, frozen=True, kw_only=True):
    """`ports.Witness` at a URL."""

    verifier: Verifier
    url: str  # the submission prefix
    monitoring: str  # where it shows what it has seen; mostly the same
    http: Http

    @property
    def name(self) -> str:
        """The key name it signs under."""
        return self.verifier.name

    def cosign(self, note: str, seen: int, proof: Callable[[int], list[bytes]]) -> Cosigned | Objection:
        """See `ports.Witness`."""
        head = Checkpoint.parse(parse_note(note).text)
        old = min(seen, head.size)
        for _ in range(_ATTEMPTS):
            hashes = proof(old) if 0 < old < head.size else []
            answer = self._submit(old, hashes, note)
            if answer.status == 200:
                return self._cosigned(note, answer.body)
            if answer.status == 409:
                was, old = old, self._size(answer)
                if old > head.size:
                    return self._objection(head.origin, f"it has seen {old} entries of this ledger")
                if old == was:
                    raise self._refused(
                        f"answers that it has seen {old} entries, and refuses a proof from there"
                    )
                continue
            if answer.status == 422:
                return self._objection(head.origin, "what it has seen is no part of what it was shown")
            raise self._no(answer, head.origin)
        raise WitnessUnavailable(
            f"the witness {self.name} has seen another size each time it was asked",
            remedy="Another node asks it at the same time; nothing need be done.",
        )

    def latest(self, origin: str) -> str | None:
        """See `ports.Witness`."""
        url = f"{self.monitoring}/{hashlib.sha256(origin.encode()).hexdigest()}/checkpoint"
        answer = self._asked(lambda: self.http.get(url))
        if answer.status == 404:
            return None
        if answer.status != 200 or len(answer.body) > MAX_NOTE:
            raise self._no(answer, origin)
        return answer.body.decode(errors="replace")

    def _submit(self, old: int, hashes: Sequence[bytes], note: str) -> Answer:
        lines = "".join(f"{write_base64(each)}\n" for each in hashes)
        body = f"old {old}\n{lines}\n{note}".encode()
        url = f"{self.url}/add-checkpoint"
        return self._asked(lambda: self.http.post(url, body, content_type="text/plain; charset=utf-8"))

    def _asked(self, ask: Callable[[], Answer]) -> Answer:
        try:
            return ask()
        except Unavailable as error:
            raise WitnessUnavailable(
                f"the witness {self.name} did not answer: {error.message}", remedy=error.remedy
            ) from error

    def _cosigned(self, note: str, lines: bytes) -> Cosigned:
        """Its own line among those it answered, if it is genuine and says when."""
        try:
            merged = with_lines(note, lines.decode())
            (found,) = cosignatures(merged, [self.verifier])
        except (LedgerFault, ValueError) as fault:
            raise self._refused(f"answered no cosignature by the key that is configured: {fault}") from fault
        if not found.time:
            raise self._refused("cosigned without saying when")
        ident = (self.verifier.name, self.verifier.key_id)
        line = next(s for s in parse_note(merged).signatures if (s.name, s.key_id) == ident)
        return Cosigned(key_id=found.key_id.hex(), time=found.time, line=line.line())

    def _size(self, answer: Answer) -> int:
        size = _SIZE.fullmatch(answer.body)
        if answer.content_type != "text/x.tlog.size" or size is None:
            raise self._refused("answered 409 without the size that it has seen")
        return int(size[1])

    def _objection(self, origin: str, message: str) -> Objection:
        try:
            note = self.latest(origin)
        except MunimentError:
            note = None
        return Objection(message=message, note=note)

    def _no(self, answer: Answer, origin: str) -> MunimentError:
        said = answer.body[:200].decode(errors="replace").strip()
        if answer.status == 404:
            return self._refused(
                f"does not know the ledger {origin}",
                remedy="Give its operator this ledger's vkey, from `muniment ledger checkpoint --json`.",
                code="witness.unknown-ledger",
            )
        if answer.status == 403:
            return self._refused(
                "does not accept the key that signs this ledger",
                remedy="Give its operator this ledger's vkey, from `muniment ledger checkpoint --json`.",
                code="witness.unknown-key",
            )
        if answer.status in {408, 429} or answer.status >= 500:
            return WitnessUnavailable(
                f"the witness {self.name} answered {answer.status}: {said!r:.120}",
                remedy="It is asked again by itself.",
            )
        return self._refused(f"answered {answer.status}: {said!r:.120}")

    def _refused(self, what: str, *, remedy: str = "", code: str | None = None) -> WitnessRefused:
        return WitnessRefused(
            f"the witness {self.name} {what}",
            remedy=remedy or "Compare its vkey and URL in [ledger] witnesses with what its operator says.",
            code=code,
        )


def read_witnesses(lines: Sequence[str], http: Http) -> tuple[HttpWitness, ...]:
    """Those that ``[ledger] witnesses`` names: ``<vkey> <URL>``, and where it differs the URL of its monitoring.

    Raises:
        Misconfigured: a line is no such thing, or two name one witness.
    """
    if len(lines) > MAX_WITNESSES:
        raise _misconfigured(
            lines[MAX_WITNESSES], f"there are {len(lines)}, and {MAX_WITNESSES} are the most"
        )
    found: dict[str, HttpWitness] = {}
    for line in lines:
        words = line.split()
        if len(words) not in {2, 3}:
            raise _misconfigured(line, "it is not a vkey and a URL")
        try:
            verifier = Verifier.from_vkey(words[0])
        except BadKey as fault:
            raise _misconfigured(line, str(fault)) from fault
        if verifier.kind not in TIMED:
            raise _misconfigured(line, "its key is a ledger's, not a witness's")
        if verifier.name in found or verifier.name in {GROUP, NONE}:
            raise _misconfigured(line, f"the name {verifier.name} is taken")
        url, monitoring = (each.rstrip("/") for each in (words[1], words[-1]))
        split_url(url), split_url(monitoring)
        found[verifier.name] = HttpWitness(verifier=verifier, url=url, monitoring=monitoring, http=http)
    return tuple(found.values())


def _misconfigured(line: str, why: str) -> Misconfigured:
    return Misconfigured(
        f"[ledger] witnesses: {line!r:.100}: {why}",
        remedy='Write "<vkey> <URL>" for each; `muniment witness show` prints its vkey.',
        code="config.witness",
    )
