"""Move the fragments of changelog.d into CHANGELOG.md, under a new version.

    python tools/changelog.py 0.1.0              today's release: rewrites CHANGELOG.md, deletes the fragments
    python tools/changelog.py 0.1.0 --draft      only shows it
    python tools/changelog.py 0.1.0 --date 2026-11-23

Fragments are `<topic>.<kind>.md`; changelog.d/README.md says how to write one.
"""

from __future__ import annotations

import argparse
import datetime as dt
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FRAGMENTS = ROOT / "changelog.d"
CHANGELOG = ROOT / "CHANGELOG.md"
KINDS = (
    "added",
    "changed",
    "deprecated",
    "removed",
    "fixed",
    "security",
)  # in the order of a release's section

_NAME = re.compile(rf"[a-z0-9-]+\.({'|'.join(KINDS)})\.md")
_RELEASE = re.compile(r"^## ", re.MULTILINE)


def main(arguments: list[str]) -> int:
    """Render the fragments under a version heading; 1 if there is nothing to release or it exists already."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("version", help="like 0.1.0")
    parser.add_argument("--date", type=dt.date.fromisoformat, default=dt.datetime.now(dt.UTC).date())
    parser.add_argument("--draft", action="store_true", help="print the section, change nothing")
    wanted = parser.parse_args(arguments)

    problems = misnamed()
    stored = CHANGELOG.read_text(encoding="utf-8")
    if not fragments():
        problems.append("changelog.d: no fragments, so nothing to release")
    if re.search(rf"^## {re.escape(wanted.version)}\b", stored, re.MULTILINE):
        problems.append(f"CHANGELOG.md: {wanted.version} is there already")
    if problems:
        print("\n".join(problems), file=sys.stderr)
        return 1

    section = render(wanted.version, wanted.date)
    if wanted.draft:
        print(section, end="")
        return 0
    newest = _RELEASE.search(stored)
    cut = newest.start() if newest else len(stored)
    before = stored[:cut].rstrip() + "\n\n"
    after = "\n" + stored[cut:] if newest else ""
    CHANGELOG.write_text(before + section + after, encoding="utf-8")
    for (
        fragment
    ) in fragments():  # last: a crash before this leaves a version heading that a second run refuses
        fragment.unlink()
    return 0


def fragments() -> list[Path]:
    """The fragments waiting for a release, by name."""
    return sorted(path for path in FRAGMENTS.glob("*.md") if _NAME.fullmatch(path.name))


def misnamed() -> list[str]:
    """Say which files of changelog.d no release would ever pick up."""
    known = {path.name for path in fragments()} | {"README.md"}
    strangers = sorted(path.name for path in FRAGMENTS.iterdir() if path.name not in known)
    return [
        f"changelog.d/{name}: not named <topic>.<kind>.md with a kind of {', '.join(KINDS)}"
        for name in strangers
    ]


def render(version: str, date: dt.date) -> str:
    """The release's section: one list per kind, one item per fragment."""
    lines = [f"## {version} ({date.isoformat()})"]
    for kind in KINDS:
        texts = [
            path.read_text(encoding="utf-8").strip()
            for path in fragments()
            if path.name.split(".")[1] == kind
        ]
        if texts:
            items = ["- " + text.replace("\n", "\n  ") for text in texts]
            lines += ["", f"### {kind.capitalize()}", "", *items]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
