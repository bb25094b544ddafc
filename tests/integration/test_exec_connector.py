"""Programs that do what programs do: hang, babble, end early, quote what they were told, or leave children behind."""

from __future__ import annotations

import json
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from muniment.conformance.grounds.exec import SECRET, DoorsHarness
from muniment.conformance.harness import yes
from muniment.connectors.exec_process import MAX_ANSWER
from muniment.core.errors import LeaseLost, Misconfigured, TargetUnavailable
from muniment.core.scope import Privilege, scope
from muniment.ports import Order

ORDER = Order(
    ticket="T-1",
    account="ann",
    scope=scope([Privilege(privilege="cellar")]),
    expires_at=datetime.now(UTC) + timedelta(hours=1),
)
ASK = "import json, sys; question = json.loads(sys.stdin.readline())\n"


@pytest.fixture
def doors(tmp_path: Path) -> DoorsHarness:
    return DoorsHarness(tmp_path)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("", "ended"),
        ("raise SystemExit(3)", "ended"),
        (ASK + "print('hello')", "no Observed"),
        (ASK + "print('{\"holdings\": 7}')", "no Observed"),
        (ASK + 'print(\'{"holdings": [], "more": 1}\')', "no Observed"),
        (ASK + "print('{}')", "nothing of holdings"),
        (ASK + "print('[' * 100000)", "no Observed"),
        (ASK + "sys.stdout.buffer.write(b'\\xff\\xfe\\n')", "no Observed"),
        (
            ASK + 'print(\'{"unavailable": "the vault is \\\\u001b[2J shut"}\')',
            "the vault is \\u{001b}[2J shut",
        ),
        (ASK + "print(json.dumps({'unavailable': question['secrets']['password']}))", "held a secret"),
        (ASK + "print(question['secrets']['password'])", "no Observed"),
        (ASK + f"sys.stdout.write('x' * {MAX_ANSWER + 2})", "longer than"),
        (ASK + "import time; time.sleep(60)", "did not answer in time"),
        ("import time; time.sleep(60)", "did not answer in time"),
    ],
)
def test_what_is_no_answer(doors: DoorsHarness, program: str, message: str):
    doors.program.write_text(program)
    # on a busy machine a program may be slow to answer; one that never does is waited for as long as it takes to tell
    connector = doors.impatient() if "sleep" in program else doors.connector
    with pytest.raises(TargetUnavailable) as caught:
        connector.observe(["ann"])
    assert message in caught.value.message  # of one that slept to its end it would be that it ended
    assert SECRET not in f"{caught.value!r} {caught.value.remedy} {caught.value.__cause__!r}"
    report = connector.check()
    assert report.reachable is (program == ASK + "print('{}')")  # to that question, it is an answer
    assert SECRET not in str(report)


def test_a_program_that_reads_nothing_of_a_long_question(doors: DoorsHarness):
    doors.program.write_text("import time; time.sleep(60)")
    connector = doors.make(options={"long": "x" * 1_000_000}, timeout="1s")
    with pytest.raises(TargetUnavailable, match="in time"):
        connector.observe(None)


def test_it_gets_nothing_of_our_environment_and_leaves_nobody_behind(
    doors: DoorsHarness, monkeypatch, tmp_path: Path
):
    monkeypatch.setenv("PG_PROD_DSN", SECRET)
    seen, child = tmp_path / "seen", tmp_path / "child"
    doors.program.write_text(
        ASK
        + f"import os, subprocess; open({str(seen)!r}, 'w').write(json.dumps([dict(os.environ), os.getcwd(), sys.argv]))\n"
        f"open({str(child)!r}, 'w').write(str(subprocess.Popen(['sleep', '60']).pid))\n"
        "print(json.dumps({'holdings': []}))"
    )
    assert doors.connector.observe(None).holdings == ()
    environment, folder, arguments = json.loads(seen.read_text())
    assert set(environment) - {"LC_CTYPE"} == {"PATH", "LANG"}
    assert folder == "/"
    assert arguments == [str(doors.program)]
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child.read_text()}/stat").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{child.read_text()}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break  # killed; whoever is process 1 here has not collected it yet
        time.sleep(0.02)
    else:
        assert time.monotonic() < deadline, "a child of the program lives on"


@pytest.mark.parametrize("answer", ["outcomes", "other tickets", "none", "code"])
def test_what_it_says_of_orders(doors: DoorsHarness, answer: str):
    said = {
        "outcomes": {
            "outcomes": [
                {"ticket": "T-1", "result": "rejected", "code": "target.shut", "message": "x\x1b[2J"}
            ]
        },
        "other tickets": {"outcomes": [{"ticket": "T-2", "result": "done"}]},
        "none": {},
        "code": {"outcomes": [{"ticket": "T-1", "result": "rejected", "code": "DROP", "message": ""}]},
    }[answer]
    doors.program.write_text(
        ASK
        + "print('{\"ready\": true}', flush=True); sys.stdin.readline()\n"
        + f"print(json.dumps({said!r}))"
    )
    if answer in {"other tickets", "none"}:
        with pytest.raises(TargetUnavailable, match="outcomes"):
            doors.connector.provision([ORDER], yes)
        return
    [outcome] = doors.connector.provision([ORDER], yes)
    assert (outcome.result, outcome.code) == (
        "rejected",
        "target.shut" if answer == "outcomes" else "target.rejected",
    )
    assert "\x1b" not in outcome.message
    assert outcome.message


def test_without_go_nothing_changes_even_if_we_die_there(doors: DoorsHarness):
    """What a lost lease and a killed worker have in common: the input of the program ends (I19)."""

    def lost() -> None:
        raise LeaseLost("another worker holds the work")

    for _ in range(3):
        with pytest.raises(LeaseLost):
            doors.connector.provision([ORDER], lost)
    assert doors.everything() == {}
    assert doors.connector.provision([ORDER], yes)[0].result == "done"  # nobody holds its lock any more


def test_a_program_that_others_could_change_is_not_run(doors: DoorsHarness, tmp_path: Path):
    program = tmp_path / "open"
    program.write_text("#!/bin/sh\ntouch ran\n")
    program.chmod(0o777)
    connector = doors.make(command=[str(program)])
    with pytest.raises(TargetUnavailable, match="changed by others"):
        connector.observe(None)
    program.chmod(0o644)
    with pytest.raises(TargetUnavailable, match="cannot be started"):
        connector.observe(None)
    assert not stat.S_IMODE(program.stat().st_mode) & 0o111
    with pytest.raises(TargetUnavailable, match="cannot be started"):
        doors.make(command=[str(tmp_path / "gone")]).observe(None)


@pytest.mark.parametrize(
    "settings",
    [
        {"command": []},
        {"command": ["doors"]},
        {"command": "sh -c x"},
        {"timeout": "soon"},
        {"shell": True},
        {"secrets": {"a": 1}},
    ],
)
def test_settings_that_cannot_be_meant(doors: DoorsHarness, settings):
    with pytest.raises(Misconfigured) as caught:
        doors.make(**settings)
    assert caught.value.remedy


def test_no_shell_reads_what_stands_in_the_command(doors: DoorsHarness, tmp_path: Path):
    doors.make(command=["/bin/echo", f"; touch {tmp_path}/ran"]).check()
    doors.make(command=["/bin/echo", f"$(touch {tmp_path}/ran)"]).check()
    assert not (tmp_path / "ran").exists()
