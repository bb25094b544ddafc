"""Traces by OpenTelemetry: off unless the configuration names a collector, and then only of ``muniment serve``.

Attributes are names and numbers that Muniment itself gives: routes, statuses, kinds of commands, ids of tickets and
targets. No text that anybody typed, no credential, no header (I31). Needs the extra ``otel``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeAlias

from muniment.core.errors import Misconfigured, MunimentError

Attributes: TypeAlias = Mapping[str, str | int | bool]
#: gives what an operation turned out to have, once that is known
Note: TypeAlias = Callable[[str, str | int | bool], None]

_tracer: Any = None
_provider: Any = None


def _nothing(_name: str, _value: str | int | bool) -> None:
    pass


def is_on() -> bool:
    """Whether anything is traced."""
    return _tracer is not None


def span(name: str, attributes: Attributes | None = None) -> AbstractContextManager[Note]:
    """One operation. Costs a comparison where nothing is traced. An error is noted by its code, without its sentence."""
    return nullcontext(_nothing) if _tracer is None else _span(name, attributes or {})


@contextmanager
def _span(name: str, attributes: Attributes) -> Iterator[Note]:
    with _tracer.start_as_current_span(
        name, attributes=dict(attributes), record_exception=False, set_status_on_exception=False
    ) as made:

        def note(key: str, value: str | int | bool) -> None:
            made.set_attribute(key, value)

        try:
            yield note
        except BaseException as error:
            made.set_attribute(
                "error.type", error.code if isinstance(error, MunimentError) else type(error).__name__
            )
            raise


def in_context(run: Callable[..., Any]) -> Callable[..., Any]:
    """A function that goes on in the span of whoever hands it to another thread."""
    if _tracer is None:
        return run
    from contextvars import copy_context  # noqa: PLC0415  only where something is traced

    context = copy_context()
    return lambda *given: context.run(run, *given)


def switch_on(endpoint: str, *, headers: Mapping[str, str], share: float, exporter: Any = None) -> None:
    """Trace from here on.

    Args:
        endpoint: of the collector (OTLP over HTTP).
        headers: that it wants.
        share: of requests that are traced, from 0 to 1.
        exporter: in place of the collector, in tests.

    Raises:
        Misconfigured: OpenTelemetry is not installed.
    """
    global _tracer, _provider  # noqa: PLW0603  one process, one tracer
    try:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  an extra
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415  an extra
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415  an extra
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415  an extra

        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

            exporter = OTLPSpanExporter(endpoint=endpoint, headers=dict(headers))
    except ModuleNotFoundError as error:
        raise Misconfigured(
            "[tracing] is configured, and OpenTelemetry is not installed",
            remedy="Install it with pip install 'muniment[otel]'.",
            code="config.not-installed",
        ) from error
    _provider = TracerProvider(
        resource=Resource.create({"service.name": "muniment"}), sampler=ParentBased(TraceIdRatioBased(share))
    )
    _provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = _provider.get_tracer("muniment")


def switch_off() -> None:
    """Send what is there, trace no more."""
    global _tracer, _provider  # noqa: PLW0603  as above
    if _provider is not None:
        _provider.shutdown()
    _tracer = _provider = None


class TracedConnector:
    """`ports.Connector` whose calls are spans."""

    def __init__(self, connector: Any, target: str) -> None:
        """``target`` names it."""
        self._connector, self._target = connector, target

    def __getattr__(self, name: str) -> Any:
        """Whatever else it has."""
        return getattr(self._connector, name)

    def check(self) -> Any:
        """As the connector's."""
        with self._span("check"):
            return self._connector.check()

    def observe(self, accounts: Any) -> Any:
        """As the connector's."""
        with self._span("observe") as note:
            found = self._connector.observe(accounts)
            note("muniment.holdings", len(found.holdings))
            return found

    def provision(self, orders: Any, confirm: Any) -> Any:
        """As the connector's."""
        with self._span("provision") as note:
            note("muniment.orders", len(orders))
            return self._connector.provision(orders, confirm)

    def revoke(self, orders: Any, confirm: Any) -> Any:
        """As the connector's."""
        with self._span("revoke") as note:
            note("muniment.orders", len(orders))
            return self._connector.revoke(orders, confirm)

    def _span(self, what: str) -> AbstractContextManager[Note]:
        return span(f"connector {what}", {"muniment.target": self._target})
