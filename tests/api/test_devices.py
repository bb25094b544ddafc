"""A program without a browser signs in: by its own command line, and a person's browser at a real provider."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from api.conftest import ANN, REQUEST, deactivate, free_port
from api.test_signin import SECRET, Place, Session, code, opened
from hostile.corpus import CORPUS
from identity_provider import TemporaryProvider
from muniment.service import devices
from muniment.service.sessions import csrf_token


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    port = free_port()
    with pytest.MonkeyPatch.context() as patch, TemporaryProvider(f"http://127.0.0.1:{port}") as provider:
        patch.setenv("MUNIMENT_TEST_SECRET", SECRET)
        api = opened(tmp_path_factory.mktemp("devices") / "access", port, provider)
        yield Place(api, provider)
        api.http.close()
        assert api.server.stop(30)  # type: ignore[attr-defined]
        api.desk.store.engine.dispose()


ASKED = {"client_id": devices.CLIENT}


def begun(place: Place, **more: str) -> dict[str, Any]:
    answer = place.api.http.post("/auth/device", data=ASKED | more)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def fetched(place: Place, device: str, **changes: str | None) -> Any:
    form = {"grant_type": devices.GRANT, "device_code": device, **ASKED, **changes}
    return place.api.http.post("/auth/device/token", data={k: v for k, v in form.items() if v is not None})


def error(answer: Any) -> str:
    """As RFC 6749, section 5.2, has it."""
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json().keys() == {"error", "error_description"}
    assert re.fullmatch(r"[ !#-\[\]-~]+", answer.json()["error_description"])
    return str(answer.json()["error"])


def say(session: Session, typed: str, what: str = "allow", **changes: str | None) -> Any:
    ours = {"Origin": session.place.url, **changes}
    form = {"csrf": csrf_token(session.cookie), "user_code": typed}
    headers = {k: v for k, v in ours.items() if v is not None}
    return session.browser("POST", f"{session.place.url}/auth/device/{what}", data=form, headers=headers)


def test_a_device_gets_one_token_once_the_person_said_yes(place: Place) -> None:
    asked = begun(place)
    assert asked.keys() == {
        "device_code", "user_code", "verification_uri", "verification_uri_complete", "expires_in", "interval",
    }  # fmt: skip
    assert re.fullmatch(r"[B-Z]{5}-[B-Z]{5}", asked["user_code"])
    assert error(fetched(place, asked["device_code"])) == "authorization_pending"
    session = place.signed_in("a-1")
    page = session.get(f"/auth/device?user_code={asked['user_code']}")
    assert asked["user_code"] in page.text
    assert ANN in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "form-action 'self'" in page.headers["content-security-policy"]
    for _ in range(2):  # saying it twice is saying it
        assert say(session, asked["user_code"].lower().replace("-", "")).status_code == 200
    made = fetched(place, asked["device_code"])
    assert made.headers["cache-control"] == "no-store"
    document = made.json()
    assert document.keys() == {"access_token", "token_type", "expires_in", "identity", "expires_at"}
    assert (document["token_type"], document["expires_in"]) == ("Bearer", 12 * 3600)
    assert document["identity"] == ANN
    assert place.api("GET", "/v1/whoami", token=document["access_token"]).json()["id"] == ANN
    assert error(fetched(place, asked["device_code"])) == "invalid_grant"  # once
    again = say(session, asked["user_code"])
    assert (again.status_code, code(again)) == (409, "conflict.device-answered")
    assert error(fetched(place, asked["device_code"])) == "invalid_grant"


def test_the_person_says_no(place: Place) -> None:
    asked = begun(place)
    assert say(place.signed_in("a-1"), asked["user_code"], "deny").status_code == 200
    assert error(fetched(place, asked["device_code"])) == "access_denied"
    assert error(fetched(place, asked["device_code"])) == "access_denied"


def test_the_first_answer_stays(place: Place) -> None:
    """Nobody who sees the code afterwards turns a yes into theirs, or a no into a yes."""
    ann, cyd = place.signed_in("a-1"), place.signed_in("c-1")
    asked = begun(place)
    assert say(ann, asked["user_code"]).status_code == 200
    for session, what in ((cyd, "allow"), (cyd, "deny"), (ann, "deny")):
        assert code(say(session, asked["user_code"], what)) == "conflict.device-answered"
    assert fetched(place, asked["device_code"]).json()["identity"] == ANN
    other = begun(place)
    assert say(ann, other["user_code"], "deny").status_code == 200
    assert code(say(cyd, other["user_code"])) == "conflict.device-answered"
    assert error(fetched(place, other["device_code"])) == "access_denied"


def test_whoever_said_yes_and_is_gone_since_lets_nobody_in(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = begun(place)
    assert say(place.signed_in("a-1"), asked["user_code"]).status_code == 200
    monkeypatch.setattr(place.api.office, "desk", deactivate(place.api.desk, ANN))
    assert error(fetched(place, asked["device_code"])) == "access_denied"
    monkeypatch.undo()
    assert error(fetched(place, asked["device_code"])) == "invalid_grant"


def test_who_asks_too_often_is_told_to_slow_down(place: Place) -> None:
    asked, other = begun(place), begun(place)
    said = [error(fetched(place, asked["device_code"])) for _ in range(3)]
    assert said == ["authorization_pending", "slow_down", "slow_down"]
    assert error(fetched(place, other["device_code"])) == "authorization_pending"  # its pace is its own
    assert say(place.signed_in("a-1"), asked["user_code"]).status_code == 200
    assert fetched(place, asked["device_code"]).status_code == 200  # what is there is given at any pace


def test_each_slow_down_makes_the_pause_longer_for_good() -> None:
    start, pace = datetime(2026, 11, 26, tzinfo=UTC), devices.Pace()
    #: seconds → too fast; first 5 apart, then 10, then 15, and a second early is in time
    asked = {0: False, 5: False, 9: False, 14: False, 17: True, 26: False, 34: True, 48: False, 49: True}
    found = {at: pace.too_fast(b"one", start + timedelta(seconds=at)) for at in asked}
    assert found == asked


def test_the_pace_of_so_many_devices_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "WAITING", 2)
    now, pace = datetime(2026, 11, 26, tzinfo=UTC), devices.Pace()
    assert [pace.too_fast(each, now) for each in (b"one", b"two", b"two", b"three", b"two", b"one")] == [
        False, False, True, False, True, False,
    ]  # fmt: skip


def test_a_program_may_ask_for_less(place: Place) -> None:
    session = place.signed_in("a-1")
    asked = begun(place, scope="read")
    say(session, asked["user_code"])
    made = fetched(place, asked["device_code"]).json()
    assert made["scope"] == "read"
    assert place.api("GET", "/v1/whoami", token=made["access_token"]).status_code == 200
    refused = place.api("POST", "/v1/requests", REQUEST, token=made["access_token"])
    assert (refused.status_code, code(refused)) == (403, "refused.scope")
    for more in ("check", "ledger", "metrics", "scim", "signals", "read check", "x", "read\nx"):
        assert error(place.api.http.post("/auth/device", data=ASKED | {"scope": more})) == "invalid_scope"


def test_requests_that_are_not_as_rfc_8628_has_them(place: Place) -> None:
    post = place.api.http.post
    known = begun(place)["device_code"]
    assert error(post("/auth/device")) == "invalid_request"
    assert error(post("/auth/device", json=ASKED)) == "invalid_request"
    assert error(post("/auth/device", data={"client_id": ""})) == "invalid_request"
    assert (
        error(post("/auth/device", data={"client_id": ["muniment-cli", "muniment-cli"]})) == "invalid_request"
    )
    assert error(post("/auth/device", data={"client_id": "other"})) == "invalid_client"
    assert (
        post("/auth/device", data=ASKED | {"audience": "x"}).status_code == 200
    )  # what is unknown is ignored
    assert error(post("/auth/device/token", json={"device_code": known})) == "invalid_request"
    for name in ("grant_type", "device_code", "client_id"):
        assert error(fetched(place, known, **{name: None})) == "invalid_request"
        assert error(fetched(place, known, **{name: ""})) == "invalid_request"
    assert error(fetched(place, known, client_id="other")) == "invalid_client"
    for grant in (
        "password",
        "client_credentials",
        "authorization_code",
        "refresh_token",
        devices.GRANT.upper(),
    ):
        assert error(fetched(place, known, grant_type=grant)) == "unsupported_grant_type"
    assert place.api.http.get("/auth/device/token").status_code == 405


def test_where_programs_are_let_in_is_published(place: Place) -> None:
    said = place.api.http.get("/.well-known/oauth-authorization-server").json()
    assert said["issuer"] == place.url
    assert said["grant_types_supported"] == [devices.GRANT]
    asked = place.api.http.post(said["device_authorization_endpoint"], data=ASKED).json()
    form = {"grant_type": devices.GRANT, "device_code": asked["device_code"], **ASKED}
    assert error(place.api.http.post(said["token_endpoint"], data=form)) == "authorization_pending"


def test_whoever_is_not_signed_in_is_sent_to_sign_in_and_comes_back(place: Place) -> None:
    asked = begun(place)
    session = Session(place, place.signed_in("a-1").browser)
    session.browser.jars.pop(place.host)
    session.browser.headers["Accept"] = "text/html"
    page = session.browser.follow(asked["verification_uri_complete"], account="a-1")
    assert page.status_code == 200
    assert asked["user_code"] in page.text


@pytest.mark.parametrize("what", ["allow", "deny"])
def test_nobody_answers_for_somebody_else(place: Place, what: str) -> None:
    asked = begun(place)
    session = place.signed_in("a-1")
    for changes in ({"Origin": None}, {"Origin": "https://evil.example"}):
        assert code(say(session, asked["user_code"], what, **changes)) == "refused.csrf"
    form = {"csrf": "0" * 64, "user_code": asked["user_code"]}
    where = f"/auth/device/{what}"
    forged = session.browser("POST", place.url + where, data=form, headers={"Origin": place.url})
    assert code(forged) == "refused.csrf"
    by_token = place.api("POST", where, data={"user_code": asked["user_code"]}, who=ANN)
    assert (by_token.status_code, code(by_token)) == (401, "unauthenticated.no-session")
    assert error(fetched(place, asked["device_code"])) == "authorization_pending"


def test_a_device_code_that_is_not_ours_or_is_over(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = begun(place)
    known = asked["device_code"]
    for wrong in (
        "x",
        ".",
        known[:-2],
        known.replace(".", "A.", 1),
        f"{known}.{known}",
        known.split(".")[0],
    ):
        assert error(fetched(place, wrong)) == "invalid_grant"
    monkeypatch.setattr(devices, "PATIENCE", -devices.PATIENCE)
    late = begun(place)
    assert error(fetched(place, late["device_code"])) == "expired_token"
    session = place.signed_in("a-1")
    monkeypatch.undo()
    monkeypatch.setattr(devices, "PATIENCE", devices.PATIENCE * 0)
    say(session, asked["user_code"])
    assert error(fetched(place, known)) == "authorization_pending"  # the yes was over at once


@pytest.mark.parametrize("hostile", [v for v in CORPUS.values() if len(v) < 5000], ids=repr)
def test_hostile_codes(place: Place, hostile: str) -> None:
    try:
        hostile.encode()
    except UnicodeEncodeError:
        return
    session = Session(place, _browser(place))
    for what in ("allow", "deny"):
        assert code(say(session, hostile, what)) in {"invalid.device-code", "invalid.form"}
    page = session.get(f"/auth/device?user_code={quote(hostile)}")
    assert page.status_code in {200, 422}
    assert error(fetched(place, hostile)) in {"invalid_grant", "invalid_request"}
    assert error(fetched(place, "x", client_id=hostile)) in {"invalid_client", "invalid_request"}
    assert error(fetched(place, "x", grant_type=hostile)) in {"unsupported_grant_type", "invalid_request"}
    for name in ("client_id", "scope"):
        refused = place.api.http.post("/auth/device", data=ASKED | {name: hostile})
        if refused.status_code == 200:
            assert (name, hostile.strip()) == ("scope", "")  # as if it were not there
        else:
            assert error(refused) in {"invalid_client", "invalid_scope", "invalid_request"}


_browsers: list[Any] = []


def _browser(place: Place) -> Any:
    if not _browsers:
        _browsers.append(place.signed_in("a-1").browser)
    return _browsers[0]


def test_the_command_line_signs_in_and_keeps_the_token_for_its_user_alone(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "EVERY", 1)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MUNIMENT_")}
    environment |= {"XDG_CONFIG_HOME": str(tmp_path), "MUNIMENT_SERVER": place.url}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "muniment", *words], env=environment, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip

    before = run("whoami")
    assert before.returncode == 2
    assert "muniment login" in before.stderr
    session = place.signed_in("a-1")
    program = subprocess.Popen(
        [sys.executable, "-m", "muniment", "login"], env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert program.stderr
        said = ""
        while not (shown := re.search(r"[B-Z]{5}-[B-Z]{5}", said)):
            line = program.stderr.readline()
            assert line, said
            said += line
        assert say(session, shown[0]).status_code == 200
        out, err = program.communicate(timeout=60)
    finally:
        program.kill()
    assert program.returncode == 0, err
    assert ANN in out
    kept = tmp_path / "muniment/tokens.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert ANN in run("whoami").stdout
    kept.chmod(0o644)
    assert "can be read by others" in run("whoami").stderr
    kept.chmod(0o600)
    assert run("login", "--forget").returncode == 0
    assert run("whoami").returncode == 2
