"""What a process has to do with others outside: whom it tells, and whom it hears."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from muniment.service.sending import Sink
from muniment.service.signals import Signals
from muniment.service.transmitting import Transmitting
from muniment.signals.transmitters import Polled


class Outward(NamedTuple):
    """Built in `main`."""

    sinks: tuple[Sink, ...] = ()  # acting on signals is one of them: it follows the ledger as the others do
    signals: Signals | None = None
    polled: Mapping[str, Polled] = {}  # transmitters that signals are fetched from, by issuer
    transmitting: Transmitting | None = None
