"""The policy set in force: `ports.Policy` by Cedar.

A request is permitted when every one of its questions is: each privilege, for the beneficiary and for the requester
if that is somebody else (I8, I38). What it obliges to is merged over all permits that held in any of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from muniment.core.errors import Invalid
from muniment.core.identity import is_human
from muniment.core.scope import Privilege
from muniment.core.terms import Terms
from muniment.core.ticket import Ticket
from muniment.core.verdict import Authority, Evaluation, Obligations, Stage, Verdict
from muniment.policy.engine import Engine
from muniment.policy.explain import Explainer, said
from muniment.policy.loading import Rule, read_folder
from muniment.policy.slices import (
    Entity,
    Question,
    anonymous,
    answering_for,
    approval_slice,
    catalogued,
    read_uid,
    request_slice,
)
from muniment.ports import CatalogueEntry, Subject, Target


class CedarPolicy:
    """One policy set. Immutable, and safe for several threads; a changed set is another object."""

    digest: str

    def __init__(self, files: Mapping[str, str]) -> None:
        """Check and compile a set, given as name and text of each file.

        Raises:
            Misconfigured: something in it cannot be used; the message names file and policy.
        """
        self._engine = Engine(files)
        self._explainer = Explainer(self._engine)
        self._names_requests = self._engine.names_requests()
        self.digest = self._engine.digest
        self.rules: Mapping[str, Rule] = self._engine.rules

    @classmethod
    def load(cls, folder: Path) -> CedarPolicy:
        """The set in a folder of ``*.cedar`` files. Raises `Misconfigured`."""
        return cls(read_folder(folder))

    def files(self) -> Mapping[str, str]:
        """Name and full text of each file, the schema among them."""
        return dict(self._engine.files)

    def named_groups(self) -> frozenset[str]:
        """Every group that a policy names, so that `muniment check` can miss one."""
        return frozenset(group for rule in self.rules.values() for group in rule.groups())

    def approver_groups(self) -> frozenset[str]:
        """Groups whose members decide: named as approvers, or in a policy about approving."""
        named = {who for rule in self.rules.values() if rule.duty for who in rule.duty.named()}
        about = {
            group for rule in self.rules.values() if "approve" in rule.actions for group in rule.groups()
        }
        return frozenset({who.removeprefix("group:") for who in named if who.startswith("group:")} | about)

    def judge_request(
        self, terms: Terms, requester: Subject, beneficiary: Subject, target: Target
    ) -> Verdict:
        """May these terms be asked for, and what does that oblige to?"""
        entries = catalogued(target, terms.scope)
        faults = _faults(terms, requester, beneficiary, target) or _request_faults(terms, target, entries)
        if faults:
            return self._verdict(reasons=faults)
        questions, entities = request_slice(terms, requester, beneficiary, target, entries)
        evaluations = self._engine.ask(questions, entities)
        each = len(evaluations) // len(terms.scope)
        denied = [
            (e, f"{_who(e)} to have {terms.scope[at // each]} on {target.id}")
            for at, e in enumerate(evaluations)
            if not e.allowed
        ]
        if denied:
            return self._verdict(evaluations, entities, reasons=self._explainer.why_not(denied, entities))
        try:
            obligations = self._engine.obligations(evaluations, entities)
        except Invalid as error:
            return self._verdict(evaluations, entities, reasons=(error.message,))
        return self._verdict(evaluations, entities, permitted=True, obligations=obligations)

    def judge_approver(
        self, ticket: Ticket, approver: Subject, requester: Subject, beneficiary: Subject, target: Target
    ) -> Authority:
        """Which stages is this person in, and may they decide them? Each stage is a question of its own.

        Stages that policy keeps this person from are left out, unless those are all: then the verdict says why.
        """
        who = approver.identity.id
        faults = _faults(ticket.terms, requester, beneficiary, target)
        if not is_human(who):
            faults = (f"{who} is not a person, and only people approve",)
        stages = tuple(stage.name for stage in ticket.stages if _is_in(stage, approver))
        if not stages:
            faults = faults or (f"{who} is in no stage of {ticket.id}",)
        if faults:
            return Authority(approver=who, stages=(), verdict=self._verdict(reasons=faults))
        questions, entities = approval_slice(ticket, approver, requester, beneficiary, target, stages=stages)
        evaluations = self._ask_of_request(questions, entities)
        allowed = tuple(stage for stage, e in zip(stages, evaluations, strict=True) if e.allowed)
        if allowed:
            return Authority(
                approver=who, stages=allowed, verdict=self._verdict(evaluations, entities, permitted=True)
            )
        reasons = self._explainer.why_not(
            [(e, f"{who} to decide {ticket.id}") for e in evaluations], entities
        )
        return Authority(
            approver=who, stages=stages, verdict=self._verdict(evaluations, entities, reasons=reasons)
        )

    def forbids(  # noqa: PLR0917  as `judge_approver`, and which stages
        self,
        ticket: Ticket,
        delegate: Subject,
        requester: Subject,
        beneficiary: Subject,
        target: Target,
        stages: tuple[str, ...],
    ) -> tuple[str, ...]:
        """Why a policy forbids this person to decide these stages, for whomever; empty if none does.

        A delegate need not be permitted: that no policy permits it is no denial here, and any error is one.
        """
        questions, entities = approval_slice(ticket, delegate, requester, beneficiary, target, stages=stages)
        forbidden = [
            (e, f"{delegate.identity.id} to decide {ticket.id}")
            for e in self._ask_of_request(questions, entities)
            if not e.allowed and (e.determining or e.errors)
        ]
        return self._explainer.why_not(forbidden, entities)

    def _ask_of_request(
        self, questions: Sequence[Question], entities: Sequence[Entity]
    ) -> tuple[Evaluation, ...]:
        """Ask about one request. Where no policy names one by its id, whatever is like it has the same answer.

        So it is asked under a stand-in, and requests that are alike to the letter are asked about once. An error is
        asked for again under the true name, which it may mention.
        """
        if not self._names_requests:
            alike = self._engine.ask(*anonymous(questions, entities))
            if not any(answer.errors for answer in alike):
                return tuple(
                    replace(answer, resource=question.resource)
                    for question, answer in zip(questions, alike, strict=True)
                )
        return self._engine.ask(questions, entities)

    def _verdict(
        self,
        evaluations: Sequence[Evaluation] = (),
        entities: Sequence[Entity] = (),
        *,
        permitted: bool = False,
        reasons: tuple[str, ...] = (),
        obligations: Obligations | None = None,
    ) -> Verdict:
        determining = sorted(
            {ident for e in evaluations if e.allowed is permitted for ident in e.determining}
        )
        if permitted:
            reasons = tuple(dict.fromkeys(said(self._engine.rules, determining, "permitted")))
        return Verdict(
            permitted=permitted, policies=self.digest, determining=tuple(determining), reasons=reasons,
            evaluations=tuple(evaluations), entities=tuple(entities), obligations=obligations,
        )  # fmt: skip


def _faults(terms: Terms, requester: Subject, beneficiary: Subject, target: Target) -> tuple[str, ...]:
    """What makes a question unanswerable. Policy would be asked about something else than the terms."""
    found = []
    if (terms.requester, terms.beneficiary) != (requester.identity.id, beneficiary.identity.id):
        found.append("policy could not be evaluated: the terms name other people than the directory")
    if terms.target != target.id:
        found.append("policy could not be evaluated: the terms name another target")
    for subject in (requester, beneficiary):
        described = {subject.identity.id, *(owner.id for owner in subject.owners)}
        people = answering_for(subject)
        if not people:
            found.append(f"{subject.identity.id} has no accountable owner")
        elif not is_human(subject.identity.id) and not any(
            o.active and is_human(o.id) for o in subject.owners
        ):
            found.append(f"nobody who is active answers for {subject.identity.id}")
        elif not described.issuperset(people):
            found.append(f"policy could not be evaluated: an owner of {subject.identity.id} is unknown")
    return tuple(dict.fromkeys(found))


def _request_faults(
    terms: Terms, target: Target, entries: Mapping[Privilege, CatalogueEntry]
) -> tuple[str, ...]:
    if not terms.scope or terms.duration <= 0:
        return ("policy could not be evaluated: nothing is asked for",)
    return tuple(
        f"{what} is not in the catalogue of {target.id}" for what in terms.scope if what not in entries
    )


def _is_in(stage: Stage, person: Subject) -> bool:
    """By name, by an alias, or through a group."""
    identity = person.identity
    mine = {identity.id, *identity.aliases, *(f"group:{group}" for group in identity.groups)}
    return not mine.isdisjoint(stage.approvers)


def _who(evaluation: Evaluation) -> str:
    context = evaluation.context
    if context["part"] == "owner":
        return f"human:{read_uid(evaluation.principal)['id']}, who answers for it,"
    return str(context["requester"] if context["part"] == "requester" else context["beneficiary"])
