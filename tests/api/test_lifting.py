"""A disablement that a signal made is lifted by two people, on record; what it ended stays ended."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from api.conftest import ANN, AUD, BO, CYD, DEE, OPS, Api, deactivate
from api.test_signals import KEYS, RISC, sent
from hostile.corpus import CORPUS
from muniment.core.events import DisablementLifted, LiftProposed
from muniment.service.ledgering import verify
from muniment.service.lifting import STREAM
from muniment.service.sealing import seal
from muniment.service.sending import look
from muniment.store.delivering import SqlDeliveries


@pytest.fixture(autouse=True)
def begun(api: Api) -> None:
    KEYS["idp"] = api.idp
    sink = api.office.outward.signals
    assert sink is not None
    look(api.desk, SqlDeliveries(api.desk.store.engine), sink)


@pytest.fixture
def second(api: Api, monkeypatch: pytest.MonkeyPatch) -> str:
    """Another operator."""

    class Directory:
        def __getattr__(self, name: str) -> Any:
            return getattr(api_desk.directory, name)

        def get(self, identity: str) -> Any:
            found = api_desk.directory.get(identity)
            if found is not None and found.id == AUD:
                return msgspec.structs.replace(found, roles=("operator",))
            return found

    api_desk = api.desk
    governed: Any = SimpleNamespace(approvers=lambda: ())  # two people change things
    monkeypatch.setattr(api.office, "desk", replace(api_desk, directory=Directory(), governed=governed))
    return AUD


def disabled(api: Api, who: str = ANN) -> None:
    email = who.partition(":")[2]
    sent(api, "account-disabled", {}, RISC, about={"format": "email", "email": email})
    known = api.desk.directory.get(who)
    assert known is not None
    assert not known.active


def lift(api: Api, who: str, identity: str = ANN, reason: str = "checked, INC-7") -> Any:
    return api("POST", "/v1/disablements/lift", {"identity": identity, "reason": reason}, who=who)


def entries(api: Api, who: str = ANN) -> list[Any]:
    return [each.event for each in api.desk.store.entries(STREAM + who)]


def test_two_people_lift_it_and_what_was_ended_stays_ended(api: Api, second: str) -> None:
    ticket = api.active()
    disabled(api)
    from muniment.service.offboarding import offboard  # noqa: PLC0415

    offboard(api.desk)
    assert api("GET", "/v1/whoami").status_code == 401
    (item,) = api("GET", "/v1/disablements", who=OPS).json()["items"]
    assert (item["identity"], item["status"], item["issuers"]) == (
        ANN,
        "disabled",
        ["https://idp.example.com"],
    )
    proposed = lift(api, OPS)
    assert (proposed.status_code, proposed.json()["status"]) == (200, "proposed")
    assert proposed.json()["reason"] == "checked, INC-7"
    assert api("GET", "/v1/whoami").status_code == 401
    again = lift(api, OPS)
    assert (again.status_code, again.json()["code"]) == (403, "refused.self-approval")
    (item,) = api("GET", "/v1/disablements", who=second).json()["items"]
    assert (item["status"], item["proposed_by"]) == ("proposed", OPS)
    lifted = lift(api, second)
    assert (lifted.status_code, lifted.json()["status"]) == (200, "lifted"), lifted.text
    assert api("GET", "/v1/whoami").status_code == 200
    assert api("GET", "/v1/disablements", who=OPS).json()["items"] == []
    first, last = entries(api)[-2:]
    assert isinstance(first, LiftProposed)
    assert isinstance(last, DisablementLifted)
    assert last.proposed_by == OPS
    assert api("GET", f"/v1/requests/{ticket['id']}").json()["status"] == "revoking"
    assert lift(api, OPS).status_code == 404
    seal(api.desk)
    assert verify(api.desk)["ok"]
    disabled(api)  # and a new signal disables again
    assert lift(api, OPS).json()["status"] == "proposed"  # from the beginning
    assert lift(api, second).json()["status"] == "lifted"


def test_whoever_proposed_it_does_not_agree_under_another_name(
    api: Api, second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I9: that the two are one person may stand with the proposer alone."""
    disabled(api)
    assert lift(api, OPS).json()["status"] == "proposed"
    directory, real = api.office.desk.directory, api.office.desk.directory.get

    def aliased(identity: str) -> Any:
        found = real(identity)
        return msgspec.structs.replace(found, aliases=(second,)) if found and found.id == OPS else found

    with monkeypatch.context() as patch:
        patch.setattr(directory, "get", aliased)
        refused = lift(api, second)
    assert (refused.status_code, refused.json()["code"]) == (403, "refused.self-approval")
    assert not isinstance(entries(api)[-1], DisablementLifted)
    assert lift(api, second).json()["status"] == "lifted"


@pytest.mark.parametrize("who", [BO, CYD, DEE])
def test_who_has_no_say_neither_sees_nor_lifts_it(api: Api, second: str, who: str) -> None:
    disabled(api)
    assert api("GET", "/v1/disablements", who=who).status_code == 403
    assert lift(api, who).status_code == 403
    assert lift(api, OPS).json()["status"] == "proposed"
    assert (lift(api, who).status_code, lift(api, who).json()["code"]) == (403, "refused.not-an-approver")
    assert lift(api, second).json()["status"] == "lifted"


def test_an_auditor_sees_it_and_lifts_nothing(api: Api) -> None:
    disabled(api)
    assert api("GET", "/v1/disablements", who=AUD).status_code == 200
    assert lift(api, AUD).status_code == 403
    sent(api, "account-enabled", {}, RISC)


def test_a_new_signal_voids_what_was_proposed_before(api: Api, second: str) -> None:
    disabled(api)
    assert lift(api, OPS).json()["status"] == "proposed"
    sent(api, "account-enabled", {}, RISC)
    disabled(api)
    assert lift(api, second).json()["status"] == "proposed"  # not lifted: this is a proposal of its own
    assert lift(api, OPS).json()["status"] == "lifted"


def test_what_somebody_proposed_who_is_gone_counts_for_nothing(
    api: Api, second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disabled(api)
    assert lift(api, OPS).json()["status"] == "proposed"
    desk = api.office.desk
    monkeypatch.setattr(api.office, "desk", deactivate(desk, OPS))
    assert lift(api, second).json()["status"] == "proposed"
    monkeypatch.setattr(api.office, "desk", desk)
    assert lift(api, OPS).json()["status"] == "lifted"


def test_nobody_who_is_not_disabled_by_a_signal(api: Api) -> None:
    for who in (BO, "human:nobody@example.com", "service_account:nobody"):
        assert lift(api, OPS, who).status_code == 404
    assert not entries(api, BO)


@pytest.mark.parametrize("hostile", CORPUS.values(), ids=CORPUS.keys())
def test_hostile_names_and_reasons(api: Api, hostile: str) -> None:
    if len(hostile) > 5000:  # who sends more is cut off before they have sent it
        return
    try:
        hostile.encode()
    except UnicodeEncodeError:
        return
    assert lift(api, OPS, hostile).status_code in {400, 404, 413, 422}
    assert lift(api, OPS, BO, hostile).status_code in {400, 404, 413, 422}


def test_the_command_line_lists_and_lifts(api: Api) -> None:
    disabled(api)
    base = [sys.executable, "-m", "muniment"]
    local = ["--config", str(api.folder / "muniment.toml"), "--as", OPS]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*base, *words], capture_output=True, text=True, check=False, timeout=120)

    shown = run("disablement", "list", *local)
    assert ANN in shown.stdout, shown.stderr
    lifted = run("disablement", "lift", ANN, "--reason", "checked", *local)  # where one person tries it out
    assert lifted.returncode == 0, lifted.stderr
    assert "may act again" in lifted.stdout
    assert isinstance(entries(api)[-1], DisablementLifted)
    again = run("disablement", "lift", ANN, "--reason", "checked", *local)
    assert again.returncode == 1
    assert "not-found" in again.stderr
    assert "No signal disables anybody" in run("disablement", "list", *local).stdout
    disabled(api)
    server = ["--server", api.office.url]
    asked = subprocess.run(
        [*base, "disablement", "lift", ANN, "--reason", "x", "--json", *server], capture_output=True, text=True,
        check=False, timeout=120, env={**os.environ, "MUNIMENT_TOKEN": api.token(OPS)},
    )  # fmt: skip
    assert '"status": "lifted"' in asked.stdout, asked.stderr
