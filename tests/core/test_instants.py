"""Instants and durations (F12): one printed form, half-open, and nothing that could mean an access without an end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.lives import HOUR, NOW, Life
from hostile.corpus import CORPUS
from muniment.core import commands as c
from muniment.core.errors import Invalid, Refused
from muniment.core.instants import LONGEST, iso_duration, parse_duration, parse_instant, spoken, wire

steady = settings(derandomize=True, database=None, deadline=None)

zones = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))
instants = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001  bounds
durations = st.integers(1, int(LONGEST.total_seconds())).map(lambda n: timedelta(seconds=n))


@given(instants)
@steady
def test_what_is_written_is_read_back(instant: datetime) -> None:
    assert parse_instant(wire(instant)) == instant
    assert wire(parse_instant(wire(instant))) == wire(instant)
    assert len(wire(instant)) == len("2026-11-23T10:00:00.000000Z")


@given(instants, instants)
@steady
def test_texts_sort_as_instants_do(one: datetime, other: datetime) -> None:
    """Both databases compare instants as texts."""
    assert (wire(one) < wire(other)) == (one < other)


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31)), zones)  # noqa: DTZ001  the zone is drawn beside it
@steady
def test_an_offset_is_another_spelling_of_the_same_instant(local: datetime, zone: timezone) -> None:
    instant = local.replace(tzinfo=zone)
    text = instant.isoformat(timespec="microseconds")
    assert parse_instant(text) == instant
    assert wire(parse_instant(text)) == wire(instant)
    assert parse_instant(text.replace("T", " ")) == instant
    assert parse_instant(text.replace("T", "t")) == instant


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "2026-11-23", "2026-11-23T10:00:00", "2026-11-23 10:00", "10:00Z", "2026-11-23T10:00:00Zx", " 2026-11-23T10:00:00Z",
        "2026-11-23T10:00:00Z ", "2026-11-23T10:00:00Z\n", "2026-13-01T00:00:00Z", "2026-02-29T00:00:00Z", "2026-11-31T00:00:00Z",
        "2026-11-23T24:00:01Z", "2026-11-23T10:60:00Z", "2026-11-23T10:00:60Z", "2026-11-23T10:00:00+25:00", "2026-11-23T10:00:00+0100",
        "2026-11-23T10:00:00.1234567Z", "2026-11-23T10:00:00.Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01", "-2026-11-23T10:00:00Z", "+2026-11-23T10:00:00Z", "2026-W47-1T10:00:00Z", "20261123T100000Z",
        "２026-11-23T10:00:00Z", "2026-11-23T1٠:00:00Z", "1e9", "1795428000",
    ],
)  # fmt: skip
def test_what_is_not_an_instant_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_instant(text)
    assert caught.value.remedy


def test_the_edges_of_time() -> None:
    assert wire(parse_instant("0001-01-01T00:00:00Z")) == "0001-01-01T00:00:00.000000Z"
    assert wire(parse_instant("9999-12-31T23:59:59.999999Z")) == "9999-12-31T23:59:59.999999Z"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90m", 5400), ("1h30m", 5400), ("PT1H30M", 5400), ("2d", 172_800), ("P2D", 172_800), ("1s", 1), ("PT1S", 1), ("P1DT1S", 86_401),
        ("1d2h3m4s", 93_784), ("366d", 31_622_400), ("007m", 420), ("0d1m", 60),
    ],
)  # fmt: skip
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@given(durations)
@steady
def test_a_duration_that_is_shown_is_read_back(duration: timedelta) -> None:
    assert parse_duration(iso_duration(duration)) == duration
    assert spoken(duration)


@given(durations)
@steady
def test_a_duration_that_is_typed_is_read_back(duration: timedelta) -> None:
    seconds = int(duration.total_seconds())
    assert parse_duration(f"{seconds}s") == duration
    days, rest = divmod(seconds, 86_400)
    assert parse_duration(f"{days}d{rest}s") == duration


@pytest.mark.parametrize(
    "text",
    [
        "", "0", "0m", "0d0h0m0s", "PT0S", "P0D", "P", "PT", "-1h", "+1h", "-PT1H", "PT-1H", "1", "1.5h", "1,5h", "PT1.5H", "1w", "P1W",
        "P1M", "1y", "P1Y", "h", "m1", "30m1h", "1h 30m", " 1h", "1h ", "1h\n", "1H", "pt1h", "٣m", "１h", "²h", "0x10s", "1e3s", "1_000s",
        "367d", "31622401s", "999999999d", "9999999999d", "P999999999DT999999999H999999999M999999999S", "9" * 5000 + "d", "∞", "forever",
    ],
)  # fmt: skip
def test_what_is_not_a_duration_or_too_long_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_duration(text)
    assert caught.value.remedy


@pytest.mark.parametrize("name", CORPUS)
def test_no_hostile_string_is_a_time_by_accident(name: str) -> None:
    fine = {"instant-year-1"}
    for parse in (parse_instant, parse_duration):
        try:
            parse(CORPUS[name])
        except Invalid:
            pass
        else:
            assert name in fine


@given(st.text(max_size=30))
@steady
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_instant, parse_duration):
        try:
            parse(text)
        except Invalid as error:
            assert len(error.message) < 200


# ── half-open: at expires_at it is over (F12) ──


def test_at_its_end_access_is_over_and_a_microsecond_before_it_is_not() -> None:
    life = Life().submit().approve().start().grant()
    assert life.ticket
    expiry = life.ticket.expiry
    assert expiry == NOW + timedelta(seconds=life.terms.duration)
    life.now = expiry - timedelta(microseconds=1)
    assert life.do(c.End(cause="expired"), life.system()) == ()
    life.now = expiry
    assert life.do(c.End(cause="expired"), life.system())
    assert life.ticket.status == "revoking"


def test_a_window_that_is_over_gives_nothing() -> None:
    """Provisioning at the very end of the window would be a grant of no length, or one without an end."""
    for late in (timedelta(0), timedelta(microseconds=1), HOUR):
        life = Life(starts_at=wire(NOW + HOUR), duration=60).submit().approve()
        life.now = NOW + HOUR + timedelta(seconds=60) + late
        life.start()
        assert life.ticket
        assert life.ticket.status == "lapsed"


@pytest.mark.parametrize("duration", [0, -1, -7200, int(LONGEST.total_seconds()) + 1, 2**53, 2**63])
def test_the_core_refuses_durations_that_are_none(duration: int) -> None:
    """Even if no parser stood before it."""
    with pytest.raises((Invalid, Refused)):
        Life(duration=duration).submit()


@pytest.mark.parametrize(
    "start", ["0001-01-01T00:00:00Z", "2026-11-23T09:58:59Z", "2027-11-25T10:00:00Z", "9999-12-31T23:59:59Z"]
)
def test_the_core_refuses_starts_that_cannot_be_meant(start: str) -> None:
    with pytest.raises(Invalid):
        Life(starts_at=start).submit()


@given(st.integers(1, 14_400), st.integers(0, 14_399), st.integers(-60, 86_400))
@steady
def test_no_grant_outlives_what_was_asked(duration: int, waits: int, offset: int) -> None:
    """I12: whenever provisioning starts, the end is no later than the start that was asked for, plus the duration."""
    starts_at = wire(NOW + timedelta(seconds=offset))
    life = Life(starts_at=starts_at, duration=duration).submit()
    assert life.ticket
    if life.ticket.lapses_at <= NOW:
        return
    life.approve()
    asked = parse_instant(starts_at)
    life.now = max(NOW, asked) + timedelta(seconds=waits)
    life.start()
    if life.ticket.status == "provisioning":
        assert life.ticket.expiry == asked + timedelta(seconds=duration)
        assert life.ticket.expiry > life.now
    else:
        assert life.now >= asked + timedelta(seconds=duration)
