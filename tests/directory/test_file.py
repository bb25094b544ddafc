"""The identities file: what it means, what is refused, and that a broken one changes nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from muniment.core.errors import Misconfigured
from muniment.directory.file import STARTER, FileDirectory
from muniment.directory.parsing import MAX_DEPTH

ANN = '[identities."human:ann@example.com"]\n'
BO = '[identities."human:bo@example.com"]\n'

WORLD = """
[identities."human:Ann@Example.com"]
name = "Ann"
groups = ["engineers"]
manager = "human:bo@example.com"
aliases = ["human:ANN.alias@example.com"]
[identities."human:bo@example.com"]
groups = ["dbas", "group:on-call"]
roles = ["operator", "member"]
[identities."human:cyd@example.com"]
[identities."human:eve@example.com"]
groups = ["dbas"]
active = false
[identities."service_account:billing-ci"]
owner = "human:ann.alias@example.com"
groups = ["machines"]
[identities."ai_agent:triage"]
owners = ["service_account:billing-ci", "human:bo@example.com"]
[groups.dba-leads]
members = ["group:dbas", "human:cyd@example.com"]
[groups.staff]
members = ["group:dba-leads", "group:engineers"]
[groups.empty]
members = []
"""


def directory(tmp_path: Path, text: str) -> FileDirectory:
    path = tmp_path / "identities.toml"
    path.write_text(text)
    return FileDirectory(path)


def test_people_groups_and_owners(tmp_path):
    d = directory(tmp_path, WORLD)
    ann = d.get("human:ann@example.com")
    assert ann.id == "human:ann@example.com"
    assert ann.manager == "human:bo@example.com"
    assert ann.groups == ("engineers", "staff")
    assert ann.roles == ("member",)
    assert ann.aliases == ("human:ann.alias@example.com",)
    assert d.get("human:bo@example.com").groups == ("dba-leads", "dbas", "on-call", "staff")
    assert d.get("human:bo@example.com").roles == ("member", "operator")
    assert d.get("human:cyd@example.com").groups == ("dba-leads", "staff")
    assert d.get("service_account:billing-ci").owners == ("human:ann@example.com",)
    assert d.get("ai_agent:triage").owners == (
        "service_account:billing-ci", "human:bo@example.com", "human:ann@example.com",
    )  # fmt: skip


@pytest.mark.parametrize(
    "spelling",
    [
        "human:ann@example.com",
        "human:ANN@example.COM",
        "human:ann.alias@example.com",
        "human:Ann.Alias@example.com",
    ],
)
def test_one_subject_under_every_name(tmp_path, spelling):
    d = directory(tmp_path, WORLD)
    assert d.get(spelling) is d.get("human:ann@example.com")


def test_machines_are_one_subject_in_any_case_and_workloads_in_their_own(tmp_path):
    own = '[identities."human:ann@example.com"]\n[identities."workload:spiffe://x/A"]\nowner = "human:ann@example.com"\n'
    d = directory(tmp_path, own + '[identities."ai_agent:Triage"]\nowner = "human:ann@example.com"')
    assert d.get("ai_agent:TRIAGE") is d.get("ai_agent:triage") is not None
    assert d.get("workload:spiffe://x/A").id == "workload:spiffe://x/A"
    assert d.get("workload:spiffe://x/a") is None


@pytest.mark.parametrize(
    "unknown",
    ["human:zed@example.com", "ann@example.com", "", "human:", "human:ann@example.com ", "service_account:billing_ci", "human:\u0430nn@example.com"],
)  # fmt: skip
def test_nobody(tmp_path, unknown):
    assert directory(tmp_path, WORLD).get(unknown) is None


def test_members_are_active_nested_and_sorted(tmp_path):
    d = directory(tmp_path, WORLD)
    assert [m.id for m in d.members("dbas")] == ["human:bo@example.com"]
    assert [m.id for m in d.members("group:dba-leads")] == ["human:bo@example.com", "human:cyd@example.com"]
    assert [m.id for m in d.members("staff")] == ["human:ann@example.com", "human:bo@example.com", "human:cyd@example.com"]  # fmt: skip
    assert d.members("empty") == d.members("never-heard-of") == ()
    ids = [i.id for i in d.everybody()]
    assert ids == sorted(ids)
    assert "human:eve@example.com" in ids


def owners(count):
    chain = "".join(
        f'[identities."service_account:s{at}"]\nowner = "service_account:s{at + 1}"\n' for at in range(count)
    )
    return chain + f'[identities."service_account:s{count}"]\nowner = "human:ann@example.com"\n'


REFUSED = [
    ("TOML syntax", ANN + "name = Ann", "line 2"),
    ("TOML duplicate", ANN + ANN, "identities.toml"),
    ("no identities", "", "identities"),
    ("unknown table", ANN + "[roles]", "roles"),
    ("unknown key", ANN + 'group = ["x"]', "group"),
    ("wrong type", ANN + 'groups = "x"', "groups"),
    ("wrong type of active", ANN + 'active = "no"', "active"),
    ("unknown role", ANN + 'roles = ["admin"]', "admin"),
    ("machine as approver", ANN + '[identities."ai_agent:x"]\nowner = "human:ann@example.com"\nroles = ["approver"]', "only people"),
    ("bad kind", '[identities."person:ann"]', "person:ann"),
    ("bad name", '[identities."human:ann smith"]', "ann smith"),
    ("homoglyph", '[identities."human:\u0430nn@example.com"]', "is not an identity"),
    ("name that hides", ANN + 'name = "Ann\\u202e"', "invisible"),
    ("bad group", ANN + 'groups = ["a b"]', "a b"),
    ("bad group name", ANN + '[groups."a b"]\nmembers = []', "a b"),
    ("group in two spellings", ANN + 'groups = ["dba"]\n' + BO + 'groups = ["DBA"]', "spelled dba"),
    ("person twice by case", ANN + '[identities."human:ANN@example.com"]', "taken already"),
    ("machine twice by case", ANN + "".join(f'[identities."service_account:{n}"]\nowner = "human:ann@example.com"\n' for n in ("ci", "CI")), "taken already"),
    ("alias of two", ANN + 'aliases = ["human:x"]\n' + BO + 'aliases = ["human:X"]', "taken already"),
    ("alias that is somebody", ANN + 'aliases = ["human:bo@example.com"]\n' + BO, "taken already"),
    ("alias of oneself", ANN + 'aliases = ["human:Ann@example.com"]', "taken already"),
    ("alias of another kind", ANN + 'aliases = ["service_account:ann"]', "another kind"),
    ("owner missing", '[identities."service_account:x"]', "no owner"),
    ("owners empty", '[identities."workload:x"]\nowners = []', "no owner"),
    ("owner unknown", '[identities."service_account:x"]\nowner = "human:zed"', "human:zed"),
    ("owner is a group", ANN + '[identities."service_account:x"]\nowner = "group:dba"', "group:dba"),
    ("owner of a person", ANN + 'owner = "human:bo@example.com"\n' + BO, "a person has no owner"),
    ("owner of itself", '[identities."service_account:x"]\nowner = "service_account:x"', "circle"),
    ("owners in a circle", '[identities."service_account:x"]\nowner = "ai_agent:y"\n[identities."ai_agent:y"]\nowner = "service_account:x"', "circle"),
    ("owners in a circle, with a person beside", ANN + '[identities."ai_agent:x"]\nowners = ["human:ann@example.com", "ai_agent:y"]\n[identities."ai_agent:y"]\nowner = "ai_agent:x"', "circle"),
    ("owners too deep", ANN + owners(MAX_DEPTH), "nested over"),
    ("manager unknown", ANN + 'manager = "human:zed"', "human:zed"),
    ("manager is a machine", ANN + 'manager = "ai_agent:x"\n[identities."ai_agent:x"]\nowner = "human:ann@example.com"', "only people"),
    ("manager of a machine", ANN + '[identities."ai_agent:x"]\nowner = "human:ann@example.com"\nmanager = "human:ann@example.com"', "only people"),
    ("managers in a circle", ANN + 'manager = "human:bo@example.com"\n' + BO + 'manager = "human:ann@example.com"', "circle"),
    ("one's own manager by alias", ANN + 'aliases = ["human:a"]\nmanager = "human:a"', "circle"),
    ("nested group unknown", ANN + '[groups.x]\nmembers = ["group:y"]', "no group y"),
    ("member unknown", ANN + '[groups.x]\nmembers = ["human:zed"]', "human:zed"),
    ("groups in a circle", ANN + '[groups.x]\nmembers = ["group:y"]\n[groups.y]\nmembers = ["group:x"]', "circle"),
    ("group in itself", ANN + '[groups.x]\nmembers = ["group:x"]', "circle"),
    ("group without members", ANN + "[groups.x]", "members"),
    ("group with an unknown key", ANN + '[groups.x]\nmembers = []\nowner = "x"', "owner"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "says"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused(tmp_path, text, says):
    with pytest.raises(Misconfigured) as refused:
        directory(tmp_path, text)
    assert "identities.toml" in refused.value.message
    assert says in refused.value.message
    assert refused.value.remedy
    assert refused.value.code == "config.identities"


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(Misconfigured, match="cannot be read"):
        FileDirectory(tmp_path / "none.toml")
    (tmp_path / "x.toml").write_bytes(b"\xff")
    with pytest.raises(Misconfigured, match="not UTF-8"):
        FileDirectory(tmp_path / "x.toml")


def test_the_deepest_chain_that_is_allowed(tmp_path):
    d = directory(tmp_path, ANN + owners(MAX_DEPTH - 1))
    assert d.get("service_account:s0").owners[-1] == "human:ann@example.com"


class TestReload:
    def test_nothing_new(self, tmp_path):
        d = directory(tmp_path, ANN)
        before = d.version
        assert not d.reload_if_changed()
        os.utime(tmp_path / "identities.toml")
        assert not d.reload_if_changed()
        assert d.version == before

    def test_a_change_is_taken_over(self, tmp_path):
        d = directory(tmp_path, ANN)
        before = d.version
        (tmp_path / "identities.toml").write_text(ANN + BO)
        assert d.reload_if_changed()
        assert not d.reload_if_changed()
        assert d.get("human:bo@example.com")
        assert d.version != before

    def test_a_change_of_equal_size_within_one_tick(self, tmp_path):
        d = directory(tmp_path, ANN + "active = true \n")
        path = tmp_path / "identities.toml"
        stamp = path.stat().st_mtime_ns
        path.write_text(ANN + "active = false\n")
        os.utime(path, ns=(stamp, stamp))
        assert d.reload_if_changed()
        assert not d.get("human:ann@example.com").active

    @pytest.mark.parametrize("content", [b"[", b"\xff", ANN.encode() + b'group = ["x"]'])
    def test_a_broken_file_keeps_the_old_one_and_is_said_once(self, tmp_path, content):
        d = directory(tmp_path, ANN)
        before = d.version
        path = tmp_path / "identities.toml"
        path.write_bytes(content)
        with pytest.raises(Misconfigured):
            d.reload_if_changed()
        assert not d.reload_if_changed()
        assert d.get("human:ann@example.com")
        assert d.version == before
        path.write_text(ANN)
        assert not d.reload_if_changed()
        path.write_text(ANN + BO)
        assert d.reload_if_changed()

    def test_a_missing_file_keeps_the_old_one_and_is_said_once(self, tmp_path):
        d = directory(tmp_path, ANN)
        path = tmp_path / "identities.toml"
        path.unlink()
        with pytest.raises(Misconfigured, match="cannot be read"):
            d.reload_if_changed()
        assert not d.reload_if_changed()
        assert d.get("human:ann@example.com")
        path.write_text(BO)
        assert d.reload_if_changed()
        assert d.get("human:ann@example.com") is None


def test_the_starter_file_loads_as_it_is_and_with_its_comments_in(tmp_path):
    d = directory(tmp_path, STARTER)
    assert d.get("service_account:deploy").owners == ("human:ann@example.com",)
    assert {m.id for m in d.members("platform")} == {"human:cyd@example.com", "human:dee@example.com"}
    lines = (line.removeprefix("# ") if line[2:].startswith(("[groups", "members", "aliases")) else line for line in STARTER.splitlines())  # fmt: skip
    assert len(directory(tmp_path, "\n".join(lines)).members("everybody")) == 5


def test_time_grows_with_the_number_of_identities_only(tmp_path):
    """Ten times as many take about ten times as long; a square would take a hundred."""

    def seconds(count: int) -> float:
        text = "".join(
            f'[identities."human:u{at}@example.com"]\ngroups = ["team-{at % 50}", "all"]\n'
            + (f'manager = "human:u{at // 10}@example.com"\n' if at else "")
            for at in range(count)
        )
        path = tmp_path / f"{count}.toml"
        path.write_text(text)
        began = time.process_time()  # what others do meanwhile does not count
        assert len(FileDirectory(path).members("all")) == count
        return time.process_time() - began

    small, large = (min(seconds(count) for _ in range(3)) for count in (500, 5000))
    assert large < 40 * small
