"""Docstrings are written for a terminal; this makes them safe to read as reStructuredText.

Outside code, a bar or a lone star is a character of mathematics (|c| ≤ 1, a * b), not markup.
"""

import re

CODE = re.compile(r"(``.+?``|`[^`]+?`)")


def escape(line):
    """The line with its bars, lone stars and trailing underscores escaped, code left alone."""
    parts = CODE.split(line)
    for i in range(0, len(parts), 2):
        text = re.sub(r"(?<!\\)\|", r"\\|", parts[i])
        text = re.sub(r"(?<![*\\])\*(?!\*)", r"\\*", text)
        parts[i] = re.sub(r"(?<=\w)_(?=\W|$)", r"\\_", text)
    return "".join(parts)


def process(app, what, name, obj, options, lines):
    in_doctest = False
    for i, line in enumerate(lines):
        in_doctest = line.lstrip().startswith(">>>") or (in_doctest and bool(line.strip()))
        if not in_doctest:
            lines[i] = escape(line)


def setup(app):
    app.connect("autodoc-process-docstring", process)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
