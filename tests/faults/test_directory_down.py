"""The identity provider is down: what is known is the last that was good. Ending access and break-glass go on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evidence.office import HOUR, Office
from muniment.config import load
from muniment.core.errors import Misconfigured, Refused
from muniment.main import open_desk
from muniment.service import deciding
from muniment.service.giving import give


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path / "access")
    yield made
    made.close()


def down(office: Office) -> Callable[[], None]:
    """Take the file away from a running process; what is returned brings it back."""
    file = office.folder / "identities.toml"
    text = file.read_text()
    file.unlink()
    with pytest.raises(Misconfigured):
        office.desk.directory.reload_if_changed()

    def back() -> None:
        file.write_text(text)
        office.desk.directory.reload_if_changed()

    return back


def broken(office: Office) -> Callable[[], None]:
    file = office.folder / "identities.toml"
    text = file.read_text()
    file.write_text(text + "\n[[[")
    with pytest.raises(Misconfigured):
        office.desk.directory.reload_if_changed()

    def back() -> None:
        file.write_text(text)
        office.desk.directory.reload_if_changed()

    return back


def restarted(office: Office) -> Callable[[], None]:
    """The process starts while the file is away: it knows whom the ledger knows."""
    file = office.folder / "identities.toml"
    text = file.read_text()
    file.unlink()
    desk = open_desk(load(office.folder / "muniment.toml"), clock=office.clock)
    office.desk = dataclasses.replace(desk, targets=office.desk.targets)

    def back() -> None:
        file.write_text(text)
        assert office.desk.directory.reload_if_changed()

    return back


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(Refused) as error:
        act()
    return error.value.code


@pytest.mark.parametrize("trouble", [down, broken, restarted], ids=lambda each: each.__name__)
def test_what_goes_on_and_what_waits(office: Office, trouble: Callable[[Office], Callable[[], None]]) -> None:
    approved, pending, active = office.ask(), office.ask("root"), office.active()
    office.approve(approved)
    back = trouble(office)
    assert office.desk.directory.stale

    glass = office.ask(who="bo", break_glass=True, incident="INC-9", length=HOUR / 2)
    office.give(glass)
    assert office.status(glass) == "active", "break-glass does not wait"
    office.do(deciding.give_back, "bo", glass)
    office.take(glass)
    assert office.status(glass) == "revoked"
    words = {"outcome": "appropriate", "comment": "fine"}
    assert refused(lambda: office.do(deciding.review, "aud", glass, **words)) == "refused.stale-directory"

    assert refused(lambda: office.approve(pending)) == "refused.stale-directory"
    office.do(deciding.revoke, "ops", active, reason="laptop lost")
    office.take(active)
    assert office.status(active) == "closed", "ending goes on"
    later = office.ask("root")
    office.do(deciding.deny, "cyd", later, comment="not now")
    assert office.status(later) == "denied"

    progress = give(office.desk, "bastion", [approved], "while it is down")
    assert progress.again[approved].code == "directory.stale"
    assert office.status(approved) == "approved", "what was approved waits for people to be known"

    back()
    assert not office.desk.directory.stale
    office.give(approved)
    assert office.status(approved) == "active"
    office.approve(pending)
    office.do(deciding.review, "aud", glass, **words)
    assert office.status(glass) == "closed"


def test_nobody_is_known_before_anybody_was(tmp_path: Path) -> None:
    office = Office(tmp_path / "access")
    office.close()
    for left in (tmp_path / "access" / "var").iterdir():
        left.unlink() if left.is_file() else None
    (tmp_path / "access" / "identities.toml").unlink()
    with pytest.raises(Misconfigured, match="cannot be read"):
        open_desk(load(tmp_path / "access" / "muniment.toml"))


def test_a_file_that_is_wrong_is_an_error_at_the_start(office: Office) -> None:
    """Somebody is there to mend it; the ledger's knowledge is for a source that is away."""
    file = office.folder / "identities.toml"
    file.write_text(file.read_text() + "\n[[[")
    with pytest.raises(Misconfigured):
        open_desk(load(office.folder / "muniment.toml"))
