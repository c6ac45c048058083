"""What markdown may not hold: raw HTML, and directives that bring in what no gate has seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

EXTENSIONS = {"amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath", "substitution"}
REFUSED = {"code-cell", "eval-rst", "glue", "ifconfig", "include", "literalinclude", "only", "raw"}
VERBATIM = {"code", "code-block", "math", "mermaid", "sourcecode"}

_VERDICT = re.compile(r"✓\s*C\d\d\b.*")
_DIRECTIVE = re.compile(r"\{([\w:-]+)\}")


@cache
def _parser() -> MarkdownIt:
    return create_md_parser(MdParserConfig(enable_extensions=EXTENSIONS), RendererHTML)


def faults(text: str) -> Iterator[str]:
    """What no text may hold: a verdict that somebody typed, and raw markup."""
    if verdict := _VERDICT.search(text):
        yield f"a verdict that no check made: {verdict[0]}"
    yield from markup(text)


def markup(text: str) -> Iterator[str]:
    """What a reader's browser would be given as it stands, or from elsewhere."""
    if "<" not in text and "{" not in text:
        return
    for token in _parser().parse(text):
        for inner in (token, *(token.children or ())):
            if inner.type in ("html_block", "html_inline"):
                yield f"raw HTML: {inner.content.strip()[:60]}"
        if token.type in ("fence", "colon_fence") and (found := _DIRECTIVE.match(token.info)):
            if found[1] in REFUSED:
                yield f"the directive {{{found[1]}}} is not allowed"
            elif found[1] not in VERBATIM:
                yield from markup(token.content)
