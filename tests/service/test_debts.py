"""When a debt is paid, at the pace at which it gets less."""

from __future__ import annotations

import math

import pytest

from muniment.service.debts import forecast


@pytest.mark.parametrize(
    ("before", "now", "seconds", "paid_in"),
    [
        (0, 0, 5.0, 0.0),
        (7, 0, 5.0, 0.0),
        (10_000, 9_500, 5.0, 95.0),  # 100 a second
        (9_500, 9_500, 5.0, math.inf),  # nothing moves
        (9_500, 9_700, 5.0, math.inf),  # more comes due than goes
        (0, 40, 5.0, math.inf),  # all of it is new
        (40, 20, 0.0, math.inf),  # no time went by, so nothing is known of the pace
    ],
)
def test_a_debt_is_paid_at_the_pace_at_which_it_gets_less(
    before: int, now: int, seconds: float, paid_in: float
) -> None:
    assert forecast(before, now, seconds) == paid_in
