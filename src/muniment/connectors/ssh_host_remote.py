#!/usr/bin/env python3
"""muniment-host: who may log in to which account of this host, and who may run what with sudo, by ticket.

It runs on the host, as root, behind an SSH key that may start nothing else. It needs Python 3.9 and nothing beside. Which
logins and which commands there are at all says its configuration on the host, and nobody who asks.

One question on stdin, answers on stdout, one JSON document a line, as the connector ``exec`` has them. What follows what:

1. to change something: take the lock (on the configuration), say "ready", wait for "go", five seconds at most
2. end the sessions of whoever loses something, change one file a privilege, each by rename, and end sessions again: a
   crash between leaves a file as it was or as it will be, and nobody has a session of before
3. sudo itself reads a rule before it is put in its place (``visudo -c``)
"""

from __future__ import annotations

import fcntl
import grp
import hashlib
import json
import os
import pwd
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TextIO

PATIENCE = 5  # seconds until "go", or whoever asked has lost the work to another
GRACE = 3.0  # seconds for a session to end
MARK = "# muniment "
MADE = "# made by muniment, which removes this file with its last line"
USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}", re.ASCII)
PRINCIPAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}", re.ASCII)
TICKET = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)
NOBODY = 0xFFFFFFFF  # the audit session of what no login started
PROGRAMS = "/usr/sbin:/usr/bin:/sbin:/bin"


class Unavailable(Exception):
    """This host cannot say; its sentence is for whoever asked."""


class Host:
    """What the configuration says there is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for each in (path, *path.parents):
            mode = each.stat()
            if mode.st_uid not in {0, os.geteuid()} or (
                mode.st_mode & 0o022 and not mode.st_mode & stat.S_ISVTX
            ):
                raise Unavailable(f"{each} can be changed by others")
        said = json.loads(path.read_text(encoding="utf-8"))
        self.principals = Path(said.get("principals", "/etc/ssh/principals"))
        self.sudoers = Path(said.get("sudoers", "/etc/sudoers.d"))
        self.sshd = ["-f", said["sshd_config"]] if "sshd_config" in said else []
        self.logins: list[str] = said.get("logins", [])
        self.sudo: dict[str, dict[str, Any]] = said.get("sudo", {})
        for name in self.logins:
            if not USER.fullmatch(name):
                raise Unavailable(f"{name!r} in logins is no account's name")

    def refusal(self, account: str, privilege: str) -> tuple[str, str] | None:
        """Why this cannot be given: a code and a sentence."""
        kind, _, name = privilege.partition(":")
        if kind == "login" and name in self.logins:
            return None if PRINCIPAL.fullmatch(account) else ("bad-name", "this is no principal")
        if kind == "sudo" and name in self.sudo:
            if not USER.fullmatch(account):
                return "bad-name", "this is no account's name"
            return None if known(account) else ("no-such-account", f"there is no account {account}")
        return "no-such-privilege", f"this host's configuration has no {privilege[:200]}"


# ── files ──


def replace(path: Path, text: str, mode: int, *, sound: Callable[[Path], bool] = lambda _: True) -> bool:
    """Write a file by rename; it keeps owner and mode if it is there. False: it is not ``sound``, and nothing changed."""
    owner = None
    with suppress(FileNotFoundError):
        before = path.lstat()
        if not stat.S_ISREG(before.st_mode):
            raise Unavailable(f"{path} is no ordinary file")
        mode, owner = stat.S_IMODE(before.st_mode), (before.st_uid, before.st_gid)
    number, name = tempfile.mkstemp(
        prefix=".muniment-", dir=path.parent
    )  # a name with a dot sudo does not read
    try:
        with os.fdopen(number, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(text)
            file.flush()
            os.fchmod(number, mode)
            if owner:
                os.fchown(number, *owner)
            os.fsync(number)
        if not sound(Path(name)):
            return False
        Path(name).rename(path)
    finally:
        with suppress(FileNotFoundError):
            Path(name).unlink()
    durable(path.parent)
    return True


def remove(path: Path) -> None:
    """Durably."""
    with suppress(FileNotFoundError):
        path.unlink()
        durable(path.parent)


def durable(folder: Path) -> None:
    """What was renamed in it stays so."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def lines_of(path: Path) -> list[str]:
    """Text of a file, by lines with their ends; none if it is not there."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return []
    with os.fdopen(number, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return file.read().splitlines(keepends=True)


# ── principals: a line for each who may log in ──


def login_lines(path: Path) -> Iterator[tuple[int, str, str | None, str]]:
    """Of each line that lets somebody in: where it is, whom, for which ticket, and until when."""
    lines = lines_of(path)
    for at, line in enumerate(lines):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        found = re.search(
            r'expiry-time="([0-9]{8}(?:[0-9]{4}(?:[0-9]{2})?)?Z?)"', line, re.ASCII | re.IGNORECASE
        )
        until = found[1] if found else ""
        mark = lines[at - 1] if at else ""
        ticket = mark[len(MARK) :].strip() if mark.startswith(MARK) else None
        ours = ticket is not None and line.strip() == login_line(until, words[-1])
        shown = words[-1].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        yield at, shown, ticket if ours else None, until


def login_line(until: str, principal: str) -> str:
    """As sshd reads it: it lets nobody in by it from that instant on."""
    return f'expiry-time="{until}" {principal}'


def give_login(host: Host, order: dict[str, Any], name: str) -> str:
    path, until = host.principals / name, stamp(order)
    wanted = f"{MARK}{order['ticket']}\n{login_line(until, order['account'])}\n"
    kept = without_login(path, order)
    text = "".join(kept)
    if not text:  # there is no such file, or an empty one
        wanted = f"{MADE}\n{wanted}" if not path.exists() else wanted
    elif text.startswith(MADE):
        wanted, text = f"{MADE}\n{wanted}", text.partition("\n")[2]
    replace(path, wanted + text, 0o644)
    return ""


def take_login(host: Host, order: dict[str, Any], name: str) -> None:
    path = host.principals / name
    before, kept = lines_of(path), without_login(path, order)
    if kept == before:
        return
    if "".join(kept).strip() == MADE:
        remove(path)
    else:
        replace(path, "".join(kept), 0o644)


def without_login(path: Path, order: dict[str, Any]) -> list[str]:
    """All lines but this ticket's own."""
    lines = lines_of(path)
    gone = {
        number
        for at, principal, ticket, _ in login_lines(path)
        if (principal, ticket) == (order["account"], order["ticket"])
        for number in (at - 1, at)
    }
    return [line for at, line in enumerate(lines) if at not in gone]


# ── sudo: a file for each ticket ──


def sudo_file(host: Host, order: dict[str, Any], name: str) -> Path:
    """Its name follows from the order, so that nothing need be remembered."""
    whole = "\0".join((order["ticket"], order["account"], name))
    return host.sudoers / f"muniment-{hashlib.sha256(whole.encode()).hexdigest()[:40]}"


def sudo_text(host: Host, order: dict[str, Any], name: str, until: str) -> str:
    rule = host.sudo[name]
    start = f"{order['account']} ALL=({rule.get('runas', 'root')}) NOTAFTER={until}"
    tag = "NOPASSWD: " if rule.get("nopasswd") else ""
    lines = [f"{start} {tag}{command}\n" for command in rule["commands"]]
    return f"{MARK}{order['ticket']} {order['account']} {name}\n{''.join(lines)}"


def give_sudo(host: Host, order: dict[str, Any], name: str) -> str:
    def sound(path: Path) -> bool:
        return run("visudo", "-c", "-q", "-f", str(path)).returncode == 0

    text = sudo_text(host, order, name, stamp(order))
    if not replace(sudo_file(host, order, name), text, 0o440, sound=sound):
        return f"sudo cannot read the rule of {name}: look at this host's configuration"
    return ""


def take_sudo(host: Host, order: dict[str, Any], name: str) -> None:
    remove(sudo_file(host, order, name))


def sudo_files(host: Host) -> Iterator[tuple[str, str, str, str]]:
    """Ticket, account, name and end of each file of ours that is as we wrote it."""
    for path in sorted(host.sudoers.glob("muniment-*")):
        lines = lines_of(path)
        words = lines[0][len(MARK) :].split() if lines and lines[0].startswith(MARK) else []
        until = re.search(r"NOTAFTER=([0-9]{14}Z)", "".join(lines[1:2]))
        if len(words) == 3 and until and words[2] in host.sudo:
            order = {"ticket": words[0], "account": words[1]}
            if path == sudo_file(host, order, words[2]) and "".join(lines) == sudo_text(
                host, order, words[2], until[1]
            ):
                yield words[0], words[1], words[2], until[1]


def sudo_rights() -> list[tuple[str, str, str, str]]:
    """Of everybody but root, as sudo itself reads its rules: account, as whom, command, until when."""
    done = run("cvtsudoers", "-f", "json", "-e", "/etc/sudoers")
    if done.returncode:
        raise Unavailable("sudo cannot read its rules")
    rights = []
    for spec in json.loads(done.stdout or "{}").get("User_Specs", []):
        people = [name for user in spec["User_List"] for name in accounts_in(user)]
        for part in spec["Cmnd_Specs"]:
            options = {key: value for option in part.get("Options", []) for key, value in option.items()}
            runas = [
                str(next(iter(each.values()))) for each in part.get("runasusers", [{"username": "root"}])
            ]
            rights += [
                (person, user, command["command"], options.get("notafter", ""))
                for person in people
                for user in runas
                for command in part["Commands"]
                if "command" in command and not command.get("negated")
            ]
    return rights


def accounts_in(user: dict[str, Any]) -> list[str]:
    """Whom a word in a rule means."""
    name = str(user.get("username", ""))
    if "usergroup" in user:
        with suppress(KeyError):
            group = grp.getgrnam(user["usergroup"])
            return sorted({*group.gr_mem, *(p.pw_name for p in pwd.getpwall() if p.pw_gid == group.gr_gid)})
        return []
    everybody = [each.pw_name for each in pwd.getpwall() if each.pw_uid]
    return everybody if name == "ALL" else [name] if name != "root" else []


def held_sudo(host: Host) -> Iterator[tuple[str, str, str | None]]:
    """Account, name and ticket: of ours from our files, of others from sudo's own reading."""
    ours = [each for each in sudo_files(host) if not over(each[3])]
    for ticket, account, name, _ in ours:
        yield account, name, ticket
    rights = [right for right in sudo_rights() if not over(right[3])]
    for _, account, name, until in ours:
        rule = host.sudo[name]
        for command in rule["commands"]:
            with suppress(ValueError):
                rights.remove((account, rule.get("runas", "root"), command, until))
    for name, rule in host.sudo.items():
        may = {
            (person, command)
            for person, runas, command, _ in rights
            if runas in {"ALL", rule.get("runas", "root")}
        }
        for person in sorted({person for person, _ in may}):
            if all((person, c) in may or (person, "ALL") in may for c in rule["commands"]):
                yield person, name, None


# ── sessions ──


def sessions_of(account: str) -> dict[int, set[int]]:
    """The processes of sshd for this account, each with all that runs in its session. Ours is not among them."""
    parents, owners, audits = {}, {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            number = int(folder.name)
            parents[number] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            audits[number] = int((folder / "sessionid").read_text())
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            program = (folder / "exe").readlink().name.split(" ")[0]
            if program in {"sshd", "sshd-session"} and re.match(
                rf"sshd(-session)?: {re.escape(account)}( |@|$)", title
            ):
                owners[number] = title
    above, number = set(), os.getpid()
    while number > 1:
        above.add(number)
        number = parents.get(number, 1)
    found = {}
    for number in owners:
        if parents.get(number) in owners or number in above:
            continue
        inside = {number}
        while more := {n for n, parent in parents.items() if parent in inside} - inside:
            inside |= more
        audit = audits.get(number, NOBODY)
        if audit != NOBODY:
            inside |= {n for n, each in audits.items() if each == audit}
        found[number] = inside - above
    return found


def end_sessions(account: str) -> tuple[int, int]:
    """How many ended, and how many are left after a while."""
    deadline = time.monotonic() + GRACE
    seen: set[int] = set()
    while True:
        alive = sessions_of(account)
        for leader, inside in alive.items():
            for number in inside:
                # sshd itself may put its house in order first
                first = number == leader and number not in seen
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGTERM if first else signal.SIGKILL)
        seen |= alive.keys()
        if not alive or time.monotonic() > deadline:
            return len(seen - alive.keys()), len(alive)
        time.sleep(0.02)


# ── questions ──


def check(host: Host) -> dict[str, Any]:
    """Say what works."""
    problems = [f"There is no account {name}, which is in logins." for name in host.logins if not known(name)]
    if host.logins:
        said = run("sshd", "-T", *host.sshd).stdout
        used = re.search(r"^authorizedprincipalsfile (.*)$", said, re.MULTILINE | re.IGNORECASE)
        if not used or f"{host.principals}/%u" not in used[1].split():
            problems.append(
                f"sshd does not look into {host.principals}: AuthorizedPrincipalsFile {host.principals}/%u"
            )
    version = re.search(r"[0-9]+\.[0-9]+", run("ssh", "-V").stderr)
    if host.logins and (not version or tuple(map(int, version[0].split("."))) < (9, 1)):
        problems.append("Logins end in UTC, which sshd knows from 9.1 on: with this one nobody gets in.")
    for name in host.sudo:
        with tempfile.NamedTemporaryFile("w", suffix=".muniment") as file:
            order = {"ticket": "check", "account": "nobody"}
            file.write(sudo_text(host, order, name, "20380101000000Z"))
            file.flush()
            if run("visudo", "-c", "-q", "-f", file.name).returncode:
                problems.append(f"sudo cannot read the rule of {name}.")
    problems += [
        f"{folder} is no folder that can be written."
        for folder in (host.principals, host.sudoers)
        if not folder.is_dir() or not os.access(folder, os.W_OK)
    ]
    return {
        "details": [
            f"{socket.gethostname()} answers, OpenSSH {version[0] if version else 'of unknown version'}.",
            f"Logins: {', '.join(host.logins) or 'none'}. Commands: {', '.join(host.sudo) or 'none'}.",
            "Whoever loses a login loses all sessions of that account, also those of others.",
        ],
        "problems": problems,
    }


def observe(host: Host, accounts: list[str] | None) -> dict[str, Any]:
    """Say who holds what, whoever gave it."""
    found = [
        {"account": who, "privilege": f"login:{name}", "ticket": ticket}
        for name in host.logins
        for _, who, ticket, until in login_lines(host.principals / name)
        if not over(until)
    ]
    if host.sudo:
        found += [
            {"account": who, "privilege": f"sudo:{name}", "ticket": ticket}
            for who, name, ticket in held_sudo(host)
        ]
    return {"holdings": [each for each in found if accounts is None or each["account"] in accounts]}


def provision(host: Host, order: dict[str, Any]) -> dict[str, Any]:
    """All of an order, or the first no."""
    for item in order["scope"]:
        kind, _, name = item["privilege"].partition(":")
        if over(stamp(order)):
            return no(order, "too-late", "the access is over already")
        why = (give_login if kind == "login" else give_sudo)(host, order, name)
        if why:
            return no(order, "rejected", why)
    return {"ticket": order["ticket"], "result": "done", "native_expiry": order["expires_at"]}


def revoke(host: Host, order: dict[str, Any]) -> dict[str, Any]:
    """What is not there is not taken. Sessions end before, so that a crash leaves none of before; and after."""
    there = given(host, order["ticket"])
    mine = [i["privilege"] for i in order["scope"] if (order["account"], i["privilege"]) in there]
    ended = sum(end_sessions(name)[0] for name in sorted(losing(host, order, mine)))
    for item in order["scope"]:
        kind, _, name = item["privilege"].partition(":")
        if PRINCIPAL.fullmatch(order["account"]) and "/" not in name and name not in {"", ".", ".."}:
            (take_login if kind == "login" else take_sudo)(host, order, name)
    left = 0
    for name in sorted(losing(host, order, mine)):
        more, alive = end_sessions(name)
        ended, left = ended + more, left + alive
    if left:
        return {
            "ticket": order["ticket"], "result": "unknown", "code": "target.session-survives",
            "message": f"{left} sessions did not end in time", "sessions_ended": ended,
        }  # fmt: skip
    return {"ticket": order["ticket"], "result": "done", "sessions_ended": ended}


def given(host: Host, ticket: str) -> set[tuple[str, str]]:
    """Account and privilege of all that is there for this ticket, also what is over and still there."""
    logins = {
        (who, f"login:{name}")
        for name in host.logins
        for _, who, whose, _ in login_lines(host.principals / name)
        if whose == ticket
    }
    return logins | {(who, f"sudo:{name}") for whose, who, name, _ in sudo_files(host) if whose == ticket}


def losing(host: Host, order: dict[str, Any], privileges: list[str]) -> set[str]:
    """Accounts of this host whose sessions must end: not where another grant of the same is there."""
    found = set()
    wanted = [privilege.partition(":") for privilege in privileges]
    commands = list(held_sudo(host)) if any(kind == "sudo" for kind, _, _ in wanted) else []
    for kind, _, name in wanted:
        if kind == "login":
            others = any(
                who == order["account"] and ticket != order["ticket"] and not over(until)
                for _, who, ticket, until in login_lines(host.principals / name)
            )
        else:
            others = any(
                (who, what) == (order["account"], name) and ticket != order["ticket"]
                for who, what, ticket in commands
            )
        if not others:
            found.add(name if kind == "login" else order["account"])
    return found


def change(host: Host, what: str, orders: list[dict[str, Any]]) -> dict[str, Any]:
    """Ready, go, and only then the change."""
    with locked(host):
        say({"ready": True})
        readable, _, _ = select.select([sys.stdin], [], [], PATIENCE)
        if not readable or json.loads(sys.stdin.readline() or "{}") != {"go": True}:
            sys.exit(1)  # the work is another's now
        for folder in (host.principals, host.sudoers):  # what a crash left, and nobody reads
            for path in folder.glob(".muniment-*"):
                remove(path)
        outcomes = []
        for order in orders:
            if not TICKET.fullmatch(order["ticket"]):
                outcomes.append(no(order, "bad-name", "the ticket's id cannot stand in a file"))
            elif what == "revoke":
                outcomes.append(revoke(host, order))
            else:
                no_way = next(
                    (why for i in order["scope"] if (why := host.refusal(order["account"], i["privilege"]))), None
                )  # fmt: skip
                outcomes.append(no(order, no_way[0], no_way[1]) if no_way else provision(host, order))
        return {"outcomes": outcomes}


@contextmanager
def locked(host: Host) -> Iterator[TextIO]:
    """Nobody else of us changes this host meanwhile."""
    deadline = time.monotonic() + PATIENCE
    with host.path.open(encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unavailable("another worker changes this host") from None
                time.sleep(0.02)
        yield file


def stamp(order: dict[str, Any]) -> str:
    """The end, as sshd and sudo write it: whole seconds, none too early."""
    end = datetime.fromisoformat(order["expires_at"].replace("Z", "+00:00"))
    end += timedelta(microseconds=-end.microsecond % 1_000_000)
    return end.astimezone(timezone.utc).strftime("%Y%m%d%H%M%SZ")


def over(until: str) -> bool:
    """Whether this end is behind us. What has none, or one that we cannot read, is not over."""
    form = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}.get(len(until.rstrip("Zz")))
    if form is None:
        return False
    try:
        end = datetime.strptime(until.rstrip("Zz"), form)  # noqa: DTZ007  without Z it is this host's own time
    except ValueError:
        return False
    end = end.replace(tzinfo=timezone.utc) if until[-1] in "Zz" else end.astimezone()
    return end <= datetime.now(timezone.utc)


def known(account: str) -> bool:
    """Whether this host has the account."""
    try:
        pwd.getpwnam(account)
    except KeyError:
        return False
    return True


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A program of this host's, with no shell and no environment of anybody's."""
    environment = {"PATH": PROGRAMS, "LC_ALL": "C"}
    found = next(
        (f"{place}/{program}" for place in PROGRAMS.split(":") if os.access(f"{place}/{program}", os.X_OK)),
        "",
    )
    if not found:
        raise Unavailable(f"there is no {program} here")
    return subprocess.run(
        [found, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, check=False,
        timeout=10,
    )  # fmt: skip


def no(order: dict[str, Any], code: str, message: str) -> dict[str, Any]:
    """A rejection."""
    return {"ticket": order["ticket"], "result": "rejected", "code": f"target.{code}", "message": message}


def say(answer: dict[str, Any]) -> None:
    """One line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Answer one question."""
    question = json.loads(sys.stdin.readline() or "{}")
    try:
        host = Host(Path(sys.argv[1] if len(sys.argv) > 1 else "/etc/muniment-host.json"))
        if question["do"] == "check":
            say(check(host))
        elif question["do"] == "observe":
            say(observe(host, question["accounts"]))
        else:
            say(change(host, question["do"], question["orders"]))
    except Unavailable as error:
        say({"unavailable": str(error)})
    except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        say({"unavailable": f"muniment-host failed: {type(error).__name__}"})


if __name__ == "__main__":
    main()
