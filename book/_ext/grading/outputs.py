"""What grading leaves behind: tables, a page for each student and each question, statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from grading import feedback, reading, results, statistics
from grading.assignment import Assignment, answer_code
from grading.grades import Course, grades_table
from grading.marks import Graded
from grading.similarity import alike
from grading.tables import replace_file
from grading.written import merge

NOT_YET = "Not graded yet."


def write_outputs(
    target: Path,
    graded: Sequence[Graded],
    course: Course,
    known: Sequence[Assignment],
    show_output: bool = False,
    anonymous: bool = False,
) -> str:
    """Write all of it; the statistics, as text.

    `known` are the assignments whose answers a student may have copied.  A reader's marks are read
    here, at the end, so that what was entered meanwhile counts.  Raises ValueError, and has changed
    nothing, when they can't be read.
    """
    assignment = course.assignment
    marks = merge(target / "written.csv", assignment, graded)
    review = similar(graded, known)
    here = {one.student for one in graded}
    for student in sorted({place[0] for place, one in marks.readings.items() if not one.empty}):
        if student not in here:
            print(f"written.csv: no student is called {student!r}; those marks count nowhere")
    course = replace(course, marks=marks, review=review)
    replace_file(target / "grades.csv", grades_table(graded, course))
    ready = [one for one in graded if NOT_YET not in one.notes]
    pages = {f"{results.file_name(one.student)}.html": one for one in ready}
    for name, one in pages.items():
        replace_file(target / "feedback" / name, feedback.page(one, course, show_output))
    _drop_others(target / "feedback", set(pages))
    reading.write_pages(
        target / "reading",
        graded,
        course,
        lambda student, question: results.pictures(result_file(target, student), question),
        anonymous,
    )
    _drop_others(target / "reading", {f"{cell.name}.html" for cell in assignment.written})
    lines = statistics.statistics(graded, course)
    replace_file(target / "statistics.csv", statistics.as_csv(lines))
    title = f"{assignment.about['title']}: statistics"
    replace_file(target / "statistics.html", statistics.as_html(lines, title))
    return statistics.as_text(lines)


def result_file(target: Path, student: str) -> Path:
    return target / "results" / f"{results.file_name(student)}.json"


def similar(graded: Sequence[Graded], known: Sequence[Assignment]) -> dict[str, list[str]]:
    """For each student the answers that are like a known solution or another student's."""
    answers = {
        one.student: {mark.name: mark.work for mark in one.marks if not mark.written}
        for one in graded
    }
    solutions: dict[str, list[str]] = {}
    for assignment in known:
        for question in assignment.questions:
            cell = question.answer
            others = assignment.about["questions"].get(cell.name, {}).get("right", [])
            found = [cell.source, *(answer_code(cell, other) for other in others)]
            solutions.setdefault(cell.name, []).extend(found)
    return alike(answers, solutions)


def _drop_others(folder: Path, kept: set[str]) -> None:
    """Take away the pages, written here, of students or questions that are there no longer."""
    for path in folder.glob("*.html"):
        if path.name not in kept and feedback.GENERATOR in path.read_text("utf-8", "replace"):
            path.unlink()
