"""From `init` to a certificate and back, with no server: what a newcomer does in the first minute."""

from __future__ import annotations

import base64
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

from acceptance.conftest import ANN, AUD, BO, CYD, OPS, Muniment, running
from muniment.connectors import krl


def certificate(body: bytes) -> SSHCertificate:
    found = load_ssh_public_identity(body)
    assert isinstance(found, SSHCertificate)
    found.verify_cert_signature()
    return found


def test_a_ticket_is_filed_approved_and_collected_once(muniment: Muniment, tmp_path: Path) -> None:
    filed = muniment.request("--reference", "change=CHG-7")
    assert filed.status == 0, filed.err
    ticket = filed.document["id"]
    assert filed.document["status"] == "pending"

    own = muniment.json("approve", ticket, who=ANN)
    assert (own.status, own.error["code"], own.out) == (1, "refused.self-approval", "")

    early = muniment.json("credential", ticket, who=ANN)
    assert (early.status, early.error["code"]) == (1, "refused.status")

    waiting = muniment.json("list", "--awaiting-me", who=CYD).document["items"]
    assert [each["id"] for each in waiting] == [ticket]
    approved = muniment.json("approve", ticket, "--comment", "go on", who=CYD)
    assert approved.status == 0, approved.err
    document = approved.document
    assert document["status"] == "active"
    assert document["granted"] == document["approved"] == [{"privilege": "web-admin", "resource": None}]
    assert document["comparison"] == {"missing": [], "excess": []}
    assert document["ledger"] == {"events": 6, "sealed": 6}

    out = tmp_path / "id-cert.pub"
    assert muniment("credential", ticket, "--out", out, who=ANN).status == 0
    assert out.stat().st_mode & 0o777 == 0o600
    issued = certificate(out.read_bytes())
    assert issued.valid_principals == [b"web-admin"]
    left = datetime.fromtimestamp(issued.valid_before, UTC) - datetime.now(UTC)
    assert timedelta(minutes=55) < left <= timedelta(hours=1, seconds=1)

    again = muniment.json("credential", ticket, who=ANN)
    assert (again.status, again.error["code"], again.out) == (1, "refused.no-credential", "")

    (held,) = muniment.json("holdings", "bastion", who=OPS).document["items"]
    assert (held["account"], held["privilege"], held["class"], held["ticket"]) == (
        "ann",
        "web-admin",
        "ticketed",
        ticket,
    )

    returned = muniment.json("return", ticket, who=ANN)
    assert returned.status == 0, returned.err
    assert returned.document["status"] == "closed"
    assert all(check["holds"] for check in returned.document["closure"]["checks"])
    assert muniment.json("holdings", "bastion", who=OPS).document["items"] == []

    verified = muniment.json("ledger", "verify")
    assert verified.status == 0, verified.err
    assert verified.document["ok"]
    assert muniment.json("ledger", "verify").document["events"] == verified.document["events"]


def test_the_credential_is_written_to_a_pipe_as_it_is(muniment: Muniment) -> None:
    ticket = muniment.filed()
    muniment("approve", ticket, who=CYD)
    answer = muniment("credential", ticket, who=ANN)
    assert answer.status == 0, answer.err
    assert certificate(answer.out.encode()).key_id == f"muniment:{ticket}:ann".encode()


def test_a_credential_is_not_lost_to_a_file_that_cannot_be_written(
    muniment: Muniment, tmp_path: Path
) -> None:
    ticket = muniment.filed()
    muniment("approve", ticket, who=CYD)
    there = tmp_path / "there"
    there.write_text("mine")
    for out in (there, tmp_path / "no" / "such" / "folder", tmp_path):
        refused = muniment.json("credential", ticket, "--out", out, who=ANN)
        assert (refused.status, refused.error["code"]) == (2, "invalid.out")
    assert there.read_text() == "mine"
    assert not any(path.name == "x" for path in tmp_path.iterdir())
    other = tmp_path / "x"
    assert muniment.json("credential", ticket, "--out", other, who=BO).status == 1
    assert not other.exists(), "nothing was collected, so nothing is left"
    assert muniment.json("credential", ticket, "--out", other, who=ANN).document == {
        "ticket": ticket,
        "out": str(other),
    }


def test_policy_says_no_on_the_record(muniment: Muniment) -> None:
    answer = muniment.request(who=OPS)
    assert answer.status == 1
    assert answer.error["code"] == "refused.by-policy"
    assert answer.document["status"] == "denied"
    assert answer.document["policy"]["reasons"]
    assert all(reason in answer.error["message"] for reason in answer.document["policy"]["reasons"])


def test_break_glass_gives_access_at_once_and_waits_for_its_review(muniment: Muniment) -> None:
    emergency = ("--break-glass", "--incident", "INC-1", "--for", "30m", "--wait")
    answer = muniment.request(*emergency, who=BO)
    assert answer.status == 0, answer.err
    ticket = answer.document["id"]
    assert (answer.document["status"], answer.document["kind"]) == ("active", "break_glass")
    ended = muniment.json("revoke", ticket, "--reason", "the incident is over", who=OPS)
    assert ended.document["status"] == "revoked", "open until somebody else has looked"
    shown = muniment("show", ticket, who=BO)
    assert "waits for" in shown.out
    assert "review" in shown.out
    own = muniment.json("review", ticket, "--outcome", "appropriate", "--comment", "all mine", who=BO)
    assert (own.status, own.error["code"]) == (1, "refused.self-review")
    seen = muniment.json("review", ticket, "--outcome", "appropriate", "--comment", "as INC-1 says", who=AUD)
    assert seen.document["status"] == "closed"


def test_an_inappropriate_use_is_a_finding_until_it_is_resolved(muniment: Muniment) -> None:
    ticket = muniment.request("--break-glass", "--incident", "INC-1", "--for", "30m", who=BO).document["id"]
    muniment("return", ticket, who=BO)
    muniment("review", ticket, "--outcome", "inappropriate", "--comment", "no incident", who=AUD)
    (finding,) = muniment.json("findings", who=AUD).document["items"]
    # the glass was 1, which the review answered
    assert (finding["id"], finding["type"]) == (f"{ticket}:2", "inappropriate-use")
    resolved = muniment.json("finding", "resolve", finding["id"], "--reason", "talked to Bo", who=AUD)
    assert resolved.status == 0, resolved.err
    assert resolved.document["status"] == "closed"
    assert muniment.json("findings", who=AUD).document["items"] == []


def test_a_denial_a_withdrawal_and_a_stale_digest(muniment: Muniment) -> None:
    first, second = muniment.filed(), muniment.filed()
    stale = muniment.json("approve", first, "--digest", "sha256:" + "0" * 64, who=CYD)
    assert (stale.status, stale.error["code"]) == (1, "refused.stale-approval")
    denied = muniment.json("deny", first, "--comment", "not during the freeze", who=CYD)
    assert (denied.status, denied.document["status"]) == (0, "denied")
    assert muniment.json("withdraw", second, who=ANN).document["status"] == "withdrawn"
    late = muniment.json("approve", second, who=CYD)
    assert (late.status, late.error["code"]) == (1, "refused.status")


def test_waiting_ends_with_the_decision(muniment: Muniment) -> None:
    words = (
        "request",
        "bastion",
        "web-admin",
        "--for",
        "1h",
        "--reason",
        "to look",
        "--public-key",
        muniment.key,
    )
    with running(*words, "--wait", "--json", "--as", ANN, "--config", muniment.config) as waiting:
        deadline = time.monotonic() + 60
        while not muniment.tickets() and time.monotonic() < deadline:
            time.sleep(0.2)
        (ticket,) = muniment.tickets()
        assert muniment("deny", ticket, "--comment", "no", who=CYD).status == 0
        out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 1
    assert '"refused.denied"' in err
    assert '"status": "denied"' in out


def test_an_approval_that_gives_no_access_is_on_record_and_exit_status_1(muniment: Muniment) -> None:
    """Somebody revoked the beneficiary's key by hand: the authority never certifies it again."""
    ticket = muniment.filed()
    key = base64.b64decode(muniment.key.read_text().split()[1])
    (muniment.folder / "var" / "bastion.krl").write_bytes(krl.encode(krl.Krl(keys=frozenset({key}))))
    answer = muniment.json("approve", ticket, who=CYD)
    assert (answer.status, answer.error["code"]) == (1, "target.revoked"), answer.err
    assert answer.document["status"] == "failed"
    assert [d["approver"] for d in answer.document["decisions"]] == [CYD]
    assert answer.document["failure"]["message"] in answer.error["message"]
    listed = muniment.json("show", ticket, who=ANN)
    assert (listed.status, listed.document["status"]) == (0, "failed")


def test_a_target_that_does_not_answer_leaves_the_ticket_and_exit_status_3(muniment: Muniment) -> None:
    ticket = muniment.filed()
    revoked = muniment.folder / "var" / "bastion.krl"
    revoked.unlink(missing_ok=True)
    revoked.mkdir()
    answer = muniment.json("approve", ticket, who=CYD)
    assert (answer.status, answer.error["code"]) == (3, "target.unavailable")
    assert answer.document["id"] == ticket
    assert answer.document["status"] in {"approved", "provisioning"}
    revoked.rmdir()
    checked = muniment.json("check")
    assert checked.status == 0, checked.err


def test_serve_takes_back_on_time_and_stops_gracefully(muniment: Muniment) -> None:
    ticket = muniment.filed("--for", "8s")
    assert muniment.json("approve", ticket, who=CYD).document["status"] == "active"
    with running("serve", "--only", "controllers", "--config", muniment.config) as serving:
        watched = muniment.json("show", ticket, "--watch", who=ANN)
        serving.send_signal(signal.SIGTERM)
        _, err = serving.communicate(timeout=60)
    assert watched.status == 0, watched.err
    assert watched.document["status"] == "closed"
    assert watched.document["revocation"]["cause"] == "expired"
    assert serving.returncode == 0, err
    assert "SQLite" in err, "what this mode cannot protect is said at the start"
    assert "Traceback" not in err
