"""Names in a directory: found exactly as they are written, though directories take many spellings for one (F18)."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

import msgspec

from muniment.connectors import ldap_session as d
from muniment.core.errors import Invalid
from muniment.core.scope import Scope
from muniment.core.text import clean_name

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from ldap3.core.exceptions import LDAPInvalidDnError
    from ldap3.utils.dn import escape_rdn, parse_dn

_AT_ONCE = 50  # names in one filter
_IN_CHAIN = "1.2.840.113556.1.4.1941"  # Active Directory: membership over any number of groups
_DEEPEST = 50  # groups in groups


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """How accounts and groups are called in one directory."""

    people: str
    groups: str
    ad: bool
    account: str = ""

    @property
    def account_attribute(self) -> str:
        """What an account is called by."""
        return self.account or ("sAMAccountName" if self.ad else "uid")

    @property
    def group_class(self) -> str:
        """What is a group."""
        return "group" if self.ad else "groupOfNames"

    def people_filter(self, names: Iterable[str]) -> str:
        """Entries with one of these names."""
        return f"(|{''.join(f'({self.account_attribute}={d.filtered(n)})' for n in names)})"

    def people_named(self, session: d.Session, names: Collection[str]) -> dict[str, list[str]]:
        """DNs by account name."""
        return _exactly(
            (entry, self.account_attribute)
            for some in _portions(names)
            for entry in session.search(self.people, self.people_filter(some), [self.account_attribute])
        )

    def groups_named(self, session: d.Session, names: Collection[str]) -> dict[str, list[str]]:
        """DNs by group name."""
        return _exactly(
            (entry, "cn")
            for some in _portions(names)
            for entry in session.search(
                self.groups,
                f"(&(objectClass={self.group_class})(|{''.join(f'(cn={d.filtered(n)})' for n in some)}))",
                ["cn"],
            )
        )

    def people_by_dn(self, session: d.Session, names: Collection[str] | None) -> dict[str, str]:
        """Account names by DN; of everybody without names. Who is gone may still be listed by the DN they had."""
        if names is None:
            entries = session.search(self.people, f"({self.account_attribute}=*)", [self.account_attribute])
            return {e.dn: e.values(self.account_attribute)[0] for e in entries}
        found = self.people_named(session, names)
        return {dn: name for name in names for dn in found.get(name) or [self.person_dn(name)]}

    def groups_of(
        self, session: d.Session, base: str, known: Mapping[str, str], names: Collection[str] | None
    ) -> Iterator[d.Entry]:
        """Groups below ``base`` and their members; only those of the known people, if some were named."""
        attributes = ["cn", "member", "description"]
        if names is None:
            yield from session.search(base, f"(objectClass={self.group_class})", attributes)
            return
        seen = set()
        for some in _portions(known):
            for dn in some:
                query = f"(&(objectClass={self.group_class})(member={d.filtered(dn)}))"
                for entry in session.search(base, query, ["cn", "description"]):
                    if (entry.dn, dn) not in seen:
                        seen.add((entry.dn, dn))
                        yield d.Entry(entry.dn, {**entry.attributes, "member": (dn,)})

    def containing(self, session: d.Session, names: Sequence[str]) -> set[str]:
        """Names of all groups that these groups are in, over any number of groups."""
        dns = [dn for found in self.groups_named(session, set(names)).values() for dn in found]
        if self.ad:
            entries = [
                entry
                for dn in dns
                for entry in session.search(
                    self.groups, f"(&(objectClass=group)(member:{_IN_CHAIN}:={d.filtered(dn)}))", ["cn"]
                )
            ]
            return {name for entry in entries for name in member_names(entry)}
        found: dict[str, set[str]] = {}
        level = dns
        for _ in range(_DEEPEST):
            entries = [
                entry
                for dn in level
                for entry in session.search(
                    self.groups, f"(&(objectClass={self.group_class})(member={d.filtered(dn)}))", ["cn"]
                )
            ]
            level = [entry.dn for entry in entries if entry.dn not in found]
            found |= {entry.dn: set(member_names(entry)) for entry in entries}
            if not level:
                break
        return set().union(*found.values()) if found else set()

    def person_dn(self, account: str) -> str:
        """The DN that an account has where people are kept flat, for one that is not found."""
        return f"{rdn('CN' if self.ad else self.account_attribute, account)},{self.people}"

    def account_in(self, member: str) -> str:
        """What to call a member of whom no entry is known: by its name, if it was one of the people, else by its DN."""
        try:
            parts = parse_dn(member)
        except LDAPInvalidDnError:
            return member
        attribute, value, _ = parts[0] if parts else ("", "", "")
        flat = equal(member) == equal(f"{rdn(attribute, _plain(value))},{self.people}") if parts else False
        return _plain(value) if flat and attribute.lower() == self.account_attribute.lower() else member


def require_names(account: str, scope: Scope) -> None:
    """Raise `Invalid` for a name that a directory could not hold exactly as written."""
    clean_name(account, "the account")
    for item in scope:
        clean_name(item.privilege, "the group")
        if item.resource is not None:
            raise Invalid("a group has no resource", remedy="Ask for the group alone.")


def member_names(entry: d.Entry) -> tuple[str, ...]:
    """The names of a group."""
    return entry.values("cn")


def rdn(attribute: str, value: str) -> str:
    """One part of a DN, escaped."""
    return f"{attribute}={escape_rdn(value)}"


@lru_cache(maxsize=65536)
def equal(dn: str) -> str:
    """Something that is the same for two spellings of a DN, as far as escapes, case and spaces go."""
    try:
        return ",".join(
            f"{a.lower().strip()}={_plain(v).lower()}\0{s}" for a, v, s in parse_dn(dn, strip=True)
        )
    except LDAPInvalidDnError:
        return dn.lower()


def _plain(value: str) -> str:
    """A value of a DN without its escapes."""
    raw, at, data = bytearray(), 0, value.encode()
    while at < len(data):
        if data[at] == 0x5C and at + 1 < len(data):  # a backslash
            pair = data[at + 1 : at + 3]
            if len(pair) == 2 and all(c in b"0123456789abcdefABCDEF" for c in pair):
                raw.append(int(pair, 16))
                at += 3
                continue
            at += 1
        raw.append(data[at])
        at += 1
    return raw.decode(errors="backslashreplace")


def _exactly(found: Iterable[tuple[d.Entry, str]]) -> dict[str, list[str]]:
    """DNs by name, as it is written there: whoever asks for another spelling finds nothing."""
    names: dict[str, list[str]] = {}
    for entry, attribute in found:
        for value in entry.values(attribute):
            if entry.dn not in names.setdefault(value, []):
                names[value].append(entry.dn)
    return names


def _portions(names: Collection[str]) -> Iterator[list[str]]:
    ordered = sorted(names)
    for start in range(0, len(ordered), _AT_ONCE):
        yield ordered[start : start + _AT_ONCE]
