"""``muniment demo``: one request from the asking to the evidence, on real targets, in half a minute.

Every sentence that is told was looked at first; if one is not so, the demo says which and fails. Whatever happens,
Ctrl-C, SIGTERM and SIGHUP included, the server is stopped and the folders are removed.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import psycopg
import structlog

from muniment.config import Config
from muniment.core.errors import MunimentError
from muniment.demo.acts import ACTS
from muniment.demo.play import Play
from muniment.demo.showing import OpenApi, Showing, free_port, show
from muniment.demo.stage import Stage, set_stage
from muniment.demo.telling import Teller, Told, Unmet, require
from muniment.service.desk import Desk

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PROVEN = (
    "Shown: nobody approves their own request; nothing is given before it is approved, nor more than that; it ends on"
    " time and is seen gone, open sessions too; one changed byte in the record is found."
)
_NOT_PROVEN = (
    "Not shown: that others have seen the same ledger. It is operator-signed only, no witness has confirmed it. And"
    " Ann, Cyd and Dee were played by the demo: who may act as whom is for your sign-in to say."
)
_NEXT = (
    "muniment init access            a configuration of your own that works at once",
    "cd access && muniment check     what Muniment can and may do on each target",
    "muniment request --help         ask for access",
)


def tell(as_json: bool, open_desk: Callable[[Config], Desk], open_api: OpenApi | None = None) -> int:
    """Tell the story; return the exit status: 0, 1 if something was not as it must be, 128 and the signal's number.

    With ``open_api``, the pages stay open on the result until a signal comes, which is then how it should end.

    Raises:
        Misconfigured: there is no PostgreSQL to start. Nothing was begun.
        Unavailable: PostgreSQL does not start.
    """
    with _unwound_by_signals() as received, _quiet_log(), _libpq_without_settings():
        teller = Teller(as_json=as_json)
        try:
            return _told(teller, open_desk, open_api, received)
        except KeyboardInterrupt:
            teller.say("Interrupted.")
            return 128 + (received[0] if received else signal.SIGINT)


def _told(
    teller: Teller, open_desk: Callable[[Config], Desk], open_api: OpenApi | None, received: list[int]
) -> int:
    began = time.monotonic()
    teller.say("Muniment on this machine: access from the asking to the evidence.", "")
    with set_stage(open_desk, port=free_port() if open_api else None) as stage:
        play = Play(stage=stage, teller=teller)
        failed = not _play(play, received)
        if open_api and not failed:
            with show(stage, open_api) as showing:
                seconds = round(time.monotonic() - began, 1)
                teller.document(_document(play, seconds, failed=False) | {"serving": showing.document})
                _wait(teller, showing, received)
    failed = not (_cleaned_up(teller, stage) and not failed)
    seconds = round(time.monotonic() - began, 1)
    if open_api is None or failed:
        teller.document(_document(play, seconds, failed=failed))
    if failed:
        number = next(step["step"] for step in teller.steps if not step["ok"])
        teller.say(f"The demo failed at step {number}, after {seconds} s.", style="bold")
        return 1
    teller.say(_PROVEN)
    teller.say(_NOT_PROVEN)
    teller.say(f"That took {seconds} s. Next:")
    teller.literally(*_NEXT)
    return 0


def _document(play: Play, seconds: float, *, failed: bool) -> dict[str, Any]:
    return {
        "ok": not failed, "seconds": seconds, "steps": play.teller.steps, "tickets": play.tickets,
        "ledger": play.ledger, "tampered": play.tampered,
    }  # fmt: skip


def _wait(teller: Teller, showing: Showing, received: list[int]) -> None:
    """Until somebody has seen enough."""
    teller.say(f"The pages are open at {showing.url}. Each link signs one person in, once, within an hour:")
    for name, does, link in showing.links:
        teller.say(f"{name} {does}")
        teller.literally(link)
    teller.say("Ctrl-C ends it and removes everything.")
    try:
        while not received:
            signal.pause()
    except KeyboardInterrupt:
        teller.say("That was it.")


def _play(play: Play, received: list[int]) -> bool:
    """All acts, or those up to the one that fails or a signal came in."""
    with play.teller:
        try:
            for who, act in ACTS:
                if received:
                    raise KeyboardInterrupt
                try:
                    play.teller.step(who, act(play))
                except Unmet as error:
                    play.teller.fail(who, f"it must be that {error}")
                    return False
                except MunimentError as error:
                    play.teller.fail(who, f"{error.message} [{error.code}]")
                    return False
                except (psycopg.Error, OSError, ValueError, LookupError) as error:
                    play.teller.fail(who, f"{type(error).__name__}: {error}")
                    return False
        finally:
            play.close()
    return True


def _cleaned_up(teller: Teller, stage: Stage) -> bool:
    """Look that nothing is left."""
    try:
        require(stage.server.pid is None, "the server is stopped")
        require(not stage.folder.exists() and stage.server.folder is None, "the folders are gone")
    except Unmet as error:
        teller.fail("Muniment", f"it must be that {error}")
        return False
    teller.step("Muniment", Told("has stopped the server and removed what it wrote."))
    return True


@contextmanager
def _unwound_by_signals() -> Iterator[list[int]]:
    """The first signal unwinds everything, as Ctrl-C does; later ones do not disturb the cleaning up."""
    received: list[int] = []

    def unwind(number: int, frame: FrameType | None) -> None:
        received.append(number)
        # what is raised in the hooks that logging has around fork() is printed and lost: the next act looks
        in_hook = frame is not None and frame.f_globals.get("__name__") == "logging"
        if len(received) == 1 and not in_hook:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    usual = {signal.SIG_DFL, signal.default_int_handler}  # a caller's choice to ignore one stays in force
    before = {number: signal.getsignal(number) for number in _SIGNALS if signal.getsignal(number) in usual}
    for number in before:
        signal.signal(number, unwind)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Only what is critical, on stderr: stdout belongs to the story."""
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        yield
    finally:
        structlog.configure(**before)


@contextmanager
def _libpq_without_settings() -> Iterator[None]:
    """PGSERVICE, PGOPTIONS and the like are about other servers than ours."""
    theirs = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PG")}
    try:
        yield
    finally:
        os.environ.update(theirs)
