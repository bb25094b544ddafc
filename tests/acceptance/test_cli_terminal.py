"""On a terminal: readable at 80 columns, colour only where it is wanted, time running down, Ctrl-C without a word."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from acceptance.conftest import ANN, CYD, PROGRAM, Muniment, environment

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\x03]")


def as_in_a_terminal() -> None:
    """Ctrl-C comes from there, and is heeded: whoever runs the tests in the background has it ignored."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def on_terminal(*words: object, columns: int = 80, until: str = "", **extra: str) -> tuple[int, str]:
    """Run the program on a terminal; press Ctrl-C once ``until`` was shown. Return its status and all that it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [*PROGRAM, *map(str, words)], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env=environment(TERM="xterm-256color", **extra),
        preexec_fn=as_in_a_terminal,  # noqa: PLW1509  no threads here
    )  # fmt: skip
    os.close(theirs)
    shown, deadline, press = b"", time.monotonic() + 60, 0.0
    try:
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    read = os.read(ours, 65536)
                except OSError:  # the other end is closed
                    break
                shown += read
            if until and time.monotonic() > press and re.search(until, shown.decode(errors="replace")):
                os.write(ours, b"\x03")
                press = time.monotonic() + 10  # as somebody would who sees that nothing happens
        try:
            return process.wait(timeout=10), shown.decode(errors="replace")  # our ^C is echoed anywhere
        except subprocess.TimeoutExpired:
            pytest.fail(f"it did not end; it showed {shown[-3000:]!r}")
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.fixture(scope="module")
def active(shared: Muniment) -> str:
    ticket = shared.filed("--reason", "to [bold]look[/bold] :smile: " + "very " * 40 + "closely")
    assert shared("approve", ticket, who=CYD).status == 0
    return ticket


@pytest.mark.parametrize("words", [["list"], ["show"], ["targets"], ["grants"], ["check"]])
def test_lines_fit_and_text_is_not_markup(shared: Muniment, active: str, words: list[str]) -> None:
    if words == ["show"]:
        words = ["show", active]
    status, shown = on_terminal("--config", shared.config, "--as", ANN, *words)
    assert status == 0
    assert COLOUR.search(shown)
    rows = CONTROL.sub("", shown).split("\n")
    assert max(map(len, rows)) <= 80
    if words[0] == "show":
        assert "[bold]look[/bold] :smile:" in shown


def test_no_colour_where_none_is_wanted(shared: Muniment, active: str) -> None:
    status, shown = on_terminal("--config", shared.config, "--as", ANN, "show", active, NO_COLOR="1")
    assert status == 0
    assert not re.search(r"\x1b\[[0-9;]*[3-9][0-9]", shown), "bold may stay, colours go"


def test_a_pipe_gets_plain_lines(shared: Muniment, active: str) -> None:
    for words in (["list"], ["show", active], ["ledger", "verify"]):
        answer = shared(*words, who=ANN)
        assert "\x1b" not in answer.out + answer.err
        assert not set(answer.out) & set("│╭─┃━")
    assert len(shared("list", who=ANN).out.splitlines()) == 2, "a heading, and one line a ticket"


def test_the_time_runs_down_until_ctrl_c(shared: Muniment, active: str) -> None:
    seen = r"(\d+) s left(?s:.)*?(?!\1)\b\d+ s left"
    status, shown = on_terminal("--config", shared.config, "--as", ANN, "show", active, "--watch", until=seen)
    assert status == 130
    assert "Traceback" not in shown
    assert shown.count("\x1b[?25h") >= 1, "the cursor is back"


def test_whoever_reads_may_go_away(shared: Muniment, active: str) -> None:
    command = " ".join([*PROGRAM, "--config", str(shared.config), "--as", ANN, "policy", "check", "--json"])
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -c 1"], capture_output=True, text=True, timeout=60, check=False,
        env=environment(),
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("{", "")
