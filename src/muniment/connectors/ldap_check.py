"""What `muniment check` says of a directory: what our account may do there, what not, and what it need not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from muniment.connectors import ldap_session as d
from muniment.connectors.ldap_names import Names
from muniment.core.errors import TargetUnavailable
from muniment.ports import CheckReport

_NO_OPERATION, _NO_OPERATION_DONE, _NO_SUCH_CONTROL = "1.3.6.1.4.1.4203.666.5.2", 16654, 12
_REFRESH = "1.3.6.1.4.1.1466.101.119.1"
_ADMINISTRATORS = {"Domain Admins", "Enterprise Admins", "Administrators", "Account Operators"}

_OPENLDAP = """\
# OpenLDAP: in front of the other rules of the database; {n} numbers the database
dn: olcDatabase={1}mdb,cn=config
changetype: modify
add: olcLimits
olcLimits: dn.exact="US" size=unlimited
-
add: olcAccess
olcAccess: {0}to dn.subtree="PEOPLE" attrs=entry,uid,objectClass by dn.exact="US" read by * break
olcAccess: {1}to dn.children="GROUPS" attrs=member by dn.exact="US" write by * break
olcAccess: {2}to dn.subtree="GROUPS" attrs=entry,cn,objectClass,description by dn.exact="US" read by * break
"""
_GRANTS = """\
olcAccess: {3}to dn.children="GRANTS" attrs=entryTtl by dn.exact="US" manage by * break
olcAccess: {4}to dn.subtree="GRANTS" by dn.exact="US" write by * break
"""
_LOG = """\
# to find drift soon: a log of what is changed, of which our account reads who changed what, and no values. The overlay
# comes behind dds, or slapd 2.5 crashes
dn: olcDatabase=mdb,cn=config
changetype: add
objectClass: olcDatabaseConfig
objectClass: olcMdbConfig
olcDatabase: mdb
olcSuffix: LOG
olcDbDirectory: /var/lib/ldap/accesslog
olcDbIndex: reqStart eq
olcAccess: to dn.subtree="LOG" attrs=entry,objectClass,reqStart,reqDN,reqAuthzID,reqResult,reqType by dn.exact="US" read
olcLimits: dn.exact="US" size=unlimited

dn: olcOverlay=accesslog,olcDatabase={1}mdb,cn=config
changetype: add
objectClass: olcOverlayConfig
objectClass: olcAccessLogConfig
olcOverlay: accesslog
olcAccessLogDB: LOG
olcAccessLogOps: writes
olcAccessLogSuccess: TRUE
olcAccessLogPurge: 07+00:00 01+00:00
"""
_AD = """\
# Active Directory: as a domain administrator, for each group in the catalogue
dsacls "CN=GROUP,GROUPS" /G "US:WP;member"
"""
LEAST_PRIVILEGE = _OPENLDAP + _GRANTS + "\n" + _LOG + "\n" + _AD


class _Settings(Protocol):
    """What is looked at of the connector's own."""

    @property
    def bind_dn(self) -> str:
        """Who we are."""

    @property
    def grants(self) -> str:
        """Where grants are entries."""

    @property
    def changes(self) -> str:
        """Where changes are kept."""


def report(session: d.Session, names: Names, settings: _Settings, catalogue: Sequence[str]) -> CheckReport:
    """Say what works. Raises `TargetUnavailable`."""
    found = session.search("", "(objectClass=*)", ["vendorVersion", "supportedExtension", "*"], scope="BASE")
    root = found[0] if found else d.Entry("", {})
    groups = names.groups_named(session, set(catalogue))
    what = "Active Directory" if names.ad else "A directory"
    problems = [
        *_about_catalogue(session, names, catalogue, groups),
        *_about_base(session, names, settings, root),
        *(_too_much_ad if names.ad else _too_much)(session, names, settings),
    ]
    details = [
        f"{what} answers to {settings.bind_dn}.",
        f"{len(groups)} of {len(set(catalogue))} groups in the catalogue exist.",
        "Who gave a membership a directory does not say: what another gave as well goes with ours.",
    ]
    if settings.grants:
        details.append("Grants are entries of their own, which the server ends by itself.")
    return CheckReport(
        reachable=True,
        details=tuple(details),
        problems=tuple(problems),
        least_privilege=_setup(names, settings, catalogue),
    )


def _about_catalogue(
    session: d.Session, names: Names, catalogue: Sequence[str], groups: dict[str, list[str]]
) -> Iterator[str]:
    for name in sorted(set(catalogue)):
        dns = groups.get(name, [])
        if len(dns) != 1:
            yield f"There is {'no group' if not dns else 'more than one group'} {name}, which is in the catalogue."
        elif _may_write(session, names, dns[0]) is False:
            yield f"Our account may not change who is in {name}: give it write access to member of {dns[0]}."


def _may_write(session: d.Session, names: Names, dn: str) -> bool | None:
    """Whether we may change its members, without changing anything; None if it cannot be said."""
    if names.ad:
        found = session.search(dn, "(objectClass=*)", ["allowedAttributesEffective"], scope="BASE")
        return bool(found) and "member" in found[0].values("allowedAttributesEffective")
    code = session.try_modify(dn, {"member": [("MODIFY_ADD", [""])]}, (_NO_OPERATION, True, None))
    return None if code == _NO_SUCH_CONTROL else code != d.NOT_ALLOWED


def _about_base(session: d.Session, names: Names, settings: _Settings, root: d.Entry) -> Iterator[str]:
    for what, base in (("people", names.people), ("groups", names.groups), ("grants", settings.grants)):
        if base and not session.search(base, "(objectClass=*)", ["objectClass"], scope="BASE"):
            yield f"There is no entry {base} that we may read; it is configured as {what}."
    if settings.grants and _REFRESH not in root.values("supportedExtension"):
        yield "The directory has no dynamic entries, so no grant will be made: load the overlay dds."


def _too_much(session: d.Session, names: Names, settings: _Settings) -> Iterator[str]:
    try:
        if session.search(names.people, "(userPassword=*)", ["objectClass"]):
            yield f"{settings.bind_dn} may look at the passwords of people, which is more than it needs."
        if session.search("cn=config", "(objectClass=*)", ["objectClass"], scope="BASE"):
            yield f"{settings.bind_dn} may read the server's configuration, which is more than it needs."
    except TargetUnavailable:
        return  # it may not even ask


def _too_much_ad(session: d.Session, names: Names, settings: _Settings) -> Iterator[str]:
    who = d.filtered(settings.bind_dn)
    local = d.filtered(settings.bind_dn.partition("@")[0].rpartition("\\")[2])
    [domain] = (
        {names.groups[names.groups.lower().index("dc=") :]}
        if "dc=" in names.groups.lower()
        else {names.groups}
    )
    query = f"(|(distinguishedName={who})(userPrincipalName={who})(sAMAccountName={local}))"
    for entry in session.search(domain, query, ["cn"]):
        above = session.search(
            domain, f"(&(objectClass=group)(member:1.2.840.113556.1.4.1941:={d.filtered(entry.dn)}))", ["cn"]
        )
        held = _ADMINISTRATORS & {name for group in above for name in group.values("cn")}
        if held:
            yield f"{settings.bind_dn} is one of {', '.join(sorted(held))}, which is more than it needs."


def _setup(names: Names, settings: _Settings, catalogue: Sequence[str]) -> str:
    words = {
        "PEOPLE": names.people,
        "GROUPS": names.groups,
        "GRANTS": settings.grants,
        "US": settings.bind_dn,
    }
    text = _OPENLDAP + (_GRANTS if settings.grants else "")
    if settings.changes:
        text += "\n" + _LOG.replace("LOG", settings.changes)
    if names.ad:
        head, _, line = _AD.partition("\n")
        text = "\n".join(
            [head, *(line.strip().replace("GROUP,", f"{each},", 1) for each in sorted(set(catalogue)))]
        )
    for word, value in words.items():
        text = (
            text.replace(f'"{word}"', f'"{value}"')
            .replace(f',{word}"', f',{value}"')
            .replace(f'"{word}:', f'"{value}:')
        )
    return text
