"""Commands at a desk in this process. What becomes due by a command is done at once, so a first ticket needs no server."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec

from muniment.cli.backend import Document, Extension, Looked, Wanted
from muniment.core.campaign import Campaign, Decision
from muniment.core.errors import Conflict, IntegrityError, LeaseLost, MunimentError
from muniment.core.identity import parse_identity
from muniment.core.scope import Scope
from muniment.core.ticket import Ticket
from muniment.service import campaign_documents as campaigns
from muniment.service import (
    certifying,
    changing,
    concluding,
    deciding,
    delegating,
    drift,
    evidencing,
    explaining,
    extending,
    filing,
    inventories,
    ledgering,
    lifting,
    looking,
    reconciling,
    removing,
    reviews,
    sending,
    usage,
)
from muniment.service.certifying import Opening, Where
from muniment.service.desk import Caller, Desk
from muniment.service.documents import preview_document, ticket_document, ticket_documents
from muniment.service.filing import Ask
from muniment.service.owing import target_documents
from muniment.service.pursuing import pursue
from muniment.service.reviews import Wanted as Reviews
from muniment.service.sealing import seal
from muniment.service.sending import Sink
from muniment.service.signing import statement
from muniment.settings.usage import LogSettings
from muniment.store.views import PAGE, Filter

#: seconds between looks at what another worker does, and how many
PAUSE = 0.5
LOOKS = 20
#: items of a list that is not asked for page by page
ALL = 1 << 40


class LocalBackend:
    """`backend.Backend` at a desk."""

    def __init__(
        self,
        desk: Desk,
        caller: Caller | None,
        certificates: Callable[[], bytes],
        working: Callable[[str], AbstractContextManager[Any]],
        sinks: Callable[[Desk], tuple[Sink, ...]],
        policies: Callable[[], Path],
    ) -> None:
        """Prepare.

        Args:
            desk: the adapters.
            caller: None for commands of whoever runs the store.
            certificates: of time-stamping authorities.
            working: shows that something takes time.
            sinks: who is told what happens.
            policies: the folder of policies.
        """
        self._desk, self._who, self._certificates, self._working = desk, caller, certificates, working
        self._sinks, self._policies = sinks, policies

    @property
    def _caller(self) -> Caller:
        if self._who is None:
            raise AssertionError("unreachable: the command did not ask who acts")
        return self._who

    def now(self) -> datetime:
        """See `Backend`."""
        return self._desk.clock.now()

    def whoami(self) -> Document:
        """See `Backend`."""
        caller = self._caller
        return {**msgspec.to_builtins(caller.identity), "kind": caller.identity.kind, "via": caller.via}

    # ── tickets ──

    def file(self, ask: Ask) -> Document:
        """See `Backend`."""
        return self._document(filing.file_request(self._desk, self._caller, ask))

    def file_bundle(self, asks: Sequence[Ask]) -> list[Document]:
        """See `Backend`."""
        return [self._document(each) for each in filing.file_bundle(self._desk, self._caller, asks)]

    def preview(self, ask: Ask) -> Document:
        """See `Backend`."""
        return preview_document(filing.preview(self._desk, self._caller, ask))

    def tickets(self, wanted: Wanted) -> Document:
        """See `Backend`."""
        chosen = Filter(
            statuses=tuple(wanted.statuses),  # type: ignore[arg-type]  # checked where they are used
            beneficiary=_identity(wanted.beneficiary),
            target=wanted.target,
            before=wanted.cursor,
            limit=wanted.limit,
        )
        page = looking.tickets(self._desk, self._caller, chosen, awaiting_me=wanted.awaiting_me)
        return {"items": ticket_documents(self._desk, page.items), "next": page.next}

    def ticket(self, ticket: str) -> Document:
        """See `Backend`."""
        return self._document(looking.show(self._desk, self._caller, ticket))

    def events(self, ticket: str) -> list[Document]:
        """See `Backend`."""
        return looking.history(self._desk, self._caller, ticket)

    def statement(self, ticket: str) -> bytes:
        """See `Backend`."""
        caller = self._caller
        return statement(self._desk, caller, looking.show(self._desk, caller, ticket))

    def approve(
        self, ticket: str, *, digest: str | None, comment: str | None, signature: str | None
    ) -> Document:
        """See `Backend`."""
        done = deciding.approve(
            self._desk, self._caller, ticket, digest=digest, comment=comment, signature=signature
        )
        return self._document(done)

    def deny(self, ticket: str, *, comment: str) -> Document:
        """See `Backend`."""
        return self._document(deciding.deny(self._desk, self._caller, ticket, comment=comment))

    def counter(
        self,
        ticket: str,
        *,
        digest: str | None,
        duration: timedelta | None,
        scope: Scope | None,
        comment: str,
    ) -> Document:
        """See `Backend`."""
        done = deciding.counter(
            self._desk, self._caller, ticket, digest=digest, duration=duration, scope=scope, comment=comment
        )
        return self._document(done)

    def accept(self, ticket: str, *, offer: str | None) -> Document:
        """See `Backend`."""
        return self._document(deciding.accept(self._desk, self._caller, ticket, offer=offer))

    def extend(self, ticket: str, how: Extension) -> Document:
        """See `Backend`."""
        return self._document(extending.extend(self._desk, self._caller, ticket, **how._asdict()))

    def withdraw(self, ticket: str) -> Document:
        """See `Backend`."""
        return self._document(deciding.withdraw(self._desk, self._caller, ticket))

    def give_back(self, ticket: str) -> Document:
        """See `Backend`."""
        return self._document(deciding.give_back(self._desk, self._caller, ticket))

    def revoke(self, ticket: str, *, reason: str) -> Document:
        """See `Backend`."""
        return self._document(deciding.revoke(self._desk, self._caller, ticket, reason=reason))

    def review(
        self, ticket: str, *, outcome: Literal["appropriate", "inappropriate"], comment: str
    ) -> Document:
        """See `Backend`."""
        done = deciding.review(self._desk, self._caller, ticket, outcome=outcome, comment=comment)
        return self._document(done)

    def waive(self, ticket: str, *, check: str, reason: str) -> Document:
        """See `Backend`."""
        return self._document(deciding.waive(self._desk, self._caller, ticket, check=check, reason=reason))

    def resolve(self, ticket: str, finding: str, *, reason: str) -> Document:
        """See `Backend`."""
        done = deciding.resolve(self._desk, self._caller, ticket, finding=finding, reason=reason)
        return self._document(done)

    def settle(self, ticket: Document) -> tuple[Document, MunimentError | None]:
        """Do what is due on the ticket, here and now, and seal."""
        trouble: MunimentError | None = None
        with self._working(f"{ticket['target']} is asked"):
            try:
                pursue(self._desk, ticket["id"])
            except IntegrityError:
                raise
            except (LeaseLost, Conflict):  # `muniment serve` was quicker: it is in good hands
                self._left_to_others(ticket["id"])
            except MunimentError as error:
                trouble = error
        document, unsealed = self.sealed(ticket)
        return document, unsealed or trouble

    def sealed(self, ticket: Document) -> tuple[Document, MunimentError | None]:
        """Seal. The entries are durable in any case."""
        trouble: MunimentError | None = None
        try:
            seal(self._desk)
        except IntegrityError:
            raise
        except MunimentError as error:
            trouble = error
        found = self._desk.store.read(ticket["id"])[1]
        return (ticket if found is None else self._document(found)), trouble

    def credential(self, ticket: str) -> bytes:
        """See `Backend`."""
        return looking.collect(self._desk, self._caller, ticket)

    def evidence(self, ticket: str, *, since: str | None) -> tuple[bytes, Document]:
        """See `Backend`. Without anybody who acts it is for whoever runs the store, who can read it anyway."""
        if self._who is not None:
            looking.show(self._desk, self._who, ticket)
        return evidencing.export(self._desk, ticket, since=since, certificates=self._certificates())

    # ── the world ──

    def grants(self, *, target: str | None, beneficiary: str | None) -> list[Document]:
        """See `Backend`."""
        return looking.grants(self._desk, self._caller, target=target, beneficiary=_identity(beneficiary))

    def targets(self) -> list[Document]:
        """See `Backend`."""
        return target_documents(self._desk, self._who)

    def holdings(self, target: str) -> list[Document]:
        """See `Backend`."""
        caller = self._caller
        with self._working(f"{target} is asked"):
            return looking.holdings(self._desk, caller, target)

    def take_inventory(self, target: str) -> Document:
        """See `Backend`."""
        with self._working(f"{target} is asked"):
            taken = inventories.take_for(self._desk, self._caller, target)
        seal(self._desk)
        return inventories.document(taken, kept=True)

    def inventories(self, target: str) -> list[Document]:
        """See `Backend`."""
        return inventories.listed(self._desk, self._caller, target)

    def inventory(
        self, target: str, inventory: str | None, *, account: str | None, privilege: str | None
    ) -> Document:
        """See `Backend`."""
        return inventories.shown(
            self._desk, self._caller, target, inventory, account=account, privilege=privilege, limit=ALL
        )

    def reconcile(self, target: str) -> Document:
        """See `Backend`."""
        with self._working(f"{target} is asked"):
            run = reconciling.reconcile_for(self._desk, self._caller, target)
        seal(self._desk)
        found = drift.documents(self._desk, list(run.findings))
        return {"targets": [reconciling.document(run)], "findings": found}

    def ingest_usage(self, target: str, path: Path, log: LogSettings, *, whole: bool) -> Document:
        """See `Backend`."""
        with self._working(f"{path.name} is read"):
            found = usage.ingest(self._desk, self._caller, target, path, log, whole=whole)
        seal(self._desk)
        return found

    def usage_report(
        self, *, target: str | None, beneficiary: str | None, judgements: Sequence[str]
    ) -> Document:
        """See `Backend`."""
        wanted = usage.Wanted(
            target=target, beneficiary=_identity(beneficiary), judgements=tuple(judgements), limit=PAGE,  # type: ignore[arg-type]  # checked where they are typed
        )  # fmt: skip
        return usage.report(self._desk, self._caller, wanted)

    def check_usage(self, target: str) -> Document:
        """See `Backend`."""
        return usage.check(self._desk, self._caller, target)

    def findings(self, wanted: Looked) -> list[Document]:
        """See `Backend`."""
        chosen = drift.chosen(
            target=wanted.target, types=wanted.types, severities=wanted.severities, statuses=wanted.statuses,
            account=wanted.account, assigned_to=wanted.assigned_to, past_due=wanted.past_due, resolved=wanted.resolved,
        )  # fmt: skip
        return looking.findings(self._desk, self._caller, chosen)

    def finding(self, finding: str) -> Document:
        """See `Backend`."""
        return looking.finding(self._desk, self._caller, finding)

    def assign_finding(self, finding: str, to: str) -> Document:
        """See `Backend`."""
        return self._sealed_finding(drift.assign(self._desk, self._caller, finding, to))

    def explain_finding(self, finding: str, explanation: str) -> Document:
        """See `Backend`."""
        return self._sealed_finding(drift.explain(self._desk, self._caller, finding, explanation))

    def remove_finding(self, finding: str, reason: str) -> Document:
        """See `Backend`."""
        with self._working("the target is asked"):
            try:
                return removing.remove(self._desk, self._caller, finding, reason)
            finally:
                seal(self._desk)

    def accept_finding(self, finding: str, until: datetime, reason: str) -> Document:
        """See `Backend`."""
        return self._sealed_finding(drift.accept(self._desk, self._caller, finding, until, reason))

    def _sealed_finding(self, document: Document) -> Document:
        seal(self._desk)
        return document

    def reviews(self, wanted: Reviews) -> list[Document]:
        """See `Backend`."""
        return reviews.listed(self._desk, self._caller, msgspec.structs.replace(wanted, limit=ALL)).items

    # ── campaigns ──

    def open_campaign(self, asked: Opening, *, preview: bool) -> Document:
        """See `Backend`."""
        if preview:
            return campaigns.preview_document(certifying.preview(self._desk, self._caller, asked))
        return self._campaign(certifying.open_(self._desk, self._caller, asked))

    def campaigns(self, statuses: Sequence[str]) -> list[Document]:
        """See `Backend`."""
        return campaigns.listed(self._desk, self._caller, statuses, limit=ALL)[0]

    def campaign(self, name: str) -> Document:
        """See `Backend`."""
        campaign = certifying.visible(self._desk, self._caller, name)[1]
        return campaigns.document(self._desk, self._caller, campaign)

    def campaign_items(self, name: str, where: Where, *, mine: bool) -> list[Document]:
        """See `Backend`."""
        campaign = certifying.visible(self._desk, self._caller, name)[1]
        return campaigns.items(self._desk, self._caller, campaign, where, mine=mine)[0]

    def decide_campaign(self, name: str, where: Where, decision: Decision, reason: str) -> Document:
        """See `Backend`."""
        return self._decided(
            certifying.decide(self._desk, self._caller, name, where, decision=decision, reason=reason)
        )

    def reassign_campaign(self, name: str, where: Where, to: str, reason: str) -> Document:
        """See `Backend`."""
        return self._decided(certifying.reassign(self._desk, self._caller, name, where, to=to, reason=reason))

    def explain_campaign(self, name: str, items: str, reason: str) -> Document:
        """See `Backend`. What follows is done at once."""
        certifying.explain(self._desk, self._caller, name, items, reason)
        return self._followed(name)

    def close_campaign(self, name: str, comment: str, progress: Callable[[int, int], None]) -> Document:
        """See `Backend`. What follows is done at once; of one that is signed off already, what is left of it."""
        del progress
        if certifying.visible(self._desk, self._caller, name)[1].status != "removing":
            certifying.sign_off(self._desk, self._caller, name, comment)
        with self._working("targets are asked"):
            return self._followed(name)

    def cancel_campaign(self, name: str, reason: str) -> Document:
        """See `Backend`."""
        return self._campaign(certifying.cancel(self._desk, self._caller, name, reason))

    def export_campaign(self, name: str) -> bytes:
        """See `Backend`."""
        return campaigns.evidence(self._desk, self._caller, name)

    def _campaign(self, campaign: Campaign) -> Document:
        seal(self._desk)
        return campaigns.document(self._desk, self._caller, campaign)

    def _decided(self, made: certifying.Decided) -> Document:
        document = self._campaign(made.campaign)
        return {"campaign": document, "decided": made.decided, "left": campaigns.as_ranges(made.left)}

    def _followed(self, name: str) -> Document:
        concluding.advance(self._desk, name, f"here-{self._desk.random.bytes(8).hex()}")
        return self._campaign(certifying.visible(self._desk, self._caller, name)[1])

    def checkpoint(self) -> Document:
        """See `Backend`."""
        return ledgering.checkpoint(self._desk)

    def delegate(
        self,
        to: str,
        *,
        until: datetime | None,
        length: timedelta | None,
        starts: datetime | None,
        reason: str,
    ) -> Document:
        """See `Backend`."""
        given = delegating.give(
            self._desk, self._caller, to=to, until=until, length=length, starts=starts, reason=reason
        )
        seal(self._desk)
        return delegating.document(given, self.now())

    def delegations(self) -> list[Document]:
        """See `Backend`."""
        return delegating.listed(self._desk, self._caller)

    def end_delegation(self, delegation: str) -> Document:
        """See `Backend`."""
        ended = delegating.end(self._desk, self._caller, delegation)
        seal(self._desk)
        return delegating.document(ended, self.now(), ended=True)

    def explain(self, ticket: str) -> Document:
        """See `Backend`."""
        return explaining.explain(self._desk, self._caller, ticket)

    def propose(self, reason: str) -> Document:
        """See `Backend`."""
        return changing.propose(self._desk, self._caller, self._policies(), reason)

    def adopt(self, change: str) -> Document:
        """See `Backend`."""
        return changing.adopt(self._desk, self._caller, change)

    def refuse(self, change: str, *, reason: str) -> Document:
        """See `Backend`."""
        return changing.refuse(self._desk, self._caller, change, reason)

    def changes(self, change: str | None) -> Document:
        """See `Backend`."""
        if change is not None:
            return changing.shown(self._desk, self._caller, change)
        return {"items": changing.listed(self._desk, self._caller), "next": None}

    def disablements(self) -> list[Document]:
        """See `Backend`."""
        return lifting.listed(self._desk, self._caller)

    def lift(self, identity: str, *, reason: str) -> Document:
        """See `Backend`."""
        return lifting.lift(self._desk, self._caller, identity, reason)

    def deliveries(self) -> Document:
        """See `Backend`."""
        return sending.document(sending.states(self._desk, self._sinks(self._desk)))

    def replay(self, sink: str, *, since: datetime | None, until: datetime | None) -> Document:
        """See `Backend`."""
        return sending.replay(
            self._desk, sending.named(self._sinks(self._desk), sink), since=since, upto=until
        )

    # ── helpers ──

    def _document(self, ticket: Ticket) -> Document:
        return ticket_document(self._desk, ticket)

    def _left_to_others(self, ticket_id: str) -> None:
        """Give another worker a moment to end what it does, so that the ticket is shown as it then stands."""
        for _ in range(LOOKS):
            ticket = self._desk.store.read(ticket_id)[1]
            if ticket is None or ticket.status not in {"approved", "provisioning", "revoking"}:
                break
            time.sleep(PAUSE)


def _identity(text: str | None) -> str | None:
    return None if text is None else parse_identity(text)
