"""What works on an OpenBao target, and what does not: for `muniment check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from muniment.connectors.openbao_session import (
    FENCE,
    FENCE_POLICY,
    ROOTS,
    Bao,
    Group,
    Session,
    Us,
    lock_policy,
)
from muniment.core.errors import TargetUnavailable
from muniment.core.text import visible
from muniment.ports import CheckReport

_SETUP = """\
bao secrets enable -path=ENGINE -version=2 kv
bao auth enable approle
bao policy write muniment muniment.hcl
bao write auth/approle/role/muniment token_policies=muniment token_ttl=1m token_max_ttl=1m
"""


def policy(engine: str, lock: str) -> str:
    """What we need beside the groups."""
    return f"""\
path "identity/lookup/entity" {{ capabilities = ["update"] }}
path "identity/lookup/group" {{ capabilities = ["update"] }}
path "identity/entity/id" {{ capabilities = ["list"] }}
path "identity/group/id" {{ capabilities = ["list"] }}
path "identity/group/id/*" {{ capabilities = ["read"] }}
{FENCE_POLICY}{lock_policy(engine, lock)}"""


def group_policy(number: str) -> str:
    """What we need to change who is in the group with this id."""
    return f"""\
path "identity/group/id/{number}" {{
  capabilities = ["read", "update"]
  allowed_parameters = {{ "member_entity_ids" = [] }}
}}
"""


LEAST_PRIVILEGE = (
    "# muniment.hcl: our own policy. It may change who is in a group, and neither its policies nor its name\n"
    + policy("muniment", "lock")
    + "# for each group in the catalogue, by its id\n"
    + group_policy("ID")
    + "\n# then\n"
    + _SETUP.replace("ENGINE", "muniment")
)
#: what our token needs: path, and one of its capabilities
_NEEDED = {
    "identity/lookup/entity": "update", "identity/lookup/group": "update", "identity/entity/id": "list",
    "identity/group/id": "list", "identity/group/id/muniment-check": "read", "auth/token/create": "update",
}  # fmt: skip
#: what it has no use for, and what it would be
_TOO_MUCH = {
    "sys/policies/acl/muniment-check": "change policies",
    "identity/group": "make groups",
    "identity/entity": "make entities",
    "identity/entity-alias": "say who is whom",
    "sys/auth/muniment-check": "let others in by methods of its own",
    "auth/token/create-orphan": "make tokens that outlive its own",
}
_CHANGING = {"create", "update", "delete", "sudo", "root"}


class _Health(msgspec.Struct, frozen=True, kw_only=True):
    version: str = ""


def report(session: Session, bao: Bao, catalogue: Sequence[str]) -> CheckReport:
    """Say what works. Raises `TargetUnavailable`."""
    us = session.us()
    groups = {name: session.group_named(name) for name in sorted(set(catalogue))}
    may = _capabilities(session, bao, [group.id for group in groups.values() if group])
    details = [
        f"OpenBao {_version(session)} answers to {visible(us.display_name[:80])}.",
        f"{len([g for g in groups.values() if g])} of {len(groups)} groups in the catalogue exist.",
        "A token that is there loses a group's policies at its next request.",
        "What was issued under them, such as a database's credential, lives until its own lease ends.",
        "Whoever else changes a group of the catalogue at the same moment may lose that: OpenBao compares nothing.",
    ]
    return CheckReport(
        reachable=True,
        details=tuple(details),
        problems=(*_about_us(us, may), *_about_groups(groups, may), *_about_lock(bao, may)),
        least_privilege=_setup(bao, groups),
    )


def _capabilities(session: Session, bao: Bao, numbers: Sequence[str]) -> Mapping[str, set[str]]:
    """Of our own token."""
    engine, path = bao.lock
    paths = [
        *_NEEDED, *_TOO_MUCH, f"{engine}/data/{path}", f"{engine}/metadata/{path}",
        *(f"identity/group/id/{number}" for number in numbers),
    ]  # fmt: skip
    answer = session.read(session.ask("sys/capabilities-self", {"paths": paths}), dict[str, list[str]])
    return {path: set(answer.get(path, ())) for path in paths}


def _version(session: Session) -> str:
    try:
        said: str = msgspec.json.decode(session.ask("sys/health").body, type=_Health).version
    except (TargetUnavailable, msgspec.MsgspecError, UnicodeDecodeError):
        return "of unknown version"
    return visible(said[:40])


def _about_us(us: Us, may: Mapping[str, set[str]]) -> Iterator[str]:
    if us.type == "batch":
        yield f"Our token is a batch token, which makes no token of {FENCE}, so nothing can be changed."
    if us.is_root:
        yield ROOTS
        return
    for path, needed in _NEEDED.items():
        if not may[path] & {needed, "root"}:
            yield f"Our token may not {needed} {path.replace('/muniment-check', '/*')}."
    for path, what in _TOO_MUCH.items():
        if may[path] & _CHANGING:
            yield f"Our token may {what}, which is more than it needs."


def _about_groups(groups: Mapping[str, Group | None], may: Mapping[str, set[str]]) -> Iterator[str]:
    for name, group in groups.items():
        if group is None:
            yield f"There is no group {name}, which is in the catalogue."
        elif group.type != "internal":
            yield f"Who is in {name} is decided elsewhere: it is an {group.type} group."
        elif not may[f"identity/group/id/{group.id}"] & {"update", "root"}:
            yield f"Our token may not change who is in {name}."


def _about_lock(bao: Bao, may: Mapping[str, set[str]]) -> Iterator[str]:
    engine, path = bao.lock
    if may[f"{engine}/data/{path}"] & {"root"}:
        return
    if not may[f"{engine}/data/{path}"] >= {"create", "read", "update"} or not may[
        f"{engine}/metadata/{path}"
    ] >= {"create", "update"}:
        yield f"Our token may not keep the lock {engine}/{path}."


def _setup(bao: Bao, groups: Mapping[str, Group | None]) -> str:
    engine, path = bao.lock
    text = policy(engine, path)
    for name, group in groups.items():
        if group is not None:
            text += f"# {name}\n{group_policy(group.id)}"
    return f"# muniment.hcl\n{text}\n# then\n{_SETUP.replace('ENGINE', engine)}"
