"""``muniment demo``, run as people run it: it tells the truth, fails when something is not so, and leaves nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from muniment.demo.acts import ACTS

#: pytest may have been started by a shell that ignores Ctrl-C; then so would what we start
START = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
RUN = "\nfrom muniment.main import run; run()"
LIMIT = 100
#: the acts, and that everything was cleaned up
STEPS = len(ACTS) + 1

pytestmark = [pytest.mark.server("postgres18"), pytest.mark.slow]


@pytest.fixture
def folder():
    """A temporary folder for the demo alone, which the user of root's server may enter; empty again afterwards."""
    path = Path(tempfile.mkdtemp(prefix="m-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    left, processes = sorted(path.iterdir()), processes_in(path)
    shutil.rmtree(path)
    assert (left, processes) == ([], [])


def processes_in(folder: Path) -> list[str]:
    """Command lines of processes that work in the folder, or have it among their words."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes()
            if bytes(folder) in words or (process / "cwd").readlink().is_relative_to(folder):
                found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found


def start(
    folder: Path, *words: str, sabotage: str = "", python: str = sys.executable, **options
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, "-c", START + sabotage + RUN, "demo", *words], env=environment(folder), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    spoken = ("MUNIMENT_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_", "PG")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(spoken)}
    return ours | {
        "TMPDIR": str(folder),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PGSERVICE": "of-somebody-else",
    }


def demo(folder: Path, *words: str, **options) -> tuple[int, str, str]:
    """Run it to its end: exit status, stdout, stderr."""
    with start(folder, *words, **options) as process:
        try:
            out, err = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
    return process.returncode, out, err


@pytest.fixture
def somebody(folder):
    """Options to run it as an ordinary user; none are needed if we are one."""
    if os.geteuid() != 0:
        return {}
    user = {"user": "nobody", "group": "nogroup", "extra_groups": [], "cwd": "/"}
    ours = f"import sys, cedarpy, muniment.main; assert sys.version_info[:2] == {sys.version_info[:2]}"
    for python in (sys.executable, "/usr/bin/python3"):  # ours may be in root's own folder
        with suppress(OSError, subprocess.CalledProcessError):
            subprocess.run(
                [python, "-c", ours], env=environment(folder), capture_output=True, check=True, **user
            )
            shutil.chown(folder, "nobody", "nogroup")
            return {**user, "python": python}
    pytest.skip("an ordinary user cannot read this checkout, or run its Python")


def test_the_document_of_an_ordinary_user(folder, somebody):
    status, out, err = demo(folder, "--json", **somebody)
    document = json.loads(out)
    print(f"the demo took {document['seconds']} s")
    assert (status, err, document["ok"]) == (0, "", True)
    assert document.keys() == {"ok", "seconds", "steps", "tickets", "ledger", "tampered"}
    assert [step["step"] for step in document["steps"]] == list(range(1, STEPS + 1))
    assert all(step["ok"] for step in document["steps"])
    assert [step["who"] for step in document["steps"]] == [*(who for who, _ in ACTS), "Muniment"]


def test_the_tickets_the_ledger_and_the_forged_copy(folder):
    status, out, _ = demo(folder, "--json")
    document = json.loads(out)
    assert status == 0
    access, certificate = document["tickets"]
    assert (access["status"], certificate["status"]) == ("closed", "active")
    assert access["granted"] == access["approved"] == [{"privilege": "orders_rw", "resource": None}]
    assert [d["approver"] for d in access["decisions"]] == ["human:cyd@example.com", "human:dee@example.com"]
    assert [d["approver"] for d in certificate["decisions"]] == ["human:cyd@example.com"]
    assert (access["revocation"]["cause"], access["revocation"]["sessions_ended"]) == ("expired", 1)
    assert all(check["holds"] for check in access["closure"]["checks"])
    assert certificate["beneficiary"] == "service_account:deploy"
    assert certificate["native_expiry"] is not None
    assert document["ledger"]["ok"]
    assert all(level["ok"] for level in document["ledger"]["levels"].values())
    tampered = document["tampered"]
    assert not tampered["ok"]
    assert {name for name, level in tampered["levels"].items() if not level["ok"]} == {"V2", "V3", "V4"}
    assert tampered["changed"]["ticket"] == access["id"]
    named = f"ticket '{access['id']}', seq {tampered['changed']['seq']}, approval-recorded/1"
    assert named in tampered["levels"]["V4"]["first_fault"]


def test_the_story_as_people_read_it(folder):
    told_secrets = "import secrets; secrets.token_urlsafe = lambda _: 'never-to-be-told'"
    status, out, err = demo(folder, sabotage=told_secrets)
    assert (status, err) == (0, "")
    assert [int(number) for number in re.findall(r"^([ \d]\d)  \w", out, re.MULTILINE)] == [
        *range(1, STEPS + 1)
    ]
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out
    assert not any(line != line.rstrip() for line in out.splitlines())
    for shown in (
        "ERROR:  permission denied for table orders",
        "[refused.self-approval]",
        "INSERT 0 1  SET  INSERT 0 1",
        "FATAL:  terminating connection due to administrator command",
        "operator-signed only",
    ):
        assert shown in out
    assert "never-to-be-told" not in out
    assert "PRIVATE KEY" not in out


@pytest.mark.server("postgres15")
def test_it_makes_do_with_debians_postgresql(folder):
    old = """
from muniment.demo import postgres
there = postgres.installed
postgres.installed = lambda: {15: there()[15]}
"""
    status, out, _ = demo(folder, "--json", sabotage=old)
    document = json.loads(out)
    assert (status, document["ok"]) == (0, True)
    assert "PostgreSQL 15." in document["steps"][0]["what"]


def test_without_any_postgresql_it_says_what_to_install(folder):
    none = "from muniment.demo import postgres; postgres.installed = dict"
    status, out, err = demo(folder, "--json", sabotage=none)
    assert (status, out) == (2, "")
    assert json.loads(err)["error"] == {
        "code": "config.no-postgresql",
        "message": "the demo starts a PostgreSQL of its own, and there is none here to start",
        "remedy": "Run: pip install 'muniment[demo]'",
    }


#: what is broken, and the act in which it must show
SABOTAGES = {
    "the core lets people approve their own": (
        "from muniment.core import approving; approving.require_independent = lambda *_, **__: None",
        "approves_herself",
    ),
    "sessions are not ended": (
        "from muniment.connectors import postgresql; postgresql.end_sessions = lambda *_: {}",
        "cuts",
    ),
    "the forged copy is the original": (
        "import muniment.demo.evidence as e; e._BIT = 0",
        "forges",
    ),
    "nothing is verified": (
        """
from muniment.service import ledgering
true = ledgering.verify
ledgering.verify = lambda *a, **k: {**true(*a, **k), "ok": True}
""",
        "refuses",
    ),
}


@pytest.mark.parametrize(("sabotage", "act"), SABOTAGES.values(), ids=SABOTAGES)
def test_it_fails_where_something_is_not_as_it_must_be(folder, sabotage, act):
    status, out, _ = demo(folder, "--json", sabotage=sabotage)
    document = json.loads(out)
    *before, failed, cleaned_up = document["steps"]
    assert (status, document["ok"], failed["ok"]) == (1, False, False), failed
    assert ACTS[failed["step"] - 1][1].__name__ == act, failed
    assert all(step["ok"] for step in (*before, cleaned_up))


@pytest.mark.parametrize(
    ("number", "step"), [(signal.SIGINT, 1), (signal.SIGINT, 7), (signal.SIGTERM, 10)], ids=str
)
def test_interrupted_it_leaves_nothing(folder, number, step):
    with start(folder) as process:
        try:
            for line in process.stdout:
                if line.startswith(f"{step:2}  "):
                    break
            assert processes_in(folder)
            process.send_signal(number)
            time.sleep(0.01)
            process.send_signal(number)  # somebody is impatient
            out, err = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
    assert (process.returncode, err) == (128 + number, "")
    assert out.endswith("Interrupted.\n")


def test_pages_stay_open_on_the_result_until_somebody_has_seen_enough(folder: Path) -> None:
    with start(folder, "--serve") as process:
        try:
            lines: list[str] = []
            assert process.stdout
            for line in process.stdout:
                lines.append(line)
                if line.startswith("Ctrl-C ends it"):
                    break
            links = re.findall(r"http://localhost:\d+/auth/link#\w+", "".join(lines))
            assert len(links) == 4, "".join(lines)
            url, _, token = links[0].partition("#")
            site = url.removesuffix("/auth/link")
            with httpx.Client(base_url=site, trust_env=False) as http:
                entered = http.post("/auth/link", data={"token": token}, headers={"Origin": site})
                assert entered.status_code == 303
                cookie = entered.headers["set-cookie"].partition(";")[0]
                home = http.get("/", headers={"Cookie": cookie, "Accept": "text/html"})
                assert "Hello, Ann" in home.text
                assert "orders_rw" in home.text
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, "")
    assert "has stopped the server and removed what it wrote" in " ".join(out.split())
