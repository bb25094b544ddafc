"""The few pages that a browser gets here: sentences, and at most one form. No script, no style of their own inline."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from muniment.api.routes import Plain
from muniment.core.errors import MunimentError
from muniment.core.text import visible

MEDIA_TYPE = "text/html"
#: nothing but our own style, forms to ourselves, and in nobody's frame
POLICY = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
STYLE = b"""\
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 36rem; margin: 4rem auto; padding: 0 1rem; color: #1a1a1a }
h1 { font-size: 1.4rem }
code, input { font: 1.1rem ui-monospace, monospace }
input, button { padding: .4rem .6rem }
@media (prefers-color-scheme: dark) { body { background: #111; color: #eee } }
"""


def page(title: str, paragraphs: Iterable[str], form: str = "") -> bytes:
    """A page. Title and paragraphs are plain text; ``form`` is markup of ours."""
    said = "\n".join(f"<p>{_text(each)}</p>" for each in paragraphs if each)
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{_text(title)} · Muniment</title>
<link rel="stylesheet" href="/auth/style.css">
</head>
<body>
<main>
<h1>{_text(title)}</h1>
{said}
{form}
</main>
</body>
</html>
""".encode()


def plain(body: bytes, policy: str = POLICY) -> Plain:
    """A page as an answer. Forms on it are sent with their origin, which "no-referrer" would hide from us, too."""
    headers = {"Content-Security-Policy": policy, "Referrer-Policy": "same-origin"}
    return Plain(body=body, media_type=MEDIA_TYPE, headers=headers)


def problem_page(error: MunimentError) -> Plain:
    """An error as a page: the sentence, what to do, and the code."""
    return plain(page("That did not work", (f"{error.message}.", error.remedy, f"Code: {error.code}")))


def hidden(name: str, value: str) -> str:
    """A field of a form that nobody sees."""
    return f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'


def _text(text: str) -> str:
    return escape(visible(text))
