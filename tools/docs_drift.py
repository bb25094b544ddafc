"""Do the documents still match the code and each other? Run by `make check`; `--write` by `make docs`.

1. every generated page is what its generator in `reference.py` returns
2. every relative link leads to a file of this repository, and to a heading that is in it
3. every changelog fragment has a name that `changelog.py` will find
4. every source file that a document names is there, and in a table beside its symbols, has them
5. every `muniment` command in an example is one, with those options
"""

from __future__ import annotations

import difflib
import itertools
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import changelog
import reference

from muniment.cli.app import build

ROOT = Path(__file__).resolve().parent.parent

_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_SOURCE = re.compile(r"`((?:[a-z_]+/)*[a-z_]+\.py)`")
_MAPPED = re.compile(r"^\|([^|]*)\|([^|]*`[a-z_/]+\.py`[^|]*)\|", re.MULTILINE)
_SYMBOL = re.compile(r"`([A-Za-z_]+)`")
_EXAMPLE = re.compile(r"^```(?:bash|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


def main(arguments: list[str]) -> int:
    """Print what is wrong, one line each; 1 if there is anything."""
    if arguments == ["--write"]:
        write_pages()
    elif arguments:
        print("usage: docs_drift.py [--write]", file=sys.stderr)
        return 2
    problems = [
        *stale_pages(),
        *broken_links(),
        *changelog.misnamed(),
        *absent_sources(),
        *unlisted_decisions(),
        *impossible_examples(),
    ]
    for problem in problems:
        print(problem, file=sys.stderr)
    print(
        f"docs: {len(reference.PAGES)} generated pages, {len(documents())} documents, {len(problems)} problems"
    )
    return 1 if problems else 0


def write_pages() -> None:
    """Write every generated page."""
    for name, generate in reference.PAGES.items():
        page = ROOT / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(generate(), encoding="utf-8")


def stale_pages() -> Iterator[str]:
    """Say which generated pages differ from their generator, and where first."""
    for name, generate in reference.PAGES.items():
        page = ROOT / name
        stored = page.read_text(encoding="utf-8") if page.exists() else ""
        changes = list(difflib.unified_diff(stored.splitlines(), generate().splitlines(), lineterm="", n=0))
        if changes:
            first = " | ".join(changes[3:6])
            yield f"{name}: out of date, run `make docs` ({first})"


def documents() -> list[Path]:
    """Every Markdown file that people read: those in the root and all below docs/ and changelog.d/."""
    below = (path for folder in ("docs", "changelog.d") for path in (ROOT / folder).rglob("*.md"))
    return sorted([*ROOT.glob("*.md"), *below])


def broken_links() -> Iterator[str]:
    """Say which relative links lead nowhere. Links to other sites are not followed: checks work offline."""
    for document in documents():
        for link in links(document.read_text(encoding="utf-8")):
            path, _, anchor = link.partition("#")
            if _ELSEWHERE.match(link):
                continue
            there = (document.parent / unquote(path)).resolve() if path else document
            where = f"{document.relative_to(ROOT)}: link {link!r}"
            if not there.is_relative_to(ROOT):
                yield f"{where} leaves the repository"
            elif not there.exists():
                yield f"{where}: no such file"
            elif (
                anchor and there.suffix == ".md" and anchor not in anchors(there.read_text(encoding="utf-8"))
            ):
                yield f"{where}: no such heading"


def absent_sources() -> Iterator[str]:
    """Say which source files, or symbols in them, documents name and are not there."""
    for document in documents():
        text = document.read_text(encoding="utf-8")
        for name in _SOURCE.findall(text):
            if not any((base / name).exists() for base in (ROOT, ROOT / "src/muniment", ROOT / "tools")):
                yield f"{document.relative_to(ROOT)}: there is no {name}"
        for symbols, files in _MAPPED.findall(_FENCE.sub("", text)):
            there = [ROOT / "src/muniment" / name for name in _SOURCE.findall(files)]
            source = "".join(path.read_text(encoding="utf-8") for path in there if path.exists())
            for symbol in _SYMBOL.findall(symbols):
                if not re.search(rf"^(?:class |def |    def )?{symbol}\b", source, re.MULTILINE):
                    yield f"{document.relative_to(ROOT)}: {symbol} is not in {files.strip()}"


def unlisted_decisions() -> Iterator[str]:
    """Say which decisions share a number, call themselves by another one, or are not in the list of documents."""
    index, seen = (ROOT / "docs/README.md").read_text(encoding="utf-8"), dict[str, str]()
    for path in sorted((ROOT / "docs/adr").glob("[0-9]*.md"))[1:]:  # not the template
        number = path.name[:4]
        if number in seen:
            yield f"{path.relative_to(ROOT)}: {seen[number]} has that number"
        seen[number] = path.name
        if not path.read_text(encoding="utf-8").startswith(f"# {number}: "):
            yield f"{path.relative_to(ROOT)}: its title has another number"
        if f"| [{number}](adr/{path.name}) |" not in index:
            yield f"docs/README.md: {path.name} is not in the list of decisions"


def impossible_examples() -> Iterator[str]:
    """Say which commands in examples the program does not have, or not with those options."""
    program = build()
    for document in documents():
        for block in _EXAMPLE.findall(document.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                wrong = _not_understood(program, line)
                if wrong:
                    yield f"{document.relative_to(ROOT)}: {wrong} in {line.strip()!r:.100}"


def _not_understood(program: Any, line: str) -> str | None:
    found = re.match(r"(?:sudo -u \S+ )?(?:\S+/)?muniment (.*)", line.strip())
    if not found:
        return None
    command = program
    words = re.split(r"[|>&#]", found[1])[0]
    for word in itertools.takewhile(
        "--".__ne__, shlex.split(words)
    ):  # what follows "--" is another program's
        commands = getattr(command, "commands", None)
        if commands is not None and not word.startswith("-"):
            if word not in commands:
                return f"there is no command {word!r}"
            command = commands[word]
        elif word.startswith("--") and word.partition("=")[0] not in {
            "--help",
            *(option for each in command.params for option in each.opts),
        }:
            return f"there is no option {word}"
    return None


def links(text: str) -> list[str]:
    """The targets of all links outside code."""
    prose = _CODE.sub("", _FENCE.sub("", text))
    return [inline or defined for inline, defined in _LINK.findall(prose)]


def anchors(text: str) -> set[str]:
    """The names that headings get on the usual forges: lower case, words joined by hyphens, repeats numbered."""
    names: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        base = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        name, repeat = base, 0
        while name in names:
            repeat += 1
            name = f"{base}-{repeat}"
        names.add(name)
    return names


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
