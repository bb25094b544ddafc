"""Rules of Redis's access control lists: how a privilege is written, and what a text allows however it is written.

Redis says what it was told in words of its own ("+@read -@dangerous" comes back as "-@all +@read -keys -sort_ro"), so
two texts are compared by what they allow. What is in a category only the server knows.
Source: https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from muniment.core.errors import Invalid
from muniment.core.scope import Privilege

#: of commands and categories; "|" comes before a subcommand
_COMMAND = r"[+-](?:@[a-z]+|[a-z][a-z0-9_.-]*(?:\|[a-z0-9_.-]+)?)"
_COMMANDS = re.compile(rf"(?!-){_COMMAND}(?: {_COMMAND})*", re.ASCII)
#: of keys and channels; quotes, brackets and backslashes mean something in Redis's files
_PATTERN = r"(?:~|%(?:R|W|RW)~|&)[!#-&*-\[\]-~]+"
_PATTERNS = re.compile(rf"{_PATTERN}(?: {_PATTERN})*", re.ASCII)

Categories = Mapping[str, frozenset[str]]  # of commands and subcommands, "config|get"
#: among commands: those that modules may bring later
_FUTURE = "*"


class Rules(msgspec.Struct, frozen=True):
    """What a text allows."""

    commands: frozenset[str] = frozenset()
    keys: frozenset[tuple[str, str]] = frozenset()  # pattern, and "R", "W" or "RW"
    channels: frozenset[str] = frozenset()


def require_rules(item: Privilege) -> None:
    """Raise `Invalid` unless it can stand between the brackets of a selector, and comes back from a file as it was."""
    if not _COMMANDS.fullmatch(item.privilege):
        raise Invalid(
            f"{item.privilege} names no commands of Redis",
            remedy="Write commands and categories like +@read -keys, in lower case; the first with a plus.",
        )
    if item.resource is not None and not _PATTERNS.fullmatch(item.resource):
        raise Invalid(
            f"{item.resource} is no pattern of keys or channels",
            remedy="Write keys like ~orders:* or %R~orders:*, and channels like &news.*, without quotes or brackets.",
        )


def selector(item: Privilege) -> str:
    """The privilege as one argument: its commands on its keys, and on no other's."""
    return f"(resetkeys resetchannels -@all {written(item.privilege, item.resource or '')})"


def written(*parts: str) -> str:
    """Rules in one line."""
    return " ".join(part for part in parts if part)


def privilege_of(commands: str, patterns: str) -> Privilege:
    """As somebody would ask for what Redis says here."""
    return Privilege(privilege=commands.removeprefix("-@all").strip(), resource=patterns.strip() or None)


def allowed(text: str, categories: Categories) -> Rules:
    """What it allows, in the order in which it is said."""
    everything = frozenset[str]().union(*categories.values())
    commands, keys, channels = set[str](), dict[str, str](), set[str]()
    for word in text.split(" "):
        sign, name = word[:1], word[1:]
        if word == "+@all":
            commands = {*everything, _FUTURE}
        elif word == "-@all":
            commands = set()
        elif sign in {"+", "-"}:
            named = _named(name, categories, everything)
            commands = commands | named if sign == "+" else commands - named
        elif sign in {"~", "%"}:
            kinds, _, pattern = word.partition("~")
            both = keys.get(pattern, "") + (kinds[1:] or "RW")
            keys[pattern] = "".join(kind for kind in "RW" if kind in both)
        elif sign == "&":
            channels.add(name)
    return Rules(frozenset(commands), frozenset(keys.items()), frozenset(channels))


def unknown_words(text: str, categories: Categories) -> list[str]:
    """Words for commands that the server does not have."""
    everything = frozenset[str]().union(*categories.values())
    words = [word for word in text.split(" ") if word[1:] != "@all"]
    return [word for word in words if not _named(word[1:], categories, everything) & everything]


def _named(name: str, categories: Categories, everything: Iterable[str]) -> frozenset[str]:
    """Commands by a name: of a category, of one with all its subcommands, or of one that is not known here."""
    if name.startswith("@"):
        return categories.get(name[1:], frozenset({name}))
    found = frozenset(each for each in everything if each == name or each.startswith(f"{name}|"))
    return found or frozenset({name})
