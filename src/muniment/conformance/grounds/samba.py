"""Active Directory: Samba's domain controller from Debian, in a temporary folder, on a loopback address of its own.

Its ports are fixed and below 1024, so it needs root; the address keeps two of them apart. Making a domain takes ten seconds
and more: this ground is for those who ask for it.
"""

from __future__ import annotations

import ipaddress
import itertools
import os
import random
import re
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from muniment.conformance.grounds.ldap import directory, escaped, must
from muniment.conformance.grounds.servers import Served, TemporaryServer, program
from muniment.conformance.harness import Ground, Harness, NeedsRoot
from muniment.conformance.proxy import Proxy
from muniment.connectors.kinds import build_connector
from muniment.connectors.ldap_session import EXISTS, NO_SUCH_ATTRIBUTE, UNWILLING, Entry, Session
from muniment.core.scope import Privilege, Scope, scope

DOMAIN = "DC=cs,DC=test"
PEOPLE, GROUPS = f"OU=people,{DOMAIN}", f"OU=groups,{DOMAIN}"
ADMINISTRATOR, ADMINISTRATORS = "administrator@cs.test", "Staple-of-the-admin-1"
US, SECRET = "muniment@cs.test", "Correct-horse-battery-1"
TIMEOUT = timedelta(seconds=3)
_MEMBER = "bf9679c0-0de6-11d0-a285-00aa003049e2"  # the attribute's id, in rights

_MEMORY = Path("/dev/shm")  # noqa: S108  a folder of its own is made in it
_HOW = "as root, on Debian: apt-get install samba samba-ad-dc samba-ad-provision samba-dsdb-modules"
_numbers = itertools.count(1)


class Samba(TemporaryServer):
    """A domain with two organisational units, and our account, which may write `member` in one of them."""

    def __init__(self) -> None:
        if os.geteuid():
            raise NeedsRoot(_HOW)
        samba, self._tool = program("samba", _HOW), program("samba-tool", _HOW)
        self.address = f"127.{random.randint(1, 254)}.{random.randint(0, 255)}.{random.randint(1, 254)}"  # noqa: S311
        super().__init__(
            "samba",
            lambda folder, _: (
                samba,
                "-i",
                "-M",
                "single",
                "-s",
                folder / "domain/etc/smb.conf",
                *self._options_of(folder),
            ),
            self._answers,
            where=_MEMORY if _MEMORY.is_dir() else None,  # it writes some thousand times to make a domain
        )

    def prepare(self) -> None:
        """The domain, our account and its one right."""
        domain, sam = self.folder / "domain", ("-H", self.folder / "domain/private/sam.ldb")
        self._certify()
        self.run(
            self._tool, "domain", "provision", f"--targetdir={domain}", "--realm=CS.TEST", "--domain=CS",
            "--server-role=dc", f"--adminpass={ADMINISTRATORS}", "--dns-backend=NONE", f"--host-ip={self.address}",
            f"--option=interfaces={self.address}/8", "--option=bind interfaces only=yes",
        )  # fmt: skip
        for unit in (PEOPLE, GROUPS):
            self.run(self._tool, "ou", "create", unit, *sam)
        self.run(self._tool, "user", "create", "muniment", SECRET, *sam)
        shown = self.run(self._tool, "user", "show", "muniment", "--attributes=objectSid", *sam)
        sid = shown.rpartition("objectSid: ")[2].split()[0]
        right = f"(OA;CIIO;WP;{_MEMBER};bf967a9c-0de6-11d0-a285-00aa003049e2;{sid})"
        self.run(self._tool, "dsacl", "set", f"--objectdn={GROUPS}", f"--sddl={right}", *sam)

    def administrator(self) -> AbstractContextManager[Session]:
        """A session that may do everything."""
        return directory(
            0, ADMINISTRATOR, ADMINISTRATORS, url=f"ldaps://{self.address}", ca=self.ca
        ).session()

    @property
    def ca(self) -> Path:
        """The certificate, which is its own authority."""
        return self.folder / "cert.pem"

    def _options_of(self, folder: Path) -> list[str]:
        options = {
            "server services": "ldap", "tls keyfile": folder / "key.pem", "tls certfile": folder / "cert.pem",
            "tls cafile": folder / "cert.pem", "log file": folder / "samba.log", "tls dh params file": "",
            "pid directory": folder,
        }  # fmt: skip
        return [f"--option={name}={value}" for name, value in options.items() if value]

    def _certify(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = datetime.now(UTC)
        alternatives = [
            x509.DNSName("localhost"),
            x509.DNSName(self.address),
            x509.IPAddress(ipaddress.ip_address(self.address)),
        ]
        certificate = (
            x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )  # fmt: skip
        plain = serialization.NoEncryption()
        form = serialization.PrivateFormat.TraditionalOpenSSL
        (self.folder / "key.pem").touch(0o600)
        (self.folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
        (self.folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _answers(self, _port: int) -> bool:
        with self.administrator() as session:
            return bool(session.search(DOMAIN, "(objectClass=*)", ["objectClass"], scope="BASE"))


class AdHarness(Served):
    """Two people and two groups with names nobody used before."""

    server: Samba
    timeout = TIMEOUT
    secrets = (SECRET,)

    def __init__(self, server: Samba, proxy: Proxy) -> None:
        number = next(_numbers)
        self.server, self.proxy, self.n = server, proxy, number
        self.accounts = (f"ann{number}", f"Bob Ö {number}")
        self.groups = (f"readers{number}", f"web (admins), + {number}")
        self.privileges = (Privilege(privilege=self.groups[0]), Privilege(privilege=self.groups[1]))
        self.impossible = (f"nobody{number}", scope(self.privileges[:1]))
        with server.administrator() as session:
            for name in self.accounts:
                must(session.add(self.person(name), {"objectClass": ["user"], "sAMAccountName": name}))
            for at, name in enumerate(self.groups):
                must(
                    session.add(
                        self.group(name), {"objectClass": ["group"], "sAMAccountName": f"g{at}-{number}"}
                    )
                )
        self.settings = {
            "url": f"ldaps://localhost:{proxy.port}", "bind_dn": US, "password": "env:AD", "people": PEOPLE,
            "groups": GROUPS, "profile": "active_directory", "ca": str(server.ca), "timeout": "3s",
        }  # fmt: skip
        self.connector = self.make(timeout="20s")  # a machine that is busy is no outage

    def make(self, **settings: Any) -> Any:
        """A connector to this domain."""
        return build_connector(
            "ldap",
            name="ad-test",
            settings=self.settings | settings,
            secret=lambda _: SECRET,
            path=Path,
            catalogue=(),
        )

    def person(self, name: str) -> str:
        """The DN of an account."""
        return f"CN={escaped(name)},{PEOPLE}"

    def group(self, name: str) -> str:
        """The DN of a privilege."""
        return f"CN={escaped(name)},{GROUPS}"

    def entries(self, base: str) -> list[Entry]:
        """What is there, as the administrator sees it."""
        with self.server.administrator() as session:
            found = session.search(
                base, "(objectClass=*)", ["cn", "member", "sAMAccountName", "userAccountControl"]
            )
        return sorted(found, key=lambda e: e.dn)

    def everything(self) -> Any:
        """Each entry with what matters; values in order, as a directory has none."""
        return [
            (e.dn, {name: sorted(values) for name, values in e.attributes.items()})
            for base in (PEOPLE, GROUPS)
            for e in self.entries(base)
        ]

    def holds(self, account: str) -> Scope:
        """The groups that the person's own entry names."""
        with self.server.administrator() as session:
            found = session.search(self.person(account), "(objectClass=*)", ["memberOf"], scope="BASE")
            groups = [dn for entry in found for dn in entry.values("memberOf")]
            names = [
                session.search(dn, "(objectClass=*)", ["cn"], scope="BASE")[0].values("cn")[0]
                for dn in groups
            ]
        return scope(Privilege(privilege=name) for name in names)

    def hold(self, account: str, privilege: Privilege) -> None:
        """The administrator adds a member."""
        with self.server.administrator() as session:
            change = {"member": [("MODIFY_ADD", [self.person(account)])]}
            must(session.modify(self.group(privilege.privilege), change), EXISTS)

    def take(self, account: str, privilege: Privilege) -> None:
        """The administrator removes a member."""
        with self.server.administrator() as session:
            change = {"member": [("MODIFY_DELETE", [self.person(account)])]}
            must(session.modify(self.group(privilege.privilege), change), NO_SUCH_ATTRIBUTE, UNWILLING)

    def delete_account(self, account: str) -> None:
        """The administrator deletes the entry; the domain cleans the groups up."""
        with self.server.administrator() as session:
            must(session.delete(self.person(account)))

    def delete_privilege(self, privilege: Privilege) -> None:
        """The administrator deletes the group."""
        with self.server.administrator() as session:
            must(session.delete(self.group(privilege.privilege)))

    def nest(self, inner: Privilege, outer: Privilege) -> None:
        """The administrator makes the group a member of the other."""
        with self.server.administrator() as session:
            change = {"member": [("MODIFY_ADD", [self.group(inner.privilege)])]}
            must(session.modify(self.group(outer.privilege), change))

    def close(self) -> None:
        """Leave the domain as it was found."""
        with self.server.administrator() as session:
            for base in (PEOPLE, GROUPS):
                for entry in session.search(base, "(objectClass=*)", ["cn"], scope="LEVEL"):
                    must(session.delete(entry.dn), 32)


class SambaGround:
    """One domain controller."""

    def __init__(self, server: Samba) -> None:
        said = subprocess.run(["samba", "--version"], capture_output=True, text=True, check=True).stdout
        number = re.search(r"Version (\S+)", said)
        self.server, self.version = server, f"Samba AD DC {number[1] if number else 'of unknown version'}"

    @contextmanager
    def harness(self) -> Iterator[Harness]:
        """People and groups of its own."""
        with Proxy(636, self.server.address) as proxy:
            made = AdHarness(self.server, proxy)
            try:
                yield made
            finally:
                made.close()


@contextmanager
def ground() -> Iterator[Ground]:
    """Make a domain, and start its controller."""
    with Samba() as server:
        yield SambaGround(server)
