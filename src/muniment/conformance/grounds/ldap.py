"""OpenLDAP: slapd from Debian, with memberof, refint and dds, asked past us as the directory's manager."""

from __future__ import annotations

import itertools
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from muniment.conformance.grounds.servers import TIMEOUT, Served, TemporaryServer, program
from muniment.conformance.harness import Ground, Harness
from muniment.conformance.proxy import HOST, Proxy
from muniment.connectors.kinds import Secret, build_connector
from muniment.connectors.ldap_session import (
    NO_SUCH_ATTRIBUTE,
    NO_SUCH_OBJECT,
    OK,
    Directory,
    Entry,
    Session,
)
from muniment.core.scope import Privilege, Scope, scope

SUFFIX = "dc=example,dc=org"
PEOPLE, GROUPS, GRANTS = (f"ou={name},{SUFFIX}" for name in ("people", "groups", "grants"))
LOG = "cn=accesslog"
MANAGER, US = f"cn=manager,{SUFFIX}", f"cn=muniment,{SUFFIX}"
SECRET, MANAGERS = "correct-horse-battery", "staple-of-the-manager"

_SLAPD = "on Debian: apt-get install slapd"
_numbers = itertools.count(1)

#: what our account may do, and nothing else: the same as `KIND.least_privilege` documents
_CONFIGURATION = """\
dn: cn=config
objectClass: olcGlobal
cn: config
olcPidFile: {folder}/slapd.pid

dn: cn=module,cn=config
objectClass: olcModuleList
cn: module
olcModulePath: /usr/lib/ldap
olcModuleLoad: back_mdb
olcModuleLoad: memberof
olcModuleLoad: refint
olcModuleLoad: dds
olcModuleLoad: accesslog

dn: cn=schema,cn=config
objectClass: olcSchemaConfig
cn: schema

include: file:///etc/ldap/schema/core.ldif

include: file:///etc/ldap/schema/cosine.ldif

include: file:///etc/ldap/schema/inetorgperson.ldif

dn: olcDatabase=mdb,cn=config
objectClass: olcDatabaseConfig
objectClass: olcMdbConfig
olcDatabase: mdb
olcSuffix: {suffix}
olcRootDN: {manager}
olcRootPW: {managers}
olcDbDirectory: {folder}/data
olcDbIndex: objectClass,member,uid,cn eq
olcDbNoSync: TRUE
olcLimits: dn.exact="{us}" size=unlimited
olcAccess: to attrs=userPassword by anonymous auth by * none
olcAccess: to dn.subtree="{people}" attrs=entry,uid,objectClass by dn.exact="{us}" read by * none
olcAccess: to dn.exact="{groups}" attrs=entry,objectClass by dn.exact="{us}" read by * none
olcAccess: to dn.children="{groups}" attrs=member by dn.exact="{us}" write by * none
olcAccess: to dn.children="{groups}" attrs=entry,cn,objectClass by dn.exact="{us}" read by * none
olcAccess: to dn.exact="{grants}" attrs=children,entry,objectClass by dn.exact="{us}" write by * none
olcAccess: to dn.children="{grants}" attrs=entryTtl by dn.exact="{us}" manage by * none
olcAccess: to dn.children="{grants}" by dn.exact="{us}" write by * none
olcAccess: to dn.base="{suffix}" attrs=entry by dn.exact="{us}" read by * none
olcAccess: to * by * none

dn: olcDatabase=mdb,cn=config
objectClass: olcDatabaseConfig
objectClass: olcMdbConfig
olcDatabase: mdb
olcSuffix: {log}
olcRootDN: {manager}
olcDbDirectory: {folder}/log.d
olcLimits: dn.exact="{us}" size=unlimited
olcDbIndex: reqStart eq
olcDbNoSync: TRUE
olcAccess: to attrs=entry,objectClass,reqStart,reqDN,reqAuthzID,reqResult,reqType by dn.exact="{us}" read by * none
olcAccess: to * by * none

dn: olcOverlay=memberof,olcDatabase={{1}}mdb,cn=config
objectClass: olcOverlayConfig
objectClass: olcMemberOf
olcOverlay: memberof

dn: olcOverlay=refint,olcDatabase={{1}}mdb,cn=config
objectClass: olcOverlayConfig
objectClass: olcRefintConfig
olcOverlay: refint
olcRefintAttribute: member memberOf
olcRefintNothing: cn=nobody,{suffix}

dn: olcOverlay=dds,olcDatabase={{1}}mdb,cn=config
objectClass: olcOverlayConfig
objectClass: olcDDSConfig
olcOverlay: dds
olcDDSinterval: 1

dn: olcOverlay=accesslog,olcDatabase={{1}}mdb,cn=config
objectClass: olcOverlayConfig
objectClass: olcAccessLogConfig
olcOverlay: accesslog
olcAccessLogDB: {log}
olcAccessLogOps: writes
olcAccessLogSuccess: TRUE
"""
_CONTENT = """\
dn: {suffix}
objectClass: dcObject
objectClass: organization
dc: example
o: example

dn: {people}
objectClass: organizationalUnit

dn: {groups}
objectClass: organizationalUnit

dn: {grants}
objectClass: organizationalUnit

dn: {us}
objectClass: organizationalRole
objectClass: simpleSecurityObject
userPassword: {secret}
"""


class Slapd(TemporaryServer):
    """A directory with people, groups and our own account, whose rights are the least it needs."""

    def __init__(self) -> None:
        slapd = program("slapd", _SLAPD)
        self._slapadd = program("slapadd", _SLAPD)
        super().__init__(
            "slapd",
            lambda folder, port: (slapd, "-d", "0", "-h", f"ldap://{HOST}:{port}", "-F", folder / "cfg"),
            self._answers,
        )

    def prepare(self) -> None:
        """Configuration and content, by slapadd."""
        words = {
            "folder": self.folder, "suffix": SUFFIX, "people": PEOPLE, "groups": GROUPS, "grants": GRANTS,
            "manager": MANAGER, "managers": MANAGERS, "us": US, "secret": SECRET, "log": LOG,
        }  # fmt: skip
        for name in ("cfg", "data", "log.d"):
            self.make(name)
        for number, name, text in ((0, "config.ldif", _CONFIGURATION), (1, "content.ldif", _CONTENT)):
            (self.folder / name).write_text(text.format(**words))
            self.run(self._slapadd, "-n", str(number), "-F", self.folder / "cfg", "-l", self.folder / name)

    def manager(self) -> AbstractContextManager[Session]:
        """A session that may do everything."""
        return directory(self.port, MANAGER, MANAGERS).session()

    def _answers(self, port: int) -> bool:
        with directory(port, MANAGER, MANAGERS).session() as session:
            return bool(session.search(SUFFIX, "(objectClass=*)", ["objectClass"], scope="BASE"))


def directory(port: int, dn: str, password: str, *, url: str = "", ca: Path | None = None) -> Directory:
    """A way past us."""
    return Directory(
        name="directory", url=url or f"ldap://{HOST}:{port}", starttls=False, ca=ca, bind_dn=dn,
        password=Secret("env:TEST", lambda _: password), timeout=10,
    )  # fmt: skip


class LdapHarness(Served):
    """Two people and two groups with names nobody used before. Nobody is in them but somebody's placeholder."""

    server: Slapd
    timeout = TIMEOUT
    secrets = (SECRET,)

    def __init__(self, server: Slapd, proxy: Proxy, **settings: Any) -> None:
        number = next(_numbers)
        self.server, self.proxy, self.n = server, proxy, number
        self.accounts = (f"ann{number}", f"Bob, Jr. (x) {number}")
        self.groups = (f"readers{number}", f'web * "admins", + {number}')
        self.privileges = (Privilege(privilege=self.groups[0]), Privilege(privilege=self.groups[1]))
        self.impossible = (f"nobody{number}", scope(self.privileges[:1]))
        self.placeholder = f"cn=placeholder{number},{SUFFIX}"
        with server.manager() as session:
            for name in self.accounts:
                attributes = {"objectClass": ["inetOrgPerson"], "uid": name, "cn": name, "sn": name}
                must(session.add(self.person(name), attributes))
            for name in self.groups:
                attributes = {"objectClass": ["groupOfNames"], "cn": name, "member": self.placeholder}
                must(session.add(self.group(name), attributes))
        self.settings = {
            "url": f"ldap://{HOST}:{proxy.port}", "bind_dn": US, "password": "env:LDAP", "people": PEOPLE,
            "groups": GROUPS, "placeholder": self.placeholder, "timeout": "2s", **settings,
        }  # fmt: skip
        self.connector = self.make(timeout="20s")  # a machine that is busy is no outage

    def make(self, **settings: Any) -> Any:
        """A connector to this directory."""
        return build_connector(
            "ldap",
            name="ldap-test",
            settings=self.settings | settings,
            secret=lambda _: SECRET,
            path=Path,
            catalogue=(),
        )

    def person(self, name: str) -> str:
        """The DN of an account."""
        return f"uid={escaped(name)},{PEOPLE}"

    def group(self, name: str) -> str:
        """The DN of a privilege."""
        return f"cn={escaped(name)},{GROUPS}"

    def entries(self, base: str = SUFFIX) -> list[Entry]:
        """Everything there is, as the manager sees it."""
        with self.server.manager() as session:
            return sorted(session.search(base, "(objectClass=*)", ["*", "memberOf"]), key=lambda e: e.dn)

    def everything(self) -> Any:
        """Each entry and its attributes; values in order, as a directory has none."""
        return [
            (e.dn, {name: sorted(values) for name, values in e.attributes.items() if name != "entryttl"})
            for e in self.entries()
        ]

    def holds(self, account: str) -> Scope:
        """The groups that list the person."""
        dn = self.person(account).lower()
        return scope(
            Privilege(privilege=entry.values("cn")[0])
            for base in (GROUPS, GRANTS)
            for entry in self.entries(base)
            if dn in [plain(value) for value in entry.values("member")]
        )

    def hold(self, account: str, privilege: Privilege) -> None:
        """The manager adds a member; in a directory nobody sees who did."""
        change = {"member": [("MODIFY_ADD", [self.person(account)])]}
        with self.server.manager() as session:
            must(session.modify(self.group(privilege.privilege), change, permissive=True))

    def take(self, account: str, privilege: Privilege) -> None:
        """The manager removes a member, and the grant's own entry if there is one."""
        change = {"member": [("MODIFY_DELETE", [self.person(account)])]}
        with self.server.manager() as session:
            must(session.modify(self.group(privilege.privilege), change), NO_SUCH_ATTRIBUTE)
        self._drop(lambda entry: self._of(entry, account) and entry.values("cn") == (privilege.privilege,))

    def delete_account(self, account: str) -> None:
        """The manager deletes the entry; refint cleans the groups up."""
        self._drop(lambda entry: self._of(entry, account))
        with self.server.manager() as session:
            must(session.delete(self.person(account)))

    def delete_privilege(self, privilege: Privilege) -> None:
        """The manager deletes the group, and all grants of it."""
        self._drop(lambda entry: entry.values("cn") == (privilege.privilege,))
        with self.server.manager() as session:
            must(session.delete(self.group(privilege.privilege)))

    def close(self) -> None:
        """Leave the directory as it was found."""
        with self.server.manager() as session:
            for base in (PEOPLE, GROUPS, GRANTS):
                for entry in session.search(base, "(objectClass=*)", ["objectClass"], scope="LEVEL"):
                    must(session.delete(entry.dn), NO_SUCH_OBJECT)

    def pass_time(self, until: datetime) -> bool:
        """Really, and until the server has looked: it does so each second."""
        time.sleep(max(0.0, (until - self.now()) / timedelta(seconds=1)) + 0.5)
        return True

    def _drop(self, which: Callable[[Entry], bool]) -> None:
        with self.server.manager() as session:
            for entry in session.search(GRANTS, "(objectClass=groupOfNames)", ["cn", "member"]):
                if which(entry):
                    must(session.delete(entry.dn))

    def _of(self, entry: Entry, account: str) -> bool:
        return self.person(account).lower() in [plain(value) for value in entry.values("member")]

    def nest(self, inner: Privilege, outer: Privilege) -> None:
        """The manager makes the group a member of the other."""
        change = {"member": [("MODIFY_ADD", [self.group(inner.privilege)])]}
        with self.server.manager() as session:
            must(session.modify(self.group(outer.privilege), change))


def escaped(name: str) -> str:
    """A value in a DN, written by another hand than the connector's: every special byte as hex."""
    plain_bytes = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-."
    return "".join(chr(byte) if byte in plain_bytes else f"\\{byte:02x}" for byte in name.encode())


def plain(dn: str) -> str:
    """A DN as the harness writes it, from one as slapd does."""
    head, _, rest = dn.partition("=")
    value, _, _ = rest.rpartition(f",{PEOPLE}")
    raw, at = bytearray(), 0
    data = value.encode()
    while at < len(data):
        if data[at : at + 1] == b"\\":
            two = data[at + 1 : at + 3]
            if len(two) == 2 and all(c in b"0123456789abcdefABCDEF" for c in two):
                raw.append(int(two, 16))
                at += 3
                continue
            at += 1
        raw.append(data[at])
        at += 1
    return f"{head}={escaped(raw.decode())},{PEOPLE}".lower()


def must(code: int, *others: int) -> None:
    """Fail unless the directory did it, or answered one of these."""
    if code not in {OK, *others}:
        raise AssertionError(f"the directory answered {code}")


class LdapGround:
    """One slapd."""

    def __init__(self, server: Slapd, **settings: Any) -> None:
        said = subprocess.run([program("slapd", _SLAPD), "-VV"], capture_output=True, text=True, check=False)
        number = re.search(r"slapd (\S+)", said.stdout + said.stderr)
        self.server, self.settings = server, settings
        self.version = f"OpenLDAP {number[1] if number else 'of unknown version'}"

    @contextmanager
    def harness(self) -> Iterator[Harness]:
        """People and groups of its own."""
        with Proxy(self.server.port) as proxy:
            made = LdapHarness(self.server, proxy, **self.settings)
            try:
                yield made
            finally:
                made.close()


@contextmanager
def _openldap(**settings: Any) -> Iterator[Ground]:
    with Slapd() as server:
        yield LdapGround(server, **settings)


@contextmanager
def _active_directory() -> Iterator[Ground]:
    from muniment.conformance.grounds.samba import ground  # noqa: PLC0415  it builds on this module

    with ground() as made:
        yield made


GROUNDS: dict[str, Callable[[], AbstractContextManager[Ground]]] = {
    "openldap": _openldap,
    "openldap-dds": partial(_openldap, grants=GRANTS),
    "active-directory": _active_directory,
}
