"""Hosts over SSH: who may log in to an account, and who may run what with sudo, until the ticket ends.

The host has a program of ours, `ssh_host_remote`, behind a key that may start nothing else. What is asked goes through its
stdin, in the protocol of the connector ``exec``: no name is ever part of a command line, here or there. What follows what,
and how a worker that was paused is kept out (I19), its docstring says.

`login:NAME` is a line in the AuthorizedPrincipalsFile of the account NAME: whoever has a certificate for that principal may
log in to it. `sudo:NAME` is a drop-in for sudo, with the commands that the host's configuration calls NAME. sshd and sudo
end both by themselves, on time.

The system's own ``ssh`` carries it, without the configuration, agent or known hosts of whoever runs us: it follows the
system's rules for cryptography, and is mended with the system.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import msgspec
from msgspec.structs import replace

from muniment.connectors import exec as programs
from muniment.connectors.exec_process import A, Call
from muniment.connectors.kinds import Kind
from muniment.core.errors import Invalid, Misconfigured, TargetUnavailable
from muniment.core.instants import parse_duration
from muniment.core.scope import Privilege, Scope
from muniment.core.text import clean_name
from muniment.ports import Capabilities, CheckReport, Connector

_SSH = "/usr/bin/ssh"
_FAILED = 255  # what ssh itself ends with when there is no connection
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|[0-9a-fA-F:]{2,39}", re.ASCII)
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}", re.ASCII)
_PRINCIPAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}", re.ASCII)
_PATH = re.compile(r"/[A-Za-z0-9_./+@ -]*", re.ASCII)  # ssh expands % and ${} in paths, and so they have none
_PRIVILEGE = re.compile(r"login:[a-z_][a-z0-9_-]{0,31}|sudo:[A-Za-z0-9_][A-Za-z0-9_-]{0,63}", re.ASCII)
#: what ssh says of a connection that failed, and what is to be done
_WHY = {
    "Host key verification failed": "The host's key is not in known_hosts, or is another: find out which is right.",
    "Permission denied": "The host refused our key: put it into authorized_keys of our account there.",
    "Connection refused": "Nothing answers at this port.",
    "Connection timed out": "Nothing answers at this address.",
    "UNPROTECTED PRIVATE KEY": "The key's file can be read by others: chmod 600.",
    "not found": "The key is not bound to muniment-host: set it up as `muniment connector show ssh-host` prints.",
}

LEAST_PRIVILEGE = """\
# on each host, as root: our program, and what there is to give
install -m 755 ssh_host_remote.py /usr/local/sbin/muniment-host
cat >/etc/muniment-host.json <<'END'
{"logins": ["deploy"],
 "sudo": {"restart-web": {"runas": "root", "nopasswd": true, "commands": ["/usr/bin/systemctl restart nginx"]}}}
END
mkdir -p /etc/ssh/principals
# in sshd_config: TrustedUserCAKeys /etc/ssh/ca.pub, and AuthorizedPrincipalsFile /etc/ssh/principals/%u
# an account for us, whose key starts that program and nothing else
useradd -m -p '*' muniment
install -o muniment -m 700 -d ~muniment/.ssh
echo 'restrict,command="sudo -n /usr/local/sbin/muniment-host" ssh-ed25519 AAAA… muniment' >~muniment/.ssh/authorized_keys
echo 'muniment ALL=(root) NOPASSWD: /usr/local/sbin/muniment-host ""' >/etc/sudoers.d/muniment
"""
CAPABILITIES = Capabilities(
    native_expiry=True,
    ends_sessions=True,
    issues_credential=False,
    needs_public_key=False,
    lists_everything=True,
    separate=True,
)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand in ``[targets.ID]`` beside what every target has."""

    host: str  # Its name or address.
    port: int = 22  # Its port.
    user: str = "muniment"  # Our own account there.
    key: Path  # File of our private key, with no passphrase; nobody else may read it.
    known_hosts: Path  # File with the host's own key, as `ssh-keyscan` prints it. No other is spoken to.
    timeout: str = "15s"  # For each call in all.


def build(name: str, settings: Settings, catalogue: Sequence[Privilege]) -> Connector:
    """Make the connector of one target; nothing is started. Raises `Invalid` or `Misconfigured`."""
    if not _HOST.fullmatch(settings.host):
        raise Misconfigured("host is no name or address", remedy="Write it like web1.example.com.")
    if not _USER.fullmatch(settings.user):
        raise Misconfigured("user is no account's name", remedy="Small letters, digits, _ and - make one.")
    if not 0 < settings.port < 65536:
        raise Misconfigured("port is no port", remedy="Write a number up to 65535.")
    for what, path in (("key", settings.key), ("known_hosts", settings.known_hosts)):
        if not _PATH.fullmatch(str(path.absolute())):
            raise Misconfigured(
                f"the path of {what} has characters that ssh would read as something else",
                remedy="Letters, digits and . _ + @ - / and spaces are no trouble.",
            )
    timeout = parse_duration(settings.timeout) / timedelta(seconds=1)
    made = SshHost(name, settings, timeout=timeout)
    for privilege in catalogue:
        made.validate("any", (privilege,))
    return made


class _OverSsh(Call):
    """A connection that failed is no fault of a program's."""

    def answer(self, kind: type[A]) -> A:
        """As the program's own."""
        try:
            return super().answer(kind)
        except TargetUnavailable as error:
            with suppress(subprocess.TimeoutExpired):
                if self._process.wait(0.2) == _FAILED:
                    raise TargetUnavailable(
                        f"{self._name} cannot be reached over SSH", remedy="`muniment check` says why; it is tried again."
                    ) from error  # fmt: skip
            raise


class SshHost(programs.Exec):
    """See `muniment.ports.Connector`; an account is a principal or a user of the host, a privilege as above.

    Each ticket's grant is a line or a file of its own, with the ticket in it. `observe` shows others' as well: of sudo as
    sudo itself reads its rules, for everybody but root.
    """

    _call = _OverSsh

    def __init__(self, name: str, settings: Settings, *, timeout: float) -> None:
        """Starts nothing. ``timeout`` is in seconds."""
        command = _command(settings, int(timeout) or 1)
        super().__init__(name, programs.Settings(command=command, separate=True), timeout=timeout)
        self._where = f"{settings.user}@{settings.host}"
        self.capabilities = CAPABILITIES

    def validate(self, account: str, scope: Scope, key: str | None = None) -> None:
        """See `Connector.validate`. What these names are at most, the host's configuration has yet to allow."""
        del key
        clean_name(account, "the account")
        if not _PRINCIPAL.fullmatch(account):
            raise Invalid(
                "the account is no principal of a certificate",
                remedy="Letters, digits and . _ @ + - make one.",
            )
        for item in scope:
            clean_name(item.privilege, "the privilege")
            if not _PRIVILEGE.fullmatch(item.privilege):
                raise Invalid(
                    "the privilege is neither login:ACCOUNT nor sudo:NAME", remedy="Write login:deploy, for example."
                )  # fmt: skip
            if item.privilege.startswith("sudo:") and not _USER.fullmatch(account):
                raise Invalid(
                    "the account is no user of a host", remedy="sudo is given to users of the host."
                )
            if item.resource is not None:
                raise Invalid("a host's privilege has no resource", remedy="Ask for the privilege alone.")

    def check(self) -> CheckReport:
        """See `Connector.check`. Why there is no connection ssh says once more, in words of ours."""
        report = super().check()
        if report.reachable:
            return replace(
                report, details=(f"{self._where} answers over SSH.", *report.details[1:]),
                least_privilege=LEAST_PRIVILEGE,
            )  # fmt: skip
        return replace(report, problems=(*report.problems, *self._reasons()))

    def _reasons(self) -> tuple[str, ...]:
        with suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(
                self._settings.command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                timeout=min(2.0, self._timeout), env={"PATH": "/usr/bin:/bin", "LANG": "C"}, errors="replace",
            )  # fmt: skip
            return tuple(why for words, why in _WHY.items() if words in done.stderr)
        return ()


def _command(settings: Settings, patience: int) -> tuple[str, ...]:
    """Ours alone: no configuration, agent or known host of anybody else's, and no question to anybody."""
    options = (
        "BatchMode=yes", "StrictHostKeyChecking=yes", f'UserKnownHostsFile="{settings.known_hosts.absolute()}"',
        "GlobalKnownHostsFile=none", "UpdateHostKeys=no", f'IdentityFile="{settings.key.absolute()}"',
        "IdentitiesOnly=yes", "IdentityAgent=none", "PreferredAuthentications=publickey", "ForwardAgent=no",
        "ClearAllForwardings=yes", "PermitLocalCommand=no", "ControlMaster=no", "ControlPath=none", "RequestTTY=no",
        "EscapeChar=none", "LogLevel=ERROR", f"ConnectTimeout={patience}", f"Port={settings.port}", f"User={settings.user}",
    )  # fmt: skip
    given = [part for option in options for part in ("-o", option)]
    # the key's own command is run, whatever is asked for; a key that would run ours is bound to nothing
    return (_SSH, "-F", "none", *given, "--", settings.host, "muniment-key-is-bound-to-nothing")


KIND = Kind(
    summary="a privilege is a login to an account of the host, or a command with sudo, with an end of its own",
    settings=Settings,
    build=build,
    capabilities=CAPABILITIES,
    least_privilege=LEAST_PRIVILEGE,
)
