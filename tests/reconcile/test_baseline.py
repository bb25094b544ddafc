"""The file of access that stands: what it may say, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from muniment.core.errors import Misconfigured
from muniment.reconcile.baseline import parse

STANDING = """
[[standing]]
target = "pg"
account = "backup"
privilege = "pg_read_all_data"
owner = "human:Ann@example.com"
recertify_by = 2027-01-31
reason = "nightly backup"
"""
EXCEPTION = """
[[exceptions]]
target = "pg"
account = "bo"
privilege = "admins"
resource = "x"
nested = true
owner = "human:ann@example.com"
until = 2026-12-24T01:00:00+01:00
reason = "until the old host is gone"
"""


def test_what_it_says_is_read() -> None:
    standing, exception = parse(STANDING + EXCEPTION)
    assert (standing.kind, standing.owner) == ("standing", "human:ann@example.com")
    assert standing.until == datetime(2027, 1, 31, tzinfo=UTC)
    assert (exception.kind, exception.resource, exception.nested) == ("exception", "x", True)
    assert exception.until == datetime(2026, 12, 24, tzinfo=UTC)
    assert parse("") == ()


@pytest.mark.parametrize(
    "wrong",
    [
        "x = ",
        "x = 1",
        STANDING + "more = 1",
        STANDING.replace('owner = "human:Ann@example.com"\n', ""),
        STANDING.replace("human:", "nobody:"),
        STANDING.replace("recertify_by = 2027-01-31\n", ""),
        STANDING.replace("2027-01-31", "2027-01-31T00:00:00"),
        STANDING.replace("2027-01-31", '"2027-13-31"'),
        STANDING.replace("nightly backup", " "),
        STANDING + STANDING,
        STANDING.replace('"backup"', "7"),
        EXCEPTION.replace("until =", "recertify_by ="),
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: str) -> None:
    with pytest.raises(Misconfigured) as error:
        parse(wrong)
    assert error.value.code == "config.baseline"
    assert error.value.remedy


def test_the_same_access_may_stand_and_be_excepted() -> None:
    again = STANDING.replace("[[standing]]", "[[exceptions]]").replace("recertify_by", "until")
    assert len(parse(STANDING + again)) == 2
