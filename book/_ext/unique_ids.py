"""Exercises, solutions and theorems come with one id for all of them; drop it.

sphinx-exercise and sphinx-proof name every body `exercise-content`, `solution-content` or
`proof-content`, and an id that occurs twice is no address.
"""

from docutils import nodes

SHARED = {"exercise-content", "solution-content", "proof-content"}


def drop_shared_ids(app, doctree, docname):
    for section in doctree.findall(nodes.section):
        section["ids"] = [name for name in section["ids"] if name not in SHARED]


def setup(app):
    app.connect("doctree-resolved", drop_shared_ids)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
