"""The course's machinery: what an assignment is, and what becomes of what is handed in.

In: a source with its answers, a student's notebook.  Out: releases, marks, feedback, validation.
"""
