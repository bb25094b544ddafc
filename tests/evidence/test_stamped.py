"""V5 by time-stamps alone (RFC 3161): damage to stamps and to claimed times, each caught and named.

The authority is openssl's, so its time is this machine's, and so are the entries'. Whether a stamp is genuine is asked
of ``openssl ts -verify`` as well.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest

from evidence.bundles import TRUST
from evidence.published import Ledger, seconds
from muniment.anchors.timestamps import stamp_check
from muniment.core.instants import wire
from muniment.ledger.canonical import encode
from muniment.ledger.note import parse_note
from muniment.service.verifying import verify_directory
from timestamping import make_authority, stamped

SIZE = 6
STAMPED = 3  # the checkpoint that has a stamp, beside the newest
TSR = f"stamps/{STAMPED}.0.tsr"


class Authorities(NamedTuple):
    mine: Path
    other: Path


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Authorities:
    return Authorities(*(make_authority(tmp_path_factory.mktemp(name)) for name in ("mine", "other")))


def entries(late: dict[int, timedelta]) -> list[bytes]:
    """Small facts of this minute; some are dated otherwise."""
    now = datetime.now(UTC)
    return [
        encode({
            "actor": {"id": "system:muniment", "via": "controller"}, "at": wire(now + late.get(at, timedelta())),
            "data": {"target": f"t{at}"}, "log": TRUST.log[0].name, "prev": None, "seq": 0,
            "ticket": f"target:t{at}", "type": "target-retired/1", "v": 1,
        })
        for at in range(SIZE)
    ]  # fmt: skip


def ledger(authorities: Authorities, late: dict[int, timedelta]) -> Ledger:
    made = entries(late)
    found = Ledger(made, [seconds(made[0])] * (SIZE + 1), trust=TRUST)
    found.publish()
    for size in (STAMPED, SIZE):
        found.files[f"checkpoints/{size}"] = found.note(size).encode()
        text = parse_note(found.note(size)).text
        found.files[f"stamps/{size}.0.tsr"] = stamped(authorities.mine, text)
    return found


Change = Callable[[Ledger, Authorities], None]


def token(change: Callable[[bytes], bytes]) -> Change:
    def damage(ledger: Ledger, _: Authorities) -> None:
        ledger.files[TSR] = change(ledger.files[TSR])

    return damage


def made_by(which: str, text: Callable[[Ledger], str]) -> Change:
    def damage(ledger: Ledger, authorities: Authorities) -> None:
        ledger.files[TSR] = stamped(getattr(authorities, which), text(ledger))

    return damage


def the_text(ledger: Ledger) -> str:
    return parse_note(ledger.note(STAMPED)).text


def moved(ledger: Ledger, _: Authorities) -> None:
    ledger.files[TSR] = ledger.files[f"stamps/{SIZE}.0.tsr"]


DAMAGED_STAMPS: dict[str, Change] = {
    "of another text": made_by("mine", lambda _: "something else\n"),
    "of the note, not of its text": made_by("mine", lambda ledger: ledger.note(STAMPED)),
    "by an authority that nobody named": made_by("other", the_text),
    "of another checkpoint": moved,
    "cut off": token(lambda t: t[:-20]),
    "0 bytes": token(lambda _: b""),
    "a bit of its signature": token(lambda t: t[:-3] + bytes([t[-3] ^ 1]) + t[-2:]),
    "a bit of its digest": token(lambda t: t.replace(digest := t[(at := t.index(b"\x04\x20")) + 2 : at + 34], bytes([digest[0] ^ 1]) + digest[1:])),
    "no stamp at all": token(lambda _: b"\x30\x03\x02\x01\x02"),
}  # fmt: skip
FALSE_TIMES: dict[str, tuple[dict[int, timedelta], str]] = {
    "later than it was stamped": ({1: timedelta(hours=2)}, "leaf 1"),
    "later than the newest stamp": ({5: timedelta(hours=2)}, "leaf 5"),
    "before it was there": ({4: -timedelta(hours=2)}, "leaf 4"),
}


def v5(folder: Path, ledger: Ledger, authorities: Authorities) -> dict[str, str | None]:
    check = stamp_check((authorities.mine / "ca.pem").read_bytes())
    levels = verify_directory(ledger.write(folder), TRUST, stamp=check)["levels"]
    return {name: level["first_fault"] for name, level in levels.items()}


def genuine(ledger: Ledger, authorities: Authorities, folder: Path) -> bool:
    """Whether openssl holds the stamp for one of the checkpoint's text."""
    (folder / "tsr").write_bytes(ledger.files[TSR])
    digest = sha256(the_text(ledger).encode()).hexdigest()
    words = ("ts", "-verify", "-digest", digest, "-in", "tsr", "-CAfile", authorities.mine / "ca.pem")
    return (
        subprocess.run(["openssl", *map(str, words)], cwd=folder, capture_output=True, check=False).returncode
        == 0
    )


def test_true_times_hold(authorities: Authorities, tmp_path: Path) -> None:
    sound = ledger(authorities, {})
    assert set(v5(tmp_path / "ledger", sound, authorities).values()) == {None}
    assert genuine(sound, authorities, tmp_path)
    unasked = verify_directory(tmp_path / "ledger", TRUST)
    assert unasked["levels"]["V5"]["checked"] == 0
    assert "2 time-stamps were not checked" in unasked["says"]


@pytest.mark.parametrize("name", DAMAGED_STAMPS)
def test_a_damaged_stamp_is_named(authorities: Authorities, tmp_path: Path, name: str) -> None:
    damaged = ledger(authorities, {})
    DAMAGED_STAMPS[name](damaged, authorities)
    found = v5(tmp_path / "ledger", damaged, authorities)
    assert [level for level, fault in found.items() if fault] == ["V5"]
    assert str(found["V5"]).startswith(f"{TSR}: ")
    assert str(found["V5"]).isprintable()
    assert not genuine(damaged, authorities, tmp_path)


@pytest.mark.parametrize("name", FALSE_TIMES)
def test_a_false_time_is_named(authorities: Authorities, tmp_path: Path, name: str) -> None:
    late, where = FALSE_TIMES[name]
    damaged = ledger(authorities, late)
    assert json.loads(damaged.entries[next(iter(late))])["seq"] == 0
    found = v5(tmp_path / "ledger", damaged, authorities)
    assert [level for level, fault in found.items() if fault] == ["V5"]
    assert where in str(found["V5"])
    assert "stamped by" in str(found["V5"])
    assert genuine(damaged, authorities, tmp_path)
