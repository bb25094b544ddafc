"""Traces: one for a request with its command and what follows, and nothing in them that anybody typed (I31)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from api.conftest import ANN, CYD, OPS, REQUEST, Api
from muniment import tracing
from muniment.service.pursuing import pursue
from muniment.tracing import TracedConnector

CANARY = "CANARY-7f3a"


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    made = InMemorySpanExporter()
    tracing.switch_on("http://127.0.0.1:1/", headers={}, share=1.0, exporter=made)
    yield made
    tracing.switch_off()


def spans(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    tracing._provider.force_flush()
    return list(exporter.get_finished_spans())


def test_nothing_is_traced_unless_it_is_switched_on(api: Api) -> None:
    assert not tracing.is_on()
    assert api("GET", "/v1/whoami").status_code == 200


def test_a_request_and_its_command_are_one_trace(api: Api, exporter: InMemorySpanExporter) -> None:
    ticket = api.filed()["id"]
    api("POST", f"/v1/requests/{ticket}/withdraw")
    found = {span.name: span for span in spans(exporter)}
    request = found["POST /v1/requests/{ticket}/withdraw"]
    command = next(s for s in spans(exporter) if s.attributes.get("muniment.command") == "Withdraw")
    assert command.parent is not None
    assert command.parent.span_id == request.context.span_id
    assert request.attributes["http.response.status_code"] == 200
    assert command.attributes["muniment.ticket"] == ticket


def test_refusals_are_noted_by_their_code(api: Api, exporter: InMemorySpanExporter) -> None:
    ticket = api.filed()
    body = {"decision": "approve", "digest": ticket["digest"], "comment": CANARY}
    assert api("POST", f"/v1/requests/{ticket['id']}/decisions", body, who=ANN).status_code == 403
    errors = [s.attributes["error.type"] for s in spans(exporter) if "error.type" in s.attributes]
    assert len(errors) == 1
    assert errors[0].startswith("refused.")


def test_no_text_and_no_secret_is_in_a_trace(api: Api, exporter: InMemorySpanExporter) -> None:
    filed = api("POST", "/v1/requests", REQUEST | {"justification": f"why {CANARY}"}).json()
    body = {"decision": "approve", "digest": filed["digest"], "comment": CANARY}
    api("POST", f"/v1/requests/{filed['id']}/decisions", body, who=CYD)
    pursue(api.desk, filed["id"])
    api("POST", f"/v1/requests/{filed['id']}/revoke", {"reason": CANARY}, who=OPS)
    api("GET", f"/v1/requests?target={CANARY}", headers={"X-Request-ID": CANARY})
    api("GET", f"/v1/requests/{CANARY}")
    api("GET", "/v1/whoami", token=f"mnt_{'a' * 16}_{'b' * 64}")
    said = " ".join(span.to_json() for span in spans(exporter))
    assert len(spans(exporter)) > 8
    for secret in (CANARY, "mnt_", api.token(ANN), REQUEST["public_key"].split()[1]):
        assert secret not in said
    known = {
        "http.request.method", "http.route", "http.response.status_code", "muniment.command", "muniment.ticket",
        "muniment.target", "muniment.orders", "muniment.holdings", "error.type",
    }  # fmt: skip
    assert {name for span in spans(exporter) for name in span.attributes} <= known


def test_connector_calls_are_spans(api: Api, exporter: InMemorySpanExporter) -> None:
    connector = TracedConnector(api.desk.targets["bastion"].connector, "bastion")
    connector.observe(["ann"])
    assert connector.capabilities == api.desk.targets["bastion"].connector.capabilities
    (span,) = spans(exporter)
    assert (span.name, span.attributes["muniment.target"]) == ("connector observe", "bastion")
