"""What changed in a directory since we last asked, as the directory itself keeps it.

- Active Directory: DirSync, a search that goes on from a cookie of the server's ([MS-ADTS] 3.1.1.3.4.1.3). It does not say
  who changed something, so what we changed ourselves is among it. Of what was deleted it tells only those who may
  replicate the domain, which is more than we should; the next inventory shows that.
- OpenLDAP: the overlay `accesslog`, a database of all writes (slapo-accesslog(5)). Each says by whom, and ours are left out.

Either may have forgotten what happened since the cookie: then it cannot be known, and is said to have changed.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as NoBase64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from ldap3.protocol.microsoft import dir_sync_control

from muniment.connectors import ldap_session as d
from muniment.connectors.ldap_names import equal
from muniment.core.errors import TargetUnavailable
from muniment.ports import Changes

#: as `changes` in the settings names the one of Active Directory
DIRSYNC = "dirsync"
_DIRSYNC = "1.2.840.113556.1.4.841"
_MOST = 1 << 20  # bytes of one answer
_START = re.compile(r"[0-9]{14}\.[0-9]{6}Z", re.ASCII)
_QUIET = "since "  # begins a cookie of a log in which nothing was written since then
_BACK = timedelta(minutes=10)  # how far a first look goes back, which is more than clocks differ


def dirsync(session: d.Session, groups: str, since: str | None) -> Changes:
    """Of groups below ``groups``, whoever changed them. Raises `TargetUnavailable`."""
    try:
        cookie = b64decode(since or "", validate=True)
    except NoBase64:
        cookie = b""
    domain = groups[max(0, groups.lower().find("dc=")) :]
    changed = not cookie
    while True:
        # with what our account may see anyway, and only the values that came or went
        control = dir_sync_control(True, True, False, False, True, _MOST, cookie)
        code, result, found = session.controlled(domain, "(objectClass=group)", ["member"], control)
        if code == d.NOT_ALLOWED:
            raise TargetUnavailable(
                f"{session.name} lets us not follow its changes",
                remedy="Give our account the right Replicating Directory Changes, or leave changes out.",
            )
        if code != d.OK and cookie:  # of a server that was restored, or another one
            cookie, changed = b"", True
            continue
        answer = (result.get("controls") or {}).get(_DIRSYNC)
        if code != d.OK or answer is None:
            raise TargetUnavailable(
                f"{session.name} has no DirSync (result {code})", remedy="Leave changes out of its settings."
            )
        changed = changed or any(_below(entry.dn, groups) for entry in found)
        cookie = answer["value"]["cookie"]
        if not answer["value"]["more_results"]:
            return Changes(cookie=b64encode(cookie).decode(), changed=changed)


def accesslog(session: d.Session, log: str, bases: Sequence[str], us: str, since: str | None) -> Changes:
    """Of what others wrote below ``bases``. The cookie is the newest write that we saw. Raises `TargetUnavailable`."""
    quiet, after = (since or "").startswith(_QUIET), (since or "").removeprefix(_QUIET)
    known = bool(_START.fullmatch(after))
    if not known:
        quiet, after = True, (datetime.now(UTC) - _BACK).strftime("%Y%m%d%H%M%S.%fZ")
    found = session.search(
        log, f"(&(reqStart>={after})(reqResult=0))", ["reqStart", "reqDN", "reqAuthzID"], scope="LEVEL"
    )  # fmt: skip
    if not found and not session.search(log, "(objectClass=*)", ["objectClass"], scope="BASE"):
        raise TargetUnavailable(
            f"{session.name} does not show us {log}",
            remedy="Load the overlay accesslog, and let our account read it; or leave changes out.",
        )
    starts = [start for entry in found for start in entry.values("reqStart") if _START.fullmatch(start)]
    if known and not quiet and after not in starts:  # the log was shortened, or is another one
        return accesslog(session, log, bases, us, None)
    others = any(
        equal(by) != equal(us)
        for entry in found
        if quiet or entry.values("reqStart") != (after,)
        if any(_below(dn, base) for dn in entry.values("reqDN") for base in bases)
        for by in entry.values("reqAuthzID") or ("",)
    )
    return Changes(cookie=max(starts, default=f"{_QUIET}{after}"), changed=not known or others)


def _below(dn: str, base: str) -> bool:
    return f",{equal(dn)}".endswith(f",{equal(base)}")
