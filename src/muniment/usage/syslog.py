"""sshd and sudo, as syslog writes them: ``TIME HOST PROGRAM[PID]: MESSAGE``.

The time is RFC 3339, or the older ``Nov 26 18:31:30``, which has no year and no offset: then the year is the one that is
not in the future, and the offset is configured. What a user types is behind what the program says of them: only a whole
message counts, from its beginning.

Sources: OpenSSH auth.c (auth_log), sudo's manual sudoers(5), "LOG FORMAT".
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from muniment.core.use import Said, ticket_in
from muniment.usage.reading import Format, Hints, Other, Unparsable, decoded, instant

_FRAME = re.compile(
    r"(?:<\d{1,3}>)?(?:1 )?(?:(\d{4}-\d\d-\d\dT[0-9:.,]+(?:Z|[+-]\d\d:?\d\d)?)|([A-Z][a-z]{2}) +(\d{1,2}) (\d\d:\d\d:\d\d)) "
    r"(\S{1,255}) ([A-Za-z0-9_./-]{1,64})(?:\[(\d{1,10})\])?: ?(.*)",
    re.ASCII | re.DOTALL,
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ACCEPTED = re.compile(
    r"Accepted (publickey|password|keyboard-interactive/pam|gssapi-with-mic|hostbased) for (\S{1,64}) from (\S{1,64}) port (\d{1,5}) ssh2"
    r"(?:: (?:(\S+-CERT) \S+ ID (.{1,600}) \(serial \d+\) CA .*|.*))?",
    re.ASCII | re.DOTALL,
)
_SUDO = re.compile(
    r" *(\S{1,64}) : (?:TTY=(\S{1,64}) ; )?PWD=(.*?) ; USER=(\S{1,64}) ; (?:GROUP=\S{1,64} ; )?(?:TSID=\S+ ; )?(?:ENV=.*? ; )?COMMAND=(.+)",
    re.ASCII | re.DOTALL,
)


def _sshd(raw: bytes, hints: Hints) -> Said | Other:
    at, host, program, pid, message = _framed(raw, hints)
    if program.rpartition("/")[2] not in {"sshd", "sshd-session", "sshd-auth"}:
        return Other(at)
    match = _ACCEPTED.fullmatch(message)
    if match is None:
        return Other(at)
    how, login, _, port, _, key_id = match.groups()
    ticket, account = ticket_in(key_id) if key_id else (None, login)
    # a key id that is not ours is what another authority, or nobody in particular, wrote there
    account = account if ticket else login
    person = None if how in {"publickey", "hostbased"} else f"the login was by {how}"
    return Said(
        at=at, account=account, privileges=(login, f"login:{login}"), ticket=ticket, person=person, action=f"login {login}",
        shown=f"login {login}", object=host, own=f"{host}/{pid}/{port}/{at.isoformat()}",
    )  # fmt: skip


def _sudo(raw: bytes, hints: Hints) -> Said | Other:
    at, host, program, _, message = _framed(raw, hints)
    if program.rpartition("/")[2] != "sudo":
        return Other(at)
    match = _SUDO.fullmatch(message)
    if match is None:
        return Other(at)  # "command not allowed", "3 incorrect password attempts": they stand before TTY=
    who, tty, _, runas, command = match.groups()
    person = f"a terminal, {tty}" if tty and tty != "unknown" else None
    program_run = command.split(" ", 1)[0]
    return Said(
        at=at, account=who, privileges=(f"sudo:{runas}",), person=person, becomes=runas, action=command,
        shown=f"sudo as {runas}: {program_run}", object=host,
    )  # fmt: skip


def _framed(raw: bytes, hints: Hints) -> tuple[datetime, str, str, str, str]:
    match = _FRAME.fullmatch(decoded(raw))
    if match is None:
        raise Unparsable("it is not a line of syslog")
    stamp, month, day, clock, host, program, pid, message = match.groups()
    at = instant(stamp, hints) if stamp else _yearless(month, int(day), clock, hints)
    return at, host, program, pid or "", message


def _yearless(month: str, day: int, clock: str, hints: Hints) -> datetime:
    if month not in _MONTHS:
        raise Unparsable("its time does not exist")
    latest = hints.now + timedelta(days=1)  # clocks differ
    for year in (latest.year, latest.year - 1):
        try:
            found = datetime.fromisoformat(f"{year:04}-{_MONTHS.index(month) + 1:02}-{day:02}T{clock}")
        except ValueError as error:
            if (month, day) == ("Feb", 29):
                continue
            raise Unparsable("its time does not exist") from error
        if (at := found.replace(tzinfo=hints.zone).astimezone(UTC)) <= latest:
            return at
    raise Unparsable("its time does not exist")


SSHD = Format(
    name="sshd", summary="OpenSSH's sshd, by syslog; a certificate of ours names its ticket", read=_sshd
)
SUDO = Format(name="sudo", summary="sudo, by syslog", read=_sudo)
