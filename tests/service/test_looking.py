"""What people look at: their own among other people's, and how often the store is asked for it."""

from __future__ import annotations

from evidence.office import Office
from muniment.core.ticket import ENDS
from muniment.service import deciding, looking
from service.changes import people

DEPLOY = "service_account:deploy"
_ENDS = tuple(sorted(ENDS))


def ended(office: Office, who: str, limit: int = 2) -> list[str]:
    return [t.id for t in looking.concerning(office.desk, office.caller(who), _ENDS, limit=limit)]


def denied(office: Office, by: str, **more: str) -> str:
    asked = office.ask(**more)
    office.do(deciding.deny, by, asked, comment="no")
    return asked


def test_ones_own_are_found_behind_any_number_that_one_decided_on(office: Office) -> None:
    people(office, 'name = "Cyd"\ngroups = ["platform"]', 'name = "Cyd"\ngroups = ["platform", "engineers"]')
    own = office.ask(who="cyd")
    office.do(deciding.withdraw, "cyd", own)
    machines = [denied(office, "cyd", beneficiary=DEPLOY) for _ in range(5)]
    others = [denied(office, "cyd") for _ in range(3)]
    assert ended(office, "cyd") == [own]
    assert ended(office, "ann") == others[:0:-1]
    assert ended(office, "ann", 9) == [*others[::-1], *machines[::-1]]
    assert ended(office, "dee") == []
