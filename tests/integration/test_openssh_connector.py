"""The certificate connector against a real sshd; `ssh-keygen` is the second opinion."""

from __future__ import annotations

import base64
import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.utils import CryptographyDeprecationWarning

import servers
from muniment.config import read_secret_file
from muniment.conformance.harness import yes
from muniment.connectors import krl as lists
from muniment.connectors import openssh, openssh_certificates
from muniment.connectors.kinds import build_connector
from muniment.connectors.openssh import OpenSSH
from muniment.connectors.openssh_certificates import serial_of
from muniment.connectors.openssh_keys import new_ca_key, public_line
from muniment.core.errors import Invalid, LeaseLost, Misconfigured, TargetUnavailable
from muniment.core.scope import Holding, Privilege, Scope, scope
from muniment.ports import Order

pytestmark = pytest.mark.server("sshd")


def principals(*names: str) -> Scope:
    return scope(Privilege(privilege=name) for name in names)


def public(key=None) -> str:
    key = key or ed25519.Ed25519PrivateKey.generate()
    form = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return key.public_key().public_bytes(*form).decode()


def build(name, settings, secret, catalogue):
    return build_connector(
        "openssh", name=name, settings=settings, secret=secret, path=Path, catalogue=catalogue
    )


def order(
    ticket: str = "", *names: str, account: str = "ann", key: str | None = None, seconds: float = 600
) -> Order:
    return Order(
        ticket=ticket or f"req_{uuid.uuid4().hex}",
        account=account,
        scope=principals(*(names or ("web-admin",))),
        expires_at=datetime.now(UTC) + timedelta(seconds=seconds),
        public_key=key or public(),
    )


class Confirm:
    """Counts, and may refuse."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls, self.error = 0, error

    def __call__(self) -> None:
        self.calls += 1
        if self.error:
            raise self.error


class Authority:
    """A connector on a folder of its own, with a clock that can be moved."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ahead = folder, timedelta()
        self.ca, self.krl, self.register = folder / "ca", folder / "krl", folder / "krl.d"
        if not self.ca.exists():
            self.ca.write_bytes(new_ca_key())
            self.ca.chmod(0o600)
        self.connector = self.make()

    def make(self, **settings: object) -> OpenSSH:
        given = {"ca_key": f"file:{self.ca}", "krl": str(self.krl), **settings}
        made = build("bastion", given, lambda name: Path(name.removeprefix("file:")).read_text(), ())
        assert isinstance(made, OpenSSH)
        made._clock = lambda: datetime.now(UTC) + self.ahead
        return made

    def list(self) -> lists.Krl:
        return lists.parse(self.krl.read_bytes())

    def held(self) -> set[tuple[str, str]]:
        seen = self.connector.observe(None)
        assert seen.complete
        return {(holding.account, holding.privilege) for holding in seen.holdings}

    def refused_by_openssh(self, credential: bytes) -> bool:
        path = self.folder / f"asked-{uuid.uuid4().hex}.pub"
        path.write_bytes(credential)
        return (
            subprocess.run(
                ["ssh-keygen", "-Q", "-f", self.krl, path], capture_output=True, check=False
            ).returncode
            == 1
        )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    assert made.connector.check().reachable
    return made


# ── Against sshd ─────────────────────────────────────────────────────────────


class Host:
    """A shared sshd, with its authority and list in our connector's hands."""

    def __init__(self, server: servers.TemporarySshd) -> None:
        self.server = server
        self.principal = f"p-{uuid.uuid4().hex[:8]}"
        settings = {"ca_key": f"file:{server.ca}", "krl": str(server.krl)}
        self.connector = build("bastion", settings, lambda name: Path(name[5:]).read_text(), ())
        with (server.principals / server.login).open("a") as file:
            file.write(f"{self.principal}\n")

    def key(self) -> Path:
        return self.server.key(f"key-{uuid.uuid4().hex[:8]}")

    def login(self, key: Path, credential: bytes, *command: str) -> subprocess.CompletedProcess[str]:
        key.with_name(f"{key.name}-cert.pub").write_bytes(credential)
        return self.server.ssh(key, *(command or ("echo", "in")))


@pytest.fixture
def host(sshd_server: servers.TemporarySshd) -> Host:
    return Host(sshd_server)


def test_sshd_lets_the_ticket_in_and_names_it_and_refuses_it_once_revoked(host: Host):
    key = host.key()
    wanted = order("", host.principal, key=key.with_suffix(".pub").read_text())
    (given,) = host.connector.provision([wanted], yes)
    assert given.result == "done"
    assert host.login(key, given.credential).stdout == "in\n"
    line = f"ID muniment:{wanted.ticket}:ann (serial {given.handle['serial']})"
    assert line in host.server.log
    other = host.connector.provision([order("", "elsewhere", key=wanted.public_key)], yes)[0]
    assert host.login(key, other.credential).returncode == 255

    begun, go_on, output = host.server.folder / f"begun-{key.name}", host.server.folder / f"go-{key.name}", []
    waiting = f"touch {begun}; while ! test -e {go_on}; do sleep 0.05; done; echo survived"
    session = threading.Thread(
        target=lambda: output.append(host.login(key, given.credential, waiting).stdout)
    )
    session.start()
    deadline = time.monotonic() + 20
    while not begun.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (gone,) = host.connector.revoke([wanted], yes)
    assert (gone.result, gone.sessions_ended) == ("done", 0)
    refused = host.server.log.count("revoked by file")
    assert host.login(key, given.credential).returncode == 255
    assert host.server.log.count("revoked by file") > refused
    assert host.principal not in {holding.privilege for holding in host.connector.observe(None).holdings}
    go_on.touch()
    session.join()
    assert output == ["survived\n"]  # as `Capabilities.ends_sessions` says


def test_sshd_refuses_when_the_certificate_is_over(host: Host):
    key = host.key()
    wanted = order("", host.principal, key=key.with_suffix(".pub").read_text(), seconds=2.5)
    (given,) = host.connector.provision([wanted], yes)
    assert host.login(key, given.credential).returncode == 0
    assert given.native_expiry is not None
    assert timedelta() <= given.native_expiry - wanted.expires_at < timedelta(seconds=1)
    time.sleep(max(0.0, (given.native_expiry - datetime.now(UTC)).total_seconds()) + 0.05)
    assert host.login(key, given.credential).returncode == 255
    assert host.principal not in {h.privilege for h in host.connector.observe(None).holdings}
    before = host.server.krl.read_bytes()
    confirm = Confirm()
    assert host.connector.revoke([wanted], confirm)[0].result == "done"
    assert (host.server.krl.read_bytes(), confirm.calls) == (before, 0)


def test_the_restrictions_of_the_settings_bind_the_login(host: Host):
    server, key = host.server, host.key()
    base = {"ca_key": f"file:{server.ca}", "krl": str(server.krl)}
    cases = [
        ({"force_command": "echo forced"}, "forced\n", 0),
        ({"source_addresses": ["127.0.0.0/8"]}, "in\n", 0),
        ({"source_addresses": ["192.0.2.0/24", "2001:db8::/32"]}, "", 255),
    ]
    for extra, output, status in cases:
        connector = build("bastion", {**base, **extra}, lambda name: Path(name[5:]).read_text(), ())
        wanted = order("", host.principal, key=key.with_suffix(".pub").read_text())
        done = host.login(key, connector.provision([wanted], yes)[0].credential)
        assert (done.stdout, done.returncode) == (output, status), extra


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_every_kind_of_key_and_authority_logs_in(host: Host, kind: str, tmp_path: Path):
    key = tmp_path / "key"
    size = {"rsa": ["-b", "3072"]}.get(kind, [])
    subprocess.run(["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-f", key], check=True)
    wanted = order("", host.principal, key=key.with_suffix(".pub").read_text())
    assert host.login(key, host.connector.provision([wanted], yes)[0].credential).returncode == 0


def test_ssh_keygen_prints_what_we_meant(authority: Authority):
    wanted = order("req_01", "web-admin", "db", account="ann")
    connector = authority.make(
        extensions=["permit-pty", "permit-port-forwarding"], source_addresses=["10.0.0.0/8"]
    )
    (given,) = connector.provision([wanted], yes)
    path = authority.folder / "given.pub"
    path.write_bytes(given.credential or b"")
    text = subprocess.run(["ssh-keygen", "-L", "-f", path], capture_output=True, text=True, check=True).stdout
    lines = [line.strip() for line in text.splitlines()]
    assert 'Key ID: "muniment:req_01:ann"' in lines
    assert f"Serial: {serial_of('req_01')}" in lines
    at = lines.index("Principals:")
    assert lines[at + 1 : at + 3] == ["db", "web-admin"]
    assert "source-address 10.0.0.0/8" in lines
    assert lines[lines.index("Extensions:") + 1 :] == ["permit-port-forwarding", "permit-pty"]
    fingerprint = connector.observe(["ann"]).holdings[0].grantor
    assert any(line.startswith("Signing CA: ED25519") and str(fingerprint) in line for line in lines)
    assert given.handle == {"serial": str(serial_of("req_01")), "key_id": "muniment:req_01:ann"}


# ── Orders state an end ──────────────────────────────────────────────────────


def test_a_life_leaves_the_revocation_and_nothing_else(authority: Authority):
    one, two = order("req_1", "web", "db"), order("req_2", "web", account="bob")
    confirm = Confirm()
    done = authority.connector.provision([one, two], confirm)
    assert confirm.calls == 1
    assert authority.held() == {("ann", "web"), ("ann", "db"), ("bob", "web")}
    again = authority.connector.provision([one, two], confirm)
    assert [outcome.credential for outcome in again] == [outcome.credential for outcome in done]
    for _ in range(2):
        assert authority.connector.revoke([one], confirm)[0].result == "done"
        assert authority.held() == {("bob", "web")}
    assert confirm.calls == 2
    assert authority.refused_by_openssh(done[0].credential or b"")
    assert not authority.refused_by_openssh(done[1].credential or b"")


def test_two_tickets_for_one_principal_end_apart(authority: Authority):
    one, two = order("req_1"), order("req_2")
    authority.connector.provision([one, two], yes)
    authority.connector.revoke([one], yes)
    assert authority.held() == {("ann", "web-admin")}
    authority.connector.revoke([two], yes)
    assert authority.held() == set()


def test_a_revoked_ticket_is_not_provisioned_again_by_a_late_worker(authority: Authority):
    wanted = order("req_1")
    authority.connector.revoke([wanted], yes)
    (late,) = authority.connector.provision([wanted], yes)
    assert (late.result, late.code, late.credential) == ("rejected", "target.revoked", None)
    assert authority.held() == set()


def test_one_bad_order_fails_no_other(authority: Authority):
    good, bad = order("req_1"), order("req_2", key="ssh-ed25519 AAAA")
    assert [o.result for o in authority.connector.provision([bad, good, bad], yes)] == [
        "rejected",
        "done",
        "rejected",
    ]
    assert authority.held() == {("ann", "web-admin")}


def test_a_lost_lease_changes_nothing(authority: Authority):
    kept, wanted = order("req_1"), order("req_2")
    authority.connector.provision([kept], yes)

    def state() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in authority.folder.rglob("*") if p.is_file()}

    before = state()
    for call, given in ((authority.connector.provision, wanted), (authority.connector.revoke, kept)):
        with pytest.raises(LeaseLost):
            call([given], Confirm(LeaseLost("another has it")))
    assert state() == before

    authority.krl.unlink()
    shutil.rmtree(authority.register)
    before = state()
    for call in (authority.connector.provision, authority.connector.revoke):
        with pytest.raises(LeaseLost):
            call([wanted], Confirm(LeaseLost("another has it")))
    assert state() == before
    assert not authority.register.exists()


def test_a_ticket_gets_no_second_certificate(authority: Authority):
    first = order("req_1", "web")
    authority.connector.provision([first], yes)
    for other in (order("req_1", "web", "root"), order("req_1", "web", key=first.public_key, seconds=9999)):
        (answer,) = authority.connector.provision([other], yes)
        assert (answer.result, answer.code) == ("rejected", "target.register")
    assert authority.held() == {("ann", "web")}


def test_an_order_that_is_over_is_rejected(authority: Authority):
    (late,) = authority.connector.provision([order(seconds=-1)], yes)
    assert (late.result, late.code) == ("rejected", "target.too-late")


def test_a_handle_of_another_ticket_revokes_nothing(authority: Authority):
    victim, wanted = order("req_1"), order("req_2")
    handle = authority.connector.provision([victim], yes)[0].handle
    forged = Order(
        ticket="req_2", account="ann", scope=wanted.scope, expires_at=wanted.expires_at, handle=handle
    )
    assert authority.connector.revoke([forged], yes)[0].code == "target.foreign-handle"
    assert authority.held() == {("ann", "web-admin")}


def test_a_certificate_the_register_lost_is_revoked_all_the_same(authority: Authority):
    wanted = order("req_1")
    (given,) = authority.connector.provision([wanted], yes)
    (authority.register / f"{given.handle['serial']}.cert").unlink()
    assert authority.connector.revoke([wanted], yes)[0].result == "done"
    assert authority.refused_by_openssh(given.credential or b"")


# ── Keys and names ───────────────────────────────────────────────────────────


def hostile_keys() -> Sequence[tuple[str, str]]:
    good = public()
    sk = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIA=="
    return [
        ("nothing", ""),
        ("words", "not a key"),
        ("options", f'command="id" {good}'),
        ("two lines", f"{good}\n{public()}"),
        ("an option on a second line", f'{good} x\ncommand="id"'),
        ("NUL", f"{good}\0"),
        ("bidi in the comment", f"{good} \u202egnp"),
        ("bad base64", good[:-4] + "!!!!"),
        ("cut", good[:-8]),
        ("more after the key", good.replace(" ", " AAAA", 1)),
        ("another type", good.replace("ssh-ed25519", "ecdsa-sha2-nistp256", 1)),
        ("security token", sk),
        ("weak RSA", public(rsa.generate_private_key(65537, 2048))),
        ("long", good + " " + "x" * 9000),
        ("private", new_ca_key().decode()),
    ]


@pytest.mark.parametrize(("what", "key"), hostile_keys(), ids=[what for what, _ in hostile_keys()])
def test_keys_that_are_refused(authority: Authority, what: str, key: str):
    confirm = Confirm()
    wanted = Order(
        **{f: getattr(order(), f) for f in ("ticket", "account", "scope", "expires_at")}, public_key=key
    )
    (answer,) = authority.connector.provision([wanted], confirm)
    assert (answer.result, answer.code, confirm.calls) == ("rejected", "target.bad-key", 0), what
    assert "PRIVATE" not in answer.message


def test_a_certificate_or_the_authority_or_dsa_given_as_key_is_refused(authority: Authority):
    (given,) = authority.connector.provision([order()], yes)
    numbers = dsa.generate_parameters(1024)
    with pytest.warns(CryptographyDeprecationWarning, match="DSA"):
        weak = public(numbers.generate_private_key())
    for key in ((given.credential or b"").decode(), public_line(authority.ca.read_bytes()), weak):
        assert authority.connector.provision([order(key=key)], yes)[0].code == "target.bad-key"


def test_a_comment_and_a_final_newline_are_fine(authority: Authority):
    key = public(ec.generate_private_key(ec.SECP384R1()))
    (given,) = authority.connector.provision([order(key=f"{key} ann@laptop with words\n")], yes)
    assert given.result == "done"
    assert b"laptop" not in (given.credential or b"")


@pytest.mark.parametrize(
    "name",
    [
        "",
        " a",
        "a b",
        "a,b",
        "a\tb",
        "a\nb",
        "a\0b",
        "a\x1bb",
        "\u202ea",
        "e\u0301",
        "x" * 256,
        "\u00a0a",
        "\ud800",
    ],
)
def test_names_a_certificate_cannot_hold_as_written(authority: Authority, name: str):
    for account, wanted in ((name, principals("web")), ("ann", principals(name))):
        with pytest.raises(Invalid):
            authority.connector.validate(account, wanted)
        bad = Order(
            ticket="req_1", account=account, scope=wanted, expires_at=order().expires_at, public_key=public()
        )
        assert authority.connector.provision([bad], yes)[0].code == "target.bad-name"


@pytest.mark.parametrize("name", ["a#b", "*", "a?", '"a"', "!a"])
def test_principals_that_a_principals_file_would_read_otherwise(authority: Authority, name: str):
    with pytest.raises(Invalid):
        authority.connector.validate("ann", principals(name))


def test_names_that_are_fine(authority: Authority):
    authority.connector.validate("ann:x@example.com", principals("web-admin", "büro", "x" * 255))
    authority.connector.provision([order("", "büro", account="ann:x")], yes)
    assert authority.held() == {("ann:x", "büro")}
    with pytest.raises(Invalid):
        authority.connector.validate("ann", scope([Privilege(privilege="web", resource="db")]))


# ── The register tells the truth ─────────────────────────────────────────────


def sign(
    authority: Authority, name: str, serial: int, key_id: str, *options: str, by: Path | None = None
) -> Path:
    """A certificate that somebody made with ssh-keygen and put into the register."""
    key = authority.folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    command = ["ssh-keygen", "-q", "-s", by or authority.ca, "-I", key_id, "-z", str(serial), *options]
    subprocess.run([*command, key.with_suffix(".pub")], check=True)
    path = authority.register / f"{serial}.cert"
    shutil.copy(f"{key}-cert.pub", path)
    return path


def test_more_principals_than_approved_are_seen(authority: Authority):
    sign(authority, "u", serial_of("req_1"), "muniment:req_1:ann", "-n", "web,root")
    assert authority.held() == {("ann", "web"), ("ann", "root")}


def test_what_others_issued_is_seen_with_its_grantor_and_revoked_under_it(authority: Authority):
    other = authority.folder / "old-ca"
    other.write_bytes(new_ca_key())
    other.chmod(0o600)
    path = sign(authority, "u", serial_of("req_1"), "muniment:req_1:ann", "-n", "web", by=other)
    everywhere = sign(authority, "v", 77, "somebody")
    seen = authority.connector.observe(None)
    ours = authority.connector.observe(["somebody"]).holdings[0].grantor
    assert seen.complete
    assert Holding(account="somebody", privilege="*", grantor=ours) in seen.holdings
    assert {h.grantor for h in seen.holdings if h.account == "ann"} == {h.grantor for h in seen.holdings} - {
        ours
    }
    authority.connector.revoke([order("req_1")], yes)
    assert authority.connector.observe(["ann"]).holdings == ()
    assert authority.refused_by_openssh(path.read_bytes())
    assert not authority.refused_by_openssh(everywhere.read_bytes())


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "renamed", "folder", "binary", "plain key"])
def test_a_damaged_file_makes_the_reading_incomplete_until_it_is_revoked(authority: Authority, how: str):
    wanted = order("req_1")
    serial = authority.connector.provision([wanted], yes)[0].handle["serial"]
    path = authority.register / f"{serial}.cert"
    data = path.read_bytes()
    if how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "renamed":
        sign(authority, "u", 5, "muniment:req_9:eve", "-n", "web").rename(path)
    else:
        body = {
            "cut": data[:-30],
            "flipped": data.replace(data[200:202], b"zz"),
            "empty": b"",
            "binary": os.urandom(300),
        }
        path.write_bytes(body.get(how, public().encode()))
    seen = authority.connector.observe(None)
    assert (seen.complete, seen.holdings) == (False, ())
    assert any("damaged" in problem for problem in authority.connector.check().problems)
    (again,) = authority.connector.provision([wanted], yes)
    assert (again.result, again.code) == ("rejected", "target.register")
    assert authority.connector.revoke([wanted], yes)[0].result == "done"
    assert authority.connector.observe(None).complete


def test_any_bytes_in_a_certificate_file_are_a_certificate_or_damage(authority: Authority):
    """Each byte of the decoded certificate flipped in turn: nothing but our own exception, and never a new truth."""
    (given,) = authority.connector.provision([order("req_1")], yes)
    kind, body = (given.credential or b"").split()
    whole, serial = bytearray(base64.b64decode(body)), serial_of("req_1")
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 0x81
        with pytest.raises(openssh_certificates.Damaged):
            openssh_certificates.verified(kind + b" " + base64.b64encode(changed), serial)
        with pytest.raises(openssh_certificates.Damaged):
            openssh_certificates.verified(kind + b" " + base64.b64encode(whole[:at]), serial)


def test_a_missing_register_proves_nothing(tmp_path: Path):
    fresh = Authority(tmp_path)
    never_used = fresh.connector.observe(
        None
    )  # neither register nor revocation list: nothing was ever issued
    assert never_used.complete
    assert never_used.holdings == ()
    fresh.connector.check()
    assert fresh.held() == set()
    fresh.connector.provision([order()], yes)
    shutil.rmtree(fresh.register)
    assert not fresh.connector.observe(None).complete


def test_revoked_by_another_tool_is_revoked(authority: Authority):
    """By serial, key id, key, and the authority's own key: all that sshd would heed."""
    for number, spec in enumerate(("serial", "id", "key")):
        wanted = order(f"req_{number}")
        (given,) = authority.connector.provision([wanted], yes)
        text = {"serial": f"serial: {given.handle['serial']}", "id": f"id: {given.handle['key_id']}"}
        (authority.folder / "spec").write_text(text.get(spec, f"key: {wanted.public_key}") + "\n")
        command = [
            "ssh-keygen",
            "-k",
            "-u",
            "-f",
            authority.krl,
            "-s",
            f"{authority.ca}.pub",
            authority.folder / "spec",
        ]
        Path(f"{authority.ca}.pub").write_text(public_line(authority.ca.read_bytes()))
        subprocess.run(command, check=True, capture_output=True)
        assert authority.refused_by_openssh(given.credential or b"")
        assert authority.held() == set(), spec
    before = authority.list()
    last = order("req_last")
    authority.connector.revoke([last], yes)
    after = authority.list()
    assert after.keys == before.keys
    assert after == lists.Krl(
        **{
            **{
                field: getattr(after, field)
                for field in ("version", "generated", "comment", "keys", "sha1", "sha256")
            },
            "certificates": before.with_serials(
                {next(iter(before.certificates)): [serial_of("req_last")]}
            ).certificates,
        }
    )


def test_a_list_we_cannot_keep_is_left_alone(authority: Authority):
    wanted = order("req_1")
    authority.connector.provision([wanted], yes)
    strange = lists.encode(lists.Krl()) + b"\xff\0\0\0\4abcd"
    authority.krl.write_bytes(strange)
    for call in (
        lambda: authority.connector.revoke([wanted], yes),
        lambda: authority.connector.provision([order()], yes),
        lambda: authority.connector.observe(None),
    ):
        with pytest.raises(TargetUnavailable, match="section of type 255"):
            call()
    report = authority.connector.check()
    assert not report.reachable
    assert "type 255" in report.problems[0]
    assert authority.krl.read_bytes() == strange


@pytest.mark.parametrize("state", ["missing", "empty"])
def test_a_missing_list_is_made(authority: Authority, state: str):
    for call in (authority.connector.provision, authority.connector.revoke):
        authority.krl.unlink() if state == "missing" else authority.krl.write_bytes(b"")
        call([order()], yes)
        assert authority.list().version
    assert authority.krl.stat().st_mode & 0o777 == 0o644


def test_ended_certificates_are_put_aside_and_their_serials_dropped(authority: Authority):
    mine, lost, live = order("req_1", seconds=30), order("req_2", seconds=30), order("req_3", seconds=900_000)
    authority.connector.provision([mine, live], yes)
    authority.connector.revoke([mine, lost, live], yes)
    authority.ahead = timedelta(hours=23)
    authority.connector._sweep(authority.connector._seconds())
    (section,) = authority.list().certificates.values()
    assert section.serials == {serial_of(t) for t in ("req_1", "req_2", "req_3")}
    authority.ahead = timedelta(days=1, minutes=1)
    sweeping = next(f"req_s{n}" for n in itertools.count() if serial_of(f"req_s{n}") % openssh._SWEEP == 0)
    authority.connector.provision([order(sweeping, seconds=900_000)], yes)
    (section,) = authority.list().certificates.values()
    assert section.serials == {serial_of("req_2"), serial_of("req_3")}  # nothing proves that req_2's is over
    assert (authority.register / "ended" / f"{serial_of('req_1')}.cert").exists()
    assert not (authority.register / f"{serial_of('req_1')}.cert").exists()
    before = authority.krl.read_bytes()
    assert authority.connector.revoke([mine], yes)[0].result == "done"
    assert authority.krl.read_bytes() == before


# ── Crashes, races, full disks ───────────────────────────────────────────────

CHILD = """
import os, signal, sys, time
from datetime import datetime
from pathlib import Path
from muniment.connectors import krl as lists
from muniment.connectors.kinds import build_connector
from muniment.core.scope import Privilege
from muniment.ports import Order

folder, action, key, expires, *tickets = sys.argv[1:]
connector = build_connector("openssh", name="bastion", path=Path, catalogue=(),
    settings={"ca_key": f"file:{folder}/ca", "krl": f"{folder}/krl"}, secret=lambda name: Path(name[5:]).read_text())
orders = [Order(ticket=t, account="ann", scope=(Privilege(privilege="web-admin"),), public_key=key,
                expires_at=datetime.fromisoformat(expires)) for t in tickets]
if action.startswith("die-"):
    kept = lists.replace_file
    def replace_file(path, data, mode):
        if action == "die-before":
            os.kill(os.getpid(), signal.SIGKILL)
        kept(path, data, mode)
        os.kill(os.getpid(), signal.SIGKILL)
    lists.replace_file = replace_file
    connector.provision(orders, lambda: None)
elif action == "hold":
    def confirm():
        print("holding", flush=True)
        time.sleep(60)
    connector.revoke(orders, confirm)
else:
    for order in orders:
        connector.revoke([order], lambda: None)
"""


def child(
    authority: Authority, action: str, wanted: Order, *tickets: str, **options: object
) -> subprocess.Popen[str]:
    names = tickets or (wanted.ticket,)
    arguments = [
        str(authority.folder),
        action,
        wanted.public_key or "",
        wanted.expires_at.isoformat(),
        *names,
    ]
    return subprocess.Popen([sys.executable, "-c", CHILD, *arguments], text=True, **options)  # type: ignore[call-overload]


def test_killed_after_the_register_was_written_the_retry_returns_that_certificate(authority: Authority):
    wanted = order("req_1")
    assert child(authority, "die-after", wanted).wait(30) == -signal.SIGKILL
    written = (authority.register / f"{serial_of('req_1')}.cert").read_bytes()
    assert authority.held() == {("ann", "web-admin")}  # found, although nobody was told
    assert authority.connector.provision([wanted], yes)[0].credential == written


def test_killed_before_it_nothing_was_issued(authority: Authority):
    wanted = order("req_1")
    assert child(authority, "die-before", wanted).wait(30) == -signal.SIGKILL
    assert authority.held() == set()
    assert authority.connector.provision([wanted], yes)[0].result == "done"


def test_processes_revoking_at_once_lose_nothing_and_the_list_is_always_whole(authority: Authority):
    wanted, count = order(), 40
    names = [[f"req_{worker}_{n}" for n in range(count)] for worker in range(3)]
    workers = [child(authority, "revoke", wanted, *mine) for mine in names]
    readings = 0
    while any(worker.poll() is None for worker in workers):
        authority.list()  # raises if it is missing, cut or mixed
        readings += 1
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    (section,) = authority.list().certificates.values()
    assert section.serials == {serial_of(name) for mine in names for name in mine}
    assert authority.list().version == 3 * count + 1
    assert readings > 100


def test_threads_share_one_connector(authority: Authority):
    orders = [order() for _ in range(24)]
    failures: list[BaseException] = []

    def work(mine: list[Order]) -> None:
        try:
            for wanted in mine:
                assert authority.connector.provision([wanted], yes)[0].result == "done"
                authority.connector.revoke([wanted], yes)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(orders[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert authority.held() == set()


def test_a_stopped_process_costs_a_time_out_and_not_the_list(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lists, "_LOCK_SECONDS", 0.2)
    before = authority.krl.read_bytes()
    holder = child(authority, "hold", order("req_1"), stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        with pytest.raises(TargetUnavailable, match=r"has held krl\.lock"):
            authority.connector.revoke([order("req_2")], yes)
        assert authority.held() == set()  # reading needs no lock
    finally:
        holder.kill()
        holder.communicate(timeout=30)
    assert authority.krl.read_bytes() == before
    authority.connector.revoke([order("req_2")], yes)


def refuses(call: Callable[[], object]) -> None:
    with pytest.raises(TargetUnavailable) as caught:
        call()
    assert caught.value.remedy
    assert "\n" not in caught.value.message


def test_a_file_where_the_folder_should_be(authority: Authority, tmp_path: Path):
    shutil.rmtree(authority.register)
    authority.register.write_text("in the way")
    refuses(lambda: authority.connector.provision([order()], yes))
    refuses(lambda: authority.connector.observe(None))
    assert not authority.connector.check().reachable
    authority.connector.revoke([order("req_1")], yes)  # needs no register
    assert authority.list().certificates
    broken = authority.make(krl=str(authority.register / "krl"))
    refuses(lambda: broken.revoke([order()], yes))
    refuses(lambda: broken.provision([order()], yes))
    assert "cannot be read or written" in broken.check().problems[0]


def test_a_full_disk_changes_nothing(authority: Authority):
    """RLIMIT_FSIZE stands in for it: the write fails half way, as on a full disk."""
    kept = order("req_1")
    authority.connector.provision([kept], yes)
    before = {p: p.read_bytes() for p in authority.folder.rglob("*") if p.is_file()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        refuses(lambda: authority.connector.provision([order("req_2")], yes))
        refuses(lambda: authority.connector.revoke([kept], yes))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {p: p.read_bytes() for p in authority.folder.rglob("*") if p.is_file()} == before
    assert authority.held() == {("ann", "web-admin")}


# ── Settings and check ───────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"krll": "x"}, "krll"),
        ({"krl": 3}, "krl"),
        ({"extensions": ["permit-everything"]}, "permit-everything"),
        ({"source_addresses": ["10.0.0.1/8"]}, "host bits"),
        ({"source_addresses": ["10.0.0.0/8,::/0"]}, "10.0.0.0/8,::/0"),
        ({"force_command": "a\nb"}, "force_command"),
    ],
)
def test_settings_that_cannot_be_meant(authority: Authority, settings: dict[str, object], sentence: str):
    with pytest.raises(Misconfigured, match=sentence) as caught:
        authority.make(**settings)
    assert caught.value.remedy
    assert "target bastion" in caught.value.message


def test_a_principal_of_the_catalogue_that_cannot_be(authority: Authority):
    settings = {"ca_key": f"file:{authority.ca}", "krl": str(authority.krl)}
    with pytest.raises(Misconfigured, match="the principal"):
        build("bastion", settings, lambda name: Path(name[5:]).read_text(), principals("a,b"))


def test_the_key_of_the_authority_must_be_private_and_usable(authority: Authority):
    authority.ca.chmod(0o640)
    with pytest.raises(Misconfigured, match="can be read by others") as caught:
        read_secret_file(authority.ca)  # what resolves "file:" for every target
    assert "chmod 600" in caught.value.remedy
    secret = b"-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n"
    locked = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    weak = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    authority.ca.chmod(0o600)
    for text in (b"", b"no key", secret, locked, weak):
        authority.ca.write_bytes(text)
        with pytest.raises(Misconfigured, match="ca_key is not a private key") as caught:
            authority.make()
        assert "c2VjcmV0" not in repr(caught.value.__dict__) + str(caught.value)
    authority.ca.unlink()
    with pytest.raises(Misconfigured, match="cannot be read"):
        read_secret_file(authority.ca)


def test_other_kinds_of_authority(authority: Authority):
    for key in (ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 3072)):
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        authority.ca.write_bytes(pem)
        connector = authority.make(register=str(authority.folder / uuid.uuid4().hex))
        wanted = order()
        (given,) = connector.provision([wanted], yes)
        assert connector.observe(None).of("ann") == wanted.scope
        connector.revoke([wanted], yes)
        assert authority.refused_by_openssh(given.credential or b"")
        assert connector.observe(None).holdings == ()


def test_check_says_what_the_hosts_need(tmp_path: Path):
    fresh = (
        Authority(tmp_path / "deep" / "er")
        if (tmp_path / "deep" / "er").mkdir(parents=True) is None
        else None
    )
    assert fresh is not None
    report = fresh.connector.check()
    assert report.reachable
    assert not report.problems
    text = " ".join(report.details)
    for word in (
        "TrustedUserCAKeys",
        "RevokedKeys",
        "AuthorizedPrincipalsFile",
        public_line(fresh.ca.read_bytes()),
    ):
        assert word in text
    assert fresh.list().version == 1
    assert {p.name for p in fresh.folder.iterdir()} == {"ca", "krl", "krl.d", "krl.lock"}


def test_the_authoritys_key_stays_in_its_file(authority: Authority):
    secret = "".join(authority.ca.read_text().split("\n")[3:5])
    outcomes = authority.connector.provision([order()], yes)
    texts = [repr(outcomes), repr(authority.connector.check()), repr(authority.connector.observe(None))]
    texts += [
        p.read_text(errors="replace")
        for p in authority.folder.rglob("*")
        if p.is_file() and p != authority.ca
    ]
    assert len(secret) > 60
    assert not any(secret[:40] in text for text in texts)


def test_a_serial_is_63_bits_and_the_tickets_own():
    serials = {serial_of(f"req_{n}") for n in range(10_000)}
    assert len(serials) == 10_000
    assert all(0 < serial < 1 << 63 for serial in serials)
    assert serial_of("req_1") == 8789727412268568004  # on file at every target: never to change
