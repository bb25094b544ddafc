"""``muniment init``: a folder that works at once, or nothing at all.

1. everything is written into a hidden folder inside DIR, with its final modes;
2. each entry is moved to its place, `muniment.toml` last: without it the folder is not a configuration.

Whatever fails, what was made is removed again. Only a kill between the moves leaves something, and then `init` names it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from muniment.cli.session import Usage
from muniment.config import load
from muniment.connectors.openssh_keys import new_ca_key, public_line
from muniment.core.errors import Misconfigured
from muniment.directory.file import STARTER
from muniment.ledger.errors import LedgerFault
from muniment.ledger.keys import SEED, signer_from_seed, signer_to_pem
from muniment.policy import starter
from muniment.store.marking import mark_file

CONFIG = """\
# Muniment's settings. Paths are relative to this file. Secrets are references: env:NAME or file:PATH.

[store]
url = "sqlite:///var/muniment.db"      # or postgresql://user@host/database
mark_key = "file:keys/mark.key"        # marks what Muniment wrote, for ever: keep a copy offline

[ledger]
origin = "{origin}"  # the ledger's name, for ever: change it before the first ticket or not at all
key = "file:keys/ledger.key"           # signs checkpoints; keep a copy offline
tiles = "var/ledger"
checkpoint_interval = "1s"
witnesses = []

[server]
listen = "127.0.0.1:8642"

[identities]
file = "identities.toml"               # who there is: people, service accounts, workloads, AI agents

[policy]
dir = "policies"                       # Cedar: who may ask for what, and who decides
single_person_trial = true             # for trying out: what you edit is in force, and nobody else has to agree.
                                       # Remove it before anybody relies on this: changes then take two people

# An SSH certificate authority: it needs no server, so it works at once. `muniment check` says what hosts need.
[targets.bastion]
connector = "openssh"
environment = "prod"                   # policies speak of it: dev, test and staging are treated more mildly
owners = ["group:platform"]            # who approves, under the starter policies
ca_key = "file:keys/ssh-ca"
krl = "var/bastion.krl"                # the list of revoked certificates, which hosts obey
# accounts = {{ "human:ann@example.com" = "ann" }}   # else by template:
# account = "{{local_part}}"             # ann@example.com is ann

[[targets.bastion.privileges]]
name = "web-admin"                     # an SSH principal
description = "Log in on the web servers as their administrator"
risk = "high"
bounded = true                         # it reaches one narrow thing and cannot widen itself: one owner is enough

[[targets.bastion.privileges]]
name = "root"
description = "Everything, everywhere"
risk = "critical"                      # the starter policies want two approvals and a review for this

# A database. Its account needs ADMIN OPTION on the roles that it is to give, pg_signal_backend to end sessions, and
# pg_read_all_stats to see them. `muniment check` says what is missing.
# [targets.pg-prod]
# connector = "postgresql"
# environment = "prod"
# owners = ["group:platform"]
# dsn = "env:PG_PROD_DSN"
# [[targets.pg-prod.privileges]]
# name = "orders_rw"
# description = "Read and write the orders schema"
# risk = "high"
"""

_SECRET, _PLAIN, _FOLDER = 0o600, 0o644, 0o700


@dataclass(frozen=True, kw_only=True)
class Made:
    """What there is now."""

    folder: Path
    origin: str
    created: dict[str, str]  # name to what it is
    commands: list[str]  # what to try next


def start(folder: Path, origin: str | None) -> Made:
    """Make everything.

    Raises:
        Usage: something of it exists already, the folder cannot be written, or the origin is not a name. Nothing
            was made.
    """
    folder = Path(os.path.abspath(folder.expanduser()))  # noqa: PTH100  a link to a folder stays what it is
    origin = origin or f"muniment.local/{secrets.token_hex(4)}"
    try:
        _refuse_to_overwrite(folder)
        made = _folders(folder)
        try:
            _fill(folder, origin)
        except BaseException:
            for each in made:
                with suppress(OSError):  # somebody else put something into it
                    each.rmdir()
            raise
    except OSError as error:
        raise Usage(
            f"{folder} cannot be written: {error.strerror}",
            remedy="Name a folder of yours; nothing was made.",
            code="usage.init",
        ) from error
    return Made(folder=folder, origin=origin, created=_CREATED, commands=_commands(folder))


_CREATED = {
    "muniment.toml": "the configuration, with an SSH certificate authority as its first target",
    "identities.toml": "example people: Ann asks, Cyd and Dee approve, Ops operates, Aud audits",
    "policies/": "starter policies, to be read and changed",
    "keys/ledger.key": "the ledger's key, which only you can read; keep a copy offline",
    "keys/mark.key": "the secret that marks stored entries, which only you can read; keep a copy offline",
    "keys/ssh-ca": "the certificate authority's key, which only you can read; ssh-ca.pub is for your hosts",
    "var/": "the store and the ledger, once there is something in them",
}
#: what is moved into place, in this order
_ENTRIES = ("keys", "policies", "var", "identities.toml", "muniment.toml")


def _commands(folder: Path) -> list[str]:
    here = folder == Path.cwd()
    config = "" if here else f" --config {_quoted(folder / 'muniment.toml')}"
    request = (
        'muniment request bastion web-admin --for 1h --reason "first try" --public-key ~/.ssh/id_ed25519.pub'
    )
    return [
        f"muniment check{config}",
        f"{request} --as human:ann@example.com{config}",
        f"muniment list --awaiting-me --as human:cyd@example.com{config}",
    ]


def _quoted(path: Path) -> str:
    import shlex  # noqa: PLC0415  only here

    return shlex.quote(str(path))


def _refuse_to_overwrite(folder: Path) -> None:
    there = [name for name in _ENTRIES if os.path.lexists(folder / name)]
    if there:
        raise Usage(
            f"{folder} holds {', '.join(there)} already, and nothing is overwritten",
            remedy="Name another folder, or move those away.",
            code="usage.init",
        )


def _folders(folder: Path) -> list[Path]:
    """Make the folder and those above it; return those that were made, innermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    made: list[Path] = []
    for each in reversed(missing):
        each.mkdir(mode=_FOLDER)
        made.insert(0, each)
    return made


def _fill(folder: Path, origin: str) -> None:
    stage = Path(tempfile.mkdtemp(prefix=".muniment-init-", dir=folder))
    moved: list[Path] = []
    try:
        _write_all(stage, origin)
        _try_out(stage)
        for name in _ENTRIES:
            place = folder / name
            if os.path.lexists(place):  # somebody was quicker
                _refuse_to_overwrite(folder)
            (stage / name).rename(place)
            moved.append(place)
        _sync(folder)
    except BaseException:
        for place in moved:
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        raise
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _write_all(stage: Path, origin: str) -> None:
    # the register of what the authority issued: without one, nobody could tell that it issued nothing
    for name in ("keys", "policies", "var", "var/bastion.krl.d", "var/bastion.krl.d/ended"):
        (stage / name).mkdir(mode=_FOLDER)
    try:
        ledger_key = signer_to_pem(signer_from_seed(origin, secrets.token_bytes(SEED)))
    except LedgerFault as error:
        raise _bad_origin(error.message) from error
    authority = new_ca_key()
    _write(stage / "keys/ledger.key", ledger_key, _SECRET)
    _write(stage / "keys/mark.key", mark_file(secrets.token_bytes(32)), _SECRET)
    _write(stage / "keys/ssh-ca", authority, _SECRET)
    _write(stage / "keys/ssh-ca.pub", public_line(authority).encode() + b"\n", _PLAIN)
    for name, text in (*starter.files().items(), *starter.tests().items()):
        _write(stage / "policies" / name, text.encode(), _PLAIN)
    _write(stage / "identities.toml", STARTER.encode(), _PLAIN)
    _write(stage / "muniment.toml", CONFIG.format(origin=origin).encode(), _PLAIN)


def _try_out(stage: Path) -> None:
    """Read back what was written, as every other command will."""
    try:
        load(stage / "muniment.toml")
    except Misconfigured as error:
        raise _bad_origin(error.message) from error


def _bad_origin(why: str) -> Usage:
    return Usage(
        f"the origin cannot be used: {why}",
        remedy="Write it like ledger.example.com/muniment.",
        code="usage.init",
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
