"""Changes of policies, targets and approver groups: one person proposes, another agrees, and then they hold (I9, I35).

    files on disk ──propose──> ChangeProposed, with every text ──adopt, by somebody else──> PolicyAdopted, SettingsAdopted
                                             │ refuse
                                             v
                                       ChangeRefused

The stream "policy" holds it all, so what is in force is a fold of it, and what lies on disk is only a wish. The first
set of a ledger is adopted as it is found, with nobody to agree, and every evidence of a decision under it says so.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from muniment.core.errors import Conflict, Invalid, NotFound, Refused
from muniment.core.events import (
    ChangeProposed,
    ChangeRefused,
    Event,
    PolicyAdopted,
    PolicyFile,
    PolicyTextRecorded,
    SettingsAdopted,
)
from muniment.core.identity import Identity, IdentityId, is_human
from muniment.policy.checking import require_first, too_light
from muniment.policy.lint import Finding
from muniment.policy.loading import SCHEMA, digest_of, schema_text
from muniment.ports import Append, Stream
from muniment.service.desk import Caller, Desk
from muniment.service.ids import new_id
from muniment.service.standing import POLICY_STREAM, Change, Files, Standing, current, sha256, without_schema
from muniment.store.events import SqlStore

#: characters of text in one entry: even if each takes six bytes, it fits into 32 KiB
PART = 5000


# ── what people do ──


def propose(
    desk: Desk, caller: Caller, *, files: Files, settings: Files, reason: str, findings: Iterable[Finding]
) -> Change:
    """File a change. Nothing of it holds before somebody else agrees.

    Args:
        desk: the adapters.
        caller: an operator.
        files: the policies as they are to be, without the schema.
        settings: targets and groups as they are to be.
        reason: why.
        findings: what is wrong with the policies; any error refuses them.
    """
    if "operator" not in caller.identity.roles or not is_human(caller.identity.id):
        raise Refused(
            f"{caller.identity.id} is not an operator, and only operators propose changes",
            remedy="Ask an operator to propose it.",
            code="refused.not-an-operator",
        )
    for finding in findings:
        if finding.level == "error":
            raise Refused(
                f"this set cannot be adopted: {finding.policy or finding.file}: {finding.message}",
                remedy=f"{finding.remedy} `muniment policy check` shows everything.",
                code="refused.policy-check",
            )
    text = desk.commit_text(reason, "the reason")
    whole = {SCHEMA: schema_text(), **files}
    state = current(desk.store)
    digest = digest_of(whole)
    if digest == state.policy and dict(settings) == state.settings:
        raise Invalid(
            "nothing differs from what is in force", remedy="Change a file first.", code="invalid.no-change"
        )
    now = desk.clock.now()
    proposed = ChangeProposed(
        change=new_id("chg", now, desk.random.bytes(10)), base=state.policy, policy=digest, files=_named(whole),
        settings=_named(settings), reason=text.commitment,
    )  # fmt: skip
    events = (*_recorded(state, whole), *_recorded(state, settings), proposed)
    desk.store.append(
        Append(stream=_stream(desk.store), actor=caller.actor, events=events, at=now, texts=(text,))
    )
    return current(desk.store).changes[proposed.change]


def adopt(desk: Desk, caller: Caller, change_id: str) -> Change:
    """Agree to a change, which puts it in force at once. Whoever proposed it cannot."""
    state, change = _open(desk, change_id)
    _require_second(desk, caller, change)
    if stale(state, change):
        raise Refused(
            f"the policies, targets or groups changed after {change.id} was proposed",
            remedy="Have it proposed again, from what is in force now.",
            code="refused.stale-change",
        )
    if light := too_light(without_schema(change.files)):
        raise Refused(
            f"{light[0].policy}: {light[0].message}", remedy=light[0].remedy, code="refused.policy-check"
        )
    events: list[Event] = []
    if change.policy != state.policy:
        events.append(
            PolicyAdopted(
                digest=change.policy,
                files=_named(change.files),
                change=change.id,
                proposed_by=change.proposed_by,
            )
        )
    if change.settings != state.settings:
        events.append(
            SettingsAdopted(
                settings=_named(change.settings), change=change.id, proposed_by=change.proposed_by
            )
        )
    _append(desk, caller, state, tuple(events))
    return current(desk.store).changes[change.id]


def refuse(desk: Desk, caller: Caller, change_id: str, *, reason: str) -> Change:
    """Say no to a change, or take one's own back."""
    state, change = _open(desk, change_id)
    if caller.identity.id != change.proposed_by:
        _require_second(desk, caller, change)
    text = desk.commit_text(reason, "the reason")
    stream = _stream(desk.store)
    if stream.version != state.version:
        raise Conflict("somebody else changed it at the same time", remedy="Look at it again.")
    refused = ChangeRefused(change=change.id, reason=text.commitment)
    now = desk.clock.now()
    desk.store.append(Append(stream=stream, actor=caller.actor, events=(refused,), at=now, texts=(text,)))
    return current(desk.store).changes[change.id]


def require_reader(desk: Desk, caller: Caller) -> None:
    """Raise `Refused` unless the caller may see changes: operators, auditors, and those who decide on them."""
    who = caller.identity
    if not {"operator", "auditor"} & set(who.roles) and not has_say(desk, who):
        raise Refused(
            f"{who.id} may not see changes",
            remedy="Operators, auditors and those of [policy] approvers may.",
            code="refused.not-an-operator",
        )


def first(state: Standing, policy: Files, settings: Files | None) -> tuple[Event, ...]:
    """What puts the first set in force, or the same policies under the schema of another version. Empty if neither.

    Raises:
        Misconfigured: it is the first that nobody tries out any more, and a light path of it is too wide.
    """
    events: list[Event] = []
    if settings is not None and state.settings is None:
        require_first(without_schema(policy))
    if digest_of(policy) != state.policy:
        events += [*_recorded(state, policy)]
        adopted = PolicyAdopted(digest=digest_of(policy), files=_named(policy))
        same = state.policy is not None and without_schema(policy) == without_schema(state.files)
        if same and state.change and state.proposed_by:
            adopted = replace(adopted, change=state.change, proposed_by=state.proposed_by)
        events.append(adopted)
    if settings is not None and state.settings is None:
        events += [*_recorded(state, settings), SettingsAdopted(settings=_named(settings))]
    return tuple(events)


def stale(state: Standing, change: Change) -> bool:
    """Whether something else is in force than what a change was made from: agreeing to it would undo that unseen."""
    return (change.base, change.replaces) != (state.policy, state.settings or {})


def has_say(desk: Desk, who: Identity) -> bool:
    """Whether somebody may agree to changes: operators, and those of [policy] approvers; only people."""
    named = {who.id, *(f"group:{group}" for group in who.groups)}
    adopters = desk.governed.approvers() if desk.governed else ()
    return is_human(who.id) and ("operator" in who.roles or not named.isdisjoint(adopters))


def same_person(desk: Desk, one: IdentityId, who: Identity) -> bool:
    """Whether these are one person, under any alias, then or now."""
    known = desk.directory.get(one)
    names = {one, *((known.id, *known.aliases) if known else ())}
    return not names.isdisjoint({who.id, *who.aliases})


def _require_second(desk: Desk, caller: Caller, change: Change) -> None:
    """A person with a say in this, who is not whoever proposed it, under any alias, then or now."""
    who = caller.identity
    if same_person(desk, change.proposed_by, who):
        raise Refused(
            f"{who.id} proposed {change.id}, and somebody else must decide on it",
            remedy="Ask another operator, or one of [policy] approvers.",
            code="refused.self-approval",
        )
    if not has_say(desk, who):
        raise Refused(
            f"{who.id} has no say in changes",
            remedy="Operators, and those of [policy] approvers, decide on them.",
            code="refused.not-an-approver",
        )


def _open(desk: Desk, change_id: str) -> tuple[Standing, Change]:
    state = current(desk.store)
    change = state.changes.get(change_id)
    if change is None:
        raise NotFound(
            f"there is no change {change_id!r:.60}", remedy="`muniment policy changes` shows them."
        )
    if change.status != "proposed":
        raise Refused(
            f"{change.id} was {change.status} already", code="refused.status", remedy="Propose it again."
        )
    return state, change


def _append(desk: Desk, caller: Caller, state: Standing, events: tuple[Event, ...]) -> None:
    stream = _stream(desk.store)
    if stream.version != state.version:
        raise Conflict("somebody else changed it at the same time", remedy="Look at it again.")
    desk.store.append(Append(stream=stream, actor=caller.actor, events=events, at=desk.clock.now()))
    if desk.governed:
        desk.governed.adopted.look_again()


def _stream(store: SqlStore) -> Stream:
    return store.read(POLICY_STREAM)[0]


def _recorded(state: Standing, files: Files) -> tuple[PolicyTextRecorded, ...]:
    """The texts that are not on record yet, in parts."""
    return tuple(
        part
        for name, text in sorted(files.items())
        if sha256(text) not in state.texts
        for part in _parts(name, text, sha256(text))
    )


def _parts(name: str, text: str, digest: str) -> list[PolicyTextRecorded]:
    pieces = [text[at : at + PART] for at in range(0, len(text), PART)] or [""]
    return [
        PolicyTextRecorded(name=name, sha256=digest, part=number, parts=len(pieces), text=piece)
        for number, piece in enumerate(pieces)
    ]


def _named(files: Files) -> tuple[PolicyFile, ...]:
    return tuple(PolicyFile(name=name, sha256=sha256(text)) for name, text in sorted(files.items()))
