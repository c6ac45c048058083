"""The directive `{assignments}`: a section for each assignment, from what its folder says."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from grading.assignment import COURSE, Assignment, load, names
from notebooks.canonical import NotebookError
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective


def text(assignments: list[Assignment]) -> str:
    """MyST: a definition list with chapter, work, hours, points and the student's notebook."""
    lines = []
    for one in assignments:
        about = one.about
        by_tests = sum(question.points for question in one.questions)
        release = f"{one.name}.ipynb </{(COURSE / 'release').as_posix()}/{one.name}.ipynb>"
        read = one.points - by_tests
        lines += [
            f"{about['title']}",
            f": {about['trains']} Follows {{doc}}`/book/{about['chapter']}`; asks for "
            f"{', '.join(about['prerequisites'])}.",
            f"  {about['hours']} hours, {one.points} points ({by_tests} by tests, {read} read): "
            f"{{download}}`{release}`.",
            "",
        ]
    return "\n".join(lines)


class Assignments(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        folder = root / COURSE / "source"
        self.env.note_dependency(str(root / COURSE / "course.yml"))
        try:
            found = [load(folder / name) for name in names(root)]
        except NotebookError as error:
            raise ExtensionError(f"assignments: {error}") from error
        for one in found:
            self.env.note_dependency(str(folder / one.name / "answers.yml"))
        box = nodes.Element()
        self.state.nested_parse(StringList(text(found).splitlines(), str(folder)), 0, box)
        return box.children


def setup(app):
    app.add_directive("assignments", Assignments)
    return {"parallel_read_safe": True}
