"""Exercises, solutions and proofs come with one id for all of them; drop it.

sphinx-exercise and sphinx-proof call every body `exercise-content`, `solution-content` or
`proof-content`, and every proof `proof`. An id that occurs twice is no address.
"""

from docutils import nodes

SHARED = {"exercise-content", "solution-content", "proof-content", "proof"}


def drop_shared_ids(app, doctree, docname):
    for kind in (nodes.section, nodes.admonition):
        for node in doctree.findall(kind):
            node["ids"] = [name for name in node["ids"] if name not in SHARED]


def setup(app):
    app.connect("doctree-resolved", drop_shared_ids)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
