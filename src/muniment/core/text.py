"""Foreign text: what we accept, and how personal free text stays erasable.

Names are compared byte by byte by targets, shown to approvers, and put into statements. So a name is
refused when two people could read it differently: control characters, bidirectional overrides, invisible
characters, or anything that is not already in Unicode's composed form (NFC). Free text (a justification, a
comment) may hold any script; only characters that act on a terminal or on the reading order are refused.
"""

from __future__ import annotations

import hashlib
import unicodedata

import msgspec

from muniment.core.errors import Invalid

MAX_NAME = 255
#: characters; a justification is a few sentences, and a whole entry is at most 32 KiB
MAX_FREE_TEXT = 4000

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
#: characters with an ordinary category that show nothing, and so make two names of one: fillers, blanks, selectors
_BLANK = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
#: joiners that Persian, Hindi and emoji need inside ordinary sentences
_JOINERS = "\u200c\u200d"


def clean_name(value: str, what: str, *, limit: int = MAX_NAME) -> str:
    """Return ``value`` if it is safe as a name, else raise `Invalid` saying what is wrong with it."""
    if not value or value != value.strip():
        raise Invalid(
            f"{what} is empty or has spaces at its ends",
            remedy=f"Give {what} exactly as the target names it.",
        )
    if len(value.encode("utf-8", "surrogatepass")) > limit:
        raise Invalid(
            f"{what} is longer than {limit} bytes",
            remedy="Use the full name as the target holds it; targets cut longer ones.",
        )
    for character in value:
        category = unicodedata.category(character)
        # a space that is not U+0020 looks like one that is
        if category in _HIDDEN or character in _BLANK or (category == "Zs" and character != " "):
            raise Invalid(
                f"{what} holds the invisible character U+{ord(character):04X}",
                remedy="Type the name again; it may have been pasted from a formatted text.",
            )
    if unicodedata.normalize("NFC", value) != value:
        raise Invalid(
            f"{what} is not in composed Unicode form (NFC)", remedy="Type the name again on a keyboard."
        )
    return value


def clean_text(value: str, what: str, *, required: bool = True) -> str:
    """Return free text without surrounding space, or raise `Invalid`. Line breaks and tabs are allowed."""
    value = unicodedata.normalize("NFC", value.strip())  # first: it can make a text longer
    if required and not value:
        raise Invalid(f"{what} is empty", remedy=f"Say in a sentence: {what}.")
    if len(value) > MAX_FREE_TEXT:
        raise Invalid(
            f"{what} is longer than {MAX_FREE_TEXT} characters",
            remedy="Put details into the referenced ticket.",
        )
    for character in value:
        if character in "\n\t" or character in _JOINERS:
            continue
        if unicodedata.category(character) in _HIDDEN:
            raise Invalid(
                f"{what} holds the control character U+{ord(character):04X}",
                remedy="Remove it; it could hide or reorder text.",
            )
    return value


def visible(value: str) -> str:
    """Foreign text as it may be printed: control and direction characters are shown, not obeyed (I37)."""
    if value.isprintable():  # nearly all of it, at a hundredth of the cost
        return value
    return "".join(
        character
        if character == "\n" or character in _JOINERS or unicodedata.category(character) not in _HIDDEN
        else f"\\u{{{ord(character):04x}}}"
        for character in value
    )


class Disclosure(msgspec.Struct, frozen=True, kw_only=True):
    """A free text kept beside the ledger, with the salt that ties it to the commitment inside it.

    Erasing ``salt`` and ``text`` erases the personal data; the leaf still verifies.
    """

    commitment: str  # "sha256:" + hex of SHA-256(salt || text)
    salt: bytes  # 32 random bytes: without them the text cannot be guessed from the hash
    text: str


def disclose(text: str, salt: bytes) -> Disclosure:
    """Commit to ``text``. ``salt`` is 32 random bytes, never used twice."""
    if len(salt) != 32:
        raise ValueError("a salt is 32 random bytes")
    return Disclosure(commitment=commit(text, salt), salt=salt, text=text)


def commit(text: str, salt: bytes) -> str:
    """The commitment that a ledger entry holds in place of ``text``."""
    return "sha256:" + hashlib.sha256(salt + text.encode()).hexdigest()
