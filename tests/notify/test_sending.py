"""At least once, in order, from the ledger's position: webhooks on a real ledger to a real HTTP server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from evidence.office import Office
from muniment.core.errors import Misconfigured, NotFound
from muniment.notify.guard import Guard
from muniment.notify.webhooks import Endpoint, read_key, signature
from muniment.outbound import Http
from muniment.service.sealing import seal
from muniment.service.sending import LONGEST, PAUSES, look, next_attempt, replay, send
from muniment.service.sinks import WebhookSink
from muniment.store.delivering import SqlDeliveries
from notify.receiver import Receiver, receiving

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OLD = "whsec_" + base64.b64encode(bytes(range(1, 33))).decode()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


class Feed:
    """One sink of an office, worked by the test."""

    def __init__(
        self, office: Office, receiver: Receiver, *events: str, secrets: tuple[str, ...] = (SECRET,)
    ) -> None:
        self.office, self.deliveries = office, SqlDeliveries(office.desk.store.engine)
        endpoint = Endpoint(Http(connect=Guard(["127.0.0.0/8"])), receiver.url, lambda: secrets)
        self.sink = WebhookSink("ops", endpoint, events)
        seal(office.desk)
        look(office.desk, self.deliveries, self.sink)  # it begins with what comes now

    def run(self) -> int:
        seal(self.office.desk)
        while look(self.office.desk, self.deliveries, self.sink):
            pass
        return send(self.office.desk, self.deliveries, self.sink, "test")

    @property
    def state(self) -> tuple[int, int]:
        progress = self.deliveries.progress(self.sink.name)
        assert progress
        return progress.waiting, progress.lost


def kinds(receiver: Receiver) -> list[str]:
    return [json.loads(body)["data"]["event"] for _, body in receiver.got]


def test_what_happens_arrives_once_in_order_and_signed(office: Office, receiver: Receiver) -> None:
    office.closed()  # before the sink began
    feed = Feed(office, receiver)
    ticket = office.closed()
    assert feed.run() == len(receiver.got) == len(office.desk.store.entries(ticket))
    assert kinds(receiver) == [r.event.kind for r in office.desk.store.entries(ticket)]
    assert feed.run() == 0
    for headers, body in receiver.got:
        assert headers["content-type"] == "application/cloudevents+json"
        event = json.loads(body)
        assert event["specversion"] == "1.0"
        assert (event["source"], event["subject"]) == ("ledger.example.org/evidence", ticket)
        assert event["data"]["ticket"]["beneficiary"] == "human:ann@example.com"
        assert headers["webhook-id"].endswith(f"_{event['id']}")
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == len(receiver.got)
    everything = b"".join(body for _, body in receiver.got)
    for confidential in (b"to look", b"go on", office.public_key.split()[1].encode()):
        assert confidential not in everything


def test_the_signature_is_that_of_the_standard(
    office: Office, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another implementation verifies it, with either secret while one replaces the other; and no altered body."""
    feed = Feed(office, receiver, "request-submitted", secrets=(SECRET, OLD))
    office.ask()
    feed.run()
    ((headers, body),) = receiver.got
    stamp = int(headers["webhook-timestamp"])
    assert stamp == int(office.clock.at.timestamp())
    for secret in (SECRET, OLD):
        hook = Webhook(secret)
        monkeypatch.setattr(hook, "_Webhook__verify_timestamp", lambda _: office.clock.at, raising=True)
        hook.verify(body, headers)
        with pytest.raises(WebhookVerificationError):
            hook.verify(body.replace(b"1.0", b"1.1"), headers)


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_AAAA", "whsec_" + "é" * 40, "plain", "whsec_" + "A" * 200]
)
def test_a_bad_secret_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        read_key(secret)
    assert len(secret) < 8 or secret not in refused.value.message + refused.value.remedy


def test_the_standards_own_example() -> None:
    """From github.com/standard-webhooks/standard-webhooks."""
    key = read_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_receiver_that_is_away_gets_everything_later(office: Office, receiver: Receiver) -> None:
    feed = Feed(office, receiver, "request-submitted", "request-withdrawn")
    receiver.says(500, 503)
    first = office.ask()
    assert feed.run() == 0
    assert feed.state == (1, 0)
    assert feed.run() == 0  # not before the pause is over
    assert len(receiver.got) == 1
    office.later(7)
    assert feed.run() == 0
    office.later(73)
    assert feed.run() == 1
    assert {headers["webhook-id"] for headers, _ in receiver.got} == {receiver.got[0][0]["webhook-id"]}
    assert {body for _, body in receiver.got} == {receiver.got[0][1]}  # the same bytes each time
    assert json.loads(receiver.got[-1][1])["subject"] == first
    assert feed.state == (0, 0)


def test_it_waits_as_long_as_it_is_told(office: Office, receiver: Receiver) -> None:
    feed = Feed(office, receiver, "request-submitted")
    receiver.says(429, retry_after="3600")
    office.ask()
    feed.run()
    office.later(3000)
    assert feed.run() == 0
    assert len(receiver.got) == 1
    office.later(1500)
    assert feed.run() == 1


def test_what_nobody_takes_is_given_up_and_can_be_sent_again(office: Office, receiver: Receiver) -> None:
    feed = Feed(office, receiver, "request-submitted")
    receiver.says(*[500] * (len(PAUSES) + 1))
    office.ask()
    for _ in range(len(PAUSES) + 1):
        feed.run()
        office.later(LONGEST.total_seconds() * 2)
    assert feed.state == (0, 1)
    assert [d.attempts for d in feed.deliveries.lost(feed.sink.name)] == [len(PAUSES) + 1]
    office.later(10**7)
    assert feed.run() == 0
    assert replay(office.desk, feed.sink, since=None, upto=None)["replayed"] == 1
    assert feed.run() == 1
    assert feed.state == (0, 0)


def test_gone_closes_the_sink_until_somebody_opens_it(office: Office, receiver: Receiver) -> None:
    feed = Feed(office, receiver, "request-submitted")
    receiver.says(410)
    office.ask()
    feed.run()
    office.ask()
    assert feed.run() == 0
    assert len(receiver.got) == 1
    progress = feed.deliveries.progress(feed.sink.name)
    assert progress
    assert progress.closed == "it answered 410"
    assert replay(office.desk, feed.sink, since=None, upto=None)["replayed"] == 1
    assert feed.run() == 2  # the one given up, and the one that came while it was closed


def test_a_time_is_sent_again(office: Office, receiver: Receiver) -> None:
    feed = Feed(office, receiver, "request-submitted")
    office.ask()
    office.later(3600)
    middle = office.clock.at
    office.ask()
    assert feed.run() == 2
    assert replay(office.desk, feed.sink, since=middle, upto=None)["replayed"] == 1
    assert feed.run() == 1
    assert receiver.got[-1][0]["webhook-id"] == receiver.got[1][0]["webhook-id"]
    with pytest.raises(NotFound):
        replay(office.desk, WebhookSink("other", None, ()), since=None, upto=None)


def test_a_redirect_is_not_followed(office: Office, receiver: Receiver) -> None:
    feed = Feed(office, receiver, "request-submitted")
    with receiving() as elsewhere:
        receiver.says(302, location=elsewhere.url)
        office.ask()
        assert feed.run() == 0
        assert elsewhere.got == []
    assert feed.state == (1, 0)


def test_a_crash_between_sending_and_noting_sends_again(
    office: Office, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed(office, receiver, "request-submitted")
    office.ask()
    with monkeypatch.context() as crashing:
        crashing.setattr(SqlDeliveries, "arrived", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            feed.run()
    office.later(200)  # the dead one's lease is over
    assert feed.run() == 1
    assert [h["webhook-id"] for h, _ in receiver.got] == [receiver.got[0][0]["webhook-id"]] * 2


def test_a_crash_while_looking_misses_nothing(
    office: Office, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed(office, receiver, "request-submitted")
    office.ask()
    with monkeypatch.context() as crashing:
        crashing.setattr(SqlDeliveries, "move", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            feed.run()
    assert feed.run() == 1


def test_only_what_was_asked_for(office: Office, receiver: Receiver) -> None:
    feed = Feed(office, receiver, "request-approved", "revocation-observed")
    office.closed()
    feed.run()
    assert kinds(receiver) == ["request-approved/1", "revocation-observed/1"]
    assert [json.loads(body)["type"] for _, body in receiver.got] == [
        "org.muniment.request.approved.v1", "org.muniment.revocation.observed.v1",
    ]  # fmt: skip


def test_pauses_grow_with_jitter_from_chance_that_is_passed_in() -> None:
    class Chance:
        def __init__(self, byte: int) -> None:
            self.byte = byte

        def bytes(self, count: int) -> bytes:
            return bytes([self.byte]) * count

    now = Office.__init__.__globals__["NOW"]
    for attempts, pause in enumerate(PAUSES):
        soonest, latest = (next_attempt(attempts, now, Chance(byte)) for byte in (0, 255))
        assert soonest == now + pause
        assert pause * 1.19 < latest - now < pause * 1.2 + timedelta(seconds=1)
    assert next_attempt(len(PAUSES), now, Chance(0)) is None
    assert sum(PAUSES, timedelta()) > timedelta(days=2)
