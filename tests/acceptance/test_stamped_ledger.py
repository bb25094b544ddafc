"""A ledger whose checkpoints a time-stamping authority dates: from the configuration to the auditor's `openssl ts`."""

from __future__ import annotations

import subprocess
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest

from acceptance.conftest import CYD, Muniment
from muniment.config import load
from muniment.core.errors import StampRefused
from muniment.main import open_desk
from muniment.service.sealing import seal
from muniment.service.stamping import stamp
from timestamping import make_authority, serving, stamped


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_authority(tmp_path_factory.mktemp("tsa"))


def configure(muniment: Muniment, url: str, authority: Path) -> Muniment:
    section = f'\n[ledger.timestamps]\nurl = "{url}"\nroots = "{authority}/ca.pem"\nevery = "1h"\n'
    text = muniment.config.read_text().replace("\n[server]", section + "\n[server]", 1)
    muniment.config.write_text(text)
    return muniment


def test_from_the_checkpoint_to_the_auditor(here: Muniment, authority: Path, tmp_path: Path):
    ca, audit, out, trust = authority / "ca.pem", tmp_path / "audit", tmp_path / "e.zip", tmp_path / "trust"
    with serving(authority) as url:
        muniment = configure(here, url, authority)
        ticket = muniment.filed()
        assert muniment.json("approve", ticket, who=CYD).document["status"] == "active"
        document = muniment.json("ledger", "checkpoint").document
        assert [each["authority"] for each in document["stamps"]] == ["CN=tsa"]
        again = muniment.json("ledger", "checkpoint").document
        assert again["stamps"] == document["stamps"], "a checkpoint is stamped once"
        verified = muniment.json("ledger", "verify").document
        assert verified["ok"]
        assert verified["levels"]["V5"]["checked"] == verified["events"]
        muniment.json("ledger", "export", audit)
        assert muniment.json("evidence", "export", ticket, "--out", out).status == 0
    # the auditor, with the authority's certificate and nothing else of ours
    (tsr,) = (audit / "stamps").iterdir()
    assert tsr.name == f"{document['size']}.0.tsr"
    (tmp_path / "text").write_text(document["checkpoint"].partition("\n\n")[0] + "\n")
    openssl = ["openssl", "ts", "-verify", "-data", tmp_path / "text", "-in", tsr, "-CAfile", ca]
    assert subprocess.run(openssl, capture_output=True, check=False).returncode == 0
    folder = ("ledger", "verify", "--dir", audit, "--vkey", audit / "vkey")
    unread = muniment.json(*folder).document
    assert "1 time-stamps were not checked" in unread["says"]
    read = muniment.json(*folder, "--tsa", ca).document
    assert (read["ok"], read["levels"]["V5"]["checked"]) == (True, read["events"])
    trust.write_text((audit / "trust").read_text())
    bundle = muniment.json("evidence", "verify", out, "--trust", trust, "--tsa", ca).document
    assert bundle["ok"]
    assert any("time-stamps" in said for said in bundle["proves"])
    assert any("certificates were given" in said for said in muniment.json("evidence", "verify", out, "--trust", trust).document["does_not_prove"])  # fmt: skip
    with zipfile.ZipFile(out) as archive:
        archive.extractall(tmp_path / "e")
    shell = subprocess.run(
        ["bash", tmp_path / "e/verify.sh", "--trust", trust, "--tsa", ca],
        capture_output=True,
        text=True,
        check=False,
    )
    assert shell.returncode == 0, shell.stdout
    assert "stamped at" in shell.stdout


def test_a_stamp_of_something_else_is_named_with_its_file(here: Muniment, authority: Path, tmp_path: Path):
    audit = tmp_path / "audit"
    with serving(authority) as url:
        configure(here, url, authority).json("ledger", "checkpoint")
        here.json("ledger", "export", audit)
    (tsr,) = (audit / "stamps").iterdir()
    tsr.write_bytes(stamped(authority, "another text"))
    answer = here.json(
        "ledger", "verify", "--dir", audit, "--vkey", audit / "vkey", "--tsa", authority / "ca.pem"
    )
    assert answer.status == 1
    level = answer.document["levels"]["V5"]
    assert not level["ok"]
    assert level["first_fault"].startswith(f"stamps/{tsr.name}: ")


def test_an_authority_that_is_down_holds_up_nothing_and_is_said(here: Muniment, authority: Path):
    with serving(authority) as url:
        pass  # gone
    configure(here, url, authority)
    ticket = here.filed()
    assert here.json("approve", ticket, who=CYD).document["status"] == "active"
    document = here.json("ledger", "checkpoint").document
    assert document["stamps"] == []
    assert "did not answer" in document["unstamped"]


def test_stamps_come_no_more_often_than_asked_and_from_a_clock_like_ours(here: Muniment, authority: Path):
    with serving(authority) as url:
        configure(here, url, authority)
        desk = open_desk(load(here.config))
        seal(desk)
        assert stamp(desk, every=timedelta(hours=1)) is not None
        here.filed()
        seal(desk)
        assert stamp(desk, every=timedelta(hours=1)) is None
        assert stamp(desk, every=timedelta(0)) is not None

        class Ahead:
            def now(self):
                return desk.clock.now() + timedelta(hours=3)

        here.filed()
        ahead = open_desk(load(here.config), clock=Ahead())
        seal(ahead)
        with pytest.raises(StampRefused) as caught:
            stamp(ahead)
        assert caught.value.code == "timestamp.wrong-clock"


def test_certificates_that_are_none_are_refused_at_the_start(here: Muniment, tmp_path: Path):
    (tmp_path / "ca.pem").write_text("hello")
    answer = configure(here, "http://127.0.0.1:1/tsa", tmp_path).json("ledger", "checkpoint")
    assert answer.status == 2
    assert "certificate" in answer.error["message"]
