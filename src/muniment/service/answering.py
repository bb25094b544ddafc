"""Commands that a client names with a key: done once, answered the same however often they are asked (I30).

The key is written in the transaction of what the command did. The answer itself is kept nowhere: it is made again from
the ticket's entries up to the version that the command left, so erased texts stay erased in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec.structs import replace

from muniment.core.errors import Invalid, MunimentError
from muniment.core.ticket import Ticket, replay
from muniment.ports import Once
from muniment.service.desk import Caller, Desk, no_such_ticket
from muniment.service.documents import Document, ticket_document, ticket_document_at
from muniment.store.views import Answered

_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


def once(
    desk: Desk, caller: Caller, key: str | None, request: str, act: Callable[[Caller], Ticket]
) -> Document:
    """Run a command under the client's key, or say again what it did.

    Args:
        desk: the adapters.
        caller: who commands; keys are their own.
        key: the client's name for the command, if it gave one.
        request: digest of what is asked.
        act: the command.

    Raises:
        Invalid: the key stands for something else already, or is not one.
    """
    if key is None:
        return ticket_document(desk, act(caller))
    if not _KEY.fullmatch(key):
        raise Invalid(
            "the idempotency key is not one",
            remedy="Use 1 to 255 visible ASCII characters, like a UUID.",
            code="invalid.idempotency-key",
        )
    who = caller.identity.id
    done = desk.views.answered(who, key)
    ticket: Ticket | None = None
    if done is None:
        try:
            ticket = act(replace(caller, once=Once(who=who, key=key, request=request)))
        except (
            MunimentError
        ):  # somebody with the same key may have been faster: then it is no more to be done
            done = desk.views.answered(who, key)
            if done is None:
                raise
        else:
            done = desk.views.answered(who, key)
    if done is None:
        raise AssertionError("unreachable: the key is in the transaction of the command")
    if done.request != request:
        raise Invalid(
            "this idempotency key was used for something else",
            remedy="Use a new key for each command; the same one only to ask again.",
            code="invalid.idempotency-key-reused",
        )
    return ticket_document_at(desk, _as_it_was(desk, done, ticket), done.sealed)


def _as_it_was(desk: Desk, done: Answered, ticket: Ticket | None) -> Ticket:
    if ticket is not None and ticket.version == done.version:
        return ticket
    then = replay(done.ticket, desk.store.entries(done.ticket)[: done.version], None)
    if then is None:
        raise no_such_ticket(done.ticket)
    return then
