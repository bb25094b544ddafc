"""``muniment check``: what is configured, what answers, and what to mend."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from muniment.cli import console
from muniment.cli.governing import governed_warnings
from muniment.core.errors import Invalid, MunimentError, Unavailable
from muniment.core.instants import wire
from muniment.core.text import clean_name
from muniment.service.filing import account_of
from muniment.service.witnessing import attendance, consult, standing
from muniment.store.engine import shown

if TYPE_CHECKING:
    from muniment.config import Config
    from muniment.ports import Target
    from muniment.service.desk import Desk

#: how long entries may wait for a checkpoint before that is a warning
UNSEALED = timedelta(minutes=5)
#: what a connector can do, in words: if it can, if it cannot
CAN = {
    "native_expiry": ("ends access by itself, on time", "access ends only when Muniment takes it back"),
    "ends_sessions": ("sessions end with the access", "open sessions outlive the access"),
    "issues_credential": ("issues a credential to collect", "issues no credential"),
    "needs_public_key": ("needs the beneficiary's public key", "needs no key of the beneficiary"),
    "lists_everything": ("sees every holding, ours or not", "sees only what it is asked about"),
    "effective_scope": (
        "shows what a privilege brings with it",
        "shows what is held itself, not what that brings",
    ),
    "usage_log": ("its own log names who made use of what", "its own log does not say who made use of what"),
    "change_feed": ("says whether anything changed", "does not say whether anything changed"),
}


def examine(config: Config, desk: Desk) -> dict[str, Any]:
    """Everything there is to say. That the desk could be opened says that the files and the store are sound."""
    people = list(desk.directory.everybody())
    warnings = [] if desk.targets else ["there are no targets, so nothing can be asked for"]
    warnings += governed_warnings(config, desk)
    url = desk.store.engine.url
    if url.password or "password" in url.query:
        warnings.append("the store's password stands in [store] url, where PGPASSFILE would keep it apart")
    if desk.directory.stale:
        warnings.append(f"the directory may be out of date: {desk.directory.stale}")
    try:
        if desk.references:
            desk.references.is_open("change", "any")
    except Unavailable as error:
        warnings.append(f"{error.message}; what demands an open reference is refused meanwhile")
    vkeys, trouble = _keys(desk)
    return {
        "configuration": str(config.base),
        "store": shown(url),
        "ledger": {
            "origin": config.ledger.origin,
            "vkey": vkeys[0] if vkeys else None,
            "vkeys": vkeys,
            "witnesses": _witnesses(desk),
        },
        "policies": {
            "digest": desk.policy.digest,
            "files": sorted(desk.policy.files()),
            "single_person_trial": desk.governed is None,
        },
        "identities": {"known": len(people), "active": sum(1 for each in people if each.active)},
        "targets": [_target(desk, target) for _, target in sorted(desk.targets.items())],
        "warnings": [*warnings, *trouble],
    }


def _keys(desk: Desk) -> tuple[list[str | None], list[str]]:
    """The vkeys of the ledger's keys, and what is wrong with those that do not answer."""
    vkeys: list[str | None] = []
    trouble = []
    for signer in desk.signers:
        try:
            vkeys.append(signer.verifier.vkey)
        except MunimentError as error:
            vkeys.append(None)
            trouble.append(f"the ledger's key cannot sign, so nothing new is given: {error.message}")
    since = desk.views.oldest_unsealed()
    if since is not None and desk.clock.now() - since > UNSEALED:
        trouble.append(
            f"nothing was sealed since {wire(since)}, so nothing new is given; `muniment serve` seals, and says why not"
        )
    return vkeys, trouble


def _witnesses(desk: Desk) -> dict[str, Any]:
    """Whether they answer, and whose word the newest published checkpoint is."""
    rolled_back: str | None = None
    try:
        consult(desk)
    except MunimentError as error:
        rolled_back = error.message
    known = attendance(desk, desk.ledger.kept.published_size())
    unreachable = {name: error.message for name, error in desk.attention.absences().items()}
    return {
        "says": standing(known), "needed": desk.quorum, "rolled_back": rolled_back,
        "known": [w | {"reachable": w["name"] not in unreachable, "problem": unreachable.get(w["name"])} for w in known],
    }  # fmt: skip


def _target(desk: Desk, target: Target) -> dict[str, Any]:
    report = target.connector.check()
    capabilities = target.connector.capabilities
    return {
        "id": target.id,
        "connector": target.kind,
        "environment": target.environment,
        "reachable": report.reachable,
        "details": list(report.details),
        "problems": list(report.problems),
        "least_privilege": report.least_privilege,
        "capabilities": {name: getattr(capabilities, name) for name in CAN},
        "warnings": [*_shared_accounts(desk, target), *_without_owners(desk, target)],
    }


def _shared_accounts(desk: Desk, target: Target) -> list[str]:
    """Two identities with one account there: what one is given, the other has."""
    holders: dict[str, list[str]] = defaultdict(list)
    for identity in desk.directory.everybody():
        account = account_of(target, identity.id)
        try:
            clean_name(account, "the account")
        except Invalid:
            continue  # nobody can ask for it
        holders[account].append(identity.id)
    return [
        f"{' and '.join(who)} are both {account} on {target.id}: what one is given, the other has"
        for account, who in sorted(holders.items())
        if len(who) > 1
    ]


def _without_owners(desk: Desk, target: Target) -> list[str]:
    empty = [
        owner
        for owner in target.owners
        if not (
            desk.directory.members(owner.removeprefix("group:"))
            if owner.startswith("group:")
            else desk.directory.get(owner)
        )
    ]
    return [f"{owner} owns {target.id}, and nobody is known by that" for owner in empty]


def render(document: dict[str, Any]) -> RenderableType:
    """For people."""
    ledger, people = document["ledger"], document["identities"]
    witnesses = ledger["witnesses"]
    parts: list[RenderableType] = [
        console.pairs(
            [
                ("configuration", _fine(document["configuration"])),
                ("policies", _fine(", ".join(document["policies"]["files"]))),
                ("identities", _fine(f"{people['known']}, of whom {people['active']} active")),
                ("store", _fine(document["store"])),
                ("ledger", _fine(f"{ledger['origin']}, public key {ledger['vkey'] or 'unknown'}")),
                ("newest checkpoint", _fine(witnesses["says"])),
            ]
        )
    ]
    if witnesses["rolled_back"]:
        parts.append(console.line(f"problem: {witnesses['rolled_back']}", console.BAD))
    for each in witnesses["known"]:
        said = ("answers", console.GOOD) if each["reachable"] else (each["problem"], console.BAD)
        parts.append(Text.assemble(console.line(f"witness {each['name']} "), console.line(*said)))
    for target in document["targets"]:
        parts += [Text(), *_render_target(target)]
    parts += [console.line(f"warning: {words}", console.LOOK) for words in document["warnings"]]
    return Group(*parts)


def _render_target(target: dict[str, Any]) -> list[RenderableType]:
    answers = ("answers", console.GOOD) if target["reachable"] else ("does not answer", console.BAD)
    heading = Text.assemble(
        console.line(target["id"], console.STRONG),
        console.line(f" ({target['connector']}, {target['environment']}) "),
        console.line(*answers),
    )
    rows: list[tuple[str, RenderableType]] = [
        *(("  it", console.line(CAN[name][not can])) for name, can in target["capabilities"].items()),
        *(("  says", console.line(words)) for words in target["details"]),
        *(("  problem", console.line(words, console.BAD)) for words in target["problems"]),
        *(("  warning", console.line(words, console.LOOK)) for words in target["warnings"]),
    ]
    if target["least_privilege"] and target["problems"]:
        rows.append(("  setup", Text(target["least_privilege"].rstrip())))
    return [heading, console.pairs(rows)]


def _fine(words: str) -> Text:
    return console.line(words)
