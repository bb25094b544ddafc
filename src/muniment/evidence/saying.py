"""What a bundle proves, and what it does not, in sentences: for README.txt and for reports."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping

from muniment.ledger.checkpoint import Checkpoint
from muniment.ledger.note import parse_note
from muniment.ledger.trust import TrustPolicy

OPERATOR_ONLY = "it is operator-signed only, and no witness has confirmed it"

#: what no bundle proves, whoever verifies it
NEVER = (
    "that what was said is true: who approved is as true as the sign-in, and what a target held is what it answered",
    "that everything was recorded: what never came into the ledger is not in it",
    "anything about other tickets",
)

_README = """\
Evidence of ticket {ticket}
{line}

Ledger      {origin}
Checkpoint  {size} entries: what is here is as of it, and says nothing of what came later
Signed by   {signed}

What this is
  Every entry that the ledger holds of this ticket, byte for byte, with a proof that each is in the ledger, and what
  the decisions rested on: the policy in force, the people and the target as they were recorded. Free text is not in
  the entries: texts/ holds it with the random salt that ties it to the entry, or says that it was erased.

How to verify it
  With Muniment, and your own trust file:   muniment evidence verify FILE --trust TRUST
  With bash, coreutils and openssl alone:   unzip FILE, then: bash verify.sh --trust TRUST
  TRUST says whose signatures count. Take your own copy, or get it from somebody whom you believe. The file trust in
  here is the operator's proposal: whoever forged this bundle would have forged it as well. The same goes for
  verify.sh and for this text.

What it proves, if it verifies
  - each entry is in the ledger with this checkpoint, unaltered, at its place
  - the ticket's entries follow each other without a gap from the first
  - the rules were kept: nothing was granted without the approvals that policy demanded, nobody approved for himself,
    access ended no later than was allowed, and was seen to be gone before the ticket was closed (verify.sh does not
    check these rules; Muniment does, and the entries are there to be read)
  - the policy texts and the free texts are those that the entries commit to
  - if witnesses have signed whom you trust: others were shown the same ledger

What it does not prove
  - {tail}
  - that times are true, where no witness or time-stamp bounds them: "at" is the claim of whoever wrote
  - {nevers}
{operator}"""


def readme(ticket: str, files: Mapping[str, bytes]) -> str:
    """README.txt for these files."""
    note = parse_note(files["checkpoint"])
    head = Checkpoint.parse(note.text)
    others = sorted({each.name for each in note.signatures if each.name != head.origin})
    absent = missing(TrustPolicy.parse(files["trust"]), set(others))
    last = max(name for name in files if name.startswith("ticket/") and name.endswith(".entry"))
    return _README.format(
        ticket=ticket,
        line="=" * (len(ticket) + 19),
        origin=head.origin,
        size=head.size,
        signed=", ".join(["the ledger's key", *others])
        + (f"; absent: {', '.join(absent)}, which the operator names as witnesses" if absent else ""),
        tail=_wrapped(tail(ticket, head.size, ended=any(kind in files[last] for kind in _ENDS))),
        nevers="\n  - ".join(map(_wrapped, NEVER)),
        operator="" if others else f"  - that others were shown the same ledger: {OPERATOR_ONLY}\n",
    )


def missing(trust: TrustPolicy, present: Collection[str]) -> list[str]:
    """The witnesses that a trust file names and that are not among those who cosigned."""
    return sorted({each.verifier.name for each in trust.witnesses} - set(present))


def tail(ticket: str, size: int, *, ended: bool) -> str:
    """What is not known about the ticket's end."""
    if ended:
        return f"that nothing was added to {ticket} after its end: nothing may follow it, and a later bundle would show it"
    return (
        f"how {ticket} goes on: it had not ended, and entries after these may have been left out. It is complete as"
        f" of the checkpoint over {size} entries only for somebody who verifies the whole ledger"
    )


def _wrapped(sentence: str) -> str:
    return textwrap.fill(sentence, 110, subsequent_indent="    ", break_long_words=False)


_ENDS = (
    b'"type":"request-closed/1"',
    b'"type":"request-denied/1"',
    b'"type":"request-withdrawn/1"',
    b'"type":"request-lapsed/1"',
)
