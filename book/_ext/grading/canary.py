"""Wrong answers that each test must refuse in the process of the student as well.

A submission that makes tests pass by changing what they run on makes them pass wrong answers too.
`answers.yml` holds at least three for each question, and validation has seen the tests refuse them.
"""

from __future__ import annotations

from grading.assignment import Assignment, answer_code


def canaries(assignment: Assignment) -> dict[str, list[str]]:
    """For each test, by its name, the code of wrong answers to its question."""
    answers = assignment.about["questions"]
    return {
        test.name: [answer_code(question.answer, a) for a in answers[question.answer.name]["wrong"]]
        for question in assignment.questions
        for test in question.tests
    }
