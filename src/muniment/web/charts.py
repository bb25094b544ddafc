"""Charts of months: bars that a page draws by itself, and the same figures as a table. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import msgspec

from muniment.service.trends import Month, Spread
from muniment.web.when import short

#: of a chart, in its own units
WIDTH, HEIGHT, BELOW, LEFT = 640, 190, 24, 8
#: of a bar's share of its month
SHARE = 0.62


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """A rectangle, and what it says to whoever points at it."""

    x: float
    y: float
    width: float
    height: float
    look: str  # a class of the style sheet
    says: str


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """A month below the bars."""

    x: float
    label: str


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """One of them."""

    id: str
    title: str
    about: str
    keys: tuple[tuple[str, str], ...]  # class and name of each series
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    most: str  # what the highest bar is
    rows: tuple[tuple[str, ...], ...]  # the month, then each series
    newest: str  # the last month in words; empty if it has nothing


def of(months: Sequence[Month]) -> list[Chart]:
    """All charts of these months."""
    return [
        _chart(
            "decide", "Time to decide", "From the asking to the answer. Half took no longer than the first bar, 95 of 100 no longer than the second.",
            keys=(("one", "half"), ("two", "95 of 100")), months=months, read=lambda m: _spread(m.decided), say=_length,
        ),
        _chart(
            "gone", "Time to remove", "From when access was to end until the target was seen without it.",
            keys=(("one", "half"), ("two", "95 of 100")), months=months, read=lambda m: _spread(m.gone), say=_length,
        ),
        _chart(
            "standing", "Temporary and standing privilege", "What targets held at their last look of the month: explained by a ticket, or by none.",
            keys=(("good", "by tickets"), ("wait", "standing")), months=months,
            read=lambda m: (m.temporary, m.standing), say=_number,
        ),
        _chart(
            "glass", "Tickets, and those that broke the glass", "By the month in which they were filed.",
            keys=(("one", "tickets"), ("bad", "broke the glass")), months=months, read=lambda m: (m.tickets, m.glass), say=_number,
        ),
    ]  # fmt: skip


def _chart(
    name: str, title: str, about: str, *, keys: tuple[tuple[str, str], ...], months: Sequence[Month],
    read: Callable[[Month], tuple[int | None, ...]], say: Callable[[int | None], str],
) -> Chart:  # fmt: skip
    values = [read(month) for month in months]
    most = max((v for each in values for v in each if v is not None), default=0)
    step = (WIDTH - 2 * LEFT) / len(months)
    wide = step * SHARE / len(keys)
    bars, ticks, rows = [], [], []
    for place, (month, each) in enumerate(zip(months, values, strict=True)):
        begin = LEFT + place * step + step * (1 - SHARE) / 2
        label = f"{month.begins:%b %Y}"
        ticks.append(Tick(x=round(LEFT + (place + 0.5) * step, 1), label=f"{month.begins:%b}"))
        rows.append((label, *map(say, each)))
        for series, value in enumerate(each):
            if not value:
                continue
            high = max(2.0, (HEIGHT - BELOW - 8) * value / most)
            bars.append(
                Bar(
                    x=round(begin + series * wide, 1), y=round(HEIGHT - BELOW - high, 1), width=round(wide - 1.5, 1),
                    height=round(high, 1), look=keys[series][0], says=f"{label}, {keys[series][1]}: {say(value)}",
                )
            )  # fmt: skip
    last = rows[-1]
    said = ", ".join(
        f"{key}: {value}" for (_, key), value in zip(keys, last[1:], strict=True) if value != "–"
    )
    return Chart(
        id=name, title=title, about=about, keys=keys, bars=tuple(bars), ticks=tuple(ticks), most=say(most),
        rows=tuple(rows), newest=f"{last[0]}: {said}" if said else "",
    )  # fmt: skip


def _spread(found: Spread | None) -> tuple[int | None, int | None]:
    return (found.median, found.slow) if found else (None, None)


def _length(seconds: int | None) -> str:
    return "–" if seconds is None else short(timedelta(seconds=seconds))


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
