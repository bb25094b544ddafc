"""Keys of a log in their time: what an auditor is told whose key no longer signs, and which checkpoints are refused."""

from __future__ import annotations

import pytest

from muniment.evidence.succession import KeyEvent, explained, misused
from muniment.ledger.checkpoint import Checkpoint, sign_checkpoint
from muniment.ledger.keys import ml_dsa_from_seed, signer_from_seed
from muniment.ledger.trust import Trusted, TrustPolicy

ORIGIN = "ledger.example.org/keys"
OLD, NEW, THIEF = (signer_from_seed(ORIGIN, bytes([n]) * 32) for n in (1, 2, 3))
SECOND = ml_dsa_from_seed(ORIGIN, b"\x04" * 32)
AT = "2026-11-23T10:00:00.000000Z"


def name(signer) -> str:
    return f"{ORIGIN}+{signer.verifier.key_id.hex()}"


def announced(index: int, signer, *beside) -> KeyEvent:
    return KeyEvent(index=index, at=AT, vkey=signer.vkey, others=tuple(b.vkey for b in beside), retired=False)


def retired(index: int, signer) -> KeyEvent:
    return KeyEvent(index=index, at=AT, vkey=signer.vkey, others=(), retired=True)


def head(size: int, *signers) -> Trusted:
    checkpoint = Checkpoint(origin=ORIGIN, size=size, root=bytes(32))
    return Trusted(checkpoint=checkpoint, log_keys=tuple(map(name, signers)), cosigned=(), quorum_met=True)


STORY = [announced(5, NEW, OLD), retired(9, OLD)]


@pytest.mark.parametrize(
    ("heads", "events", "wrong"),
    [
        ([head(3, OLD), head(6, OLD), head(7, OLD, NEW), head(9, OLD, NEW), head(10, NEW)], STORY, None),
        ([head(3, OLD)], [], None),
        ([head(10, NEW), head(11, OLD)], STORY, "which entry 9 retired"),
        ([head(10, OLD, NEW)], STORY, None),
        ([head(9, OLD)], STORY, None),
        ([head(5, OLD, NEW)], STORY, "was announced later, by entry 5"),
        ([head(4, NEW)], STORY, "was announced later, by entry 5"),
        ([head(6, OLD, NEW)], STORY, None),
    ],
    ids=[
        "a rotation as it should be", "no rotation", "the old key alone, after its end", "both, after the end of one",
        "the old key up to its end", "the new key before its announcement", "the new key alone before it",
        "the new key over its announcement",
    ],
)  # fmt: skip
def test_checkpoints_rest_on_keys_in_their_time(heads, events, wrong):
    found = misused(heads, events)
    assert found is None if wrong is None else wrong in found


def note(size: int, *signers) -> str:
    return sign_checkpoint(Checkpoint(origin=ORIGIN, size=size, root=bytes(32)), signers)


def test_an_old_key_is_told_its_successor_and_the_places():
    told = explained(note(12, NEW), TrustPolicy(log=(OLD.verifier,)), [head(3, OLD), head(7, OLD)], STORY)
    assert "until the checkpoint over 7 entries" in told
    assert f"entry 5 of {AT} announces its successor {NEW.vkey}" in told
    assert f"entry 9 of {AT} retired {name(OLD)}" in told


def test_a_key_that_nobody_announced_is_not_made_look_sound():
    for events in ([], [announced(8, THIEF, OLD)], STORY):
        told = explained(note(12, THIEF), TrustPolicy(log=(OLD.verifier,)), [head(7, OLD)], events)
        assert "announced no other key under it" in told
        assert THIEF.vkey not in told


def test_a_new_key_alone_is_told_who_signed_before():
    told = explained(note(3, OLD), TrustPolicy(log=(NEW.verifier,)), [], STORY)
    assert f"before entry 5 of {AT}" in told
    assert name(OLD) in told
    assert explained(note(3, THIEF), TrustPolicy(log=(NEW.verifier,)), [], STORY) == ""


def test_a_key_of_ml_dsa_is_named_without_its_thousands_of_bytes():
    told = explained(
        note(12, SECOND, NEW), TrustPolicy(log=(OLD.verifier,)), [head(7, OLD)], [announced(5, SECOND, OLD)]
    )
    assert f"its successor {name(SECOND)}." in told
    assert len(told) < 600
