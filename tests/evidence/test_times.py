"""V5: claimed times against independent ones, from both sides, and what a late or lone anchor says."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from evidence.conftest import Archive
from evidence.office import altered, places
from muniment.core.instants import wire
from muniment.evidence.times import SKEW, Anchor, TimeBounds, combine_times
from muniment.ledger.entry import Actor, Entry, decode_entry
from muniment.ledger.verify import Level

NOON = datetime.fromisoformat("2026-11-23T12:00:00Z")


def seconds(minutes: float) -> int:
    return int((NOON + timedelta(minutes=minutes)).timestamp())


def at(size: int, minutes: float, source: str = "cosigned by w") -> Anchor:
    return Anchor(size=size, time=seconds(minutes), source=source)


def entry(minutes: float, *, ticket: str = "req_1", kind: str = "use-observed/1") -> Entry:
    return Entry(
        log="ledger.example.org/x", ticket=ticket, seq=0, prev=None, type=kind, actor=Actor(id="a", via="b"),
        at=wire(NOON + timedelta(minutes=minutes)), data=b"{}",
    )  # fmt: skip


def fed(bounds: TimeBounds, *entries: tuple[int, Entry]) -> Level:
    for index, each in entries:
        bounds.feed(index, b"", each)
    return bounds.result()


# checkpoints of 10, 20 and 30 entries, seen at noon, half past and at one
ANCHORS = (at(10, 0), at(20, 30), at(30, 60))


@pytest.mark.parametrize(
    ("index", "minutes", "fault"),
    [
        (0, -9999, None),  # nothing is known to be before it
        (0, 5, None),
        (
            0,
            5.001,
            "was there already in the checkpoint of 10 entries that was cosigned by w at 2026-11-23T12:00:00",
        ),
        (9, 0, None),
        (9, 6, "checkpoint of 10 entries"),
        (10, -5, None),
        (10, -5.001, "was not there yet in the checkpoint of 10 entries"),
        (10, 35, None),
        (19, 36, "was there already in the checkpoint of 20 entries"),
        (20, 24, "was not there yet in the checkpoint of 20 entries"),
        (29, 65, None),
        (30, 55, None),
        (30, 54, "was not there yet in the checkpoint of 30 entries"),
        (30, 9999, None),  # nothing covers it yet
    ],
)
def test_each_side(index: int, minutes: float, fault: str | None) -> None:
    level = fed(TimeBounds(ANCHORS), (index, entry(minutes)))
    assert level.checked == 1
    if fault is None:
        assert level.ok, level.first_fault
    else:
        assert not level.ok
        assert fault in str(level.first_fault)
        assert str(level.first_fault).startswith(f"leaf {index}, ticket 'req_1', seq 0: it says ")


def test_without_anchors_nothing_is_checked() -> None:
    bounds = TimeBounds()
    assert not bounds.anchored
    assert fed(bounds, (0, entry(0)), (1, entry(-9999))) == Level(ok=True, checked=0)


def test_a_stamp_made_late_over_an_old_checkpoint_says_nothing_about_later_entries() -> None:
    late = at(10, 120, "stamped by tsa")  # at two o'clock, when 30 entries were long there
    assert fed(TimeBounds([*ANCHORS, late]), (15, entry(10)), (25, entry(40))).ok
    # but of what nothing covers yet, it says that it came later
    assert not fed(TimeBounds([*ANCHORS, late]), (35, entry(70))).ok


def test_the_tightest_anchor_counts() -> None:
    early = at(30, 10)  # the larger checkpoint has the earlier time: so the smaller ones were late
    assert not fed(TimeBounds([*ANCHORS, early]), (12, entry(20))).ok
    again = at(20, 50)  # an unchanged checkpoint, cosigned again
    assert not fed(TimeBounds([*ANCHORS, again]), (20, entry(40))).ok
    assert fed(TimeBounds([*ANCHORS, again]), (15, entry(10))).ok


def test_a_ticket_does_not_run_backwards() -> None:
    far = [at(100, 999)]
    level = fed(TimeBounds(far), (0, entry(10)), (1, entry(6)), (2, entry(20)), (3, entry(14)))
    assert str(level.first_fault).startswith("leaf 3,")
    assert "the entry before it in the ticket" in str(level.first_fault)
    other = fed(TimeBounds(far), (0, entry(10)), (1, entry(0, ticket="req_2")))
    assert other == Level(ok=True, checked=2)


def test_the_allowance_can_be_set() -> None:
    assert SKEW == 300
    assert not fed(TimeBounds(ANCHORS, skew=0), (0, entry(0.1))).ok
    assert fed(TimeBounds(ANCHORS, skew=3600), (0, entry(59))).ok


def test_times_beyond_the_calendar_are_no_traceback() -> None:
    strange = [Anchor(size=5, time=2**62, source="x"), Anchor(size=9, time=-5, source="y")]
    assert not fed(TimeBounds(strange), (0, entry(0))).ok


def test_parts_are_put_together(archive: Archive) -> None:
    one, two = TimeBounds(ANCHORS), TimeBounds(ANCHORS)
    fed(one, (20, entry(0)))
    fed(two, (12, entry(-30)), (13, entry(0)))
    level = combine_times([one.found(), two.found()])
    assert level.checked == 2
    assert str(level.first_fault).startswith("leaf 12,")


def real_anchors(archive: Archive) -> list[Anchor]:
    """As if a witness had seen each checkpoint ten seconds after its last entry."""
    log = archive.log
    times = [datetime.fromisoformat(decode_entry(raw).at) for raw in log]
    return [
        Anchor(size=size, time=int(times[size - 1].timestamp()) + 10, source="cosigned by w")
        for size in range(4, len(log) + 1, 4)
        if size == len(log) or times[size] > times[size - 1] + timedelta(seconds=11)
    ] + [Anchor(size=len(log), time=int(times[-1].timestamp()) + 10, source="cosigned by w")]


@pytest.mark.parametrize(("days", "says"), [(-2, "not there yet"), (2, "was there already")])
def test_real_tickets_hold_and_a_false_date_does_not(archive: Archive, days: int, says: str) -> None:
    def judged(log: list[bytes]) -> Level:
        bounds = TimeBounds(real_anchors(archive))
        return fed(bounds, *((index, decode_entry(raw)) for index, raw in enumerate(log)))

    assert judged(archive.log) == Level(ok=True, checked=len(archive.log))
    place = places(archive.log, archive.tickets["active"])["approval-recorded"]

    def redate(found: dict[str, object]) -> None:
        found["at"] = wire(datetime.fromisoformat(str(found["at"])) + timedelta(days=days))

    level = judged(altered(archive.log, place, redate))
    assert says in str(level.first_fault)
