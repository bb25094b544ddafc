"""A program without a browser signs in: by its own command line, and a person's browser at a real provider."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from api.conftest import ANN, free_port
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


def begun(place: Place) -> dict[str, Any]:
    document: dict[str, Any] = place.api.http.post("/auth/device").json()
    return document


def fetched(place: Place, device: str) -> Any:
    return place.api.http.post("/auth/device/token", json={"device_code": device})


def say_yes(session: Session, typed: str, **changes: str | None) -> Any:
    ours = {"Origin": session.place.url, **changes}
    form = {"csrf": csrf_token(session.cookie), "user_code": typed}
    headers = {k: v for k, v in ours.items() if v is not None}
    return session.browser("POST", f"{session.place.url}/auth/device/allow", data=form, headers=headers)


def test_a_device_gets_one_token_once_the_person_said_yes(place: Place) -> None:
    asked = begun(place)
    assert re.fullmatch(r"[B-Z]{5}-[B-Z]{5}", asked["user_code"])
    waiting = fetched(place, asked["device_code"])
    assert (waiting.status_code, code(waiting)) == (409, "conflict.authorization-pending")
    session = place.signed_in("a-1")
    page = session.get(f"/auth/device?user_code={asked['user_code']}")
    assert asked["user_code"] in page.text
    assert ANN in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "form-action 'self'" in page.headers["content-security-policy"]
    assert say_yes(session, asked["user_code"].lower().replace("-", "")).status_code == 200
    made = fetched(place, asked["device_code"]).json()
    assert made["identity"] == ANN
    assert place.api("GET", "/v1/whoami", token=made["token"]).json()["id"] == ANN
    assert code(fetched(place, asked["device_code"])) == "conflict.authorization-pending"  # once


def test_whoever_is_not_signed_in_is_sent_to_sign_in_and_comes_back(place: Place) -> None:
    asked = begun(place)
    session = Session(place, place.signed_in("a-1").browser)
    session.browser.jars.pop(place.host)
    session.browser.headers["Accept"] = "text/html"
    page = session.browser.follow(asked["verification_uri_complete"], account="a-1")
    assert page.status_code == 200
    assert asked["user_code"] in page.text


def test_nobody_says_yes_for_somebody_else(place: Place) -> None:
    asked = begun(place)
    session = place.signed_in("a-1")
    for changes in ({"Origin": None}, {"Origin": "https://evil.example"}):
        assert code(say_yes(session, asked["user_code"], **changes)) == "refused.csrf"
    form = {"csrf": "0" * 64, "user_code": asked["user_code"]}
    forged = session.browser(
        "POST", f"{place.url}/auth/device/allow", data=form, headers={"Origin": place.url}
    )
    assert code(forged) == "refused.csrf"
    by_token = place.api("POST", "/auth/device/allow", data={"user_code": asked["user_code"]}, who=ANN)
    assert (by_token.status_code, code(by_token)) == (403, "refused.no-session")
    assert code(fetched(place, asked["device_code"])) == "conflict.authorization-pending"


def test_a_device_code_that_is_not_ours_or_is_over(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = begun(place)
    known = asked["device_code"]
    for wrong in (
        "",
        "x",
        ".",
        known[:-2],
        known.replace(".", "A.", 1),
        f"{known}.{known}",
        known.split(".")[0],
    ):
        refused = fetched(place, wrong)
        assert (refused.status_code, code(refused)) == (422, "invalid.device-code")
    monkeypatch.setattr(devices, "PATIENCE", -devices.PATIENCE)
    late = begun(place)
    assert code(fetched(place, late["device_code"])) == "invalid.device-code"
    session = place.signed_in("a-1")
    monkeypatch.undo()
    monkeypatch.setattr(devices, "PATIENCE", devices.PATIENCE * 0)
    say_yes(session, asked["user_code"])
    assert code(fetched(place, known)) == "conflict.authorization-pending"  # the yes was over at once


@pytest.mark.parametrize("hostile", [v for v in CORPUS.values() if len(v) < 5000], ids=repr)
def test_hostile_codes(place: Place, hostile: str) -> None:
    try:
        hostile.encode()
    except UnicodeEncodeError:
        return
    session = Session(place, _browser(place))
    assert code(say_yes(session, hostile)) in {"invalid.device-code", "invalid.form"}
    page = session.get(f"/auth/device?user_code={quote(hostile)}")
    assert page.status_code in {200, 422}
    assert code(fetched(place, hostile)) in {"invalid.device-code", "invalid.body"}


_browsers: list[Any] = []


def _browser(place: Place) -> Any:
    if not _browsers:
        _browsers.append(place.signed_in("a-1").browser)
    return _browsers[0]


def test_the_command_line_signs_in_and_keeps_the_token_for_its_user_alone(
    place: Place, tmp_path: Path
) -> None:
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
        assert say_yes(session, shown[0]).status_code == 200
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
